"""What is read once for all tests of the paper."""

from __future__ import annotations

import pandas as pd
import pytest

from emolib.paper import claims
from emolib.study.run import REFERENCE
from helpers import ROOT


@pytest.fixture(scope="session")
def reference_tables() -> dict[str, pd.DataFrame]:
    """The stored tables of the reference run."""
    return claims.run_tables(ROOT / "results" / REFERENCE.slug)

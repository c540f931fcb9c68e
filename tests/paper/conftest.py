"""What is read once for all tests of the paper."""

from __future__ import annotations

import pandas as pd
import pytest

from emolib.paper import claims
from emolib.study.run import REFERENCE
from emolib.tables import results
from helpers import ROOT
from planted import LAYERS, MAKERS


@pytest.fixture(scope="session")
def reference_tables() -> dict[str, pd.DataFrame]:
    """The stored tables of the reference run."""
    return claims.run_tables(ROOT / "results" / REFERENCE.slug)


@pytest.fixture(scope="session")
def planted() -> dict[str, pd.DataFrame]:
    """A run of 20 layers in which every claim is true."""
    return {
        name: results.tidy(make(), name, model="planted", prompt="T1-2shot", n_layers=LAYERS)
        for name, make in MAKERS.items()
    }

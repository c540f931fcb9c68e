"""Errata of the study: every case in words; where it can be computed, the paper's number and the right one.

The computations are in `paper` and `counts` (from the paper's own values), `corpus` (from the
corpus) and `demos` (vectors, tokenizers, random networks). Loads no model library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd
import yaml


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number of the paper beside the corrected one; `stated` is NaN where the paper gives no number."""

    id: str
    quantity: str
    stated: float
    corrected: float
    source: str


@cache
def cases() -> pd.DataFrame:
    """Return every case: id, grade (A, B, C), where, said (claimed or intended), case (what is so)."""
    entries = yaml.safe_load(files("emolib").joinpath("data/errata.yml").read_text(encoding="utf-8"))
    names = ("id", "grade", "where", "said", "case")
    return pd.DataFrame([dict(zip(names, (name, *entry), strict=True)) for name, entry in entries.items()])


def table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table, in the order of the cases.

    Raises ValueError for a finding about no case.
    """
    frame = pd.DataFrame([vars(finding) for finding in findings])
    order = {name: index for index, name in enumerate(cases()["id"])}
    unknown = sorted(set(frame["id"]) - set(order))
    if unknown:
        raise ValueError(f"findings about unknown cases {unknown}: add them to data/errata.yml")
    return frame.sort_values("id", key=lambda ids: ids.map(order), kind="stable").reset_index(drop=True)


def finding(id_: str, quantity: str, stated: float, corrected: float, source: str) -> Finding:
    """Return a finding with plain numbers."""
    return Finding(id=id_, quantity=quantity, stated=float(stated), corrected=float(corrected), source=source)

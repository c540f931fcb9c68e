"""Errata of the study: every case in words; where it can be computed, the paper's number and the right one.

The computations are in `paper` and `counts` (from the paper's own values), `corpus` (from the corpus), `demos`
(vectors, tokenizers, probes), `networks` (random networks) and `stored` (tables of a run). Loads no model library.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd
import yaml


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Two numbers: the paper's (`stated`, NaN where it gives none) and the corrected or contrasting one.

    `quantity` names what both are of and, after a colon or in its order, which is which.
    """

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


def established(computed: Collection[str], *, waiting: Collection[str] = ()) -> pd.Series:
    """Return by case how it is known here: "computed", "see D1" where the case it refers to is, else "read".

    Cases in `waiting` that are not computed need a corpus or tables that a run lacks: "another run".
    """
    found = {}
    for name, text in cases().set_index("id")["case"].items():
        targets = re.findall(r"[PDXM]\d+", "".join(re.findall(r"\bsee ((?:[PDXM]\d+(?: and )?)+)", text)))
        known = [target for target in targets if target in computed]
        found[name] = "computed" if name in computed else f"see {' and '.join(known)}" if known else "read"
        if found[name] == "read" and name in waiting:
            found[name] = "another run"
    return pd.Series(found, name="established")


def finding(id_: str, quantity: str, stated: float, corrected: float, source: str) -> Finding:
    """Return a finding with plain numbers."""
    return Finding(id=id_, quantity=quantity, stated=float(stated), corrected=float(corrected), source=source)

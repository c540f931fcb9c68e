"""Tables of one run checked against each other: the texts, and those answered right, are the same whatever is measured.

A digest says that a table is as it was written; that tables were written of the same answers is said by no one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any, TypeAlias

import pandas as pd

# What is counted, of which emotion ("" for all), and how many a table says there are.
Counts: TypeAlias = Iterator[tuple[str, str, float]]
TEXTS, RIGHT, TESTED = "texts", "texts answered right", "texts that the paper's probe is tested on"
TEST = 0.2  # of the texts answered right


def contradictions(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """By table, what it says against others of the same run, or against itself; empty where all of them agree.

    `tables` are those of a run, as read, by experiment. Which of two is wrong cannot be told: both are named.
    """
    said: dict[tuple[str, str], dict[float, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, table in tables.items():
        about = table.attrs["provenance"]["parameters"]
        for what, emotion, count in COUNTS[name](table, about) if name in COUNTS else ():
            said[what, emotion][round(count, 4)].add(name)
    found: dict[str, str] = {}
    for (what, emotion), counts in said.items():
        if len(counts) > 1:
            shown = ", ".join(f"{count:g} in {' and '.join(sorted(names))}" for count, names in sorted(counts.items()))
            reason = f"tables of one run disagree on the number of {what}{f' ({emotion})' if emotion else ''}: {shown}"
            found |= {name: reason for names in counts.values() for name in names if name not in found}
    return found


def _behaviour(table: pd.DataFrame, about: Mapping[str, Any]) -> Counts:
    own = table[(table["calibration"] == about["calibration"]) & table["scoring"].isin(["", about["scoring"]])]
    of = dict(iter(own.groupby("metric")))
    for row in of["agreed_count"].itertuples():
        yield from ((RIGHT, "", row.value), (TEXTS, "", row.n), (TESTED, "", ceil(TEST * row.value)))
    for row in of["accuracy"].itertuples():
        yield from ((RIGHT, "", row.value * row.n), (TEXTS, "", row.n))
    for row in of["recall"].itertuples():
        yield from ((RIGHT, row.label, row.value * row.n), (TEXTS, row.label, row.n))
    yield TEXTS, "", of["predicted_count"]["value"].sum()
    confusion = of["confusion_count"]
    yield RIGHT, "", confusion.loc[confusion["answer"] == confusion["label"], "value"].sum()
    for label, rows in confusion.groupby("label"):
        if rows["value"].any():  # an emotion that the corpus has
            yield RIGHT, str(label), rows.loc[rows["answer"] == label, "value"].sum()
            yield TEXTS, str(label), rows["value"].sum()
    for answer, rows in confusion.groupby("answer"):
        yield f"texts answered {answer}", "", rows["value"].sum()
    for row in of["predicted_count"].itertuples():
        yield f"texts answered {row.label}", "", row.value


def _ablation(table: pd.DataFrame, about: Mapping[str, Any]) -> Counts:
    yield from ((RIGHT, "", n) for n in table["n"].dropna().unique())


def _attention(table: pd.DataFrame, about: Mapping[str, Any]) -> Counts:
    yield from ((RIGHT, "", n) for n in table.loc[table["set"] == "agreed", "n"].dropna().unique())


def _probing(table: pd.DataFrame, about: Mapping[str, Any]) -> Counts:
    for metric in ("accuracy", "balanced_accuracy"):
        rows = table[table["metric"] == metric]
        for what, setting in ((TESTED, "as_released"), (TEXTS, "ours")):
            yield from ((what, "", n) for n in rows.loc[rows["setting"] == setting, "n"].unique())


def _appraisals(table: pd.DataFrame, about: Mapping[str, Any]) -> Counts:
    means = table[table["metric"] == "mean_rating"]
    for what, chosen in ((RIGHT, "agreed"), (TEXTS, "all")):
        rows = means[means["set"] == chosen]
        yield from (
            (what, emotion, n) for emotion, n in rows[["emotion", "n"]].drop_duplicates().itertuples(index=False)
        )
        yield from ((what, "", total) for total in rows.groupby("appraisal")["n"].sum().unique())
    probed = table[(table["metric"] == "r2") & (table["setting"] == "as_released")]
    yield from ((TESTED, "", n) for n in probed["n"].unique())


COUNTS: Mapping[str, Callable[[pd.DataFrame, Mapping[str, Any]], Counts]] = {
    "behaviour": _behaviour,
    "ablation": _ablation,
    "attention": _attention,
    "probing": _probing,
    "appraisals": _appraisals,
}

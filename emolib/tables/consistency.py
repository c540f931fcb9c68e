"""Tables of one run checked against each other: the texts, and those answered right, are the same whatever is measured.

A digest says that a table is as it was written; that tables were written of the same answers is said by no one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import TypeAlias

import pandas as pd

from emolib.stats.sampling import ENOUGH

# What is counted, of which emotion ("" for all, AT_LEAST for a sample of all), and how many a table says there are.
Counts: TypeAlias = Iterator[tuple[str, str, float]]
TEXTS, RIGHT, TESTED = "texts", "texts answered right", "texts that the paper's probe is tested on"
AT_LEAST = "at least"
TEST = 0.2  # of the texts answered right
PROBED = ["accuracy", "balanced_accuracy"]
# Of the tables that say such numbers, the rows whose n is one; behaviour and mean ratings say more.
COUNTS: Mapping[str, Sequence[tuple[dict[str, list[str]], str]]] = {
    "behaviour": [],
    "ablation": [({}, RIGHT)],
    "attention": [({"set": ["agreed"]}, RIGHT)],
    "probing": [
        ({"setting": ["as_released"], "metric": PROBED}, TESTED),
        ({"setting": ["ours"], "metric": PROBED}, TEXTS),
    ],
    "appraisals": [({"setting": ["as_released"], "metric": ["r2"]}, TESTED)],
}


def contradictions(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """By table, what it says against others of the same run, or against itself; empty where all of them agree.

    `tables` are those of a run, as read, by experiment. Which of two is wrong cannot be told: both are named.
    """
    said: dict[tuple[str, str], dict[float, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, table in tables.items():
        for what, emotion, count in _counts(name, table):
            said[what, emotion][round(count, 4)].add(name)
    found: dict[str, str] = {}
    for (what, emotion), counts in said.items():
        if emotion == AT_LEAST:
            counts = counts | {count: names for count, names in said.get((what, ""), {}).items() if count < min(counts)}
        if len(counts) > 1:
            shown = ", ".join(f"{count:g} in {' and '.join(sorted(names))}" for count, names in sorted(counts.items()))
            reason = f"tables of one run disagree on the number of {what}{f' ({emotion})' if emotion else ''}: {shown}"
            found |= {name: reason for names in counts.values() for name in names if name not in found}
    return found


def _counts(name: str, table: pd.DataFrame) -> Counts:
    yield from _answers(table) if name == "behaviour" else _means(table) if name == "appraisals" else ()
    for keys, what in COUNTS.get(name, ()):
        rows = table
        for column, wanted in keys.items():
            rows = rows[rows[column].isin(wanted)]
        found = rows["n"].dropna().unique()
        # so many are a sample, which says no more than that there are at least as many
        yield from ((what, AT_LEAST if name == "ablation" and n == ENOUGH else "", n) for n in found)


def _answers(table: pd.DataFrame) -> Counts:
    about = table.attrs["provenance"]["parameters"]
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


def _means(table: pd.DataFrame) -> Counts:
    means = table[table["metric"] == "mean_rating"]
    for what, chosen in ((RIGHT, "agreed"), (TEXTS, "all")):
        rows = means[means["set"] == chosen]
        yield from (
            (what, emotion, n) for emotion, n in rows[["emotion", "n"]].drop_duplicates().itertuples(index=False)
        )
        yield from ((what, "", total) for total in rows.groupby("appraisal")["n"].sum().unique())

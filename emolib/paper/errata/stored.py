"""Errata that the stored tables of a run decide: attention, other-agency, optimism (cases: `emolib.paper.errata`)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.experiments.attention.measure import GIVEN, bands
from emolib.interventions import theory
from emolib.paper.errata import Finding, finding
from emolib.tables.results import select

ONLY_HERE = ("P11", "M5")  # cases that nothing but stored tables decides
RAW = "vector:raw;unit:norm"  # the vectors of the released code, in shares of the residual stream's length


def from_tables(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return the findings that the tables of a run, by experiment, allow; none without any."""
    parts = {"attention": [most_attended], "modulation": [other_agency, training_texts]}
    return [found for name, tests in parts.items() if name in tables for test in tests for found in test(tables[name])]


def most_attended(attention: pd.DataFrame) -> list[Finding]:
    """Return P11: the text's share of the three largest weights and of the single largest, over the middle layers."""
    rows = select(attention, condition=GIVEN, label="text")
    shares = {name: select(rows, metric=name).set_index("layer")["value"] for name in ("top3_share", "top1_share")}
    _, middle = bands(len(shares["top1_share"]))
    three, one = (values[middle].mean() for values in shares.values())
    where = f"layers {layer_number(middle[0])} to {layer_number(middle[-1])}"
    return [
        finding(
            "P11",
            f"the event's share of the three largest weights, and of the largest, {where}",
            three,
            one,
            "this run",
        )
    ]


def other_agency(modulation: pd.DataFrame) -> list[Finding]:
    """Return P8: the share of anger without a push and, over the layers of the run, at most under more other-agency."""
    counts = select(modulation, metric="count", label="anger")
    counts = counts.assign(share=counts["value"] / counts["n"].astype(float))
    size = chosen_size(modulation)
    up = select(counts, condition=f"other_responsblt:+1;{RAW}", coefficient=size, span=3)
    before = select(counts, condition="baseline")["share"].iloc[0]
    text = f"share of anger: before, and at most under more other-agency ({size:g} of the norm, {len(up)} layers)"
    return [finding("P8", text, before, up["share"].max(), "this run")]


def training_texts(modulation: pd.DataFrame) -> list[Finding]:
    """Return M5: the mean theory score on texts that trained the vectors, and on texts of other writers.

    Over the same settings, layers and dose.
    """
    trained = select(modulation, metric="selection_score").set_index("layer")["value"]
    names = [f"{name};{RAW}" for name in theory.settings()]
    scores = select(modulation, metric="theory_score", span=3, coefficient=chosen_size(modulation), condition=names)
    others = scores.groupby("layer")["value"].mean()
    shared = trained.index.intersection(others.index)
    text = f"theory score, mean of {len(shared)} layers: texts that trained the vectors, and of other writers"
    return [finding("M5", text, trained[shared].mean(), others[shared].mean(), "this run")]


def chosen_size(modulation: pd.DataFrame) -> float:
    """Return the dose, in shares of the norm, at which the run scored every layer."""
    return float(select(modulation, metric="selection_score", condition=RAW)["coefficient"].iloc[0])

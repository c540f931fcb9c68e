"""What the chapter on ablation shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import COMPONENTS, layer_number
from emolib.figures.display import in_table
from emolib.figures.panels import readable
from emolib.stats import landmarks
from emolib.tables import paper
from emolib.tables.results import select

PAPERS = ("zero", "random")  # the ablations that the paper has as well
SUBLAYERS = COMPONENTS[:2]
OFFSETS = {"agreement": "as in the clean run", "recentred_agreement": "re-centred under the edit"}  # by metric
MEASURES = OFFSETS | {"auroc": "area under the curve"}
ONE_VECTOR = ("zero", "mean", "resample")  # what they put in does not depend on the layer's own activation


def paper_agreement(*, span: int, component: tuple[str, ...] = COMPONENTS) -> pd.DataFrame:
    """The same of the paper's model under its two ablations."""
    keys = dict(model=paper.DETAILED.id, prompt="T1-2shot", position="-1", span=span, component=component)
    return pd.concat([paper.values(f"{method}_ablation", **keys).assign(method=method) for method in PAPERS])


def zeroed(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement after zero ablation of single layers, by the clean run's label offsets."""
    return select(table, metric="agreement", method="zero", span=1)


def least_kept(table: pd.DataFrame, metric: str = "agreement") -> pd.DataFrame:
    """The row of the attention output whose removal keeps the fewest labels, the first and last layers aside; none in a
    model without."""
    rows = table[(table["metric"] == metric) & (table["method"] == "zero") & (table["span"] == 1)]
    rows = rows[rows["component"] == "attn_out"]
    return landmarks.rows("dip", rows, "component") if len(rows) else rows


def centred(table: pd.DataFrame, method: str = "zero") -> pd.DataFrame:
    """Agreement after an ablation of a sub-layer by its label offsets, in a panel for each sub-layer and span.

    Without rows where a model has no sub-layers to remove.
    """
    rows = table[table["component"].isin(SUBLAYERS) & (table["method"] == method) & table["metric"].isin(OFFSETS)]
    return rows.assign(offsets=rows["metric"].map(OFFSETS), panel=_without(rows))


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Area under the ROC curve after zero ablation of a sub-layer, in a panel for one layer and one for three.

    Without rows where a model has no sub-layers to remove.
    """
    rows = table[(table["metric"] == "auroc") & (table["method"] == "zero") & table["component"].isin(SUBLAYERS)]
    return rows.assign(panel=rows["span"].map({1: "one layer", 3: "3 layers"}))


def lowest(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """For each value of the columns `by` the row of the lowest value, the ends aside; column `where` is its layer."""
    found = landmarks.rows("dip", rows, *by) if len(rows) else rows
    return found.assign(where=found["layer"].map(layer_number))


def lows(table: pd.DataFrame) -> pd.DataFrame:
    """What zero ablation of a sub-layer leaves at the least, in words: a row for each and span, a column for each of
    `MEASURES`."""
    rows = table[(table["method"] == "zero") & table["component"].isin(SUBLAYERS) & table["metric"].isin(MEASURES)]
    found = lowest(rows, "metric", "span", "component")
    return in_table(found.assign(without=_without(found)), "without", "metric", MEASURES)


def _without(rows: pd.DataFrame) -> list[str]:
    """What each row's ablation removes, in words: "attention output, 3 layers"."""
    sites = zip(rows["component"], rows["span"], strict=True)
    return [f"{readable(name)}, {'one layer' if span == 1 else f'{span} layers'}" for name, span in sites]


def in_its_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Agreement by method where zero ablation of a sub-layer keeps least: a row for each sub-layer, a column for each
    method; `where` is the layer, `back` which share of what zero takes the mean brings back."""
    low = lowest(rows[rows["method"] == "zero"], "component")
    at = rows.merge(low[["component", "layer", "where"]], on=["component", "layer"])
    wide = at.pivot(index=["component", "where"], columns="method", values="value").reset_index()
    return wide.assign(back=(wide["mean"] - wide["zero"]) / (1 - wide["zero"]))

"""What the chapter on ablation shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import COMPONENTS
from emolib.figures.panels import readable
from emolib.stats import landmarks
from emolib.tables import paper
from emolib.tables.results import select

PAPERS = ("zero", "random")  # the ablations that the paper has as well
SUBLAYERS = COMPONENTS[:2]
OFFSETS = {"agreement": "as in the clean run", "recentred_agreement": "re-centred under the edit"}  # by metric
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
    return landmarks.rows("dip", rows[rows["component"] == "attn_out"], "component")


def centred(table: pd.DataFrame, method: str = "zero") -> pd.DataFrame:
    """Agreement after an ablation of a sub-layer by its label offsets, in a panel for each sub-layer and span.

    Without rows where a model has no sub-layers to remove.
    """
    rows = table[table["component"].isin(SUBLAYERS) & (table["method"] == method) & table["metric"].isin(OFFSETS)]
    sites = zip(rows["component"], rows["span"], strict=True)
    panels = [f"{readable(name)}, {'one layer' if span == 1 else f'{span} layers'}" for name, span in sites]
    return rows.assign(offsets=rows["metric"].map(OFFSETS), panel=panels)


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Area under the ROC curve after zero ablation of a sub-layer, in a panel for one layer and one for three.

    Without rows where a model has no sub-layers to remove.
    """
    rows = table[(table["metric"] == "auroc") & (table["method"] == "zero") & table["component"].isin(SUBLAYERS)]
    return rows.assign(panel=rows["span"].map({1: "one layer", 3: "3 layers"}))


def lowest(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """For each value of the columns `by` the row of the lowest agreement over all layers."""
    return rows.loc[rows.groupby(list(by), sort=False)["value"].idxmin()]

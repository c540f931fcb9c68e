"""What the chapter on ablation shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import COMPONENTS
from emolib.stats import landmarks
from emolib.tables import paper
from emolib.tables.results import select

PAPERS = ("zero", "random")  # the ablations that the paper has as well
SUBLAYERS = COMPONENTS[:2]
ONE_VECTOR = ("zero", "mean", "resample")  # what they put in does not depend on the layer's own activation


def agreement(table: pd.DataFrame, *, span: int, **keys: object) -> pd.DataFrame:
    """Agreement under ablation of `span` neighbouring layers."""
    return select(table, metric="agreement", span=span, **keys)


def paper_agreement(*, span: int, component: tuple[str, ...] = COMPONENTS) -> pd.DataFrame:
    """The same of the paper's model under its two ablations."""
    keys = dict(model=paper.DETAILED.id, prompt="T1-2shot", position="-1", span=span, component=component)
    return pd.concat([paper.values(f"{method}_ablation", **keys).assign(method=method) for method in PAPERS])


def floor(table: pd.DataFrame) -> pd.Series:
    """What a constant answer would score."""
    return select(table, metric="constant_agreement").iloc[0]


def dips(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """For each value of the columns `by` the row at the curve's `dip`, outermost layers aside."""
    curves = rows.sort_values("layer").groupby(list(by), sort=False)
    return pd.DataFrame([landmarks.row("dip", curve) for _, curve in curves])


def lowest(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """For each value of the columns `by` the row of the lowest agreement over all layers."""
    return rows.loc[rows.groupby(list(by), sort=False)["value"].idxmin()]


def last_of_window(table: pd.DataFrame) -> pd.Series:
    """How far agreement differs, in the residual stream, between a window of three layers and its last layer alone."""
    stream = select(table, metric="agreement", component="resid_post", method=ONE_VECTOR)
    wide, single = (stream[stream["span"] == span] for span in (3, 1))
    both = wide.merge(single, on=["method", "last_layer"], suffixes=("_3", "_1"))
    return (both["value_3"] - both["value_1"]).abs()

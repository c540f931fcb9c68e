"""What the chapter on promotion shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.figures.panels import with_push
from emolib.tables.results import select

PAPER_DEPTH = 10 / 16  # where the paper finds the strongest effect
DOSE = 0.1  # of the residual norm, at which emotions are shown one by one


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Promotion scores of all vectors at the paper's doses and at shares of the norm from 0.1 on, by `push`."""
    rows = select(table, metric="promotion_score")
    return with_push(rows[(rows["unit"] == "absolute") | (rows["dose"] >= DOSE)].sort_values(["unit", "dose"]))


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over emotions, by vector, push and layer."""
    return rows.groupby(["vector", "push", "layer", "n_layers"], as_index=False, sort=False)["value"].mean()


def by_model(table: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over emotions at a tenth of the norm, by vector and layer."""
    return means(select(scores(table), unit="norm", dose=DOSE))


def at_paper_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of each emotion at a tenth of the norm, at the measured layer nearest to the paper's depth."""
    rows = select(rows, unit="norm", dose=DOSE)
    nearest = (rows["depth"] - PAPER_DEPTH).abs()
    return rows[nearest == nearest.min()]


def best(rows: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """One row a length of push: the layer where probe vectors promote most, random directions there, and the paper."""
    found = []
    for push in rows["push"].unique():
        here, theirs = select(rows, push=push), means(paper[paper["push"] == push])
        curve = means(here).pivot(index="layer", columns="vector", values="value")
        top = int(curve["probe"].idxmax())
        ends = select(here, layer=top, vector=["probe", "random"])
        ends = ends.pivot(index="label", columns="vector", values=["ci_low", "ci_high"])
        ahead = int((ends["ci_low", "probe"] > ends["ci_high", "random"]).sum())
        row = {"push": push, "layer": layer_number(top), "probe": curve["probe"][top], "random": curve["random"][top]}
        row["emotions beyond random"] = f"{ahead} of {ends['ci_low', 'probe'].notna().sum()}"
        found.append(row | {"paper": theirs["value"].max()})
    return pd.DataFrame(found)

"""What the chapter on promotion shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.figures.panels import with_push
from emolib.tables.results import select

PAPER_DEPTH = 10 / 16  # where the paper finds the strongest effect
DOSE = 0.1  # of the residual norm, at which emotions are shown one by one


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Promotion scores of all vectors at the paper's doses and at shares of the norm, by `push`."""
    return with_push(select(table, metric="promotion_score").sort_values(["unit", "dose"]))


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over emotions, by vector, push and layer."""
    return rows.groupby(["vector", "push", "layer", "n_layers"], as_index=False, sort=False)["value"].mean()


def by_model(table: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over emotions at a tenth of the norm, by vector and layer."""
    return means(select(scores(table), unit="norm", dose=DOSE))


def at_their_best(table: pd.DataFrame) -> pd.DataFrame:
    """Those of probe vectors where they promote most, and of random directions at the same layer."""
    rows = by_model(table)
    probe = select(rows, vector="probe")
    return select(rows, vector=["probe", "random"], layer=probe.loc[probe["value"].idxmax(), "layer"])


def at_paper_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of each emotion at a tenth of the norm, at the measured layer nearest to the paper's depth, the earlier of
    two as near."""
    rows = select(rows, unit="norm", dose=DOSE).sort_values("layer", kind="stable")
    away = (rows["depth"] - PAPER_DEPTH).abs().astype(float).round(9)  # what is as near may differ in its last digit
    return select(rows, layer=rows.loc[away.idxmin(), "layer"])


def beyond_random(rows: pd.DataFrame, vector: str = "probe") -> tuple[int, int]:
    """Of the emotions at one layer and push, how many have their whole interval above the range of random directions,
    and how many there are."""
    ends = rows.pivot(index="label", columns="vector", values=["ci_low", "ci_high"])
    low = ends["ci_low", vector]
    return int((low > ends["ci_high", "random"]).sum()), int(low.notna().sum())


def promoted(rows: pd.DataFrame) -> pd.DataFrame:
    """By push, how many `emotions` get at least half of what was possible along their probe somewhere, and how many
    there are (`of`)."""
    best = select(rows, vector="probe").groupby(["push", "label"], sort=False)["value"].max() >= 0.5
    return best.groupby("push", sort=False).agg(emotions="sum", of="size").reset_index()


def best(rows: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """One row a length of push: the layer where probe vectors promote most, random directions there, and the paper."""
    found = []
    for push in rows["push"].unique():
        here, theirs = select(rows, push=push), means(paper[paper["push"] == push])
        curve = means(here).pivot(index="layer", columns="vector", values="value")
        top = int(curve["probe"].idxmax())
        ahead, of = beyond_random(select(here, layer=top))
        row = {"push": push, "layer": layer_number(top), "probe": curve["probe"][top], "random": curve["random"][top]}
        row["emotions beyond random"] = f"{ahead} of {of}"
        found.append(row | {"paper": theirs["value"].max()})
    return pd.DataFrame(found)

"""What the chapter on promotion shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.tables.results import select

KEYS = ["vector", "push", "layer", "depth", "n_layers"]
PAPER_DEPTH = 10 / 16  # where the paper finds the strongest effect
DOSE = 0.1  # of the residual norm, at which emotions are shown one by one


def with_push(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `push`: the length of the push in words."""
    words = [
        f"β = {dose:g}" if unit == "absolute" else f"{dose:g} of the norm"
        for unit, dose in zip(rows["unit"], rows["dose"], strict=True)
    ]
    return rows.assign(push=words, vector=rows["vector"].str.replace("_", " "))


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Promotion scores of all vectors at the paper's doses and at shares of the norm from 0.1 on."""
    rows = select(table, metric="promotion_score")
    return with_push(rows[(rows["unit"] == "absolute") | (rows["dose"] >= DOSE)].sort_values(["unit", "dose"]))


def pushes(rows: pd.DataFrame) -> list[str]:
    """The lengths of pushes, in words and in order."""
    return list(dict.fromkeys(rows["push"]))


def norms(table: pd.DataFrame) -> pd.Series:
    """The mean residual norm of each layer."""
    return select(table, metric="residual_norm").set_index("layer")["value"]


def texts(table: pd.DataFrame) -> int:
    """How many texts the vectors are judged on."""
    return int(select(table, metric="baseline_share")["n"].iloc[0])


def heat(rows: pd.DataFrame, push: str) -> pd.DataFrame:
    """Scores of probe vectors by layer and emotion at one length of push."""
    return rows[(rows["vector"] == "probe") & (rows["push"] == push)].assign(component="probe")


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over emotions, by vector, push and layer."""
    return rows.groupby(KEYS, as_index=False, sort=False)["value"].mean()


def at_paper_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of each emotion at a tenth of the norm, at the measured layer nearest to the paper's depth."""
    rows = rows[(rows["unit"] == "norm") & (rows["dose"] == DOSE)]
    nearest = (rows["depth"] - PAPER_DEPTH).abs()
    return rows[nearest == nearest.min()]


def best(rows: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """One row a length of push: the layer where probe vectors promote most, random directions there, and the paper."""
    found = []
    for push in pushes(rows):
        here, theirs = (means(part[part["push"] == push]) for part in (rows, paper))
        curve = here.pivot(index="layer", columns="vector", values="value")
        top = int(curve["probe"].idxmax())
        ends = rows[(rows["push"] == push) & (rows["layer"] == top) & rows["vector"].isin(["probe", "random"])]
        ends = ends.pivot(index="label", columns="vector", values=["ci_low", "ci_high"])
        ahead = int((ends["ci_low", "probe"] > ends["ci_high", "random"]).sum())
        row = {"push": push, "layer": layer_number(top), "probe": curve["probe"][top], "random": curve["random"][top]}
        row["emotions beyond random"] = f"{ahead} of {ends['ci_low', 'probe'].notna().sum()}"
        found.append(row | {"paper": theirs["value"].max() if len(theirs) else float("nan")})
    return pd.DataFrame(found)

"""What the chapter on patching shows of its table: rows selected for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.stats import landmarks
from emolib.stats.landmarks import Landmark
from emolib.tables import paper
from emolib.tables.results import at_last_layer, select

SHARES = ["transfer", "kept", "neither"]
SOURCES = {"other_label": "another emotion", "same_label": "the same emotion"}
TURNS: dict[str, tuple[Landmark, str]] = {  # the columns of `places`
    "depth: stream carries half": ("onset", "resid_post"),
    "depth: attention carries most": ("peak", "attn_out"),
    "depth: feed-forward carries most": ("peak", "mlp_out"),
}


def outcomes(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The shares transferred, kept and neither at the last token, of the stream at the last overwritten layer."""
    return at_last_layer(select(table, metric=SHARES, source="other_label", position="-1", **keys))


def paper_outcomes(**keys: object) -> pd.DataFrame:
    """The same shares of the paper's Llama, as far as it has them."""
    keys = dict(model=paper.DETAILED.id, prompt="T1-2shot", position="-1") | keys
    return at_last_layer(paper.values("patching", **keys))


def transferred(table: pd.DataFrame) -> pd.DataFrame:
    """The share transferred alone, of single layers."""
    return select(outcomes(table, span=1), metric="transfer")


def turn(table: pd.DataFrame, landmark: Landmark, component: str) -> pd.DataFrame:
    """The row that says at which depth the curve of single layers turns; none where the component was not patched."""
    rows = table[(table["metric"] == f"{landmark}_depth") & (table["component"] == component) & (table["span"] == 1)]
    return rows.reset_index(drop=True)


def best_of(table: pd.DataFrame, component: str) -> pd.DataFrame:
    """The row of the single layer of a component that transfers most; none where the component was not patched."""
    rows = transferred(table)
    return rows[rows["component"] == component].nlargest(1, "value")


def by_token(table: pd.DataFrame) -> pd.DataFrame:
    """Transfer at every token: single layers of the stream, the widest windows of three or less of the others."""
    rows = select(table, metric="transfer", source="other_label")
    widest = rows["span"][(rows["position"] != "-1") & (rows["span"] <= 3)].max()
    return rows[rows["span"] == rows["component"].map({"resid_post": 1}).fillna(widest)]


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """The share of answers kept at the last token, by source, at the spans of the control."""
    rows = at_last_layer(select(table, metric="kept", position="-1", span=[1, 3]))
    return rows.assign(source=rows["source"].map(SOURCES))


def turns(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that say where the curves of the widest windows turn, by the columns of `places` as `turn`."""
    parts = []
    for column, (landmark, component) in TURNS.items():
        rows = table[(table["metric"] == f"{landmark}_depth") & (table["component"] == component)]
        parts.append(rows.nlargest(1, "span").assign(turn=column))
    return pd.concat(parts)


def places(ours: pd.DataFrame) -> pd.DataFrame:
    """Depths where the curves of the paper's models turn, and those of our runs as `turns` and column `run` give them,
    a row a model; windows of five if there are."""
    theirs = at_last_layer(paper.values("patching", metric="transfer", prompt="T1-2shot", position="-1", span=5))
    found = {}
    for column, (landmark, component) in TURNS.items():
        rows, own = landmarks.rows(landmark, theirs[theirs["component"] == component], "model"), ours["turn"] == column
        depths = dict(zip(rows["model"].map(paper.model_name), rows["depth"], strict=True))
        found[column] = depths | dict(zip(ours.loc[own, "run"], ours.loc[own, "value"], strict=True))
    table = pd.DataFrame(found).sort_values(next(iter(TURNS)))
    return table.rename_axis("model").reset_index()

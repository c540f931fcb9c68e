"""What the chapter on wording shows of its table. Loads no model library."""

from __future__ import annotations

import pandas as pd

from emolib.figures.display import in_table
from emolib.stats import landmarks
from emolib.tables.results import at_layers, select

# As readers see them; those of activations are curves, the others levels.
FEATURES = {
    "activations": "residual stream",
    "tfidf": "weighted words (TF-IDF)",
    "bag_of_words": "counted words",
    "token_embeddings": "token embeddings",
    "length": "length of the text",
    "residual": "stream without the words",
    "both": "stream and words",
}
TARGETS = {"writer": "writer's label", "model": "model's answer"}
BEYOND = ("activations", "tfidf", "residual", "both")
BEST = "best of the text alone"
TEXT = ("tfidf", "token_embeddings", "bag_of_words", "length")


def targets(table: pd.DataFrame) -> list[str]:
    """Whose labels are read: the writer's and, unless it always answers alike, the model's."""
    return [name for name in TARGETS if (table["target"] == name).any()]


def curves(table: pd.DataFrame, features: tuple[str, ...], **keys: object) -> pd.DataFrame:
    """Rows over layers of the features given, `source` in words; those of the text alone at every layer measured."""
    rows = select(table, **keys)
    rows = rows[rows["features"].isin(features)]
    deep = rows[rows["layer"].notna()]
    levels = at_layers(rows[rows["layer"].isna()], deep["layer"].unique())
    both = pd.concat([deep, levels]).assign(n_layers=table["n_layers"].iloc[0])
    # in the order given, so that a reader of words has its colour in every figure
    both = both.sort_values("features", key=lambda names: names.map(features.index), kind="stable")
    return both.assign(source=both["features"].map(FEATURES))


def against_text(table: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy over layers of the residual stream and of the best reader of the text, by whose label is read.

    `source` and `target` are in words.
    """
    named = select(table, metric="balanced_accuracy", target=targets(table))
    text = named[named["features"].isin(TEXT)]
    kept = named.loc[[*named.index[named["features"] == "activations"], *text.groupby("target")["value"].idxmax()]]
    shown = curves(kept, ("activations", *TEXT)).replace({"target": TARGETS})
    return shown.assign(source=shown["source"].where(shown["features"] == "activations", BEST))


def best(rows: pd.DataFrame, *features: str) -> pd.Series:
    """The row with the largest value among those of the features given."""
    rows = rows[rows["features"].isin(features)].sort_values("layer", kind="stable")
    return landmarks.row("peak", rows)


def gap(table: pd.DataFrame, features: str = "activations", **keys: object) -> pd.Series:
    """The row of the best of activations (or of both) minus the best of the text, chosen on other writers."""
    return select(table, metric="best_difference", features=features, **keys).iloc[0]


def said(row: pd.Series) -> str:
    """What a difference of the stream and the text comes to, in words."""
    if row["ci_low"] > 0:
        return "more is read from the stream than by any reader of the text that was tried"
    return "more is read from the text than from the stream" if row["ci_high"] < 0 else "neither is shown to tell more"


def first(rows: pd.DataFrame) -> pd.Series:
    """The row of the activations after the first layer that was measured."""
    return select(rows, features="activations").sort_values("layer").iloc[0]


def rated(table: pd.DataFrame, metric: str = "r2") -> pd.DataFrame:
    """For each appraisal the best text-only probe and that of the activations at the best layer, `source` in words.

    The layer is the one with the highest mean R2 over appraisals; appraisals come in the order of its values.
    """
    rows, layer = select(table, metric=metric), best_layer(table)
    text = rows[rows["features"].isin(TEXT)]
    text = text.loc[text.groupby("appraisal")["value"].idxmax()]
    own = select(rows, features="activations", layer=layer).sort_values("value", ascending=False)
    return pd.concat([own.assign(source="residual stream"), text.assign(source=BEST)])


def best_layer(table: pd.DataFrame) -> int:
    """The 0-based layer of the residual stream with the highest mean R2 over appraisals."""
    rows = select(table, metric="r2", features="activations")
    return int(rows.groupby("layer")["value"].mean().idxmax())


def row(rows: pd.DataFrame, source: str) -> pd.Series:
    """The row of pleasantness of a `source` of `rated`."""
    return select(rows, appraisal="pleasantness", source=source).iloc[0]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """For each appraisal the best of the stream minus the best of the text, both chosen on other writers, the largest
    first."""
    rows = select(table, metric="best_difference", features="activations")
    return rows[rows["appraisal"] != ""].sort_values("value", ascending=False)


def carried(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of probes tested on another corpus, `panel` in words, and how they do within the run as its own panel."""
    shown = ("activations", "tfidf", "token_embeddings")
    within = curves(table, shown, metric="balanced_accuracy", target="writer").assign(panel="within this corpus")
    return pd.concat([within, _ways(curves(table, shown, metric="carried"))])


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """The stream minus each probe of the text, tested on another corpus, with intervals, as text."""
    rows = _ways(select(table, metric="carried_difference"))
    table = in_table(rows.assign(text=rows["features"].map(FEATURES)), "text", "panel", form="+.2f")
    return table.set_index("text").rename_axis(None)


def sizes(table: pd.DataFrame) -> str:
    """How many events each corpus has, in words: "6,600 here, 130 in keyword-free"."""
    count = select(table, metric="carried").groupby("tested_on")["n"].first()
    other = count.drop("run")
    return f"{count['run']:,} events here, {other.iloc[0]:,} in {other.index[0]}"


def decided(checks: pd.DataFrame) -> pd.DataFrame:
    """Of the checks of claims those against the text alone."""
    return checks[checks["check"].str.contains("text alone")]


def _ways(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a `panel` that says from where to where."""
    names = rows[["trained_on", "tested_on"]].replace({"run": "this corpus"})
    return rows.assign(panel="from " + names["trained_on"] + " to " + names["tested_on"])

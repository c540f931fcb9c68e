"""What the chapter on appraisals shows, from its table. Loads no model library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from emolib.figures.display import spoken
from emolib.figures.panels import readable
from emolib.tables import paper
from emolib.tables.results import at_layers, select
from emolib.texts.appraisals import APPRAISALS, NAMED

BEST = {"ours": "this run", "label": "label alone", "paper": "paper, Llama 3.2 1B"}  # the columns of `best_released`
STREAM = dict(component="resid_post", setting="ours", target="writer", set="all")


def has_released(data: pd.DataFrame) -> bool:
    """Whether the paper's probes were fitted: not where the model answers too few texts right."""
    return bool((data["setting"] == "as_released").any())


def released(data: pd.DataFrame) -> pd.DataFrame:
    """R2 of the paper's probes of its six appraisals, and that of the label alone, as one more `component`."""
    rows = select(data, metric="r2", setting="as_released", appraisal=list(NAMED))
    return pd.concat([rows, at_layers(label_alone(data, "agreed"), rows["layer"].unique(), component="label only")])


def label_alone(data: pd.DataFrame, which: str) -> pd.DataFrame:
    """R2 of the label alone, for the paper's six appraisals, on all texts or on the test texts of the agreed set."""
    return select(data, metric="r2", baseline="label", set=which, appraisal=list(NAMED))


def best_released(data: pd.DataFrame) -> pd.DataFrame:
    """Of the paper's six appraisals the best R2 of any site as released, `ours` and the `paper`'s, and `label`'s.

    Missing where the paper's probes were not fitted.
    """
    named = data[(data["metric"] == "r2") & data["appraisal"].isin(NAMED)]
    best = {
        "ours": named[named["setting"] == "as_released"],
        "label": named[(named["baseline"] == "label") & (named["set"] == "agreed")],
        "paper": published("appraisal_probe"),
    }
    return pd.DataFrame({name: part.groupby("appraisal")["value"].max() for name, part in best.items()}).loc[[*NAMED]]


def published(experiment: str) -> pd.DataFrame:
    """The paper's values of its Llama: of `appraisal_probe`, or of `appraisal_profile`."""
    return paper.values(experiment, model=paper.DETAILED.id)


def ours(data: pd.DataFrame) -> pd.DataFrame:
    """R2 of our probes of six appraisals in the residual stream, by `source`: these, shuffled ratings, the label."""
    keys = STREAM | dict(target=["writer", "shuffled"], appraisal=list(NAMED), metric="r2")
    rows = select(data, **keys)
    rows = rows.assign(source=rows["target"].map({"writer": "residual stream", "shuffled": "shuffled"}))
    rows = rows.sort_values("target", ascending=False, kind="stable")
    return pd.concat([rows, at_layers(label_alone(data, "all"), rows["layer"].unique(), source="label only")])


def by_appraisal(data: pd.DataFrame) -> pd.DataFrame:
    """R2 of our probes of six appraisals in the residual stream."""
    return select(data, metric="r2", appraisal=list(NAMED), **STREAM)


def most_read(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the highest R2 of pleasantness."""
    return select(by_appraisal(data), appraisal="pleasantness").nlargest(1, "value")


def most_added(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the appraisal with the largest partial R2 at the best layer."""
    return beyond_label(data).head(1)


def best_layer(data: pd.DataFrame) -> int:
    """The 0-based layer of the residual stream with the highest mean R2 over appraisals."""
    return int(select(data, metric="r2", **STREAM).groupby("layer")["value"].mean().idxmax())


def beyond_label(data: pd.DataFrame) -> pd.DataFrame:
    """The partial R2 of all appraisals at the best layer, the largest first."""
    rows = select(data, metric="partial_r2", layer=best_layer(data), **STREAM)
    return rows.sort_values("value", ascending=False)


def beside_readers(data: pd.DataFrame) -> pd.DataFrame:
    """R2 with its interval, a row per appraisal: the label, the probe at the best layer, and readers if there are."""
    rows = data[data["metric"] == "r2"]
    probe = STREAM | dict(layer=best_layer(data)) | (dict(set="read") if (data["model"] == "human").any() else {})
    columns = {
        "label only, all events": select(rows, baseline="label", set="all"),
        "probe": select(rows, **probe),
        "beyond the label, all events": beyond_label(data),
        "one reader": rows[rows["reader"] == "single"],
        "mean of five": rows[rows["reader"] == "mean_of_5"],
    }
    return _written(columns, APPRAISALS)


def profiles(data: pd.DataFrame) -> pd.DataFrame:
    """Mean ratings of the paper's six appraisals for its six emotions, of the agreed set and of all events."""
    emotions = published("appraisal_profile")["emotion"].unique().tolist()
    rows = select(data, metric="mean_rating", emotion=emotions, appraisal=list(NAMED))
    rows = rows.assign(set=rows["set"].map({"agreed": "agreed set", "all": "all events"}))
    return rows.sort_values("appraisal", key=lambda names: names.map(NAMED.index), kind="stable")


def set_gaps(data: pd.DataFrame) -> pd.Series:
    """How far the mean ratings of agreed set and all events lie apart, by emotion and appraisal."""
    both = profiles(data).pivot(index=["emotion", "appraisal"], columns="set", values="value")
    both = both.reindex(columns=["agreed set", "all events"]).dropna()
    return (both["agreed set"] - both["all events"]).abs()


def emotion_named(data: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy of the emotion from ratings (no layer) and by layer, `source` in words; shuffled labels too."""
    rows = select(data, metric="emotion_from_appraisals")
    control = (rows["target"] == "shuffled") & (rows["source"] == "activations")
    words = rows["source"].replace({"ratings": "all 21 ratings", "six_ratings": "the six of the paper"})
    rows = rows.assign(source=words.str.replace("_", " ").mask(control, "shuffled labels"))
    return rows[(rows["target"] == "writer") | control]


def peak_and_fall(data: pd.DataFrame) -> pd.DataFrame:
    """Where our probes' R2 is highest in the residual stream, and what is lost from there on, with intervals."""
    metrics = {"depth of the peak": "peak_depth", "fall from peak to end": "r2_fall"}
    return _written({name: select(data, metric=metric) for name, metric in metrics.items()}, NAMED)


def _written(columns: Mapping[str, pd.DataFrame], appraisals: Sequence[str]) -> pd.DataFrame:
    """Values with their intervals as text, a row per appraisal; columns without rows are left out."""
    cells = {name: rows.set_index("appraisal").apply(spoken, axis=1) for name, rows in columns.items() if len(rows)}
    return pd.DataFrame(cells).loc[list(appraisals)].rename(index=readable)

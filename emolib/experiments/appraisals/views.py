"""What the chapter on appraisals shows, from its table. Loads no model library."""

from __future__ import annotations

import pandas as pd

from emolib.tables import paper
from emolib.tables.results import at_layers, select
from emolib.texts.appraisals import APPRAISALS, NAMED

READERS = {"single": "one reader", "mean_of_5": "the mean of five"}
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


def best_layer(data: pd.DataFrame) -> int:
    """The 0-based layer of the residual stream with the highest mean R2 over appraisals."""
    return int(select(data, metric="r2", **STREAM).groupby("layer")["value"].mean().idxmax())


def beyond_label(data: pd.DataFrame) -> pd.DataFrame:
    """The partial R2 of all appraisals at the best layer, the largest first."""
    rows = select(data, metric="partial_r2", layer=best_layer(data), **STREAM)
    return rows.sort_values("value", ascending=False)


def beside_readers(data: pd.DataFrame) -> pd.DataFrame:
    """R2 of all appraisals by `source`, on the texts that people read: the probe at the best layer, and the readers.

    Empty where the corpus has no readers.
    """
    rows = data[(data["metric"] == "r2") & data["appraisal"].isin(APPRAISALS)]
    readers = rows.assign(source=rows["reader"].map(READERS)).dropna(subset="source")
    if readers.empty:
        return readers
    probe = select(rows, **STREAM | dict(layer=best_layer(data), set="read")).assign(source="residual stream")
    return pd.concat([probe.sort_values("value", ascending=False), readers])


def against_readers(data: pd.DataFrame) -> str:
    """How many appraisals the probe predicts better than the readers and how many worse, by intervals apart, as a
    sentence."""
    ends = beside_readers(data).pivot(index="appraisal", columns="source", values=["ci_low", "ci_high"])
    low, high = ends["ci_low"], ends["ci_high"]
    said = []
    for reader in READERS.values():
        better = (low["residual stream"] > high[reader]).sum()
        worse = (high["residual stream"] < low[reader]).sum()
        said.append(f"**{better}** better and **{worse}** worse than {reader}")
    return f"Of {len(ends)} appraisals the probe predicts {', and '.join(said)}; the intervals of the others overlap."


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
    """Balanced accuracy of the emotion from ratings (no layer) and by layer, `source` in words; shuffled labels too.

    "residual stream" is a probe of the whole activation.
    """
    rows = select(data, metric="emotion_from_appraisals")
    control = (rows["target"] == "shuffled") & (rows["source"] == "activations")
    words = rows["source"].replace({"ratings": "all 21 ratings", "six_ratings": "the six of the paper"})
    words = words.replace({"activations": "residual stream"})
    rows = rows.assign(source=words.str.replace("_", " ").mask(control, "shuffled labels"))
    return rows[(rows["target"] == "writer") | control]


def peak_and_fall(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the paper's six appraisals where our probes' R2 is highest in the residual stream, and what is lost from there
    to the last layer, the largest loss first."""
    peak, fall = (select(data, metric=metric, appraisal=list(NAMED)) for metric in ("peak_depth", "r2_fall"))
    return peak, fall.sort_values("value", ascending=False)


def lost_at_the_end(data: pd.DataFrame) -> str:
    """For how many of the six appraisals R2 is below zero in the last layer of the residual stream, in words: of the
    paper's probes, where they were fitted, and of ours."""
    released = data[(data["setting"] == "as_released") & (data["component"] == "resid_post")]
    parts = {"by the paper's probes": released, "by ours": by_appraisal(data)}
    said = []
    for whose, rows in parts.items():
        last = rows[(rows["metric"] == "r2") & (rows["layer"] == rows["layer"].max()) & rows["appraisal"].isin(NAMED)]
        said += [f"{whose} for **{(last['value'] < 0).sum()} of {len(last)}**"] if len(last) else []
    return " and ".join(said)

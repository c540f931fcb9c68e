"""The paper's values in the layout of a run's tables, so that one test judges a claim for both.

Windows stand at their centre, as ours do. Shares get Wilson's interval from their number of texts or pairs, which the
paper does not print. The theory score is ours, computed from the paper's counts and the corpus's mean ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from emolib import stats
from emolib.interventions.theory import label_counts, theory_score
from emolib.tables import paper, schemas
from emolib.tables.results import tidy
from emolib.texts.appraisals import EMOTIONS, PRINTED, PUSHED, Setting, expected_shifts

CONTROL = [
    "behaviour:accuracy",
    "emotion_probe:accuracy",
    *(f"patching:{name}" for name in ("transfer", "kept", "neither")),
]
Part = tuple[str, Mapping[str, Any], Mapping[str, str]]

# What each of our tables is made of: the paper's experiment, which of its rows, and the columns that they get.
MADE_OF: Mapping[str, tuple[Part, ...]] = {
    "behaviour": (
        ("behaviour", {"metric": ["accuracy"], "rerun": [""]}, {"scoring": "last_subtoken", "calibration": "none"}),
        ("behaviour", {"metric": ["confusion_count", "predicted_count"]}, {"calibration": "none"}),
        ("human", {"metric": ["accuracy"]}, {}),
    ),
    "probing": (
        ("emotion_probe", {}, {"setting": "as_released", "probe": "linear"}),
        ("emotion_probe_mlp", {}, {"setting": "as_released", "probe": "mlp"}),
    ),
    "patching": (("patching", {}, {"source": "other_label"}),),
    "ablation": (("zero_ablation", {}, {"method": "zero"}), ("random_ablation", {}, {"method": "random"})),
    "attention": (("attention", {"token": [""]}, {"demonstrations": "given"}),),
    "appraisals": (
        ("appraisal_probe", {}, {"setting": "as_released", "target": "writer", "set": "agreed"}),
        ("label_baseline", {"weights": ["llama_1b_agreed"]}, {"baseline": "label", "set": "agreed"}),
        ("appraisal_profile", {"model": ["data"]}, {"set": "all"}),
        ("appraisal_profile", {"model": [paper.DETAILED.id]}, {"set": "agreed"}),
    ),
    "geometry": (("geometry", {}, {"vector": "probe", "set": "agreed"}),),
    "modulation": (
        ("modulation", {"baseline": ["baseline"]}, {}),
        ("modulation", {"baseline": [""], "vector": [""]}, {"vector": "raw", "unit": "absolute"}),
        ("modulation", {"vector": ["random"]}, {"unit": "absolute"}),
    ),
    "promotion": (("promotion", {}, {"vector": "probe", "unit": "absolute"}),),
    "robustness": (
        ("control_first_word", {"metric": CONTROL}, {"check": "first_word"}),
        ("patching", {"position": ["-1"]}, {"check": "prompts"}),
        ("zero_ablation", {"position": ["-1"]}, {"check": "prompts", "method": "zero"}),
        ("emotion_probe", {"position": ["-1"]}, {"check": "prompts", "set": "agreed"}),
        ("misclassified", {}, {"check": "misclassified"}),
    ),
    "wording": (),  # the paper has no such control
}
DEFAULT = ("T1-2shot", "")  # the prompt of all but the checks of robustness
SHARES = ("accuracy", "balanced_accuracy", "agreement", "transfer", "top1_share")
SEGMENTS = {"evaluated_text": "text", "demo_1": "demonstration_label", "demo_2": "demonstration_label"}


def paper_tables(model: str) -> dict[str, pd.DataFrame]:
    """The paper's values of one model by our experiment names; experiments without values are left out.

    Raises ValueError for a model that is not one of the paper's ten (name or id).
    """
    return _paper_tables(paper.model_id(model))


@cache
def _paper_tables(model: str) -> dict[str, pd.DataFrame]:
    layers = {one.id: one.layers for one in paper.PAPER_MODELS}[model]
    found = {}
    for experiment, rows in aligned(model).items():
        kept = [name for name in schemas.columns(experiment) if name not in schemas.DERIVED]
        rows = rows.reindex(columns=kept)
        share = rows["metric"].isin(SHARES) & rows["n"].notna() & rows["ci_low"].isna()
        if share.any():
            n = rows.loc[share, "n"].astype(float)
            ends = stats.wilson(rows.loc[share, "value"] * n, n)
            rows.loc[share, "ci_low"], rows.loc[share, "ci_high"] = ends.ci_low, ends.ci_high
        found[experiment] = tidy(rows, experiment, n_layers=layers)
    return found


@cache
def aligned(model: str) -> dict[str, pd.DataFrame]:
    """The same rows with what the value table says of each: figure, how it was read, tolerance.

    Values computed from several of the figures' numbers have how "computed".
    """
    name = paper.model_id(model)
    values = paper.load_values()
    values = values[values["model"].isin([name, "human", "data"])]
    made = {experiment: _made(experiment, values) for experiment, parts in MADE_OF.items() if parts}
    return {experiment: rows for experiment, rows in made.items() if (rows["model"] == name).any()}


def _made(experiment: str, values: pd.DataFrame) -> pd.DataFrame:
    usual = values if experiment == "robustness" else values[values["prompt"].isin(DEFAULT)]
    parts = []
    for source, where, columns in MADE_OF[experiment]:
        rows = usual[usual["experiment"] == source]
        chosen = [rows[name].isin(wanted) for name, wanted in where.items()]
        parts.append(rows[np.logical_and.reduce(chosen)].assign(**columns) if chosen else rows.assign(**columns))
    rows = pd.concat(parts, ignore_index=True).assign(experiment=experiment)
    return FINISH[experiment](rows) if experiment in FINISH else rows


def _attention(rows: pd.DataFrame) -> pd.DataFrame:
    """The counts of most attended places as shares, both demonstrations together."""
    n = rows["n"].astype(float)
    rows = rows.assign(
        segment=rows["part"].replace(SEGMENTS), value=rows["value"] / n, tolerance=rows["tolerance"] / n, part=""
    )
    about = {name: "first" for name in rows if name not in ("segment", "layer", "value", "tolerance")}
    whole = rows.groupby(["segment", "layer"], as_index=False).agg({**about, "value": "sum", "tolerance": "sum"})
    return whole.assign(metric="top1_share", how="computed", component="", position="")


def _robustness(rows: pd.DataFrame) -> pd.DataFrame:
    """The control task's metrics carry their experiment; probes of it saw the texts that the model answers rightly."""
    read = rows["metric"].str.startswith("emotion_probe:")
    return rows.assign(metric=rows["metric"].str.replace(".*:", "", regex=True), set=rows["set"].mask(read, "agreed"))


def _modulation(rows: pd.DataFrame) -> pd.DataFrame:
    """The counts, the theory scores of the settings, and those of the random directions against every setting."""
    if rows.empty:
        return rows
    base = _counts(rows[rows["baseline"] != ""], ["model"]).to_numpy()[0]
    pushed = _counts(rows[rows["vector"] == "raw"], [*PUSHED, "layer", "dose"])
    random = _counts(rows[rows["vector"] == "random"], ["draw", "layer", "dose"])
    means = label_means(paper.load_values())
    settings = [Setting.from_columns(key) for key in pushed.index.to_frame().to_dict("records")]
    own = theory_score(expected_shifts(means, settings), pushed.to_numpy(), base)
    found = [pushed.index.to_frame(index=False).assign(metric="theory_score", vector="raw", value=own)]
    for setting in dict.fromkeys(settings):
        null = theory_score(expected_shifts(means, [setting]), random.to_numpy(), base)
        keys = random.index.to_frame(index=False).assign(**setting.columns())
        found.append(keys.assign(metric="theory_score_null", vector="random", value=null))
    about = rows[["experiment", "model", "prompt", "n_layers"]].iloc[0].to_dict()
    site = dict(span=3, position="-1", component="resid_post", unit="absolute", n=len(EMOTIONS))
    figures = ", ".join(sorted(rows["figure"].unique()))
    scores = pd.concat(found).assign(**about, **site, figure=figures, how="computed", tolerance=0.0)
    return pd.concat([rows, scores], ignore_index=True)


FINISH = {
    "attention": _attention,
    "promotion": lambda rows: rows.assign(label=rows["emotion"]),
    "robustness": _robustness,
    "modulation": _modulation,
}


def _counts(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Counts of the 13 labels, a row a key."""
    return rows.pivot_table(index=keys, columns="label", values="value")[[*EMOTIONS]].astype(float)


def label_means(values: pd.DataFrame) -> pd.DataFrame:
    """Mean ratings [13 emotions, 6 appraisals] over all texts of the corpus."""
    rows = values[(values["experiment"] == "appraisal_profile") & (values["model"] == "data")]
    return rows.pivot(index="emotion", columns="appraisal", values="value").loc[[*EMOTIONS]]


def thinned_scores(n: int, *, layer: int, dose: float, draws: int = 200, seed: int = 0) -> np.ndarray:
    """Mean theory scores [draws] over the printed settings, had the paper pushed only `n` texts.

    Each text draws its label from the baseline of the model studied in detail, and keeps it as far as the pushed counts
    (0-based layer, dose) allow: so many texts keep theirs as possibly can. Noise lowers a rank correlation, so scores
    of different models are comparable at equal `n`. Settings without counts there are left out.
    """
    rows = aligned(paper.DETAILED.id)["modulation"]
    rows = rows[rows["metric"] == "count"]
    before = _counts(rows[rows["baseline"] != ""], ["model"]).to_numpy()[0]
    here = rows[(rows["vector"] == "raw") & (rows["layer"] == layer) & (rows["dose"] == dose)]
    counts = _counts(here, [*PUSHED])
    wide = {
        Setting.from_columns(key): counts.loc[tuple(key.values())] for key in counts.index.to_frame().to_dict("records")
    }
    settings = [setting for setting in PRINTED if setting in wide]
    pushed = np.array([wide[setting] / wide[setting].sum() for setting in settings])
    before = before / before.sum()
    stay = np.minimum(1, np.divide(pushed, before, out=np.ones_like(pushed), where=before > 0))
    gain = np.maximum(pushed - before, 0)
    gain /= gain.sum(axis=1, keepdims=True)
    random, expected = np.random.default_rng(seed), expected_shifts(label_means(paper.load_values()), settings)
    found = []
    for _ in range(draws):
        clean = random.choice(len(EMOTIONS), n, p=before)
        moved = [
            np.where(random.random(n) < s[clean], clean, random.choice(len(EMOTIONS), n, p=g))
            for s, g in zip(stay, gain, strict=True)
        ]
        after, old = (label_counts(ids)[0] for ids in (np.stack(moved, axis=1), clean[:, None]))
        found.append(theory_score(expected, after, old).mean())
    return np.array(found)

"""The paper's values in the layout of a run's tables, so that one test judges a claim for both.

`resid_post` rows of patching stand at the last overwritten layer, as ours do. Shares get Wilson's interval from their
number of texts or pairs, which the paper does not print. The theory score is ours, computed from the paper's counts
and the corpus's mean ratings (brief of the method in the chapter on modulation).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from emolib import stats
from emolib.interventions import theory
from emolib.tables import paper
from emolib.tables.results import COLUMNS, tidy
from emolib.texts.corpus import EMOTIONS

DEFAULT = "T1-2shot"
FRACTIONS = ("accuracy", "balanced_accuracy", "agreement", "transfer", "top1_share")
SEGMENTS = {
    "segment:evaluated_text": "text",
    "segment:demo_1": "demonstration_label",
    "segment:demo_2": "demonstration_label",
    "segment:format": "format",
    "segment:final_cue": "final_cue",
}


@cache
def paper_tables(model: str) -> dict[str, pd.DataFrame]:
    """Return the paper's values of one model by our experiment names; experiments without values are left out.

    Raises ValueError for a model that is not one of the paper's ten (name or id).
    """
    return {experiment: _stored(rows, experiment) for experiment, rows in aligned(model).items()}


def aligned(model: str) -> dict[str, pd.DataFrame]:
    """Return the same rows with what the value table says about each: figure, how it was read, tolerance.

    Values computed from several of the figures' numbers have how "computed".
    """
    name = paper.model_id(model)
    frame = paper.load_values()
    frame = frame[frame["model"].isin([name, "human", "data"])]
    makers = {
        "behaviour": _behaviour,
        "probing": _probing,
        "patching": _patching,
        "ablation": _ablation,
        "attention": _attention,
        "appraisals": _appraisals,
        "geometry": _geometry,
        "modulation": _modulation,
        "promotion": _promotion,
        "robustness": _robustness,
    }
    made = {experiment: maker(frame) for experiment, maker in makers.items()}
    return {experiment: rows for experiment, rows in made.items() if (rows["model"] == name).any()}


def _stored(rows: pd.DataFrame, experiment: str) -> pd.DataFrame:
    rows = rows.reindex(columns=list(COLUMNS)).assign(experiment=experiment)
    share = rows["metric"].isin(FRACTIONS) & rows["n"].notna() & rows["ci_low"].isna()
    if share.any():
        found = stats.wilson(rows.loc[share, "value"] * rows.loc[share, "n"].astype(float), rows.loc[share, "n"])
        rows.loc[share, "ci_low"], rows.loc[share, "ci_high"] = found.ci_low, found.ci_high
    return tidy(rows)


def _of(frame: pd.DataFrame, experiment: str, prompt: str | None = DEFAULT) -> pd.DataFrame:
    rows = frame[frame["experiment"] == experiment]
    return rows if prompt is None else rows[rows["prompt"].isin([prompt, ""])]


def _behaviour(frame: pd.DataFrame) -> pd.DataFrame:
    rows = _of(frame, "behaviour")
    rows = rows[rows["metric"].isin(["accuracy", "confusion_count", "predicted_count"]) & (rows["condition"] == "")]
    score = np.where(rows["metric"] == "accuracy", "scoring:last_subtoken;calibration:none", "calibration:none")
    human = frame[(frame["experiment"] == "human") & (frame["metric"] == "accuracy")]
    return pd.concat([rows.assign(condition=score), human])


def _probing(frame: pd.DataFrame) -> pd.DataFrame:
    linear = _of(frame, "emotion_probe").assign(condition="setting:as_released")
    return pd.concat([linear, _of(frame, "emotion_probe_mlp").assign(condition="probe:mlp")])


def _patching(frame: pd.DataFrame) -> pd.DataFrame:
    return _at_last_layer(_of(frame, "patching"))


def _at_last_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with overwrites of the residual stream filed under the last layer they overwrite, the only one felt."""
    stream = rows["component"] == "resid_post"
    moved = rows[stream].sort_values("span").assign(layer=lambda part: part["last_layer"], span=1)
    keys = ["model", "prompt", "layer", "position", "metric", "condition"]
    return pd.concat([rows[~stream], moved.drop_duplicates(keys)])


def _ablation(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = [_of(frame, f"{kind}_ablation").assign(condition=f"edit:{kind}") for kind in ("zero", "random")]
    return pd.concat(kinds)


def _attention(frame: pd.DataFrame) -> pd.DataFrame:
    rows = _of(frame, "attention")
    rows = rows[rows["condition"].isin(SEGMENTS)]
    rows = rows.assign(label=rows["condition"].map(SEGMENTS), value=rows["value"] / rows["n"].astype(float))
    keys = ["model", "prompt", "layer", "label", "n", "figure", "n_layers"]
    whole = rows.groupby(keys, as_index=False).agg(value=("value", "sum"), tolerance=("tolerance", "sum"))
    tolerance = whole["tolerance"] / whole["n"].astype(float)
    return whole.assign(metric="top1_share", condition="demonstrations:given", how="computed", tolerance=tolerance)


def _appraisals(frame: pd.DataFrame) -> pd.DataFrame:
    probes = _of(frame, "appraisal_probe")
    probes = probes.assign(label=probes["condition"].str.removeprefix("appraisal:"), condition="setting:as_released")
    base = frame[frame["condition"].str.endswith("weights:llama_1b_agreed")]
    names = base["condition"].str.extract(r"appraisal:(\w+)")[0]
    base = base.assign(label=names, condition="baseline:label", position="")
    return pd.concat([probes, base, ratings(frame)])


def ratings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean ratings of six appraisals per emotion, over all texts and over the agreed set."""
    rows = _of(frame, "appraisal_profile")
    which = np.where(rows["model"] == "data", ";set:all", ";set:agreed")
    return rows.assign(condition=rows["condition"] + which)


def _geometry(frame: pd.DataFrame) -> pd.DataFrame:
    rows = _of(frame, "geometry")
    return rows.assign(condition=rows["condition"] + ";vector:probe")


def _promotion(frame: pd.DataFrame) -> pd.DataFrame:
    rows = _of(frame, "promotion")
    return rows.assign(label=rows["condition"].str.removeprefix("emotion:"), condition="vector:probe")


def _modulation(frame: pd.DataFrame) -> pd.DataFrame:
    counts = _of(frame, "modulation").copy()
    moved = ~counts["condition"].str.contains("baseline|random")
    counts.loc[moved, "condition"] += ";vector:raw"
    return pd.concat([counts, *_theory(frame, counts)])


def _theory(frame: pd.DataFrame, counts: pd.DataFrame) -> list[pd.DataFrame]:
    """Theory scores of the appraisals' conditions, and those of the random directions against every profile."""
    if counts.empty:
        return []
    keys = ["condition", "layer", "coefficient"]
    wide = counts.pivot_table(index=keys, columns="label", values="value")[[*EMOTIONS]]
    base = counts[counts["condition"] == "baseline"].set_index("label")["value"].loc[[*EMOTIONS]].to_numpy()
    names = [name for name in counts["condition"].unique() if "vector:" in name]
    expected = dict(zip(names, theory.expected_shifts(label_means(frame), names), strict=True))
    rows = []
    for (name, layer, beta), moved in zip(wide.index, wide.to_numpy(), strict=True):
        site = dict(layer=layer, coefficient=beta, span=3, position="-1", component="resid_post", n=len(EMOTIONS))
        drawn = name.startswith("random")
        mark = dict(metric="theory_score")
        if drawn:
            mark = dict(metric="theory_score_null", label=name.replace("random", "draw"))
        for other in names if drawn else [name]:
            value = theory.theory_score(expected[other], moved, base)
            rows.append(site | mark | dict(condition=other, value=float(value)))
    about = counts[["model", "prompt", "n_layers"]].iloc[0].to_dict() | {"how": "computed", "tolerance": 0.0}
    figures = ", ".join(sorted(counts["figure"].unique()))
    return [pd.DataFrame(rows).assign(**about, figure=figures)]


def thinned_scores(n: int, *, layer: int, coefficient: float, draws: int = 200, seed: int = 0) -> np.ndarray:
    """Return mean theory scores [draws] over the printed settings, had the paper pushed only `n` texts.

    Each text draws its label from the baseline of the model studied in detail, and keeps it as far as the pushed counts
    (0-based layer, beta) allow: so many texts keep theirs as possibly can. Noise lowers a rank correlation, so scores
    of different models are comparable at equal `n`. Settings without counts there are left out.
    """
    frame = paper.values("modulation", model=paper.DETAILED.id)
    base = frame[frame["condition"] == "baseline"].set_index("label")["value"].loc[[*EMOTIONS]].to_numpy(dtype=float)
    here = frame[(frame["layer"] == layer) & (frame["coefficient"] == coefficient)]
    wide = here.pivot_table(index="condition", columns="label", values="value")[[*EMOTIONS]]
    wide = wide.loc[[name for name in theory.printed() if name in wide.index]]
    pushed, before = wide.to_numpy() / wide.to_numpy().sum(axis=1, keepdims=True), base / base.sum()
    stay = np.minimum(1, np.divide(pushed, before, out=np.ones_like(pushed), where=before > 0))
    gain = np.maximum(pushed - before, 0)
    gain /= gain.sum(axis=1, keepdims=True)
    random, expected = np.random.default_rng(seed), theory.expected_shifts(label_means(paper.load_values()), wide.index)
    found = []
    for _ in range(draws):
        clean = random.choice(len(EMOTIONS), n, p=before)
        moved = [
            np.where(random.random(n) < s[clean], clean, random.choice(len(EMOTIONS), n, p=g))
            for s, g in zip(stay, gain, strict=True)
        ]
        counts, old = (theory.label_counts(ids)[0] for ids in (np.stack(moved, axis=1), clean[:, None]))
        found.append(theory.theory_score(expected, counts, old).mean())
    return np.array(found)


def label_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean ratings [13 emotions, 6 appraisals] over all texts of the corpus."""
    rows = frame[(frame["experiment"] == "appraisal_profile") & (frame["model"] == "data")]
    parts = rows["condition"].str.extract(r"emotion:(?P<emotion>\w+);appraisal:(?P<appraisal>\w+)")
    table = rows.assign(**parts).pivot(index="emotion", columns="appraisal", values="value")
    return table.loc[[*EMOTIONS]]


def _robustness(frame: pd.DataFrame) -> pd.DataFrame:
    control = _of(frame, "control_first_word", None)
    read = control["metric"].str.startswith("emotion_probe:")
    condition = np.where(read, "check:first_word;set:agreed", "check:first_word")
    control = control.assign(metric=control["metric"].str.replace(".*:", "", regex=True), condition=condition)
    kinds = {
        "patching": "check:prompts",
        "zero_ablation": "check:prompts;edit:zero",
        "emotion_probe": "check:prompts;set:agreed",
    }
    prompts = [_of(frame, name, None).assign(condition=text) for name, text in kinds.items()]
    prompts = [rows[rows["position"] == "-1"] for rows in prompts]
    missed = _of(frame, "misclassified")
    missed = missed.assign(condition="check:misclassified;" + missed["condition"])
    return pd.concat([_at_last_layer(control), *prompts, missed])

"""How far an intervention moves the labels as appraisal theory expects: the theory score, counts, and their nulls.

The theory score compares, over the labels, what `emolib.texts.appraisals` expects with what an intervention does to
their frequencies. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emolib import stats
from emolib.stats.scores import Array, Statistic
from emolib.texts import appraisals
from emolib.texts.appraisals import ACTING, EMOTIONS, PRINTED, PUSHED, SETTINGS, label_means

__all__ = ["ACTING", "label_means"]


# Settings as strings, "pleasantness:+1;other_responsblt:-1": until tables hold a column for each appraisal.


def settings() -> tuple[str, ...]:
    return tuple(map(condition, SETTINGS))


def printed() -> tuple[str, ...]:
    return tuple(map(condition, PRINTED))


def condition(signs: Mapping[str, int]) -> str:
    """Return the signs as a condition of the tables, "pleasantness:+1;other_responsblt:-1"."""
    return ";".join(f"{name}:{sign:+d}" for name, sign in signs.items())


def signs(name: str) -> dict[str, int]:
    """Return the appraisals and signs of a condition; its other pairs, such as `vector:raw`, are left out.

    Raises ValueError when there are none.
    """
    pairs = dict(pair.split(":", 1) for pair in name.split(";") if ":" in pair)
    found = {key: int(value) for key, value in pairs.items() if value in ("+1", "-1")}
    if not found:
        raise ValueError(f"the condition {name!r} pushes no appraisal: expected pairs such as 'pleasantness:+1'")
    return found


def abbreviated(name: str) -> str:
    """Return a condition as figures with many of them show it: "pl ↑ oa ↓"."""
    if name.startswith("settings:printed"):
        return f"mean of {len(PRINTED)}"
    return " ".join(f"{PUSHED.get(key, key)} {chr(8593 if sign > 0 else 8595)}" for key, sign in signs(name).items())


def expected_shifts(means: pd.DataFrame, conditions: Sequence[str]) -> Array:
    return appraisals.expected_shifts(means, [signs(name) for name in conditions])


def theory_score(expected: ArrayLike, counts: ArrayLike, baseline: ArrayLike) -> Array:
    """Return Spearman's correlation [...] over labels of expected [..., C] with observed shifts, -1 to 1.

    The observed shift of a label is log((count + 1/2) / (baseline + 1/2)). Emotions whose expectation is NaN are left
    out. Where no label moved, the score is 0: nothing follows the theory.
    """
    profile = np.asarray(expected, dtype=float)
    known = np.isfinite(profile).reshape(-1, profile.shape[-1]).all(axis=0)
    moved = np.log((np.asarray(counts, dtype=float) + 0.5) / (np.asarray(baseline, dtype=float) + 0.5))
    a, b = (_centred_ranks(values[..., known]) for values in (profile, moved))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), scale, out=np.zeros(np.shape(scale)), where=scale > 0)


def total_variation(counts: ArrayLike, baseline: ArrayLike) -> Array:
    """Return the share of texts [...] by which two label counts [..., C] of the same texts differ, 0 to 1."""
    new, old = np.asarray(counts, dtype=float), np.asarray(baseline, dtype=float)
    return np.abs(new - old).sum(axis=-1) / 2 / new.sum(axis=-1)


def null_bands(null: pd.DataFrame) -> pd.DataFrame:
    """Return, for each condition, layer, span and coefficient, the draws' mean with the range of 95 % of new draws.

    `null` has a row per draw; `limit` is what 1 % of new draws exceed, `n` the number of draws.
    """
    keys, rows = ["condition", "layer", "span", "coefficient"], []
    for key, draws in null.groupby(keys)["value"]:
        values = draws.to_numpy(dtype=float)
        band, limit = stats.null_band(values), stats.null_band(values, level=0.98).ci_high
        ends = {name: float(value[0]) for name, value in band.columns().items()}
        rows.append(dict(zip(keys, key, strict=True)) | ends | dict(limit=float(limit), n=len(values)))
    return pd.DataFrame(rows, columns=[*keys, "value", "ci_low", "ci_high", "limit", "n"])


def label_counts(answers: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Return the counts [r, k, 13] of `answers` [n, k] (label ids) when the texts are drawn `weights` [r, n] times."""
    ids = np.asarray(answers)
    chosen = (ids[:, :, None] == np.arange(len(EMOTIONS))).reshape(len(ids), -1).astype(float)
    drawn = np.ones((1, len(ids))) if weights is None else np.asarray(weights, dtype=float)
    return (drawn @ chosen).reshape(len(drawn), ids.shape[1], len(EMOTIONS))


def counted(ids: np.ndarray) -> Array:
    """Return the counts [13] of the answers `ids` [n], each text once."""
    return label_counts(ids[:, None])[0, 0]


def count_rows(names: Sequence[str], counts: np.ndarray) -> pd.DataFrame:
    """Return rows of metric count: `counts` [k, 13] of each label under each of the k conditions `names`."""
    repeated = np.repeat(np.asarray(names), len(EMOTIONS))
    return pd.DataFrame(dict(condition=repeated, label=[*EMOTIONS] * len(names), value=counts.ravel(), metric="count"))


def score_statistic(expected: Array, answers: NDArray[np.integer], clean: NDArray[np.integer]) -> Statistic:
    """Return the statistic "theory score of each column of `answers` [n, k]", expectations [k, 13], for `bootstrap`.

    `clean` [n] are the answers without the intervention: a resample changes the baseline too.
    """
    return lambda weights: theory_score(expected, label_counts(answers, weights), label_counts(clean[:, None], weights))


def variation_statistic(answers: NDArray[np.integer], clean: NDArray[np.integer]) -> Statistic:
    """Return the statistic "total variation from the baseline, of each column of `answers` [n, k]"."""
    return lambda weights: total_variation(label_counts(answers, weights), label_counts(clean[:, None], weights))


def _centred_ranks(values: Array) -> Array:
    # Thirteen comparisons of whole arrays instead of a sort of each: thousands of resamples are ranked at once.
    # Rounded, because counts that are equal in theory may differ in their logarithms' last bit.
    values = np.round(values, 9)
    each = np.moveaxis(values, -1, 0)[..., None]
    return np.stack([((values < x).sum(axis=-1) - (values > x).sum(axis=-1)) / 2.0 for x in each], axis=-1)

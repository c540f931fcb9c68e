"""How far an intervention moves the labels as appraisal theory expects: the theory score, and the counts it is made of.

The score compares, over the labels, what `emolib.texts.appraisals` expects with what an intervention does to their
frequencies (E10). Loads no model library.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emolib.stats.scores import Array, Statistic
from emolib.texts.appraisals import EMOTIONS
from emolib.texts.sources import packaged


def meta_analysis() -> pd.DataFrame:
    """How strongly appraisals go with emotions in people, correlations [13 emotions, 4 appraisals], NaN where unknown.

    From outside of any corpus of ours: Yeo and Ong (2024), see `data/meta_analysis.yml`.
    """
    known = packaged("meta_analysis.yml")["appraisals"]
    return pd.DataFrame({name: row["r"] for name, row in known.items()}, dtype=float).reindex(list(EMOTIONS))


def theory_score(expected: ArrayLike, counts: ArrayLike, baseline: ArrayLike) -> Array:
    """Return Spearman's correlation [...] over labels of expected [..., C] with observed shifts, -1 to 1.

    The observed shift of a label is log((count + 1/2) / (baseline + 1/2)). Emotions whose expectation is NaN are left
    out. Where no label moved, the score is 0: nothing follows the theory.
    """
    profile = np.asarray(expected, dtype=float)
    known = np.isfinite(profile).reshape(-1, profile.shape[-1]).all(axis=0)
    moved = np.log((np.asarray(counts, dtype=float) + 0.5) / (np.asarray(baseline, dtype=float) + 0.5))
    return rank_correlation(profile[..., known], moved[..., known])


def rank_correlation(first: Array, second: Array) -> Array:
    """Return Spearman's correlation [...] of numbers [..., C], -1 to 1; 0 where either does not vary."""
    a, b = _centred_ranks(first), _centred_ranks(second)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), scale, out=np.zeros(np.shape(scale)), where=scale > 0)


def total_variation(counts: ArrayLike, baseline: ArrayLike) -> Array:
    """Return the share of texts [...] by which two label counts [..., C] of the same texts differ, 0 to 1."""
    new, old = np.asarray(counts, dtype=float), np.asarray(baseline, dtype=float)
    return np.abs(new - old).sum(axis=-1) / 2 / new.sum(axis=-1)


def label_counts(answers: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Return the counts [r, k, 13] of `answers` [n, k] (label ids) when the texts are drawn `weights` [r, n] times.

    Without weights each text counts once, [1, k, 13].
    """
    ids = np.asarray(answers)
    chosen = (ids[:, :, None] == np.arange(len(EMOTIONS))).reshape(len(ids), -1).astype(float)
    drawn = np.ones((1, len(ids))) if weights is None else np.asarray(weights, dtype=float)
    return (drawn @ chosen).reshape(len(drawn), ids.shape[1], len(EMOTIONS))


def score_statistic(expected: Array, answers: NDArray[np.integer], clean: NDArray[np.integer]) -> Statistic:
    """Return the statistic "theory score of each column of `answers` [n, k]", expectations [k, 13], for `bootstrap`.

    `clean` are the answers without the intervention, [n] or of each column [n, k]: a resample changes the baseline too.
    Each column is scored over the labels of which its own expectation is known.
    """
    base = np.reshape(clean, (len(clean), -1))

    def statistic(weights: Array) -> Array:
        counts, before = label_counts(answers, weights), label_counts(base, weights)
        before = np.broadcast_to(before, counts.shape)
        groups: dict[bytes, list[int]] = {}
        for column, known in enumerate(np.isfinite(expected)):
            groups.setdefault(known.tobytes(), []).append(column)
        scores = np.empty(counts.shape[:2])
        for columns in groups.values():
            scores[:, columns] = theory_score(expected[columns], counts[:, columns], before[:, columns])
        return scores

    return statistic


def variation_statistic(answers: NDArray[np.integer], clean: NDArray[np.integer]) -> Statistic:
    """Return the statistic "total variation from the baseline, of each column of `answers` [n, k]".

    `clean` [n] or [n, k] are the answers of the baseline.
    """
    base = np.reshape(clean, (len(clean), -1))
    return lambda weights: total_variation(label_counts(answers, weights), label_counts(base, weights))


def against(expected: Array, answers: NDArray[np.integer], clean: NDArray[np.integer]) -> Array:
    """Return 1 for each of `answers` [n, k] that is another than `clean`, [n] or [n, k], and expected to become rarer.

    `expected` [k, 13] are the shifts that theory expects of each of the k interventions; else 0.
    """
    ids = np.asarray(answers)
    rarer = np.take_along_axis(np.asarray(expected, dtype=float).T < 0, ids, axis=0)
    return (rarer & (ids != np.reshape(clean, (len(ids), -1)))).astype(float)


def _centred_ranks(values: Array) -> Array:
    # Thirteen comparisons of whole arrays instead of a sort of each: thousands of resamples are ranked at once.
    # Rounded, because counts that are equal in theory may differ in their logarithms' last bit.
    values = np.round(values, 9)
    each = np.moveaxis(values, -1, 0)[..., None]
    return np.stack([((values < x).sum(axis=-1) - (values > x).sum(axis=-1)) / 2.0 for x in each], axis=-1)

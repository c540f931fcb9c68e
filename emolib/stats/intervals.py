"""Intervals and tests for texts that come in groups: several texts by one writer are not independent.

`cluster_bootstrap` and `cluster_wilson` serve means and shares; `bootstrap` gives any statistic of `stats.scores`
(balanced accuracy, R2, correlation, landmarks of curves) a 95% interval by drawing whole groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata, t

from emolib.stats.scores import Array, Statistic, as_columns, as_table

LEVEL = 0.95
# Resamples handled at once, so that memory stays at CHUNK x n numbers however many are asked for.
CHUNK = 256
ENOUGH = 100  # draws whose quantiles can be trusted
UNDRAWN = 0.01  # share of the resamples that may draw nothing of a column


@dataclass(frozen=True)
class Interval:
    """Estimates and the ends of their 95% intervals, three arrays of one shape; an interval contains its estimate."""

    value: Array
    ci_low: Array
    ci_high: Array

    def rows(
        self, keys: Mapping[str, Any] | Iterable[Mapping[str, Any]] | pd.DataFrame, **constants: Any
    ) -> list[dict[str, Any]]:
        """One row of a table for each number: its keys (one mapping where there is one number, a row of a sweep's frame
        otherwise), the constants, and value, ci_low and ci_high. Raises ValueError where keys and numbers are not
        equally many."""
        ends = [np.ravel(getattr(self, name)).tolist() for name in ("value", "ci_low", "ci_high")]
        each = keys.to_dict("records") if isinstance(keys, pd.DataFrame) else keys
        named: list[Mapping[Any, Any]] = [each] if isinstance(each, Mapping) else list(each)
        if len(named) != len(ends[0]):
            raise ValueError(f"{len(named)} keys for {len(ends[0])} numbers: give one mapping a number")
        return [
            {**key, **constants, "value": value, "ci_low": low, "ci_high": high}
            for key, value, low, high in zip(named, *ends, strict=True)
        ]

    def __getitem__(self, index: Any) -> Interval:
        """The interval of part of the numbers."""
        return Interval(self.value[index], self.ci_low[index], self.ci_high[index])

    def map(self, change: Callable[[Array], Array]) -> Interval:
        """The interval of a rising function of the numbers, such as a depth of a layer."""
        return Interval(change(self.value), change(self.ci_low), change(self.ci_high))


def point(values: ArrayLike) -> Interval:
    """Return numbers that have no interval, as one whose ends are missing, for its `rows`."""
    numbers = np.asarray(values, dtype=float)
    missing = np.full_like(numbers, np.nan)
    return Interval(numbers, missing, missing)


def cluster_bootstrap(
    values: ArrayLike, groups: ArrayLike, *, weights: ArrayLike | None = None, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the mean of each column of `values` [n, k] (or [n]) with its interval, resampling `groups` [n].

    Weights are [n] or [n, k] and not negative; 0 leaves a text out of a column. Every resample serves all columns, so
    the intervals of a curve belong together; one that draws no weight in a column is left out of that column. With G
    groups the cost is one [n_resamples, G] @ [G, k] product. Raises ValueError for a column of which more than one
    resample in a hundred draws nothing.
    Shares near 0 or 1 are better served by `cluster_wilson`, which does not collapse there.
    """
    table = as_table(values, "values")
    codes, n_groups = _codes(groups, len(table))
    weight = np.ones_like(table) if weights is None else np.broadcast_to(as_columns(weights), table.shape)
    if (weight < 0).any() or (weight.sum(axis=0) == 0).any():
        raise ValueError("weights are negative, or all zero in a column: give each column at least one positive weight")
    total, mass = _group_sums(weight * table, codes, n_groups), _group_sums(weight, codes, n_groups)
    counts = _group_counts(n_groups, n_resamples, seed)
    drawn = counts @ mass
    if ((drawn == 0).mean(axis=0) > UNDRAWN).any():
        raise ValueError("resamples draw no weight in some column: too few groups carry it, pool or drop the column")
    draws = np.divide(counts @ total, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    quantile = np.quantile if (drawn > 0).all() else np.nanquantile
    found = _interval(total.sum(axis=0) / mass.sum(axis=0), draws, n_groups, quantile=quantile)
    return found[0] if np.ndim(values) == 1 else found


def bootstrap(
    statistic: Statistic,
    groups: ArrayLike,
    *,
    ends: Literal["percentile", "symmetric"] = "percentile",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the statistic on all texts with its interval, resampling `groups` [n].

    Noise lowers a rank correlation, and resamples are noisier than the sample: all of them may lie on one side of the
    estimate. `ends="symmetric"` reaches equally far to both, as far as 95% of the resamples lie from the estimate.
    What either covers is the mean over samples of this size; of infinitely many texts a rank correlation is higher.
    """
    estimate, draws = resample(statistic, groups, n_resamples=n_resamples, seed=seed)
    n_groups = len(np.unique(np.asarray(groups)))
    if ends == "percentile":
        return _interval(estimate, draws, n_groups)
    half = np.quantile(np.abs(draws - estimate), 1 - 2 * _tail(n_groups), axis=0)
    return Interval(estimate, estimate - half, estimate + half)


def resample(statistic: Statistic, groups: ArrayLike, *, n_resamples: int = 2000, seed: int = 0) -> tuple[Array, Array]:
    """Return the statistic on all texts [k] and in every resample [n_resamples, k]; equal seeds draw equal groups."""
    codes, n_groups = _codes(groups, len(np.asarray(groups)))
    counts = _group_counts(n_groups, n_resamples, seed)
    estimate = np.asarray(statistic(np.ones((1, len(codes)))), dtype=float)[0]
    starts = range(0, n_resamples, CHUNK)
    draws = [np.asarray(statistic(counts[start : start + CHUNK][:, codes]), dtype=float) for start in starts]
    return estimate, np.concatenate(draws)


def bootstrap_weights(groups: ArrayLike, n_resamples: int = 2000, seed: int = 0) -> Array:
    """Return [n_resamples, n]: how often each text is drawn when whole groups are drawn with replacement."""
    codes, n_groups = _codes(groups, len(np.asarray(groups)))
    return _group_counts(n_groups, n_resamples, seed)[:, codes]


def wilson(successes: ArrayLike, n: ArrayLike) -> Interval:
    """Return the share successes / n, of independent trials, with Wilson's score interval (n may be fractional)."""
    hits, trials = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(n, dtype=float))
    if (trials <= 0).any() or (hits < 0).any() or (hits > trials).any():
        raise ValueError("successes must lie between 0 and n, and n above 0: check which counts are given")
    return _wilson(hits / trials, trials, norm.ppf(0.5 + LEVEL / 2))


def cluster_wilson(values: ArrayLike, groups: ArrayLike) -> Interval:
    """Return the share of ones in each column of `values` [n, k] (or [n]) with Wilson's interval for grouped texts.

    The variance of the share is that between groups; see `design_wilson`.
    """
    table = as_table(values, "values")
    if not np.isin(table, (0, 1)).all():
        raise ValueError("values are not all 0 or 1: shares need outcomes, use cluster_bootstrap for other means")
    codes, n_groups = _codes(groups, len(table))
    n, share = len(table), table.mean(axis=0)
    deviation = _group_sums(table - share, codes, n_groups)
    variance = (deviation**2).sum(axis=0) / n**2 * n_groups / (n_groups - 1)
    found = design_wilson(share, variance, n, n_groups)
    return found[0] if np.ndim(values) == 1 else found


def macro_auroc(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> Interval:
    """Return how well scores [n, k, C] tell each label's texts from all others, k areas under the ROC curve, 0 to 1.

    The mean over the labels of the chance that a text of a label has a higher score of it than a text of another one;
    0.5 by chance. A number added to a label's score in all texts, or anything else that leaves their order, changes
    nothing. `labels` [n] number the last axis; those of no text or of all are left out. Intervals are those of the
    logit with the variance of grouped texts (Obuchowski 1997). Raises ValueError where only one label has texts.
    """
    table, truth = np.asarray(scores, dtype=float), np.asarray(labels)
    codes, n_groups = _codes(groups, len(table))
    counts = np.bincount(truth, minlength=table.shape[2])
    asked = np.flatnonzero((counts > 0) & (counts < len(table)))
    if not len(asked):
        raise ValueError("all texts have one label: areas under the curve need two labels at least")
    area, pull = np.zeros(table.shape[1]), np.zeros(table.shape[:2])
    for label in asked:
        mine, ranks = truth == label, rankdata(table[:, :, label], axis=0)
        for own in (mine, ~mine):
            # of the texts on the other side, the share that a text has on its right side; ties count half
            below = ranks[own] - rankdata(table[own, :, label], axis=0)
            share = below / (~own).sum() if own is mine else 1 - below / (~own).sum()
            pull[own] += (share - share.mean(axis=0)) / own.sum() / len(asked)
        area += share.mean(axis=0) / len(asked)
    variance = (_group_sums(pull, codes, n_groups) ** 2).sum(axis=0) * n_groups / (n_groups - 1)
    ends = _wilson(area, np.full_like(area, n_groups), t.ppf(0.5 + LEVEL / 2, n_groups - 1))  # where nothing varies
    known = (variance > 0) & (area > 0) & (area < 1)
    inner = np.where(known, area, 0.5)
    half = t.ppf(0.5 + LEVEL / 2, n_groups - 1) * np.sqrt(variance) / (inner * (1 - inner))
    low, high = (expit(logit(inner) + sign * half) for sign in (-1, 1))
    return Interval(area, np.where(known, low, ends.ci_low), np.where(known, high, ends.ci_high))


def design_wilson(share: Array, variance: Array, n: int, n_groups: int) -> Interval:
    """Return the shares [k] of n texts or pairs with Wilson's interval, given their `variance` [k] over the groups.

    n is divided by the design effect, the variance over that of independent texts, at least 1 (Korn and Graubard, 1998,
    with Wilson's interval). Where all values are equal it cannot be estimated, and n is the number of groups.
    """
    independent = share * (1 - share) / n
    effect = np.divide(variance, independent, out=np.full_like(share, n / n_groups), where=independent > 0)
    return _wilson(share, n / np.maximum(effect, 1.0), t.ppf(0.5 + LEVEL / 2, n_groups - 1))


def null_band(draws: Array, *, level: float = LEVEL) -> Interval:
    """Return the mean of the `draws` [r, ...] of a null, and the ends between which a share `level` of new ones lies.

    These are quantiles where there are `ENOUGH` draws; fewer seldom reach as far out as new ones do, and have the
    prediction interval of Student's t instead.
    """
    mean, tail = draws.mean(axis=0), (1 - level) / 2
    if len(draws) >= ENOUGH:
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    else:
        half = t.ppf(1 - tail, len(draws) - 1) * np.sqrt(1 + 1 / len(draws)) * draws.std(axis=0, ddof=1)
        low, high = mean - half, mean + half
    return Interval(mean, np.minimum(low, mean), np.maximum(high, mean))


def permutation_p(observed: ArrayLike, null: ArrayLike) -> Array:
    """Return the p value of an `observed` [...] that is large among `null` [r, ...], r random relabellings.

    The observed value counts as one of the relabellings, so p is never below 1 / (r + 1).
    """
    draws = np.asarray(null, dtype=float)
    return (1 + (draws >= np.asarray(observed, dtype=float)).sum(axis=0)) / (1 + len(draws))


def _interval(
    estimate: Array, draws: Array, n_groups: int, *, quantile: Callable[..., Array] = np.quantile
) -> Interval:
    tail = _tail(n_groups)
    low, high = quantile(draws, [tail, 1 - tail], axis=0)
    # The estimate itself always belongs to the interval.
    return Interval(estimate, np.minimum(low, estimate), np.maximum(high, estimate))


def _tail(n_groups: int) -> float:
    # Percentiles are taken a little further out when groups are few (Hesterberg 2015): plain ones are too narrow by
    # sqrt((G - 1) / G) and use the normal where t belongs.
    return float(norm.cdf(-np.sqrt(n_groups / (n_groups - 1)) * t.ppf(0.5 + LEVEL / 2, n_groups - 1)))


def _wilson(share: Array, trials: Array, z: float) -> Interval:
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # rounding alone can put an end a hair beyond 0, 1 or the share itself
    low, high = np.minimum(centre - half, share), np.maximum(centre + half, share)
    return Interval(share, np.clip(low, 0, 1), np.clip(high, 0, 1))


@lru_cache(maxsize=2)
def _group_counts(n_groups: int, n_resamples: int, seed: int) -> Array:
    # A run draws the same resamples for every site: drawing them took longer than the statistics.
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    counts = drawn.astype(float)
    counts.flags.writeable = False
    return counts


def _group_sums(table: Array, codes: NDArray[np.intp], n_groups: int) -> Array:
    sums = np.zeros((n_groups, table.shape[1]))
    np.add.at(sums, codes, table)
    return sums


def _codes(groups: ArrayLike, n: int) -> tuple[NDArray[np.intp], int]:
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if np.ndim(groups) != 1 or len(codes) != n:
        raise ValueError(f"groups have shape {np.shape(groups)}, the texts are {n}: give one group a text")
    if len(names) < 2:
        raise ValueError(f"there are {len(names)} groups: resampling groups needs at least 2")
    return codes, len(names)

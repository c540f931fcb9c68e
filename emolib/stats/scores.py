"""Scores as functions of resampling weights, for `emolib.stats.intervals.bootstrap`.

A statistic takes `[r, n]`, how often each of the n texts is drawn in each of r resamples, and returns `[r, k]`, its
value in every resample for k columns (layers, conditions). Weights of 1 give the plain value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]


def mean(values: ArrayLike) -> Statistic:
    """Return the statistic "mean of each column" of `values` [n, k] or [n]."""
    table = as_table(values, "values")
    return lambda weights: weights @ table / weights.sum(axis=1, keepdims=True)


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the statistic "recall averaged over the classes in `truth` [n]" of `predicted` [n, k], 0 to 1.

    A resample without any text of some class averages over the others.
    """
    correct = (as_columns(predicted) == as_columns(truth)).astype(float)
    members = [np.flatnonzero(np.asarray(truth) == label) for label in np.unique(np.asarray(truth))]

    def statistic(weights: Array) -> Array:
        mass = np.stack([weights[:, rows].sum(axis=1) for rows in members], axis=1)[:, :, None]
        hits = np.stack([weights[:, rows] @ correct[rows] for rows in members], axis=1)
        recall = np.divide(hits, mass, out=np.zeros_like(hits), where=mass > 0)
        return recall.sum(axis=1) / (mass > 0).sum(axis=1)

    return statistic


def r2(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the statistic R2 of `predicted` [n, k] about `truth` [n] or [n, k], 1 at best, 0 for the mean."""
    guess = as_table(predicted, "predicted")
    target = np.broadcast_to(as_columns(truth), guess.shape)
    # centred first: the sums of squares below would otherwise cancel in floating point
    target, residual = target - target.mean(axis=0), target - guess

    def statistic(weights: Array) -> Array:
        mass = weights.sum(axis=1, keepdims=True)
        spread = weights @ target**2 - (weights @ target) ** 2 / mass
        return 1 - (weights @ residual**2) / spread

    return statistic


def pearson(x: ArrayLike, y: ArrayLike) -> Statistic:
    """Return the statistic "Pearson's r of each column of `x` [n, k] with that of `y` [n, k]"."""
    a, b = (values - values.mean(axis=0) for values in (np.asarray(x, dtype=float), np.asarray(y, dtype=float)))

    def statistic(weights: Array) -> Array:
        w = weights / weights.sum(axis=1, keepdims=True)
        ma, mb = w @ a, w @ b
        return (w @ (a * b) - ma * mb) / np.sqrt((w @ a**2 - ma**2) * (w @ b**2 - mb**2))

    return statistic


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the statistic "`first` minus `second`", both of the same resample."""
    return lambda weights: first(weights) - second(weights)


def or_zero(statistic: Statistic) -> Statistic:
    """Return the statistic, 0 where it is undefined: where few texts are drawn a rating may not vary at all, and there
    is nothing to explain."""

    def defined(weights: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(statistic(weights), nan=0.0, posinf=0.0, neginf=0.0)

    return defined


def as_columns(values: ArrayLike) -> NDArray[Any]:
    """Return the values as [n, columns]; [n] becomes one column."""
    array = np.asarray(values)
    return array[:, None] if array.ndim == 1 else array


def as_table(values: ArrayLike, name: str) -> Array:
    """Return the values as finite numbers [n, columns]; anything else raises a ValueError that names them."""
    table = as_columns(np.asarray(values, dtype=float))
    if table.ndim != 2 or not len(table) or not np.isfinite(table).all():
        raise ValueError(f"{name} have shape {np.shape(values)} or gaps: give finite numbers [n] or [n, columns]")
    return table

"""Directions of classes and of ratings in one sample of activations, their cosines, and what they are worth.

All closed-form directions are covariances of activations with a column of targets: with the indicator of a class it is
the class mean minus the grand mean (times the class share), with a rating the direction along which it rises. They are
linear in the targets, so resampled writers and shuffled targets cost one matrix product each. A `metric` M turns a
covariance c into c @ M before cosines are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from emolib import stats
from emolib.probes.directions import unit
from emolib.probes.linear import shuffled_labels
from emolib.stats.sampling import halves
from emolib.stats.scores import Array

Scale = Literal["cosine", "plain"]


class Sample:
    """The texts `rows` with their `labels` [n] and ratings, and how chance might have had them.

    `targets` [n, C + K] are class indicators, then ratings, `groups` [n] the writers. `weights` [draws, n] is how often
    each text comes in resamples of whole writers, `orders` [draws, n] hand the targets of writers to other writers,
    `halves` [splits, n] are texts in a random half of the writers.
    """

    def __init__(
        self,
        labels: np.ndarray,
        ratings: Array,
        groups: np.ndarray,
        rows: np.ndarray,
        *,
        n_classes: int,
        draws: int,
        splits: int,
        seed: int,
    ) -> None:
        self.rows, self.labels, self.groups, self.n_classes = rows, labels[rows], groups[rows], n_classes
        onehot, places = np.eye(n_classes, dtype=np.float32)[self.labels], np.arange(len(rows))
        self.targets = torch.as_tensor(np.concatenate([onehot, ratings[rows]], axis=1), dtype=torch.float32)
        self.weights = torch.as_tensor(stats.bootstrap_weights(self.groups, draws, seed), dtype=torch.float32)
        self.halves = np.stack([halves(self.groups, seed=seed + split) for split in range(splits)])
        self.orders = np.stack([shuffled_labels(places, self.groups, seed=seed + draw) for draw in range(draws)])

    @property
    def present(self) -> np.ndarray:
        """Which classes [C] have texts."""
        return np.bincount(self.labels, minlength=self.n_classes) > 0


@dataclass(frozen=True, kw_only=True)
class Cosines:
    """Cosines [C, K] of class and rating directions with what is needed to judge them; NaN for absent classes.

    `replicates` [B, C, K] are from resampled or left-out writers; `factor` times their standard deviation is the
    standard error. `split` [S, C, K]: classes from one half of the writers and ratings from the other, which share no
    accidents. `apart` [P, C, K]: the ratings went to other writers; `together` [Q, C, K]: labels and ratings did.
    """

    value: Array
    replicates: Array
    factor: float
    split: Array
    apart: Array
    together: Array


class Moments:
    """Covariances [C + K, d] of activations with a sample's targets, `resampled` [B, C + K, d], `shuffled` [P, ...],
    `halved` [2, S, ...] in either half; `shares` [B + 1, C] of the classes on all texts (first) and in every resample.
    """

    def __init__(self, features: Tensor, of: Sample) -> None:
        x, self.n_classes = features - features.mean(0), of.n_classes
        targets = of.targets.to(x)
        first = torch.as_tensor(of.halves).to(of.weights)
        weights = torch.cat([torch.ones_like(of.weights[:1]), of.weights, first, 1 - first]).to(x)
        weights = weights / weights.sum(1, keepdim=True)
        centre, mean = weights @ x, weights @ targets
        columns = [(weights * y) @ x - m[:, None] * centre for y, m in zip(targets.T, mean.T, strict=True)]
        value, self.resampled, halved = torch.stack(columns, dim=1).split([1, len(of.weights), 2 * len(first)])
        self.value, self.halved = value[0], halved.unflatten(0, (2, -1))
        centred = targets - targets.mean(0)
        self.shuffled = torch.stack([centred[torch.as_tensor(order)].T @ x / len(x) for order in of.orders])
        self.shares = mean[: 1 + len(of.weights), : of.n_classes]

    def cosines(self, metric: Tensor) -> Cosines:
        """The cosines of class directions with rating directions after `metric` [d, d]."""
        value, resampled, halved, moved = (
            unit((part @ metric).double()) for part in (self.value, self.resampled, self.halved, self.shuffled)
        )

        def between(part: Tensor, other: Tensor) -> Array:
            classes, ratings = part[..., : self.n_classes, :], other[..., self.n_classes :, :]
            return (classes @ ratings.transpose(-1, -2)).cpu().numpy()

        return Cosines(
            value=between(value, value),
            replicates=between(resampled, resampled),
            factor=1.0,
            split=between(halved, halved.flip(0)).mean(0),
            apart=between(value, moved),
            together=between(moved, moved),
        )


def metrics(features: Tensor, labels: np.ndarray) -> dict[str, Tensor]:
    """The metrics [d, d]: mean_difference (none), lda (inverse covariance within classes) and whitened (its root).

    The covariance is Ledoit and Wolf's of standardised features.
    """
    x, classes = features.double(), torch.as_tensor(labels, device=features.device)
    onehot = torch.nn.functional.one_hot(classes).to(x)
    within = x - ((onehot.T @ x) / onehot.sum(0)[:, None].clamp_min(1))[classes]
    scale = x.std(0, correction=0).clamp_min(1e-12)
    covariance, _ = ledoit_wolf((within / scale).cpu().numpy(), assume_centered=True)
    precision = torch.linalg.inv(torch.as_tensor(covariance).to(x))
    root = torch.linalg.cholesky((precision + precision.T) / 2)
    lda = precision / scale / scale[:, None]
    found = {"mean_difference": torch.eye(len(scale)).to(x), "whitened": root / scale[:, None], "lda": lda}
    return {name: matrix.to(features) for name, matrix in found.items()}


def components(centroids: Tensor) -> tuple[Array, Array]:
    """Shares [..., C - 1] of the variance between `centroids` [..., C, d], and their coordinates [..., C, C - 1]."""
    centred = (centroids - centroids.mean(-2, keepdim=True)).double()
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(-1, -2))
    values, vectors = values.flip(-1)[..., :-1].clamp_min(0), vectors.flip(-1)[..., :-1]
    shares = values / values.sum(-1, keepdim=True)
    return shares.cpu().numpy(), (vectors * values[..., None, :].sqrt()).cpu().numpy()


def correlation(coordinates: Array, outer: Array) -> Array:
    """Pearson's r [...] of `coordinates` [..., C] with `outer` [C], its sign left out: that of a component is free."""
    a, b = coordinates - coordinates.mean(-1, keepdims=True), outer - outer.mean(-1, keepdims=True)
    return np.abs((a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))


def interval(value: Array, replicates: Array, *, factor: float = 1.0, scale: Scale = "plain") -> stats.Interval:
    """`value` with its 95% interval from the standard error, `factor` times the SD over `replicates` [B, ...].

    "cosine" works on the scale of Fisher's z, so that the ends stay within -1 and 1. Unlike percentiles this does not
    move when resampling adds noise of its own to both directions, which raises or lowers every replicate alike.
    """
    to, back = (np.arctanh, np.tanh) if scale == "cosine" else (np.asarray, np.asarray)
    safe = (np.clip(part, -1 + 1e-9, 1 - 1e-9) if scale == "cosine" else part for part in (value, replicates))
    middle, draws = (to(part) for part in safe)
    half = student.ppf(0.5 + stats.LEVEL / 2, len(draws) - 1) * factor * draws.std(axis=0, ddof=1)
    return stats.Interval(value, np.minimum(back(middle - half), value), np.maximum(back(middle + half), value))

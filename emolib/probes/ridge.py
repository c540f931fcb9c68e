"""Predicting ratings (E6): ridge regression, also with its penalty chosen inside, and the label-only baseline.

One Gram matrix a training part is all it needs; all folds together cost as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from emolib.probes.solvers import Standardise, check_shapes, shared_coordinates
from emolib.stats.scores import Array

ALPHAS = (10.0, 100.0, 1e3, 1e4, 1e6)  # of standardised features; the last leaves little but the mean
UNPENALISED = 1e-7


def fit_ridge(
    features: Tensor,
    targets: Tensor,
    train: Tensor,
    *,
    alphas: Sequence[float] = (5.0,),
    standardise: Standardise = "train",
) -> tuple[Tensor, Tensor]:
    """Weights [F, A, T, d] and bias [F, A, T] in raw units (float64), equal to scikit-learn's `Ridge` (E6).

    `features` [n, d], `targets` [n, T], `train` [F, n] bool. The paper's: ``alphas=(5.0,), standardise="none"``. Raises
    ValueError for a penalty that is not positive, or that is lost to rounding beside the features, and without a row.
    """
    train, targets = (torch.as_tensor(t, device=features.device) for t in (train, targets))
    check_shapes(features, train, "train")
    check_shapes(features, targets.T, "targets.T")
    if min(alphas) <= 0 or not train.any(1).all():
        raise ValueError(f"alphas {tuple(alphas)} must be positive (1e-6: least squares) and no training part empty")
    used = train.bool().any(0)
    x, train = features[used].double(), train[:, used].bool()
    centre, scale, penalty = shared_coordinates(x, train.double(), standardise)
    weights, bias = _solve((x - centre) / scale, targets[used], train, alphas=alphas, penalty=penalty)
    return weights / scale, bias - weights / scale @ centre


def cross_validate_ridge(
    features: Tensor,
    targets: Tensor,
    folds: np.ndarray,
    *,
    alphas: Sequence[float] = (5.0,),
    standardise: Standardise = "train",
) -> np.ndarray:
    """Held-out ratings [A, n, T] of every text; arguments as in `fit_ridge`."""
    train = folds != np.arange(int(folds.max()) + 1)[:, None]
    weights, bias = fit_ridge(features, targets, torch.as_tensor(train), alphas=alphas, standardise=standardise)
    ratings = torch.empty(len(alphas), len(folds), weights.shape[2], dtype=torch.float64, device=features.device)
    for fold in range(len(train)):
        rows = torch.as_tensor(folds == fold, device=features.device)
        ratings[:, rows] = features[rows].double() @ weights[fold].transpose(1, 2) + bias[fold][:, None]
    return ratings.cpu().numpy()


def nested_ridge(
    features: Tensor,
    targets: ArrayLike,
    folds: np.ndarray,
    *,
    free: ArrayLike | None = None,
    alphas: tuple[float, ...] = ALPHAS,
) -> tuple[Array, Array]:
    """Held-out predictions [n, T] of `targets` [n, T], and the alpha [F, T] chosen for each fold.

    Features are standardised on the training part. The alpha of a fold and target is the one with the least squared
    error in cross-validation over the other folds, so no fold takes part in choosing for itself. Columns of `free`
    [n, m] enter without penalty, as covariates.
    """
    x, y = features.double(), torch.tensor(np.asarray(targets), dtype=torch.float64, device=features.device)
    d, n_folds = x.shape[1], int(folds.max()) + 1
    if free is not None:
        x = torch.cat([x, torch.as_tensor(np.asarray(free, dtype=float), device=x.device)], dim=1)
    # One regression without each pair of folds serves both: the one chooses for, and is tested on, the other.
    pairs = [(f, g) for f in range(n_folds) for g in range(f, n_folds)]
    train = torch.as_tensor(np.stack([(folds != f) & (folds != g) for f, g in pairs]), device=x.device)
    centre, scale, penalty = shared_coordinates(x, train.double(), "train")
    penalty[:, d:] = UNPENALISED
    x = (x - centre) / scale
    weights, bias = _solve(x, y, train, alphas=alphas, penalty=penalty)
    rows = [torch.as_tensor(folds == fold, device=x.device) for fold in range(n_folds)]
    parts = [(x[own], y[own]) for own in rows]

    def held_out(f: int, g: int, fold: int) -> tuple[Tensor, Tensor]:
        system, (texts, truth) = pairs.index((min(f, g), max(f, g))), parts[fold]
        guess = texts @ weights[system].flatten(0, 1).T + bias[system].flatten()  # one product for all alphas
        return guess.view(len(texts), *bias[system].shape).transpose(0, 1), truth

    predictions, chosen = np.empty(y.shape), np.empty((n_folds, y.shape[1]))
    for f in range(n_folds):
        inner = [held_out(f, g, g) for g in range(n_folds) if g != f]
        best = sum(((guess - truth).pow(2).sum(1) for guess, truth in inner), x.new_zeros(())).argmin(0)
        guess, _ = held_out(f, f, f)
        predictions[folds == f] = guess[best, :, torch.arange(y.shape[1])].T.cpu().numpy()
        chosen[f] = np.array(alphas)[best.cpu().numpy()]
    return predictions, chosen


def label_means(ratings: Array, labels: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Array:
    """Predictions [held-out texts, T] from the label alone: the mean rating of the label in the training part."""
    table = {label: ratings[train & (labels == label)].mean(axis=0) for label in np.unique(labels[train])}
    everyone = ratings[train].mean(axis=0)
    return np.stack([table.get(label, everyone) for label in labels[held_out]])


def held_out_means(ratings: Array, labels: np.ndarray, folds: np.ndarray) -> Array:
    """Predictions [n, T] of every text from its label, by the means of the other folds."""
    base = np.empty_like(ratings)
    for fold in np.unique(folds):
        base[folds == fold] = label_means(ratings, labels, folds != fold, folds == fold)
    return base


def _solve(
    x: Tensor, targets: Tensor, train: Tensor, *, alphas: Sequence[float], penalty: Tensor
) -> tuple[Tensor, Tensor]:
    """Coefficients [F, A, T, d] and intercepts [F, A, T] of ridge regressions, float64, as scikit-learn's `Ridge`.

    `x` [n, d], `targets` [n, T], `train` [F, n] bool, `penalty` [F, d] (1, or the squared scale to standardise).
    Rows with the same fold membership share one Gram matrix, which all folds that contain them add up; where there are
    more kinds of rows than folds, as with random halves, each fold has its own.
    """
    n_folds, (n, d) = len(train), x.shape
    patterns, block_of = torch.unique(train.T, dim=0, return_inverse=True)
    data = torch.cat([x, targets.to(x), x.new_ones(n, 1)], dim=1).double()
    total = data.new_zeros(n_folds, data.shape[1], data.shape[1])
    blocks = [(block_of == block, members) for block, members in enumerate(patterns)]
    if len(blocks) > n_folds:
        blocks = list(zip(train, torch.eye(n_folds, device=x.device).bool(), strict=True))
    for chosen, members in blocks:
        rows = data[chosen]
        total[members] += rows.T @ rows
    count, sums = total[:, -1, -1], total[:, -1, :-1]
    centred = total[:, :-1, :-1] - sums[:, :, None] * sums[:, None, :] / count[:, None, None]
    gram, cross = centred[:, :d, :d], centred[:, :d, d:]
    coefficients = data.new_empty(n_folds, len(alphas), d, targets.shape[1])
    for f in range(n_folds):
        for a, alpha in enumerate(alphas):
            factor, failed = torch.linalg.cholesky_ex(gram[f] + alpha * torch.diag(penalty[f].double()))
            if failed:
                raise ValueError(
                    f"a ridge regression on {int(count[f])} rows cannot be solved: activations are as large as "
                    f"{x.abs().max():.1g}, and beside their squares a penalty of {alpha:g} is lost to rounding; "
                    "a model that was trained has none that large"
                )
            coefficients[f, a] = torch.cholesky_solve(cross[f], factor)
    means = sums / count[:, None]
    intercepts = means[:, None, d:] - torch.einsum("fd,fadt->fat", means[:, :d], coefficients)
    return coefficients.transpose(2, 3), intercepts

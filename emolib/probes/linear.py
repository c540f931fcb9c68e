"""Linear probes, held-out predictions, and their controls (brief: E2).

Two settings stand side by side. *Ours*: standardised on the training part, grouped stratified folds, balanced accuracy.
*as_released*: the paper's code: raw features, C = 1, at most 100 lbfgs iterations, one random 80/20 split, seed 42.
Probes are stored in raw feature units, so that their rows are directions in the residual stream.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from threadpoolctl import threadpool_limits
from torch import Tensor

from emolib.probes.solvers import Standardise, check_shapes, minimise_softmax, shared_coordinates
from emolib.stats.scores import Statistic, balanced_accuracy, difference

RELEASED_NEEDS = "the paper's probes, trained on these alone, need 50 and two labels with 5 in either half"


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """K linear classifiers in raw feature units: `weights` [K, C, d], `bias` [K, C].

    Rows of classes without a training text are NaN and are never predicted. `error` [K] estimates
    ``||W - W_optimal|| / max(||W||, 1)`` in fitting coordinates, `converged` [K] is whether the tolerance was met
    within `iterations` [K].
    """

    weights: Tensor
    bias: Tensor
    converged: Tensor
    error: Tensor
    iterations: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Logits [K, n, C] of `features` [n, d]; -inf for classes the probe has never seen."""
        k, c, d = self.weights.shape
        flat = features.to(self.weights) @ self.weights.nan_to_num(0.0).reshape(k * c, d).T
        logits = flat.view(len(features), k, c).transpose(0, 1) + self.bias[:, None]
        return logits.masked_fill(self.bias.isnan()[:, None], -torch.inf)

    def predict(self, features: Tensor) -> Tensor:
        """Predicted label ids [K, n]."""
        return self.logits(features).argmax(2)


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    n_classes: int,
    C: float | Tensor = 1.0,
    standardise: Standardise = "train",
    tol: float = 5e-3,
    max_iter: int = 300,
) -> LinearProbe:
    """K multinomial logistic probes on the same `features` [n, d], equal to scikit-learn's `LogisticRegression`.

    `labels` [K, n] are ids below `n_classes`, `weights` [K, n] >= 0 select or weight texts (0: no influence at all, the
    label may be -1), `C` is scikit-learn's, one for all or one per problem. `tol` bounds `LinearProbe.error`. Runs on
    the device of `features`, in float32 or wider. Raises ValueError on shapes, values or labels that cannot be fitted.
    """
    labels = torch.as_tensor(labels, device=features.device).long()
    weights = torch.ones_like(labels) if weights is None else torch.as_tensor(weights, device=features.device)
    check_shapes(features, labels, "labels")
    check_shapes(features, weights, "weights")
    used = (weights > 0).any(0)
    x = features[used].to(torch.promote_types(features.dtype, torch.float32))
    weights = weights[:, used].to(x)
    if not (torch.isfinite(x).all() and torch.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("features and weights must be finite and weights not negative: give broken texts weight 0")
    y = torch.where(weights > 0, labels[:, used], 0)
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"labels run from {y.min()} to {y.max()}, expected 0..{n_classes - 1} wherever weights > 0")
    present = torch.zeros(len(y), n_classes, device=x.device).scatter_add_(1, y, weights.float()).gt(0).sum(1)
    if present.min() < 2:
        raise ValueError(f"problem {int(present.argmin())} has fewer than 2 classes in training: use more texts")
    centre, scale, penalty = shared_coordinates(x, weights, standardise)
    # With two classes scikit-learn penalises the single difference vector, twice as much as the two rows of a softmax.
    penalty = penalty * torch.where(present == 2, 2.0, 1.0).to(x)[:, None]
    strength = torch.as_tensor(C, dtype=x.dtype, device=x.device).reshape(-1, 1)
    x = ((x - centre) / scale).to(x.dtype)
    weights, bias, error, iterations = minimise_softmax(
        x, y, weights * strength, penalty=penalty, n_classes=n_classes, tol=tol, max_iter=max_iter
    )
    raw = weights.double() / scale
    bias = (bias.double() - raw @ centre).to(x.dtype)
    return LinearProbe(weights=raw.to(x.dtype), bias=bias, converged=error <= tol, error=error, iterations=iterations)


def fit_released(features: Tensor, labels: np.ndarray, *, n_classes: int) -> LinearProbe:
    """The paper's probe (E2 `as_released`, K = 1): scikit-learn's lbfgs on raw features, C = 1, at most 100 iterations.

    `features` [n, d], `labels` [n]. It often stops at the limit: see `converged`. `error` is NaN. It takes one thread:
    its products are small, and two threads that share the cores with others wait for each other most of the time.
    """
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=1.0, max_iter=100).fit(features.float().cpu().numpy(), np.asarray(labels))
    table = torch.as_tensor(np.column_stack([model.coef_, model.intercept_])).float()
    full = torch.full((1, n_classes, table.shape[1]), torch.nan)
    full[0, model.classes_] = torch.cat([-table, table]) / 2 if len(model.classes_) == 2 else table
    steps = torch.as_tensor(model.n_iter_[:1]).long()
    return LinearProbe(
        weights=full[..., :-1],
        bias=full[..., -1],
        converged=steps < 100,
        error=torch.full((1,), torch.nan),
        iterations=steps,
    )


def cross_validate(
    features: Tensor,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    n_classes: int,
    subset: np.ndarray | None = None,
    **options: Any,
) -> tuple[np.ndarray, LinearProbe]:
    """Held-out label ids [T, n] of every text for T targets at once, and the T * F probes (target-major) behind them.

    `labels` [T, n], `folds` [n] from `grouped_folds`. `subset` [T, n] bool restricts training (to the agreed set, say);
    texts outside are predicted too, by the probe of their fold. `options` are those of `fit_logistic`. Raises
    ValueError when too few texts are left.
    """
    labels, n_folds = np.asarray(labels), int(folds.max()) + 1
    subset = np.ones(labels.shape, bool) if subset is None else np.asarray(subset, bool)
    if labels.shape != subset.shape or labels.shape[1:] != np.shape(folds) or len(folds) != len(features):
        raise ValueError(
            f"labels {labels.shape}, subset {subset.shape}, folds {np.shape(folds)} and features "
            f"{tuple(features.shape)} differ: expected [T, n], [T, n], [n] and [n, d]"
        )
    for target, members in zip(labels, subset, strict=True):
        check_probeable(target[members], folds[members], n_folds=n_folds)
    train = subset[:, None] & (folds != np.arange(n_folds)[:, None])
    probe = fit_logistic(
        features,
        torch.as_tensor(labels.repeat(n_folds, axis=0)),
        torch.as_tensor(train.reshape(-1, len(folds))),
        n_classes=n_classes,
        **options,
    )
    everywhere = probe.predict(features).cpu().numpy().reshape(len(labels), n_folds, -1)
    return everywhere[:, folds, np.arange(len(folds))], probe


def nested_logistic(
    features: Tensor, labels: np.ndarray, folds: np.ndarray, *, n_classes: int, strengths: Sequence[float]
) -> tuple[np.ndarray, list[float]]:
    """Held-out label ids [T, n] of T targets, and the C of each fold: of `strengths` the best on the other folds.

    C is chosen by the first target, and one regression without each pair of folds serves both, as in `nested_ridge`.
    Raises ValueError when there are too few texts.
    """
    n_folds = int(folds.max()) + 1
    check_probeable(labels[0], folds, n_folds=n_folds)
    pairs = [(f, g) for f in range(n_folds) for g in range(f)]
    train = np.stack([(folds != f) & (folds != g) for f, g in pairs] * len(strengths))
    probe = fit_logistic(
        features,
        torch.as_tensor(np.tile(labels[0], (len(train), 1))),
        torch.as_tensor(train),
        n_classes=n_classes,
        C=torch.tensor(tuple(strengths)).repeat_interleave(len(pairs)),
    )
    right = (probe.predict(features).cpu().numpy() == labels[0]).reshape(len(strengths), len(pairs), -1)
    chosen = []
    for fold in range(n_folds):
        inner = [right[:, i][:, folds == sum(pair) - fold].sum(1) for i, pair in enumerate(pairs) if fold in pair]
        chosen.append(strengths[int(np.sum(inner, axis=0).argmax())])
    train = np.repeat(folds != np.arange(n_folds)[:, None], len(labels), axis=0)
    probe = fit_logistic(
        features,
        torch.as_tensor(np.tile(labels, (n_folds, 1))),
        torch.as_tensor(train),
        n_classes=n_classes,
        C=torch.tensor(chosen).repeat_interleave(len(labels)),
    )
    everywhere = probe.predict(features).cpu().numpy().reshape(n_folds, len(labels), -1)
    return everywhere[folds, :, np.arange(len(folds))].T, chosen


def grouped_folds(labels: np.ndarray, groups: np.ndarray, *, n_folds: int = 5, seed: int) -> np.ndarray:
    """Fold number [n] of every text, stratified by `labels` [n]; no group (writer) is in two folds."""
    folds = np.empty(len(labels), int)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros((len(labels), 1)), labels, groups)):
        folds[held_out] = fold
    return folds


def released_split(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The paper's training and test part of the texts `rows` (`as_released`: random 80/20, seed 42, not grouped).

    `rows` are the texts that the model answers right, `labels` [N] those of all. None when there are too few of `rows`
    to probe: `RELEASED_NEEDS`. Raises ValueError where all texts would be too few.
    """
    check_probeable(np.sort(labels), np.arange(len(labels)) % 2, n_folds=2)  # sorted: each label is in both halves
    if not probeable(labels[rows], np.arange(len(rows)) % 2, n_folds=2):
        return None
    train, test = train_test_split(rows, test_size=0.2, random_state=42)
    return train, test


def probeable(labels: np.ndarray, folds: np.ndarray, *, n_folds: int) -> bool:
    """Whether there are texts enough for `check_probeable`."""
    try:
        check_probeable(labels, folds, n_folds=n_folds)
    except ValueError:
        return False
    return True


def check_probeable(labels: np.ndarray, folds: np.ndarray, *, n_folds: int) -> None:
    """Nothing; raises ValueError below 50 texts or without two classes that have 5 texts in every fold."""
    ids, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes * n_folds + folds, minlength=len(ids) * n_folds).reshape(-1, n_folds).min(axis=1)
    if len(labels) < 50 or (counts >= 5).sum() < 2:
        smallest = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        raise ValueError(
            f"too few texts to probe: {len(labels)}, smallest fold count per label id {smallest}; expected at least 50 "
            "and two labels with 5 in every fold: use more texts, fewer folds, calibration, or the writer's label"
        )


def shuffled_labels(labels: np.ndarray, groups: np.ndarray, *, seed: int) -> np.ndarray:
    """Control labels [n]: the same multiset (class balance), runs of one group's labels handed to other groups.

    Groups are laid out in one random order and read in another; labels of a writer stay together as far as sizes allow,
    so the control keeps the dependence within writers that shuffling single texts would destroy.
    """
    rng = np.random.default_rng(seed)
    _, codes = np.unique(groups, return_inverse=True)
    give, take = (np.argsort(rng.permutation(codes.max() + 1)[codes], kind="stable") for _ in range(2))
    control = np.empty_like(labels)
    control[take] = labels[give]
    return control


def selectivity(truth: np.ndarray, guess: np.ndarray, control: np.ndarray, control_guess: np.ndarray) -> Statistic:
    """The statistic "balanced accuracy minus that of the probe of control labels"; guesses are [n, k] or [n]."""
    real, null = balanced_accuracy(truth, guess), balanced_accuracy(control, control_guess)
    return difference(real, null)

"""Probes: emolib's batched solvers against one scikit-learn fit per site, target and fold.

Standardised on the training part, five folds that keep a writer on one side; the writer's label with 13 classes and the
21 appraisal ratings. Run as a process it is one side.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.workload import corpus
from emolib.probes.linear import cross_validate, grouped_folds
from emolib.probes.ridge import cross_validate_ridge
from emolib.texts.corpus import EMOTIONS, writer_groups

ALPHA = 5.0


class ProbeSide:
    """The tasks of one side; `method` is "ours" or "plain", `path` a file of `OurSide.save_activations`."""

    def __init__(self, method: str, path: str, n_texts: str) -> None:
        saved = torch.load(path)
        self.method, self.sites = method, saved["activations"]
        data, text = corpus(int(n_texts)), saved["text"].numpy()
        self.truth = np.array([EMOTIONS.index(emotion) for emotion in data.events["emotion"]])[text]
        self.ratings = data.ratings.to_numpy().astype(np.float64)[text]
        self.folds = grouped_folds(self.truth, writer_groups(data.events)[text], seed=0)

    def probe(self) -> dict[str, Any]:
        """Held-out accuracy [n_sites] and R² [n_sites, 21], and the seconds that labels and ratings took."""
        label, rating = (ours_labels, ours_ratings) if self.method == "ours" else (plain_labels, plain_ratings)
        total = ((self.ratings - self.ratings.mean(0)) ** 2).sum(0)
        accuracy, r2, seconds = [], [], dict(labels=0.0, ratings=0.0)
        for features in self.sites:
            start = time.perf_counter()
            guesses = label(features, self.truth[None], self.folds)[0]
            middle = time.perf_counter()
            residual = self.ratings - rating(features, self.ratings, self.folds)
            seconds["labels"] += middle - start
            seconds["ratings"] += time.perf_counter() - middle
            accuracy.append(float((guesses == self.truth).mean()))
            r2.append((1 - (residual**2).sum(0) / total).tolist())
        return dict(accuracy=accuracy, r2=r2, seconds=seconds)


def ours_labels(features: torch.Tensor, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Held-out label ids [T, n], all targets and folds in one fit."""
    return cross_validate(features, targets, folds, n_classes=len(EMOTIONS))[0]


def ours_ratings(features: torch.Tensor, ratings: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Held-out ratings [n, 21], all appraisals and folds in one fit."""
    return cross_validate_ridge(features, torch.tensor(ratings), folds, alphas=(ALPHA,))[0]


def plain_labels(features: torch.Tensor, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Held-out label ids [T, n], a scikit-learn fit per target and fold, to its default tolerance."""
    x, guesses = features.numpy(), np.empty_like(targets)
    for guess, target in zip(guesses, targets, strict=True):
        for fold in range(folds.max() + 1):
            train = folds != fold
            model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
            guess[~train] = model.fit(x[train], target[train]).predict(x[~train])
    return guesses


def plain_ratings(features: torch.Tensor, ratings: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Held-out ratings [n, 21], a scikit-learn fit per appraisal and fold."""
    x, guesses = features.numpy(), np.empty_like(ratings)
    for column in range(ratings.shape[1]):
        for fold in range(folds.max() + 1):
            train = folds != fold
            model = make_pipeline(StandardScaler(), Ridge(alpha=ALPHA)).fit(x[train], ratings[train, column])
            guesses[~train, column] = model.predict(x[~train])
    return guesses


if __name__ == "__main__":
    from benchmarks.sides import serve

    serve(ProbeSide(*sys.argv[1:]))

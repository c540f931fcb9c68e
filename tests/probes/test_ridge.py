"""Ridge regressions against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from emolib.probes.ridge import cross_validate_ridge, fit_ridge
from emolib.probes.solvers import Standardise


def residual_like(n: int, d: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features with two huge dimensions, a steep spectrum and large means, and targets that follow three others."""
    random = np.random.default_rng(0)
    x = random.normal(size=(n, d)) @ (random.normal(size=(d, d)) * (np.arange(1, d + 1) ** -0.7)[:, None])
    x[:, :2] = x[:, :2] * 100 + 3000
    return torch.tensor(x, dtype=torch.float32), x[:, 5:8] * 0.7 + random.normal(size=(n, 3)) + 3


@pytest.mark.parametrize("standardise", ["none", "train"])
def test_ridge_equals_scikit_learn(standardise: Standardise) -> None:
    x, targets = residual_like(250, 40)
    train = np.random.default_rng(3).random((4, 250)) < 0.6
    alphas = (0.1, 5.0, 300.0)
    weights, bias = fit_ridge(
        x, torch.as_tensor(targets), torch.as_tensor(train), alphas=alphas, standardise=standardise
    )
    for f in range(4):
        z = x[train[f]].double().numpy()
        scale = z.std(0) if standardise == "train" else 1.0
        for a, alpha in enumerate(alphas):
            reference = Ridge(alpha=alpha, solver="svd").fit(z / scale, targets[train[f]])
            assert np.allclose(weights[f, a].numpy(), reference.coef_ / scale, rtol=1e-5, atol=1e-8)
            assert np.allclose(bias[f, a].numpy(), reference.intercept_, rtol=1e-5, atol=1e-5)


def test_ridge_held_out_ratings_come_from_the_other_folds() -> None:
    (x, targets), folds = residual_like(60, 90), np.arange(60) % 3
    ratings = cross_validate_ridge(x, torch.as_tensor(targets), folds, alphas=(2.0, 5.0), standardise="none")
    for fold in range(3):
        reference = Ridge(alpha=5.0, solver="svd").fit(x[folds != fold].double(), targets[folds != fold])
        assert np.allclose(ratings[1, folds == fold], reference.predict(x[folds == fold].double()), atol=1e-4)


def test_ridge_refuses_a_penalty_of_zero() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        fit_ridge(torch.randn(9, 2), torch.randn(9, 1), torch.ones(1, 9).bool(), alphas=(0.0,))

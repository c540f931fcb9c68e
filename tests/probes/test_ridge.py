"""Ridge regressions against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emolib.probes.ridge import cross_validate_ridge, fit_ridge, held_out_means, label_means, nested_ridge
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


def noisy(n: int = 200, d: int = 12) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    x = random.normal(size=(n, d)) * np.logspace(-1, 2, d)
    y = x[:, [0, 5, 11]] / x[:, [0, 5, 11]].std(0) + random.normal(size=(n, 3)) * [0.3, 1, 3]
    return torch.as_tensor(x), y, random.integers(0, 4, n)


def test_activations_beside_which_the_penalty_is_nothing_are_refused_in_a_sentence() -> None:
    x = torch.randn(20, 40, generator=torch.Generator().manual_seed(0)) * 1e11
    train = torch.ones(1, 20, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"on 20 rows cannot be solved: activations are as large as 4e\+11, .* of 5 is"
    ):
        fit_ridge(x, torch.ones(20, 1), train, alphas=(5.0,), standardise="none")


def test_nested_ridge_equals_scikit_learn_with_its_alpha_chosen_inside() -> None:
    x, y, folds = noisy()
    grid = (0.1, 10.0, 1e3)
    found, alphas = nested_ridge(x, y, folds, alphas=grid)
    for fold in range(4):
        inner = [other for other in range(4) if other != fold]
        for target in range(3):
            losses = []
            for alpha in grid:
                model, loss = make_pipeline(StandardScaler(), Ridge(alpha)), 0.0
                for held in inner:
                    train = (folds != fold) & (folds != held)
                    guess = model.fit(x[train], y[train, target]).predict(x[folds == held])
                    loss += ((guess - y[folds == held, target]) ** 2).sum()
                losses.append(loss)
            assert alphas[fold, target] == grid[int(np.argmin(losses))]
            model = make_pipeline(StandardScaler(), Ridge(alphas[fold, target]))
            model.fit(x[folds != fold], y[folds != fold, target])
            assert np.allclose(found[folds == fold, target], model.predict(x[folds == fold]))
    assert len(np.unique(alphas)) > 1  # the choice matters here


def test_the_held_out_fold_takes_no_part_in_choosing() -> None:
    x, y, folds = noisy()
    _, before = nested_ridge(x, y, folds)
    _, after = nested_ridge(x, np.where(folds[:, None] == 2, 100.0 * y[::-1], y), folds)
    assert np.array_equal(before[2], after[2]) and not np.array_equal(before, after)


def test_covariates_are_not_penalised() -> None:
    x, y, folds = noisy()
    labels = np.random.default_rng(0).integers(0, 3, len(y))
    y = y + 5.0 * np.array([0, 1, -2])[labels][:, None]
    onehot, alpha = np.eye(3)[labels], 50.0
    found, _ = nested_ridge(x, y, folds, free=onehot, alphas=(alpha,))
    for fold in range(4):
        train, test = folds != fold, folds == fold
        z = StandardScaler().fit(x[train]).transform(x)
        by_label = LinearRegression(fit_intercept=False).fit(onehot[train], np.hstack([z, y])[train]).predict(onehot)
        rest = np.hstack([z, y]) - by_label  # regression on what the covariates leave over (Frisch, Waugh, Lovell)
        model = Ridge(alpha, fit_intercept=False).fit(rest[train, :12], rest[train, 12:])
        assert np.allclose(found[test], by_label[test, 12:] + model.predict(rest[test, :12]), atol=1e-4)
    huge, _ = nested_ridge(x, y, folds, free=onehot, alphas=(1e7,))
    assert np.allclose(huge, held_out_means(y, labels, folds), atol=0.3)


def test_label_means_by_hand() -> None:
    table, labels = np.array([[1.0], [3.0], [5.0], [2.0], [9.0]]), np.array([0, 0, 1, 0, 2])
    train = np.array([True, True, True, False, False])
    # label 2 has no text in the training part and gets the mean of all three
    assert label_means(table, labels, train, ~train).tolist() == [[2.0], [3.0]]

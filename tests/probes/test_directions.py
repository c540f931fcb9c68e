"""Steering vectors against normal equations, planted directions, and lengths known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from emolib.probes import directions
from emolib.probes.directions import USED, SteeringVectors
from emolib.texts.appraisals import ACTING, APPRAISALS, EMOTIONS

LAYERS, TEXTS, WIDTH = 3, 90, 64
PAIR = {"pleasantness": 1, "other_responsblt": -1}


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(random.integers(1, 6, (TEXTS, len(USED))), columns=list(USED))


@pytest.fixture(scope="module")
def features(ratings: pd.DataFrame) -> torch.Tensor:
    """Activations that carry every rating along a direction of its own, on top of a large common vector."""
    generator = torch.Generator().manual_seed(0)
    carriers = torch.randn(LAYERS, len(USED), WIDTH, generator=generator)
    noise = torch.randn(LAYERS, TEXTS, WIDTH, generator=generator)
    return 20 + torch.tensor(ratings.to_numpy(), dtype=torch.float32) @ carriers + noise


@pytest.fixture(scope="module")
def fitted(features: torch.Tensor, ratings: pd.DataFrame) -> SteeringVectors:
    return SteeringVectors(features, ratings)


def ridge(features: torch.Tensor, ratings: pd.DataFrame, name: str) -> np.ndarray:
    """The released probe's weights [L, d] of one appraisal, by scikit-learn."""
    return np.stack([Ridge(alpha=5.0).fit(x.double().numpy(), ratings[name]).coef_ for x in features])


def normed(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def least_squares_rest(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The residual [d] of a regression of the vector on the others [k, d]."""
    return vector - others.T @ np.linalg.lstsq(others.T, vector, rcond=None)[0]


def test_the_papers_code_uses_twenty_of_the_ratings() -> None:
    assert len(USED) == 20
    assert set(APPRAISALS) - set(USED) == {"chance_responsblt"}
    assert set(ACTING) < set(USED)


def test_raw_is_the_signed_sum_of_the_released_weights(
    fitted: SteeringVectors, features: torch.Tensor, ratings: pd.DataFrame
) -> None:
    first, second = (ridge(features, ratings, name) for name in PAIR)
    assert np.allclose(fitted.combine({"pleasantness": 1}, "raw"), normed(first), atol=1e-6)
    assert np.allclose(fitted.combine({"pleasantness": -1}, "raw"), -normed(first), atol=1e-6)
    assert np.allclose(fitted.combine(PAIR, "raw"), normed(first - second), atol=1e-6)
    assert np.allclose(fitted.combine(PAIR, "unit"), normed(normed(first) - normed(second)), atol=1e-6)
    assert not np.allclose(fitted.combine(PAIR, "raw"), fitted.combine(PAIR, "unit"), atol=1e-3)


@pytest.mark.parametrize("signs", [{"pleasantness": 1}, {"predict_event": -1}, PAIR, {"self_responsblt": 1}])
@pytest.mark.parametrize("kind", ["fix3", "fixall"])
def test_held_directions_have_no_part_in_a_projected_vector(
    fitted: SteeringVectors, features: torch.Tensor, ratings: pd.DataFrame, signs: dict[str, int], kind: str
) -> None:
    names = ACTING if kind == "fix3" else USED
    held = np.stack([normed(ridge(features, ratings, name)) for name in names if name not in signs], axis=1)
    found = fitted.combine(signs, kind).numpy()
    raw = fitted.combine(signs, "raw").numpy()
    assert np.abs(np.einsum("ld,lkd->lk", found, held)).max() < 1e-9
    assert np.abs(np.einsum("ld,lkd->lk", raw, held)).max() > 0.05
    # raw and projected vectors differ by exactly what lies in the span of the held ones
    for layer in range(LAYERS):
        rest = least_squares_rest(raw[layer], held[layer])
        assert np.allclose(found[layer], normed(rest), atol=1e-8)
        assert fitted.kept(signs, kind)[layer] == pytest.approx(rest @ rest, abs=1e-8)


def test_directions_outside_the_held_ones_stay(fitted: SteeringVectors) -> None:
    signs = {"pleasantness": 1}
    raw, found = fitted.combine(signs, "raw"), fitted.combine(signs, "fix3")
    outside = torch.randn(LAYERS, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    held = fitted.ridge[:, [USED.index(name) for name in ACTING[1:]]]
    outside = directions.project_out(outside, held)
    ratio = (raw * outside).sum(-1) / (found * outside).sum(-1)
    assert np.allclose(ratio, np.sqrt(fitted.kept(signs, "fix3")), atol=1e-8)


def test_dependent_directions_are_projected_out_once() -> None:
    generator = torch.Generator().manual_seed(0)
    held = torch.randn(2, 5, generator=generator).double()
    vector = torch.randn(5, generator=generator).double()
    again = torch.cat([held, held.sum(0, keepdim=True), 1e-3 * held[:1]])
    assert torch.allclose(directions.project_out(vector, held), directions.project_out(vector, again))
    with pytest.raises(ValueError, match="nothing is left of a vector of width 5 without 6 directions: hold fewer"):
        directions.project_out(vector, torch.randn(6, 5, generator=generator))


def test_mean_difference_is_that_of_texts_rated_above_average(
    fitted: SteeringVectors, features: torch.Tensor, ratings: pd.DataFrame
) -> None:
    x, rating = features.double().numpy(), ratings["suddenness"].to_numpy()
    high = rating > rating.mean()
    by_hand = x[:, high].mean(1) - x[:, ~high].mean(1)
    assert np.allclose(fitted.combine({"suddenness": 1}, "mean_difference"), normed(by_hand), atol=1e-6)
    # the texts carry the rating along a planted direction, which the difference finds and random vectors do not
    others = directions.random_directions(50, LAYERS, WIDTH, seed=0, over="layer").double()
    fit = fitted.combine({"suddenness": 1}, "raw")
    aligned = [(vectors.numpy() * normed(by_hand)).sum(-1) for vectors in (fit, others)]
    assert (aligned[0] > np.quantile(aligned[1], 0.99)).all()


def test_constant_ratings_are_refused(features: torch.Tensor, ratings: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"\['effort'\] are rated the same in all 90 texts: fit on more texts"):
        SteeringVectors(features, ratings.assign(effort=3))


def test_emotion_vectors_are_probe_weights_and_class_means_and_missing_ones_are_marked(features: torch.Tensor) -> None:
    labels = np.arange(TEXTS) % 4 + 1
    probe, means = (
        directions.emotion_vectors(features, labels, n_classes=13, kind=kind) for kind in ("probe", "mean_difference")
    )
    assert probe.shape == means.shape == (LAYERS, 13, WIDTH)
    for layer in range(LAYERS):
        x = features[layer].numpy()
        with pytest.warns(ConvergenceWarning):  # the paper's probe stops early, and so must its oracle
            weights = LogisticRegression(max_iter=100).fit(x, labels).coef_
        assert np.allclose(probe[layer, 1:5], normed(weights), atol=2e-3)
        by_hand = np.stack([x[labels == label].mean(0) - x.mean(0) for label in (1, 2, 3, 4)])
        assert np.allclose(means[layer, 1:5], normed(by_hand), atol=1e-4)
    absent = [label for label in range(len(EMOTIONS)) if label not in (1, 2, 3, 4)]
    assert probe[:, absent].isnan().all()
    assert means[:, absent].isnan().all()


def test_random_directions_accumulate_like_fitted_ones_and_the_papers_do_not() -> None:
    window = directions.random_directions(100, 6, 2048, seed=0, over="window")
    layer = directions.random_directions(100, 6, 2048, seed=0, over="layer")
    for vectors in (window, layer):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(100, 6), atol=1e-5)
    ours = [directions.accumulated_norm(vector, (2, 3, 4)) for vector in window]
    theirs = [directions.accumulated_norm(vector, (2, 3, 4)) for vector in layer]
    assert np.allclose(ours, 3, atol=1e-4)
    # three independent unit vectors of width d add up to sqrt(3), give or take 1 / sqrt(d)
    assert np.allclose(theirs, np.sqrt(3), atol=4 / np.sqrt(2048))
    assert np.mean(theirs) == pytest.approx(np.sqrt(3), abs=0.01)


def test_draws_are_fixed_by_the_seed_and_isotropic() -> None:
    few, many = (directions.random_directions(n, 2, 32, seed=5, over="window") for n in (20, 400))
    assert torch.equal(few, many[:20])
    assert not torch.equal(few, directions.random_directions(20, 2, 32, seed=6, over="window"))
    cosines = (many[:, 0] @ many[:, 0].T)[*torch.triu_indices(400, 400, 1)]
    assert cosines.mean().abs() < 0.003
    assert cosines.std() == pytest.approx(1 / np.sqrt(32), rel=0.02)

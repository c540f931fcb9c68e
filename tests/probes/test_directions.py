"""Steering vectors against normal equations, planted directions, and lengths known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from emolib.probes import directions
from emolib.probes.directions import USED, SteeringVectors
from emolib.probes.linear import shuffled_labels
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


# Directions that predict: a penalty chosen by writers left out.

GROUPS = np.arange(TEXTS) // 3


@pytest.fixture(scope="module")
def tuned(features: torch.Tensor, ratings: pd.DataFrame) -> SteeringVectors:
    return SteeringVectors(features, ratings, groups=GROUPS)


def test_the_penalty_is_the_one_that_predicts_writers_left_out_best(
    features: torch.Tensor, ratings: pd.DataFrame, tuned: SteeringVectors
) -> None:
    folds = directions.writer_folds(GROUPS, seed=0)
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert all(len(set(folds[writer == GROUPS])) == 1 for writer in set(GROUPS))
    for layer in range(LAYERS):
        x = features[layer].double().numpy()
        grid = np.array(directions.SHARES) * np.linalg.eigvalsh(np.cov(x.T, bias=True) * TEXTS).mean()
        for name in ("pleasantness", "effort"):
            column = tuned.names.index(name)
            errors = [
                (
                    (cross_val_predict(Ridge(alpha=a), x, ratings[name], cv=PredefinedSplit(folds)) - ratings[name])
                    ** 2
                ).sum()
                for a in grid
            ]
            assert tuned.alphas[layer, column].item() == pytest.approx(grid[int(np.argmin(errors))])
            ridge_ = Ridge(alpha=tuned.alphas[layer, column].item()).fit(x, ratings[name])
            assert np.allclose(tuned.ridge[layer, column].numpy(), ridge_.coef_, atol=1e-8)
            assert np.allclose(tuned.predict(features, "ridge")[layer, :, column], ridge_.predict(x))


def test_a_difference_of_means_reads_by_a_line(
    features: torch.Tensor, ratings: pd.DataFrame, tuned: SteeringVectors
) -> None:
    found, unseen = tuned.predict(features + 0.3, "mean_difference"), features.double().numpy() + 0.3
    high = ratings["pleasantness"] > ratings["pleasantness"].mean()
    for layer in range(LAYERS):
        x = features[layer].double().numpy()
        way = x[high].mean(0) - x[~high].mean(0)
        line = LinearRegression().fit((x @ way)[:, None], ratings["pleasantness"])
        assert np.allclose(
            found[layer, :, tuned.names.index("pleasantness")], line.predict((unseen[layer] @ way)[:, None])
        )


def test_a_chosen_penalty_predicts_where_that_of_the_paper_fits_noise() -> None:
    """One weak direction among as many as there are texts: the finding that the experiment's protocol rests on."""
    random = np.random.default_rng(1)
    carrier = random.normal(size=200)
    mark = random.normal(size=(600, len(USED)))
    x = torch.tensor(0.1 * mark[:, :1] * carrier + 3 * random.normal(size=(600, 200)))[None]
    table = pd.DataFrame(mark + random.normal(size=mark.shape), columns=list(USED))
    fit, held = slice(0, 220), slice(220, 600)
    released = SteeringVectors(x[:, fit], table[fit])
    chosen = SteeringVectors(x[:, fit], table[fit], groups=np.arange(220) // 2)
    r2 = [r2_score(table[USED[0]][held], one.predict(x[:, held], "ridge")[0, :, 0]) for one in (released, chosen)]
    assert r2[0] < -0.5 and -0.05 < r2[1] < 0.6
    alignment = [abs(float(normed(one.ridge[0, 0].numpy()) @ normed(carrier))) for one in (released, chosen)]
    assert alignment[1] > alignment[0]


def test_each_of_few_writers_is_a_fold_and_a_single_one_is_refused(
    features: torch.Tensor, ratings: pd.DataFrame
) -> None:
    folds = directions.writer_folds(np.arange(TEXTS) % 3, seed=0)
    assert [len(set(folds[writer::3])) for writer in range(3)] == [1, 1, 1] and len(set(folds)) == 3
    assert len(set(directions.writer_folds(np.arange(TEXTS), seed=0))) == directions.FOLDS
    with pytest.raises(ValueError, match="texts of one writer cannot be split into folds"):
        SteeringVectors(features, ratings, groups=np.zeros(TEXTS, dtype=int))


def test_contrasts_have_the_covariance_of_the_activations() -> None:
    random = np.random.default_rng(0)
    x = torch.tensor(5 + random.normal(size=(2, 80, 6)) @ random.normal(size=(6, 6)))
    drawn = directions.contrasts(x, 20_000, seed=0)
    assert torch.equal(drawn[:50], directions.contrasts(x, 50, seed=0))
    for layer in range(2):
        spread = np.cov(x[layer].T.numpy(), bias=True)
        found = np.cov(drawn[:, layer].T.numpy()) / 80
        assert np.allclose(found, spread, atol=0.05 * np.abs(spread).max())


def test_shuffled_vectors_are_ridge_fits_to_ratings_of_other_writers(
    features: torch.Tensor, ratings: pd.DataFrame, tuned: SteeringVectors
) -> None:
    names = ["pleasantness", "effort"]
    alphas = tuned.alphas[:, [tuned.names.index(name) for name in names]]
    found = directions.shuffled_vectors(features, ratings[names], GROUPS, alphas, 3, seed=4)
    assert found.shape == (3, 2, LAYERS, WIDTH)
    for draw in range(3):
        handed = shuffled_labels(ratings[names].to_numpy(dtype=float), GROUPS, seed=4 + draw)
        assert (handed == ratings[names].to_numpy()).all(axis=1).mean() < 0.3
        for layer in range(LAYERS):
            for target in range(2):
                by_hand = Ridge(alpha=alphas[layer, target].item()).fit(
                    features[layer].double().numpy(), handed[:, target]
                )
                assert np.allclose(found[draw, target, layer].numpy(), by_hand.coef_, atol=1e-8)

"""Probes against scikit-learn, planted directions and controls that must fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from emolib.probes import linear as probes
from emolib.probes import solvers
from emolib.probes.directions import class_directions
from emolib.stats.scores import balanced_accuracy

CLASSES = 6


def residual_like(n: int, d: int, *, seed: int = 0, signal: float = 1.0) -> tuple[torch.Tensor, np.ndarray]:
    """Features with two huge dimensions, a steep spectrum and large means; uneven labels with a planted mean shift."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, size=n, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    mixing = rng.normal(size=(d, d)) * (np.arange(1, d + 1) ** -0.7)[:, None]
    x = rng.normal(size=(n, d)) @ mixing + signal * rng.normal(size=(CLASSES, d))[labels] * mixing.std(0)
    x[:, :2] = x[:, :2] * 100 + 3000
    return torch.tensor(x, dtype=torch.float32), labels


def accurate(x: np.ndarray, y: np.ndarray, **settings: float) -> LogisticRegression:
    return LogisticRegression(max_iter=20_000, tol=1e-9, **settings).fit(x.astype(np.float64), y)


def single(labels: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(labels)[None]


@pytest.mark.parametrize(("n", "d", "C"), [(1200, 64, 1.0), (1000, 64, 0.01), (400, 576, 1.0)])
def test_standardised_probe_equals_scikit_learn(n: int, d: int, C: float) -> None:
    x, y = residual_like(n, d, signal=0.5)
    train = np.arange(n) < 0.8 * n
    scaler = StandardScaler().fit(x[train].double().numpy())
    reference = accurate(scaler.transform(x.double().numpy())[train], y[train], C=C)
    probe = probes.fit_logistic(
        x, single(y), torch.as_tensor(train)[None], n_classes=CLASSES, C=C, tol=3e-4, max_iter=2000
    )
    assert probe.converged.all() and probe.error.max() <= 3e-4
    ours = probe.weights[0].double().numpy() * scaler.scale_
    assert np.abs(ours - reference.coef_).max() < 1e-3 * max(1, np.abs(reference.coef_).max())
    held_out = scaler.transform(x.double().numpy())[~train]
    guess = probe.predict(x)[0].numpy()[~train]
    accuracy = (guess == y[~train]).mean()
    assert abs(accuracy - reference.score(held_out, y[~train])) <= 0.005
    centred = reference.decision_function(held_out)
    ours_logits = probe.logits(x)[0].numpy()[~train]
    assert np.abs((ours_logits - ours_logits.mean(1, keepdims=True)) - centred).max() < 0.05


def test_raw_features_equal_scikit_learn() -> None:
    x, y = residual_like(900, 48, signal=0.5)
    x[:, :2] = (x[:, :2] - 3000) / 20
    reference = accurate(x.numpy(), y)
    probe = probes.fit_logistic(x, single(y), n_classes=CLASSES, standardise="none", tol=3e-4, max_iter=2000)
    assert np.abs(probe.weights[0].numpy() - reference.coef_).max() < 1e-3 * np.abs(reference.coef_).max()


def test_batched_problems_equal_single_ones() -> None:
    x, y = residual_like(700, 40)
    rng = np.random.default_rng(1)
    labels = np.stack([y, rng.permutation(y), (y + 1) % CLASSES])
    weights = torch.as_tensor(rng.random(labels.shape) < 0.7)
    strength = torch.tensor([1.0, 0.1, 10.0])
    together = probes.fit_logistic(x, torch.as_tensor(labels), weights, n_classes=CLASSES, C=strength, tol=3e-4)
    for k in range(3):
        alone = probes.fit_logistic(
            x, single(labels[k]), weights[k : k + 1], n_classes=CLASSES, C=float(strength[k]), tol=3e-4
        )
        assert torch.allclose(together.weights[k], alone.weights[0], atol=2e-3 * float(alone.weights.abs().max()))


def test_two_classes_equal_scikit_learn() -> None:
    x, y = residual_like(500, 20)
    y = (y == 0).astype(int)
    reference = accurate(StandardScaler().fit_transform(x.double().numpy()), y)
    probe = probes.fit_logistic(x, single(y), n_classes=2, tol=3e-4)
    difference = (probe.weights[0, 1] - probe.weights[0, 0]).numpy() * x.double().numpy().std(0)
    assert np.abs(difference - reference.coef_[0]).max() < 2e-3


def test_rows_of_weight_zero_have_no_influence() -> None:
    x, y = residual_like(400, 30)
    kept = np.arange(400) < 300
    clean = probes.fit_logistic(x[kept], single(y[kept]), n_classes=CLASSES)
    x[~kept], labels = torch.nan, np.where(kept, y, -1)
    dirty = probes.fit_logistic(x, single(labels), torch.as_tensor(kept)[None], n_classes=CLASSES)
    assert torch.equal(clean.weights, dirty.weights) and torch.equal(clean.bias, dirty.bias)


def test_weights_count_as_repetitions() -> None:
    x, y = residual_like(300, 20)
    times = np.random.default_rng(2).integers(0, 4, 300)
    weighted = probes.fit_logistic(
        x, single(y), torch.as_tensor(times)[None], n_classes=CLASSES, tol=3e-4, standardise="none"
    )
    repeated = probes.fit_logistic(
        x[np.repeat(np.arange(300), times)], single(y.repeat(times)), n_classes=CLASSES, tol=3e-4, standardise="none"
    )
    assert torch.allclose(weighted.weights, repeated.weights, atol=2e-3 * float(repeated.weights.abs().max()))


def test_missing_class_is_nan_and_never_predicted() -> None:
    x, y = residual_like(500, 25)
    others = y != 2
    probe = probes.fit_logistic(x, single(y), torch.as_tensor(others)[None], n_classes=CLASSES, tol=3e-4)
    assert probe.weights[0, 2].isnan().all() and not probe.weights[0, [0, 1, 3, 4, 5]].isnan().any()
    assert (probe.predict(x) != 2).all() and (probe.logits(x)[..., 2] == -torch.inf).all()
    scaled = StandardScaler().fit_transform(x[others].double().numpy())
    reference = accurate(scaled, y[others])
    ours = probe.weights[0, reference.classes_].numpy() * x[others].double().numpy().std(0)
    assert np.abs(ours - reference.coef_).max() < 2e-3


def test_unfinished_fit_says_so() -> None:
    x, y = residual_like(400, 60)
    early = probes.fit_logistic(x, single(y), n_classes=CLASSES, max_iter=2)
    assert not early.converged.any() and early.error.min() > 5e-3 and early.iterations.max() == 2


def test_constant_feature_gets_weight_zero() -> None:
    x, y = residual_like(300, 20)
    x[:, 5] = 7.25
    x[:200, 6] = 1.5
    kept = torch.arange(300)[None] < 200
    probe = probes.fit_logistic(x, single(y).repeat(2, 1), torch.cat([kept, ~kept]), n_classes=CLASSES, tol=1e-4)
    assert probe.weights[:, :, 5].nan_to_num().abs().max() < 1e-6
    assert probe.weights[0, :, 6].nan_to_num().abs().max() < 1e-3


def test_planted_directions_are_found_and_only_those() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 3000)
    planted = np.zeros((3, 30))
    planted[np.arange(3), [4, 9, 17]] = 2.0
    x = torch.tensor(rng.normal(size=(3000, 30)) + planted[labels], dtype=torch.float32)
    truth = torch.tensor(planted - planted.mean(0), dtype=torch.float32)
    probe = probes.fit_logistic(x, single(labels), n_classes=3, C=0.1)
    for directions in (probe.weights[0], class_directions(x, torch.as_tensor(labels), n_classes=3)):
        cosine = torch.cosine_similarity(directions, truth, dim=1)
        assert cosine.min() > 0.97
        idle = np.setdiff1d(np.arange(30), [4, 9, 17])
        assert directions[:, idle].abs().max() < 0.2 * directions.abs().max()


def test_class_directions_equal_hand_computation() -> None:
    x, y = residual_like(4000, 12)
    mean = class_directions(x.double(), torch.as_tensor(y), n_classes=CLASSES + 1)
    by_hand = x[y == 3].double().mean(0) - x.double().mean(0)
    assert torch.allclose(mean[3], by_hand) and mean[CLASSES].isnan().all()


def test_cross_validation_predicts_each_text_without_its_group() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 250, 900)
    signature = rng.normal(size=(250, 300)) * 3
    labels = rng.integers(0, 4, 250)[groups]
    x = torch.tensor(signature[groups] + rng.normal(size=(900, 300)), dtype=torch.float32)
    score = np.ones((1, 900))
    grouped = probes.grouped_folds(labels, groups, seed=0)
    assert all(len(np.unique(grouped[groups == g])) == 1 for g in np.unique(groups))
    assert np.array_equal(grouped, probes.grouped_folds(labels, groups, seed=0))
    leaking = rng.permutation(900) % 5
    honest, _ = probes.cross_validate(x, labels[None], grouped, n_classes=4)
    leaked, _ = probes.cross_validate(x, labels[None], leaking, n_classes=4)
    # Labels belong to groups here: only a probe that saw the group can know them.
    assert balanced_accuracy(labels, leaked[0])(score).item() > 0.8
    assert balanced_accuracy(labels, honest[0])(score).item() < 0.35


def test_cross_validation_equals_a_loop_and_respects_the_subset() -> None:
    x, y = residual_like(600, 30)
    folds = probes.grouped_folds(y, np.arange(600), seed=1)
    subset = np.stack([np.ones(600, bool), np.random.default_rng(6).random(600) < 0.8])
    labels = np.stack([y, np.where(subset[1], y, -1)])
    guesses, probe = probes.cross_validate(x, labels, folds, n_classes=CLASSES, subset=subset, tol=3e-4)
    assert probe.weights.shape[0] == 10 and probe.converged.all()
    for target in range(2):
        for fold in range(5):
            rows = subset[target] & (folds != fold)
            scaler = StandardScaler().fit(x[rows].double().numpy())
            reference = accurate(scaler.transform(x[rows].double().numpy()), y[rows])
            expected = reference.predict(scaler.transform(x[folds == fold].double().numpy()))
            assert (guesses[target, folds == fold] == expected).mean() > 0.98


def test_shuffled_control_is_at_chance_beside_a_probe_that_learned() -> None:
    x, y = residual_like(1500, 32, signal=1.5)
    groups = np.random.default_rng(7).integers(0, 500, 1500)
    control = probes.shuffled_labels(y, groups, seed=3)
    folds = probes.grouped_folds(y, groups, seed=0)
    guesses, _ = probes.cross_validate(x, np.stack([y, control]), folds, n_classes=CLASSES)
    once = np.ones((1, 1500))
    real, null = (balanced_accuracy(t, g)(once).item() for t, g in zip((y, control), guesses, strict=True))
    assert real > 0.5 and abs(null - 1 / CLASSES) < 0.04
    assert probes.selectivity(y, guesses[0], control, guesses[1])(once).item() == pytest.approx(real - null)


def test_shuffle_keeps_the_balance_and_the_runs_of_writers() -> None:
    groups = np.repeat(np.arange(300), 4)
    labels = np.random.default_rng(8).integers(0, 5, 300)[groups]
    control = probes.shuffled_labels(labels, groups, seed=0)
    assert np.array_equal(np.bincount(control), np.bincount(labels))
    assert (control == labels).mean() < 0.3
    # Equal group sizes: every writer gets another writer's whole run.
    assert all(len(set(control[groups == g])) == 1 for g in range(300))


def test_as_released_equals_a_plain_scikit_learn_run() -> None:
    x, y = residual_like(500, 64)
    split = probes.released_split(np.arange(500), y)
    assert split
    train, test = split
    their_train, their_test, label_train, _ = train_test_split(x.numpy(), y, test_size=0.2, random_state=42)
    assert np.array_equal(x.numpy()[train], their_train) and np.array_equal(x.numpy()[test], their_test)
    with pytest.warns(Warning, match="converge"):
        model = LogisticRegression(max_iter=100).fit(their_train, label_train)
    probe = probes.fit_released(x[train], y[train], n_classes=CLASSES)
    assert not probe.converged.any() and probe.iterations.item() == 100
    assert np.allclose(probe.weights[0].numpy(), model.coef_)
    assert np.array_equal(probe.predict(x[test])[0].numpy(), model.predict(their_test))


def test_the_papers_probe_takes_one_thread_and_leaves_the_others_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = residual_like(500, 64)
    fit, seen = LogisticRegression.fit, set()

    def watched(*given: object) -> LogisticRegression:
        seen.update(pool["num_threads"] for pool in threadpool_info())
        return fit(*given)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    with threadpool_limits(2):
        probes.fit_released(x, y, n_classes=CLASSES)
        assert seen == {1} and {pool["num_threads"] for pool in threadpool_info()} == {2}


def test_too_small_sets_are_refused_with_their_counts() -> None:
    folds = np.arange(60) % 5
    with pytest.raises(ValueError, match="too few texts to probe: 60, .*{0: 11, 1: 0}.*writer's label"):
        probes.check_probeable(np.eye(60, dtype=int)[:, 0], folds, n_folds=5)
    with pytest.raises(ValueError, match="too few texts to probe: 40"):
        probes.check_probeable(np.arange(40) % 2, folds[:40], n_folds=5)
    probes.check_probeable(np.repeat([0, 1], 30), folds, n_folds=5)
    assert probes.released_split(np.arange(8), np.arange(500) % 13) is None
    with pytest.raises(ValueError, match="too few texts to probe: 40"):
        probes.released_split(np.arange(40), np.arange(40) % 2)
    assert probes.released_split(np.arange(8), np.arange(50) % 2) is None, "that labels take turns is not too few"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=torch.full((1, 80), 7)), "labels run from 7 to 7"),
        (dict(labels=torch.zeros(1, 80, dtype=torch.long)), "fewer than 2 classes"),
        (dict(labels=torch.zeros(80, dtype=torch.long)), r"expected \[n, d\] and \[K, n\]"),
        (dict(features=torch.full((80, 4), torch.inf)), "must be finite"),
    ],
)
def test_bad_input_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    given = dict(features=torch.randn(80, 4), labels=torch.arange(80)[None] % 3) | change
    with pytest.raises(ValueError, match=message):
        probes.fit_logistic(given["features"], given["labels"], n_classes=3)


def test_half_precision_features_are_fitted_in_float32() -> None:
    x, y = residual_like(300, 16)
    half = x.bfloat16()
    probe = probes.fit_logistic(half, single(y), n_classes=CLASSES)
    same = probes.fit_logistic(half.float(), single(y), n_classes=CLASSES)
    assert probe.weights.dtype == torch.float32 and torch.equal(probe.weights, same.weights)


def test_preconditioner_inverts_the_hessian_it_approximates() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    gram = x.T @ x / 50
    fisher = torch.tensor([[[9.0, -5, -4], [-5, 7, -2], [-4, -2, 6]]], dtype=torch.float64)
    grad = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)
    eigenvalues, basis = torch.linalg.eigh(gram)
    classes, mixing = torch.linalg.eigh(fisher)
    step = solvers._precondition(grad, (eigenvalues, basis), (classes.clamp_min(0), mixing))
    back = torch.einsum("cb,kbd,de->kce", fisher[0], step[..., :-1], gram) + step[..., :-1]
    assert torch.allclose(back, grad[..., :-1], atol=1e-9)


def test_the_penalty_of_a_fold_is_chosen_on_the_other_folds_alone() -> None:
    """By a loop over scikit-learn; where choosing on the held-out fold itself would choose otherwise."""
    random, strengths = np.random.default_rng(3), (0.001, 0.03, 1.0)
    labels, folds = np.arange(240) % 3, np.arange(240) // 3 % 4
    x = random.normal(size=(240, 30)) + 0.4 * random.normal(size=(3, 30))[labels]

    def right(C: float, without: set[int], fold: int) -> int:
        train, test = ~np.isin(folds, [*without]), folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)).fit(x[train], labels[train])
        return int((model.predict(x[test]) == labels[test]).sum())

    others = [[sum(right(C, {f, g}, g) for g in range(4) if g != f) for C in strengths] for f in range(4)]
    own = [[sum(right(C, {f, g}, f) for g in range(4) if g != f) for C in strengths] for f in range(4)]
    expected = [strengths[int(np.argmax(hits))] for hits in others]
    guesses, chosen = probes.nested_logistic(
        torch.tensor(x, dtype=torch.float32), labels[None], folds, n_classes=3, strengths=strengths
    )
    assert chosen == expected != [strengths[int(np.argmax(hits))] for hits in own]
    hits = [right(C, {fold}, fold) for fold, C in enumerate(chosen)]
    assert [(guesses[0] == labels)[folds == fold].sum() for fold in range(4)] == hits

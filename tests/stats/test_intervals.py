"""Intervals: equality with slow explicit resampling, coverage in simulation, and independent formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from emolib import stats
from emolib.stats import scores

RNG = np.random.default_rng(20)
GROUPS = RNG.integers(0, 14, 60)
TRUTH = RNG.integers(0, 4, 60)
GUESS = np.where(RNG.random((60, 3)) < 0.5, TRUTH[:, None], RNG.integers(0, 4, (60, 3)))
SCORES = RNG.normal(size=(60, 3)) + TRUTH[:, None]
SCORES_OF_200 = np.random.default_rng(8).normal(size=200)


def explicit(groups: np.ndarray, n_resamples: int, seed: int) -> list[np.ndarray]:
    """The texts of every resample, written out one by one from the same draws of groups."""
    names = np.unique(groups)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    return [
        np.concatenate([np.flatnonzero(groups == g) for g, k in zip(names, row, strict=True) for _ in range(k)])
        for row in draws
    ]


def test_vectorised_means_equal_the_explicit_loop() -> None:
    slow = np.array([SCORES[rows].mean(axis=0) for rows in explicit(GROUPS, 300, 5)])
    _, fast = stats.resample(scores.mean(SCORES), GROUPS, n_resamples=300, seed=5)
    np.testing.assert_allclose(fast, slow, atol=1e-12)
    found = stats.cluster_bootstrap(SCORES, GROUPS, n_resamples=300, seed=5)
    same = stats.bootstrap(scores.mean(SCORES), GROUPS, n_resamples=300, seed=5)
    for name in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(getattr(found, name), getattr(same, name), atol=1e-12)
    np.testing.assert_allclose(found.value, SCORES.mean(axis=0))


@pytest.mark.parametrize(
    ("statistic", "plain"),
    [
        (
            scores.balanced_accuracy(TRUTH, GUESS),
            lambda r: [balanced_accuracy_score(TRUTH[r], GUESS[r, j]) for j in range(3)],
        ),
        (
            scores.pearson(SCORES, SCORES[:, ::-1]),
            lambda r: [np.corrcoef(SCORES[r, j], SCORES[r, 2 - j])[0, 1] for j in range(3)],
        ),
        (scores.r2(TRUTH, SCORES), lambda r: [r2_score(TRUTH[r], SCORES[r, j]) for j in range(3)]),
    ],
    ids=["balanced accuracy", "correlation", "r2"],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_every_statistic_equals_its_library_on_the_resampled_texts(statistic: scores.Statistic, plain: object) -> None:
    estimate, fast = stats.resample(statistic, GROUPS, n_resamples=300, seed=1)
    np.testing.assert_allclose(fast, [np.asarray(plain(r)) for r in explicit(GROUPS, 300, 1)], atol=1e-10)
    np.testing.assert_allclose(estimate, plain(np.arange(60)), atol=1e-10)


def test_balanced_accuracy_leaves_out_a_class_that_no_resample_drew() -> None:
    truth = np.array([0, 0, 1, 1, 2])
    statistic = scores.balanced_accuracy(truth, np.array([0, 1, 1, 1, 0]))
    assert statistic(np.array([[1.0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]))[:, 0] == pytest.approx([0.75, 0.5])


def test_r2_is_stable_far_from_zero() -> None:
    far = scores.r2(TRUTH + 1e7, SCORES + 1e7)(np.ones((1, 60)))[0]
    np.testing.assert_allclose(far, scores.r2(TRUTH, SCORES)(np.ones((1, 60)))[0], rtol=1e-6)


def test_what_a_resample_leaves_undefined_is_nothing() -> None:
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]])  # the second draws one text three times: nothing varies
    plain = scores.r2([1.0, 2.0, 4.0], [1.0, 2.5, 3.5])
    assert not np.isfinite(plain(weights)[1, 0])
    assert scores.or_zero(plain)(weights).ravel().tolist() == [plain(weights)[0, 0], 0.0]


def test_weights_draw_whole_groups() -> None:
    weights = stats.bootstrap_weights(GROUPS, 50, 2)
    for group in np.unique(GROUPS):
        assert (np.ptp(weights[:, group == GROUPS], axis=1) == 0).all()
    heads = np.unique(GROUPS, return_index=True)[1]
    assert (weights[:, heads].sum(axis=1) == len(heads)).all()
    known = weights.copy()
    weights[:] = 0  # what a caller does with them is no matter of the next
    weights = stats.bootstrap_weights(GROUPS, 50, 2)
    np.testing.assert_array_equal(weights, known)
    assert (weights != stats.bootstrap_weights(GROUPS, 50, 3)).any()


def test_zero_weight_leaves_a_text_out() -> None:
    keep = RNG.random(60) < 0.6
    weights = np.column_stack([keep, np.ones(60)])
    found = stats.cluster_bootstrap(SCORES[:, [0, 0]], GROUPS, weights=weights, n_resamples=200)
    np.testing.assert_allclose(found.value, [SCORES[keep, 0].mean(), SCORES[:, 0].mean()])
    everyone = stats.cluster_bootstrap(SCORES[:, 0], GROUPS, n_resamples=200)
    np.testing.assert_allclose([found.ci_low[1], found.ci_high[1]], [everyone.ci_low, everyone.ci_high])


def test_a_resample_that_draws_nothing_of_a_column_is_left_out_of_it() -> None:
    groups, own = np.arange(64), np.arange(64) < 6
    weights, scores = np.column_stack([own, np.ones(64)]).astype(float), np.tile(RNG.random((64, 1)), 2)
    counts = stats.bootstrap_weights(groups, seed=5)
    drawn = counts @ own
    assert 0 < (drawn == 0).sum() < 20
    found = stats.cluster_bootstrap(scores, groups, weights=weights, seed=5)
    kept = (counts @ (own * scores[:, 0]))[drawn > 0] / drawn[drawn > 0]
    everyone = stats.cluster_bootstrap(scores[:, 1], groups, seed=5)
    share = (kept < found.ci_low[0]).mean(), (kept > found.ci_high[0]).mean()
    whole = (counts @ scores[:, 1] / 64 < everyone.ci_low).mean()
    np.testing.assert_allclose(share, [whole, whole], atol=2e-3)
    np.testing.assert_allclose([found.ci_low[1], found.ci_high[1]], [everyone.ci_low, everyone.ci_high])


def clustered(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.integers(1, 8, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    return rng.normal(size=n_groups)[groups] + rng.normal(size=len(groups)), groups


@pytest.mark.parametrize("n_groups", [20, 80])
def test_coverage_is_nominal_where_ignoring_groups_is_not(n_groups: int) -> None:
    rng = np.random.default_rng(7)
    hits, naive, runs, few = 0, 0, 500, 100
    for seed in range(runs):
        values, groups = clustered(rng, n_groups)
        found = stats.cluster_bootstrap(values, groups, n_resamples=400, seed=seed)
        hits += found.ci_low <= 0 <= found.ci_high
        if seed < few:
            alone = stats.cluster_bootstrap(values, np.arange(len(values)), n_resamples=400, seed=seed)
            naive += alone.ci_low <= 0 <= alone.ci_high
    assert 0.92 <= hits / runs <= 0.98
    assert naive / few < 0.88  # the positive control: the data are clustered enough to notice


def share_coverage(mean_share: float, runs: int, **methods: object) -> dict[str, float]:
    rng = np.random.default_rng(8)
    hits = dict.fromkeys(methods, 0)
    for _ in range(runs):
        groups = np.repeat(np.arange(60), rng.integers(1, 8, 60))
        chances = rng.beta(4 * mean_share, 4 * (1 - mean_share), 60)
        values = (rng.random(len(groups)) < chances[groups]).astype(float)
        for name, method in methods.items():
            found = method(values, groups)
            hits[name] += bool(found.ci_low <= mean_share <= found.ci_high)
    return {name: count / runs for name, count in hits.items()}


@pytest.mark.parametrize("mean_share", [0.1, 0.5, 0.9])
def test_shares_of_grouped_texts_are_covered(mean_share: float) -> None:
    alone = {"naive": lambda values, groups: stats.wilson(values.sum(), len(values))}
    found = share_coverage(mean_share, 800, grouped=stats.cluster_wilson, **alone)
    assert 0.92 <= found["grouped"] <= 0.98
    assert found["naive"] < 0.915


def test_rare_outcomes_are_covered_better_than_by_resampling() -> None:
    found = share_coverage(
        0.02, 400, wilson=stats.cluster_wilson, bootstrap=lambda v, g: stats.cluster_bootstrap(v, g, n_resamples=500)
    )
    assert found["wilson"] >= 0.92
    assert found["bootstrap"] < found["wilson"] - 0.03


def test_wilson_equals_scipy_and_grouped_wilson_reduces_to_it() -> None:
    for hits, n in ((0, 10), (3, 10), (200, 200), (137, 2740)):
        found = stats.wilson(hits, n)
        expected = reference.binomtest(hits, n).proportion_ci(method="wilson")
        np.testing.assert_allclose([found.ci_low, found.ci_high], [expected.low, expected.high], atol=1e-12)
    values = RNG.random((5000, 2)) < [0.3, 0.9]
    single, plain = stats.cluster_wilson(values, np.arange(5000)), stats.wilson(values.sum(axis=0), 5000)
    np.testing.assert_allclose(single.ci_low, plain.ci_low, atol=2e-4)
    np.testing.assert_allclose(single.ci_high, plain.ci_high, atol=2e-4)


def test_repeating_every_text_does_not_narrow_a_grouped_interval() -> None:
    values, groups = RNG.random(200) < 0.4, np.arange(200)
    once, often = stats.cluster_wilson(values, groups), stats.cluster_wilson(np.repeat(values, 5), np.repeat(groups, 5))
    np.testing.assert_allclose([often.ci_low, often.ci_high], [once.ci_low, once.ci_high], atol=1e-9)
    ignorant = stats.wilson(5 * values.sum(), 1000)
    assert ignorant.ci_high - ignorant.ci_low < 0.5 * (once.ci_high - once.ci_low)


def test_a_share_of_none_keeps_a_width() -> None:
    found = stats.cluster_wilson(np.zeros(100), np.repeat(np.arange(20), 5))
    assert found.value == 0 == found.ci_low
    assert 0.1 < found.ci_high < 0.25


def test_rows_are_the_numbers_with_their_keys_in_order() -> None:
    found = stats.Interval(*(np.array([[1.0, 2], [3, 4]]) + shift for shift in (0, -0.5, 0.5)))
    rows = found.rows([dict(layer=layer, side=side) for layer in (0, 1) for side in "ab"], n=7)
    assert rows[2] == dict(layer=1, side="a", n=7, value=3.0, ci_low=2.5, ci_high=3.5)
    assert [row["value"] for row in rows] == [1.0, 2.0, 3.0, 4.0]
    keys = pd.DataFrame([dict(layer=layer, side=side) for layer in (0, 1) for side in "ab"])
    assert found.rows(keys, n=7) == rows
    assert found[1, 0].rows({"layer": 1}) == [dict(layer=1, value=3.0, ci_low=2.5, ci_high=3.5)]
    assert found[:, 1].rows([{}, {}]) == [dict(value=v, ci_low=v - 0.5, ci_high=v + 0.5) for v in (2.0, 4.0)]
    doubled = found.map(lambda numbers: 2 * numbers)[1, 1]
    assert (doubled.value, doubled.ci_low, doubled.ci_high) == (8.0, 7.0, 9.0)
    bare = stats.point([3, 4]).rows([{}, {}], n=7)
    assert [row["value"] for row in bare] == [3.0, 4.0] and all(np.isnan(row["ci_low"]) for row in bare)
    with pytest.raises(ValueError, match="1 keys for 4 numbers"):
        found.rows({"layer": 1})


def test_permutation_p_is_uniform_under_the_null_and_small_for_an_effect() -> None:
    rng = np.random.default_rng(3)
    p = np.array([stats.permutation_p(rng.normal(), rng.normal(size=199)) for _ in range(800)])
    assert reference.kstest(p, "uniform").pvalue > 0.01
    null = rng.normal(size=99)
    assert stats.permutation_p([9.0, -9.0], np.column_stack([null, null])).tolist() == [0.01, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.cluster_bootstrap([1.0, np.nan], [0, 1]), "gaps"),
        (lambda: stats.cluster_bootstrap([1.0, 2.0], [0, 0]), "at least 2"),
        (lambda: stats.cluster_bootstrap([1.0, 2.0], [0, 1, 2]), "one group a text"),
        (lambda: stats.cluster_bootstrap([1.0, 2.0], [0, 1], weights=[1, -1]), "negative"),
        (lambda: stats.cluster_bootstrap([1.0, 2.0, 3.0], [0, 1, 2], weights=[1, 0, 0]), "too few groups carry it"),
        (lambda: stats.cluster_wilson([0.5, 1.0], [0, 1]), "not all 0 or 1"),
        (lambda: stats.wilson(3, 2), "between 0 and n"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_band_of_few_draws_holds_as_many_new_ones_as_it_says() -> None:
    draws = np.random.default_rng(3).normal(size=(21, 4000))
    band = stats.null_band(draws[:20])
    inside = ((band.ci_low <= draws[20]) & (draws[20] <= band.ci_high)).mean()
    assert inside == pytest.approx(0.95, abs=0.012)
    plain = np.quantile(draws[:20], [0.025, 0.975], axis=0)
    assert ((plain[0] <= draws[20]) & (draws[20] <= plain[1])).mean() < 0.9  # what quantiles of so few would hold
    many = stats.null_band(draws[:20].ravel())
    assert [many.ci_low, many.ci_high] == pytest.approx(np.quantile(draws[:20], [0.025, 0.975]))


def test_areas_under_the_curve_equal_scikit_learn_and_no_offset_moves_them() -> None:
    labels = np.array([0, 1, 2, 2, 1, 0] * 10)  # of a fourth label there is no text
    table = RNG.normal(size=(60, 2, 4)) + 1.5 * np.eye(4)[labels][:, None]
    table[::7] = table[::7].round()  # ties
    found = stats.macro_auroc(table, labels, GROUPS)
    expected = [np.mean([roc_auc_score(labels == c, table[:, k, c]) for c in range(3)]) for k in range(2)]
    np.testing.assert_allclose(found.value, expected, atol=1e-12)
    assert (found.ci_low < found.value).all() and (found.value < found.ci_high).all() and found.ci_high.max() < 1
    moved = stats.macro_auroc(table + [5.0, -3.0, 0.0, 9.0], labels, GROUPS)
    np.testing.assert_allclose([moved.value, moved.ci_low], [found.value, found.ci_low], atol=1e-12)
    perfect = stats.macro_auroc(np.eye(4)[labels][:, None], labels, GROUPS)
    assert perfect.value.item() == perfect.ci_high.item() == 1 and 0.5 < perfect.ci_low.item() < 1
    nothing = stats.macro_auroc(np.zeros((60, 1, 4)), labels, GROUPS)
    assert nothing.value.item() == 0.5 and nothing.ci_low.item() < 0.5 < nothing.ci_high.item()
    with pytest.raises(ValueError, match="all texts have one label"):
        stats.macro_auroc(table, np.zeros(60, int), GROUPS)


def test_the_variance_of_areas_is_delong_s_and_that_of_whole_groups() -> None:
    """Against DeLong, Delong and Clarke-Pearson (1988) written out pair by pair, and against drawing whole groups."""
    labels = (RNG.random(200) < 0.4).astype(int)
    positive, negative = (SCORES_OF_200 + 0.8 * labels)[labels == 1], (SCORES_OF_200 + 0.8 * labels)[labels == 0]
    pairs = (positive[:, None] > negative).astype(float)
    variance = pairs.mean(1).var(ddof=1) / len(positive) + pairs.mean(0).var(ddof=1) / len(negative)
    score = SCORES_OF_200 + 0.8 * labels
    alone = stats.macro_auroc(np.stack([-score, score], axis=-1)[:, None], labels, np.arange(200))
    odds = np.log(alone.value / (1 - alone.value))
    half = np.log(alone.ci_high / (1 - alone.ci_high)) - odds
    error = half * alone.value * (1 - alone.value) / reference.t.ppf(0.975, 199)
    assert error.item() == pytest.approx(np.sqrt(variance), rel=0.01)


def test_areas_under_the_curve_are_covered_by_their_intervals() -> None:
    """The scores of a label's texts are higher by 1, those of a group share a part: the area is that of two normals."""
    rng, truth, hits, naive, runs = np.random.default_rng(3), reference.norm.cdf(1 / np.sqrt(2 * 1.5)), 0, 0, 400
    for _ in range(runs):
        groups = np.repeat(np.arange(40), 6)
        labels = np.repeat(
            rng.integers(0, 3, 40), 6
        )  # a group is of one label: its texts count as hardly more than one
        table = rng.normal(size=(240, 3)) + np.sqrt(0.5) * rng.normal(size=(40, 3))[groups] + np.eye(3)[labels]
        found = stats.macro_auroc(table[:, None], labels, groups)
        hits += (found.ci_low <= truth).item() and (truth <= found.ci_high).item()
        alone = stats.macro_auroc(table[:, None], labels, np.arange(240))
        naive += (alone.ci_low <= truth).item() and (truth <= alone.ci_high).item()
    assert 0.92 <= hits / runs <= 0.98
    assert naive / runs < 0.9  # the positive control: the groups matter

"""Matchings against what they promise, intervals of pairs against brute force, simulation and repetition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, t

from emolib import stats
from emolib.stats import pairs, scores


def texts(n: int, *, classes: int = 13, writers: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.permutation(np.arange(n) % classes), random.integers(0, writers or n, n)


# Who is paired with whom.


@pytest.mark.parametrize("n", [0, 1, 2, 3, 12, 40, 41, 250])
def test_partners_have_each_other_and_differ_in_label_and_writer(n: int) -> None:
    labels, writers = texts(n, writers=max(n // 2, 1))
    rounds = pairs.matchings(labels, writers, 3, seed=1)
    assert rounds.shape == (3, n)
    seen: set[tuple[int, int]] = set()
    for partner in rounds:
        assert np.array_equal(partner[partner], np.arange(n))
        base = np.flatnonzero(partner != np.arange(n))
        assert (labels[base] != labels[partner[base]]).all()
        assert (writers[base] != writers[partner[base]]).all()
        couples = set(zip(base.tolist(), partner[base].tolist(), strict=True))
        assert len(couples) == len(base) and not couples & seen
        seen |= couples
        if n >= 40:
            assert len(base) == n - n % 2


def test_label_pairs_are_as_even_as_counts_can_be_and_random_ones_are_not() -> None:
    labels, writers = texts(260)
    rounds = pairs.matchings(labels, writers, 4, seed=0)
    counts = np.zeros((13, 13), dtype=int)
    for partner in rounds:
        np.add.at(counts, (labels, labels[partner]), 1)
    assert np.array_equal(counts, counts.T) and not np.diag(counts).any()
    apart = counts[~np.eye(13, dtype=bool)]
    assert apart.sum() == 1040
    assert apart.max() - apart.min() <= 2  # 1,040 over 156 ordered pairs is 6 or 7 each
    chance = np.zeros((13, 13), dtype=int)
    order = np.random.default_rng(0).permutation(260).reshape(-1, 2)
    np.add.at(chance, (labels[order[:, 0]], labels[order[:, 1]]), 4)
    assert np.ptp(chance[~np.eye(13, dtype=bool)]) > 4


def test_a_class_beyond_half_of_the_texts_is_left_over() -> None:
    labels = np.array([0] * 20 + [1] * 4 + [2] * 3)
    rounds = pairs.matchings(labels, np.arange(27), 2, seed=0)
    for partner in rounds:
        paired = partner != np.arange(27)
        assert paired[20:].all() and paired.sum() == 14


def test_one_writer_or_one_label_leaves_nobody_to_pair() -> None:
    labels, writers = texts(30)
    for rounds in (
        pairs.matchings(labels, np.zeros(30, dtype=int), 2, seed=0),
        pairs.matchings(np.zeros(30, dtype=int), writers, 2, seed=0),
    ):
        assert (rounds == np.arange(30)).all()


def test_the_seed_decides() -> None:
    labels, writers = texts(100)
    first, again, other = (pairs.matchings(labels, writers, 2, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.1
    assert np.array_equal(pairs.matchings(labels, writers, 1, seed=3), first[:1])


def test_same_label_donors() -> None:
    labels, writers = texts(60, writers=25, seed=2)
    labels[0] = 99  # the only one of its label
    donors = pairs.same_label_donors(labels, writers, seed=0)
    given = donors != np.arange(60)
    assert not given[0] and given.sum() > 40
    assert (labels[donors] == labels).all()
    assert (writers[donors[given]] != writers[given]).all()
    assert len(set(donors[given])) == given.sum()


# What is measured on a pair.


def test_evidence_by_hand_and_without_a_constant() -> None:
    random = np.random.default_rng(0)
    logits, label, other = random.normal(size=(6, 2, 5)), np.array([0, 1, 2, 3, 4, 0]), np.array([1, 2, 0, 4, 3, 4])
    found = pairs.evidence(logits, label, other)
    for pair, site in product(range(6), range(2)):
        rest = [logits[pair, site, k] for k in range(5) if k not in (label[pair], other[pair])]
        assert found[pair, site] == pytest.approx(logits[pair, site, label[pair]] - sum(rest) / 3)
    assert np.allclose(pairs.evidence(logits + random.normal(size=(6, 2, 1)), label, other), found)


# Variance and intervals.


def dyads(n: int, writers: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng(seed).integers(0, writers, (2, n)))  # type: ignore[return-value]


def test_the_variance_counts_every_two_rows_that_share_a_writer() -> None:
    base, source = dyads(40, 12)
    assert (base == source).any() and len(np.union1d(base, source)) == 12
    values = np.random.default_rng(1).normal(size=(40, 3))
    centred = values - values.mean(axis=0)
    expected = np.zeros(3)
    for i, j in product(range(40), repeat=2):
        if {base[i], source[i]} & {base[j], source[j]}:
            expected += centred[i] * centred[j]
    assert np.allclose(pairs.dyadic_variance(centred, base, source), expected / 40**2 * 12 / 11)


def test_a_mean_of_independent_pairs_has_its_usual_interval() -> None:
    values = np.random.default_rng(0).normal(2.0, size=(50, 1))
    found = pairs.ratio_interval(values, np.ones(50), np.arange(50), np.arange(50, 100))
    error = np.sqrt((values.var() / 50) * 100 / 99)
    assert found.value[0] == pytest.approx(values.mean())
    assert found.ci_high[0] - found.value[0] == pytest.approx(t.ppf(0.975, 99) * error)
    assert found.value[0] - found.ci_low[0] == pytest.approx(t.ppf(0.975, 99) * error)


def test_the_interval_of_a_ratio_equals_that_of_the_drawn_ratios() -> None:
    random = np.random.default_rng(0)
    whole = random.normal(4, 1, 400)
    part = (0.3 * whole + random.normal(0, 1, 400))[:, None]
    base, source = np.arange(400), np.arange(400, 800)
    found = pairs.ratio_interval(part, whole, base, source)
    drawn = random.multinomial(400, np.full(400, 1 / 400), size=4000)
    low, high = np.quantile((drawn @ part[:, 0]) / (drawn @ whole), [0.025, 0.975])
    assert found.value[0] == pytest.approx(part.mean() / whole.mean())
    assert found.ci_low[0] == pytest.approx(low, abs=0.004) and found.ci_high[0] == pytest.approx(high, abs=0.004)


def test_intervals_cover_where_both_writers_of_a_pair_matter() -> None:
    labels, writers = texts(250, writers=200, seed=5)
    rounds = pairs.matchings(labels, writers, 4, seed=0)
    base, source = np.tile(np.arange(250), 4), rounds.ravel()
    covered = {"dyads": 0, "base only": 0}
    runs = 200
    for run in range(runs):
        random = np.random.default_rng(run)
        given, taken = random.normal(0, 2, 250), random.normal(0, 1, 250)  # some texts give or take more easily
        hits = given[source] + taken[base] + random.normal(0, 0.5, 1000) > 0  # half of them, in the long run
        both = pairs.share_interval(hits, writers[base], writers[source])
        one = stats.cluster_wilson(hits, writers[base])
        covered["dyads"] += both.ci_low[0] <= 0.5 <= both.ci_high[0]
        covered["base only"] += one.ci_low <= 0.5 <= one.ci_high
    assert 0.92 <= covered["dyads"] / runs <= 0.99
    assert covered["base only"] / runs < 0.9


def test_a_share_without_exception_has_an_interval_too() -> None:
    base, source = np.repeat(np.arange(10), 4), 10 + np.repeat(np.arange(10), 4)
    found = pairs.share_interval(np.stack([np.ones(40), np.zeros(40)], axis=1), base, source)
    most = 20 * (norm.ppf(0.975) / t.ppf(0.975, 19)) ** 2  # as if every writer counted once
    plain = stats.wilson([most, 0], most)
    assert found.value.tolist() == [1.0, 0.0]
    assert np.allclose(found.ci_low, plain.ci_low) and np.allclose(found.ci_high, plain.ci_high)


def test_a_drawn_pair_counts_base_times_source_often() -> None:
    values = np.random.default_rng(0).normal(size=(4, 2))
    base, source = np.array([0, 1, 2, 2]), np.array([1, 2, 0, 1])
    weights = np.array([[1, 1, 1], [2, 1, 0], [3, 0, 1], [0, 0, 3]], dtype=float)
    found = pairs.over_texts(scores.mean(values), base, source)(weights)
    for row, (w0, w1, w2) in zip(found, weights, strict=True):
        times = np.array([w0 * w1, w1 * w2, w2 * w0, w2 * w1], dtype=int)
        drawn = np.repeat(values, times, axis=0) if times.any() else values
        assert np.allclose(row, drawn.mean(axis=0))


def test_part_of_the_texts_as_a_statistic_of_all() -> None:
    statistic = pairs.over_texts(scores.mean(np.array([1.0, 5.0])), np.array([2, 0]))
    assert statistic(np.array([[1.0, 9, 3], [0, 9, 0]])).ravel().tolist() == [(3 * 1 + 1 * 5) / 4, 3.0]

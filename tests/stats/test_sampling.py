"""Which texts are drawn: how even, how many, and that writers stay whole."""

from __future__ import annotations

import numpy as np
import pytest

from emolib import stats
from emolib.stats import sampling
from emolib.stats.sampling import balanced_rows, halves

LABELS = np.array([0] * 50 + [1] * 50 + [2] * 3 + [3] * 20)


def counts(rows: np.ndarray) -> list[int]:
    return np.bincount(LABELS[rows], minlength=4).tolist()


@pytest.mark.parametrize(
    ("n", "expected"), [(4, [1, 1, 1, 1]), (12, [3, 3, 3, 3]), (33, [10, 10, 3, 10]), (63, [20, 20, 3, 20])]
)
def test_classes_are_as_equal_as_they_can_be(n: int, expected: list[int]) -> None:
    found = balanced_rows(LABELS, range(len(LABELS)), n, seed=0)
    assert counts(found) == expected
    assert found.tolist() == sorted(set(found.tolist()))


def test_what_is_left_over_goes_to_the_large_classes() -> None:
    assert counts(balanced_rows(LABELS, range(len(LABELS)), 90, seed=1))[2:] == [3, 20]
    assert len(balanced_rows(LABELS, range(len(LABELS)), 90, seed=1)) == 90
    assert balanced_rows(LABELS, range(len(LABELS)), 10_000, seed=1).tolist() == list(range(len(LABELS)))


def test_only_given_rows_are_drawn_and_more_contains_less() -> None:
    rows = np.arange(0, len(LABELS), 2)
    few, many = (set(balanced_rows(LABELS, rows, n, seed=5).tolist()) for n in (9, 30))
    assert few < many <= set(rows.tolist())
    assert set(balanced_rows(LABELS, rows, 9, seed=6).tolist()) != few


def test_impossible_samples_are_refused() -> None:
    for rows, n in (([1, 2, 1], 2), ([1, 2], 0)):
        with pytest.raises(ValueError, match="give n of at least 1 and each text once"):
            balanced_rows(LABELS, rows, n, seed=0)


def test_halves_keep_writers_whole_and_are_halves() -> None:
    groups = np.random.default_rng(0).integers(0, 300, 1000)
    first = halves(groups, seed=0)
    assert not set(groups[first]) & set(groups[~first])
    assert 500 <= first.sum() <= 500 + np.bincount(groups).max()
    assert (halves(groups, seed=1) != first).mean() > 0.3


def test_of_many_texts_enough_are_drawn_and_their_interval_is_narrow() -> None:
    few, many = np.arange(7)[::-1], np.arange(5 * sampling.ENOUGH)
    assert sampling.enough(few, seed=0).tolist() == list(range(7))
    drawn = sampling.enough(many, seed=0)
    assert len(np.unique(drawn)) == sampling.ENOUGH and (np.diff(drawn) > 0).all() and drawn.max() > 4 * sampling.ENOUGH
    assert not np.array_equal(drawn, sampling.enough(many, seed=1))
    ends = stats.wilson(sampling.ENOUGH / 2, sampling.ENOUGH)
    assert float(ends.ci_high - ends.ci_low) <= 0.05

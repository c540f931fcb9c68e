"""Which texts an experiment uses when it does not use all: how many, by class, and by writer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Of so many texts the interval of a share is at most 0.05 wide (0.046, and wider as writers have several of them): more
# tell hardly more, and where every text has hundreds of edits they take hours.
ENOUGH = 1800


def enough(rows: Sequence[int] | np.ndarray, *, seed: int) -> np.ndarray:
    """`rows`, or where there are more than `ENOUGH` so many of them, drawn at random, in rising order."""
    rows = np.sort(np.asarray(rows, dtype=int))
    return rows if len(rows) <= ENOUGH else np.sort(np.random.default_rng(seed).permutation(rows)[:ENOUGH])


def balanced_rows(labels: np.ndarray, rows: Sequence[int] | np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """At most `n` of `rows`, drawn at random with the classes of `labels` [N] as equal as possible, in rising order.

    Classes with fewer texts than their share come whole, and the others fill the places they leave. A smaller `n`
    with the same seed gives a part of what a larger one gives. Raises ValueError when rows repeat or n < 1.
    """
    rows = np.asarray(rows, dtype=int)
    if len(np.unique(rows)) < len(rows) or n < 1:
        raise ValueError(f"n is {n} and rows may repeat: give n of at least 1 and each text once")
    order = np.random.default_rng(seed).permutation(rows)
    # The k-th text of its class is taken before any class gives its (k + 1)-th.
    turn = pd.Series(order).groupby(np.asarray(labels)[order]).cumcount()
    return np.sort(order[np.argsort(turn.to_numpy(), kind="stable")[:n]])


def halves(groups: np.ndarray, *, seed: int) -> np.ndarray:
    """For each text [N] whether its writer is in the first half: fit on it, judge on the other.

    Writers come whole. Their order is random, and the first half ends where it holds at least half of the texts.
    """
    codes, counts = np.unique(np.asarray(groups), return_counts=True)
    order = np.random.default_rng(seed).permutation(len(codes))
    first = np.cumsum(counts[order]) - counts[order] < counts.sum() / 2
    return np.isin(groups, codes[order[first]])

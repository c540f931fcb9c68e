"""Pairs of texts, base and source, and intervals for what is measured on them. Knows nothing of models.

Two pairs that share a writer, on whichever side, are not independent. The variance of a mean over pairs counts all such
pairs of pairs (dyadic clustering: Aronow, Samii and Assenova, 2015); with it shares get Wilson's interval.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from emolib import stats
from emolib.stats.intervals import design_wilson
from emolib.stats.scores import Array, Statistic, as_table

Ints = NDArray[np.integer]
SWAPS = 60  # exchanges of partners tried per pair; 250 texts of 13 labels then have 6 or 7 of each pair of labels
FORBIDDEN = 10**6


def matchings(labels: Ints, writers: Ints, n_rounds: int, *, seed: int) -> Ints:
    """For each round and text [n_rounds, n] its partner: of another label and writer, and another one every round.

    Partners have each other, so every pair occurs in both directions. Exchanging partners evens out how often each pair
    of labels occurs over all rounds so far. A text that is left over is its own partner.
    """
    random, odd = np.random.default_rng(seed), len(labels) % 2
    names, codes = np.unique(labels, return_inverse=True)
    allowed = (codes[:, None] != codes) & (writers[:, None] != writers)
    # Nobody, a label of its own, is the partner of the text that is one too many.
    codes, allowed = np.append(codes, [len(names)] * odd).astype(int), np.pad(allowed, (0, odd))
    used = np.zeros((len(names) + 1,) * 2, dtype=int)
    rounds: Ints = np.tile(np.arange(len(labels)), (n_rounds, 1))
    for partner in rounds:
        couples: Ints = random.permutation(len(codes)).reshape(-1, 2)
        couples = _even_out(couples, allowed, codes, used, random)
        one, other = couples[allowed[couples[:, 0], couples[:, 1]]].T
        partner[one], partner[other] = other, one
        allowed[one, other] = allowed[other, one] = False
    return rounds


def same_label_donors(labels: Ints, writers: Ints, *, seed: int) -> Ints:
    """For each text [n] another of its label, drawn at random; itself where that is none or by the same writer."""
    random, donors = np.random.default_rng(seed), np.arange(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        donors[members] = np.roll(members, 1)  # one cycle: every text gives once
    return np.where(writers[donors] == writers, np.arange(len(labels)), donors)


def evidence(logits: Array, label: Ints, other: Ints) -> Array:
    """The logit of each pair's `label` over the mean of the labels that are neither it nor `other`, [pairs, k].

    `logits` is [pairs, k, labels]. What is added to all labels, as a normalisation adds, makes no difference.
    """
    table, rows = logits.astype(float), np.arange(len(logits))
    own, opposite = table[rows, :, label], table[rows, :, other]
    return own - (table.sum(-1) - own - opposite) / (table.shape[-1] - 2)


def share_interval(hits: NDArray[np.bool_], base: Ints, source: Ints) -> stats.Interval:
    """The share of each column of `hits` [pairs, k] with Wilson's interval; `base`, `source` [pairs] are writers.

    The variance of the share is that of `dyadic_variance`; see `stats.intervals.design_wilson`.
    """
    table = as_table(hits, "hits")
    share, writers = table.mean(axis=0), len(np.union1d(base, source))
    return design_wilson(share, dyadic_variance(table - share, base, source), len(table), writers)


def ratio_interval(part: Array, whole: Array, base: Ints, source: Ints) -> stats.Interval:
    """The ratio of the mean of each column of `part` [pairs, k] to that of `whole` [pairs], by linearisation.

    With `whole` of ones it is the mean. The interval takes t with one degree of freedom a writer, less one.
    """
    total = whole.mean()
    ratio = part.mean(axis=0) / total
    variance = dyadic_variance((part - whole[:, None] * ratio) / total, base, source)
    half = t.ppf(0.5 + stats.LEVEL / 2, len(np.union1d(base, source)) - 1) * np.sqrt(np.maximum(variance, 0.0))
    return stats.Interval(ratio, ratio - half, ratio + half)


def dyadic_variance(centred: Array, base: Ints, source: Ints) -> Array:
    """The variance [k] of the mean of each column, given its values [pairs, k] about that mean.

    It is the sum of the products of all pairs of rows that have a writer in common, over n^2, times G / (G - 1).
    """
    writers, codes = np.unique(np.stack([base, source]), return_inverse=True)
    low, high = np.sort(codes.reshape(2, -1), axis=0)
    two = low != high
    sums = np.zeros((len(writers), centred.shape[1]))
    np.add.at(sums, low, centred)
    np.add.at(sums, high[two], centred[two])
    # Rows with the same two writers meet twice in these sums, at the one and at the other.
    couples, members = np.unique(low * len(writers) + high, return_inverse=True)
    twice = np.zeros((len(couples), centred.shape[1]))
    np.add.at(twice, members[two], centred[two])
    return ((sums**2).sum(0) - (twice**2).sum(0)) / len(centred) ** 2 * len(writers) / (len(writers) - 1)


def over_texts(statistic: Statistic, *texts: Ints) -> Statistic:
    """The statistic of pairs as one of their texts, for `stats.bootstrap`: a pair is drawn base times source often.

    `texts` are the numbers of the texts on either side of the pairs, or of some texts alone. Resampling both sides
    counts the noise of a single pair up to three times (Owen, 2007): intervals are wide rather than narrow. A resample
    that draws none of them counts them all once.
    """

    def statistic_of_texts(weights: Array) -> Array:
        drawn = np.prod([weights[:, side] for side in texts], axis=0)
        return statistic(np.where(drawn.sum(axis=1, keepdims=True) > 0, drawn, 1.0))

    return statistic_of_texts


def _even_out(couples: Ints, allowed: NDArray[np.bool_], codes: Ints, used: Ints, random: np.random.Generator) -> Ints:
    """The couples after exchanging partners: fewer that are not allowed, and fewer repeats of a pair of labels.

    `used` [labels, labels] counts the couples of each pair of labels and is brought up to date.
    """

    def add(couple: tuple[int, int], change: int) -> int:
        a, b = codes[couple[0]], codes[couple[1]]
        used[a, b] += change
        used[b, a] = used[a, b]
        return int(used[a, b]) - (change > 0) + (0 if allowed[couple] else FORBIDDEN)

    found = [(int(a), int(b)) for a, b in couples]
    for couple in found:
        add(couple, 1)
    tries = random.integers(len(found), size=(SWAPS * len(found), 2)) if found else np.empty((0, 2), dtype=int)
    turned = random.integers(2, size=len(tries)).astype(bool)
    for (i, j), turn in zip(tries.tolist(), turned.tolist(), strict=True):
        if i == j:
            continue
        (a, b), (c, d) = found[i], found[j][::-1] if turn else found[j]
        old = sum([add(couple, -1) for couple in (found[i], found[j])])
        new = sum([add(couple, 1) for couple in ((a, c), (b, d))])
        if new <= old:
            found[i], found[j] = (a, c), (b, d)
        else:
            for couple, change in (((a, c), -1), ((b, d), -1), (found[i], 1), (found[j], 1)):
                add(couple, change)
    return np.array(found, dtype=int).reshape(-1, 2)

"""Words of a text: which are emotion words, and whether they are looked at more than others like them.

crowd-enVENT comes twice, as written and with "..." for every emotion word. Laying the two over each other gives the
emotion words of each text as the corpus itself defines them, without a lexicon. Loads no model library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from emolib.stats.scores import Statistic

Span = tuple[int, int]
WORD = re.compile(r"\w+(?:['\N{RIGHT SINGLE QUOTATION MARK}]\w+)*")
MASK = re.compile(r"\.{3}")  # what crowd-enVENT puts in the place of an emotion word
FIFTHS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Tokens to compare, M of them over n texts: `weight` [M, L], `target` [M] whether the token is of the kind in
    question, `cell` [M] what it may be compared with, `text` [M] its text's number."""

    weight: np.ndarray
    target: np.ndarray
    cell: np.ndarray
    text: np.ndarray


def words_of(text: str) -> list[tuple[str, Span]]:
    """The words of a text in lower case, each with the characters it takes up."""
    return [(found.group().lower(), found.span()) for found in WORD.finditer(text)]


def is_content(word: str) -> bool:
    """Whether a lower-case word carries content: scikit-learn's English stop words and numbers do not."""
    return word.isalpha() and word not in ENGLISH_STOP_WORDS and len(word) > 1


def masked_spans(masked: str, original: str) -> list[Span]:
    """The characters of `original` that `masked` has "..." for; none when the two do not fit each other.

    An ellipsis that the writer wrote stands in both and is none.
    """
    found = re.fullmatch("(.+?)".join(map(re.escape, MASK.split(masked))), original, re.DOTALL)
    spans = [found.span(number) for number in range(1, found.re.groups + 1)] if found else []
    return [span for span in spans if not MASK.fullmatch(original[slice(*span)])]


def frequency_bins(texts: Iterable[str]) -> dict[str, int]:
    """For each word of the texts the whole part of the binary logarithm of how often it occurs."""
    counts = Counter(word for text in texts for word, _ in words_of(text))
    return {word: count.bit_length() - 1 for word, count in counts.items()}


def owner(starts: Sequence[int] | np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """For each token, given by its first character, the number of the span it lies in; -1 for none."""
    inside = [[number for number, (a, b) in enumerate(spans) if a <= start < b] for start in starts]
    return np.array([found[0] if found else -1 for found in inside], dtype=int)


def fifths(n: int) -> np.ndarray:
    """For each of `n` tokens of a text the fifth of the text it lies in, 0 to 4."""
    return np.arange(n) * FIFTHS // max(n, 1)


def enrichment(tokens: Compared, n_texts: int) -> Statistic:
    """The statistic "how many times as much weight targets get as other tokens of their cell"; columns: L.

    Weights count relative to the mean over the other tokens of their text and layer, so that texts that are looked at
    more do not count for more. The denominator is what the targets would get if each got the mean of the others in its
    cell; targets in a cell without others, and texts without others, are left out. 1 is no difference.
    """
    others = pd.DataFrame(tokens.weight[~tokens.target]).groupby(tokens.text[~tokens.target]).mean()
    kept = np.isin(tokens.text, others.index)
    target, text = tokens.target[kept], tokens.text[kept]
    cells = np.unique(tokens.cell[kept], return_inverse=True)[1]
    mean = others.loc[text].to_numpy()
    relative = tokens.weight[kept] / np.where(mean > 0, mean, 1)
    shape = (n_texts, cells.max(initial=0) + 1)
    sums, counts = {}, {}
    for kind in (True, False):
        of = target == kind
        sums[kind], counts[kind] = np.zeros((*shape, relative.shape[1])), np.zeros(shape)
        np.add.at(sums[kind], (text[of], cells[of]), relative[of])
        np.add.at(counts[kind], (text[of], cells[of]), 1)

    def ratio(drawn: np.ndarray) -> np.ndarray:
        mine, rest = (np.tensordot(drawn, sums[kind], 1) for kind in (True, False))
        n_mine, n_others = (np.tensordot(drawn, counts[kind], 1)[..., None] for kind in (True, False))
        usable = n_others > 0
        mean = np.divide(rest, n_others, out=np.zeros_like(rest), where=usable)
        expected = (n_mine * mean).sum(1)
        return np.divide((mine * usable).sum(1), expected, out=np.ones_like(expected), where=expected > 0)

    return ratio

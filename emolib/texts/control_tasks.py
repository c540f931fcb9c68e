"""Other questions about the same texts (paper C.4; errata M13).

Two controls ask what has nothing to do with emotion. The paper's wants the first word of the text: unbalanced, and
answered by copying. Ours wants the topic: the frame and the demonstrations of the default prompt, answers that need
reading, classes drawn in equal numbers. Loads no model library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emolib.stats.sampling import balanced_rows
from emolib.texts.prompts import Prompt, get_prompt
from emolib.texts.sources import packaged

FEWEST = 8  # texts an answer must have to count: fewer can be neither probed nor patched


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question with its right answers: `rows` of the events, rising, and `truth`, ids into `prompt.labels`."""

    prompt: Prompt
    rows: np.ndarray
    truth: np.ndarray


def first_word_task(texts: pd.Series, n: int, *, seed: int, shown: Sequence[int] = ()) -> Task | None:
    """The paper's control (C.4): name the first word, on at most `n` texts that begin with one of its 13 words.

    Drawn at random and not balanced, as in the paper, where 62% begin with "I"; never a text in the rows `shown`,
    which a prompt has as demonstrations. None when fewer than two words begin `FEWEST` texts.
    """
    prompt = get_prompt("first_word")
    words = first_words(texts, prompt)
    words.iloc[list(shown)] = ""
    usable = np.flatnonzero(words != "")
    if (words[words != ""].value_counts() >= FEWEST).sum() < 2:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(usable)[:n])
    return Task(prompt=prompt, rows=rows, truth=np.array([prompt.labels.index(word) for word in words.iloc[rows]]))


def first_words(texts: pd.Series, prompt: Prompt) -> pd.Series:
    """The first blank-separated word of each text where it is a label of the control prompt, else "".

    Case counts, as in the released code: "My" and "my" are two labels (appendix C.4).
    """
    return texts.map(lambda text: word[0] if (word := text.split(maxsplit=1)) and word[0] in prompt.labels else "")


def topic_task(texts: pd.Series, n: int, *, seed: int, shown: Sequence[int] = ()) -> Task | None:
    """The balanced control: name the topic, on at most `n` texts about exactly one, as many of each topic.

    No text is in the rows `shown`. Topics of fewer than `FEWEST` texts are no answers. None when fewer than two are
    left: the words are English.
    """
    found, stimuli = topics(texts), packaged("topics.yml")
    found.iloc[list(shown)] = ""
    labels = tuple(topic for topic in stimuli["words"] if (found == topic).sum() >= FEWEST)
    if len(labels) < 2:
        return None
    ids = np.array([labels.index(topic) if topic in labels else -1 for topic in found])
    each = min(n // len(labels), *(int((ids == label).sum()) for label in range(len(labels))))
    rows = balanced_rows(ids, np.flatnonzero(ids >= 0), each * len(labels), seed=seed)
    demonstrations = tuple((item["text"], item["label"]) for item in stimuli["demonstrations"])
    prompt = Prompt(name="topic", instruction=stimuli["instruction"], demonstrations=demonstrations, labels=labels)
    return Task(prompt=prompt, rows=rows, truth=ids[rows])


def topics(texts: pd.Series) -> pd.Series:
    """The topic of each text that has words of exactly one topic, else ""."""
    vocabulary = {topic: set(words.split()) for topic, words in packaged("topics.yml")["words"].items()}

    def topic_of(text: str) -> str:
        words = set(re.findall(r"[a-z]+", text.lower()))
        hits = [topic for topic, own in vocabulary.items() if words & own]
        return hits[0] if len(hits) == 1 else ""

    return texts.map(topic_of)

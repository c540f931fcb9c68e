"""The other questions about the same texts: counts by hand."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd

from emolib.texts import control_tasks
from emolib.texts.corpus import Corpus
from emolib.texts.prompts import get_prompt


def test_a_topic_is_the_only_one_whose_words_a_text_has() -> None:
    texts = ["My SISTER laughed.", "The boss saw my sister.", "Rain.", "A dog's dinner", "The carpet caught fire"]
    assert control_tasks.topics(pd.Series(texts)).tolist() == ["family", "", "", "animals", ""]


def test_topics_agree_with_those_the_authors_of_the_situations_had_in_mind() -> None:
    own = pd.read_csv(files("emolib").joinpath("data/situations.csv"))
    found = control_tasks.topics(own["text"])
    named = own["topic"][found == "family"]
    assert (named == "family").mean() > 3 * (own["topic"] == "family").mean()


def test_the_topic_task_is_balanced_and_right() -> None:
    texts = pd.Series(["my dog"] * 9 + ["my sister"] * 30 + ["my boss"] * 20 + ["the bus"] * 7 + ["rain"] * 10)
    task = control_tasks.topic_task(texts, 26, seed=0)
    assert task.prompt.labels == ("family", "work", "animals")  # seven texts on travel are too few
    assert np.bincount(task.truth).tolist() == [8, 8, 8]
    assert (np.diff(task.rows) > 0).all()
    assert [task.prompt.labels[t] for t in task.truth] == control_tasks.topics(texts.iloc[task.rows]).tolist()
    assert len(control_tasks.topic_task(texts, 1000, seed=0).rows) == 27  # the smallest topic decides
    assert control_tasks.topic_task(texts[9:39], 26, seed=0) is None
    default = get_prompt("T1-2shot")
    assert task.prompt.prefix.split(".")[0].split("?")[1] == default.prefix.split(".")[0].split("?")[1]


def test_the_first_word_task_by_hand() -> None:
    texts = pd.Series(["My cat", "my cat", "I saw", "Cats", " When I", "I", ""] * 9)
    task = control_tasks.first_word_task(texts, 1000, seed=0)
    assert task.rows.tolist() == [i for i in range(63) if i % 7 not in (3, 6)]
    words = [texts[row].split()[0] for row in task.rows]
    assert [task.prompt.labels[t] for t in task.truth] == words
    assert len(control_tasks.first_word_task(texts, 10, seed=0).rows) == 10
    assert control_tasks.first_word_task(texts[texts.str.startswith("I")], 10, seed=0) is None


def test_the_first_word_task_keeps_the_texts_of_the_paper(crowd_envent: Corpus) -> None:
    task = control_tasks.first_word_task(crowd_envent.events["text"], 10_000, seed=0)
    counts = dict(zip(task.prompt.labels, np.bincount(task.truth).tolist(), strict=True))
    assert len(task.rows) == 5832
    assert (counts["I"], counts["My"], counts["my"], counts["we"]) == (3551, 438, 421, 18)

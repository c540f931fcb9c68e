"""Groups, subsets and demonstrations against slow oracles, and the real corpus against its published counts."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emolib.texts import sources
from emolib.texts.corpus import (
    EMOTIONS,
    Corpus,
    TextColumn,
    demonstration_rows,
    load_corpus,
    load_readings,
    normalised,
    subset,
    writer_groups,
)
from emolib.texts.prompts import Prompt, get_prompt
from emolib.texts.reading import read_table
from helpers import CROWD_MEANS

Save = Callable[..., Path]


def union_find_groups(writers: list[str], texts: list[str]) -> list[int]:
    """The same groups by repeated merging, quadratic and obvious."""
    group = list(range(len(texts)))
    plain = [normalised(text) or text for text in texts]
    for i in range(len(texts)):
        for j in range(i):
            if (writers[i] == writers[j] or plain[i] == plain[j]) and group[i] != group[j]:
                old, new = group[i], group[j]
                group = [new if g == old else g for g in group]
    names: dict[int, int] = {}
    return [names.setdefault(g, len(names)) for g in group]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["A b.", "a B", "c", "C!", "d", "...", "?"]))))
def test_writer_groups_equal_slow_union_find(pairs: list[tuple[str, str]]) -> None:
    writers, texts = [w for w, _ in pairs], [t for _, t in pairs]
    found = writer_groups(pd.DataFrame({"writer": writers, "text": texts}, dtype=object))
    assert found.tolist() == union_find_groups(writers, texts)


def test_writer_groups_join_chains() -> None:
    events = pd.DataFrame({"writer": ["a", "b", "b", "c", "d"], "text": ["My dog!", "my dog", "x", "X.", "y"]})
    assert writer_groups(events).tolist() == [0, 0, 0, 0, 1]


def unequal_corpus(counts: dict[str, int]) -> Corpus:
    labels = [label for label, count in counts.items() for _ in range(count)]
    table = pd.DataFrame({"text_id": [str(i) for i in range(len(labels))], "emotion": labels})
    return Corpus(name="x", events=table.assign(writer="w", text="t"), sha256="", note="")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=13), st.data(), st.integers(0, 5))
def test_subset_is_proportional_and_keeps_order(counts: list[int], data: st.DataObject, seed: int) -> None:
    corpus = unequal_corpus(dict(zip(EMOTIONS, counts, strict=False)))
    n = data.draw(st.integers(len(counts), sum(counts)))
    events = subset(corpus, n, seed).events
    assert len(events) == n
    assert events["text_id"].astype(int).is_monotonic_increasing and events["text_id"].is_unique
    taken = events["emotion"].value_counts()
    for label, count in zip(EMOTIONS, counts, strict=False):
        share = count * n / sum(counts)
        assert 1 <= taken[label] <= count
        # Rare emotions raised to one event are paid for by the others, never by more than they number.
        assert abs(taken[label] - share) <= max(1, sum(c * n / sum(counts) < 1 for c in counts))


def test_subset_depends_on_the_seed_only() -> None:
    corpus = unequal_corpus({"joy": 30, "fear": 10})
    first, again, other = (subset(corpus, 8, seed).events["text_id"].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert subset(corpus, 8, 1).events["emotion"].value_counts().to_dict() == {"joy": 6, "fear": 2}
    assert subset(corpus, 40, 1) is subset(corpus, 99, 1) is corpus
    with pytest.raises(ValueError, match="n=1 is too small for 2 emotions"):
        subset(corpus, 1, 0)


def test_demonstration_rows_need_the_words_and_the_label() -> None:
    prompt = Prompt(name="p", instruction="", demonstrations=(("I saw my dog!", "joy"),))
    texts = ["i saw my dog", "When I saw my dog.", "saw my dog", "I saw my dog run", "And when I saw my dog", "my dog"]
    events = pd.DataFrame({"text_id": list("abcdef"), "text": texts, "emotion": "joy"})
    assert demonstration_rows(events, prompt) == ["a", "b", "c"]
    assert demonstration_rows(events.assign(emotion="fear"), prompt) == []


# Of events and writers' groups as stored tables were measured with them: how a file is read changes none of them.
MEASURED = {
    ("situations", "masked"): ("81e2e78671dfbf30", "8c593a2e6dc40f8f"),
    ("crowd-envent", "masked"): ("8a86dca82218c1f6", "71479459367f2a3c"),
    ("crowd-envent", "original"): ("ba09e2022e46e792", "8446a1b8d24b4b79"),
}


def digests(events: pd.DataFrame) -> tuple[str, str]:
    parts = events.to_csv().encode(), writer_groups(events).tobytes()
    return tuple(hashlib.sha256(part).hexdigest()[:16] for part in parts)  # type: ignore[return-value]


def test_the_embedded_corpus_is_what_was_measured() -> None:
    assert digests(load_corpus("situations").events) == MEASURED["situations", "masked"]


@pytest.mark.parametrize("text", ["masked", "original"])
def test_the_real_corpus_is_what_was_measured(crowd_envent_path: Path, text: TextColumn) -> None:
    found = load_corpus("crowd-envent", path=crowd_envent_path, text=text)
    assert digests(found.events) == MEASURED["crowd-envent", text]
    assert str(found.reading) == "cp1252, stated, 6600 rows"


# The real corpus (counts: crowd-enVENT as released; label means to two decimals)


def test_real_counts(crowd_envent: Corpus) -> None:
    events = crowd_envent.events
    assert crowd_envent.sha256 == "941683c991923cdecf2953c4c945227bbbd3678b96139564c7ed68cb432c5a2c"
    expected = {label: 275 if label in ("guilt", "shame") else 550 for label in EMOTIONS}
    assert events["emotion"].value_counts().to_dict() == expected
    assert len(events) == 6600 and events["text_id"].is_unique
    per_writer = events["writer"].value_counts()
    assert (len(per_writer), (per_writer == 1).sum(), (per_writer >= 5).sum(), per_writer.max()) == (
        2379,
        1193,
        386,
        33,
    )
    assert per_writer[per_writer >= 5].sum() == 3261
    words = events["text"].str.split().str.len()
    assert [words.median(), words.quantile(0.25), words.quantile(0.75), words.max()] == [13, 8, 23, 422]


def test_real_masking(crowd_envent: Corpus, crowd_envent_path: Path) -> None:
    original = load_corpus("crowd-envent", path=crowd_envent_path, text="original").events
    masked = crowd_envent.events["text"] != original["text"]
    assert masked.sum() == 2126
    share = masked.groupby(original["emotion"]).mean().round(2)
    assert share[["anger", "disgust", "trust"]].tolist() == [0.22, 0.29, 0.44]
    assert original["text"].str.contains("...", regex=False).sum() == 14
    assert crowd_envent.events["text"].str.contains("...", regex=False).sum() == 2135


@pytest.mark.parametrize(("text", "counts"), [("original", (64, 30, 15, 116)), ("masked", (68, 32, 17, 124))])
def test_real_duplicates(crowd_envent_path: Path, text: str, counts: tuple[int, ...]) -> None:
    events = load_corpus("crowd-envent", path=crowd_envent_path, text=text).events  # type: ignore[arg-type]
    repeated = events[events["text"].duplicated(keep=False)]
    labels = repeated.groupby("text")["emotion"].nunique()
    plain = events["text"].map(normalised).duplicated(keep=False).sum()
    assert (len(repeated), len(labels), (labels > 1).sum(), plain) == counts


def test_real_encodings(crowd_envent_path: Path) -> None:
    kwargs = {"path": crowd_envent_path, "text": "original"}
    cp1252 = load_corpus("crowd-envent", **kwargs).events["text"]
    latin1 = load_corpus("crowd-envent", **kwargs, encoding="latin-1").events["text"]
    assert (cp1252 != latin1).sum() == 183
    assert latin1.str.contains("[\x80-\x9f]").sum() == 183 and not cp1252.str.contains("[\x80-\x9f]").any()


def test_real_label_means(crowd_envent: Corpus) -> None:
    means = crowd_envent.ratings.groupby(crowd_envent.events["emotion"]).mean()
    for column, expected in CROWD_MEANS.items():
        np.testing.assert_allclose(means.loc[list(EMOTIONS), column], expected, atol=0.00501)


def test_real_readings(crowd_envent: Corpus, crowd_envent_path: Path) -> None:
    readings = load_readings(crowd_envent_path)
    assert len(readings) == 6000 and readings["reader"].nunique() == 1217
    assert (readings["text_id"].value_counts() == 5).all() and readings["text_id"].nunique() == 1200
    joined = readings.merge(crowd_envent.events, on="text_id", suffixes=("", "_writer"))
    right = joined["emotion"] == joined["emotion_writer"]
    assert (len(joined), round(right.mean(), 3)) == (6000, 0.504)
    assert round(right.groupby(joined["emotion_writer"]).mean()["neutral"], 2) == 0.21
    assert round(joined["pleasantness"].corr(joined["pleasantness_writer"]), 2) == 0.73


def test_real_writer_groups_keep_writers_and_texts_together(crowd_envent: Corpus) -> None:
    events = crowd_envent.events.assign(
        group=writer_groups(crowd_envent.events), plain=lambda e: e["text"].map(normalised)
    )
    assert events.groupby("writer")["group"].nunique().max() == events.groupby("plain")["group"].nunique().max() == 1
    writers, texts = events["writer"].tolist(), events["text"].tolist()
    parent = {}

    def root(node: object) -> object:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for writer, text in zip(writers, texts, strict=True):
        parent[root(("writer", writer))] = root(("text", normalised(text)))
    assert events["group"].nunique() == len({root(("writer", writer)) for writer in writers})


def test_real_demonstrations(crowd_envent: Corpus) -> None:
    everything = Prompt(
        name="all",
        instruction="",
        demonstrations=tuple((t, k) for k, t in sources.packaged("prompts.yml")["demonstrations"].items()),
    )
    events = crowd_envent.events
    rows = events.index[events["text_id"].isin(demonstration_rows(events, everything))].tolist()
    assert rows == [327, 683, 1292, 2076, 2224, 2485, 2540, 2799, 3349, 3912, 4283, 5385, 5967, 6123]
    assert len(demonstration_rows(events, get_prompt("T1-12shot"))) == 13
    assert len(demonstration_rows(events, get_prompt("T1-2shot"))) == 3


def test_real_table_as_official_tsv_says_the_same(
    crowd_envent: Corpus, crowd_envent_path: Path, tmp_path: Path, save: Save
) -> None:
    found = sources.find("crowd-envent", "texts", crowd_envent_path)
    path = save(
        read_table(found.content, found.suffix, found.label, stated="cp1252")[0],
        tmp_path / "crowd-enVent_generation.tsv",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = load_corpus("crowd-envent", path=path)
    pd.testing.assert_frame_equal(official.events, crowd_envent.events)


def test_no_worker_id_survives(crowd_envent: Corpus, crowd_envent_path: Path) -> None:
    for codes, letter in ((crowd_envent.events["writer"], "w"), (load_readings(crowd_envent_path)["reader"], "r")):
        assert codes.str.fullmatch(rf"{letter}\d+").all()

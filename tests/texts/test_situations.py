"""The embedded corpora: complete, without emotion words or repeats, rated like the real one, not giving labels away.

Their texts and ratings are authored, so what would be a fact of a crowd-sourced corpus is a promise here and is tested:
of `situations`, and of `keyword-free`, in which the same ten scenes occur under every label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from emolib.texts.corpus import APPRAISALS, EMOTIONS, Corpus, load_corpus, normalised
from helpers import CROWD_MEANS

WORDS_LIMIT, RUNS_LIMIT = 0.45, 0.34


@dataclass(frozen=True)
class Promise:
    """What a corpus promises: events a label, its ids' letter, its longest text, how near its means are a crowd's."""

    each: int
    ids: str
    longest: int
    correlation: float
    rank: float
    difference: float


# Means of ten events differ more from a crowd's than means of forty do.
PROMISES = {
    "situations": Promise(each=40, ids="s", longest=60, correlation=0.9, rank=0.8, difference=0.55),
    "keyword-free": Promise(each=10, ids="k", longest=30, correlation=0.7, rank=0.6, difference=1.4),
}
only_situations = pytest.mark.parametrize("corpus", ["situations"], indirect=True)
only_keyword_free = pytest.mark.parametrize("corpus", ["keyword-free"], indirect=True)
# Words of the emotion families, as regular expressions of whole words; a text may contain none, of any emotion.
# General words of affect (emotion, feeling, neutral) are barred from the neutral texts, which they would describe.
FAMILIES = {
    "anger": r"ang(er|ry|rily|ered) fur(y|ious|iously) mad rag(e|ing|ed) annoy\w* irritat\w* frustrat\w* livid fuming "
    r"outrag\w* resent\w*",
    "boredom": r"bor(ed|ing|edom|e) dull tedi\w* monoton\w*",
    "disgust": r"disgust\w* gross revolt\w* repuls\w* sicken\w* nause\w* vile yuck\w*",
    "fear": r"fear\w* afraid scar(ed|y|e|es|ing) terr(or|ified|ifying|ifies) fright\w* anxi\w* panic\w* dread\w* "
    r"worr(y|ied|ying|ies) nervous\w*",
    "guilt": r"guilt\w* remors\w* regret\w* sorry",
    "joy": r"joy\w* happ(y|ily|iness|ier|iest) delight\w* glad\w* thrill\w* excit\w* elat\w* ecsta\w*",
    "pride": r"proud\w* pride",
    "relief": r"reliev\w* relief\w* thankful\w* phew",
    "sadness": r"sad\w* grief griev\w* sorrow\w* depress\w* heartbr\w* upset\w* miserabl\w*",
    "shame": r"sham\w* asham\w* embarrass\w* humiliat\w* mortif\w*",
    "surprise": r"surpris\w* unexpect\w* astonish\w* shock\w* amaz\w* stun(ned|ning)",
    "trust": r"trust\w* rel(y|ied|iable|iance) faith\w* confid\w*",
}
WORDS_OF_AFFECT = r"neutral indifferen\w* emotion\w* feeling\w*"
# A wider list for the corpus that promises to have no word of an emotion lexicon.
LEXICON: dict[str, str] = yaml.safe_load(Path(__file__).with_name("affect_words.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=list(PROMISES))
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return load_corpus(request.param)


@pytest.fixture(scope="module")
def promise(corpus: Corpus) -> Promise:
    return PROMISES[corpus.name]


@pytest.fixture(scope="module")
def events(corpus: Corpus) -> pd.DataFrame:
    return corpus.events


@pytest.fixture(scope="module")
def topics(corpus: Corpus) -> pd.Series:
    return pd.read_csv(data_file(corpus.name), encoding="utf-8")["topic"]


def data_file(name: str) -> Path:
    return Path(str(files("emolib").joinpath(f"data/{name}.csv")))


def barred(text: str, patterns: str) -> list[str]:
    return [match.group() for word in patterns.split() for match in re.finditer(rf"\b{word}\b", text, re.IGNORECASE)]


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = normalised(text).split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def overlap(first: set, second: set) -> float:
    return len(first & second) / max(1, min(len(first), len(second)))


def jaccard(first: set, second: set) -> float:
    return len(first & second) / max(1, len(first | second))


def near_duplicate(first: str, second: str) -> bool:
    """Whether two texts share most words, or more than a quarter of the word trigrams of the shorter."""
    return jaccard(runs(first, 1), runs(second, 1)) > 0.5 or overlap(runs(first, 3), runs(second, 3)) > 0.25


def accuracy(model: object, features: object, events: pd.DataFrame) -> float:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(model, features, events["emotion"], cv=folds).mean()


def bag_of_words() -> Pipeline:
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=2000))


# Form


def test_shape_order_and_bytes(corpus: Corpus, events: pd.DataFrame, promise: Promise) -> None:
    assert events["emotion"].tolist() == [emotion for emotion in EMOTIONS for _ in range(promise.each)]
    assert events["text_id"].tolist() == [f"{promise.ids}{i:03d}" for i in range(1, 13 * promise.each + 1)]
    content = data_file(corpus.name).read_bytes()
    header = content.decode("utf-8").splitlines()[0].split(",")
    assert header == ["text_id", "emotion", "topic", "text", *APPRAISALS]
    assert b"\r" not in content and not content.startswith(b"\xef\xbb\xbf")
    assert corpus.ratings.isin(range(1, 6)).all(axis=None)


def test_it_says_that_it_is_authored(corpus: Corpus) -> None:
    assert "authored, not crowd-sourced" in corpus.note


def test_lengths_and_characters(events: pd.DataFrame, promise: Promise) -> None:
    words = events["text"].str.split().str.len()
    assert words.between(8, promise.longest).all()
    assert 13 <= words.median() <= 23
    assert (events["text"] == events["text"].str.strip()).all()
    assert not events["text"].str.contains(r"[\n\t“”‘’]|  |\.\.\.", regex=True).any()


@only_situations
def test_most_texts_are_short_and_some_are_long_as_in_the_real_corpus(events: pd.DataFrame) -> None:
    by_emotion = events["text"].str.split().str.len().groupby(events["emotion"])
    assert by_emotion.agg(lambda x: (x < 14).sum()).min() >= 10
    assert by_emotion.agg(lambda x: (x > 25).sum()).min() >= 7


def test_no_emotion_words(events: pd.DataFrame) -> None:
    everywhere = " ".join(FAMILIES.values())
    assert barred("So RELIEVED, not scared of scarves", everywhere) == ["scared", "RELIEVED"]
    found = events["text"].map(lambda text: barred(text, everywhere))
    assert not events[found.str.len() > 0][["text_id", "text"]].to_numpy().tolist()
    assert not events.query("emotion == 'neutral'")["text"].map(lambda text: barred(text, WORDS_OF_AFFECT)).sum()


@only_keyword_free
def test_no_word_of_an_emotion_lexicon(events: pd.DataFrame) -> None:
    assert set(EMOTIONS) - set(LEXICON) == {"neutral"}
    assert all(barred(family, LEXICON.get(family, LEXICON["affect"])) for family in EMOTIONS)
    found = events["text"].map(lambda text: barred(text, " ".join(LEXICON.values())))
    assert not events[found.str.len() > 0][["text_id", "text"]].to_numpy().tolist()
    # Positive control: *situations*, which keeps only to the short list, has such words in more than an eighth.
    others = load_corpus("situations").events["text"].map(lambda text: barred(text, " ".join(LEXICON.values())))
    assert (others.str.len() > 0).mean() > 1 / 8


# Variety


def test_no_near_duplicates(events: pd.DataFrame) -> None:
    texts = events["text"].tolist()
    close = near_duplicates(texts, combinations(range(len(texts)), 2))
    assert close == []
    assert all(near_duplicate(text, text.replace(" the ", " that ").upper()) for text in texts)


@only_keyword_free
def test_no_text_is_one_of_the_situations_again(events: pd.DataFrame) -> None:
    ours, theirs = events["text"].tolist(), load_corpus("situations").events["text"].tolist()
    n = len(ours)
    assert near_duplicates(ours + theirs, product(range(n), range(n, n + len(theirs)))) == []
    assert len(near_duplicates(ours + ours, product(range(n), range(n, 2 * n)))) == n


def near_duplicates(texts: list[str], pairs: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    """The pairs of texts that `near_duplicate` finds, their runs of words counted once a text."""
    words, trigrams = ([runs(text, length) for text in texts] for length in (1, 3))
    return [
        (texts[i], texts[j])
        for i, j in pairs
        if jaccard(words[i], words[j]) > 0.5 or overlap(trigrams[i], trigrams[j]) > 0.25
    ]


def closest(texts: list[str], others: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each text the largest Jaccard index of words and share of its runs of five words in any other."""
    found = []
    for length in (1, 5):
        count = CountVectorizer(analyzer=partial(runs, length=length), binary=True, dtype=np.int32)
        there = count.fit_transform(others)
        here = count.transform(texts)
        size = np.array([[len(runs(text, length))] for text in texts])
        shared = (here @ there.T).toarray()
        union = size + np.asarray(there.sum(axis=1)).reshape(1, -1) - shared
        found.append((shared / (union if length == 1 else size)).max(axis=1))
    return found[0], found[1]


def test_no_text_is_taken_from_the_real_corpus(
    events: pd.DataFrame, crowd_envent: Corpus, crowd_envent_path: Path
) -> None:
    original = load_corpus("crowd-envent", path=crowd_envent_path, text="original").events["text"]
    real = pd.concat([crowd_envent.events["text"], original]).unique().tolist()
    words, fives = closest(events["text"].tolist(), real)
    # Stock phrases ("first in my family to graduate") reach .36 and .29.
    assert words.max() < WORDS_LIMIT and fives.max() < RUNS_LIMIT
    # Positive control: real texts of the same lengths with their first tenth replaced reach .78 and .80 at least.
    copies = [" ".join(["zz"] * (len(t) // 10) + t[len(t) // 10 :]) for t in map(str.split, real) if 8 <= len(t) <= 60]
    words, fives = closest(copies[::20], real)
    assert words.min() > WORDS_LIMIT and fives.min() > RUNS_LIMIT


@only_keyword_free
def test_every_scene_occurs_once_under_every_label(events: pd.DataFrame, topics: pd.Series) -> None:
    assert (pd.crosstab(topics, events["emotion"]) == 1).all(axis=None) and topics.nunique() == 10
    assert set(topics) <= set(pd.read_csv(data_file("situations"))["topic"])
    assert events["text"].str.contains(r"\b(?:i|me|my|we|us|our)\b", case=False, regex=True).all()


@only_situations
def test_topics_persons_and_openings_vary(events: pd.DataFrame, topics: pd.Series) -> None:
    assert topics.nunique() == 18
    assert topics.groupby(events["emotion"]).nunique().min() >= 16
    assert topics.value_counts(normalize=True).max() < 0.1
    two_words = events["text"].map(lambda text: " ".join(normalised(text).split()[:2]))
    assert two_words.groupby(events["emotion"]).agg(lambda x: x.value_counts().max()).max() <= 4
    assert two_words.nunique() > 0.75 * len(events)
    first = events["text"].str.split().str[0].str.lower()
    assert first.value_counts(normalize=True).max() < 0.2
    people = r"\b(?:{})\b"
    shares = {
        group: events["text"].str.contains(people.format(words), case=False, regex=True).mean()
        for group, words in {
            "i": "i|me|my",
            "we": "we|us|our",
            "he or she": "he|him|his|she|her",
            "relatives": "mother|mum|father|dad|son|daughter|brother|sister|grand\\w*|uncle|aunt|cousin|wife|husband",
        }.items()
    }
    assert min(shares.values()) > 0.15, shares


# Ratings


@pytest.mark.parametrize("column", CROWD_MEANS)
def test_label_means_follow_the_real_corpus(corpus: Corpus, promise: Promise, column: str) -> None:
    means = corpus.ratings[column].groupby(corpus.events["emotion"]).mean()[list(EMOTIONS)]
    assert np.corrcoef(means, CROWD_MEANS[column])[0, 1] > promise.correlation
    assert spearmanr(means, CROWD_MEANS[column]).statistic >= promise.rank
    assert np.abs(means.to_numpy() - CROWD_MEANS[column]).max() < promise.difference


def explained_by_label(corpus: Corpus, column: str) -> float:
    ratings = corpus.ratings[column].astype(float)
    within = ratings - ratings.groupby(corpus.events["emotion"]).transform("mean")
    return 1 - within.var() / ratings.var()


@only_situations
@pytest.mark.parametrize(
    ("column", "real"),
    [
        ("suddenness", 0.19),
        ("familiarity", 0.10),
        ("predict_event", 0.12),
        ("self_responsblt", 0.20),
        ("other_responsblt", 0.12),
        ("chance_control", 0.06),
        ("chance_responsblt", 0.05),
        ("other_control", 0.07),
        ("goal_relevance", 0.13),
        ("effort", 0.15),
        ("pleasantness", 0.63),
        ("unpleasantness", 0.59),
    ],
)
def test_ratings_are_of_the_event_not_of_the_label(corpus: Corpus, column: str, real: float) -> None:
    # One author agrees with himself more than a crowd does, so the label explains somewhat more than in the crowd's.
    assert explained_by_label(corpus, column) < real + 0.16


def test_no_two_events_of_an_emotion_are_rated_alike(corpus: Corpus) -> None:
    for _, rows in corpus.ratings.groupby(corpus.events["emotion"]):
        assert not rows.duplicated().any()


@only_situations
def test_ratings_differ_within_an_emotion(corpus: Corpus) -> None:
    spread = corpus.ratings.groupby(corpus.events["emotion"]).std()
    varied = ["suddenness", "familiarity", "predict_event", "self_responsblt", "other_responsblt", "goal_relevance"]
    assert spread[varied].min(axis=None) > 0.7
    assert spread["pleasantness"].min() > 0.3 and spread["unpleasantness"].min() > 0.4


def test_rating_correlations_have_the_right_signs(corpus: Corpus) -> None:
    r = corpus.ratings.astype(float).corr()
    assert r.loc["pleasantness", "unpleasantness"] < -0.7
    assert r.loc["predict_event", "suddenness"] < -0.2
    assert r.loc["self_responsblt", "other_responsblt"] < 0
    assert r.loc["self_responsblt", "pleasantness"] > 0
    assert r.loc["chance_control", "chance_responsblt"] > 0.3
    assert r.loc["goal_support", "pleasantness"] > 0.5 and r.loc["standards", "social_norms"] > 0.3


# Leakage


def chance(events: pd.DataFrame) -> float:
    """What 99.9% of chance results lie under: one in 13 and 3.1 standard deviations of a share of the events."""
    return 1 / 13 + 3.1 * (1 / 13 * 12 / 13 / len(events)) ** 0.5


def with_labels(events: pd.DataFrame) -> pd.Series:
    """The texts, every other one with its label at the end."""
    return events["text"].where(events.index % 2 > 0, events["text"] + " " + events["emotion"])


@only_situations
def test_single_words_give_the_label_away_only_a_little(events: pd.DataFrame) -> None:
    found = accuracy(bag_of_words(), events["text"], events)
    # Above chance (one-sided binomial, 520 texts: .077 + 1.64 x .012 = .096), since events of an emotion share words;
    # 520 real masked texts give about .24, so more than .25 would mean labels that can be read off the vocabulary.
    assert 0.096 < found < 0.25, found


def learnt_from(source: pd.DataFrame, events: pd.DataFrame) -> float:
    """The share of events whose label a bag of words names that has learnt from the texts of `source`."""
    return bag_of_words().fit(source["text"], source["emotion"]).score(events["text"], events["emotion"])


@only_keyword_free
def test_words_of_situations_do_not_give_the_label_away(events: pd.DataFrame) -> None:
    # Texts that such a bag of words got right in a first draft (.29) were reworded, so this score (.09) flatters.
    source = load_corpus("situations").events
    assert learnt_from(source, events) < chance(events)
    # Positive control: with the label appended to every other text here and there the same classifier finds it.
    marked = [table.assign(text=with_labels(table)) for table in (source, events)]
    assert learnt_from(*marked) > 0.25


@only_keyword_free
def test_words_of_the_real_corpus_do_not_give_the_label_away(events: pd.DataFrame, crowd_envent: Corpus) -> None:
    # Nothing was fitted to this score (.14; *situations* has .26).
    assert learnt_from(crowd_envent.events, events) < chance(events)


@only_situations
def test_words_mean_the_same_as_in_the_real_corpus(events: pd.DataFrame, crowd_envent: Corpus) -> None:
    # Positive control for the test above: a bag of words that learnt from 6,600 real texts does transfer (.24 here).
    assert 0.15 < learnt_from(crowd_envent.events, events) < 0.5


@pytest.mark.parametrize("what", ["length", "first word", "first two words", "topic"])
def test_form_does_not_give_the_label_away(events: pd.DataFrame, topics: pd.Series, what: str) -> None:
    split = events["text"].str.lower().str.split()
    if what == "length":
        features = np.c_[split.str.len(), events["text"].str.len()]
        model = make_pipeline(SplineTransformer(), LogisticRegression(max_iter=2000))
    else:
        column = {"first word": split.str[0], "first two words": split.str[:2].str.join(" "), "topic": topics}[what]
        features, model = column.to_frame(), make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    assert accuracy(model, features, events) < chance(events)


def test_the_leakage_tests_would_notice(events: pd.DataFrame) -> None:
    # Positive control: with the label appended to every other text the same classifier finds it.
    assert accuracy(bag_of_words(), with_labels(events), events) > 0.25

"""Wording where the answer is known: texts whose words tell some of it, activations that tell the same, or more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline

from emolib.experiments import wording
from emolib.experiments.wording import measure, views
from emolib.paper import claims
from emolib.probes.linear import grouped_folds
from emolib.study.clean import Clean
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.appraisals import APPRAISALS, EMOTIONS
from helpers import ROOT, TINY_WORDS, tiny_table

N, LAYERS = 390, 5
CHANCE = 1 / len(EMOTIONS)
WORDS, MORE = 1, 4  # the layers whose activations are the words' and the label's, and all others noise
TOLD, RATED = "rain", "suddenness"  # a word that tells of five emotions, and the rating that follows from another


class PlantedStudy(Study):
    """A study whose residual stream holds at one layer which words a text has, at another the label, else noise."""

    def activations(self, component: Any, layer: int, position: int = -1) -> torch.Tensor:
        noise = torch.randn(len(self.events), 24, generator=torch.manual_seed(layer))
        if layer == WORDS:
            marks = [[float(word in text.split()) for word in ("rain", "cake")] for text in self.events["text"]]
            noise[:, :2] += 20.0 * torch.tensor(marks)
        if layer == MORE:
            noise[:, : len(EMOTIONS)] += 8.0 * torch.nn.functional.one_hot(torch.as_tensor(self.truth), len(EMOTIONS))
        return noise


def planted_table(n: int = N) -> pd.DataFrame:
    """The first five emotions have the word "rain", the others "cake" in half of their texts, which are sudden then."""
    table = tiny_table(n, writers=n // 5, seed=3)
    other = [word for word in TINY_WORDS if word not in ("rain", "cake")]
    random = np.random.default_rng(1)
    code = pd.Categorical(table["emotion"], categories=EMOTIONS).codes
    sudden = (code >= 5) & (random.random(n) < 0.5)
    plain = [" ".join(random.choice(other, 9)) for _ in range(n)]
    table["text"] = [
        f"{text} {'rain' if label < 5 else 'cake' if cake else 'today'}"
        for text, label, cake in zip(plain, code, sudden, strict=True)
    ]
    table[RATED] = 1 + 3 * sudden
    return table


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> PlantedStudy:
    folder = tmp_path_factory.mktemp("planted")
    planted_table().to_csv(folder / "planted.csv", index=False)
    run = Run(model=str(tiny_folder), corpus=str(folder / "planted.csv"), profile="full", device="cpu")
    return PlantedStudy(run, folder=folder)


@pytest.fixture(scope="module")
def table(planted: PlantedStudy) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "RESAMPLES", 100)
        patch.setattr(measure, "other_corpus", keyword_free)
        return results.tidy(measure.run(planted), "wording", n_layers=LAYERS, model="planted")


def keyword_free(study: Study) -> PlantedStudy:
    """The other corpus, with the same activations planted."""
    return PlantedStudy(Run(model=study.run.model, corpus="keyword-free", device="cpu"), folder=study.folder)


def one(table: pd.DataFrame, features: str, layer: int | None = None, **keys: str) -> float:
    return float(select(table, features=features, layer=layer, **keys)["value"].item())


NAMED = dict(metric="balanced_accuracy", target="writer")


def folds_of(study: Study) -> np.ndarray:
    return grouped_folds(study.truth, study.groups, seed=study.run.seed)


@pytest.mark.parametrize(
    ("features", "vectoriser"),
    [("bag_of_words", CountVectorizer(min_df=3)), ("tfidf", TfidfVectorizer(min_df=3, sublinear_tf=True))],
)
def test_words_are_read_by_a_pipeline_of_scikit_learn_fitted_in_each_fold(
    planted: PlantedStudy, table: pd.DataFrame, features: str, vectoriser: Any
) -> None:
    texts = planted.events["text"]
    ratings, folds = planted.events[RATED].to_numpy(float), folds_of(planted)
    names, guess = np.empty(N), np.empty(N)
    for fold in range(5):
        train = folds != fold
        # the features of the outer training part serve the choice of C and alpha too
        x, split = vectoriser.fit(texts[train]).transform(texts), PredefinedSplit(folds[train])
        search = GridSearchCV(LogisticRegression(max_iter=1000), dict(C=list(measure.WORD_STRENGTHS)), cv=split)
        names[~train] = search.fit(x[train], planted.truth[train]).predict(x[~train])
        alphas = dict(alpha=list(measure.ALPHAS))
        search = GridSearchCV(Ridge(), alphas, cv=split, scoring="neg_mean_squared_error")
        guess[~train] = search.fit(x[train], ratings[train]).predict(x[~train])
    assert one(table, features, **NAMED) == pytest.approx(balanced_accuracy_score(planted.truth, names), abs=0.01)
    assert one(table, features, metric="r2", appraisal=RATED) == pytest.approx(r2_score(ratings, guess), abs=1e-3)


def test_what_words_tell_is_found_and_nothing_else(table: pd.DataFrame) -> None:
    ceiling = (5 / 5 + 8 / 8) / 13  # of each of two groups of emotions one is guessed, and words tell no more
    for features in ("bag_of_words", "tfidf"):
        assert CHANCE + 0.02 < one(table, features, **NAMED) < ceiling + 0.06
        assert one(table, features, metric="r2", appraisal=RATED) > 0.9
    assert one(table, "length", **NAMED) < CHANCE + 0.06
    assert select(table, metric="balanced_accuracy", target="shuffled")["value"].max() < CHANCE + 0.09
    others = table[(table["metric"] == "r2") & (table["appraisal"] != RATED)]
    assert others["value"].max() < 0.06


def test_activations_that_hold_the_words_tell_nothing_beyond_them(table: pd.DataFrame) -> None:
    own = [one(table, "activations", layer, metric="r2", appraisal=RATED) for layer in range(LAYERS)]
    gain = select(table, metric="r2_gain", appraisal=RATED).sort_values("layer")
    assert own[WORDS] > 0.9 and gain["value"].max() < 0.05
    named = select(table, metric="accuracy_gain").sort_values("layer").reset_index(drop=True)
    assert (named["ci_low"] > 0.3).tolist() == [layer == MORE for layer in range(LAYERS)]
    assert one(table, "residual", MORE, **NAMED) > 0.8 > 0.3 > one(table, "residual", WORDS, **NAMED)


def test_the_best_of_the_stream_is_ahead_where_it_knows_more(table: pd.DataFrame) -> None:
    gaps = select(table, metric="best_difference", features="activations")
    named = gaps[gaps["target"] == "writer"].iloc[0]
    assert named["ci_low"] > 0.5 and views.said(named).startswith("more is read from the stream")
    rated = gaps[gaps["appraisal"] != ""].set_index("appraisal")
    assert abs(rated.loc[RATED, "value"]) < 0.1
    # labels do not tell of random ratings: neither is ahead, of more columns either
    assert (rated.drop(RATED)["ci_low"] > 0).mean() < 0.15


def test_a_best_is_compared_where_it_was_not_looked_for() -> None:
    random = np.random.default_rng(0)
    half, gaps = np.arange(80) < 40, []
    for _ in range(200):
        many, few = random.normal(size=(80, 30)), random.normal(size=(80, 3))
        mean = measure.scores.mean
        gaps.append(measure.best_difference(mean(many), mean(few), half)(np.ones((1, 80)))[0, 0])
        by_hand = [
            many[there, many[here].mean(0).argmax()].mean() - few[there, few[here].mean(0).argmax()].mean()
            for here, there in ((half, ~half), (~half, half))
        ]
        assert gaps[-1] == pytest.approx(np.mean(by_hand))
    assert abs(np.mean(gaps)) < 0.03, "thirty columns of noise are no better than three"


def test_partial_r2_is_that_of_one_regression_on_both(planted: PlantedStudy, table: pd.DataFrame) -> None:
    """By hand, with the label's columns unpenalised."""
    folds, label = folds_of(planted), np.eye(13)[planted.truth]
    ratings = planted.events[[RATED]].to_numpy(float)
    words = [measure.counted(measure.VECTORISERS["tfidf"], planted.events["text"], folds != fold) for fold in range(5)]
    guess, behind = measure.rate_by_words(words, ratings, folds, label=label)
    both, train = np.concatenate([words[0].toarray(), label], axis=1), folds != 0
    wrong = []
    for alpha in measure.ALPHAS:
        penalty = np.diag([*[alpha] * words[0].shape[1], *[1e-9] * 13])
        weights = np.linalg.solve(both[train].T @ both[train] + penalty, both[train].T @ ratings[train])
        wrong.append(np.abs(guess[~train] - both[~train] @ weights).max())
    assert min(wrong) < 0.01, "that of one of the alphas"
    assert np.abs(behind[0][train] - ratings[train]).mean() < 0.5 and np.array_equal(behind[0][~train], guess[~train])
    shares = select(table, metric="partial_r2", features="tfidf").set_index("appraisal")["value"]
    assert shares[RATED] > 0.9 and shares.drop(RATED).max() < 0.06


def test_activations_are_put_on_top_of_what_words_foresee_as_far_as_it_is_worth_something(
    planted: PlantedStudy,
) -> None:
    random, folds = np.random.default_rng(2), folds_of(planted)
    one_, other, noise = random.normal(size=(3, N, 1))
    ratings, x = one_ + other, torch.tensor(other).float()
    for foreseen, worth in ((one_, 0.95), (10 * noise, 0.4)):
        alone, both = measure.rate_on_top(x, ratings, folds, [foreseen] * 5)
        assert r2_score(ratings, alone) == pytest.approx(0.5, abs=0.1)
        assert r2_score(ratings, both) > worth


def test_features_of_a_fold_know_nothing_of_its_held_out_texts(planted: PlantedStudy) -> None:
    train, texts = folds_of(planted) != 0, planted.events["text"]
    other = texts.where(train, "garden garden " + texts.str[::-1])
    for make in (CountVectorizer(), TfidfVectorizer(sublinear_tf=True)):
        words, changed = (measure.counted(make, one, train) for one in (texts, other))
        assert (words[train] != changed[train]).nnz == 0
    x, text = torch.randn(N, 5), torch.randn(N, 3)
    mixed = torch.where(torch.as_tensor(train)[:, None], x, x + 9)
    assert torch.equal(*(measure.without(one, text, train)[train] for one in (x, mixed)))
    words = [measure.counted(CountVectorizer(), texts, train)]
    held, changed = planted.truth, np.where(train, planted.truth, 0)
    folds = folds_of(planted)
    evidence = [measure.name_by_words(words, labels[None], folds)[1][0] for labels in (held, changed)]
    assert torch.equal(*evidence), "what stands for the words knows no held-out label"
    left = measure.without(x, text, train)[train]
    assert (left.T @ text[train]).abs().max() < 1e-3, "nothing is left that the text predicts"


def test_token_embeddings_are_the_means_of_what_the_model_looks_up(planted: PlantedStudy) -> None:
    found, text = measure.token_embeddings(planted), planted.events["text"][7]
    ids = planted.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
    assert len(ids) == 10
    inside = planted.prompt.encode(planted.tokenizer, text)["input_ids"]
    assert any(inside[start : start + 10] == ids for start in range(len(inside)))
    assert torch.allclose(found[7], planted.model.hf.get_input_embeddings()(torch.tensor(ids)).mean(0))


def test_what_is_carried_over_is_trained_on_one_corpus_and_tested_on_the_other(
    planted: PlantedStudy, table: pd.DataFrame
) -> None:
    there, rows = keyword_free(planted), select(table, metric="carried")
    assert set(rows["n"]) == {N, 130}
    deep = rows[rows["features"] == "activations"].set_index(["tested_on", "layer"])["value"]
    assert deep["keyword-free", MORE] > 0.9 and deep["run", MORE] > 0.9
    assert deep.drop(MORE, level="layer").max() < 0.3
    names = make_pipeline(TfidfVectorizer(min_df=3, sublinear_tf=True), LogisticRegression(C=3.0, max_iter=1000))
    for one_, two in ((planted, there), (there, planted)):
        guess = names.fit(one_.events["text"], one_.truth).predict(two.events["text"])
        tested = "run" if two is planted else "keyword-free"
        found = select(rows, features="tfidf", tested_on=tested)["value"].item()
        assert found == pytest.approx(balanced_accuracy_score(two.truth, guess))
    gaps = select(table, metric="carried_difference")
    assert set(gaps["layer"]) == {MORE} and (gaps["ci_low"] > 0.5).all()


def test_the_other_corpus_is_read_by_the_same_model_with_the_same_prompt(
    planted: PlantedStudy, tiny_folder: Path
) -> None:
    other = measure.other_corpus(planted)
    assert other.model is planted.model and other.prompt == planted.prompt and len(other.events) == 130
    own = Study(Run(model=str(tiny_folder), corpus="keyword-free"))
    assert measure.other_corpus(own).corpus.name == "situations"


def test_a_corpus_without_ratings_has_its_emotions_read(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_table().drop(columns=list(APPRAISALS)).to_csv(tmp_path / "bare.csv", index=False)
    monkeypatch.setattr(measure, "RESAMPLES", 20)
    monkeypatch.setattr(measure, "other_corpus", keyword_free)
    run = Run(model=str(tiny_folder), corpus=str(tmp_path / "bare.csv"), device="cpu")
    found = measure.run(PlantedStudy(run, folder=tmp_path))
    assert "balanced_accuracy" in set(found["metric"]) and "appraisal" not in found


def test_a_model_that_always_answers_alike_has_the_writers_label_read(
    planted: PlantedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESAMPLES", 20)
    monkeypatch.setattr(measure, "other_corpus", keyword_free)
    planted_table().drop(columns=list(APPRAISALS)).to_csv(tmp_path / "bare.csv", index=False)
    run = replace(planted.run, corpus=str(tmp_path / "bare.csv"))
    logits = torch.eye(len(EMOTIONS))[[3] * N]
    alike = Clean(logits=logits, sums=logits, words=["yes"] * N)
    found, usual = (PlantedStudy(run, folder=tmp_path, clean=clean).table(wording) for clean in (alike, None))
    assert views.targets(found) == ["writer"] and views.targets(usual) == ["writer", "model"] and not usual.attrs
    assert "it always gives the same" in found.attrs["left_out"]
    same = usual[usual["target"] != "model"].reset_index(drop=True)
    numbers = ["value", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(found.drop(columns=numbers), same.drop(columns=numbers))
    assert np.allclose(found[numbers], same[numbers], atol=0.02, equal_nan=True)


def test_views_are_the_table() -> None:
    data = results.read(ROOT / "tests/golden/wording.parquet")
    shown = views.curves(data, ("activations", *views.TEXT), **NAMED)
    layers = shown["layer"].nunique()
    assert shown.groupby("source").size().to_dict() == {views.FEATURES[n]: layers for n in ("activations", *views.TEXT)}
    assert views.first(select(data, **NAMED))["layer"] == shown["layer"].min()
    rated = views.rated(data)
    assert len(rated) == 2 * len(APPRAISALS) and rated["value"].iloc[:21].is_monotonic_decreasing
    text = select(rated, source="best of the text alone", appraisal="effort")["value"].item()
    rows = data[(data["metric"] == "r2") & (data["appraisal"] == "effort") & data["layer"].isna()]
    assert text == rows["value"].max()
    assert len(views.gains(data)) == 21 and views.gains(data)["value"].is_monotonic_decreasing
    against = views.against_text(data)
    text = select(against, source=views.BEST, target="writer's label")["value"]
    named = select(data, **NAMED)
    assert text.nunique() == 1 and text.iloc[0] == views.best(named, *views.TEXT)["value"] and len(text) == layers
    assert (
        select(against, source="residual stream", target="writer's label")["value"].max()
        == (views.best(named, "activations")["value"])
    )
    assert views.carried(data)["panel"].nunique() == 3 and views.differences(data).shape == (2, 2)
    assert views.sizes(data) == "520 events here, 130 in keyword-free"
    decided = views.decided(claims.checks({"wording": data}, ["C2", "C12"]))
    assert decided.empty  # without the tables that the claims are about
    ends = [dict(ci_low=0.1, ci_high=0.2), dict(ci_low=-0.1, ci_high=0.1), dict(ci_low=-0.2, ci_high=-0.1)]
    said = [" ".join(views.said(pd.Series(row)).split()[:5]) for row in ends]
    assert said == ["more is read from the", "neither is shown to tell", "more is read from the"]
    assert len({views.said(pd.Series(row)) for row in ends}) == 3

"""Answers counted again by other means: plain transformers, scikit-learn, planted answers, and readers by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from emolib.engine.tiny import tiny_model
from emolib.experiments import behaviour
from emolib.study.clean import Clean
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS, Corpus
from helpers import TINY_TEXTS, word_tokenizer

OF = {calibration: f"calibration:{calibration}" for calibration in ("none", "batch")}


@pytest.fixture(scope="module")
def table(tiny_study: Study) -> pd.DataFrame:
    """What the chapter stores for the tiny study."""
    return tiny_study.measure(behaviour)


@pytest.fixture
def planted(tiny_run: Run, tmp_path: Path) -> Study:
    """A study whose answers are the writers' labels, but trust wherever they wrote joy; the model is never loaded."""
    study = Study(tiny_run, folder=tmp_path)
    answers = np.where(study.truth == EMOTIONS.index("joy"), EMOTIONS.index("trust"), study.truth)
    logits = 4.0 * torch.nn.functional.one_hot(torch.as_tensor(answers), len(EMOTIONS)).float()
    words = ["happy" if i % 3 else EMOTIONS[answer] for i, answer in enumerate(answers)]
    study.__dict__["clean"] = Clean(logits=logits, sums=logits.log_softmax(-1), words=words)
    study.__dict__["labels"] = type("Labels", (), {"tokens": tuple((i,) for i in range(len(EMOTIONS)))})()
    return study


def predictions(study: Study, calibration: str) -> np.ndarray:
    scores = study.clean.logits.double().numpy()
    return (scores - (scores.mean(axis=0) if calibration == "batch" else 0)).argmax(axis=1)


def values(frame: pd.DataFrame, **keys: object) -> dict[str, float]:
    chosen = select(frame, **keys)
    return dict(zip(chosen["label"], chosen["value"], strict=True))


@pytest.mark.parametrize("calibration", OF)
def test_scores_equal_a_count_by_other_means(tiny_study: Study, table: pd.DataFrame, calibration: str) -> None:
    truth, predicted = tiny_study.truth, predictions(tiny_study, calibration)
    condition = OF[calibration]
    matrix = confusion_matrix(truth, predicted, labels=range(len(EMOTIONS)))
    counts = values(table, metric="confusion_count", condition=condition)
    assert counts == {f"{a}=>{b}": matrix[i, j] for i, a in enumerate(EMOTIONS) for j, b in enumerate(EMOTIONS)}
    recall = values(table, metric="recall", condition=condition)
    assert recall == pytest.approx(dict(zip(EMOTIONS, matrix.diagonal() / matrix.sum(axis=1), strict=True)))
    answered = values(table, metric="predicted_count", condition=condition)
    assert answered == dict(zip(EMOTIONS, matrix.sum(axis=0), strict=True))
    agreed = select(table, metric="agreed_count", condition=condition)
    assert agreed["value"].tolist() == [matrix.trace()]
    accuracy = select(table, metric="accuracy", condition=f"scoring:first_subtoken;{condition}")
    assert accuracy["value"].tolist() == pytest.approx([matrix.trace() / TINY_TEXTS])
    assert accuracy["n"].tolist() == [TINY_TEXTS]
    balanced = select(table, metric="balanced_accuracy", condition=condition)
    assert balanced["value"].tolist() == pytest.approx([balanced_accuracy_score(truth, predicted)])


def test_the_two_calibrations_differ_here(table: pd.DataFrame) -> None:
    answered = [values(table, metric="predicted_count", condition=condition) for condition in OF.values()]
    assert answered[0] != answered[1]


def test_the_agreed_count_is_the_agreed_set(tiny_study: Study, table: pd.DataFrame) -> None:
    count = select(table, metric="agreed_count", condition=OF[tiny_study.run.calibration])["value"]
    assert count.tolist() == [len(tiny_study.agreed)]


@pytest.mark.parametrize("calibration", OF)
def test_rows_of_the_confusion_are_the_writers_labels(tiny_study: Study, table: pd.DataFrame, calibration: str) -> None:
    counts = values(table, metric="confusion_count", condition=OF[calibration])
    for index, emotion in enumerate(EMOTIONS):
        row = sum(value for label, value in counts.items() if label.startswith(f"{emotion}=>"))
        column = sum(value for label, value in counts.items() if label.endswith(f"=>{emotion}"))
        assert row == (tiny_study.truth == index).sum()
        assert column == values(table, metric="predicted_count", condition=OF[calibration])[emotion]
    assert sum(counts.values()) == TINY_TEXTS


def test_planted_answers_give_the_numbers_they_must(planted: Study) -> None:
    frame = results.tidy(behaviour.run(planted), experiment="behaviour", model="planted")
    n_joy, n_trust = ((planted.truth == EMOTIONS.index(label)).sum() for label in ("joy", "trust"))
    accuracy = select(frame, metric="accuracy", condition="scoring:first_subtoken;calibration:none")
    assert accuracy["value"].tolist() == pytest.approx([1 - n_joy / TINY_TEXTS])
    assert (accuracy["ci_low"] < accuracy["value"]).all() and (accuracy["value"] < accuracy["ci_high"]).all()
    recall = values(frame, metric="recall", condition=OF["none"])
    assert recall == {label: float(label != "joy") for label in EMOTIONS}
    counts = values(frame, metric="confusion_count", condition=OF["none"])
    assert (counts["joy=>trust"], counts["joy=>joy"], counts["trust=>trust"]) == (n_joy, 0, n_trust)
    assert values(frame, metric="predicted_count", condition=OF["none"])["trust"] == n_joy + n_trust
    balanced = select(frame, metric="balanced_accuracy", condition=OF["none"])
    assert balanced["value"].tolist() == pytest.approx([12 / 13])


def test_open_words_are_counted_and_the_rest_summed(planted: Study) -> None:
    frame = results.tidy(behaviour.run(planted), experiment="behaviour", model="planted")
    counts = values(frame, metric="count", condition="vocabulary:open")
    expected = Counter(planted.clean.words)
    assert {word: count for word, count in counts.items() if word != "others"} == expected
    assert counts["others"] == 0
    inside = select(frame, metric="share_of_labels", condition="vocabulary:open")
    assert inside["value"].tolist() == pytest.approx([1 - expected["happy"] / TINY_TEXTS])


def test_an_answer_that_is_the_word_others_is_one_of_the_others(planted: Study) -> None:
    small = Study(planted.run, folder=planted.folder)
    words = ["others", "others", *planted.clean.words[2:]]
    small.__dict__.update(planted.__dict__, clean=replace(planted.clean, words=words))
    frame = results.tidy(behaviour.run(small), experiment="behaviour", model="planted")
    assert values(frame, metric="count", condition="vocabulary:open")["others"] == 2


def test_at_most_twenty_words_are_named(tiny_study: Study, table: pd.DataFrame) -> None:
    counts = values(table, metric="count", condition="vocabulary:open")
    assert len(counts) <= 21
    assert sum(counts.values()) == TINY_TEXTS
    common = Counter(tiny_study.clean.words)
    for word in set(counts) - {"others"}:
        assert counts[word] == common[word]


def test_a_label_nobody_wrote_has_no_recall(planted: Study) -> None:
    written = planted.truth != EMOTIONS.index("fear")
    planted.truth, planted.groups = planted.truth[written], planted.groups[written]
    clean = planted.clean
    planted.__dict__["clean"] = Clean(logits=clean.logits[written], sums=clean.sums[written], words=clean.words)
    frame = pd.DataFrame(list(behaviour._answers(planted, planted.truth, "calibration:none")))
    assert "fear" not in set(frame.loc[frame["metric"] == "recall", "label"])
    assert (frame.loc[frame["label"] == "fear", "value"] == 0).all()


# Whole labels.


@pytest.fixture(scope="module")
def split_study(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same texts read by a model whose tokenizer splits three labels into two or three pieces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {"disgust": ("dis", "##gust"), "surprise": ("sur", "##pri", "##se"), "boredom": ("bore", "##dom")}
    words = [word for word in word_tokenizer().get_vocab() if word not in pieces]
    names = [*words, *(piece for split in pieces.values() for piece in split)]
    whole = models.WordPiece(vocab={name: index for index, name in enumerate(names)}, unk_token="<unk>")
    backend = Tokenizer(whole)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="<s>", unk_token="<unk>"
    )
    folder = tmp_path_factory.mktemp("split")
    model = tiny_model("llama", tokenizer=tokenizer, num_hidden_layers=2)
    model.hf.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return Study(Run(model=str(folder / "model"), corpus=str(tiny_corpus), device="cpu"), folder=folder)


@pytest.fixture(scope="module")
def log_probabilities(split_study: Study) -> np.ndarray:
    """Log-probability [N, 13] of each label after each prompt, a plain pass for each."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(split_study.run.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(split_study.run.model)
    table = np.empty((TINY_TEXTS, len(EMOTIONS)))
    for row, text in enumerate(split_study.events["text"]):
        prompt = tokenizer(split_study.prompt.render(text))["input_ids"]
        for column, label in enumerate(EMOTIONS):
            ids = prompt + tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                steps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            table[row, column] = sum(steps[i - 1, ids[i]].item() for i in range(len(prompt), len(ids)))
    return table


def test_whole_labels_are_scored_by_the_sum_of_their_tokens(split_study: Study, log_probabilities: np.ndarray) -> None:
    lengths = [len(pieces) for pieces in split_study.labels.tokens]
    assert sorted(lengths) == [1] * 10 + [2, 2, 3]
    np.testing.assert_allclose(split_study.clean.sums.numpy(), log_probabilities, atol=2e-4)


@pytest.mark.parametrize("calibration", OF)
def test_accuracy_by_whole_labels(split_study: Study, log_probabilities: np.ndarray, calibration: str) -> None:
    frame = results.tidy(behaviour.run(split_study), experiment="behaviour", model="tiny")
    lengths = np.array([len(pieces) for pieces in split_study.labels.tokens])
    for rule, scores in (("log_probability", log_probabilities), ("mean_log_probability", log_probabilities / lengths)):
        guess = (scores - (scores.mean(axis=0) if calibration == "batch" else 0)).argmax(axis=1)
        found = select(frame, metric="accuracy", condition=f"scoring:{rule};{OF[calibration]}")["value"]
        assert found.tolist() == pytest.approx([(guess == split_study.truth).mean()])


def test_the_rule_the_run_does_not_use_is_left_out_where_it_would_differ(
    split_study: Study, table: pd.DataFrame
) -> None:
    split = set(behaviour.run(split_study)["condition"])
    assert not any("last_subtoken" in condition for condition in split)
    one_token = select(table, metric="accuracy")
    first, last = (
        one_token.loc[one_token["condition"].str.contains(rule), "value"].tolist()
        for rule in ("first_subtoken", "last_subtoken")
    )
    assert first == last and len(first) == 2


# Readers.


def test_a_corpus_of_ones_own_has_no_readers(table: pd.DataFrame) -> None:
    assert "human" not in set(table["model"])


def test_readers_equal_a_count_by_hand(crowd_envent: Corpus, crowd_envent_path: Path) -> None:
    study: Any = Study(Run(corpus="crowd-envent", corpus_path=str(crowd_envent_path)))
    rows = pd.DataFrame(list(behaviour._readers(study)))
    assert set(rows["model"]) == {"human"}
    raw = pd.read_csv(crowd_envent_path / "enVent_val_Data.csv", dtype=str, encoding_errors="replace")
    truth = dict(zip(crowd_envent.events["text_id"], crowd_envent.events["emotion"], strict=True))
    votes: dict[str, list[str]] = {}
    for text, guess in zip(raw["text_id"], raw["annotator_emotion"].replace("no-emotion", "neutral"), strict=True):
        votes.setdefault(text, []).append(guess)
    hits = [guess == truth[text] for text, guesses in votes.items() for guess in guesses]
    shares = []
    for text, guesses in votes.items():
        most = Counter(guesses).most_common()
        winners = [label for label, count in most if count == most[0][1]]
        shares.append((truth[text] in winners) / len(winners))
    accuracy = rows[rows["metric"] == "accuracy"].set_index("condition")
    assert accuracy.loc["reader:single", "value"] == pytest.approx(np.mean(hits))
    assert accuracy.loc["reader:majority_of_5", "value"] == pytest.approx(np.mean(shares))
    assert accuracy["n"].tolist() == [len(hits), len(shares)] == [6000, 1200]
    assert accuracy["value"].between(accuracy["ci_low"], accuracy["ci_high"]).all()
    counts = rows[rows["metric"] == "predicted_count"].set_index("label")["value"]
    assert counts.to_dict() == pytest.approx(dict(Counter(g for guesses in votes.values() for g in guesses)))

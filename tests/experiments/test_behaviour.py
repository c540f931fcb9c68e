"""Answers counted again by other means: plain transformers, scikit-learn, planted answers, and readers by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from emolib.engine.labels import CALIBRATIONS, LABEL_SCORES
from emolib.engine.registry import known_parameters
from emolib.engine.tiny import tiny_model
from emolib.experiments import behaviour
from emolib.experiments.behaviour import measure, views
from emolib.study.clean import Clean
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS, Corpus
from helpers import ROOT, TINY_TEXTS, word_tokenizer

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def table(tiny_study: Study) -> pd.DataFrame:
    """What the chapter stores for the tiny study."""
    return tiny_study.measure(behaviour)


def planted(run: Run, folder: Path, words: dict[int, str] | None = None) -> Study:
    """A study whose answers are the writers' labels, but trust wherever they wrote joy; no model computes them."""
    truth = Study(run).truth
    answers = np.where(truth == EMOTIONS.index("joy"), EMOTIONS.index("trust"), truth)
    logits = 4.0 * torch.nn.functional.one_hot(torch.as_tensor(answers), len(EMOTIONS)).float()
    said = ["happy" if i % 3 else EMOTIONS[answer] for i, answer in enumerate(answers)]
    said = [(words or {}).get(i, word) for i, word in enumerate(said)]
    clean = Clean(logits=logits, sums=logits.log_softmax(-1), words=said)
    return Study(run, folder=folder, clean=clean)


def values(frame: pd.DataFrame, *by: str, **keys: object) -> dict[Any, float]:
    return select(frame, **keys).set_index(list(by or ("label",)))["value"].to_dict()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_scores_equal_a_count_by_other_means(tiny_study: Study, table: pd.DataFrame, calibration: str) -> None:
    logits = tiny_study.clean.logits.double().numpy()
    predicted = (logits - (logits.mean(axis=0) if calibration == "batch" else 0)).argmax(axis=1)
    matrix = confusion_matrix(tiny_study.truth, predicted, labels=range(len(EMOTIONS)))
    mine = table[(table["calibration"] == calibration) & table["scoring"].isin(["", "first_subtoken"])]
    counts = values(mine, "label", "answer", metric="confusion_count")
    assert counts == {(a, b): matrix[i, j] for i, a in enumerate(EMOTIONS) for j, b in enumerate(EMOTIONS)}
    recall = dict(zip(EMOTIONS, matrix.diagonal() / matrix.sum(axis=1), strict=True))
    assert values(mine, metric="recall") == pytest.approx(recall)
    assert values(mine, metric="predicted_count") == dict(zip(EMOTIONS, matrix.sum(axis=0), strict=True))
    balanced = balanced_accuracy_score(tiny_study.truth, predicted)
    for metric, expected in {
        "agreed_count": matrix.trace(),
        "accuracy": matrix.trace() / TINY_TEXTS,
        "balanced_accuracy": balanced,
    }.items():
        (row,) = select(mine, metric=metric).to_dict("records")
        assert (row["value"], row["n"]) == (pytest.approx(expected), TINY_TEXTS)
    if calibration == tiny_study.run.calibration:
        assert matrix.trace() == len(tiny_study.agreed)


def test_the_two_calibrations_differ_here(table: pd.DataFrame) -> None:
    one, other = (values(table, metric="predicted_count", calibration=calibration) for calibration in CALIBRATIONS)
    assert one != other


def test_other_calibrations_are_what_they_say_and_are_compared_with_the_run_s(
    tiny_study: Study, table: pd.DataFrame
) -> None:
    logits, truth, mine = tiny_study.clean.logits, tiny_study.truth, tiny_study.predicted
    plain = logits.double().numpy()
    answers = {
        "zscore": scipy.stats.zscore(plain, axis=0, ddof=1).argmax(axis=1),
        "equal_shares": measure.shared_out(logits).argmax(-1).numpy(),
    }
    for name, answer in answers.items():
        right, own = answer == truth, mine == truth
        expected = dict(
            accuracy=right.mean(),
            same_answer=(answer == mine).mean(),
            agreed_overlap=(right & own).sum() / (right | own).sum(),
        )
        found = table[table["calibration"] == name].set_index("metric")
        assert found["value"].to_dict() == pytest.approx(expected)
        assert (found["ci_low"] <= found["value"]).all() and (found["value"] <= found["ci_high"]).all()
    assert (answers["zscore"] != answers["equal_shares"]).any()
    shown = views.calibrated_otherwise(table)
    assert shown["calibration"].tolist() == [*views.OTHERS.values()] and not shown.isna().any(axis=None)
    assert set(views.accuracies(table)["answers"]) == set(views.AS.values()), "as before: those of the run's two"


def test_a_label_whose_scores_are_all_equal_is_neither_likely_nor_unlikely() -> None:
    scores = torch.tensor([[1.0, 5.0, 0.0], [-1.0, 5.0, 2.0]])
    assert measure.standardised(scores)[:, 1].tolist() == [0, 0]
    assert measure.standardised(scores).argmax(-1).tolist() == [0, 2]


def test_equal_shares_are_equal_and_forget_what_a_label_has_in_all_texts() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(400, 13, generator=random) * 3
    plain, preferring = measure.shared_out(scores), measure.shared_out(scores + torch.linspace(-8, 8, 13))
    assert plain.softmax(-1).mean(0).numpy() == pytest.approx(1 / 13, rel=1e-5)
    torch.testing.assert_close(preferring.softmax(-1), plain.softmax(-1), atol=1e-4, rtol=0)
    moved = plain - scores
    assert (moved - moved[0]).abs().max() < 1e-9 < moved[0].std(), "one number a label, and not the same for all"


def test_planted_answers_give_the_numbers_they_must(tiny_run: Run, tmp_path: Path) -> None:
    study = planted(tiny_run, tmp_path)
    frame = study.table(behaviour)
    frame = frame[frame["calibration"] == "none"]
    n_joy, n_trust = ((study.truth == EMOTIONS.index(label)).sum() for label in ("joy", "trust"))
    accuracy = select(frame, metric="accuracy", scoring="first_subtoken").iloc[0]
    assert accuracy["value"] == pytest.approx(1 - n_joy / TINY_TEXTS)
    assert accuracy["ci_low"] < accuracy["value"] < accuracy["ci_high"]
    assert values(frame, metric="recall") == {label: float(label != "joy") for label in EMOTIONS}
    counts = values(frame, "label", "answer", metric="confusion_count")
    assert (counts["joy", "trust"], counts["joy", "joy"], counts["trust", "trust"]) == (n_joy, 0, n_trust)
    assert values(frame, metric="predicted_count")["trust"] == n_joy + n_trust
    assert select(frame, metric="balanced_accuracy")["value"].tolist() == pytest.approx([12 / 13])


def test_open_words_are_counted_and_the_rest_summed(tiny_run: Run, tmp_path: Path) -> None:
    study = planted(tiny_run, tmp_path)
    frame, expected = study.table(behaviour), Counter(study.clean.words)
    assert values(frame, metric="word_count") == {**expected, "others": 0}
    inside = select(frame, metric="share_of_labels")["value"]
    assert inside.tolist() == pytest.approx([1 - expected["happy"] / TINY_TEXTS])


def test_an_answer_that_is_the_word_others_is_one_of_the_others(tiny_run: Run, tmp_path: Path) -> None:
    frame = planted(tiny_run, tmp_path, {0: "others", 1: "others"}).table(behaviour)
    assert values(frame, metric="word_count")["others"] == 2


def test_at_most_twenty_words_are_named(tiny_run: Run, tmp_path: Path) -> None:
    study = planted(tiny_run, tmp_path, {i: f"word{i}" for i in range(30)})
    counts, common = values(study.table(behaviour), metric="word_count"), Counter(study.clean.words)
    assert len(counts) == 21 and sum(counts.values()) == TINY_TEXTS
    assert all(counts[word] == common[word] for word in set(counts) - {"others"})


def test_a_label_nobody_wrote_has_no_recall(tiny_run: Run, tmp_path: Path) -> None:
    whole = planted(tiny_run, tmp_path)
    rows = np.flatnonzero(whole.truth != EMOTIONS.index("fear"))
    clean = Clean(logits=whole.clean.logits[rows], sums=whole.clean.sums[rows], words=whole.clean.words[: len(rows)])
    frame = Study(tiny_run, folder=tmp_path, rows=rows, clean=clean).table(behaviour)
    assert "fear" not in set(frame.loc[frame["metric"] == "recall", "label"])
    counts = frame[(frame["label"] == "fear") & (frame["metric"] != "word_count")]
    assert len(counts) == 2 * 14 and (counts["value"] == 0).all()


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


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_accuracy_by_whole_labels(split_study: Study, log_probabilities: np.ndarray, calibration: str) -> None:
    frame = split_study.table(behaviour)
    lengths = np.array([len(pieces) for pieces in split_study.labels.tokens])
    for rule, scores in (("log_probability", log_probabilities), ("mean_log_probability", log_probabilities / lengths)):
        guess = (scores - (scores.mean(axis=0) if calibration == "batch" else 0)).argmax(axis=1)
        found = select(frame, metric="accuracy", scoring=rule, calibration=calibration)["value"]
        assert found.tolist() == pytest.approx([(guess == split_study.truth).mean()])


def test_the_rule_the_run_does_not_use_is_left_out_where_it_would_differ(
    split_study: Study, table: pd.DataFrame
) -> None:
    assert set(split_study.table(behaviour)["scoring"]) == {"", *LABEL_SCORES} - {"last_subtoken"}
    first, last = (
        values(table, "calibration", metric="accuracy", scoring=f"{end}_subtoken") for end in ("first", "last")
    )
    assert last == {name: first[name] for name in CALIBRATIONS} and len(first) == 4


# Readers.


def test_a_corpus_of_ones_own_has_no_readers(table: pd.DataFrame) -> None:
    assert "human" not in set(table["model"])


def test_readers_equal_a_count_by_hand(crowd_envent: Corpus, crowd_envent_path: Path) -> None:
    study = Study(Run(corpus="crowd-envent", corpus_path=str(crowd_envent_path)))
    rows = pd.DataFrame(measure._readers(study))
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
    accuracy = rows[rows["metric"] == "accuracy"].set_index("reader")
    assert accuracy.loc["single", "value"] == pytest.approx(np.mean(hits))
    assert accuracy.loc["majority_of_5", "value"] == pytest.approx(np.mean(shares))
    assert accuracy["n"].tolist() == [len(hits), len(shares)] == [6000, 1200]
    assert accuracy["value"].between(accuracy["ci_low"], accuracy["ci_high"]).all()
    counts = rows[rows["metric"] == "predicted_count"].set_index("label")["value"]
    assert counts.to_dict() == pytest.approx(dict(Counter(g for guesses in votes.values() for g in guesses)))


# What the chapter shows of a table.


def test_views_say_what_the_golden_table_holds() -> None:
    table = results.read(GOLDEN / "behaviour.parquet")
    both = {"a": table, "b": table.assign(value=0.5)}
    runs = [views.accuracies(rows, scoring="first_subtoken").assign(run=name) for name, rows in both.items()]
    points = views.accuracy_points(pd.concat(runs), table).set_index("who")["value"]
    assert points["a, as scored"] < points["a, calibrated"] and points["b, calibrated"] == 0.5 and len(points) == 4
    bars = views.spreads(table)
    assert list(bars) == ["as scored", "calibrated", "paper, Llama 3.2 1B"]
    assert [rows["value"].sum() for rows in bars.values()] == [520, 520, 6600]
    counted = results.select(table, metric="word_count").set_index("label")["value"]
    words = views.free_words(table, n=2).set_index("word")
    assert {*counted.drop("others").nlargest(2).index, "anger", "fear"} == {*words.index}, "ours and the paper's two"
    assert words["this run"].dropna().to_dict() == {
        word: counted[word] / 520 for word in words.index if word in counted
    }
    assert words.loc["fear", "paper, Llama 3.2 1B"] == pytest.approx(622 / 6600)
    confused = results.select(table, metric="confusion_count", calibration="batch")
    mistake = views.most_mistaken(confused)
    of_label = confused[confused["label"] == mistake["label"]].set_index("answer")["value"]
    assert mistake["value"] == of_label.drop(mistake["label"]).max() / of_label.sum()
    rules = views.accuracies(table)
    assert (
        views.of_each_rule(rules.assign(value=0.272)) == "All 4 rules of scoring reach the same accuracy at best, 27%"
    )
    rules.loc[rules["scoring"] == "first_subtoken", "value"] = 0.99
    assert "99% (first subtoken)" in views.of_each_rule(rules)
    one = (
        results.select(table, metric="accuracy").head(1).assign(reader="single", value=0.504, ci_low=0.49, ci_high=0.52)
    )
    told = " Human readers name it for **50.4% (49.0% to 52.0%)** (one reader) of the events that they read."
    assert (views.humans(table), views.humans(pd.concat([table, one]))) == ("", told)
    sizes = views.paper_accuracies()["model"].map(known_parameters)
    assert sizes.is_monotonic_increasing and len(sizes) == 10

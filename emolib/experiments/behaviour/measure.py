"""What the model answers (paper §3, A.3; Figs 8-11, 24, 25), with human readers as the ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from emolib import stats
from emolib.engine.choices import Calibration
from emolib.engine.labels import CALIBRATIONS, LABEL_SCORES, calibration_offsets
from emolib.stats import scores
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS, load_readings

TOP_WORDS = 20
LABELS = [dict(label=label) for label in EMOTIONS]
Rows = Iterator[dict[str, Any]]


def run(study: Study) -> pd.DataFrame:
    """Every measurement of the chapter.

    accuracy (0-1) by scoring and calibration; for the run's scoring under both calibrations balanced_accuracy,
    agreed_count, recall and predicted_count by label, confusion_count by label (the writer's) and answer; the same
    scoring with other calibrations that need no label (`OTHERS`): accuracy, same_answer (share of texts with the run's
    answer) and agreed_overlap (texts right both ways over those right either way); word_count by label (an
    open-vocabulary word) and share_of_labels; and where the corpus has readings accuracy by reader and predicted_count
    of single readers, with `model` human. Intervals are over writers.
    """
    rows = [*_accuracies(study), *_otherwise(study), *_words(study), *_readers(study)]
    for calibration in CALIBRATIONS:
        predicted = _answers(study.clean.logits, calibration)
        rows += [row | {"calibration": calibration} for row in _by_label(study, predicted)]
    return pd.DataFrame(rows)


def _answers(table: torch.Tensor, calibration: Calibration) -> np.ndarray:
    return (table - calibration_offsets(table, calibration)).argmax(-1).numpy()


def _accuracies(study: Study) -> Rows:
    lengths = torch.tensor([len(pieces) for pieces in study.labels.tokens])
    whole = {"log_probability": study.clean.sums, "mean_log_probability": study.clean.sums / lengths}
    for rule in LABEL_SCORES:
        # The run has the logits of first or of last tokens; where a label has several, only those of its own rule.
        if rule not in whole and rule != study.run.scoring and lengths.max() > 1:
            continue
        for calibration in CALIBRATIONS:
            right = _answers(whole.get(rule, study.clean.logits), calibration) == study.truth
            share = stats.cluster_wilson(right, study.groups)
            yield from share.rows(dict(metric="accuracy", scoring=rule, calibration=calibration), n=len(right))


def standardised(scores: torch.Tensor) -> torch.Tensor:
    """The scores [N, C] of each label minus their mean over the texts, over their standard deviation; 0 where all of a
    label are equal."""
    return (scores - scores.mean(dim=0)) / scores.std(dim=0).clamp_min(torch.finfo(scores.dtype).tiny)


def shared_out(scores: torch.Tensor, rounds: int = 1000) -> torch.Tensor:
    """The scores [N, C] minus what makes the mean probability of every label over the texts the same (Sinkhorn)."""
    changed, equal = scores.double(), 1 / scores.shape[-1]
    for _ in range(rounds):
        share = changed.softmax(dim=-1).mean(dim=0)
        if (share / equal - 1).abs().max() < 1e-6:
            break
        changed = changed - (share / equal).log()
    return changed


OTHERS = {"zscore": standardised, "equal_shares": shared_out}


def _otherwise(study: Study) -> Rows:
    """Answers of the run's scoring as other ways that need no label centre it, beside those that the run takes."""
    mine = study.predicted == study.truth
    for name, change in OTHERS.items():
        answers = change(study.clean.logits).argmax(-1).numpy()
        keys, right = dict(calibration=name), answers == study.truth
        share = stats.cluster_wilson(right, study.groups)
        yield from share.rows(keys | dict(metric="accuracy", scoring=study.run.scoring), n=len(right))
        same = stats.cluster_wilson(answers == study.predicted, study.groups)
        yield from same.rows(keys | dict(metric="same_answer"), n=len(right))
        if (either := right | mine).any():
            both = stats.cluster_bootstrap(right & mine, study.groups, weights=either, seed=study.run.seed)
            yield from both.rows(keys | dict(metric="agreed_overlap"), n=either.sum())


def _by_label(study: Study, predicted: np.ndarray) -> Rows:
    truth, n = study.truth, len(study.truth)
    balanced = study.interval(scores.balanced_accuracy(truth, predicted))
    yield from balanced.rows(dict(metric="balanced_accuracy"), n=n)
    yield dict(metric="agreed_count", value=(predicted == truth).sum(), n=n)
    yield from _counts(predicted).rows(LABELS, metric="predicted_count", n=n)
    for index, emotion in enumerate(EMOTIONS):
        mine = truth == index
        if mine.any():
            recall = stats.cluster_wilson(predicted[mine] == index, study.groups[mine])
            yield from recall.rows(dict(metric="recall", label=emotion), n=mine.sum())
        answers = [dict(answer=answer) for answer in EMOTIONS]
        yield from _counts(predicted[mine]).rows(answers, metric="confusion_count", label=emotion, n=mine.sum())


def _counts(ids: np.ndarray) -> stats.Interval:
    return stats.point(np.bincount(ids, minlength=len(EMOTIONS)))


def _words(study: Study) -> Rows:
    words = study.clean.words
    common = Counter(word for word in words if word != "others").most_common(TOP_WORDS)
    for word, count in [*common, ("others", len(words) - sum(count for _, count in common))]:
        yield dict(metric="word_count", label=word, value=count, n=len(words))
    inside = stats.cluster_wilson(np.isin(words, EMOTIONS), study.groups)
    yield from inside.rows(dict(metric="share_of_labels"), n=len(words))


def _readers(study: Study) -> Rows:
    """Readers guess the emotion of 1,200 texts, five each: per reading, and by majority with ties split."""
    if study.run.corpus != "crowd-envent":
        return
    readings = load_readings(study.run.corpus_path)
    read = readings.merge(study.events.assign(group=study.groups), on="text_id", suffixes=("", "_written"))
    right = read["emotion"] == read["emotion_written"]
    single = stats.cluster_wilson(right, read["group"])
    yield from single.rows(dict(metric="accuracy", reader="single"), model="human", n=len(read))
    votes = pd.crosstab(read["text_id"], read["emotion"])
    winners = votes.eq(votes.max(axis=1), axis=0)
    of_text = read.groupby("text_id")[["emotion_written", "group"]].first()
    share = winners.div(winners.sum(axis=1), axis=0).stack()
    won = share.reindex(pd.MultiIndex.from_arrays([of_text.index, of_text["emotion_written"]]), fill_value=0.0)
    majority = stats.cluster_bootstrap(won, of_text["group"], seed=study.run.seed)
    yield from majority.rows(dict(metric="accuracy", reader="majority_of_5"), model="human", n=len(of_text))
    counts = stats.point(read["emotion"].value_counts().reindex(EMOTIONS, fill_value=0))
    yield from counts.rows(LABELS, model="human", metric="predicted_count", reader="single", n=len(read))

"""What the model answers (paper §3, A.3; Figs 8-11, 24, 25), with human readers as the ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from emolib import stats
from emolib.engine.labels import CALIBRATIONS, LABEL_SCORES, calibration_offsets
from emolib.stats import scores
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS, load_readings

TOP_WORDS = 20


def run(study: Study) -> pd.DataFrame:
    """Every measurement of the chapter.

    accuracy (0-1, writers' clusters) for each scoring rule and calibration; balanced_accuracy, recall, confusion_count
    and predicted_count for the run's scoring under both calibrations; agreed_count; count of open-vocabulary words; and
    readers' accuracy (`model` human) where the corpus has readings.
    """
    rows = [*_accuracies(study), *_open_vocabulary(study), *_readers(study)]
    for calibration in CALIBRATIONS:
        offsets = calibration_offsets(study.clean.logits, calibration)
        predicted = (study.clean.logits - offsets).argmax(-1).numpy()
        rows += _answers(study, predicted, f"calibration:{calibration}")
    return pd.DataFrame(rows)


def _accuracies(study: Study) -> Iterable[dict[str, Any]]:
    lengths = torch.tensor([len(pieces) for pieces in study.labels.tokens])
    tables = {"log_probability": study.clean.sums, "mean_log_probability": study.clean.sums / lengths}
    for rule in LABEL_SCORES:
        table = tables.get(rule)
        if table is None:  # single-token rules are columns of the first-token or last-token logits
            if rule != study.run.scoring and any(len(pieces) > 1 for pieces in study.labels.tokens):
                continue
            table = study.clean.logits
        for calibration in CALIBRATIONS:
            predicted = (table - calibration_offsets(table, calibration)).argmax(-1).numpy()
            interval = stats.cluster_wilson(predicted == study.truth, study.groups)
            condition = f"scoring:{rule};calibration:{calibration}"
            yield dict(metric="accuracy", condition=condition, n=len(predicted), **_only(interval))


def _answers(study: Study, predicted: np.ndarray, condition: str) -> Iterable[dict[str, Any]]:
    truth = study.truth
    balanced = stats.bootstrap(scores.balanced_accuracy(truth, predicted), study.groups, seed=study.run.seed)
    yield dict(metric="balanced_accuracy", condition=condition, n=len(truth), **_only(balanced))
    yield dict(metric="agreed_count", condition=condition, value=float((predicted == truth).sum()), n=len(truth))
    for index, emotion in enumerate(EMOTIONS):
        mine = truth == index
        yield dict(
            metric="predicted_count",
            label=emotion,
            condition=condition,
            value=float((predicted == index).sum()),
            n=len(truth),
        )
        if mine.any():
            recall = stats.cluster_wilson(predicted[mine] == index, study.groups[mine])
            yield dict(metric="recall", label=emotion, condition=condition, n=int(mine.sum()), **_only(recall))
        for other, guess in enumerate(EMOTIONS):
            count = float((predicted[mine] == other).sum())
            label = f"{emotion}=>{guess}"
            yield dict(metric="confusion_count", label=label, condition=condition, value=count, n=int(mine.sum()))


def _open_vocabulary(study: Study) -> Iterable[dict[str, Any]]:
    words = study.clean.words
    common = Counter(word for word in words if word != "others").most_common(TOP_WORDS)
    others = len(words) - sum(count for _, count in common)
    for word, count in [*common, ("others", others)]:
        yield dict(metric="count", condition="vocabulary:open", label=word, value=float(count), n=len(words))
    inside = stats.cluster_wilson(np.isin(words, EMOTIONS), study.groups)
    yield dict(metric="share_of_labels", condition="vocabulary:open", n=len(words), **_only(inside))


def _readers(study: Study) -> Iterable[dict[str, Any]]:
    """Readers guess the emotion of 1,200 texts, five each: per reading, and by majority with ties split."""
    if study.run.corpus != "crowd-envent":
        return
    readings = load_readings(study.run.corpus_path)
    writers = study.events.assign(group=study.groups).set_index("text_id")
    truth, groups = (writers.loc[readings["text_id"], name].to_numpy() for name in ("emotion", "group"))
    guess = readings["emotion"].to_numpy()
    single = stats.cluster_wilson(guess == truth, groups)
    yield dict(model="human", metric="accuracy", condition="reader:single", n=len(guess), **_only(single))
    votes = pd.crosstab(readings["text_id"], readings["emotion"])
    winners = votes.eq(votes.max(axis=1), axis=0)
    of_text = writers.loc[votes.index]
    right = np.array(
        [row.get(e, False) / row.sum() for (_, row), e in zip(winners.iterrows(), of_text["emotion"], strict=True)]
    )
    majority = stats.cluster_bootstrap(right, of_text["group"].to_numpy(), seed=study.run.seed)
    yield dict(model="human", metric="accuracy", condition="reader:majority_of_5", n=len(right), **_only(majority))
    for emotion in EMOTIONS:
        count = float((guess == emotion).sum())
        yield dict(
            model="human", metric="predicted_count", label=emotion, condition="reader:single", value=count, n=len(guess)
        )


def _only(interval: stats.Interval) -> dict[str, float]:
    """The three numbers of an interval over a single column."""
    return {name: float(np.ravel(values)[0]) for name, values in interval.columns().items()}

"""Appraisals of the texts a model gets wrong (paper C.6, Table 3; errata P31): probed, rated by writers, and expected.

Probes of appraisals are ridge regressions on all texts in folds grouped by writer, so that every text is read by a
probe that has seen neither it nor its writer; each appraisal has the penalty with the best held-out R2. A missed text
resembles another emotion, the one that was answered, so its probed appraisals lean there by construction:
`source:label` is what the answer alone would make of them, and `source:writer` what the writers themselves rated, which
no model has touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from emolib import stats
from emolib.experiments.robustness.task_profile import Row, each
from emolib.probes.linear import grouped_folds
from emolib.probes.ridge import cross_validate_ridge
from emolib.stats import scores
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

APPRAISALS = ("pleasantness", "unpleasantness", "other_responsblt", "self_responsblt", "suddenness", "predict_event")
TABLE = tuple((e, a) for e in ("sadness", "joy", "guilt") for a in ("pleasantness", "other_responsblt"))  # Table 3
# The paper's penalty first; with few texts for the width of a model it is far too weak.
ALPHAS = (5.0, 50.0, 500.0, 5000.0)
FEWEST = 8  # correct, and missed, texts of an emotion; fewer are left out
RESAMPLES = 1000
CHECK = "check:misclassified"


def rows(study: Study, layers: Sequence[int]) -> Iterator[Row]:
    """Probed and rated appraisals of correct and missed texts, and their difference, missed minus correct.

    Of the residual stream. At the layer with the best mean R2 (metric r2, by appraisal): mean_rating and sd_rating
    (probed), writer_rating (the writers'), and rating_difference of source:probe, writer, label and beyond_label
    (probe minus label) for every emotion. At each of `layers`: rating_difference of source:probe for Table 3's six.
    Nothing for a corpus without ratings or without enough correct and missed texts of an emotion.
    """
    correct = study.predicted == study.truth
    sizes = [[(study.truth[right] == e).sum() for right in (correct, ~correct)] for e in range(len(EMOTIONS))]
    enough = [e for e, size in enumerate(sizes) if min(size) >= FEWEST]
    if not study.corpus.rated or not enough:
        return
    ratings = study.events[list(APPRAISALS)].to_numpy(dtype=float)
    readings = np.stack(list(_readings(study, ratings, layers)))
    best = int(np.argmax([_quality(ratings, reading).mean() for reading in readings]))
    site = dict(component="resid_post", layer=layers[best], position="-1")
    fit = stats.bootstrap(scores.r2(ratings, readings[best]), study.groups, n_resamples=RESAMPLES, seed=study.run.seed)
    for appraisal, interval in zip(APPRAISALS, each(fit), strict=True):
        yield site | dict(metric="r2", condition=CHECK, label=appraisal, n=len(ratings)) | interval
    cells = [(EMOTIONS[e], a) for e in enough for a in APPRAISALS]
    expected = answered(readings[best], study.predicted, correct)
    tables = {"probe": readings[best], "writer": ratings, "label": expected, "beyond_label": readings[best] - expected}
    for source, table in tables.items():
        place = site if source != "writer" else {}
        yield from _differences(study, table, cells, place | dict(condition=f"source:{source}"))
        if source in ("probe", "writer"):
            yield from _means(study, table, cells, place, "mean_rating" if source == "probe" else "writer_rating")
    for layer, table in zip(layers, readings, strict=True):
        some = [cell for cell in TABLE if cell in cells]
        if layer != layers[best] and some:
            yield from _differences(study, table, some, site | dict(layer=layer, condition="source:probe"))


def answered(readings: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """What the answer alone says [n, k]: the mean reading of the other texts rightly given the same answer.

    NaN where there are fewer than two such texts.
    """
    expected = np.full_like(readings, np.nan)
    for label in np.unique(predicted):
        right = correct & (predicted == label)
        if right.sum() < 3:
            continue
        same = predicted == label
        # A text is not its own evidence: a correct one is left out of the mean it is compared with.
        total, own = readings[right].sum(axis=0), np.where(right[same, None], readings[same], 0.0)
        expected[same] = (total - own) / (right.sum() - right[same, None])
    return expected


def _readings(study: Study, ratings: np.ndarray, layers: Sequence[int]) -> Iterator[np.ndarray]:
    folds, targets = grouped_folds(study.truth, study.groups, seed=study.run.seed), torch.tensor(ratings)
    for layer in layers:
        found = cross_validate_ridge(study.activations("resid_post", layer).float(), targets, folds, alphas=ALPHAS)
        best = np.argmax([_quality(ratings, reading) for reading in found], axis=0)
        yield np.take_along_axis(found, best[None, None], axis=0)[0]


def _quality(ratings: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """Held-out R2 of each appraisal."""
    return scores.r2(ratings, reading)(np.ones((1, len(ratings))))[0]


def _differences(study: Study, table: np.ndarray, cells: list[tuple[str, str]], key: Row) -> Iterator[Row]:
    """Rows of missed minus correct for (emotion, appraisal) cells; texts without a reading count in neither."""
    missed, correct, columns = _sets(study, table, cells)
    values = np.nan_to_num(table[:, columns])

    def difference(weights: scores.Array) -> scores.Array:
        means = [(weights @ (values * members)) / np.maximum(weights @ members, 1e-9) for members in (missed, correct)]
        return means[0] - means[1]

    found = each(stats.bootstrap(difference, study.groups, n_resamples=RESAMPLES, seed=study.run.seed))
    for (emotion, appraisal), n, interval in zip(cells, (missed + correct).sum(axis=0), found, strict=True):
        condition = f"{CHECK};emotion:{emotion};appraisal:{appraisal};{key['condition']}"
        yield key | dict(metric="rating_difference", condition=condition, n=int(n)) | interval


def _means(study: Study, table: np.ndarray, cells: list[tuple[str, str]], site: Row, metric: str) -> Iterator[Row]:
    missed, correct, columns = _sets(study, table, cells)
    for name, members in {"missed": missed, "correct": correct}.items():
        means = stats.cluster_bootstrap(table[:, columns], study.groups, weights=members, seed=study.run.seed)
        for i, ((emotion, appraisal), interval) in enumerate(zip(cells, each(means), strict=True)):
            key = site | dict(condition=f"{CHECK};emotion:{emotion};appraisal:{appraisal};set:{name}")
            key |= dict(n=int(members[:, i].sum()))
            yield key | dict(metric=metric) | interval
            if metric == "mean_rating":
                spread = float(table[members[:, i] > 0, columns[i]].std(ddof=1))
                yield key | dict(metric="sd_rating", value=spread)


def _sets(study: Study, table: np.ndarray, cells: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Members [n, cells] (1 or 0) of missed and correct texts, and the column of each cell's appraisal."""
    columns = [APPRAISALS.index(appraisal) for _, appraisal in cells]
    mine = np.stack([study.truth == EMOTIONS.index(emotion) for emotion, _ in cells], axis=1)
    known, right = np.isfinite(table[:, columns]), (study.predicted == study.truth)[:, None]
    return (mine & known & ~right).astype(float), (mine & known & right).astype(float), columns

"""Whether an emotion's own vector makes the model answer that emotion (paper appendix D; E11, E12; Fig 28).

Vectors come from one half of the writers whose texts are answered right: the weights of the paper's probe, and the
mean difference of activations beside them. They are judged on a balanced sample of the other half's texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emolib import stats
from emolib.interventions import steering
from emolib.interventions.steering import EVERY, MAIN, WIDE, Cell, Design, Dose, Family
from emolib.interventions.theory import label_counts
from emolib.probes.directions import emotion_vectors, random_directions
from emolib.stats.scores import Array, Statistic
from emolib.study.study import Study
from emolib.texts.appraisals import EMOTIONS

RESAMPLES = 500
DRAWS = 20
LABELS = [dict(label=label) for label in EMOTIONS]
Row = dict[str, Any]


def _design(texts: int, step: int, doses: Sequence[Dose]) -> Design:
    probe, difference = Family("probe", 3, doses), Family("mean_difference", 3, MAIN)
    return Design(texts, 0, step, (probe, difference, Family("random", 3, doses, draws=(DRAWS, DRAWS))))


FULL, QUICK = _design(104, 1, EVERY), _design(40, 6, WIDE)


def run(study: Study) -> pd.DataFrame:
    """Promotion scores (-1 to 1) of each emotion (`label`) at every centre, by kind of vector and dose.

    promotion_score of vectors probe and mean_difference (intervals over writers) and random (mean of the draws with the
    range of 95% of new ones, n = draws); promoted_share, the share of texts that get the label, and its
    baseline_share; residual_norm. Emotions without a text to fit on are left out. Of the doses `quick` runs leave two
    shares out, and run every sixth centre. Raises ValueError when too few texts are answered right.
    """
    design = FULL if study.run.profile == "full" else QUICK
    fitting, judged = steering.fitted_and_judged(study, design.texts)
    features, labels = study.stacked("resid_post")[:, fitting].float(), study.truth[fitting]
    norms = features.norm(dim=-1).mean(1)
    present = [EMOTIONS[label] for label in np.unique(labels)]
    vectors: dict[tuple[str, Any], Any] = {}
    for kind in ("probe", "mean_difference"):
        each = emotion_vectors(features, labels, n_classes=len(EMOTIONS), kind=kind)
        vectors |= {(kind, name): each[:, EMOTIONS.index(name)] for name in present}
    drawn = random_directions(DRAWS, *features.shape[::2], seed=study.run.seed, over="window")
    vectors |= {("random", draw): vector for draw, vector in enumerate(drawn)}
    cells = steering.plan(design, study, lambda kind, draws: range(draws) if draws else present)
    found = steering.answers(study, cells, steering.in_both_units(vectors, norms), judged, name="promotion")
    clean = study.predicted[judged]
    base = label_counts(clean[:, None])[0, 0] / len(clean)
    rows: list[Row] = stats.point(base).rows(LABELS, metric="baseline_share", n=len(clean))
    rows += steering.residual_norms(norms)
    for cell, ids in zip(cells, found, strict=True):
        own = _null(ids, base) if cell.vector == "random" else _scores(cell, ids, clean, study, judged)
        rows += [row | cell.columns for row in own]
    return pd.DataFrame(rows)


def promotion_score(new: Array, base: Array) -> Array:
    """The change of a share relative to what was possible (E12): 1 all texts, 0 no change, -1 none is left.

    `new` and `base` are shares, 0 to 1, that broadcast. A share that cannot rise or fall any further scores 0.
    """
    change = np.asarray(new, dtype=float) - base
    room = np.where(change >= 0, 1 - base, base) * np.ones_like(change)
    return np.divide(change, room, out=np.zeros_like(change), where=room > 0)


def score_statistic(targets: Sequence[int], ids: np.ndarray, clean: np.ndarray) -> Statistic:
    """The statistic "promotion score of label `targets` [k] in column k of the answers `ids` [n, k]"."""
    new = (ids == np.asarray(targets)).astype(float)
    base = (clean[:, None] == np.asarray(targets)).astype(float)

    def statistic(weights: Array) -> Array:
        total = weights.sum(axis=1, keepdims=True)
        return promotion_score(weights @ new / total, weights @ base / total)

    return statistic


def _scores(cell: Cell, ids: np.ndarray, clean: np.ndarray, study: Study, judged: np.ndarray) -> Iterable[Row]:
    targets = [EMOTIONS.index(str(name)) for name in cell.pushed]
    keys = [dict(label=name) for name in cell.pushed]
    found = study.interval(score_statistic(targets, ids, clean), judged, n_resamples=RESAMPLES)
    shares = stats.cluster_wilson(ids == np.asarray(targets), study.groups[judged])
    yield from found.rows(keys, metric="promotion_score", n=len(clean))
    yield from shares.rows(keys, metric="promoted_share", n=len(clean))


def _null(ids: np.ndarray, base: Array) -> Iterable[Row]:
    """What random directions do to each emotion: mean over draws, and the range of 95% of new ones."""
    band = stats.null_band(promotion_score(label_counts(ids)[0] / len(ids), base)).map(lambda ends: ends.clip(-1, 1))
    return band.rows(LABELS, metric="promotion_score", n=ids.shape[1])

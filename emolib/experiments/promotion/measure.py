"""Whether an emotion's own vector makes the model answer that emotion (paper appendix D; E11, E12; Fig 28).

Vectors come from one half of the writers whose texts are answered right: the weights of the paper's probe, and the
mean difference of activations beside them. They are judged on a balanced sample of the other half's texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emolib import stats
from emolib.interventions import theory
from emolib.interventions.steering import (
    BETAS,
    EVERY,
    MAIN,
    SHARES,
    Cell,
    Design,
    Family,
    answers,
    fitted_and_judged,
    in_both_units,
    plan,
)
from emolib.probes.directions import emotion_vectors, random_directions
from emolib.stats.scores import Array, Statistic
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

RESAMPLES = 500
DRAWS = 20
KINDS = ("probe", "mean_difference")
FULL = Design(
    texts=104,
    choosing=0,
    step=1,
    families=(
        Family("probe", 3, EVERY),
        Family("mean_difference", 3, MAIN),
        Family("random", 3, EVERY, draws=(DRAWS, DRAWS)),
    ),
)
# doses of the quick profile leave two shares out, and every fourth centre is run
FEWER = (*BETAS, SHARES[1])
QUICK = Design(
    texts=40,
    choosing=0,
    step=4,
    families=(
        Family("probe", 3, FEWER),
        Family("mean_difference", 3, MAIN),
        Family("random", 3, FEWER, draws=(DRAWS, DRAWS)),
    ),
)


def run(study: Study) -> pd.DataFrame:
    """Promotion scores (-1 to 1) of each emotion at every centre, by kind of vector and dose.

    Metrics: promotion_score with condition vector:probe and vector:mean_difference (intervals over writers) and
    vector:random (mean of the draws with the range of 95 % of new ones, n = draws); promoted_share, the share of
    texts that get the label, and its baseline_share; residual_norm. Emotions without a text to fit on are left out.
    Raises ValueError when too few texts are answered right.
    """
    design = FULL if study.run.profile == "full" else QUICK
    fitting, judged = fitted_and_judged(study, design.texts)
    features, labels = study.stacked("resid_post")[:, fitting].float(), study.truth[fitting]
    norms = features.norm(dim=-1).mean(1)
    present = [EMOTIONS[label] for label in np.unique(labels)]
    vectors = {}
    for kind in KINDS:
        each = emotion_vectors(features, labels, n_classes=len(EMOTIONS), kind=kind)
        vectors |= {(kind, name): each[:, EMOTIONS.index(name)] for name in present}
    drawn = random_directions(DRAWS, *features.shape[::2], seed=study.run.seed, over="window")
    vectors |= {("random", str(draw)): vector for draw, vector in enumerate(drawn)}
    cells = plan(design, study.model.n_layers, lambda kind, draws: [str(draw) for draw in range(draws)] or present)
    found = answers(study, cells, in_both_units(vectors, norms), judged, name="promotion")
    clean, groups = study.predicted[judged], study.groups[judged]
    tables = [_baseline(clean), _norms(norms.tolist())]
    for cell, ids in zip(cells, found, strict=True):
        tables.append(_null(cell, ids, clean) if cell.kind == "random" else _scores(cell, ids, clean, groups))
    return pd.concat(tables, ignore_index=True)


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


def _scores(cell: Cell, ids: np.ndarray, clean: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    targets = [EMOTIONS.index(name) for name in cell.names]
    found = stats.bootstrap(score_statistic(targets, ids, clean), groups, n_resamples=RESAMPLES)
    shares = stats.cluster_wilson(ids == np.asarray(targets), groups)
    tables = [
        pd.DataFrame(interval.columns()).assign(metric=metric, label=list(cell.names))
        for metric, interval in {"promotion_score": found, "promoted_share": shares}.items()
    ]
    return pd.concat(tables).assign(condition=f"vector:{cell.kind}{cell.dose.suffix}", n=len(clean), **cell.site)


def _null(cell: Cell, ids: np.ndarray, clean: np.ndarray) -> pd.DataFrame:
    """What random directions do to each emotion: mean over draws, and the range of 95 % of new ones."""
    base = theory.label_counts(clean[:, None])[0] / len(clean)
    scores = promotion_score(theory.label_counts(ids)[0] / len(clean), base)
    band = {name: values.clip(-1, 1) for name, values in stats.null_band(scores).columns().items()}
    return pd.DataFrame(dict(label=EMOTIONS, **band)).assign(
        metric="promotion_score", condition=f"vector:random{cell.dose.suffix}", n=len(cell.names), **cell.site
    )


def _baseline(clean: np.ndarray) -> pd.DataFrame:
    shares = theory.label_counts(clean[:, None])[0, 0] / len(clean)
    return pd.DataFrame(dict(label=EMOTIONS, value=shares, metric="baseline_share", n=len(clean)))


def _norms(norms: Sequence[float]) -> pd.DataFrame:
    rows = dict(layer=range(len(norms)), value=norms, metric="residual_norm", component="resid_post", position="-1")
    return pd.DataFrame(rows)

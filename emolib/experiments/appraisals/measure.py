"""Whether appraisals can be read, beyond what the emotion's name tells (paper §7, E; E6, E14; Figs 5, 29).

An appraisal is a writer's rating, 1 to 5, of how the event came about and mattered. One ridge regression per appraisal
and site. `as_released`: agreed set, raw features, alpha = 5, one random 80/20 split. `ours`: all texts, standardised,
alpha chosen by inner cross-validation, folds that keep a writer on one side. Beside them stand what the emotion label
alone explains, ratings handed to other writers (the control), and people who read the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib import stats
from emolib.engine.sites import Component
from emolib.probes.linear import RELEASED_NEEDS, cross_validate, grouped_folds, released_split, shuffled_labels
from emolib.probes.ridge import fit_ridge, held_out_means, label_means, nested_ridge
from emolib.stats import landmarks, scores
from emolib.stats.sampling import halves
from emolib.stats.scores import Array, Statistic
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.appraisals import APPRAISALS, EMOTIONS, NAMED
from emolib.texts.corpus import load_readings

RESAMPLES = 500
STEP = {"full": 1, "quick": 3}
MIN_WRITERS = 5  # below that the mean of an emotion gets no interval
OURS = dict(setting="ours", target="writer", set="all")
NAMES = [dict(appraisal=name) for name in APPRAISALS]
Row = dict[str, Any]
Split = tuple[np.ndarray, np.ndarray]  # the texts that the paper's probe is trained and tested on


def run(study: Study) -> pd.DataFrame:
    """R2 of every appraisal by site, its controls and ceilings, the emotions' profiles, and emotions from appraisals.

    By `appraisal`, component and layer: r2 (`setting` as_released, on part of the agreed `set`; ours; `target` shuffled
    is the control), selectivity (ours minus shuffled), r2_gain (ours minus label only), partial_r2 (share of what the
    label leaves over that activations add to it), alpha (median over folds); in the residual stream peak_depth and
    r2_fall. Without a layer: r2 of the label alone (`baseline`), r, r2 and r2_as_given of each `reader`, on the `set`
    that was read, and mean_rating of each `emotion`. emotion_from_appraisals by `source` is balanced accuracy.
    Intervals are over writers. `quick` runs read every third layer. Where the agreed set is too small to probe, what is
    measured on it as released is left out, and `.attrs["left_out"]` says why. Raises ValueError for a corpus without
    ratings or with too few texts.
    """
    rated = study.corpus.ratings.columns  # refuses a corpus without ratings
    ratings = study.events[list(rated)].to_numpy(dtype=float)
    split = released_split(study.agreed, study.truth)
    folds = grouped_folds(study.truth, study.groups, seed=study.run.seed)
    layers = study.layers(STEP[study.run.profile])
    sites = [(component, layer) for component in study.model.components for layer in layers]
    rows, curves = [*label_rows(study, ratings, folds, split)], {}
    for component, layer in progress(sites, "appraisals", [1] * len(sites), unit=" sites"):
        features = study.activations(component, layer).float()
        guess, found = our_probes(study, features, ratings, folds)
        own = released_rows(study, features, ratings, split) if split else []
        rows += [_site(layer, component) | row for row in (*own, *found)]
        if component == "resid_post":
            curves[layer] = guess
    rows += peak_rows(study, ratings, curves)
    rows += reader_rows(study, ratings, curves)
    rows += profile_rows(study, ratings)
    rows += emotion_rows(study, ratings, curves, folds)
    table = pd.DataFrame(rows)
    if split is None:
        table.attrs["left_out"] = f"Left out are the probes as released: {study.too_few(RELEASED_NEEDS)}."
    return table


def label_rows(study: Study, ratings: Array, folds: np.ndarray, split: Split | None) -> Iterator[Row]:
    """Rows of what the label alone explains: of all texts, and of the released probe's test texts, if there are."""
    base = held_out_means(ratings, study.truth, folds)
    alone = dict(metric="r2", baseline="label")
    yield from _interval(study, scores.r2(ratings, base)).rows(NAMES, **alone, set="all", n=len(ratings))
    if split:
        train, test = (np.isin(np.arange(len(ratings)), part) for part in split)
        guess = label_means(ratings, study.truth, train, test)
        agreed = _interval(study, scores.r2(ratings[test], guess), test)
        yield from agreed.rows(NAMES, **alone, set="agreed", n=int(test.sum()))


def released_rows(study: Study, features: Tensor, ratings: Array, split: Split) -> list[Row]:
    """Rows of the paper's probe at one site."""
    train, test = split
    everything = torch.ones(1, len(train), dtype=torch.bool)
    targets = torch.as_tensor(ratings[train])
    weights, bias = fit_ridge(features[train], targets, everything, alphas=(5.0,), standardise="none")
    guess = (features[test].double() @ weights[0, 0].T + bias[0, 0]).cpu().numpy()
    found = _interval(study, scores.r2(ratings[test], guess), test)
    return found.rows(NAMES, metric="r2", setting="as_released", target="writer", set="agreed", n=len(test))


def our_probes(study: Study, features: Tensor, ratings: Array, folds: np.ndarray) -> tuple[Array, list[Row]]:
    """Held-out ratings [N, 21] of our probe at one site, and the rows of everything that is said of it."""
    control = ratings[shuffled_labels(np.arange(len(ratings)), study.groups, seed=study.run.seed)]
    guess, alphas = nested_ridge(features, np.concatenate([ratings, control], axis=1), folds)
    joint, _ = nested_ridge(features, ratings, folds, free=np.eye(len(EMOTIONS))[study.truth])
    size = len(APPRAISALS)
    own, null = guess[:, :size], guess[:, size:]
    parts = (
        scores.r2(ratings, own),
        scores.r2(control, null),
        scores.r2(ratings, held_out_means(ratings, study.truth, folds)),
        scores.r2(ratings, joint),
    )

    def compare(weights: Array) -> Array:
        full, shuffled, label, both = (part(weights) for part in parts)
        compared = (full, shuffled, full - shuffled, full - label, (both - label) / (1 - label))
        return np.concatenate(compared, axis=1)

    found, rows = _interval(study, compare), []
    for part, metric in enumerate(("r2", "r2", "selectivity", "r2_gain", "partial_r2")):
        keys = OURS | dict(target="shuffled" if part == 1 else "writer", metric=metric, n=len(ratings))
        rows += found[part * size : (part + 1) * size].rows(NAMES, **keys)
    middle = stats.point(np.median(alphas[:, :size], axis=0))
    return own, rows + middle.rows(NAMES, **OURS, metric="alpha", n=len(ratings))


def peak_rows(study: Study, ratings: Array, curves: dict[int, Array]) -> Iterator[Row]:
    """Where R2 in the residual stream is highest, and how much of it is lost from there to the last layer.

    The peak of a curve lies above its end by chance alone, so it is looked for on each half of the writers, and the
    fall measured on the other.
    """
    layers, half = np.array(list(curves)), halves(study.groups, seed=study.run.seed)
    sides = np.stack([half, ~half]).astype(float)
    where = OURS | dict(component="resid_post", position="-1", n=len(ratings))
    for index, name in enumerate(NAMES):
        curve = scores.r2(ratings[:, index], np.stack([guess[:, index] for guess in curves.values()], axis=1))
        chosen = curve(sides).argmax(axis=1)
        place = _interval(study, landmarks.of("peak", curve)).map(lambda index: layers[np.round(index).astype(int)])
        lost = _interval(study, partial(fall, curve, chosen, sides[::-1]))
        yield from lost.rows(name, **where, metric="r2_fall", layer=int(place.value[0]))
        yield from place.map(lambda layer: (layer + 1) / study.model.n_layers).rows(name, **where, metric="peak_depth")


def fall(curve: Statistic, peaks: Array, sides: Array, weights: Array) -> Array:
    """The mean [r, 1] over `sides` [s, n] of what a curve loses there from its peak [s] to its end."""
    curves = [curve(weights * side) for side in sides]
    return np.mean([found[:, [peak]] - found[:, [-1]] for found, peak in zip(curves, peaks, strict=True)], axis=0)


def reader_rows(study: Study, ratings: Array, curves: dict[int, Array]) -> Iterator[Row]:
    """How well people who read the texts know the writers' ratings, and the probes on exactly these texts.

    r is Pearson's with the writer's rating, single readings pooled; r2 is its square, what the best straight line
    through the readers' ratings explains; r2_as_given takes their ratings as predictions, as they stand.
    """
    if study.corpus.name != "crowd-envent":
        return
    readings = load_readings(study.run.corpus_path)
    place = pd.Series(np.arange(len(ratings)), index=study.events["text_id"])
    readings = readings[readings["text_id"].isin(place.index)]
    means = readings.groupby("text_id", sort=False)[list(APPRAISALS)].mean()
    for name, table, texts in (("single", readings, readings["text_id"]), ("mean_of_5", means, means.index)):
        rows, guess = place[texts].to_numpy(), table[list(APPRAISALS)].to_numpy(dtype=float)
        for metric, statistic in {
            "r": (r := scores.pearson(guess, ratings[rows])),
            "r2": squared(r),
            "r2_as_given": scores.r2(ratings[rows], guess),
        }.items():
            found = _interval(study, statistic, rows)
            yield from found.rows(NAMES, model="human", metric=metric, reader=name, set="read", n=len(rows))
    rows = place[means.index].to_numpy()
    for layer, guess in curves.items():
        found = _interval(study, scores.r2(ratings[rows], guess[rows]), rows)
        yield from found.rows(NAMES, **_site(layer), **OURS | dict(set="read"), metric="r2", n=len(rows))


def squared(statistic: Statistic) -> Statistic:
    """The square of a statistic."""
    return lambda weights: statistic(weights) ** 2


def profile_rows(study: Study, ratings: Array) -> Iterator[Row]:
    """Rows of the mean ratings of each emotion, of all texts and of the agreed ones."""
    for part, chosen in (("agreed", np.isin(np.arange(len(ratings)), study.agreed)), ("all", True)):
        for label, emotion in enumerate(EMOTIONS):
            rows = np.flatnonzero(chosen & (study.truth == label))
            if len(rows):
                found = stats.point(ratings[rows].mean(axis=0))
                if len(np.unique(study.groups[rows])) >= MIN_WRITERS:
                    found = stats.cluster_bootstrap(ratings[rows], study.groups[rows], seed=study.run.seed)
                yield from found.rows(NAMES, metric="mean_rating", emotion=emotion, set=part, n=len(rows))


def emotion_rows(study: Study, ratings: Array, curves: dict[int, Array], folds: np.ndarray) -> Iterator[Row]:
    """The emotion named by logistic regression (E14) from ratings, from probed ratings, and from activations."""
    control = shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    six = [APPRAISALS.index(name) for name in NAMED]
    sources: list[tuple[Row, Callable[[], Any]]] = [
        (dict(source="ratings"), lambda: ratings),
        (dict(source="six_ratings"), lambda: ratings[:, six]),
    ]
    for layer in list(curves)[::-3][::-1]:
        sources.append((_site(layer) | dict(source="probed_ratings"), partial(curves.get, layer)))
        sources.append((_site(layer) | dict(source="activations"), partial(_stream, study, layer)))
    for source, features in sources:
        table = torch.tensor(np.asarray(features()), dtype=torch.float32)
        guesses, _ = cross_validate(table, np.stack([study.truth, control]), folds, n_classes=len(EMOTIONS))
        for target, truth, guess in zip(("writer", "shuffled"), (study.truth, control), guesses, strict=True):
            found = _interval(study, scores.balanced_accuracy(truth, guess))
            yield from found.rows(source, metric="emotion_from_appraisals", target=target, n=len(truth))


def _stream(study: Study, layer: int) -> Tensor:
    return study.activations("resid_post", layer).float()


def _interval(study: Study, statistic: Statistic, rows: np.ndarray | None = None) -> stats.Interval:
    return study.interval(scores.or_zero(statistic), rows, n_resamples=RESAMPLES)


def _site(layer: int, component: Component = "resid_post") -> Row:
    return dict(component=component, layer=layer, position="-1")

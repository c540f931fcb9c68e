"""Whether appraisals can be read, beyond what the emotion's name tells (paper §7, E; E6, E14; Figs 5, 29).

An appraisal is a writer's rating, 1 to 5, of how the event came about and mattered. One ridge regression per appraisal
and site. `as_released`: agreed set, raw features, alpha = 5, one random 80/20 split. `ours`: all texts, standardised,
alpha chosen by inner cross-validation, folds that keep a writer on one side. Beside them stand what the emotion label
alone explains, ratings handed to other writers (the control), and people who read the same texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib import stats
from emolib.engine.sites import COMPONENTS
from emolib.probes.linear import check_probeable, cross_validate, grouped_folds, released_split, shuffled_labels
from emolib.probes.ridge import fit_ridge, held_out_means, label_means, nested_ridge, pearson
from emolib.stats import scores
from emolib.stats.sampling import halves
from emolib.stats.scores import Array, Statistic
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.appraisals import APPRAISALS, EMOTIONS, NAMED
from emolib.texts.corpus import load_readings

RESAMPLES = 500
RELEASED, OURS, SHUFFLED = "setting:as_released", "setting:ours", "setting:ours;target:shuffled"
LABEL = "baseline:label"
MIN_WRITERS = 5  # below that the mean of an emotion gets no interval
Row = dict[str, Any]


def run(study: Study) -> pd.DataFrame:
    """R2 of every appraisal by site, its controls and ceilings, the emotions' profiles, and emotions from appraisals.

    By component and layer, label = appraisal: r2 (as_released; ours; ours of shuffled ratings), selectivity (ours minus
    shuffled), r2_gain (ours minus label only), partial_r2 (share of what the label leaves over that activations add to
    it), alpha (median over folds); in the residual stream peak_depth and r2_fall. Without a layer: r2 of the label
    alone, r and r2 of readers, mean_rating. emotion_from_appraisals is balanced accuracy. Intervals are over writers.
    `quick` runs read every third layer. Raises ValueError for a corpus without ratings or an agreed set too small.
    """
    rated = study.corpus.ratings.columns  # refuses a corpus without ratings
    ratings = study.events[list(rated)].to_numpy(dtype=float)
    check_probeable(study.truth[study.agreed], np.arange(len(study.agreed)) % 2, n_folds=2)
    folds = grouped_folds(study.truth, study.groups, seed=study.run.seed)
    step = 1 if study.run.profile == "full" else 3
    layers = range((study.model.n_layers - 1) % step, study.model.n_layers, step)
    sites = [(component, layer) for component in COMPONENTS for layer in layers]
    rows, curves = list(_label_only(study, ratings, folds)), {}
    for component, layer in progress(sites, "appraisals", [1] * len(sites), unit=" sites"):
        features = study.activations(component, layer).float()
        guess, found = _ours(study, features, ratings, folds)
        site = dict(component=component, layer=layer, position="-1")
        rows += [site | row for row in (*_released(study, features, ratings), *found)]
        if component == "resid_post":
            curves[layer] = guess
    return pd.DataFrame(
        [
            *rows,
            *_peaks(study, ratings, curves),
            *_readers(study, ratings, curves),
            *_profiles(study, ratings),
            *_emotions(study, ratings, curves, folds),
        ]
    )


def _label_only(study: Study, ratings: Array, folds: np.ndarray) -> Iterator[Row]:
    base = held_out_means(ratings, study.truth, folds)
    yield from _rows(_bootstrap(scores.r2(ratings, base), study.groups, study), "r2", LABEL, len(ratings))
    train, test = (np.isin(np.arange(len(ratings)), study.agreed[part]) for part in released_split(len(study.agreed)))
    guess = label_means(ratings, study.truth, train, test)
    found = _bootstrap(scores.r2(ratings[test], guess), study.groups[test], study)
    yield from _rows(found, "r2", f"{LABEL};set:agreed", int(test.sum()))


def _released(study: Study, features: Tensor, ratings: Array) -> Iterator[Row]:
    train, test = (study.agreed[part] for part in released_split(len(study.agreed)))
    everything = torch.ones(1, len(train), dtype=torch.bool)
    targets = torch.as_tensor(ratings[train])
    weights, bias = fit_ridge(features[train], targets, everything, alphas=(5.0,), standardise="none")
    guess = (features[test].double() @ weights[0, 0].T + bias[0, 0]).cpu().numpy()
    found = _bootstrap(scores.r2(ratings[test], guess), study.groups[test], study)
    yield from _rows(found, "r2", RELEASED, len(test))


def _ours(study: Study, features: Tensor, ratings: Array, folds: np.ndarray) -> tuple[Array, list[Row]]:
    control = ratings[shuffled_labels(np.arange(len(ratings)), study.groups, seed=study.run.seed)]
    guess, alphas = nested_ridge(features, np.concatenate([ratings, control], axis=1), folds)
    joint, _ = nested_ridge(features, ratings, folds, free=np.eye(len(EMOTIONS))[study.truth])
    own, null = guess[:, : ratings.shape[1]], guess[:, ratings.shape[1] :]
    parts = (
        scores.r2(ratings, own),
        scores.r2(control, null),
        scores.r2(ratings, held_out_means(ratings, study.truth, folds)),
        scores.r2(ratings, joint),
    )

    def compare(weights: Array) -> Array:
        full, shuffled, label, both = (part(weights) for part in parts)
        return np.stack([full, shuffled, full - shuffled, full - label, (both - label) / (1 - label)], axis=1)

    metrics = (("r2", OURS), ("r2", SHUFFLED), ("selectivity", OURS), ("r2_gain", OURS), ("partial_r2", OURS))
    found = _bootstrap(lambda weights: compare(weights).reshape(len(weights), -1), study.groups, study)
    rows = [
        row
        for part, (metric, condition) in enumerate(metrics)
        for row in _rows(_part(found, part, len(APPRAISALS)), metric, condition, len(ratings))
    ]
    middle = np.median(alphas[:, : len(APPRAISALS)], axis=0)
    rows += [
        dict(metric="alpha", condition=OURS, label=name, value=float(value), n=len(ratings))
        for name, value in zip(APPRAISALS, middle, strict=True)
    ]
    return own, rows


def _peaks(study: Study, ratings: Array, curves: dict[int, Array]) -> Iterator[Row]:
    """Where R2 in the residual stream is highest, and how much of it is lost from there to the last layer.

    The peak of a curve lies above its end by chance alone, so it is looked for on each half of the writers, and the
    fall measured on the other.
    """
    layers, half = np.array(list(curves)), halves(study.groups, seed=study.run.seed)
    sides = np.stack([half, ~half]).astype(float)
    for index, name in enumerate(APPRAISALS):
        curve = scores.r2(ratings[:, index], np.stack([guess[:, index] for guess in curves.values()], axis=1))
        peak = int(curve(np.ones((1, len(ratings))))[0].argmax())
        chosen = curve(sides).argmax(axis=1)
        fall = _bootstrap(partial(_fall, curve, chosen, sides[::-1]), study.groups, study)
        place = _bootstrap(scores.peak_layer(curve), study.groups, study)
        where = dict(component="resid_post", label=name, condition=OURS, position="-1", n=len(ratings))
        yield where | dict(metric="r2_fall", layer=int(layers[peak])) | _first(fall)
        depths = (np.array(layers) + 1) / study.model.n_layers
        yield where | dict(metric="peak_depth") | {key: float(depths[round(end)]) for key, end in _first(place).items()}


def _fall(curve: scores.Statistic, peaks: Array, sides: Array, weights: Array) -> Array:
    """The mean [r, 1] over `sides` [s, n] of what a curve loses there from its peak [s] to its end."""
    curves = [curve(weights * side) for side in sides]
    return np.mean([found[:, [peak]] - found[:, [-1]] for found, peak in zip(curves, peaks, strict=True)], axis=0)


def _readers(study: Study, ratings: Array, curves: dict[int, Array]) -> Iterator[Row]:
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
            "r": (r := pearson(guess, ratings[rows])),
            "r2": lambda weights, r=r: r(weights) ** 2,
            "r2_as_given": scores.r2(ratings[rows], guess),
        }.items():
            found = _bootstrap(statistic, study.groups[rows], study)
            yield from (dict(model="human") | row for row in _rows(found, metric, f"reader:{name}", len(rows)))
    rows = place[means.index].to_numpy()
    for layer, guess in curves.items():
        found = _bootstrap(scores.r2(ratings[rows], guess[rows]), study.groups[rows], study)
        site = dict(component="resid_post", layer=layer, position="-1")
        yield from (site | row for row in _rows(found, "r2", f"{OURS};set:read", len(rows)))


def _profiles(study: Study, ratings: Array) -> Iterator[Row]:
    for part, chosen in (("agreed", study.predicted == study.truth), ("all", np.ones(len(ratings), dtype=bool))):
        for label, emotion in enumerate(EMOTIONS):
            rows = np.flatnonzero(chosen & (study.truth == label))
            if len(rows):
                enough = len(np.unique(study.groups[rows])) >= MIN_WRITERS
                mean = ratings[rows].mean(axis=0)
                found = (
                    stats.cluster_bootstrap(ratings[rows], study.groups[rows], seed=study.run.seed)
                    if enough
                    else stats.Interval(mean, mean * np.nan, mean * np.nan)
                )
                for name, row in zip(APPRAISALS, _rows(found, "mean_rating", "", len(rows)), strict=True):
                    yield row | dict(condition=f"emotion:{emotion};appraisal:{name};set:{part}", label="")


def _emotions(study: Study, ratings: Array, curves: dict[int, Array], folds: np.ndarray) -> Iterator[Row]:
    """The emotion named by logistic regression (E14) from ratings, from probed ratings, and from activations."""
    control = shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    six = [APPRAISALS.index(name) for name in NAMED]
    sources = [("ratings", None, lambda: ratings), ("six_ratings", None, lambda: ratings[:, six])]
    for layer in list(curves)[::-3][::-1]:
        sources.append(("probed_ratings", layer, lambda layer=layer: curves[layer]))
        sources.append(("activations", layer, lambda layer=layer: study.activations("resid_post", layer).float()))
    for source, layer, features in sources:
        table = torch.tensor(np.asarray(features()), dtype=torch.float32)
        guesses, _ = cross_validate(table, np.stack([study.truth, control]), folds, n_classes=len(EMOTIONS))
        for target, truth, guess in zip(("writer", "shuffled"), (study.truth, control), guesses, strict=True):
            found = _bootstrap(scores.balanced_accuracy(truth, guess), study.groups, study)
            site = {} if layer is None else dict(component="resid_post", layer=layer, position="-1")
            yield (
                site
                | dict(metric="emotion_from_appraisals", condition=f"source:{source};target:{target}", n=len(truth))
                | _first(found)
            )


def _bootstrap(statistic: Statistic, groups: np.ndarray, study: Study) -> stats.Interval:
    def defined(weights: Array) -> Array:
        # Where few texts are resampled a rare rating may not vary at all: there is nothing to explain then, R2 is 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(statistic(weights), nan=0.0, posinf=0.0, neginf=0.0)

    return stats.bootstrap(defined, groups, n_resamples=RESAMPLES, seed=study.run.seed)


def _part(found: stats.Interval, part: int, size: int) -> stats.Interval:
    return stats.Interval(*(values[part * size : (part + 1) * size] for values in found.columns().values()))


def _rows(found: stats.Interval, metric: str, condition: str, n: int) -> Iterable[Row]:
    for index, name in enumerate(APPRAISALS):
        ends = {key: float(values[index]) for key, values in found.columns().items()}
        yield dict(metric=metric, condition=condition, label=name, n=n) | ends


def _first(found: stats.Interval) -> dict[str, float]:
    return {key: float(values[0]) for key, values in found.columns().items()}

"""Where the emotion can be read (paper §5, C.1, C.3; E2; Figs 2, 13, 18): probes per layer, component and token.

Two settings side by side. `as_released`: texts whose answer agrees with the writer, the model's answer as target, raw
features, C=1, one random 80/20 split. `ours`: all texts, standardised features, five folds that keep a writer on one
side, balanced accuracy, for the writer's label, the model's label and shuffled labels (the control; Hewitt and Liang).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from emolib import stats
from emolib.engine.sites import COMPONENTS, Component
from emolib.probes.linear import (
    check_probeable,
    cross_validate,
    fit_released,
    grouped_folds,
    released_split,
    selectivity,
    shuffled_labels,
)
from emolib.probes.mlp import predict_mlp
from emolib.stats import scores
from emolib.study.clean import KEEP
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

TARGETS = ("writer", "model", "shuffled")
RESAMPLES = 500  # thousands of intervals are drawn; 500 fix their ends to about a tenth of their width
SATURATION = 0.95  # claim C2: depth at which a curve has 95 % of its maximum
RELEASED, OURS, MLP = "setting:as_released", "setting:ours", "probe:mlp"


def run(study: Study) -> pd.DataFrame:
    """Held-out accuracy of every probe, and the depth at which each curve saturates.

    Metrics: accuracy (as_released, and the MLP at the last token), balanced_accuracy of the three targets and
    selectivity (ours); saturation_depth, the fraction of layers after which a curve of the last token first has 95 % of
    its maximum. In `quick` runs tokens -2..-5 are read in the residual stream only, at every
    third layer.
    Raises ValueError when the agreed set is too small to probe.
    """
    agreed = study.agreed
    check_probeable(study.truth[agreed], np.arange(len(agreed)) % 2, n_folds=2)
    train, test = released_split(len(agreed))
    folds = grouped_folds(study.truth, study.groups, seed=study.run.seed)
    shuffled = shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    targets = np.stack([study.truth, study.predicted, shuffled])
    rows: list[dict[str, Any]] = []
    curves: dict[tuple[str, Component], list[np.ndarray]] = {}
    sites = [
        (component, layer, position)
        for position in range(-1, -KEEP - 1, -1)
        for component in COMPONENTS
        for layer in range(study.model.n_layers)
        if position == -1 or study.run.profile == "full" or (component == "resid_post" and layer % 3 == 2)
    ]
    for component, layer, position in progress(sites, "probing", [1] * len(sites), unit=" sites"):
        features = study.activations(component, layer, position).float()
        site = dict(component=component, layer=layer, position=str(position))
        probe = fit_released(features[agreed][train], study.truth[agreed][train], n_classes=len(EMOTIONS))
        hits = probe.predict(features[agreed][test])[0].numpy() == study.truth[agreed][test]
        rows.append(site | _share(hits, study.groups[agreed][test], RELEASED))
        guesses, _ = cross_validate(features, targets, folds, n_classes=len(EMOTIONS))
        rows += [site | row for row in _ours(study, targets, np.asarray(guesses))]
        if position == -1:
            curves.setdefault((RELEASED, component), []).append(hits.astype(float))
            curves.setdefault((f"{OURS};target:model", component), []).append(np.asarray(guesses)[1])
    return pd.DataFrame(
        [
            *rows,
            *_nonlinear(study, agreed[train], agreed[test]),
            *_saturation(study, curves, study.groups[agreed][test]),
        ]
    )


def _nonlinear(study: Study, train: np.ndarray, test: np.ndarray) -> Iterable[dict[str, Any]]:
    for component in COMPONENTS:
        features = study.stacked(component).float()
        guesses = predict_mlp(
            features[:, train], study.truth[train], features[:, test], n_classes=len(EMOTIONS), seed=study.run.seed
        )
        for layer, guess in enumerate(guesses):
            site = dict(component=component, layer=layer, position="-1")
            yield site | _share(guess == study.truth[test], study.groups[test], MLP)


def _ours(study: Study, targets: np.ndarray, guesses: np.ndarray) -> Iterable[dict[str, Any]]:
    for target, truth, guess in zip(TARGETS, targets, guesses, strict=True):
        found = stats.bootstrap(
            scores.balanced_accuracy(truth, guess), study.groups, n_resamples=RESAMPLES, seed=study.run.seed
        )
        yield dict(metric="balanced_accuracy", condition=f"{OURS};target:{target}", n=len(truth)) | _one(found)
    gap = selectivity(targets[0], guesses[0], targets[2], guesses[2])
    found = stats.bootstrap(gap, study.groups, n_resamples=RESAMPLES, seed=study.run.seed)
    yield dict(metric="selectivity", condition=f"{OURS};target:writer", n=len(targets[0])) | _one(found)


def _saturation(
    study: Study, curves: dict[tuple[str, Component], list[np.ndarray]], test_groups: np.ndarray
) -> Iterable[dict[str, Any]]:
    n_layers = study.model.n_layers
    for (condition, component), layers in curves.items():
        table = np.stack(layers, axis=1)
        released = condition == RELEASED
        curve = scores.mean(table) if released else scores.balanced_accuracy(study.predicted, table)
        crossing = scores.first_crossing(curve, SATURATION, relative_to="maximum")
        found = stats.bootstrap(
            crossing, test_groups if released else study.groups, n_resamples=RESAMPLES, seed=study.run.seed
        )
        depth = {name: (value + 1) / n_layers for name, value in _one(found).items()}
        yield (
            dict(metric="saturation_depth", condition=condition, component=component, position="-1", n=len(table))
            | depth
        )


def _share(hits: np.ndarray, groups: np.ndarray, condition: str) -> dict[str, Any]:
    return dict(metric="accuracy", condition=condition, n=len(hits)) | _one(stats.cluster_wilson(hits, groups))


def _one(interval: stats.Interval) -> dict[str, float]:
    return {name: float(values[0]) for name, values in interval.columns().items()}

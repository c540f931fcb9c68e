"""Where the emotion can be read (paper §5, C.1, C.3; E2; Figs 2, 13, 18): probes per layer, component and token.

Two settings side by side. `as_released`: texts whose answer agrees with the writer, the model's answer as target, raw
features, C=1, one random 80/20 split. `ours`: all texts, standardised features, five folds that keep a writer on one
side, balanced accuracy, for the writer's label, the model's label and shuffled labels (the control; Hewitt and Liang).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from emolib import stats
from emolib.engine.sites import Component
from emolib.probes import linear
from emolib.probes.mlp import predict_mlp
from emolib.stats import landmarks, scores
from emolib.study.clean import KEEP
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

TARGETS = ("writer", "model", "shuffled")
RESAMPLES = 500  # thousands of intervals are drawn; 500 fix their ends to about a tenth of their width
RELEASED = dict(setting="as_released", probe="linear")
OURS = dict(setting="ours", probe="linear")
Rows = Iterator[dict[str, Any]]


def run(study: Study) -> pd.DataFrame:
    """Held-out accuracy of every probe, and the depth at which each curve saturates.

    By setting, probe, component, layer and position: accuracy (as_released, and the MLP at the last token),
    balanced_accuracy by target and selectivity (ours). saturation_depth, the fraction of layers after which a curve of
    the last token first has 95 % of its maximum, has no layer. In `quick` runs tokens -2..-5 are read in the residual
    stream only, at every third layer. Raises ValueError when the agreed set is too small to probe.
    """
    train, test = linear.released_split(study.agreed, study.truth)
    folds = linear.grouped_folds(study.truth, study.groups, seed=study.run.seed)
    shuffled = linear.shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    targets = np.stack([study.truth, study.predicted, shuffled])
    sparse = study.layers() if study.run.profile == "full" else study.layers(3)
    sites = [
        (component, layer, position)
        for position in range(-1, -KEEP - 1, -1)
        for component in study.model.components
        for layer in (study.layers() if position == -1 else sparse)
        if position == -1 or study.run.profile == "full" or component == "resid_post"
    ]
    rows, hits, answers = [], defaultdict(list), defaultdict(list)
    for component, layer, position in progress(sites, "probing", [1] * len(sites), unit=" sites"):
        features = study.activations(component, layer, position).float()
        probe = linear.fit_released(features[train], study.truth[train], n_classes=len(EMOTIONS))
        right = probe.predict(features[test])[0].numpy() == study.truth[test]
        guesses = linear.cross_validate(features, targets, folds, n_classes=len(EMOTIONS))[0]
        site = dict(component=component, layer=layer, position=str(position))
        released = stats.cluster_wilson(right, study.groups[test])
        rows += released.rows(site | RELEASED, metric="accuracy", n=len(test))
        rows += [site | row for row in _ours(study, targets, guesses)]
        if position == -1:
            hits[component].append(right)
            answers[component].append(guesses[TARGETS.index("model")])
    for component in study.model.components:
        rows += _nonlinear(study, component, train, test)
        rows += _saturation(study, component, np.stack(hits[component], 1), np.stack(answers[component], 1), test)
    return pd.DataFrame(rows)


def _ours(study: Study, targets: np.ndarray, guesses: np.ndarray) -> Rows:
    n = len(study.truth)
    for target, truth, guess in zip(TARGETS, targets, guesses, strict=True):
        found = study.interval(scores.balanced_accuracy(truth, guess), n_resamples=RESAMPLES)
        yield from found.rows(OURS, metric="balanced_accuracy", target=target, n=n)
    gap = linear.selectivity(targets[0], guesses[0], targets[2], guesses[2])
    found = study.interval(gap, n_resamples=RESAMPLES)
    yield from found.rows(OURS, metric="selectivity", target="writer", n=n)


def _nonlinear(study: Study, component: Component, train: np.ndarray, test: np.ndarray) -> Rows:
    features = torch.stack([study.activations(component, layer).float() for layer in study.layers()])
    guesses = predict_mlp(
        features[:, train], study.truth[train], features[:, test], n_classes=len(EMOTIONS), seed=study.run.seed
    )
    for layer, guess in zip(study.layers(), guesses, strict=True):
        key = dict(setting="as_released", probe="mlp", component=component, layer=layer, position="-1")
        share = stats.cluster_wilson(guess == study.truth[test], study.groups[test])
        yield from share.rows(key, metric="accuracy", n=len(test))


def _saturation(study: Study, component: Component, hits: np.ndarray, answers: np.ndarray, test: np.ndarray) -> Rows:
    """By `hits` [test, layers] of the released probe, and by `answers` [N, layers] of ours for the model's answer."""
    ours = scores.balanced_accuracy(study.predicted, answers)
    for key, curve, rows in ((RELEASED, scores.mean(hits), test), (OURS | dict(target="model"), ours, None)):
        place = study.interval(landmarks.of("saturation", curve, study.layers()), rows, n_resamples=RESAMPLES)
        depth = place.map(lambda layer: (layer + 1) / study.model.n_layers)
        n = len(study.truth if rows is None else rows)
        yield from depth.rows(key, metric="saturation_depth", component=component, position="-1", n=n)

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
from emolib.stats.scores import Statistic
from emolib.study.clean import KEEP
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

TARGETS = ("writer", "model", "shuffled")
RESAMPLES = 500  # thousands of intervals are drawn; 500 fix their ends to about a tenth of their width
RELEASED = dict(setting="as_released", probe="linear")
OURS = dict(setting="ours", probe="linear")
Rows = Iterator[dict[str, Any]]
Labels = dict[str, np.ndarray]  # ids [N] by target


def run(study: Study) -> pd.DataFrame:
    """Held-out accuracy of every probe, and the depth at which each curve saturates.

    By setting, probe, component, layer and position: accuracy (as_released, and the MLP at the last token),
    balanced_accuracy by target and selectivity (ours). saturation_depth, the fraction of layers after which a curve of
    the last token first has 95% of its maximum, has no layer. In `quick` runs tokens -2..-5 are read in the residual
    stream only, at every third layer. Where the agreed set is too small to probe, or the model hardly
    gives any answer but one, these rows are left out, and `.attrs["left_out"]` says why. Raises ValueError for too few
    texts.
    """
    split = linear.released_split(study.agreed, study.truth)
    folds = linear.grouped_folds(study.truth, study.groups, seed=study.run.seed)
    shuffled = linear.shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    targets = dict(zip(TARGETS, (study.truth, study.predicted, shuffled), strict=True))
    left_out = [] if split else [f"Left out are the probes as released: {study.too_few(linear.RELEASED_NEEDS)}."]
    if not linear.probeable(study.predicted, folds, n_folds=int(folds.max()) + 1):
        del targets["model"]
        left_out.append("Left out are probes of the model's answer: it hardly ever gives another than one.")
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
        site = dict(component=component, layer=layer, position=str(position))
        if split:
            train, test = split
            probe = linear.fit_released(features[train], study.truth[train], n_classes=len(EMOTIONS))
            right = probe.predict(features[test])[0].numpy() == study.truth[test]
            released = stats.cluster_wilson(right, study.groups[test])
            rows += released.rows(site | RELEASED, metric="accuracy", n=len(test))
            if position == -1:
                hits[component].append(right)
        found = linear.cross_validate(features, np.stack([*targets.values()]), folds, n_classes=len(EMOTIONS))[0]
        guesses = dict(zip(targets, found, strict=True))
        rows += [site | row for row in _ours(study, targets, guesses)]
        if position == -1 and "model" in guesses:
            answers[component].append(guesses["model"])
    for component in study.model.components:
        if split:
            rows += _nonlinear(study, component, *split)
            rows += _saturation(study, component, scores.mean(np.stack(hits[component], 1)), RELEASED, split[1])
        if "model" in targets:
            ours = scores.balanced_accuracy(study.predicted, np.stack(answers[component], 1))
            rows += _saturation(study, component, ours, OURS | dict(target="model"))
    table = pd.DataFrame(rows)
    table.attrs |= {"left_out": " ".join(left_out)} if left_out else {}
    return table


def _ours(study: Study, targets: Labels, guesses: Labels) -> Rows:
    n = len(study.truth)
    for target, truth in targets.items():
        found = study.interval(scores.balanced_accuracy(truth, guesses[target]), n_resamples=RESAMPLES)
        yield from found.rows(OURS, metric="balanced_accuracy", target=target, n=n)
    gap = linear.selectivity(targets["writer"], guesses["writer"], targets["shuffled"], guesses["shuffled"])
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


def _saturation(
    study: Study, component: Component, curve: Statistic, key: dict[str, str], texts: np.ndarray | None = None
) -> Rows:
    """By a curve over layers, of the test texts of the released probe, or of all."""
    place = study.interval(landmarks.of("saturation", curve, study.layers()), texts, n_resamples=RESAMPLES)
    depth = place.map(lambda layer: (layer + 1) / study.model.n_layers)
    n = len(study.truth if texts is None else texts)
    yield from depth.rows(key, metric="saturation_depth", component=component, position="-1", n=n)

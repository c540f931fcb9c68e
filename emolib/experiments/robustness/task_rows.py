"""Tables of task profiles: the rows of one, and of the difference between two on the same texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from emolib import stats
from emolib.engine.labels import CALIBRATIONS, calibration_offsets
from emolib.experiments.robustness.task_profile import RESAMPLES, Row, TaskProfile, curves, each, turns
from emolib.interventions import interchange
from emolib.stats import scores
from emolib.stats.scores import Statistic


def rows(profile: TaskProfile) -> Iterator[Row]:
    """The rows of a profile: behaviour, then layer by layer, then where its curves turn.

    accuracy (calibration:none|batch; weighted), balanced_accuracy of the answers (source:answer), majority_share,
    agreed_count, predicted_count; balanced_accuracy of probes on all texts and accuracy on the agreed ones; agreement
    under edit:zero with constant_agreement as its floor; transfer, kept, neither; depths of `turns`.
    """
    found = [*_behaviour(profile), *_layers(profile)]
    if profile.patched is not None:
        found += list(interchange.shares(profile.patched))
    for metric, statistic in turns(profile).items():
        interval = _bootstrap(profile, statistic)
        depth = {name: (value + 1) / profile.study.model.n_layers for name, value in interval.items()}
        found.append(dict(metric=f"{metric}_depth", n=_behind(profile, metric)) | depth)
    yield from (_filed(profile.key, row) for row in found)


def contrasts(profile: TaskProfile, default: TaskProfile) -> Iterator[Row]:
    """The rows of `profile` minus `default`, on the same texts, in the same resamples of writers.

    accuracy_change; balanced_accuracy_change of probes (where both tasks have as many labels), agreement_change and
    transfer_change by layer; `turns` as `_shift` in layers. Raises ValueError for profiles of other texts.
    """
    if not profile.study.events["text_id"].equals(default.study.events["text_id"]):
        raise ValueError("the profiles are of different texts: measure both on the same rows to compare them")
    found: list[Row] = []
    right, usual = (scores.mean(p.study.predicted == p.study.truth) for p in (profile, default))
    change = _minus(lambda w: right(w * profile.weights), lambda w: usual(w * default.weights))
    found.append(dict(metric="accuracy_change", n=len(profile.weights)) | _bootstrap(profile, change))
    mine, other = curves(profile), curves(default)
    for metric in [name for name in mine if name in other]:
        if metric == "balanced_accuracy" and len(profile.study.words) != len(default.study.words):
            continue
        interval = _bootstrap(profile, _minus(mine[metric][1], other[metric][1]), every=True)
        sites = mine[metric][0]
        for column, site in enumerate(sites):
            found.append(site | dict(metric=f"{metric}_change", n=_behind(profile, metric)) | interval[column])
    first, second = turns(profile), turns(default)
    for metric in [name for name in first if name in second]:
        found.append(
            dict(metric=f"{metric}_shift", n=_behind(profile, metric))
            | _bootstrap(profile, _minus(first[metric], second[metric]))
        )
    yield from (_filed(profile.key, row) for row in found)


def _behaviour(profile: TaskProfile) -> Iterator[Row]:
    study, n = profile.study, len(profile.study.truth)
    for calibration in CALIBRATIONS:
        logits = study.clean.logits
        predicted = (logits - calibration_offsets(logits, calibration)).argmax(-1).numpy()
        right = scores.mean(predicted == study.truth)
        condition = f"calibration:{calibration}"
        share = _bootstrap(profile, lambda w, right=right: right(w * profile.weights))
        yield dict(metric="accuracy", condition=condition, n=n) | share
        counts = np.bincount(predicted, minlength=len(study.words))
        for word, count in zip(study.words, counts, strict=True):
            yield dict(metric="predicted_count", condition=condition, label=word, value=float(count), n=n)
    balanced = _bootstrap(profile, scores.balanced_accuracy(study.truth, study.predicted))
    yield dict(metric="balanced_accuracy", condition="source:answer", n=n) | balanced
    yield dict(metric="majority_share", value=float(np.bincount(study.truth).max() / n), n=n)
    yield dict(metric="agreed_count", value=float(len(study.agreed)), n=n)


def _layers(profile: TaskProfile) -> Iterator[Row]:
    study, agreed = profile.study, profile.study.agreed
    found = curves(profile)
    sites, statistic = found.get("balanced_accuracy", ([], None))
    for site, interval in zip(sites, _bootstrap(profile, statistic, every=True) if sites else [], strict=True):
        yield site | dict(metric="balanced_accuracy", condition="target:writer", n=len(study.truth)) | interval
    if "agreed" in profile.guesses:
        hits = profile.guesses["agreed"][agreed] == study.truth[agreed][:, None]
        for site, interval in zip(sites, each(stats.cluster_wilson(hits, study.groups[agreed])), strict=True):
            yield site | dict(metric="accuracy", condition="set:agreed", n=len(agreed)) | interval
    if len(np.unique(study.groups[agreed])) < 2:
        return
    shares = stats.cluster_wilson(profile.kept, study.groups[agreed])
    for site, interval in zip(found["agreement"][0], each(shares), strict=True):
        yield site | dict(metric="agreement", condition="edit:zero", n=len(agreed)) | interval
    most = np.bincount(study.truth[agreed]).argmax()
    floor = each(stats.cluster_wilson(study.truth[agreed][:, None] == most, study.groups[agreed]))[0]
    yield dict(metric="constant_agreement", label=study.words[most], n=len(agreed)) | floor


def _behind(profile: TaskProfile, metric: str) -> int:
    if metric in ("agreement", "dip"):
        return len(profile.study.agreed)
    return len(profile.patched.base) if metric in ("transfer", "peak", "onset") else len(profile.study.truth)


def _minus(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def _bootstrap(profile: TaskProfile, statistic: Statistic, *, every: bool = False) -> Any:
    study = profile.study
    found = each(stats.bootstrap(statistic, study.groups, n_resamples=RESAMPLES, seed=study.run.seed))
    return found if every else found[0]


def _filed(key: Row, row: Row) -> Row:
    """The row under the prompt and condition of its profile, its own condition behind."""
    parts = [key["condition"], row.get("condition", "")]
    return row | key | dict(condition=";".join(part for part in parts if part))

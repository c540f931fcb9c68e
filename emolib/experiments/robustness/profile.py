"""One task from layer to layer, measured the same way for any question, and the difference between two tasks.

The answer is read by probes of the residual stream, needed (zero ablation of attention) and carried (patching). Two
profiles of the same texts are compared in the same resamples of writers, so that what the texts share cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from emolib import stats
from emolib.engine.edits import Zero
from emolib.engine.labels import CALIBRATIONS, calibration_offsets
from emolib.engine.sweeps import sweep
from emolib.interventions import interchange
from emolib.probes.linear import cross_validate, grouped_folds, probeable
from emolib.stats import landmarks, pairs, scores
from emolib.stats.landmarks import Landmark
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Statistic
from emolib.study.study import Study

RESAMPLES = 500
# What is patched: attention in threes (paper Fig 27), the stream layer by layer.
ATTENTION, STREAM = interchange.Window(3, ["attn_out"]), interchange.Window(1, ["resid_post"])
Row = dict[str, Any]


class Scale(NamedTuple):
    """How much is measured: texts of a prompt and of a control task, agreed texts patched in `rounds`, folds and every
    how many layers of probes, and texts whose tokens are ablated one by one."""

    texts: int
    controls: int
    patched: int
    rounds: int
    folds: int
    step: int
    tokens: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """The measurements of one task on N texts; `key` are the columns of its rows that name the task.

    `guesses` maps "all" and "agreed" to held-out answers [N, layers] of probes of the `probed` layers, trained on all
    texts or the agreed ones, where these are enough; `kept` [agreed, L] says whether the answer survives zero
    ablation of attn_out, None where the model has none; `patched` is None when too few agreed texts find a partner, or
    no window fits. `weights` [N] make shares those of the corpus.
    """

    key: Row
    study: Study
    weights: np.ndarray
    probed: list[int]
    guesses: Mapping[str, np.ndarray]
    kept: np.ndarray | None
    patched: interchange.Outcome | None

    @property
    def right(self) -> np.ndarray:
        """Whether the task's answer is right [N]."""
        return self.study.predicted == self.study.truth

    def interval(self, statistic: Statistic) -> stats.Interval:
        """The statistic of weights [r, N] with its interval."""
        return self.study.interval(statistic, n_resamples=RESAMPLES)


class Curve(NamedTuple):
    """A measurement by layer: key columns of its rows, statistic of weights [r, N], and how many texts or pairs it
    is of."""

    metric: str
    keys: list[Row]
    statistic: Statistic
    n: int

    def turn(self, landmark: Landmark) -> Statistic:
        """The 0-based layer where it turns; one past the last: never."""
        return landmarks.of(landmark, self.statistic, [key["layer"] for key in self.keys])


def measure(
    study: Study, *, key: Row, scale: Scale, stream: bool = False, weights: np.ndarray | None = None
) -> Profile:
    """The profile of a study's task; the `stream` is patched if asked for, and all texts count once without weights."""
    agreed, seed, own = study.agreed, study.run.seed, study.model.components
    kept = None
    if "attn_out" in own:
        zero = sweep(Zero(), study.model, components=["attn_out"], layers=study.layers())
        answers = study.decide(study.intervene(zero, agreed, name=f"zero {study.prompt.name}"))
        kept = answers == study.truth[agreed][:, None]
    pool = balanced_rows(study.truth, agreed, scale.patched, seed=seed)
    partners = pairs.matchings(study.truth[pool], study.groups[pool], scale.rounds, seed=seed)
    windows = [one for one in (ATTENTION, *([STREAM] if stream else [])) if set(one.components) <= set(own)]
    paired = (partners[0] != np.arange(len(pool))).sum() >= interchange.LEAST
    patchable = paired and any(interchange.fitting(study, window.span) for window in windows)
    probed = study.layers(scale.step)
    return Profile(
        key=key,
        study=study,
        weights=np.ones(len(study.truth)) if weights is None else weights,
        probed=probed,
        guesses=_probe(study, probed, scale.folds),
        kept=kept,
        patched=interchange.patch(study, pool, [(windows, partners)])[0] if patchable else None,
    )


def curves(profile: Profile) -> dict[Landmark, Curve]:
    """The curves of a profile, by the landmark at which each turns.

    `saturation`: the probe has 95% of its best. `dip`: zero ablation of attention, first and last three layers aside,
    costs most. `peak`: patching attention transfers most. `onset`: patching the stream transfers half.
    """
    study, agreed, patched = profile.study, profile.study.agreed, profile.patched
    found: dict[Landmark, Curve] = {}
    if "all" in profile.guesses:
        keys = [dict(component="resid_post", layer=layer, position="-1") for layer in profile.probed]
        statistic = scores.balanced_accuracy(study.truth, profile.guesses["all"])
        found["saturation"] = Curve("balanced_accuracy", keys, statistic, len(study.truth))
    if profile.kept is not None and len(agreed):
        site = dict(component="attn_out", span=1, position="-1")
        keys = [site | dict(layer=layer) for layer in study.layers()]
        found["dip"] = Curve("agreement", keys, pairs.over_texts(scores.mean(profile.kept), agreed), len(agreed))
    patches: dict[Landmark, interchange.Window] = {"peak": ATTENTION, "onset": STREAM}
    for landmark, window in patches.items():
        if patched is None or patched.at(window).empty:
            continue
        sites = patched.at(window)
        transfer = scores.mean(patched.transferred[:, sites.index])
        statistic = pairs.over_texts(transfer, patched.rows[patched.base], patched.rows[patched.source])
        found[landmark] = Curve("transfer", sites.to_dict("records"), statistic, len(patched.base))
    return found


def rows(profile: Profile) -> list[Row]:
    """The rows of a profile: behaviour, then layer by layer, then where its curves turn.

    accuracy by calibration (weighted), balanced_accuracy of the answers (source "answer"), majority_share,
    agreed_count, predicted_count; balanced_accuracy of probes on all texts (target "writer") and accuracy on the agreed
    ones (set "agreed"); agreement (method "zero") with constant_agreement as its floor; transfer, kept, neither;
    _depth of the landmarks of `curves`.
    """
    found = [*_behaviour(profile), *_layers(profile)]
    if profile.patched is not None:
        found += interchange.shares(profile.patched)
    for landmark, curve in curves(profile).items():
        depth = profile.interval(curve.turn(landmark)).map(lambda layer: (layer + 1) / profile.study.model.n_layers)
        found += depth.rows(dict(metric=f"{landmark}_depth", n=curve.n))
    return [row | profile.key for row in found]


def contrasts(profile: Profile, default: Profile) -> list[Row]:
    """The rows of `profile` minus `default`, on the same texts, in the same resamples of writers.

    accuracy_change; balanced_accuracy_change of probes (where both tasks have as many labels), agreement_change and
    transfer_change by layer; _shift of the landmarks in layers. Raises ValueError for profiles of other texts.
    """
    if not profile.study.events["text_id"].equals(default.study.events["text_id"]):
        raise ValueError("the profiles are of different texts: measure both on the same rows to compare them")
    change = profile.interval(scores.difference(*(weighted(p.right, p.weights) for p in (profile, default))))
    found = change.rows(dict(metric="accuracy_change", n=len(profile.weights)))
    mine, other = curves(profile), curves(default)
    comparable = len(profile.study.words) == len(default.study.words)
    for landmark, curve in mine.items():
        if landmark not in other:
            continue
        if comparable or curve.metric != "balanced_accuracy":
            change = profile.interval(scores.difference(curve.statistic, other[landmark].statistic))
            found += change.rows(curve.keys, metric=f"{curve.metric}_change", n=curve.n)
        shift = profile.interval(scores.difference(curve.turn(landmark), other[landmark].turn(landmark)))
        found += shift.rows(dict(metric=f"{landmark}_shift", n=curve.n))
    return [row | profile.key for row in found]


def weighted(hits: np.ndarray, worth: np.ndarray) -> Statistic:
    """The mean of `hits` [N], every text counted `worth` [N] times."""
    mean = scores.mean(hits.astype(float))
    return lambda weights: mean(weights * worth)


def _behaviour(profile: Profile) -> Iterator[Row]:
    study, n, logits = profile.study, len(profile.study.truth), profile.study.clean.logits
    for calibration in CALIBRATIONS:
        predicted = (logits - calibration_offsets(logits, calibration)).argmax(-1).numpy()
        share = profile.interval(weighted(predicted == study.truth, profile.weights))
        yield from share.rows(dict(metric="accuracy", calibration=calibration, n=n))
        counts, labels = np.bincount(predicted, minlength=len(study.words)), [dict(label=word) for word in study.words]
        yield from stats.point(counts).rows(labels, metric="predicted_count", calibration=calibration, n=n)
    balanced = profile.interval(scores.balanced_accuracy(study.truth, study.predicted))
    yield from balanced.rows(dict(metric="balanced_accuracy", source="answer", n=n))
    yield dict(metric="majority_share", value=float(np.bincount(study.truth).max() / n), n=n)
    yield dict(metric="agreed_count", value=float(len(study.agreed)), n=n)


def _layers(profile: Profile) -> Iterator[Row]:
    study, found = profile.study, curves(profile)
    agreed, truth, groups = study.agreed, study.truth[study.agreed], study.groups[study.agreed]
    if "saturation" in found:
        probe = found["saturation"]
        interval = profile.interval(probe.statistic)
        yield from interval.rows(probe.keys, metric=probe.metric, target="writer", n=probe.n)
        if "agreed" in profile.guesses:
            hits = profile.guesses["agreed"][agreed] == truth[:, None]
            interval = stats.cluster_wilson(hits, groups)
            yield from interval.rows(probe.keys, metric="accuracy", set="agreed", n=len(agreed))
    if profile.kept is None or len(np.unique(groups)) < 2:
        return
    yield from stats.cluster_wilson(profile.kept, groups).rows(
        found["dip"].keys, metric="agreement", method="zero", n=len(agreed)
    )
    most = np.bincount(truth).argmax()
    floor = stats.cluster_wilson(truth == most, groups)
    yield from floor.rows(dict(metric="constant_agreement", label=study.words[most], n=len(agreed)))


def _probe(study: Study, probed: list[int], n_folds: int) -> dict[str, np.ndarray]:
    folds = grouped_folds(study.truth, study.groups, n_folds=n_folds, seed=study.run.seed)
    members = {"all": np.ones(len(folds), dtype=bool), "agreed": np.isin(np.arange(len(folds)), study.agreed)}
    members = {
        name: own
        for name, own in members.items()
        if probeable(study.truth[own], folds[own], n_folds=int(folds.max()) + 1)
    }
    if not members or not probed:
        return {}
    targets, subset = np.tile(study.truth, (len(members), 1)), np.stack(list(members.values()))
    read = (study.activations("resid_post", layer).float() for layer in probed)
    answers = [cross_validate(x, targets, folds, subset=subset, n_classes=len(study.words))[0] for x in read]
    return dict(zip(members, np.stack(answers, axis=2), strict=True))

"""What a task looks like from layer to layer: one question, one set of texts, measured the same way for any question.

The answer is read by probes of the residual stream, needed (zero ablation of attention) and carried (patching). Two
profiles of the same texts are compared in the same resamples of writers, so that what the texts share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from emolib import stats
from emolib.engine.edits import Edit, Zero
from emolib.interventions import interchange
from emolib.probes.linear import check_probeable, cross_validate, grouped_folds
from emolib.stats import pairs, scores
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Statistic
from emolib.study.study import Study

SATURATION = 0.95  # claim C2: where a probe has 95 % of its best
ONSET = 0.5  # claims C5, C10: where half of the answers follow the patch
EDGE = 3  # claims C7, C11: layers at either end that a search for a dip leaves out
RESAMPLES = 500
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
class TaskProfile:
    """The measurements of one task on N texts; `key` are the columns prompt and condition of its rows.

    `guesses` maps "all" and "agreed" to held-out answers [N, layers] of probes of the `probed` layers, trained on all
    texts or the agreed ones, where these are enough; `kept` [agreed, L] says whether the answer survives zero
    ablation of attn_out; `patched` is None when too few agreed texts find a partner. `weights` [N] make shares those
    of the corpus.
    """

    key: Row
    study: Study
    weights: np.ndarray
    probed: Sequence[int]
    guesses: Mapping[str, np.ndarray]
    kept: np.ndarray
    patched: interchange.Outcome | None
    pool: np.ndarray


def measure(
    study: Study, *, key: Row, scale: Scale, sites: Sequence[interchange.Site], weights: np.ndarray | None = None
) -> TaskProfile:
    """The profile of a study's task, its agreed texts patched at `sites`; every text counts once without `weights`."""
    agreed, seed, n_layers = study.agreed, study.run.seed, study.model.n_layers
    zero = [Edit(component="attn_out", layers=(layer,), operation=Zero()) for layer in range(n_layers)]
    answers = study.decide(study.intervene(zero, agreed, name=f"zero {study.prompt.name}"))
    pool = balanced_rows(study.truth, agreed, scale.patched, seed=seed)
    partners = pairs.matchings(study.truth[pool], study.groups[pool], scale.rounds, seed=seed)
    probed = every(n_layers, scale.step)
    paired = (partners[0] != np.arange(len(pool))).sum() >= interchange.LEAST
    return TaskProfile(
        key=key,
        study=study,
        weights=np.ones(len(study.truth)) if weights is None else weights,
        probed=probed,
        guesses=_probe(study, probed, scale.folds),
        kept=answers == study.truth[agreed][:, None],
        pool=pool,
        patched=interchange.patch(study, pool, [(sites, partners)])[0] if paired else None,
    )


def curves(profile: TaskProfile) -> dict[str, tuple[list[Row], Statistic]]:
    """For each measurement by layer the site of every column and the statistic of weights [r, N]."""
    study, agreed = profile.study, profile.study.agreed
    layers = [dict(component="resid_post", layer=layer, position="-1") for layer in profile.probed]
    found: dict[str, tuple[list[Row], Statistic]] = {}
    if "all" in profile.guesses:
        found["balanced_accuracy"] = (layers, scores.balanced_accuracy(study.truth, profile.guesses["all"]))
    if len(agreed):
        site = dict(component="attn_out", span=1, position="-1")
        attention = [site | dict(layer=layer) for layer in range(study.model.n_layers)]
        found["agreement"] = (attention, over(scores.mean(profile.kept), agreed))
    if profile.patched is not None:
        found["transfer"] = ([site.key() for site in profile.patched.sites], _transfer(profile, profile.patched.sites))
    return found


def turns(profile: TaskProfile) -> dict[str, Statistic]:
    """Where curves turn, as statistics of weights [r, N], in 0-based layers (one past the last: never).

    `saturation`: the probe has 95 % of its best. `dip`: zero ablation of attention, first and last three layers aside,
    costs most. `peak`: patching attention transfers most. `onset`: patching the stream transfers half.
    """
    study, n_layers = profile.study, profile.study.model.n_layers
    found: dict[str, Statistic] = {}
    if "all" in profile.guesses:
        probe = scores.balanced_accuracy(study.truth, profile.guesses["all"])
        reached = scores.first_crossing(probe, SATURATION, relative_to="maximum")
        found["saturation"] = _at(reached, profile.probed, n_layers)
    if len(study.agreed):
        edge = EDGE if n_layers > 2 * EDGE else 0
        lost = scores.peak_layer(over(scores.mean(~profile.kept[:, edge : n_layers - edge]), study.agreed))
        found["dip"] = lambda weights: lost(weights) + edge
    if profile.patched is not None:
        for name, component in {"peak": "attn_out", "onset": "resid_post"}.items():
            sites = [site for site in profile.patched.sites if site.component == component]
            if sites:
                found[name] = _place(_transfer(profile, sites), sites, n_layers)
    return found


def over(statistic: Statistic, places: np.ndarray) -> Statistic:
    """The statistic of part of the texts as one of all; a resample without any of them counts each once."""

    def of_all(weights: scores.Array) -> scores.Array:
        drawn = weights[:, places]
        return statistic(np.where(drawn.sum(axis=1, keepdims=True) > 0, drawn, 1.0))

    return of_all


def each(interval: stats.Interval) -> list[Row]:
    """The columns value, ci_low and ci_high of a row for each number of the interval."""
    columns = interval.columns()
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(columns["value"]))]


def every(n_layers: int, step: int) -> list[int]:
    """Every `step`-th layer, the last one among them."""
    return list(range((n_layers - 1) % step, n_layers, step))


def probeable(labels: np.ndarray, folds: np.ndarray) -> bool:
    """Whether there are texts enough for `probes.cross_validate`."""
    try:
        check_probeable(labels, folds, n_folds=int(folds.max()) + 1)
    except ValueError:
        return False
    return True


def _probe(study: Study, probed: Sequence[int], n_folds: int) -> dict[str, np.ndarray]:
    folds = grouped_folds(study.truth, study.groups, n_folds=n_folds, seed=study.run.seed)
    members = {"all": np.ones(len(folds), dtype=bool), "agreed": np.isin(np.arange(len(folds)), study.agreed)}
    members = {name: own for name, own in members.items() if probeable(study.truth[own], folds[own])}
    if not members:
        return {}
    targets, subset = np.tile(study.truth, (len(members), 1)), np.stack(list(members.values()))
    answers = [
        cross_validate(
            study.activations("resid_post", layer).float(), targets, folds, subset=subset, n_classes=len(study.words)
        )[0]
        for layer in probed
    ]
    return dict(zip(members, np.stack(answers, axis=2), strict=True))


def _transfer(profile: TaskProfile, sites: Sequence[interchange.Site]) -> Statistic:
    outcome = profile.patched
    columns = [outcome.sites.index(site) for site in sites]
    statistic = scores.mean(outcome.transferred()[:, columns])
    return pairs.over_texts(statistic, profile.pool[outcome.base], profile.pool[outcome.source])


def _place(transfer: Statistic, sites: Sequence[interchange.Site], n_layers: int) -> Statistic:
    """The layer where a stream's transfer reaches ONSET, or another component's is highest."""
    stream = sites[0].component == "resid_post"
    find = scores.first_crossing(transfer, ONSET) if stream else scores.peak_layer(transfer)
    return _at(find, [site.key()["layer"] for site in sites], n_layers)


def _at(column: Statistic, layers: Sequence[int], n_layers: int) -> Statistic:
    """The layer of the column found; `n_layers` where none is."""
    places = np.array([*layers, n_layers], dtype=float)
    return lambda weights: places[column(weights).astype(int)]

"""What carries the answer from one text to another (paper §6, C.2, C.3; E3; Figs 3, 16, 17, 21): activation patching.

The activation of a source text overwrites that of a base text with another label, and the base text is answered again.
All sites see the same pairs. They come in rounds: in a round every text has a partner, gives to it and takes from it,
so that every pair occurs in both directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emolib import stats
from emolib.engine.sites import COMPONENTS, centres
from emolib.interventions.interchange import LEAST, SAME, Outcome, Site, patch, rows_of, shares, sites
from emolib.stats import pairs, scores
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Statistic
from emolib.study.clean import KEEP
from emolib.study.study import Study

TEXTS = {"full": 250, "quick": 40}
ROUNDS = {"full": 4, "quick": 2}
SPANS = (1, 3, 5)
ONSET = 0.5  # claim C5: the layer from which most answers are the source's
LANDMARKS = (("peak", "attn_out"), ("peak", "mlp_out"), ("peak_difference", ""), ("onset", "resid_post"))


def run(study: Study) -> pd.DataFrame:
    """Outcomes of patching at every site, recovered logit differences, and where the curves rise and peak.

    Metrics: transfer, kept, neither (shares of pairs) at the last token in windows of 1, 3 and 5 layers, and at tokens
    -2..-5 with the pairs of the first round (`quick`: single layers); kept and neither for source:same_label, the
    control; recovery for direction:denoising, noising, both; span_gain, transfer beyond the next smaller window; onset
    and peak as 0-based layer and as depth; pair_count for each label "source=>base".
    Raises ValueError when too few of the texts answered right find a partner.
    """
    profile, seed = study.run.profile, study.run.seed
    pool = balanced_rows(study.predicted, study.agreed, TEXTS[profile], seed=seed)
    labels, writers = study.predicted[pool], study.groups[pool]
    rounds = pairs.matchings(labels, writers, ROUNDS[profile], seed=seed)
    _check(rounds, len(study.agreed))
    n_layers = study.model.n_layers
    earlier = sites(n_layers, SPANS if profile == "full" else (1,), positions=range(-2, -KEEP - 1, -1))
    # That a window of the stream is worth its last layer is shown at the last token, once.
    earlier = [site for site in earlier if site.span == 1 or site.component != "resid_post"]
    same = pairs.same_label_donors(labels, writers, seed=seed)
    trials = [(sites(n_layers, SPANS), rounds), (earlier, rounds[:1]), (sites(n_layers, (1, 3)), same[None])]
    main, tokens, control = patch(study, pool, trials)
    rows = [*shares(main), *shares(tokens), *shares(control, SAME), *recovery(main), *span_gain(main)]
    rows += [*onsets(main, n_layers, seed=seed), *pair_counts(main, study.words)]
    return pd.DataFrame(rows)


def recovery(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Rows of the normalised logit difference at the last token, as ratio of means over pairs: 0 untouched, 1 all.

    denoising: how far the source's label comes up, against the labels of neither text, from the base's clean logits to
    the source's. noising: how far the base's own label goes down. both: the two labels' difference. Noising is what
    happens to the other text of the pair when its own activation is spoilt, so it is measured on the swapped pair; for
    the difference itself the swapped pair says the same, and `both` is one number. Calibration cancels.
    """
    base, source = outcome.labels[outcome.base], outcome.labels[outcome.source]
    clean, patched = outcome.clean.numpy(), outcome.patched.numpy()
    parts = {}
    for name, (label, other) in {"denoising": (source, base), "noising": (base, source)}.items():
        before, after = (pairs.evidence(clean[side][:, None], label, other) for side in (outcome.base, outcome.source))
        parts[name] = pairs.evidence(patched, label, other) - before, after - before
    parts["both"] = tuple(rise - fall for rise, fall in zip(parts["denoising"], parts["noising"], strict=True))
    for name, (part, whole) in parts.items():
        interval = pairs.ratio_interval(part, whole[:, 0], *outcome.dyads)
        yield from rows_of(outcome, interval, metric="recovery", condition=f"direction:{name}")


def span_gain(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Rows of the transfer in a window beyond that in the next smaller one around the same layer, pair by pair."""
    transferred = outcome.transferred().astype(float)
    place = {site: column for column, site in enumerate(outcome.sites)}
    wider = [site for site in outcome.sites if site.span > 1 and site.component != "resid_post"]
    here, there = ([place[site._replace(span=site.span - less)] for site in wider] for less in (0, 2))
    gain = transferred[:, here] - transferred[:, there]
    interval = pairs.ratio_interval(gain, np.ones(len(gain)), *outcome.dyads)
    yield from rows_of(outcome, interval, metric="span_gain", sites=wider)


def onsets(outcome: Outcome, n_layers: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of where transfer through the stream reaches ONSET, and where attention and feed-forward peak, by window.

    Layers count from 0, depths are 1-based layers over their number; a depth beyond 1 is never. peak_difference is
    feed-forward minus attention in the same resample. Intervals resample the writers of bases and sources.
    """
    hits, place = outcome.transferred(), {site: column for column, site in enumerate(outcome.sites)}
    for span in sorted({site.span for site in outcome.sites}):
        by_component = [[Site(name, centre, span) for centre in centres(span, n_layers)] for name in COMPONENTS]
        curves = [scores.mean(hits[:, [place[site] for site in curve]]) for curve in by_component]
        landmarks = pairs.over_texts(_landmarks(*curves), outcome.base, outcome.source)
        found = stats.bootstrap(landmarks, outcome.writers, seed=seed).columns()
        for column, (metric, component) in enumerate(LANDMARKS if span == 1 else LANDMARKS[:-1]):
            key = dict(component=component, span=span, position="-1", n=len(hits))
            first, one = (0, 0) if metric == "peak_difference" else (span // 2, 1)
            layer = {name: values[column] + first for name, values in found.items()}
            yield key | dict(metric=f"{metric}_layer") | layer
            yield key | dict(metric=f"{metric}_depth") | {name: (at + one) / n_layers for name, at in layer.items()}


def _landmarks(attention: Statistic, feed_forward: Statistic, stream: Statistic) -> Statistic:
    """The statistic of the four columns named in LANDMARKS."""
    peaks = scores.peak_layer(attention), scores.peak_layer(feed_forward)
    onset = scores.first_crossing(stream, ONSET)

    def landmarks(weights: scores.Array) -> scores.Array:
        early, late = (peak(weights) for peak in peaks)
        return np.concatenate([early, late, late - early, onset(weights)], axis=1)

    return landmarks


def pair_counts(outcome: Outcome, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of how many pairs go from one label to another, for every two labels among the texts."""
    couples = list(zip(outcome.labels[outcome.source].tolist(), outcome.labels[outcome.base].tolist(), strict=True))
    for source, base in itertools.permutations(np.unique(outcome.labels), 2):
        label, count = f"{words[source]}=>{words[base]}", float(couples.count((source, base)))
        yield dict(metric="pair_count", label=label, value=count, n=len(couples))


def _check(rounds: np.ndarray, n_agreed: int) -> None:
    paired = int((rounds[0] != np.arange(rounds.shape[1])).sum())
    if paired < LEAST:
        raise ValueError(
            f"{paired} of the {n_agreed} texts answered right find a partner of another label and writer, and patching "
            f"needs {LEAST}: try calibration=batch, another prompt or a larger model"
        )

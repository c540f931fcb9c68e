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
from emolib.engine.sites import COMPONENTS
from emolib.interventions.interchange import LEAST, Outcome, Window, patch, shares
from emolib.stats import landmarks, pairs, scores
from emolib.stats.sampling import balanced_rows
from emolib.study.clean import KEEP
from emolib.study.needs import advice
from emolib.study.study import Study

TEXTS = {"full": 250, "quick": 26}
ROUNDS = {"full": 4, "quick": 2}
SPANS = (1, 3, 5)
Row = dict[str, Any]


def run(study: Study) -> pd.DataFrame:
    """Outcomes of patching at every site, recovered logit differences, and where the curves rise and peak.

    transfer, kept, neither: shares of pairs at the last token in windows of 1, 3 and 5 layers, and at tokens -2..-5
    with the pairs of the first round (`quick`: single layers). kept and neither for the source "same_label", the
    control. recovery by direction. span_gain: transfer beyond the next smaller window. peak, onset and peak_difference
    (feed-forward minus attention) as 0-based _layer and as _depth. pair_count by source_label and base_label.
    Raises ValueError when too few of the texts answered right find a partner.
    """
    profile, seed = study.run.profile, study.run.seed
    pool = balanced_rows(study.predicted, study.agreed, TEXTS[profile], seed=seed)
    labels, writers = study.predicted[pool], study.groups[pool]
    rounds = pairs.matchings(labels, writers, ROUNDS[profile], seed=seed)
    _check(rounds, study)
    own = study.model.components
    last = [Window(span, own) for span in SPANS]
    # That a window of the stream is worth its last layer is shown at the last token, once.
    earlier = [
        Window(span, components, position)
        for position in range(-2, -KEEP - 1, -1)
        for span in (SPANS if profile == "full" else (1,))
        if (components := [name for name in own if span == 1 or name != "resid_post"])
    ]
    same = pairs.same_label_donors(labels, writers, seed=seed)
    main, tokens, control = patch(study, pool, [(last, rounds), (earlier, rounds[:1]), (last[:2], same[None])])
    rows = [
        *shares(main),
        *shares(tokens),
        *recovery(main),
        *span_gain(main),
        *turns(main, study.model.n_layers, seed=seed),
    ]
    rows = [dict(source="other_label") | row for row in rows]
    rows += [*shares(control, ("kept", "neither"), source="same_label"), *pair_counts(main, study.words)]
    return pd.DataFrame(rows)


def recovery(outcome: Outcome) -> Iterator[Row]:
    """Rows of the normalised logit difference at the last token, as ratio of means over pairs: 0 untouched, 1 all.

    denoising: how far the source's label comes up, against the labels of neither text, from the base's clean logits to
    the source's. noising: how far the base's own label goes down. both: the two labels' difference. Noising is what
    happens to the other text of the pair when its own activation is spoilt, so it is measured on the swapped pair; for
    the difference itself the swapped pair says the same, and `both` is one number. Calibration cancels.
    """
    base, source = outcome.labels[outcome.base], outcome.labels[outcome.source]
    clean, patched = outcome.clean.numpy(), outcome.patched.numpy()
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, (label, other) in {"denoising": (source, base), "noising": (base, source)}.items():
        before, after = (pairs.evidence(clean[side][:, None], label, other) for side in (outcome.base, outcome.source))
        parts[name] = pairs.evidence(patched, label, other) - before, after - before
    (risen, rise), (fallen, fall) = parts["denoising"], parts["noising"]
    parts["both"] = risen - fallen, rise - fall
    for name, (part, whole) in parts.items():
        interval = pairs.ratio_interval(part, whole[:, 0], *outcome.dyads)
        yield from interval.rows(outcome.sites, metric="recovery", direction=name, n=len(outcome.base))


def span_gain(outcome: Outcome) -> Iterator[Row]:
    """Rows of the transfer in a window beyond that in the next smaller one around the same layer, pair by pair."""
    transferred, sites = outcome.transferred.astype(float), outcome.sites.reset_index(names="column")
    smaller = sites.assign(span=sites["span"] + 2)[["component", "layer", "span", "column"]]
    wider = sites[sites["component"] != "resid_post"].merge(
        smaller, on=["component", "layer", "span"], suffixes=("", "_smaller")
    )
    gain = transferred[:, wider.pop("column")] - transferred[:, wider.pop("column_smaller")]
    interval = pairs.ratio_interval(gain, np.ones(len(gain)), *outcome.dyads)
    yield from interval.rows(wider, metric="span_gain", n=len(gain))


def turns(outcome: Outcome, n_layers: int, *, seed: int) -> Iterator[Row]:
    """Rows of where attention and feed-forward peak, how far apart, and where the stream reaches half, by window.

    Layers count from 0, depths are 1-based layers over their number; a depth beyond 1 is never. peak_difference is
    feed-forward minus attention in the same resample. Intervals resample the writers of bases and sources.
    """
    for span in sorted(set(outcome.sites["span"])):
        sites = {name: some for name in COMPONENTS if len(some := outcome.at(Window(span, [name])))}
        curves = {name: scores.mean(outcome.transferred[:, some.index]) for name, some in sites.items()}
        layers = sites["resid_post"]["layer"].tolist()
        found: dict[tuple[str, str], scores.Statistic] = {
            ("peak", name): landmarks.of("peak", curve, layers)
            for name, curve in curves.items()
            if name != "resid_post"
        }
        if len(found) == 2:  # not where a model's sublayers cannot be told apart
            found["peak_difference", ""] = scores.difference(found["peak", "mlp_out"], found["peak", "attn_out"])
        if span == 1:
            found["onset", "resid_post"] = landmarks.of("onset", curves["resid_post"], layers)
        for (metric, component), statistic in found.items():
            of_texts = pairs.over_texts(statistic, outcome.base, outcome.source)
            layer = stats.bootstrap(of_texts, outcome.writers, seed=seed)
            one = metric != "peak_difference"  # the depth of a layer, or of a number of layers
            depth = stats.Interval(*((ends + one) / n_layers for ends in (layer.value, layer.ci_low, layer.ci_high)))
            key = dict(component=component, span=span, position="-1", n=len(outcome.base))
            yield from layer.rows(key, metric=f"{metric}_layer")
            yield from depth.rows(key, metric=f"{metric}_depth")


def pair_counts(outcome: Outcome, words: Sequence[str]) -> Iterator[Row]:
    """Rows of how many pairs go from one label to another, for every two labels among the texts."""
    couples = list(zip(outcome.labels[outcome.source].tolist(), outcome.labels[outcome.base].tolist(), strict=True))
    for source, base in itertools.permutations(np.unique(outcome.labels), 2):
        key = dict(metric="pair_count", source_label=words[source], base_label=words[base])
        yield key | dict(value=float(couples.count((source, base))), n=len(couples))


def _check(rounds: np.ndarray, study: Study) -> None:
    paired = int((rounds[0] != np.arange(rounds.shape[1])).sum())
    if paired < LEAST:
        raise ValueError(
            f"{paired} of the {len(study.agreed)} texts answered right find a partner of another label and writer, and "
            f"patching needs {LEAST}: {advice(study.run)}"
        )

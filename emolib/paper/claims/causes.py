"""Tests of claims C5-C8, C10 and C11: what moves the answer and what it needs (paper §6, appendices B and C).

Each test works on any model: layers are compared as fractions of depth. Thresholds are those of the paper's own
figures, widened to what a reader would still call the same finding; they stand in `data/claims.yml` in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.paper.claims.verdicts import (
    MIDDLE,
    Check,
    Evidence,
    NotTestable,
    above,
    absent,
    at_least,
    at_most,
    claim,
    count,
    inside,
    number,
    place,
)
from emolib.texts.prompts import PAPER_PROMPTS

EDGE = 3  # layers at either end that a search for an inner minimum leaves out


def transfer(found: Evidence, component: str, spans: Sequence[int] = (5, 3, 1)) -> tuple[pd.DataFrame, int]:
    """Return the transfer curve of a component at the first span that is stored, and that span."""
    for span in spans:
        keys = dict(metric="transfer", component=component, position="-1", span=span)
        if found.has("patching", **keys):
            return found.curve("patching", **keys), span
    raise NotTestable(f"the patching table has no transfer of {component} at the last token")


@claim("C5")
def residual_stream_carries_late(found: Evidence) -> Sequence[Check]:
    """Checks: transfer of h first reaches one half at depth .45-.68; next to none before .35; nearly all at the end."""
    curve = found.curve("patching", metric="transfer", component="resid_post", position="-1")
    reached = curve.index[curve["value"] >= 0.5]
    if reached.empty:
        return [Check(text=f"transfer never reaches one half (at most {curve['value'].max():.2f})", holds=False)]
    onset = curve.loc[reached[0]]
    early, late = curve[curve["depth"] <= 0.35], curve[curve["depth"] >= 0.875]
    row = dict(value=onset["depth"])
    if found.has("patching", metric="onset_depth", component="resid_post"):
        row = found.rows("patching", metric="onset_depth", component="resid_post").iloc[0]
    text = f"one half reached at layer {layer_number(reached[0])}, depth {number(row)}"
    checks = [Check(text=text, holds=inside(row, (0.45, 0.68)), n=count(onset))]
    if len(early):
        top = early.loc[early["value"].idxmax()]
        checks.append(Check(text=f"before depth 0.35 at most {number(top)}", holds=at_most(top, 0.10), n=count(top)))
    if len(late):
        low = late.loc[late["value"].idxmin()]
        checks.append(Check(text=f"in the last eighth at least {number(low)}", holds=at_least(low, 0.90), n=count(low)))
    return checks


@claim("C6")
def attention_then_feed_forward(found: Evidence) -> Sequence[Check]:
    """Checks: transfer peaks earlier for a than for m; the peak of a is in the middle, at least .25, and narrow."""
    attention, span = transfer(found, "attn_out")
    forward, _ = transfer(found, "mlp_out", (span,))
    a, m = attention["value"].idxmax(), forward["value"].idxmax()
    peak = attention.loc[a]
    wide = (attention["value"] >= peak["value"] / 2).mean()
    order = f"span {span}: a peaks at {place(attention, a)}, m at {place(forward, m)}"
    order += f", with {forward['value'].max():.2f} of the pairs"
    later: bool | None = bool(a < m)
    gap = dict(metric="peak_difference_layer", span=span)
    if later and found.has("patching", **gap):
        later = at_least(found.rows("patching", **gap).iloc[0], 0.5)  # in layers: half a layer is none
    return [
        Check(text=order, holds=later, n=count(peak)),
        Check(text=f"transfer of a at its peak {number(peak)}, at least 0.25", holds=at_least(peak, 0.25)),
        Check(text="peak of a in the middle", holds=inside(dict(value=peak["depth"]), MIDDLE)),
        Check(text=f"half of it or more in {wide:.0%} of the layers, at most half", holds=bool(wide <= 0.5)),
    ]


def inner_minimum(curve: pd.DataFrame) -> pd.Series:
    """Return the row of the lowest agreement without the first and last three layers of the curve."""
    inner = curve.iloc[EDGE:-EDGE] if len(curve) > 2 * EDGE else curve
    return inner.loc[inner["value"].idxmin()]


@claim("C7")
def middle_attention_is_needed(found: Evidence) -> Sequence[Check]:
    """Checks: zeroing a hurts more than zeroing m (span 3, inner minima); that is in the middle, and so it is when
    another event's activation is put in instead; later a is spare.
    """
    keys = dict(metric="agreement", condition="edit:zero", position="-1", span=3)
    attention, forward = (found.curve("ablation", component=name, **keys) for name in ("attn_out", "mlp_out"))
    a, m = inner_minimum(attention), inner_minimum(forward)
    text = f"lowest agreement without a, first and last {EDGE} layers aside, {number(a)} at {place(attention, a.name)}"
    checks = [
        Check(text=f"{text}; without m {number(m)}", holds=above(m, a), n=count(a)),
        Check(text="minimum of a in the middle", holds=inside(dict(value=a["depth"]), MIDDLE)),
        _resampled(found),
    ]
    if found.has("ablation", component="attn_out", **{**keys, "span": 1}):
        single = found.curve("ablation", component="attn_out", **{**keys, "span": 1})
        later = single[single.index > inner_minimum(single).name]
        low = later.loc[later["value"].idxmin()]
        text = f"one layer at a time, later attention leaves at least {number(low)}, expected 0.85"
    else:
        later = attention.iloc[:-EDGE]
        later = later[later.index > a.name + 2]
        low = later.loc[later["value"].idxmin()]
        text = f"later windows of attention leave at least {number(low)}, expected 0.85"
    return [*checks, Check(text=text, holds=at_least(low, 0.85), n=count(low))]


def _resampled(found: Evidence) -> Check:
    """Whether the middle is also where another event's attention, instead of none, costs most."""
    keys = dict(metric="agreement", component="attn_out", condition="edit:resample", position="-1", span=3)
    if not found.has("ablation", **keys):
        return absent("minimum of a under resample ablation in the middle")
    curve = found.curve("ablation", **keys)
    low = inner_minimum(curve)
    text = f"under resample ablation {number(low)} at {place(curve, low.name)}, in the middle"
    return Check(text=text, holds=inside(dict(value=low["depth"]), MIDDLE))


@claim("C8")
def wider_windows_transfer_more(found: Evidence) -> Sequence[Check]:
    """Checks: at the peak, transfer of a grows with span 1, 3, 5; the peak stays within a sixteenth of depth."""
    curves = {span: transfer(found, "attn_out", (span,))[0] for span in (1, 3, 5)}
    top = curves[3]["value"].idxmax()
    shared = set.intersection(*(set(curve.index) for curve in curves.values()))
    if top not in shared:
        top = max(shared, key=curves[3]["value"].get)
    at = [curves[span].loc[top] for span in (1, 3, 5)]
    peaks = [curves[span]["value"].idxmax() for span in (1, 3, 5)]
    text = f"at {place(curves[3], top)}: " + ", ".join(
        f"span {s} {number(row)}" for s, row in zip((1, 3, 5), at, strict=True)
    )
    grows = [_grows(found, span, int(top), *pair) for span, pair in ((3, (at[0], at[1])), (5, (at[1], at[2])))]
    drift = max(peaks) - min(peaks)
    close = bool(drift <= max(1, round(found.n_layers / 16)))
    where = ", ".join(str(layer_number(layer)) for layer in peaks)
    return [
        Check(text=text, holds=False if False in grows else None if None in grows else True, n=count(at[0])),
        Check(text=f"peaks at layers {where}", holds=close),
    ]


def _grows(found: Evidence, span: int, layer: int, smaller: pd.Series, larger: pd.Series) -> bool | None:
    """Whether a wider window transfers more, by the gain over the same pairs where it is stored."""
    keys = dict(metric="span_gain", component="attn_out", span=span, layer=layer, position="-1")
    if found.has("patching", **keys):
        return at_least(found.rows("patching", **keys).iloc[0], 1e-9)
    return above(larger, smaller)


@claim("C10")
def specific_to_emotion(found: Evidence) -> Sequence[Check]:
    """Checks: h of a first-word task transfers at least one layer later; at the peak of a, that task is left alone."""
    keys = dict(metric="transfer", position="-1")
    task = dict(condition="check:first_word", **keys)
    # Emotion on the same texts where that was measured; the paper's two tasks are on different ones.
    matched = dict(condition="check:matched;texts:first_word", **keys)
    here, same = ("robustness", matched) if found.has("robustness", **matched) else ("patching", keys)
    control = found.curve("robustness", component="resid_post", **task)
    emotion = found.curve(here, component="resid_post", **same)
    onsets = [curve.index[curve["value"] >= 0.5] for curve in (emotion, control)]
    if any(onset.empty for onset in onsets):
        raise NotTestable("transfer of the residual stream never reaches one half in one of the two tasks")
    first, second = (int(onset[0]) for onset in onsets)
    text = f"residual stream: emotion from layer {layer_number(first)}, first word from {layer_number(second)}"
    other, band = (
        found.curve("robustness", component="attn_out", span=3, **task),
        found.curve(here, component="attn_out", span=3, **same),
    )
    band = band[band.index.isin(other.index)]
    peak = band.loc[band["value"].idxmax()]
    row = other.loc[peak.name]
    rest = f"attention at {place(band, peak.name)}: emotion {number(peak)}, first word {number(row)}, at most 0.10"
    return [
        Check(text=text, holds=_later(found, second - first), n=count(control.loc[second])),
        Check(text=rest, holds=at_most(row, 0.10), n=count(row)),
    ]


def _later(found: Evidence, layers: int) -> bool | None:
    """Whether the control turns later, by the paired interval of the shift where one is stored."""
    keys = dict(metric="onset_shift", condition="check:first_word")
    if layers > 0 and found.has("robustness", **keys):
        return at_least(found.rows("robustness", **keys).iloc[0], 1e-9)
    return layers > 0


@claim("C11")
def any_prompt(found: Evidence) -> Sequence[Check]:
    """Checks: under every prompt, transfer of a peaks, and zeroing a bites, within a sixteenth of depth."""
    keys = dict(component="attn_out", position="-1", prompt=list(PAPER_PROMPTS))
    moved = found.rows("robustness", metric="transfer", condition="check:prompts", span=3, **keys)
    prompts = set(moved["prompt"])
    if len(prompts) < 3:
        raise NotTestable(f"patching under {len(prompts)} of the paper's prompts only: at least three are needed")
    allowed = max(1, round(found.n_layers / 16))
    peaks = moved.sort_values("value").groupby("prompt")["layer"].last()
    checks = [_same_place(peaks, allowed, "transfer of a peaks", count(moved.iloc[0]))]
    if found.has("robustness", metric="agreement", condition="check:prompts;edit:zero", **keys):
        left = found.rows("robustness", metric="agreement", condition="check:prompts;edit:zero", span=1, **keys)
        dips = left.sort_values("layer").groupby("prompt")[["layer", "value"]].apply(_dip)
        words = f"zeroing a hurts most, first and last {EDGE} layers aside,"
        checks.append(_same_place(dips, allowed, words, count(left.iloc[0])))
    return checks


def _dip(curve: pd.DataFrame) -> int:
    return int(inner_minimum(curve)["layer"])


def _same_place(layers: pd.Series, allowed: int, what: str, n: int | None) -> Check:
    centre = layers.get("T1-2shot", layers.median())
    near = int(((layers - centre).abs() <= allowed).sum())
    text = f"{what} within {allowed} layer(s) of layer {layer_number(int(centre))} under {near} of {len(layers)}"
    return Check(text=f"{text} prompts", holds=near == len(layers), n=n)

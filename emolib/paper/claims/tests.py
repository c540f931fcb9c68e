"""How each of the 19 claims is tested: one function a claim, from a run's rows and the claim's levels to its checks.

The first check is the claim's core. Layers are compared as fractions of depth, so that the tests work on any model. The
levels stand in `data/claims.yml`; they are those of the paper's own figures, widened to what a reader would still call
the same finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from emolib.engine.sites import layer_number
from emolib.figures.palette import APPRAISAL_LABELS
from emolib.paper.claims.evidence import (
    DESCRIBED,
    NUMBER,
    RELEASED,
    ROBUST,
    Check,
    Evidence,
    NotTestable,
    above,
    all_hold,
    at_least,
    at_most,
    averaged,
    below,
    best,
    beyond_text,
    difference,
    enough,
    in_place,
    inside,
    landmark,
    number,
    only,
    open_unless,
    place,
    positive,
    redrawn,
    worst,
)
from emolib.stats import landmarks
from emolib.stats.landmarks import EDGE, ONSET, SATURATION
from emolib.texts.appraisals import EMOTIONS, NAMED, PRINTED, PUSHED, Setting
from emolib.texts.prompts import PAPER_PROMPTS

Levels = SimpleNamespace
Test = Callable[[Evidence, Levels], Sequence[Check]]
TESTS: dict[str, Test] = {}
CHANCE = 1 / len(EMOTIONS)
LAST = dict(position="-1")
DEFAULT = "T1-2shot"  # the prompt that the others are compared with
# Signs of appraisal theory for the six emotions of the paper's Figure 6, from the ratings of its Figure 5.
SIGNS = {
    "pleasantness": dict(joy=1, pride=1, surprise=1, fear=-1, guilt=-1, anger=-1),
    "other_responsblt": dict(joy=1, pride=-1, surprise=1, fear=-1, guilt=-1, anger=1),
}
# Missed minus right in the paper's Table 3.
MISSED = {"pleasantness": dict(sadness=1, joy=-1, guilt=-1), "other_responsblt": dict(sadness=1, joy=-1, guilt=1)}
# Directions that no penalty has shrunk: a probe's weights turn to where the noise is small as the data grow easy.
UNSHRUNK = {"whitened": "whitened differences of means", "mean_difference": "differences of means"}
SINGLE = tuple(setting for setting in PRINTED if len(setting) == 1)
OF_SINGLE = f"of the {len(SINGLE)} pushes of one appraisal"
TUNED = "tuned"  # directions whose penalty is chosen by how well unseen writers are predicted
APART = "with the other appraisals projected out: "
STEERED = (
    (TUNED, "directions that predict: ", ROBUST),
    ("raw", "as released: ", RELEASED),
    ("fixall", APART, DESCRIBED),
)
FAIR = {"matched_sets": "random of like covariance", "shuffled_sets": "fitted on other writers' ratings"}
SECOND = tuple(setting for setting in PRINTED if set(setting) == {"pleasantness", "predict_event"})
# Labels that the theory allows to lead when two appraisals are pushed together.
LEADERS = {
    Setting(pleasantness=1, other_responsblt=1): ("joy", "surprise", "trust"),
    Setting(pleasantness=1, other_responsblt=-1): ("pride", "joy", "relief"),
    Setting(pleasantness=-1, other_responsblt=1): ("anger", "disgust"),
    Setting(pleasantness=-1, other_responsblt=-1): ("fear", "sadness", "guilt", "shame", "boredom"),
}


def claim(name: str) -> Callable[[Test], Test]:
    """The decorator that registers a function as the test of the claim."""

    def register(test: Test) -> Test:
        TESTS[name] = test
        return test

    return register


# What a claim rests on: shares of cases that are one in thirteen by chance. Of a twin it is asked at the layer at which
# its model has it: that an untrained network does the same elsewhere takes nothing from where a trained one does it.


def ability(found: Evidence, layer: int | None = None) -> pd.Series:
    """How often the model names the writer's emotion; where it is stored over labels, which one answer cannot raise."""
    balanced = dict(metric="balanced_accuracy", **found.parameters("calibration"))
    return found.rows("behaviour", **balanced).iloc[0] if found.has("behaviour", **balanced) else answers(found)


def answers(found: Evidence) -> pd.Series:
    """The accuracy of the run's own scoring and calibration."""
    return found.rows("behaviour", metric="accuracy", **found.parameters("scoring", "calibration")).iloc[0]


def probe(found: Evidence, layer: int | None = None) -> pd.Series:
    """How often the probe of the last layer is right."""
    return probe_curve(found, "resid_post").iloc[-1]


def transfer(found: Evidence, layer: int | None = None) -> pd.Series:
    """How many answers overwritten attention carries over, in the best layer or in this one."""
    curve = transfer_curve(found, "attn_out")
    if layer is not None and layer not in curve.index:
        raise NotTestable(f"the patching table has no transfer of attention around layer {layer}")
    return best(curve) if layer is None else curve.loc[layer]


GATES: dict[str, Callable[[Evidence, int | None], pd.Series]] = dict(ability=ability, probe=probe, transfer=transfer)


# What the model answers, where it can be read (paper §3, 5)


@claim("C1")
def accuracy(found: Evidence, level: Levels) -> list[Check]:
    row = answers(found)
    kind = {"none": "as scored", "batch": "calibrated"}[row["calibration"]]
    where = f"{kind}, by {row['scoring'].replace('_', ' ')}"
    return [at_least("accuracy", row, level.accuracy, where=where), at_least("accuracy beside chance", row, CHANCE)]


def probe_curve(found: Evidence, component: str, **keys: str) -> pd.DataFrame:
    """The released linear probe's held-out accuracy over layers."""
    keys = dict(metric="accuracy", setting="as_released", probe="linear", component=component) | LAST | keys
    return found.curve("probing", **keys)


@claim("C2")
def readable_by_the_middle(found: Evidence, level: Levels) -> list[Check]:
    curve = probe_curve(found, "resid_post")
    top, first = landmark("peak", curve), landmark("saturation", curve)
    stored = dict(metric="saturation_depth", setting="as_released", component="resid_post")
    depth = found.one("probing", **stored)
    depth = first["depth"] if depth is None else depth
    gaps = dict(metric="selectivity", component="resid_post", **LAST)
    gap = landmark("peak", found.curve("probing", **gaps)) if found.has("probing", **gaps) else None
    return [
        inside(f"depth with {SATURATION:.2f} of the best probe", depth, level.middle, where=place(first), n=top),
        at_least(
            "probe of the last layer",
            curve.iloc[-1],
            level.kept * top["value"],
            expected=f"at least {level.kept * top['value']:.2f}, {level.kept:g} of the best",
        ),
        at_least("best probe", top, level.times_chance * CHANCE, where=place(top)),
        *only(
            ROBUST,
            positive("best probe minus that of shuffled labels", gap),
            beyond_text(found, "best probe of the writer's label minus the best of the text alone", target="writer"),
        ),
    ]


@claim("C3")
def feed_forward_follows(found: Evidence, level: Levels) -> list[Check]:
    a, m, h = (probe_curve(found, name) for name in ("attn_out", "mlp_out", "resid_post"))
    both = [redrawn(rank_correlation, curve, h) for curve in (m, a)]
    gap = redrawn(lambda a, m, h: rank_correlation(m, h) - rank_correlation(a, h), a, m, h)
    what = "rank correlation with the curve of the stream over layers"
    where = f"feed-forward {both[0]['value']:.3f}, attention {both[1]['value']:.3f}"
    return [
        positive(f"{what}, feed-forward minus attention", gap, where=where, n=m.iloc[0], digits=3),
        at_least(f"{what}, attention", both[1], level.trend),
    ]


def rank_correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of `one` [n, layers] with that of `two`; missing for a constant row."""
    x, y = (rankdata(values, axis=1) for values in (one, two))
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
    with np.errstate(invalid="ignore"):
        return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


@claim("C4")
def last_token_strongest(found: Evidence, level: Levels) -> list[Check]:
    rows = found.rows("probing", metric="accuracy", setting="as_released", probe="linear", component="resid_post")
    measured = rows.loc[rows["position"] != "-1", "layer"]
    if measured.empty:
        raise NotTestable("the probing table has the last token only")
    deep = rows[rows["layer"].isin(measured)]
    deepest, late = deep[deep["layer"] == deep["layer"].max()], deep[deep["depth"] > level.late]
    first = late.loc[late.groupby("layer")["value"].idxmax(), "position"] == "-1"
    beaten = [_last_token("", part).outcome == "fails" for _, part in late.groupby("layer")]
    what = f"layers beyond depth {level.late:g} in which the last token is best"
    count = enough(what, first.sum(), len(first))
    return [
        _last_token("probe of the last token in the deepest layer", deepest),
        count if count.outcome == "holds" or any(beaten) else replace(count, outcome="open"),
    ]


def _last_token(what: str, rows: pd.DataFrame) -> Check:
    """The check that the last token's probe beats the best other one."""
    at = rows.set_index("position")
    other = at.drop(index="-1").sort_values("value").iloc[-1]
    return above(what, at.loc["-1"], other, f"of token {other.name}")


# What moves the answer and what it needs (paper §6, appendices B and C)


def transfer_curve(found: Evidence, component: str, spans: Sequence[int] = (5, 3, 1)) -> pd.DataFrame:
    """The transfer of a component over layers at the first span that is stored."""
    for span in spans:
        keys = dict(metric="transfer", source="other_label", component=component, span=span, **LAST)
        if found.has("patching", **keys):
            return found.curve("patching", **keys)
    raise NotTestable(f"the patching table has no transfer of {component} at the last token")


@claim("C5")
def residual_stream_carries_late(found: Evidence, level: Levels) -> list[Check]:
    curve = found.stream("patching", metric="transfer", source="other_label", **LAST)
    onset = landmarks.row("onset", curve)
    if onset is None:
        return [at_least("transfer of the stream at its highest", landmark("peak", curve)["value"], ONSET)]
    stored = found.one("patching", metric="onset_depth", component="resid_post")
    depth, what = (
        onset["depth"] if stored is None else stored,
        f"depth at which transfer of the stream reaches {ONSET:.2f}",
    )
    checks = [inside(what, depth, level.onset, where=place(onset), n=onset)]
    early, late = curve[curve["depth"] <= level.early], curve[curve["depth"] >= level.late]
    if len(early):
        top = landmark("peak", early)
        checks.append(at_most(f"highest transfer of the stream before depth {level.early:g}", top, level.little))
    if len(late):
        low = late.loc[late["value"].idxmin()]
        checks.append(at_least(f"lowest transfer of the stream beyond depth {level.late:g}", low, level.nearly_all))
    return checks


@claim("C6")
def attention_then_feed_forward(found: Evidence, level: Levels) -> list[Check]:
    attention = transfer_curve(found, "attn_out")
    span = int(attention["span"].iloc[0])
    forward = transfer_curve(found, "mlp_out", (span,))
    a, m = landmark("peak", attention), landmark("peak", forward)
    lag = found.one("patching", metric="peak_difference_layer", span=span)
    depth = found.one("patching", metric="peak_depth", component="attn_out", span=span)
    if lag is None:
        lag = redrawn(lambda a, m: m.argmax(-1) - a.argmax(-1), attention, forward)
    where = (
        f"span {span}: attention peaks at {place(a)}, feed-forward at {place(m)}, with {m['value']:.2f} of the pairs"
    )
    wide = (attention["value"] >= a["value"] / 2).mean()
    return [
        at_least(
            "layers from the peak of attention to that of feed-forward", lag, level.later, where=where, digits=0, n=a
        ),
        at_least("transfer of attention at its peak", a, level.peak),
        inside("depth of the peak of attention", a["depth"] if depth is None else depth, level.middle),
        at_most("share of layers with half of that or more", wide, level.narrow),
        in_place("peak", "attention and feed-forward", [attention, forward]),
    ]


@claim("C7")
def middle_attention_is_needed(found: Evidence, level: Levels) -> list[Check]:
    keys = dict(metric="agreement", method="zero", span=3, **LAST)
    attention = found.curve("ablation", component="attn_out", **keys)
    forward = found.curve("ablation", component="mlp_out", **keys)
    a, m = landmark("dip", attention), landmark("dip", forward)
    single, exchanged = keys | dict(span=1, component="attn_out"), keys | dict(method="resample", component="attn_out")
    if found.has("ablation", **single):
        what, curve = "lowest agreement without one later attention output", found.curve("ablation", **single)
        later = curve[curve["layer"] > landmark("dip", curve)["layer"]]
    else:
        what, later = "lowest agreement without a later window of attention", attention.iloc[:-EDGE]
        later = later[later["layer"] > a["layer"] + 2]
    dip, where = None, ""
    if found.has("ablation", **exchanged):
        other = landmark("dip", found.curve("ablation", **exchanged))
        dip, where = other["depth"], f"three layers around {place(other)}, agreement {number(other['value'])}"
    return [
        *only(
            RELEASED,
            below(
                "lowest agreement without attention",
                a,
                m,
                "without feed-forward",
                where=f"three layers around {place(a)}",
            ),
            inside("depth of that dip", a["depth"], level.middle),
            also=DESCRIBED,
        ),
        *only(
            ROBUST,
            *_without_shift(found, keys, level),
            inside("depth of the dip with another event's attention output", dip, level.middle, where=where),
        ),
        in_place("dip", "attention and feed-forward", [attention, forward]),
        at_least(what, later.loc[later["value"].idxmin()] if len(later) else None, level.spared),
    ]


# What a removal does to all texts alike left out, in two ways, and how a check calls them.
WITHOUT_SHIFT = {
    "recentred_agreement": ("agreement", "offsets re-centred under the edit"),
    "auroc": ("area under the ROC curve", "which no offset moves"),
}


def _without_shift(found: Evidence, keys: Mapping[str, Any], level: Levels) -> Iterator[Check]:
    """The first two checks of C7 without what an edit does to all texts alike; where nothing is stored, one of them."""
    for metric, (measure, how) in WITHOUT_SHIFT.items():
        keys = {**keys, "metric": metric}
        if not found.has("ablation", **keys):
            yield inside(f"depth of the dip of {measure}, {how}", None, level.middle)
            continue
        a, m = (landmark("dip", found.curve("ablation", component=name, **keys)) for name in ("attn_out", "mlp_out"))
        where = f"three layers around {place(a)}"
        yield below(f"lowest {measure} without attention, {how}", a, m, "without feed-forward", where=where)
        yield inside(f"depth of the dip of {measure}, {how}", a["depth"], level.middle)


@claim("C8")
def wider_windows_transfer_more(found: Evidence, level: Levels) -> list[Check]:
    curves = {span: transfer_curve(found, "attn_out", (span,)) for span in (1, 3, 5)}
    shared = curves[3].index[[all(layer in curve.index for curve in curves.values()) for layer in curves[3].index]]
    top = landmark("peak", curves[3].loc[shared])
    at = {span: curve.loc[top["layer"]] for span, curve in curves.items()}
    gains = []
    for span, narrower in ((3, 1), (5, 3)):
        # the gain over the same pairs where it is stored
        gain = found.one("patching", metric="span_gain", component="attn_out", span=span, layer=top["layer"], **LAST)
        what = f"span {span}"
        gains.append(above(what, at[span], at[narrower]) if gain is None else positive(what, gain))
    shown = ", ".join(f"span {span} {number(row['value'])}" for span, row in at.items())
    peaks = [int(landmark("peak", curve)["layer"]) for curve in curves.values()]
    numbers = ", ".join(str(layer_number(layer)) for layer in peaks)
    return [
        all_hold("gains of transfer from span 1 to 3 to 5", gains, where=f"{place(top)}: {shown}", n=at[1]),
        at_most(
            "layers between the three peaks",
            max(peaks) - min(peaks),
            found.layers(level.drift),
            where=f"layers {numbers}",
            digits=0,
        ),
    ]


@claim("C9")
def attention_turns_to_the_text(found: Evidence, level: Levels) -> list[Check]:
    given = dict(demonstrations="given")
    metric = "mass" if found.has("attention", metric="mass", segment="text", **given) else "top1_share"
    what = "share of attention" if metric == "mass" else "share of texts whose most attended token is"
    text = found.curve("attention", metric=metric, segment="text", **given)
    start, end = level.middle
    early, middle = text[text["depth"] <= start], text[(text["depth"] > start) & (text["depth"] <= end)]
    if middle.empty or early.empty:
        raise NotTestable(f"the attention table has no layers up to depth {start} or within {start} to {end}")
    gain = found.one("attention", metric="mid_minus_early", segment="text", measure=metric, **given)
    what = f"{what} in the text, depth {start:g} to {end:g}"
    if gain is not None:
        turn = positive(f"{what}, minus before", gain)
    else:  # averaging interval ends over layers is conservative: the same texts are behind all of them
        later, first = averaged(middle), averaged(early)
        turn = above(what, later, first, "before", n=text.iloc[0])
    rows = found.rows("attention", metric=metric, segment=["demonstration", "demonstration_label"], **given)
    other = rows[rows["layer"].isin(middle.index)].groupby("layer")["value"].sum()
    ahead = int((middle["value"] > other.reindex(middle.index).fillna(0)).sum())
    rest = [turn, enough("of these layers, those with more for the text than for demonstrations", ahead, len(middle))]
    times = found.one("attention", metric="enrichment", words="emotion_word_not_label", band="middle", **given)
    words = above("times the attention of matched words that emotion words draw", times, 1.0, digits=1)
    return [*only(ROBUST, words), *rest]


@claim("C10")
def specific_to_emotion(found: Evidence, level: Levels) -> list[Check]:
    keys = dict(metric="transfer", **LAST)
    task = dict(check="first_word", **keys)
    # Emotion on the same texts where that was measured; the paper's two tasks are on different ones.
    matched, plain = dict(check="matched", texts="first_word", **keys), dict(source="other_label", **keys)
    here, same = ("robustness", matched) if found.has("robustness", **matched) else ("patching", plain)
    curves = found.stream(here, **same), found.stream("robustness", **task)
    emotion, control = map(_onset, curves)
    other = found.curve("robustness", component="attn_out", span=3, **task)
    moved = found.curve(here, component="attn_out", span=3, **same)
    peak = landmark("peak", moved[moved.index.isin(other.index)])
    shift = int(control["layer"] - emotion["layer"])
    stored = found.one("robustness", metric="onset_shift", check="first_word") if shift > 0 else None
    where = f"emotion from {place(emotion)}, first word from {place(control)}"
    what = "layers by which the stream carries the first word later"
    later = positive(what, shift if stored is None else stored, where=where, n=control, digits=0)
    where, row = f"{place(peak)}; emotion {number(peak)}", other.loc[peak["layer"]]
    first = at_most("first words that attention transfers at its peak for emotion", row, level.little, where=where)
    return [*only(ROBUST, _no_more_of_topics(found, keys)), later, first]


def _no_more_of_topics(found: Evidence, keys: Mapping[str, Any]) -> Check:
    """The core of C10: whether attention, where it carries most of emotion, carries less of another meaning.

    A first word is copied and not understood, so that places it does not share may be those of meaning, not of emotion.
    """
    what = "share of topics minus that of emotions that attention transfers, at its peak for emotion"
    expected = "below 0"
    here = dict(component="attn_out", span=3, **keys)
    same = here | dict(check="matched", texts="topic")
    if not found.has("robustness", **same):
        return at_most(what, None, 0.0, expected=expected)
    peak = landmark("peak", found.curve("robustness", **same))
    change = found.one("robustness", check="topic", layer=peak["layer"], **here | dict(metric="transfer_change"))
    where = f"{place(peak)}; emotion {number(peak)}"
    return at_most(what, change, np.nextafter(0, -1), where=where, expected=expected, n=peak)


def _onset(curve: pd.DataFrame) -> pd.Series:
    """The row of a curve from which on it stays at one half, as far as its intervals tell."""
    row = landmark("onset", curve)
    late = curve.loc[row.name :]
    if (late["ci_high"].fillna(late["value"]) < ONSET).any():
        raise NotTestable(f"transfer of the residual stream falls below {ONSET} again beyond {place(row)}")
    return row


@claim("C11")
def any_prompt(found: Evidence, level: Levels) -> list[Check]:
    keys = dict(check="prompts", component="attn_out", prompt=list(PAPER_PROMPTS), **LAST)
    moved = found.rows("robustness", metric="transfer", span=3, **keys)
    if moved["prompt"].nunique() < level.prompts:
        raise NotTestable(f"patching under fewer than {level.prompts} of the paper's prompts")
    checks = [_same_place(found, level, moved, "peak", "other prompts under which transfer of attention peaks")]
    zeroed = dict(metric="agreement", method="zero", span=1, **keys)
    if found.has("robustness", **zeroed):
        rows = found.rows("robustness", **zeroed)
        checks.append(_same_place(found, level, rows, "dip", "other prompts under which zeroing attention hurts most"))
    return [*checks, in_place("peak", "attention under each prompt", by_prompt(moved).values())]


def by_prompt(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The curves of the prompts."""
    return {str(prompt): curve for prompt, curve in rows.sort_values("layer").groupby("prompt")}


def _same_place(found: Evidence, level: Levels, rows: pd.DataFrame, name: landmarks.Landmark, what: str) -> Check:
    """Whether a landmark stays under the other prompts: by the shift over the same texts where it is stored."""
    curves = by_prompt(rows)
    layers = pd.Series({prompt: int(landmark(name, curve)["layer"]) for prompt, curve in curves.items()})
    centre, allowed = layers.get(DEFAULT, layers.median()), found.layers(level.drift)
    shifts = (layers - centre).drop(DEFAULT, errors="ignore").to_dict()
    stored = {one: found.one("robustness", metric=f"{name}_shift", check="prompts", prompt=one) for one in shifts}
    parts = [inside("", shifts[one] if stored[one] is None else stored[one], (-allowed, allowed)) for one in shifts]
    where = f"within {allowed} layer(s) of layer {layer_number(int(centre))}"
    return all_hold(what, parts, where=where, n=rows.iloc[0])


# Appraisals in the activations, and their directions (paper §7, 8, appendix E)


@claim("C12")
def appraisals_are_readable(found: Evidence, level: Levels) -> list[Check]:
    rows = found.rows("appraisals", metric="r2", setting="as_released", appraisal=list(NAMED))
    top = {name: part.loc[part["value"].idxmax()] for name, part in rows.groupby("appraisal")}
    about = dict(metric="r2", baseline="label", set="agreed", appraisal=list(top))
    about |= dict(model=rows["model"].unique().tolist() + ["data"])
    label = found.rows("appraisals", **about).set_index("appraisal") if found.has("appraisals", **about) else None
    added = {}
    for name, row in top.items():  # at the best probe's site, not where the gain is largest, positive by chance alone
        site = dict(component=row["component"], layer=row["layer"])
        added[name] = found.one("appraisals", metric="partial_r2", appraisal=name, **site)
    partly = [positive(word(name), row) for name, row in added.items() if row is not None]
    margins = (
        [] if label is None else [_margin(word(name), row, label.loc[name], level.spread) for name, row in top.items()]
    )
    further = "best R2 above that of the label alone"
    beside = "share of the rest that a probe explains beside the label, at its best site, on all events"
    words = [beyond_text(found, word(name), appraisal=name) for name in top]
    ahead = "best R2 above that of the best probe of the text alone, on all events"
    stream = rows[rows["component"] == "resid_post"]
    peak = stream.groupby("appraisal")["value"].max()
    last = stream[stream["layer"] == stream["layer"].max()].set_index("appraisal")["value"]
    kept = int((last >= level.kept * peak.reindex(last.index)).sum())
    negative = int((last < 0).sum())
    return [
        all_hold(
            "best R2 above zero", [positive(word(name), row) for name, row in top.items()], n=next(iter(top.values()))
        ),
        enough(
            f"appraisals whose last layer keeps {level.kept:g} of the peak of the stream, as released",
            kept,
            len(last),
            where=f"R2 is below zero there for {negative}" if negative else "",
        ),
        *only(
            ROBUST,
            all_hold(further, margins) if margins else positive(further, None),
            all_hold(beside, partly, n=added["pleasantness"]) if partly else positive(beside, None),
            positive(ahead, None) if worst(words) == "no number" else all_hold(ahead, words),
        ),
    ]


def _margin(what: str, row: pd.Series, label: pd.Series, spread: float) -> Check:
    """The probe's R2 minus the label's; without intervals, beyond the spread over subsets and splits."""
    gap, known = row["value"] - label["value"], np.isfinite([row["ci_low"], label["ci_low"]]).any()
    check = above(what, row, label) if known else at_least(what, dict(value=gap, ci_low=gap - spread), 0.0)
    return replace(check, value=gap, ci_low=np.nan, ci_high=np.nan)


def word(name: str) -> str:
    """An appraisal's name in prose: "other-agency" for other_responsblt."""
    return APPRAISAL_LABELS.get(name, name.replace("_", " "))


@claim("C13")
def directions_align_then_fade(found: Evidence, level: Levels) -> list[Check]:
    rows = found.rows("geometry", metric="cosine", vector="probe")
    rows = rows.assign(
        sign=[SIGNS.get(a, {}).get(e, 0) for e, a in zip(rows["emotion"], rows["appraisal"], strict=True)]
    )
    rows = rows[rows["sign"] != 0]
    if rows.empty:
        raise NotTestable("the geometry table has no cosine of the six emotions with the two appraisals")
    early, late = rows[rows["depth"] <= level.early], rows[rows["depth"] >= level.late]
    means = (early["value"] * early["sign"]).groupby([early["emotion"], early["appraisal"]]).mean()
    least = level.signs / 12 * len(means)
    first, last = (part["value"].abs().mean() for part in (early, late))
    signs = enough(
        "cosines with the sign of theory, over the first half", (means > 0).sum(), len(means), least, n=rows.iloc[0]
    )
    what, where = f"mean size of the cosines beyond depth {level.late:g}", f"{first:.2f} up to depth {level.early:g}"
    keys = dict(metric="fade", set="all")
    left = [
        at_most(
            f"share of the size that is left with {words}", found.one("geometry", **keys, vector=vector), level.fade
        )
        for vector, words in UNSHRUNK.items()
    ]
    expected = f"at most {level.fade:g} of that"
    fade = at_most(what, last, level.fade * first, where=where, expected=expected)
    return [*only(ROBUST, _beyond_construction(found, level)), signs, fade, *only(ROBUST, *left)]


def _beyond_construction(found: Evidence, level: Levels) -> Check:
    """Alignment against what is there by construction, in the first half of the layers."""
    what = "early layers with alignment beyond that of labels and ratings shuffled together"
    if not found.has("geometry", metric="alignment_by_construction", vector="probe"):
        return at_least(what, None, 0)
    own = found.curve("geometry", metric="alignment", vector="probe")
    null = found.curve("geometry", metric="alignment_by_construction", vector="probe")
    early = own.index[own["depth"] <= level.early]
    parts = [above("", own.loc[layer], null.loc[layer]) for layer in early]
    return all_hold(what, parts, level.layers * len(early))


# Steering by appraisals and by emotions (paper §9, appendices D and F)


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one unit and window: doses as shares of the residual norm where stored, spans of three."""
    shares = rows["unit"] == "norm"
    rows = rows[shares] if shares.any() else rows
    return rows[rows["span"] == 3] if (rows["span"] == 3).any() else rows


def central(rows: pd.DataFrame, depth: float) -> pd.DataFrame:
    """The rows of the centre nearest to a depth (the earlier of two)."""
    nearest = (rows["depth"] - depth).abs().sort_values(kind="stable").index[0]
    return rows[rows["layer"] == rows.loc[nearest, "layer"]]


def pushed(
    found: Evidence, settings: Sequence[Setting], metric: str, vector: str = "raw", *, largest: bool = False
) -> pd.DataFrame:
    """The comparable rows of these settings, column `setting`, at the largest dose, or at the smaller ones, if any."""
    rows = found.rows("modulation", metric=metric, vector=vector)
    places = 3.0 ** np.arange(len(PUSHED))  # signs as digits: a number for each setting
    names = {np.dot([*setting.columns().values()], places): str(setting) for setting in settings}
    numbers = rows[[*PUSHED]].to_numpy(float, na_value=np.nan) @ places
    rows = comparable(rows.assign(setting=pd.Series(numbers, rows.index).map(names))[~np.isnan(numbers)])
    rows = rows[rows["setting"].notna()]
    if rows.empty:
        raise NotTestable(f"the modulation table has no {metric} of {', '.join(names.values())} with vector {vector}")
    top = rows["dose"] == rows["dose"].max()
    return rows[top] if largest or top.all() else rows[~top]


def fitted(found: Evidence, level: Levels, vector: str = "raw") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of single appraisals below the largest dose, over layers, and those at the depth of the claim."""
    rows = pushed(found, SINGLE, "theory_score", vector)
    return rows, central(rows, level.depth)


def score(
    found: Evidence, level: Levels, settings: Sequence[Setting], vector: str, metric: str = "theory_score"
) -> Any:
    """The mean over settings at the depth of the claim; None where nothing is stored of them."""
    with suppress(NotTestable):
        return averaged(central(pushed(found, settings, metric, vector), level.depth))
    return None


def sets(found: Evidence, level: Levels, settings: Sequence[Setting], vector: str) -> pd.Series:
    """The mean over settings of each draw of a null that is made of sets, where and as hard as it is drawn."""
    rows = pushed(found, settings, "theory_score_null", vector)
    return central(rows, level.depth).groupby("draw")["value"].mean()


def beyond_sets(found: Evidence, level: Levels, settings: Sequence[Setting]) -> Check:
    """Whether the mean of tuned directions is beyond that of random ones, and of ones fitted on others' ratings."""
    what = f"the same beside the {level.quantile:.0%} quantile"
    try:
        null = {words: sets(found, level, settings, vector) for vector, words in FAIR.items()}
        draws = pushed(found, settings, "theory_score_null", next(iter(FAIR)))
        own = central(pushed(found, settings, "theory_score", TUNED), level.depth)
    except NotTestable:
        return at_least(f"{what} of sets of random directions of like covariance", None, 0.0, expected="beyond it")
    same = averaged(own[own["dose"].isin(draws["dose"])])
    limits = {words: float(draw.quantile(level.quantile)) for words, draw in null.items()}
    least = min(map(len, null.values()))
    where = ", ".join(f"{words} {limit:.2f}" for words, limit in limits.items())
    check = at_least(f"{what} of {least} sets of each null", same, max(limits.values()), where=where, n=least)
    return open_unless(least >= level.sets, check)


def read(found: Evidence, level: Levels, vector: str) -> list[Check]:
    """Whether directions predict the ratings by writers they were not fitted on, appraisal by appraisal."""
    ups = [setting for setting in SINGLE if 1 in setting.values()]
    try:
        rows = central(pushed(found, ups, "direction_r2", vector), level.depth).set_index("setting")
    except NotTestable:
        return []
    return [positive(word(*setting), rows.loc[str(setting)]) for setting in ups]


def predicting(found: Evidence, level: Levels) -> Check:
    """Whether tuned directions are ones of the appraisals whose names they bear."""
    what = "R2 of the ratings by unseen writers above zero, directions that predict"
    parts = read(found, level, TUNED)
    return all_hold(what, parts) if parts else enough(what, None, len(SINGLE) // 2)


@claim("C14")
def one_appraisal_moves_labels(found: Evidence, level: Levels) -> list[Check]:
    """Robust by directions with a chosen penalty, as described by ones without their part along other appraisals."""
    what, rows, own = "mean theory score", None, score(found, level, SINGLE, TUNED)
    checks = [
        at_least(f"{what}, directions that predict", own, level.score, where=f"{OF_SINGLE}, at the paper's depth")
    ]
    checks += [beyond_sets(found, level, SINGLE), predicting(found, level)]
    with suppress(NotTestable):
        rows = fitted(found, level, TUNED)[0]
    checks += _elsewhere(rows, level, f"{what}, directions that predict,")
    late = None
    with suppress(NotTestable):
        rows = pushed(found, SINGLE, "total_variation", TUNED)
        late = rows[rows["depth"] >= level.late]
    moved = f"labels that move, directions that predict, after {level.late:g}"
    checks.append(at_most(moved, averaged(late) if late is not None and len(late) else None, level.still))
    return [*only(ROBUST, *checks), *_one_as_released(found, level)]


def _elsewhere(rows: pd.DataFrame | None, level: Levels, what: str) -> list[Check]:
    """Whether pushes early and late do not follow theory, where there are any."""
    if rows is None:
        return []
    ends = {
        f"before depth {level.early:g}": rows["depth"] <= level.early,
        f"after {level.late:g}": rows["depth"] >= level.late,
    }
    return [
        at_most(f"{what} {place_}", averaged(rows[hit]), level.elsewhere) for place_, hit in ends.items() if hit.any()
    ]


def _one_as_released(found: Evidence, level: Levels) -> list[Check]:
    rows, here = fitted(found, level)
    about = "; ".join(f"{part.what} {part.number}" for part in read(found, level, "raw"))
    low, high = here["value"].min(), here["value"].max()
    where = f"{OF_SINGLE}, at depth {here['depth'].iloc[0]:.2f}, range {low:.2f} to {high:.2f}"
    where += f"; R2 of these directions on unseen writers: {about}" if about else ""
    checks = [at_least("as released: mean theory score", averaged(here), level.score, where=where)]

    null = central(pushed(found, SINGLE, "theory_score_null", "random"), level.depth)
    limit = null.groupby("setting")["value"].quantile(level.quantile)
    own = here.groupby("setting")["value"].mean()
    draws = int(null.groupby(["setting", "dose"]).size().max())
    what = f"as released: settings beyond the {level.quantile:.0%} quantile of {draws} random directions"
    ahead = enough(what, (own > limit.reindex(own.index)).sum(), len(own), n=draws)
    checks.append(open_unless(draws >= level.draws, ahead))
    checks += _elsewhere(rows, level, "as released: mean theory score")
    apart = at_least(f"{APART}mean theory score", score(found, level, SINGLE, "fixall"), level.score)
    return [*only(RELEASED, *checks), *only(DESCRIBED, apart)]


@claim("C15")
def two_appraisals_combine(found: Evidence, level: Levels) -> list[Check]:
    checks = []
    for vector, words, reading in STEERED:
        first, second = (score(found, level, settings, vector) for settings in (tuple(LEADERS), SECOND))
        if vector == "raw" and first is None:
            pushed(found, tuple(LEADERS), "theory_score")  # says what is missing
        own = [
            at_least(f"{words}mean theory score with other-agency", first, level.score),
            at_least(f"{words}mean theory score with predictability", second, level.second),
            _leading(found, level, vector, words),
        ]
        checks += only(reading, *own)
        if vector == TUNED:
            checks += only(ROBUST, beyond_sets(found, level, tuple(LEADERS)))
    return checks


def _leading(found: Evidence, level: Levels, vector: str, words: str) -> Check:
    """Whether the most frequent label under two pushes at the largest dose is one that theory allows."""
    what = f"{words}leading labels at the largest dose that theory allows"
    try:
        counts = central(pushed(found, tuple(LEADERS), "count", vector, largest=True), level.depth)
    except NotTestable:
        if vector == "raw":
            raise
        return enough(what, None, len(LEADERS))
    lead = counts.loc[counts.groupby("setting")["value"].idxmax()].set_index("setting")["label"]
    leaders = {setting: lead[str(setting)] for setting in LEADERS}
    hits = sum(label in LEADERS[setting] for setting, label in leaders.items())
    return enough(what, hits, len(LEADERS), where=", ".join(leaders.values()))


@claim("C16")
def random_directions_are_empty(found: Evidence, level: Levels) -> list[Check]:
    """Only where C14 has something to contrast: of directions that predict, and of released ones."""
    tuned = score(found, level, SINGLE, TUNED)
    released = averaged(fitted(found, level)[1])
    own = {"directions that predict": tuned, "as released": released}
    if not any(_contrast(row, level) for row in own.values()):
        raise NotTestable(
            "fitted directions give no pattern either, so there is no contrast: C14, "
            + ", ".join(f"{words} {number(row)}" for words, row in own.items() if row is not None)
        )
    single = only(RELEASED, _random_single(found, level, released), also=DESCRIBED)
    return [*only(ROBUST, *_random_sets(found, level, tuned)), *single]


def _contrast(own: Any, level: Levels) -> bool:
    """Whether fitted directions show what random ones should not: above zero for certain, and not below C14's level."""
    return (
        own is not None and positive("", own).outcome == "holds" and at_least("", own, level.score).outcome != "fails"
    )


def _random_sets(found: Evidence, level: Levels, own: Any) -> list[Check]:
    """Sets of random directions of like covariance against the mean of directions that predict."""
    what = "share of sets of random directions of like covariance as far from zero as directions that predict"
    if own is None:
        return [at_most(what, None, level.share)]
    if not _contrast(own, level):
        return [at_most(what, None, level.share, where=f"no pattern of fitted directions, {number(own)}")]
    try:
        null = sets(found, level, SINGLE, "matched_sets")
    except NotTestable:
        return [at_most(what, None, level.share)]
    where = f"{number(own)}; sets: mean {null.mean():.2f}, SD {null.std():.2f}"
    check = at_most(what, (null.abs() >= own["value"]).mean(), level.share, where=where, n=len(null))
    return [open_unless(len(null) >= level.sets, check)]


def _random_single(found: Evidence, level: Levels, own: Any) -> Check:
    what = "as released: share of the random scores as far from zero as the fitted mean"
    rows = found.rows("modulation", metric="theory_score_null", vector="random").dropna(subset=[*PUSHED])
    rows = central(comparable(rows), level.depth)
    if not _contrast(own, level):
        return at_most(what, None, level.share, where=f"no pattern of fitted directions, {number(own)}")
    where = f"{number(own)}; random: mean {rows['value'].mean():.2f}, SD {rows['value'].std():.2f}"
    draws = int(rows.groupby([*PUSHED, "dose"]).size().max())
    share = (rows["value"].abs() >= own["value"]).mean()
    return open_unless(draws >= level.draws, at_most(what, share, level.share, where=where, n=draws))


@claim("C17")
def emotion_vectors_promote(found: Evidence, level: Levels) -> list[Check]:
    rows = comparable(found.rows("promotion", metric="promotion_score", vector="probe"))
    start, middle = level.middle
    reach = rows[rows["depth"] >= start]
    first = reach[reach["depth"] <= middle]
    if first.empty:
        raise NotTestable(f"the promotion table has no layer at depth {start} to {middle}")
    what = "mean promotion over emotions, doses and layers"
    unit = "of the residual norm" if (reach["unit"] == "norm").all() else "times the vector"
    where = f"doses {', '.join(f'{dose:g}' for dose in sorted(reach['dose'].unique()))} {unit}"
    checks = [at_least(f"{what} from depth {start:g} on", averaged(reach), level.promotion, where=where)]
    checks.append(at_least(f"{what} between depth {start:g} and {middle:g}", averaged(first), level.promotion))
    early = rows[(rows["depth"] <= level.early) & (rows["dose"] == rows["dose"].min())]
    if len(early):
        top = early.groupby("layer")["value"].mean().max()
        what = f"highest mean promotion before depth {level.early:g} at the smallest dose"
        checks.append(at_most(what, top, level.little))
    gap = None
    if found.has("promotion", metric="promotion_score", vector="random"):
        null = comparable(found.rows("promotion", metric="promotion_score", vector="random"))
        gap = difference(averaged(reach), averaged(null[null["depth"] >= start]))
    beyond = at_least("the first of these minus that of random directions", gap, level.beyond_random)
    return [*checks, *only(ROBUST, beyond)]


# Events that the model gets wrong, and stability over splits (paper C.6, A.3)


@claim("C18")
def misclassified_differ(found: Evidence, level: Levels) -> list[Check]:
    cases = [(appraisal, emotion, sign) for appraisal, signs in MISSED.items() for emotion, sign in signs.items()]
    what = "of them beyond what the answered label implies"
    parts = [_shift(found, *case) for case in cases]
    checks = [all_hold("differences with the paper's sign", parts, level.signs)]
    if found.has("robustness", metric="rating_difference", check="misclassified", source="beyond_label"):
        beyond = [_signed(_difference(found, a, e, "beyond_label"), sign) for a, e, sign in cases]
        return [*checks, *only(ROBUST, all_hold(what, beyond, level.signs))]
    return [*checks, *only(ROBUST, enough(what, None, len(cases), level.signs))]


def _shift(found: Evidence, appraisal: str, emotion: str, sign: int) -> Check:
    """Whether missed minus right has the sign: by the stored difference, else by the two means."""
    if found.has("robustness", metric="rating_difference", check="misclassified", source="probe"):
        return _signed(_difference(found, appraisal, emotion, "probe"), sign)
    keys = dict(metric="mean_rating", check="misclassified", emotion=emotion, appraisal=appraisal)
    missed, right = (found.rows("robustness", set=name, **keys).iloc[0] for name in ("missed", "correct"))
    return above("", missed, right) if sign > 0 else below("", missed, right)


def _signed(row: pd.Series, sign: int) -> Check:
    return positive("", row) if sign > 0 else below("", row, 0.0)


def _difference(found: Evidence, appraisal: str, emotion: str, source: str) -> pd.Series:
    """Missed minus right at the layer whose probes read appraisals best, the one that carries mean ratings too."""
    keys = dict(check="misclassified", emotion=emotion, appraisal=appraisal)
    rows = found.rows("robustness", metric="rating_difference", source=source, **keys)
    best = found.rows("robustness", metric="mean_rating", **keys)["layer"]
    here = rows[rows["layer"].isin(best)]
    return (rows if here.empty else here).iloc[0]


@claim("C19")
def stable_over_splits(found: Evidence, level: Levels) -> list[Check]:
    spread, sampling = (
        found.curve("robustness", metric=name, check="splits") for name in ("accuracy_sd", "sampling_sd")
    )
    times = spread[[*NUMBER]].div(sampling["value"], axis=0)
    middle = times.sort_values("value").iloc[len(times) // 2]
    where = f"SD {spread['value'].median():.3f}"
    return [
        at_most("SD over splits, in SDs of as many independent texts, median layer", middle, level.times, where=where),
        at_most("the same in the layer where it is largest", times["value"].max(), level.times),
        at_most("SD of R2 over splits", None, level.r2),
    ]

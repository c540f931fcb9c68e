"""Tests of claims C1-C4 and C9: what the model answers, where it can be read, what it attends to (paper §3, 5, 6).

Each test works on any model: layers are compared as fractions of depth. Thresholds are those of the paper's own
figures, widened to what a reader would still call the same finding; they stand in `data/claims.yml` in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.stats import spearmanr

from emolib.paper.claims.verdicts import (
    MIDDLE,
    Check,
    Evidence,
    NotTestable,
    above,
    absent,
    at_least,
    claim,
    count,
    inside,
    number,
)

RELEASED = "setting:as_released"


@claim("C1")
def accuracy(found: Evidence) -> Sequence[Check]:
    """Checks: right on about 40 % of the texts (38.5 % allows for other versions); better than chance."""
    rows = found.rows("behaviour", metric="accuracy")
    parameters = found.tables["behaviour"].attrs.get("provenance", {}).get("parameters", {})
    calibration, scoring = parameters.get("calibration", ""), parameters.get("scoring", "")
    wanted = rows["condition"].str.contains(f"calibration:{calibration}") & rows["condition"].str.contains(scoring)
    row = rows[wanted].iloc[0]
    text = f"accuracy {number(row)} under {row['condition'].replace(';', ', ').replace(':', ' ')}"
    return [
        Check(text=f"{text}, expected about 0.40 or more", holds=at_least(row, 0.385), n=count(row)),
        Check(text="chance is 0.08", holds=at_least(row, 1 / 13), n=count(row)),
    ]


def probe_curve(found: Evidence, component: str, position: str = "-1") -> pd.DataFrame:
    """Return the released probe's held-out accuracy over layers."""
    keys = dict(metric="accuracy", condition=RELEASED, component=component, position=position)
    return found.curve("probing", **keys)


@claim("C2")
def readable_by_the_middle(found: Evidence) -> Sequence[Check]:
    """Checks: 95 % of the best probe is reached at depth .40-.70; the last layer keeps it; probes are selective."""
    curve = probe_curve(found, "resid_post")
    best = curve.loc[curve["value"].idxmax()]
    first = curve.index[curve["value"] >= 0.95 * best["value"]][0]
    reached = curve.loc[first, "depth"]
    row = dict(value=reached)
    keys = dict(metric="saturation_depth", condition=RELEASED, component="resid_post")
    if found.has("probing", **keys):
        row = found.rows("probing", **keys).iloc[0]
    last = curve.iloc[-1]
    chance = "chance 0.08"
    checks = [
        Check(text=f"95 % of the best probe at depth {number(row)}", holds=inside(row, MIDDLE), n=count(best)),
        Check(text=f"last layer {number(last)} of at best {number(best)}", holds=at_least(last, 0.95 * best["value"])),
        Check(text=f"best probe {number(best)}, {chance}", holds=at_least(best, 2 / 13)),
    ]
    if found.has("probing", metric="selectivity", component="resid_post", position="-1"):
        gaps = found.curve("probing", metric="selectivity", component="resid_post", position="-1")
        gap = gaps.loc[gaps["value"].idxmax()]
        return [*checks, Check(text=f"above shuffled labels by {number(gap)}", holds=at_least(gap, 0.0))]
    return [*checks, absent("above shuffled labels")]


@claim("C3")
def feed_forward_follows(found: Evidence) -> Sequence[Check]:
    """Checks: over layers, m correlates with h more than a does; a shares the trend."""
    curves = {name: probe_curve(found, name)["value"] for name in ("attn_out", "mlp_out", "resid_post")}
    rho = {name: spearmanr(curve, curves["resid_post"]).statistic for name, curve in curves.items()}
    n = count(probe_curve(found, "mlp_out").iloc[0])
    gap = f"rank correlation with the residual stream {rho['mlp_out']:.2f} (m) against {rho['attn_out']:.2f} (a)"
    return [
        Check(text=gap, holds=bool(rho["mlp_out"] > rho["attn_out"]), n=n),
        Check(text=f"a shares the trend ({rho['attn_out']:.2f}, at least 0.50)", holds=bool(rho["attn_out"] >= 0.5)),
    ]


@claim("C4")
def last_token_strongest(found: Evidence) -> Sequence[Check]:
    """Checks: in the last layer token -1 is read better than -2..-5; it is best at every layer beyond 60 % depth."""
    keys = dict(metric="accuracy", condition=RELEASED, component="resid_post")
    rows = found.rows("probing", **keys)
    if rows["position"].nunique() < 2:
        raise NotTestable("the probing table has the last token only")
    measured = rows.loc[rows["position"] != "-1", "layer"]
    deep = rows[rows["layer"].isin(measured)]
    end = deep[deep["layer"] == deep["layer"].max()].set_index("position")
    other = end.drop(index="-1").sort_values("value").iloc[-1]
    deep = deep[deep["depth"] > 0.6]
    best = deep.loc[deep.groupby("layer")["value"].idxmax(), "position"]
    text = f"deepest layer: token -1 {number(end.loc['-1'])}, best other ({other.name}) {number(other)}"
    return [
        Check(text=text, holds=above(end.loc["-1"], other), n=count(other)),
        Check(text=f"best in {(best == '-1').sum()} of {len(best)} later layers", holds=bool((best == "-1").all())),
    ]


@claim("C9")
def attention_turns_to_the_text(found: Evidence) -> Sequence[Check]:
    """Checks: at depth .5-.7 emotion words draw more attention than matched words; the text more than before and more
    than the demonstrations. Without emotion words in the table, as in the paper's figures, the last two.
    """
    keys = dict(condition="demonstrations:given")
    metric = "mass" if found.has("attention", metric="mass", label="text", **keys) else "top1_share"
    text = found.curve("attention", metric=metric, label="text", **keys)
    early, middle = text[text["depth"] <= 0.5], text[(text["depth"] > 0.5) & (text["depth"] <= 0.7)]
    if middle.empty or early.empty:
        raise NotTestable("the attention table has no layers up to depth 0.5 or within 0.5 to 0.7")
    what = "share of attention" if metric == "mass" else "share of texts whose top token is there"
    stored = dict(metric="mid_minus_early", condition=f"demonstrations:given;measure:{metric}")
    if found.has("attention", **stored):
        gain = found.rows("attention", **stored).iloc[0]
        turn = Check(
            text=f"{what}, text, depth 0.5 to 0.7 minus before: {number(gain)}",
            holds=at_least(gain, 0.0),
            n=count(gain),
        )
    else:
        first, later = (_average(part) for part in (early, middle))
        turn = Check(
            text=f"{what}, text, depth 0.5 to 0.7: {number(later)}, before: {number(first)}",
            holds=above(later, first),
            n=count(text.iloc[0]),
        )
    other = found.rows("attention", metric=metric, label=["demonstration", "demonstration_label"], **keys)
    other = other[other["layer"].isin(middle.index)].groupby("layer")["value"].sum()
    ahead = int((middle["value"] > other.reindex(middle.index).fillna(0)).sum())
    rest = f"text before demonstrations in {ahead} of {len(middle)} of these layers"
    checks = [turn, Check(text=rest, holds=ahead == len(middle))]
    words = dict(metric="enrichment", label="emotion_word_not_label", condition="demonstrations:given;layers:middle")
    if found.has("attention", **words):
        times = found.rows("attention", **words).iloc[0]
        text = f"emotion words draw {number(times, 1)} times the attention of matched words"
        return [Check(text=text, holds=at_least(times, 1.0), n=count(times)), *checks]
    return [*checks, absent("emotion words beside matched words")]


def _average(rows: pd.DataFrame) -> pd.Series:
    # Averaging interval ends over layers is conservative: the same texts are behind all of them.
    return rows[["value", "ci_low", "ci_high"]].mean()

"""Tests of claims C12 and C13: appraisals in the activations, and their directions (paper §7, §8, appendix E).

Each test works on any model: layers are compared as fractions of depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emolib.figures.palette import APPRAISAL_LABELS
from emolib.paper.claims.verdicts import (
    Check,
    Evidence,
    NotTestable,
    above,
    absent,
    at_least,
    at_most,
    claim,
    count,
    number,
)

SIX = ("pleasantness", "unpleasantness", "other_responsblt", "self_responsblt", "suddenness", "predict_event")
# Spread of label-only R2 over subsets and splits (two standard deviations); stands in where a table has no intervals.
R2_SPREAD = 0.06
# Signs of appraisal theory for the six emotions of the paper's Figure 6, from the ratings of its Figure 5.
SIGNS = {
    ("joy", "pleasantness"): 1,
    ("pride", "pleasantness"): 1,
    ("surprise", "pleasantness"): 1,
    ("fear", "pleasantness"): -1,
    ("guilt", "pleasantness"): -1,
    ("anger", "pleasantness"): -1,
    ("joy", "other_responsblt"): 1,
    ("pride", "other_responsblt"): -1,
    ("surprise", "other_responsblt"): 1,
    ("fear", "other_responsblt"): -1,
    ("guilt", "other_responsblt"): -1,
    ("anger", "other_responsblt"): 1,
}
# Directions that no penalty has shrunk: a probe's weights turn to where the noise is small as the data grow easy.
UNSHRUNK = {"whitened": "whitened differences of means", "mean_difference": "differences of means"}


@claim("C12")
def appraisals_are_readable(found: Evidence) -> Sequence[Check]:
    """Checks: the best probe of each appraisal beats zero; beats what the emotion label explains on the same events;
    adds to the label; lasts to the end.
    """
    rows = found.rows("appraisals", metric="r2", condition="setting:as_released", label=list(SIX))
    best = {name: part.loc[part["value"].idxmax()] for name, part in rows.groupby("label")}
    above_zero = [at_least(row, 0.0) for row in best.values()]
    text = "best R2: " + ", ".join(f"{word(name)} {number(row)}" for name, row in best.items())
    checks = [Check(text=text, holds=_all(above_zero), n=count(rows.iloc[0])), _against_label(found, best)]
    checks.append(_added(found, best))
    stream = rows[rows["component"] == "resid_post"]
    peak = stream.groupby("label")["value"].max()
    last = stream[stream["layer"] == stream["layer"].max()].set_index("label")["value"]
    kept = int((last >= 0.8 * peak.reindex(last.index)).sum())
    text = f"in the last layer's residual stream {kept} of {len(last)} keep four fifths of its peak, as released"
    return [*checks, Check(text=text, holds=kept == len(last))]


def _against_label(found: Evidence, best: dict[str, pd.Series]) -> Check:
    """The best probes against the emotion label alone, on the agreed set where it is stored as theirs is."""
    agreed = dict(metric="r2", condition="baseline:label;set:agreed", label=list(best))
    keys = agreed if found.has("appraisals", **agreed) else agreed | dict(condition="baseline:label")
    base = found.rows("appraisals", **keys, model=_models(found)).set_index("label")
    holds = []
    for name, row in best.items():
        own = base.loc[name]
        known = np.isfinite([row.get("ci_low", np.nan), own.get("ci_low", np.nan)]).any()
        margin = row["value"] - own["value"]
        holds.append(above(row, own) if known else at_least(dict(value=margin, ci_low=margin - R2_SPREAD), 0.0))
    shown = ", ".join(f"{word(name)} {row['value'] - base.loc[name, 'value']:+.2f}" for name, row in best.items())
    return Check(text=f"best R2 minus that of the label alone: {shown}", holds=_all(holds))


def _added(found: Evidence, best: dict[str, pd.Series]) -> Check:
    """What a probe adds to the label, of what the label leaves unexplained, on all events and with a tuned penalty."""
    if not found.has("appraisals", metric="partial_r2"):
        return absent("share of the rest that a probe explains beside the label")
    # at the site of the best probe, not where the gain itself is largest, which chance alone would make positive
    rows = {
        name: found.rows(
            "appraisals", metric="partial_r2", label=name, component=at["component"], layer=at["layer"]
        ).iloc[0]
        for name, at in best.items()
    }
    shown = ", ".join(f"{word(name)} {number(row)}" for name, row in rows.items())
    text = f"on all events, share of the rest that a probe explains beside the label: {shown}"
    return Check(text=text, holds=_all([at_least(row, 0.0) for row in rows.values()]), n=count(rows[SIX[0]]))


def word(name: str) -> str:
    """Return an appraisal's name in prose: "other-agency" for other_responsblt."""
    return APPRAISAL_LABELS.get(name, name.replace("_", " "))


def _models(found: Evidence) -> list[str]:
    return sorted(set(found.tables["appraisals"]["model"]))


def _all(outcomes: Sequence[bool | None]) -> bool | None:
    return False if False in outcomes else None if None in outcomes else True


@claim("C13")
def directions_align_then_fade(found: Evidence) -> Sequence[Check]:
    """Checks: in the first half 10 of 12 cosines have the expected sign; their size at least halves by the end.

    The alignment is beyond that of probes whose labels and ratings are shuffled together, in half of those layers; and
    the fade is there for directions that no regularised fit has shrunk, whitened and plain differences of means.
    """
    rows = found.rows("geometry", metric="cosine", condition="vector:probe")
    keys = rows["condition"].str.extract(r"emotion:(?P<emotion>\w+);appraisal:(?P<appraisal>\w+)")
    rows = rows.assign(pair=list(zip(keys["emotion"], keys["appraisal"], strict=True)))
    rows = rows[rows["pair"].isin(list(SIGNS))]
    if rows.empty:
        raise NotTestable("the geometry table has no cosine of the six emotions with the two appraisals")
    early = rows[rows["depth"] <= 0.5].groupby("pair")["value"].mean()
    right = sum(value * SIGNS[pair] > 0 for pair, value in early.items())
    sizes = rows.assign(size=rows["value"].abs())
    first = sizes.loc[sizes["depth"] <= 0.5, "size"].mean()
    last = sizes.loc[sizes["depth"] >= 0.75, "size"].mean()
    checks = [
        Check(
            text=f"expected sign in {right} of {len(early)} pairs over the first half, at least ten of twelve",
            holds=bool(right >= 10 / 12 * len(early)),
            n=count(rows.iloc[0]),
        ),
        Check(
            text=f"mean size {first:.2f} in the first half, {last:.2f} in the last quarter",
            holds=bool(last <= first / 2),
        ),
    ]
    checks.append(_beyond_construction(found))
    for vector, words in UNSHRUNK.items():
        if not found.has("geometry", metric="fade", condition=f"vector:{vector}"):
            checks.append(absent(f"fade with {words}"))
        else:
            left = found.rows("geometry", metric="fade")
            left = left[left["condition"] == f"vector:{vector}"].iloc[0]
            text = f"with {words} the last quarter keeps {number(left)} of it, at most 0.50"
            checks.append(Check(text=text, holds=at_most(left, 0.5)))
    return checks


def _beyond_construction(found: Evidence) -> Check:
    """Alignment against what is there by construction, in the first half of the layers."""
    keys = dict(condition="vector:probe")
    if not found.has("geometry", metric="alignment_by_construction", **keys):
        return absent("alignment beyond that of shuffled labels with their ratings")
    own = found.curve("geometry", metric="alignment", **keys)
    null = found.curve("geometry", metric="alignment_by_construction", **keys)
    early = own.index[own["depth"] <= 0.5]
    beyond = int((own.loc[early, "ci_low"] > null.loc[early, "ci_high"]).sum())
    text = f"alignment beyond that of shuffled labels with their ratings in {beyond} of {len(early)} early layers"
    return Check(text=f"{text}, at least half", holds=beyond >= len(early) / 2)

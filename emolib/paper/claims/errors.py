"""Tests of claims C18 and C19: events that the model gets wrong, and stability over splits (paper C.6, A.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emolib.paper.claims.verdicts import Check, Evidence, above, absent, at_least, at_most, claim

# Missed minus correct in the paper's Table 3.
MISSED = {
    ("sadness", "pleasantness"): 1,
    ("joy", "pleasantness"): -1,
    ("guilt", "pleasantness"): -1,
    ("sadness", "other_responsblt"): 1,
    ("joy", "other_responsblt"): -1,
    ("guilt", "other_responsblt"): 1,
}
SETS = ("missed", "correct")


@claim("C18")
def misclassified_differ(found: Evidence) -> Sequence[Check]:
    """Checks: probed appraisals of missed texts differ as in Table 3 in five of six; also beyond the answered label."""
    signs = [_shift(found, emotion, appraisal, sign) for (emotion, appraisal), sign in MISSED.items()]
    right = sum(sign is True for sign in signs)
    text = f"{right} of 6 differences have the paper's sign, {signs.count(None)} open"
    checks = [Check(text=text, holds=True if right >= 5 else None if signs.count(False) == 0 else False)]
    beyond = dict(metric="rating_difference", condition="check:misclassified;source:beyond_label")
    if found.has("robustness", **beyond):
        kept = sum(
            _signed(_difference(found, emotion, appraisal, "beyond_label"), sign) is True
            for (emotion, appraisal), sign in MISSED.items()
        )
        return [*checks, Check(text=f"{kept} of 6 beyond what the answered label implies", holds=kept >= 5)]
    return [*checks, absent("beyond what the answered label implies")]


def _shift(found: Evidence, emotion: str, appraisal: str, sign: int) -> bool | None:
    """Whether missed minus correct has the sign: by the stored difference, else by the two means."""
    if found.has("robustness", metric="rating_difference", condition="check:misclassified;source:probe"):
        return _signed(_difference(found, emotion, appraisal, "probe"), sign)
    keys = dict(metric="mean_rating")
    named = f"check:misclassified;emotion:{emotion};appraisal:{appraisal};set:"
    missed, correct = (found.rows("robustness", condition=named + part, **keys).iloc[0] for part in SETS)
    return above(missed, correct) if sign > 0 else above(correct, missed)


def _signed(row: pd.Series, sign: int) -> bool | None:
    return at_least(row, 0.0) if sign > 0 else at_most(row, 0.0)


def _difference(found: Evidence, emotion: str, appraisal: str, source: str) -> pd.Series:
    """Missed minus correct at the layer whose probes read appraisals best, the one that carries mean ratings too."""
    named = f"check:misclassified;emotion:{emotion};appraisal:{appraisal}"
    rows = found.rows("robustness", metric="rating_difference", condition=f"{named};source:{source}")
    best = found.rows("robustness", metric="mean_rating", condition=named)["layer"]
    here = rows[rows["layer"].isin(best)]
    return (rows if here.empty else here).iloc[0]


@claim("C19")
def stable_over_splits(found: Evidence) -> Sequence[Check]:
    """Checks: the standard deviation of probe accuracy over splits is at most 1.5 points, in the median and always."""
    rows = found.rows("robustness", metric="accuracy_sd", condition="check:splits")
    middle, worst = np.median(rows["value"]), rows["value"].max()
    return [
        Check(text=f"median SD over splits {middle:.3f}, expected 0.015", holds=bool(middle <= 0.015)),
        Check(text=f"largest {worst:.3f}", holds=bool(worst <= 0.015)),
    ]

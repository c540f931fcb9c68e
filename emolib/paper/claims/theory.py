"""Tests of claims C14-C17: steering by appraisals and by emotions (paper §9, appendices D and F).

Each test works on any model: layers are compared as fractions of depth. The theory score is the rank correlation of
the shift of the 13 labels with the shift that the corpus's own ratings lead to expect (chapter on modulation).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.paper.claims.verdicts import Check, Evidence, NotTestable, absent, claim, count

# Labels that the theory allows to lead when two appraisals are pushed together.
LEADERS = {
    "pleasantness:+1;other_responsblt:+1": ("joy", "surprise", "trust"),
    "pleasantness:+1;other_responsblt:-1": ("pride", "joy", "relief"),
    "pleasantness:-1;other_responsblt:+1": ("anger", "disgust"),
    "pleasantness:-1;other_responsblt:-1": ("fear", "sadness", "guilt", "shame", "boredom"),
}
SINGLE = tuple(f"{name}:{sign}1" for name in ("pleasantness", "other_responsblt", "predict_event") for sign in "+-")
SECOND = tuple(f"pleasantness:{one}1;predict_event:{two}1" for one in "+-" for two in "+-")


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one unit and window: doses as shares of the residual norm where stored, spans of three."""
    shares = rows["condition"].str.contains("unit:norm", regex=False)
    rows = rows[shares] if shares.any() else rows
    return rows[rows["span"] == 3] if (rows["span"] == 3).any() else rows


def theory(found: Evidence, conditions: Sequence[str], *, vector: str, metric: str = "theory_score") -> pd.DataFrame:
    """Return theory-score rows of exactly these sign conditions (column `signs`), coefficients below the largest."""
    rows = comparable(found.rows("modulation", metric=metric, condition=f"vector:{vector}"))
    rows = rows.assign(signs=rows["condition"].map(_signs))
    rows = rows[rows["signs"].isin(conditions)]
    if rows.empty:
        raise NotTestable(f"the modulation table has no {metric} of {', '.join(conditions)} with vector {vector}")
    smaller = rows[rows["coefficient"] < rows["coefficient"].max()]
    return rows if smaller.empty else smaller


def _signs(condition: str) -> str:
    return ";".join(pair for pair in condition.split(";") if pair.endswith((":+1", ":-1")))


def central(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the centre nearest to depth 9/16, where the paper acts (the earlier of two)."""
    nearest = (rows["depth"] - 9 / 16).abs().sort_values(kind="stable").index[0]
    return rows[rows["layer"] == rows.loc[nearest, "layer"]]


@claim("C14")
def one_appraisal_moves_labels(found: Evidence) -> Sequence[Check]:
    """Checks: mean theory score >= .5 at depth 9/16; beyond random directions; small early and late; projected too."""
    rows = theory(found, SINGLE, vector="raw")
    scores = central(rows)
    here = scores["value"].mean()
    depth = scores["depth"].iloc[0]
    text = f"mean theory score {here:.2f} at depth {depth:.2f} (range {scores['value'].min():.2f} to "
    text += f"{scores['value'].max():.2f}), expected 0.50"
    checks = [Check(text=text, holds=bool(here >= 0.5), n=count(scores.iloc[0]))]
    checks.append(_beyond_random(found, scores))
    ends = {"before depth 0.25": rows[rows["depth"] <= 0.25], "after 0.85": rows[rows["depth"] >= 0.85]}
    for place, part in ends.items():
        if len(part):
            mean = part["value"].mean()
            checks.append(Check(text=f"mean {place} {mean:.2f}, expected at most 0.25", holds=bool(mean <= 0.25)))
    if found.has("modulation", metric="theory_score", condition="vector:fixall"):
        other = central(theory(found, SINGLE, vector="fixall"))["value"].mean()
        text = f"with the other appraisals projected out, as the paper describes it, {other:.2f}, expected 0.50"
        return [*checks, Check(text=text, holds=bool(other >= 0.5))]
    return [*checks, absent("with the other appraisals projected out, as the paper describes it")]


def _beyond_random(found: Evidence, scores: pd.DataFrame) -> Check:
    null = central(theory(found, SINGLE, vector="raw", metric="theory_score_null"))
    limit = null.groupby("signs")["value"].quantile(0.99)
    own = scores.groupby("signs")["value"].mean()
    ahead = int((own > limit.reindex(own.index)).sum())
    draws = null.groupby(["signs", "coefficient"]).size().max()
    text = f"{ahead} of {len(own)} conditions beyond the 99th percentile of {draws} random directions"
    enough = True if draws >= 20 else None
    return Check(text=text, holds=enough if ahead == len(own) else False, n=int(draws))


@claim("C15")
def two_appraisals_combine(found: Evidence) -> Sequence[Check]:
    """Checks: mean theory score of pleasantness x other-agency >= .5, x predictability >= .4; leading labels fit."""
    pairs = central(theory(found, tuple(LEADERS), vector="raw"))
    text = f"mean theory score {pairs['value'].mean():.2f} with other-agency, expected 0.50"
    checks = [Check(text=text, holds=bool(pairs["value"].mean() >= 0.5), n=count(pairs.iloc[0]))]
    try:
        second = central(theory(found, SECOND, vector="raw"))["value"].mean()
        text = f"{second:.2f} with predictability, expected 0.40"
        checks.append(Check(text=text, holds=bool(second >= 0.4)))
    except NotTestable as missing:
        checks.append(Check(text=str(missing), holds=None))
    leaders = {name: _leader(found, name) for name in LEADERS}
    fits = [leaders[name] in allowed for name, allowed in LEADERS.items()]
    text = "leading labels at the largest coefficient: " + ", ".join(leaders.values())
    return [*checks, Check(text=f"{text}; {sum(fits)} of 4 as expected", holds=all(fits))]


def _leader(found: Evidence, condition: str) -> str:
    """The most frequent label under two pushes, at the largest coefficient and the centre nearest to depth 9/16."""
    rows = comparable(found.rows("modulation", metric="count", condition=f"{condition};vector:raw"))
    rows = central(rows[rows["coefficient"] == rows["coefficient"].max()])
    return str(rows.loc[rows["value"].idxmax(), "label"])


@claim("C16")
def random_directions_are_empty(found: Evidence) -> Sequence[Check]:
    """Checks: at depth 9/16 at most a tenth of random directions score beyond .55 (p < .05); at least 20 were drawn."""
    rows = comparable(found.rows("modulation", metric="theory_score_null"))
    rows = central(rows[rows["condition"].map(_signs) != ""])
    beyond = (rows["value"].abs() > 0.55).mean()
    text = f"{beyond:.0%} of the random scores beyond 0.55, at most 10 % expected; mean {rows['value'].mean():.2f}, "
    text += f"SD {rows['value'].std():.2f}"
    draws = int(rows.groupby(["condition", "coefficient"]).size().max())
    return [
        Check(text=text, holds=bool(beyond <= 0.10), n=draws),
        Check(text=f"{draws} draws a condition, at least 20 wanted", holds=True if draws >= 20 else None),
    ]


@claim("C17")
def emotion_vectors_promote(found: Evidence) -> Sequence[Check]:
    """Checks: mean promotion >= .5 at depth .55-.70 for some coefficient; near none before .35; beyond random."""
    rows = comparable(found.rows("promotion", metric="promotion_score", condition="vector:probe"))
    band = rows[rows["depth"].between(0.55, 0.70)]
    if band.empty:
        raise NotTestable("the promotion table has no layer at depth 0.55 to 0.70")
    means = band.groupby(["coefficient", "layer"])["value"].mean()
    (beta, layer), best = means.idxmax(), means.max()
    shares = band["condition"].str.contains("unit:norm").all()
    dose = f"{beta:g} of the residual norm" if shares else f"coefficient {beta:g}"
    text = f"mean over emotions {best:.2f} at layer {layer_number(int(layer))}, {dose}, expected 0.50"
    checks = [Check(text=text, holds=bool(best >= 0.5), n=count(band.iloc[0]))]
    early = rows[(rows["depth"] <= 0.35) & (rows["coefficient"] == rows["coefficient"].min())]
    if len(early):
        top = early.groupby("layer")["value"].mean().max()
        text = f"before depth 0.35 at most {top:.2f} at the smallest dose, expected 0.20"
        checks.append(Check(text=text, holds=bool(top <= 0.2)))
    if found.has("promotion", metric="promotion_score", condition="vector:random"):
        null = comparable(found.rows("promotion", metric="promotion_score", condition="vector:random"))
        null = null[(null["layer"] == layer) & (null["coefficient"] == beta)]["value"].mean()
        return [*checks, Check(text=f"random directions there {null:.2f}", holds=bool(best - null >= 0.3))]
    return [*checks, absent("above random directions")]

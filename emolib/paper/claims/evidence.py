"""What a verdict is made of: numbers set against expectations, and the rows of stored tables that give them.

A check *holds* when its number, with its whole 95% interval where there is one, is on the claim's side, and *fails*
when all of that is on the other side; it is *open* when the interval reaches over, or two numbers are equal. Where a
table has no number for a check, as the paper for some controls, the check is named and does not count. Loads no model
library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.stats import norm

from emolib.engine.sites import layer_number
from emolib.stats import landmarks

Mark = Literal["holds", "open", "fails", "no number"]
# Of a claim: as the paper's code tests it; as its text does; and with the controls that a reader of today asks for.
Reading = Literal["as released", "as described", "robust"]
READINGS: tuple[Reading, ...] = get_args(Reading)
RELEASED, DESCRIBED, ROBUST = READINGS
Tables = Mapping[str, pd.DataFrame]
Row = Any  # a row of a table, a mapping with a `value`, or a bare number; None where nothing is stored
NUMBER = ("value", "ci_low", "ci_high")
TAIL, DRAWS = 0.025, 1000  # beyond either end of an interval; how often a curve is drawn anew


class NotTestable(Exception):
    """A table or row that a claim needs is not there; the message says which."""


class NotMeasured(NotTestable):
    """The run has no such table, or the paper published no such value: nobody has looked."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number against one expectation: `what` was measured `where`, on `n` texts or pairs, and what came of it.

    `readings` are those of the claim that it decides: a control is for the robust one alone.
    """

    what: str
    outcome: Mark
    value: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    expected: str = ""
    where: str = ""
    n: int | None = None
    digits: int = 2
    readings: tuple[Reading, ...] = READINGS

    @property
    def number(self) -> str:
        """The value with its interval in brackets, "0.53 (0.48 to 0.58)"; empty without a number."""
        return number(self, self.digits)

    def __str__(self) -> str:
        words = [self.what, self.number, f"({self.where})" if self.where else ""]
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{' '.join(word for word in words if word)}{expected} [{self.outcome}]"


def at_least(what: str, row: Row, level: float, **about: Any) -> Check:
    """The check that a row's value is at least the level."""
    return _check(what, row, lambda value, low, high: _side(value, low, high, level), f"at least {level:.3g}", about)


def positive(what: str, row: Row, **about: Any) -> Check:
    """The check that a row's value is above zero."""
    return at_least(what, row, np.nextafter(0, 1), **(dict(expected="above 0") | about))


def at_most(what: str, row: Row, level: float, **about: Any) -> Check:
    """The check that a row's value is at most the level."""
    return _check(what, row, lambda value, low, high: _side(-value, -high, -low, -level), f"at most {level:.3g}", about)


def inside(what: str, row: Row, band: Sequence[float], **about: Any) -> Check:
    """The check that a row's value lies in the band."""
    both = at_least(what, row, band[0], **about), at_most(what, row, band[1], **about)
    return replace(both[0], outcome=worst(both), expected=f"{band[0]:.2f} to {band[1]:.2f}")


def above(what: str, row: Row, other: Row, than: str = "", **about: Any) -> Check:
    """The check that a row's value exceeds another's, intervals taken as independent; `than` says whose that is."""
    return _check(what, row, lambda *_: _gap(row, other), f"above {number(other)} {than}".strip(), about)


def below(what: str, row: Row, other: Row, than: str = "", **about: Any) -> Check:
    """The check that a row's value falls short of another's, intervals taken as independent."""
    return _check(what, row, lambda *_: _gap(other, row), f"below {number(other)} {than}".strip(), about)


def enough(what: str, hits: int | None, total: int, least: float | None = None, **about: Any) -> Check:
    """The check that at least `least` (by default all) of `total` cases are as they should be."""
    about = dict(expected=f"all {total}" if least is None else f"at least {ceil(least)} of {total}", digits=0) | about
    return at_least(what, hits, total if least is None else least, **about)


def all_hold(what: str, parts: Sequence[Check], least: float | None = None, **about: Any) -> Check:
    """The check that at least `least` (by default all) of these hold; it fails where too many of them fail for that.

    Behind the number stand the lowest of them, where they have names, and how many are undecided.
    """
    named = [part for part in parts if part.what and not np.isnan(part.value)]
    low = min(named, key=lambda part: part.value, default=None)
    undecided = sum(part.outcome == "open" for part in parts)
    said = [f"lowest: {low.what} {number(low.value, low.digits)}"] if low else []
    shown = ", ".join([*said, f"{undecided} undecided"] if undecided else said)
    held, failed = (sum(part.outcome == mark for part in parts) for mark in ("holds", "fails"))
    least = len(parts) if least is None else least
    found = enough(what, held, len(parts), None if least == len(parts) else least, **(dict(where=shown) | about))
    return found if held >= least or len(parts) - failed < least else replace(found, outcome="open")


def in_place(name: landmarks.Landmark, whose: str, curves: Iterable[pd.DataFrame]) -> Check:
    """The check that the neighbours of each curve's peak or dip are beyond its median too: that it has a place.

    Of layers in no order that is so one time in four. One in the first or last layer has a neighbour on one side alone,
    which is too few.
    """
    near: list[bool] = []
    for curve in curves:
        values = curve["value"].to_numpy(float) * (1 if name == "peak" else -1)
        at = int(landmarks.FIND[name](curve["value"].to_numpy(float)))
        near += [0 <= i < len(values) and bool(values[i] > np.median(values)) for i in (at - 1, at + 1)]
    what = f"neighbours of the {name}, of {whose}, that lie on its side of the median"
    return enough(what, sum(near), len(near), where="the layers before and after it")


def only(reading: Reading, *checks: Check, also: Reading | None = None) -> list[Check]:
    """The checks as ones that decide this reading of the claim, and another one, alone."""
    return [replace(check, readings=(reading, *([also] if also else []))) for check in checks]


def open_unless(condition: bool, check: Check) -> Check:
    """The check itself where the condition is met, else one that does not hold yet: what it rests on is too little."""
    return check if condition or check.outcome != "holds" else replace(check, outcome="open")


def averaged(rows: pd.DataFrame) -> dict[str, Any]:
    """The mean of rows, and of the ends of their intervals: the same texts are behind all, so it does not shrink."""
    return dict(rows[[*NUMBER]].mean(), n=rows["n"].min())


def difference(one: Row, two: Row) -> dict[str, float]:
    """One row's value minus another's, the intervals taken as independent."""
    a, b = _ends(one), _ends(two)
    reach = [
        (a["value"] - a["ci_low"], b["ci_high"] - b["value"]),
        (a["ci_high"] - a["value"], b["value"] - b["ci_low"]),
    ]
    low, high = np.hypot(*np.transpose(np.nan_to_num(reach)))
    gap = a["value"] - b["value"]
    return dict(value=gap, ci_low=gap - low, ci_high=gap + high)


def best(curve: pd.DataFrame) -> pd.Series:
    """The row at the peak of a curve, its interval as wide as for the highest of so many (Bonferroni)."""
    row = landmark("peak", curve).copy()
    wider = norm.isf(TAIL / len(curve)) / norm.isf(TAIL)
    for end in ("ci_low", "ci_high"):
        row[end] = row["value"] + wider * (row[end] - row["value"])
    return row


def redrawn(statistic: Callable[..., Any], *curves: pd.DataFrame) -> dict[str, float]:
    """A statistic of curves, `statistic(*[draws, layers]) -> [draws]`, with an interval from their own intervals.

    Each value is drawn anew from a normal distribution as wide as its interval, independently of all others; the
    interval reaches equally far to both sides, as far as 95% of the draws lie from the statistic of what was measured.
    """
    random = np.random.default_rng(0)
    values = [curve["value"].to_numpy(float) for curve in curves]
    errors = [np.nan_to_num((c["ci_high"] - c["ci_low"]).to_numpy(float)) / (2 * norm.isf(TAIL)) for c in curves]
    found = float(statistic(*(value[None] for value in values))[0])
    drawn = statistic(*(v + e * random.normal(size=(DRAWS, len(v))) for v, e in zip(values, errors, strict=True)))
    half = float(np.quantile(np.abs(drawn - found), 1 - 2 * TAIL))
    return dict(value=found, ci_low=found - half, ci_high=found + half)


def worst(parts: Sequence[Check]) -> Mark:
    """The outcome of several checks together."""
    order: tuple[Mark, ...] = ("fails", "open", "no number", "holds")
    return next(mark for mark in order if any(part.outcome == mark for part in parts))


def _check(what: str, row: Row, judge: Callable[..., Mark], expected: str, about: Mapping[str, Any]) -> Check:
    about = {"expected": expected, **about}
    about["n"] = _count(about.get("n", row if isinstance(row, (pd.Series, Mapping)) else None))
    if row is None:
        return Check(what=what, outcome="no number", **about)
    ends: dict[str, Any] = _ends(row)
    return Check(what=what, outcome=judge(*ends.values()), **ends, **about)


def _count(n: Row) -> int | None:
    """The n of a row, or the number itself where one is given as such."""
    n = n.get("n") if isinstance(n, (pd.Series, Mapping)) else n
    return None if n is None or pd.isna(n) else int(n)


def _ends(row: Row) -> dict[str, float]:
    row = row if isinstance(row, (pd.Series, Mapping)) else {"value": row}
    return {name: float(row.get(name, np.nan)) for name in NUMBER}


def _side(value: float, low: float, high: float, level: float) -> Mark:
    low, high = (value if np.isnan(end) else end for end in (low, high))
    return "holds" if low >= level else "fails" if high < level else "open"


def _gap(larger: Row, smaller: Row) -> Mark:
    gap = difference(larger, smaller)
    return _side(gap["value"], gap["ci_low"], gap["ci_high"], 0.0) if gap["value"] != 0 else "open"


def number(row: Row, digits: int = 2) -> str:
    """A row's value with its interval in brackets, "0.53 (0.48 to 0.58)"; empty without a number."""
    ends = _ends(vars(row) if isinstance(row, Check) else row)
    rounded = (f"{round(ends[name], digits) + 0.0:.{digits}f}" for name in NUMBER)  # no "-0.00"
    value, low, high = (text.replace("-", "\N{MINUS SIGN}") for text in rounded)
    return "" if value == "nan" else value if low == "nan" else f"{value} ({low} to {high})"


def place(row: pd.Series) -> str:
    """ "layer 10, depth 0.62" for a row of a curve."""
    return f"layer {layer_number(int(row['layer']))}, depth {row['depth']:.2f}"


class Evidence:
    """Rows of a run's tables by experiment name; whatever is not there raises NotTestable."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    @property
    def n_layers(self) -> int:
        """The number of layers of the model, by the first table that says it."""
        known = (table["n_layers"].max() for table in self.tables.values())
        found = next((number for number in known if pd.notna(number)), None)
        if found is None:
            raise NotTestable("no table with layers")
        return int(found)

    def layers(self, share: float) -> int:
        """How many layers a share of the depth is, at least one."""
        return max(1, round(self.n_layers * share))

    def parameters(self, *names: str) -> dict[str, str]:
        """Those of the named parameters of the run that its tables state, by the first that states any."""
        each = (table.attrs.get("provenance", {}).get("parameters") for table in self.tables.values())
        stated: Mapping[str, Any] = next(filter(None, each), {})
        return {name: str(stated[name]) for name in names if stated.get(name)}

    def has(self, experiment: str, **keys: Any) -> bool:
        """Whether such rows exist."""
        return experiment in self.tables and len(_places(self.tables[experiment], keys)) > 0

    def rows(self, experiment: str, **keys: Any) -> pd.DataFrame:
        """The rows whose columns have the given values (or one of a list), of the human readers only when asked for."""
        if experiment not in self.tables:
            raise NotMeasured(f"no {experiment} table")
        found = _rows(self.tables[experiment], keys)
        if found.empty:
            wanted = ", ".join(f"{key} {value}" for key, value in keys.items())
            about = self.tables[experiment].attrs.get("provenance")
            if about is None:  # the paper's
                raise NotMeasured(f"no value of {experiment} with {wanted}")
            why = about.get("left_out", "").rstrip(".")
            raise NotTestable(f"the {experiment} table has no row with {wanted}" + (f" ({why})" if why else ""))
        return found

    def one(self, experiment: str, **keys: Any) -> pd.Series | None:
        """The only such row, None where there is none. Raises ValueError where there are several."""
        if not self.has(experiment, **keys):
            return None
        found = self.rows(experiment, **keys)
        if len(found) > 1:
            raise ValueError(f"{len(found)} rows of {experiment} with {keys}: a check needs one, name more columns")
        return found.iloc[0]

    def curve(self, experiment: str, **keys: Any) -> pd.DataFrame:
        """One row a layer, indexed by layer and ordered. Raises ValueError where the keys leave several for a layer."""
        found = self.rows(experiment, **keys).dropna(subset="layer").sort_values("layer")
        if found["layer"].duplicated().any():
            raise ValueError(f"several rows of {experiment} for one layer with {keys}: name more columns")
        return found.set_index("layer", drop=False)

    def stream(self, experiment: str, **keys: Any) -> pd.DataFrame:
        """The curve of edits of the residual stream by the last layer they edit: a window does what that layer does.

        Of several windows with one last layer the shortest.
        """
        found = self.rows(experiment, component="resid_post", **keys).dropna(subset="layer")
        found = found.sort_values(["last_layer", "span"], kind="stable").drop_duplicates("last_layer")
        depth = ((found["last_layer"] + 1) / found["n_layers"]).astype(float)
        return found.assign(layer=found["last_layer"], depth=depth).set_index("layer", drop=False)


def beyond_text(found: Evidence, what: str, **keys: str) -> Check:
    """The check that the best probe of activations beats the best of the text alone, each chosen on other writers.

    `keys` name a target or an appraisal. Without it reading is not shown to be more than reading words.
    """
    return positive(what, found.one("wording", metric="best_difference", features="activations", **keys))


def _rows(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    return table.iloc[_places(table, keys)]


def _places(table: pd.DataFrame, keys: Mapping[str, Any]) -> np.ndarray:
    """Where in the table the rows are; each key looks at those alone that the keys before it left."""
    keep = np.arange(len(table))
    for name, value in keys.items():
        wanted = list(value) if isinstance(value, (list, tuple, set)) else [value]
        keep = keep[table[name].iloc[keep].isin(wanted).fillna(False).to_numpy(dtype=bool)]
    return keep if "model" in keys else keep[(table["model"].iloc[keep] != "human").to_numpy(dtype=bool)]


def landmark(name: landmarks.Landmark, curve: pd.DataFrame) -> pd.Series:
    """The row of a curve at a landmark that every curve has."""
    found = landmarks.row(name, curve)
    if found is None:
        raise NotTestable(f"the curve never reaches its {name}")
    return found

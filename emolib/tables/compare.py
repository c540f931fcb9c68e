"""Two tables of one experiment, by other code or on another machine: what differs by more than rounding?

The tolerance was chosen by measuring the quick run with one thread and with two, and with the instructions of older
processors (AVX2 instead of AVX-512). Most values then move by less than 1e-6, and what is continuous by at most 4e-5 of
itself (or of 1): ROUNDING. Where two answers are nearly tied, one text falls to the other side, and a share of n texts
moves by 1/n: such flips are counted and shown, never hidden. Between threads at most 1% of a metric's rows flipped,
between instructions 3%. Rows of the paper's own probe move more, because its solver stops before it has converged:
its weights by 0.015, their intervals by 0.06, and 17% of its shares of 26 held-out texts by one to three texts.
Other batches and other memory move nothing further; hash seeds, and what was resumed, move nothing, nor the order of
rows (`tests/study/test_tolerance.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emolib.tables import schemas
from emolib.tables.results import experiment_of

NUMBERS = ("value", "ci_low", "ci_high")
TEXTS = 4.0  # a flip moves a share by as many texts at most, but for FAR of a table's rows
FAR = 0.005
FEW = 3  # rows of a metric may always flip


@dataclass(frozen=True)
class Tolerance:
    """What is rounding in the NUMBERS (of each, or of 1 where it is smaller), and what share of a metric may flip."""

    numbers: tuple[float, float, float]
    share: float


EXACT = Tolerance((1e-4, 1e-4, 1e-4), 0.05)
UNCONVERGED = Tolerance((0.03, 0.1, 0.1), 0.25)
# The rows of the paper's own probe, by the column that says so.
PAPERS_PROBE = {
    "probing": ("setting", "as_released"),
    "geometry": ("vector", "probe"),
    "promotion": ("vector", "probe"),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of comparing two tables.

    `pairs` are the rows that both have: keys, the numbers of both (`value`, `value_new`), the `difference` of the
    values, also in texts (`by_texts`), how far the numbers `moved` in units of the tolerance, and among how many rows
    `of` the metric. `lost` and `added` have no partner, or one of another n.
    """

    experiment: str
    pairs: pd.DataFrame
    lost: pd.DataFrame
    added: pd.DataFrame

    @property
    def flips(self) -> pd.DataFrame:
        """The pairs that differ by more than rounding."""
        return self.pairs[self.pairs["moved"] > 1]

    def largest(self) -> str:
        """The largest difference of two values, and where it is, as text."""
        if self.pairs.empty:
            return "no pairs"
        pairs = self.pairs.sort_values("difference")
        return f"{pairs['difference'].iloc[-1]:.1e} ({_shown(pairs, self.experiment, -1)})"

    def failures(self) -> Iterator[str]:
        """What is more than rounding and a few flips, in words."""
        for rows, what in ((self.lost, "are no longer there"), (self.added, "are new")):
            if len(rows):
                yield f"{len(rows)} rows {what}, such as {_shown(rows, self.experiment)}"
        for (metric, unconverged), flipped in self.flips.groupby(["metric", "unconverged"]):
            of = flipped["of"].iloc[0]
            most = max(FEW, int((UNCONVERGED if unconverged else EXACT).share * of))
            if len(flipped) > most:
                worst = _shown(flipped.sort_values("moved"), self.experiment, -1)
                yield f"{metric}: {len(flipped)} of {of} rows differ ({most} may), most {worst}"
        far = self.flips[self.flips["by_texts"] > TEXTS]
        if len(far) > max(1, FAR * len(self.pairs)):
            yield f"{len(far)} rows moved by more than {TEXTS:g} texts, such as {_shown(far, self.experiment)}"

    def __str__(self) -> str:
        """One line: how many rows say the same, and what flipped."""
        flips = self.flips
        counts = flips["metric"].value_counts().to_dict()
        flipped = ", ".join(f"{metric} {count}" for metric, count in counts.items())
        most = f", by {flips['by_texts'].max():.1f} texts at most" if flips["by_texts"].notna().any() else ""
        tail = f" ({flipped}{most})" if flipped else ""
        return f"{self.experiment}: {len(self.pairs) - len(flips)} rows agree, {len(flips)} flipped{tail}"


def compare(old: pd.DataFrame, new: pd.DataFrame) -> Comparison:
    """The comparison of two tables of one experiment, rows joined by all columns that are keys."""
    experiment = experiment_of(old)
    keys = schemas.keys(experiment)
    both = old.merge(new, on=keys, how="outer", suffixes=("", "_new"), indicator="side")
    paired = (both["side"] == "both") & (both["n"].fillna(-1) == both["n_new"].fillna(-1))
    lost, added = (both[~paired & both["side"].isin(["both", side])] for side in ("left_only", "right_only"))
    both = both[paired].drop(columns="side")
    first, second = (both[[f"{name}{end}" for name in NUMBERS]].to_numpy(dtype=float) for end in ("", "_new"))
    column, word = PAPERS_PROBE.get(experiment, ("experiment", ""))
    unconverged = (both[column] == word).to_numpy(dtype=bool)
    tolerance = np.where(unconverged[:, None], UNCONVERGED.numbers, EXACT.numbers)
    moved = np.abs(first - second) / np.maximum(1.0, np.abs(first)) / tolerance
    moved[np.isnan(first) & np.isnan(second)] = 0.0
    moved = np.nan_to_num(moved, nan=np.inf).max(axis=1, initial=0.0)  # an interval on one side only is no rounding
    difference = (both["value"] - both["value_new"]).abs()
    both = both.assign(difference=difference, moved=moved, by_texts=difference * both["n"].astype(float))
    both["unconverged"] = unconverged
    both["of"] = both.groupby(["metric", "unconverged"])["metric"].transform("size")
    return Comparison(experiment=experiment, pairs=both, lost=lost, added=added)


def _shown(rows: pd.DataFrame, experiment: str, place: int = 0) -> str:
    """One of the rows as text: keys that are set, and what both tables say."""
    row = rows.iloc[place]
    names = [name for name in schemas.keys(experiment) if name not in ("experiment", "model", "prompt", "seed")]
    given = {name: row[name] for name in names if not (pd.isna(row[name]) or row[name] == "")}
    return f"{', '.join(f'{name} {value}' for name, value in given.items())}: {row['value']:g} and {row['value_new']:g}"

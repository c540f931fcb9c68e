"""What a verdict is made of: checks with three outcomes, evidence taken from stored tables, a register of the claims.

A check *holds* when its number, with its whole 95 % interval where there is one, is on the claim's side; it is *open*
when only the number is; otherwise it *fails*. Where a table has no number for a check, as the paper for some controls,
the check is named and does not count. The first check of a claim is its core. A claim is reproduced when all
checks hold, not reproduced when the core fails, and partly reproduced in all other cases. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from emolib.engine.sites import layer_number

Outcome = Literal["reproduced", "partly", "not", "not testable"]
Tables = Mapping[str, pd.DataFrame]
MARK = {True: "holds", None: "open", False: "fails"}
MIDDLE = (0.40, 0.70)  # what this book calls the middle of a network, as a fraction of depth


class NotTestable(Exception):
    """A table or row that a claim needs is not there; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number against one expectation: `text` names both, `holds` is None where the interval leaves it open.

    A check that is not `stored` has no number in these tables: it is named, and does not count.
    """

    text: str
    holds: bool | None
    n: int | None = None
    stored: bool = True

    @property
    def mark(self) -> str:
        """What became of it, in a word."""
        return MARK[self.holds] if self.stored else "no number"


def absent(text: str) -> Check:
    """The check of something that these tables do not have."""
    return Check(text=text, holds=None, stored=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one claim for one run, with the numbers that decide; `n` is the smallest number behind them."""

    claim: str
    outcome: Outcome
    numbers: str
    n: int | None = None


Test = Callable[["Evidence"], Sequence[Check]]
TESTS: dict[str, Test] = {}


def claim(name: str) -> Callable[[Test], Test]:
    """Return the decorator that registers a function from evidence to checks as the test of the claim."""

    def register(test: Test) -> Test:
        TESTS[name] = test
        return test

    return register


def judge(checks: Sequence[Check]) -> Outcome:
    """Return the outcome of a claim from its checks, the core first.

    Checks without a number do not count. Raises ValueError when none is left.
    """
    counted = [check for check in checks if check.stored]
    if not counted:
        raise ValueError("a claim needs at least one check: its core")
    if all(check.holds for check in counted):
        return "reproduced"
    return "not" if counted[0].holds is False else "partly"


def evaluate(name: str, tables: Tables) -> Verdict:
    """Return the verdict on a claim from a run's tables; "not testable" with the reason where something is missing."""
    try:
        checks = TESTS[name](Evidence(tables))
    except NotTestable as missing:
        return Verdict(claim=name, outcome="not testable", numbers=str(missing))
    numbers = "; ".join(f"{check.text} [{check.mark}]" for check in checks)
    counted = [check.n for check in checks if check.n is not None]
    return Verdict(claim=name, outcome=judge(checks), numbers=numbers, n=min(counted, default=None))


class Evidence:
    """Rows of a run's tables by experiment name; whatever is not there raises NotTestable."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    @property
    def n_layers(self) -> int:
        """The number of layers: the deepest layer that any table of the run measured."""
        deepest = [table["layer"].max() for table in self.tables.values() if table["layer"].notna().any()]
        if not deepest:
            raise NotTestable("no table with layers")
        return int(max(deepest)) + 1

    def has(self, experiment: str, **keys: Any) -> bool:
        """Return whether such rows exist."""
        return experiment in self.tables and len(_rows(self.tables[experiment], keys)) > 0

    def rows(self, experiment: str, **keys: Any) -> pd.DataFrame:
        """Return the rows whose columns have the given values (or one of a list); readers' rows only when asked for.

        A `condition` is matched as a set of its `;`-joined pairs, in any order and with others beside them.
        """
        if experiment not in self.tables:
            raise NotTestable(f"no {experiment} table")
        found = _rows(self.tables[experiment], keys)
        if found.empty:
            wanted = ", ".join(f"{key} {value}" for key, value in keys.items())
            raise NotTestable(f"the {experiment} table has no row with {wanted}")
        return found.assign(depth=depth(found["layer"], self.n_layers)) if found["layer"].notna().any() else found

    def curve(self, experiment: str, **keys: Any) -> pd.DataFrame:
        """Return one row a layer, indexed by layer and ordered; where spans or positions repeat a layer, the first."""
        found = self.rows(experiment, **keys).sort_values(["layer", "span"], kind="stable", na_position="first")
        return found.drop_duplicates("layer").set_index("layer")


def _rows(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    keep = np.ones(len(table), dtype=bool) if "model" in keys else (table["model"] != "human").to_numpy()
    for name, value in keys.items():
        if name == "condition":
            wanted = {pair for pair in str(value).split(";") if pair}
            hit = table["condition"].map(lambda text, wanted=wanted: wanted <= set(text.split(";")))
        elif isinstance(value, (list, tuple, set)):
            hit = table[name].isin(value)
        else:
            hit = table[name] == value
        keep = keep & hit.fillna(False).to_numpy(dtype=bool)
    return table[keep]


def depth(layers: pd.Series, n_layers: int) -> pd.Series:
    """Return 1-based layer / number of layers, 0 to 1."""
    return (layers.astype(float) + 1) / n_layers


def at_least(row: Any, level: float) -> bool | None:
    """Return whether a row's value is at least the level: None where its interval leaves that open."""
    return _side(row["value"], row.get("ci_low", np.nan), level)


def at_most(row: Any, level: float) -> bool | None:
    """Return whether a row's value is at most the level: None where its interval leaves that open."""
    return _side(-row["value"], -row.get("ci_high", np.nan), -level)


def inside(row: Any, band: tuple[float, float]) -> bool | None:
    """Return whether a row's value lies in the band: None where its interval sticks out."""
    ends = at_least(row, band[0]), at_most(row, band[1])
    return False if False in ends else None if None in ends else True


def above(first: Any, second: Any) -> bool | None:
    """Return whether the first row's value exceeds the second's: None where their intervals, taken as independent,
    leave that open."""
    gap = first["value"] - second["value"]
    below = first["value"] - first.get("ci_low", np.nan), second.get("ci_high", np.nan) - second["value"]
    return _side(gap, gap - np.hypot(*np.nan_to_num(below)), 0.0) if gap != 0 else False


def _side(value: float, end: float, level: float) -> bool | None:
    if value < level:
        return False
    return True if np.isnan(end) or end >= level else None


def number(row: Any, digits: int = 2) -> str:
    """Return a row's value with its interval, ".53 (.48 to .58)" style with leading zeros."""
    text = f"{row['value']:.{digits}f}"
    if np.isnan(row.get("ci_low", np.nan)):
        return text
    return f"{text} ({row['ci_low']:.{digits}f} to {row['ci_high']:.{digits}f})"


def count(row: Any) -> int | None:
    """Return a row's n, None where it is unknown."""
    return None if pd.isna(row.get("n")) else int(row["n"])


def place(curve: pd.DataFrame, layer: int) -> str:
    """Return "layer 10, depth 0.62" for a layer of a curve."""
    return f"layer {layer_number(layer)}, depth {curve.loc[layer, 'depth']:.2f}"

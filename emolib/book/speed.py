"""What `make bench` measured, as the tables and the figure of the chapter on speed. Loads no model library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from emolib.figures.palette import CYCLE, INK
from emolib.figures.panels import label_axes, panels, styled

Bench = Mapping[str, Any]  # the records of `make bench` by name, all PARTS of them
PARTS = ("editing", "reading", "probing", "overhead", "machine", "growth")
QUANTITIES = {
    "texts": "texts",
    "length": "tokens a text",
    "edits": "edits a text",
    "layers": "layers",
    "width": "width",
}
MEASURES = {"time": "seconds", "memory": "memory_mb"}


def bench(root: str | Path = ".") -> dict[str, Any]:
    """The stored records by name; those that were not measured are missing."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((Path(root) / "results/bench").glob("*.json"))}


def ratios(found: Bench) -> pd.DataFrame:
    """Each goal, set before measuring, beside what was measured.

    Columns: figure, unit ("times" faster than the plain way, or "%"), goal, value (the median), ci_low and ci_high (the
    range over rounds), reached.
    """
    probing = [found["probing"][name] for name in ("few", "many")]
    cases = [
        ("editing, 90 edits a text", "times", 60, found["editing"]["edits_90"]["ratio"]),
        ("editing, 360 edits a text", "times", 100, found["editing"]["edits_360"]["ratio"]),
        ("reading", "times", 4, found["reading"]["ratio"]),
        *((f"probing, {record['rows']:,} rows", "times", 10, record["ratio"]) for record in probing),
        ("nnsight, at most", "%", 15, found["overhead"]["percent"]),
        ("replay, share of the machine's rate", "%", 40, found["machine"]["replay_percent"]),
    ]
    table = ranged({figure: spread for figure, _, _, spread in cases}).assign(
        unit=[unit for _, unit, _, _ in cases], goal=[goal for _, _, goal, _ in cases]
    )
    most = table["figure"].str.endswith("at most")
    reached = (table["value"] <= table["goal"]).where(most, table["value"] >= table["goal"])
    return table.assign(reached=reached.map({True: "yes", False: "no"}))


def ranged(spreads: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Medians and ranges over rounds as rows of a figure: figure, value, ci_low, ci_high."""
    table = pd.DataFrame(spreads).T[["median", "min", "max"]].set_axis(["value", "ci_low", "ci_high"], axis=1)
    return table.astype(float).rename_axis("figure").reset_index()


def rates(machine: Mapping[str, Any]) -> pd.DataFrame:
    """GFLOP/s of the linear layers by rows multiplied at once, of replay and of encode, as rows of a figure."""
    found = {f"{int(n):,} rows": rate for n, rate in machine["linear_rate"].items()}
    table = ranged(found | {name: machine[name] for name in ("replay", "encode")})
    table[["value", "ci_low", "ci_high"]] /= 1e9
    return table


def points(found: Bench, quantity: str) -> pd.DataFrame:
    """Seconds and memory where one quantity was varied: quantity, value, seconds, memory_mb."""
    table = pd.DataFrame(found["growth"]["points"])
    return table[table["quantity"] == quantity]


@styled
def growth(found: Bench) -> Figure:
    """Time and memory relative to the smallest value of each quantity, a panel each, both axes logarithmic."""
    fig, axes = panels(len(QUANTITIES), height=1.9, below=0.5)
    for ax, (quantity, title) in zip(axes, QUANTITIES.items(), strict=True):
        part = points(found, quantity)[["value", *MEASURES.values()]]
        part /= part.iloc[0].clip(lower=1e-3)
        for (label, what), marker, colour in zip(MEASURES.items(), "os", CYCLE, strict=False):
            ax.loglog(part["value"], part[what], marker, ls="-", c=colour, label=label)
        ax.loglog([1, 100], [1, 100], color=INK, linewidth=1, linestyle=(0, (1, 3)), label="in proportion")
        ax.set(title=title)
    label_axes(axes, "times the smallest", "times the first")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def exponents(found: Bench) -> pd.DataFrame:
    """The slopes in the double-logarithmic plot with their intervals, as text, a row a quantity."""
    stored = pd.DataFrame(found["growth"]["exponents"]).T.loc[list(QUANTITIES), list(MEASURES.values())]
    heads = [f"exponent of {name}, 95% interval" for name in MEASURES]
    return stored.map(lambda one: "{value:.2f} ({ci_low:.2f} to {ci_high:.2f})".format(**one)).set_axis(heads, axis=1)

"""What `make bench` measured, as the tables and the figure of the chapter on speed. Loads no model library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emolib.figures.palette import CYCLE, INK
from emolib.figures.panels import label_axes, panels, styled
from emolib.tables import schemas

Bench = Mapping[str, Any]  # records of `make bench` by name
PARTS = ("editing", "reading", "probing", "overhead", "machine", "growth")
QUANTITIES = {
    "texts": "texts",
    "length": "tokens a text",
    "edits": "edits a text",
    "layers": "layers",
    "width": "width",
}
MEASURES = {"time": ("seconds", "o"), "memory beyond the model": ("memory_mb", "s")}
# Metrics of which every row is the outcome of a pass of its own, and the columns that do not tell passes apart.
OUTCOMES = ("agreement", "transfer", "recovery", "promotion_score", "total_variation")
ONE_PASS = ("experiment", "model", "metric", "label", "answer", "prompt")


def bench(root: str | Path = ".") -> dict[str, Any]:
    """The stored records by name; those that were not measured are missing."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((Path(root) / "results/bench").glob("*.json"))}


def ratios(found: Bench) -> pd.DataFrame:
    """Each goal, set before measuring, beside what was measured.

    Columns: figure, unit ("times" faster than the plain way, or "%"), goal, median, min and max over rounds, reached.
    """
    cases: list[tuple[str, str, int, int, Mapping[str, float]]] = []
    if "editing" in found:
        for edits, goal in ((90, 60), (360, 100)):
            ratio = found["editing"][f"edits_{edits}"]["ratio"]
            cases.append((f"editing, {edits} edits a text", "times", goal, 1, ratio))
    if "reading" in found:
        cases.append(("reading", "times", 4, 1, found["reading"]["ratio"]))
    cases += [(f"probing, {record['rows']:,} rows", "times", 10, 1, record["ratio"]) for record in probing(found)]
    if "overhead" in found:
        cases.append(("nnsight, at most", "%", 15, -1, found["overhead"]["percent"]))
    if "machine" in found:
        cases.append(("replay, share of the machine's rate", "%", 40, 1, found["machine"]["replay_percent"]))
    rows = [
        dict(figure=figure, unit=unit, goal=goal, reached="yes" if sign * (ratio["median"] - goal) >= 0 else "no")
        | {name: ratio[name] for name in ("median", "min", "max")}
        for figure, unit, goal, sign, ratio in cases
    ]
    return pd.DataFrame(rows, columns=["figure", "unit", "goal", "median", "min", "max", "reached"])


def times_faster(table: pd.DataFrame) -> pd.DataFrame:
    """The ratios of `ratios`, and their goals, as rows of a figure: figure, kind, value, ci_low, ci_high."""
    faster = ranged(table[table["unit"] == "times"], "measured, range over rounds")
    goal = faster.assign(value=faster["goal"].astype(float), ci_low=np.nan, ci_high=np.nan, kind="goal")
    return pd.concat([faster, goal])


def rates(machine: Mapping[str, Any]) -> pd.DataFrame:
    """GFLOP/s of the linear layers by rows multiplied at once, of replay and of encode, as rows of a figure."""
    found = {f"{int(n):,} rows": rate for n, rate in machine["linear_rate"].items()}
    found |= {"replay": machine["replay"], "encode": machine["encode"]}
    table = pd.DataFrame(found).T.rename_axis("what").reset_index()
    table[["median", "min", "max"]] /= 1e9
    return ranged(table, "median, range over rounds")


def ranged(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Median, least and greatest as value and interval."""
    return table.rename(columns={"median": "value", "min": "ci_low", "max": "ci_high"}).assign(kind=kind)


def probing(found: Bench) -> list[Mapping[str, Any]]:
    """The records of probing, on few rows and on many."""
    return [found["probing"][name] for name in ("few", "many") if "probing" in found]


def probe_speedups(record: Mapping[str, Any]) -> dict[str, float]:
    """How many times faster than scikit-learn's the label probes and the rating probes of a record are."""
    seconds = {
        side: {what: sum(part[what] for part in record["parts"][side]) for what in ("labels", "ratings")}
        for side in ("plain", "ours")
    }
    return {what: seconds["plain"][what] / seconds["ours"][what] for what in ("labels", "ratings")}


def points(found: Bench, quantity: str) -> pd.DataFrame:
    """Seconds and memory where one quantity was varied: quantity, value, seconds, memory_mb; empty if not measured."""
    table = pd.DataFrame(
        found.get("growth", {}).get("points", []), columns=["quantity", "value", "seconds", "memory_mb"]
    )
    return table[table["quantity"] == quantity]


@styled
def growth(found: Bench) -> Figure:
    """Time and memory relative to the smallest value of each quantity, a panel each, both axes logarithmic."""
    fig, axes = panels(len(QUANTITIES), height=1.9, below=0.5)
    for ax, (quantity, title) in zip(axes, QUANTITIES.items(), strict=True):
        part = points(found, quantity)
        for (label, (what, marker)), colour in zip(MEASURES.items(), CYCLE, strict=False):
            if len(part):
                first = part.iloc[0][["value", what]].clip(lower=1e-3)
                ax.loglog(
                    part["value"] / first["value"], part[what] / first[what], marker, ls="-", c=colour, label=label
                )
        ax.loglog([1, 100], [1, 100], color=INK, linewidth=1, linestyle=(0, (1, 3)), label="in proportion")
        ax.set(title=title)
    label_axes(axes, "times the smallest", "times the first")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def exponents(found: Bench) -> pd.DataFrame:
    """The slopes in the double-logarithmic plot with their intervals, as text, a row a quantity."""
    form, stored = "{value:.2f} ({ci_low:.2f} to {ci_high:.2f})", found.get("growth", {}).get("exponents", {})
    heads = {f"exponent of {name}, 95 % interval": key for name, key in (("time", "seconds"), ("memory", "memory_mb"))}
    cells = {
        quantity: {head: form.format(**stored[quantity][key]) for head, key in heads.items()}
        for quantity in QUANTITIES
        if quantity in stored
    }
    return pd.DataFrame(cells).T


def costs(tables: Mapping[str, pd.DataFrame], found: Bench) -> pd.DataFrame:
    """Hours of a run's experiments, and what the plain way would take for the passes behind their rows.

    Columns: experiment, measured (hours), passes, plain (hours, estimated; missing where editing was not measured).
    """
    rows = []
    for name, table in tables.items():
        keys = [key for key in schemas.keys(name) if key not in ONE_PASS]
        edited = table[table["metric"].isin(OUTCOMES)].drop_duplicates(keys)["n"].fillna(0).sum()
        passes = int(table["n"].max() if name == "behaviour" else edited)
        rows.append(dict(experiment=name, measured=table.attrs["provenance"]["seconds"] / 3600, passes=passes))
    costs = pd.DataFrame(rows, columns=["experiment", "measured", "passes"])
    seconds = found["editing"]["edits_90"]["plain"]["median"] if "editing" in found else np.nan
    return costs.assign(plain=costs["passes"] * longer(found) * seconds / 3600)


def longer(found: Bench) -> float:
    """How many times as long as here the prompts of the reference run are; 1 where that is not known."""
    known = found.get("editing", {}).get("reference_tokens")
    return known["padded"] / found["editing"]["edits_90"]["tokens"]["padded"] if known else 1.0


def provenance(found: Bench) -> Mapping[str, Any] | None:
    """The provenance of the record that took longest, None without any."""
    abouts = [record["provenance"] for record in found.values()]
    return max(abouts, key=lambda about: about["seconds"], default=None)

"""Figures of outcomes that exclude one another, such as transferred, neither, kept, stacked over layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from emolib.figures.palette import INK
from emolib.figures.panels import (
    LINES,
    check_rows,
    label_axes,
    legend_below,
    names_of,
    panels,
    readable,
    rows_where,
    stack,
    styled,
    with_depth,
)
from emolib.tables.paper import DETAILED

# Bottom to top: what moved to the source, what broke, what stayed. Neither components nor emotions use these colours.
OUTCOMES = {"transfer": ("transferred", "#7331a0"), "neither": ("neither", "#cc79a7"), "kept": ("kept", "#c9ced3")}


@styled
def outcome_stacks(
    ours: pd.DataFrame,
    *,
    panel: str = "component",
    paper: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
) -> Figure:
    """Return the shares of the metrics transfer, neither and kept over depth, stacked, a panel per value of `panel`.

    The 95 % intervals of transfer (from below) and kept (from above) are shaded around the edges of `neither`. The
    paper's edges are dashed and a reference run's dotted, as far as they have these metrics. Raises ValueError for two
    rows at one point and for shares that do not add up to 1.
    """
    given = {"ours": ours, "paper": paper, "reference": reference}
    frames = {key: with_depth(frame, key) for key, frame in given.items() if frame is not None}
    for key, frame in frames.items():
        check_rows(frame, [panel, "metric", "layer"], key)
    names = names_of({"ours": ours}, panel)
    fig, axes = panels(len(names), height=2.2 if len(names) > 1 else 3.0)
    for name, ax in zip(names, axes, strict=True):
        _stack(ax, rows_where(frames["ours"], panel, name), name)
        for key in ("paper", "reference"):
            if key in frames:
                _edges(ax, rows_where(frames[key], panel, name), key)
        ax.set(title=readable(name, panel), xlim=(0, ax.get_xlim()[1]))
        ax.xaxis.set_major_locator(MaxNLocator(4))
    label_axes(axes, "depth", "share of pairs")
    words = {"paper": f"paper ({DETAILED.name})", "reference": "reference run"}
    handles: list[Artist] = [Patch(color=colour, label=word) for word, colour in OUTCOMES.values()]
    handles += [Line2D([], [], color=INK, linestyle=LINES[key], label=words[key]) for key in words if key in frames]
    legend_below(fig, handles, most=3)
    return fig


def _stack(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    table = rows.pivot(index="depth", columns="metric", values=["value", "ci_low", "ci_high"]).sort_index()
    shares = table["value"].reindex(columns=list(OUTCOMES))
    if not np.allclose(shares.sum(axis=1, skipna=False), 1, atol=1e-6):
        raise ValueError(f"{name}: transfer, neither and kept do not add up to 1 at every layer: select all three")
    width = 1 / rows["n_layers"].iloc[0]
    stack(ax, table.index.to_numpy(), shares.to_numpy(), (colour for _, colour in OUTCOMES.values()), width=width)
    place = np.stack([table.index - width / 2, table.index + width / 2], axis=1).ravel()
    for metric in ("transfer", "kept"):
        ends = [np.repeat(table[end, metric].to_numpy(dtype=float), 2) for end in ("ci_low", "ci_high")]
        low, high = ends if metric == "transfer" else (1 - ends[1], 1 - ends[0])
        ax.fill_between(place, low, high, color=INK, alpha=0.2, linewidth=0)


def _edges(ax: Axes, rows: pd.DataFrame, source: str) -> None:
    for metric in ("transfer", "kept"):
        edge = rows[rows["metric"] == metric].sort_values("depth")
        height = edge["value"] if metric == "transfer" else 1 - edge["value"]
        ax.plot(edge["depth"], height, color=INK, linestyle=LINES[source], linewidth=1.3, alpha=0.9, clip_on=False)

"""Figures over layers: curves with their bands, and heat maps of sites.

Rows are selected before they come here: a point that two rows claim is an error, not an average. Ours is solid with its
95% interval, the paper dashed, a reference run dotted. Layers are counted from 1 on axes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from emolib.engine.sites import layer_number
from emolib.figures.palette import INK, palette
from emolib.figures.panels import (
    COLUMNS,
    LINES,
    OURS,
    WIDTH,
    Look,
    bare,
    check_rows,
    depth_axis,
    has_interval,
    label_axes,
    legend,
    names_of,
    panels,
    placed,
    readable,
    rows_where,
    styled,
    two_sources,
)

DEPTH = "depth (layer / number of layers)"


@styled
def depth_curves(
    ours: pd.DataFrame,
    *,
    ylabel: str,
    hue: str = "component",
    panel: str | None = None,
    paper: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
    twin: pd.DataFrame | None = None,
    x: Literal["layer", "depth"] | None = None,
    lines: Mapping[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
    colours: Sequence[str] = (),
) -> Figure:
    """Return `value` over layers, a curve per `hue` with its 95% band, a panel per value of `panel`.

    `x=None` counts layers when all curves come from models of one depth, and otherwise plots the fraction of depth.
    `twin` has the rows of untrained twins, column `twin`, or none: their mean, with a band from the lowest interval to
    the highest. `lines` are named levels, such as {"chance": 1 / 13}; a curve of ours that is level has no markers.
    `colours`, one a curve, are for what must not be taken for the components of a figure beside it. Raises ValueError
    for a missing layer, two rows for one point, too few colours, or curves of several models whose `n_layers` is not
    known.
    """
    beside = None if twin is None or twin.empty else twin
    frames = placed(ours=ours, paper=paper, reference=reference, twin=beside)
    axis = x or depth_axis(frames)
    usual, names = palette(names_of(frames, hue)), names_of(frames, panel)
    if colours:
        usual = {name: (own, usual[name][1]) for name, own in zip(usual, colours, strict=True)}
    look = _unmarked(usual, frames["ours"], hue, panel)
    across = 2 if len(names) == 4 else COLUMNS
    fig, axes = panels(len(names), height=2.2 if len(names) > 1 else 3.0, columns=across)
    for name, ax in zip(names, axes, strict=True):
        for key in ("paper", "twin", "reference", "ours"):
            if key in frames:
                _curves(ax, rows_where(frames[key], panel, name), hue, look, axis, key, ylim or (-np.inf, np.inf))
        ax.set(
            title=textwrap.fill(readable(name, panel or ""), 72 // across), **({} if ylim is None else {"ylim": ylim})
        )
        for level in (lines or {}).values():
            ax.axhline(level, color=INK, linewidth=1, linestyle=(0, (1, 3)))
        if axis == "layer":
            ax.set_xticks(layer_ticks(max(map(_depth, frames.values())), 8 if len(names) == 1 else 4))
        else:  # beside one another short enough that they do not run together
            apart = MaxNLocator(8) if len(names) == 1 else MaxNLocator(4, steps=[1, 2, 5, 10])
            ax.xaxis.set_major_locator(apart)
    label_axes(axes, "layer" if axis == "layer" else "depth" if len(names) > 1 else DEPTH, ylabel)
    legend(fig, look, hue, frames, lines or {}, ours="this book" if panel == "run" else OURS)
    return fig


@styled
def site_heatmap(
    ours: pd.DataFrame,
    *,
    label: str,
    rows: str = "position",
    panel: str = "component",
    paper: pd.DataFrame | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    centre: float | None = None,
) -> Figure:
    """Return `value` as colour over layers and `rows` (position, prompt, ...), a panel per component.

    The paper's panels stand under ours. `centre` makes the colours diverge from that value. The panels of a model show
    all of its layers, so that equal layers stand above one another; cells without a row are grey. Raises ValueError for
    two rows in one cell or a value outside `limits`.
    """
    frames = two_sources(ours, paper, [panel, rows, "layer"])
    for what, frame in frames.items():
        if not frame["value"].between(*limits).all():
            raise ValueError(f"{what}: values run from {frame['value'].min()} to {frame['value'].max()}: widen limits")
    names, marks = names_of(frames, panel), names_of(frames, rows)
    across = min(len(names), COLUMNS)
    down = -(-len(names) // across)
    fig = Figure(figsize=(WIDTH, (0.26 * len(marks) + 0.75) * len(frames) * down + 0.75))
    grid = fig.subplots(down * len(frames), across, sharey=True, squeeze=False)
    colours = "viridis" if centre is None else "RdBu_r"
    norm = Normalize(*limits) if centre is None else TwoSlopeNorm(centre, *limits)
    for i, (what, frame) in enumerate(frames.items()):
        block = grid[i * down : (i + 1) * down]
        for ax in block.ravel()[len(names) :]:
            ax.set_axis_off()
        for name, ax in zip(names, block.ravel(), strict=False):
            image = _heat(ax, rows_where(frame, panel, name), _depth(frame), rows, marks, norm, colours)
            ax.set(title=readable(name, panel), xlabel="layer")
        for ax in block[:, 0]:
            ax.set_ylabel(what if len(frames) > 1 else {"label": "emotion"}.get(rows, rows))
    ticks = MaxNLocator(4, steps=[1, 2.5, 5, 10])
    bar = fig.colorbar(image, ax=grid, location="bottom", label=label, aspect=45, shrink=0.7, ticks=ticks)
    bar.outline.set_visible(False)
    return fig


def _unmarked(look: Look, ours: pd.DataFrame, hue: str, panel: str | None) -> Look:
    """The look without the markers of curves that are level in every panel: they were not measured layer by layer."""
    values = ours.groupby([ours[hue].astype(str), *([ours[panel]] if panel else [])])["value"]
    level = ((values.nunique() == 1) & (values.size() > 1)).groupby(level=0).all()
    return {name: (colour, "" if level.get(name, False) else mark) for name, (colour, mark) in look.items()}


def layer_ticks(n_layers: int, most: int) -> list[int]:
    """Return the numbers that an axis of layers shows: the first, the last, and at most about `most` round ones."""
    first, last = layer_number(0), layer_number(n_layers - 1)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if n_layers <= step * most or step == 100)
    between = [tick for tick in range(step, last, step) if first + step / 2 < tick <= last - step / 2]
    return sorted({first, *between, last})


def _curves(
    ax: Axes, rows: pd.DataFrame, hue: str, look: Look, axis: str, source: str, limits: tuple[float, float]
) -> None:
    if rows.empty:
        return
    check_rows(rows, [hue, "layer", *(["twin"] if source == "twin" else [])], source)
    column = "number" if axis == "layer" else "depth"
    behind = source != "ours"
    for name, (colour, marker) in look.items():
        curve = rows_where(rows, hue, name).sort_values("layer")
        if source == "twin":
            ends = dict(value=("value", "mean"), ci_low=("ci_low", "min"), ci_high=("ci_high", "max"))
            curve = curve.groupby(["number", "depth"], as_index=False).agg(**ends)
        place, value = curve[column].to_numpy(dtype=float), curve["value"].to_numpy()
        if source in ("ours", "twin") and has_interval(curve):
            low, high = (curve[end].to_numpy(dtype=float) for end in ("ci_low", "ci_high"))
            ax.fill_between(place, low, high, color=colour, alpha=0.2 if source == "ours" else 0.1, linewidth=0)
        every = max(1, len(place) // 12)
        kind = {"linewidth": 1.3, "alpha": 0.85} if behind else {"marker": marker, "markevery": every}
        line = ax.plot(place, value, color=colour, linestyle=LINES[source], zorder=2 if behind else 3, **kind)[0]
        # markers at the limits show in full, but what leaves the panel is cut; outside the layout, because shared axes
        # find their limits after it
        line.set(clip_on=bool(((value < limits[0]) | (value > limits[1])).any()), in_layout=False)


def _depth(frame: pd.DataFrame) -> int:
    """The number of layers of a frame's model, or as many as it has rows of, where that is unknown."""
    known = frame["n_layers"].dropna() if "n_layers" in frame else frame["layer"][:0]
    return int(known.max()) if len(known) else int(frame["layer"].max()) + 1


def _heat(
    ax: Axes, rows: pd.DataFrame, n_layers: int, key: str, marks: list[str], norm: Normalize, colours: str
) -> AxesImage:
    table = np.full((len(marks), n_layers), np.nan)
    table[[marks.index(str(mark)) for mark in rows[key]], rows["layer"].astype(int)] = rows["value"]
    extent = (layer_number(0) - 0.5, layer_number(n_layers - 1) + 0.5, len(marks) - 0.5, -0.5)
    ax.patch.set(facecolor=INK, alpha=0.15)
    image = ax.imshow(table, norm=norm, cmap=colours, extent=extent, aspect="auto", interpolation="none")
    ax.set_yticks(np.arange(len(marks)), [readable(mark, key) for mark in marks])
    ax.set_xticks(layer_ticks(n_layers, 5))
    bare(ax)
    return image

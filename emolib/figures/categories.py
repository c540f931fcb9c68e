"""Figures of measurements side by side: points or bars with intervals, and a measurement against its null.

Part of `emolib.figures`, which offers these functions too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from emolib.figures.palette import GREY, INK, PRIMARY, palette
from emolib.figures.panels import (
    OURS,
    WIDTH,
    check_rows,
    has_interval,
    names_of,
    readable,
    rows_where,
    styled,
    two_sources,
)
from emolib.tables.paper import DETAILED


@styled
def interval_points(
    ours: pd.DataFrame,
    *,
    xlabel: str,
    by: str = "model",
    hue: str | None = None,
    paper: pd.DataFrame | None = None,
    lines: Mapping[str, float] | None = None,
    xlim: tuple[float, float] | None = None,
    paper_model: str = "",
) -> Figure:
    """Return a point with its 95 % interval per value of `by` (top to bottom) and `hue`; the paper's is a diamond.

    `lines` are named vertical lines, for example {"chance": 1 / 13, "human readers": 0.55}.
    """
    return _side_by_side(ours, paper, by, hue, "points", xlabel, lines, xlim, paper_model)


@styled
def grouped_bars(
    ours: pd.DataFrame,
    *,
    xlabel: str,
    by: str = "label",
    hue: str | None = "component",
    paper: pd.DataFrame | None = None,
    lines: Mapping[str, float] | None = None,
    xlim: tuple[float, float] | None = None,
    paper_model: str = DETAILED.name,
) -> Figure:
    """Return horizontal bars with 95 % intervals, a group per value of `by`, a bar per `hue`; the paper's is a diamond.

    Bars start at 0, so they suit shares, counts and signed effects; for other scales use `interval_points`.
    """
    return _side_by_side(ours, paper, by, hue, "bars", xlabel, lines, xlim, paper_model)


@styled
def against_null(
    ours: pd.DataFrame, null: pd.DataFrame, *, xlabel: str, by: str = "condition", null_name: str = "random directions"
) -> Figure:
    """Return, per value of `by`, the measurement with its interval over the null's draws (one row a seed)."""
    check_rows(ours, [by], "ours")
    check_rows(null, [by, "seed"], "null")
    names = names_of({"ours": ours}, by)
    fig = Figure(figsize=(WIDTH, 0.36 * len(names) + 1.35))
    ax = fig.subplots()
    for y, name in enumerate(names):
        draws = np.sort(rows_where(null, by, name)["value"].to_numpy())
        # spread by rank, not at random, so that the same results give the same picture
        ax.plot(draws, y + 0.28 * np.sin(np.arange(len(draws)) * 2.4), ".", color=GREY, alpha=0.6, markersize=4)
        _points(ax, rows_where(ours, by, name), [y], PRIMARY, "o")
    ax.set_yticks(range(len(names)), [readable(name) for name in names])
    ax.set(xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    handles = [Line2D([], [], color=PRIMARY, marker="o", label="this run, 95 % interval")]
    handles.append(Line2D([], [], color=GREY, marker=".", linestyle="", label=null_name))
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def _side_by_side(
    ours: pd.DataFrame,
    paper: pd.DataFrame | None,
    by: str,
    hue: str | None,
    kind: Literal["points", "bars"],
    xlabel: str,
    lines: Mapping[str, float] | None,
    xlim: tuple[float, float] | None,
    paper_model: str,
) -> Figure:
    frames = two_sources(ours, paper, [by] if hue is None else [by, hue], paper_model)
    names, look = names_of(frames, by), palette(names_of(frames, hue))
    step = 0.8 / len(look)
    tall = (0.17 * len(look) + 0.18) * len(names)
    fig = Figure(figsize=(WIDTH, tall + 1.3))
    ax = fig.subplots()
    for k, (shade, (colour, marker)) in enumerate(look.items()):
        shift = (k + 0.5) * step - 0.4
        for what, frame in frames.items():
            rows = rows_where(frame, hue, shade)
            places = np.array([names.index(str(name)) for name in rows[by]]) + shift
            if what != OURS:
                ax.plot(rows["value"], places, "D", color=INK, markerfacecolor="none", markersize=5.5, zorder=4)
            elif kind == "bars":
                ax.barh(places, rows["value"], height=0.9 * step, color=colour)
                _points(ax, rows, places, INK, "none")
            else:
                _points(ax, rows, places, colour, marker)
    ax.set_yticks(range(len(names)), [readable(name, by) for name in names])
    ax.set(xlabel=xlabel, xlim=xlim, ylim=(len(names) - 0.4, -0.6))
    ax.grid(visible=False, axis="y")
    names_shown = {name: readable(name, hue or "") or f"{OURS}, 95 % interval" for name in look}
    handles = [_key(kind, colour, marker, names_shown[name]) for name, (colour, marker) in look.items()]
    if paper is not None:
        label = list(frames)[-1]
        handles.append(Line2D([], [], color=INK, marker="D", markerfacecolor="none", linestyle="", label=label))
    handles += _lines(ax, lines or {})
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3))
    return fig


def _key(kind: str, colour: str, marker: str, label: str) -> Line2D | Patch:
    if kind == "bars":
        return Patch(color=colour, label=label)
    return Line2D([], [], color=colour, marker=marker, label=label)


def _lines(ax: Axes, lines: Mapping[str, float]) -> list[Line2D]:
    dashes = ((0, (1, 2)), (0, (5, 2)), (0, (5, 2, 1, 2)))
    if len(lines) > len(dashes):
        raise ValueError(f"{len(lines)} lines {list(lines)} share {len(dashes)} dashes: leave some out")
    named = zip(lines.items(), dashes, strict=False)
    return [ax.axvline(x, color=INK, lw=1.1, linestyle=dash, label=f"{name} ({x:.2f})") for (name, x), dash in named]


def _points(ax: Axes, rows: pd.DataFrame, places: list[float], colour: str, marker: str) -> None:
    if has_interval(rows):
        ax.hlines(places, rows["ci_low"], rows["ci_high"], color=colour, linewidth=2)
    ax.plot(rows["value"], places, marker=marker, linestyle="", color=colour, markersize=6)

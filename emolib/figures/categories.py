"""Figures of measurements side by side: points with intervals, and a measurement against its null."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emolib.figures.palette import GREY, INK, PRIMARY, palette
from emolib.figures.panels import (
    OURS,
    WIDTH,
    check_rows,
    has_interval,
    legend_below,
    names_of,
    readable,
    rows_where,
    styled,
    two_sources,
)

DASHES = ((0, (1, 2)), (0, (5, 2)), (0, (5, 2, 1, 2)))


@styled
def interval_points(
    ours: pd.DataFrame,
    *,
    xlabel: str,
    by: str,
    hue: str | None = None,
    paper: pd.DataFrame | None = None,
    lines: Mapping[str, float] | None = None,
    xlim: tuple[float, float] | None = None,
    paper_model: str = "",
    whose: str = OURS,
    percent: bool = False,
) -> Figure:
    """Return a point with its 95% interval per value of `by` (top to bottom) and `hue`; the paper's is a diamond.

    `lines` are up to three named vertical lines, for example {"chance": 1 / 13, "human readers": 0.55}. `whose` says
    what the points are, where they are not all this run's; shares are shown in `percent`.
    """
    theirs = f"paper ({paper_model})" if paper_model else "paper"
    frames = two_sources(ours, paper, [by] if hue is None else [by, hue], theirs)
    names, look = names_of(frames, by), palette(names_of(frames, hue))
    step = 0.8 / len(look)
    fig = Figure(figsize=(WIDTH, (0.17 * len(look) + 0.18) * len(names) + 1.3))
    ax = fig.subplots()
    handles, form = [], ".0%" if percent else ".2f"
    for k, (shade, (colour, marker)) in enumerate(look.items()):
        for what, frame in frames.items():
            rows = rows_where(frame, hue, shade)
            places = np.array([names.index(str(name)) for name in rows[by]]) + (k + 0.5) * step - 0.4
            if what == OURS:
                _points(ax, rows, places, colour, marker)
            else:
                ax.plot(rows["value"], places, "D", color=INK, markerfacecolor="none", markersize=5.5, zorder=4)
        name = readable(shade, hue or "") or f"{whose}, 95% interval"
        handles.append(Line2D([], [], color=colour, marker=marker, label=name))
    ax.set_yticks(range(len(names)), [readable(name, by) for name in names])
    ax.set(xlabel=xlabel, xlim=xlim, ylim=(len(names) - 0.4, -0.6))
    ax.grid(visible=False, axis="y")
    if (ours["value"] % 1 == 0).all():  # counts, as of layers
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if paper is not None:
        handles.append(Line2D([], [], color=INK, marker="D", markerfacecolor="none", linestyle="", label=theirs))
    for (name, x), dash in zip((lines or {}).items(), DASHES, strict=False):
        handles.append(ax.axvline(x, color=INK, lw=1.1, linestyle=dash, label=f"{name} ({x:{form}})"))
    if percent:
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    legend_below(fig, handles, most=3)
    return fig


@styled
def against_null(ours: pd.DataFrame, null: pd.DataFrame, *, xlabel: str, by: str) -> Figure:
    """Return, per value of `by`, the measurement with its interval over the null's draws (one row a `draw`)."""
    check_rows(ours, [by], "ours")
    check_rows(null, [by, "draw"], "null")
    names = names_of({"ours": ours}, by)
    fig = Figure(figsize=(WIDTH, 0.36 * len(names) + 1.35))
    ax = fig.subplots()
    for y, name in enumerate(names):
        draws = np.sort(rows_where(null, by, name)["value"].to_numpy())
        # spread by rank, not at random, so that the same results give the same picture
        ax.plot(draws, y + 0.28 * np.sin(np.arange(len(draws)) * 2.4), ".", color=GREY, alpha=0.6, markersize=4)
        _points(ax, rows_where(ours, by, name), np.array([y]), PRIMARY, "o")
    ax.set_yticks(range(len(names)), [readable(name, by) for name in names])
    ax.set(xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    handles = [Line2D([], [], color=PRIMARY, marker="o", label=f"{OURS}, 95% interval")]
    handles.append(Line2D([], [], color=GREY, marker=".", linestyle="", label="random directions"))
    legend_below(fig, handles)
    return fig


def _points(ax: Axes, rows: pd.DataFrame, places: np.ndarray, colour: str, marker: str) -> None:
    if has_interval(rows):
        ax.hlines(places, rows["ci_low"], rows["ci_high"], color=colour, linewidth=2)
    ax.plot(rows["value"], places, marker=marker, linestyle="", color=colour, markersize=6)

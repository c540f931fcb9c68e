"""Figures of appraisals and of directions: profiles (radar), paths of cosines over layers, a view in space, a map.

They take rows with columns emotion and appraisal.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emolib.figures.palette import EMOTION_COLOURS, INK, ordered
from emolib.figures.panels import LINES, PAPER, WIDTH, check_rows, label_axes, legend_below, panels, readable, styled

FULL_CIRCLE = 2 * np.pi
# Around a small circle there is room for one short word.
SHORT = {
    "predict_event": "foreseen",
    "pleasantness": "pleasant",
    "other_responsblt": "other's",
    "suddenness": "sudden",
    "unpleasantness": "unpleasant",
    "self_responsblt": "own",
}
LETTER, LINE = 6.2, 13  # width of a letter and height of a line, in points


@styled
def radar(ours: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> Figure:
    """Return one radar of mean ratings (1 in the centre, 5 outside) per emotion; spokes are appraisals.

    `ours` and `paper` have columns emotion, appraisal, value; `set` tells apart several profiles of ours.
    """
    check_rows(ours, ["emotion", "appraisal", "set"], "ours")
    emotions, spokes = ordered(list(ours["emotion"])), list(dict.fromkeys(ours["appraisal"]))
    angles = np.arange(len(spokes)) * FULL_CIRCLE / len(spokes)
    down = -(-len(emotions) // 2)
    fig = Figure(figsize=(WIDTH, 2.3 * down + 0.5))
    grid = fig.subplots(down, 2, subplot_kw={"projection": "polar"}, squeeze=False).ravel()
    styles = dict(zip(dict.fromkeys(ours["set"]), (LINES["ours"], LINES["reference"]), strict=False))
    for ax, emotion in zip(grid, emotions, strict=False):
        colour = EMOTION_COLOURS[emotion]
        for name, line in styles.items():
            _ring(ax, ours[(ours["emotion"] == emotion) & (ours["set"] == name)], spokes, angles, colour, line, 2)
        if paper is not None:
            _ring(ax, paper[paper["emotion"] == emotion], spokes, angles, INK, LINES["paper"], 1.2)
        ax.set_theta_offset(np.pi / 2)
        ax.set_theta_direction(-1)
        ax.set(ylim=(1, 5), yticks=[2, 3, 4], yticklabels=[], title=emotion)
        ax.set_xticks(angles, [SHORT.get(name, readable(name)) for name in spokes], fontsize=9)
        ax.tick_params(pad=0)
        for angle, word in zip(angles, ax.get_xticklabels(), strict=True):
            # beside the circle, not across it
            side = np.round(np.sin(angle), 3)
            word.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
    for ax in grid[len(emotions) :]:
        ax.remove()
    handles = [Line2D([], [], color=INK, linestyle=line, label=name) for name, line in styles.items()]
    if paper is not None:
        handles.append(Line2D([], [], color=INK, linestyle=LINES["paper"], lw=1.2, label=PAPER))
    legend_below(fig, handles)
    return fig


@styled
def paths(ours: pd.DataFrame, *, x: str, y: str) -> Figure:
    """Return the emotions' cosines with appraisal `x` against those with `y`, joined from the first layer to the last.

    Columns: emotion, appraisal, layer, value, and panel, which tells vectors or sources apart. The first layer is a
    ring, the last a dot.
    """
    check_rows(ours, ["emotion", "appraisal", "layer", "panel"], "ours")
    names = list(dict.fromkeys(ours["panel"]))
    fig, axes = panels(len(names), height=2.7, below=0.7, columns=2)
    for name, ax in zip(names, axes, strict=True):
        rows = ours[ours["panel"] == name]
        for emotion in ordered(list(rows["emotion"])):
            path = rows[rows["emotion"] == emotion].pivot(index="layer", columns="appraisal", values="value")
            path = path.sort_index().dropna()
            colour = EMOTION_COLOURS[emotion]
            ax.plot(path[x], path[y], color=colour, linewidth=1.3)
            ax.plot(path[x].iloc[:1], path[y].iloc[:1], "o", color=colour, markerfacecolor="none", markersize=7)
            ax.plot(path[x].iloc[-1:], path[y].iloc[-1:], "o", color=colour, markersize=6)
        for line in (ax.axhline, ax.axvline):
            line(0, color=INK, linewidth=0.8)
        ax.set_title(name)
    label_axes(axes, f"cosine with {readable(x)}", f"cosine with {readable(y)}")
    handles = [
        Line2D([], [], color=EMOTION_COLOURS[emotion], marker="o", label=emotion)
        for emotion in ordered(list(ours["emotion"]))
    ]
    legend_below(fig, handles, most=3)
    return fig


@styled
def space(ours: pd.DataFrame, *, axes: tuple[str, str, str]) -> Figure:
    """Return emotions in the space of their cosines with three appraisals, each on a stem from the plane at zero.

    Columns: emotion, appraisal, value; one layer.
    """
    check_rows(ours, ["emotion", "appraisal"], "ours")
    table = ours.pivot(index="emotion", columns="appraisal", values="value")[list(axes)]
    fig = Figure(figsize=(WIDTH, 4.8))
    ax = fig.add_subplot(projection="3d")
    for k, (emotion, (a, b, c)) in enumerate(table.iterrows()):
        colour = EMOTION_COLOURS[str(emotion)]
        ax.plot([a, a], [b, b], [0, c], color=colour, linewidth=1.5)
        ax.plot([a], [b], [c], "o", color=colour, markersize=7)
        # in turn to either side, so that two emotions that lie close keep their names apart
        ax.text(a, b, c, f"  {emotion}  ", fontsize=9.5, ha="left" if k % 2 else "right", va="center")
    wide, deep, high = (1.1 * table.abs().max()).tolist()
    ax.plot_surface(*np.meshgrid([-wide, wide], [-deep, deep]), np.zeros((2, 2)), color=INK, alpha=0.06, linewidth=0)
    ax.set(
        xlim=(-wide, wide),
        ylim=(-deep, deep),
        zlim=(-high, high),
        **{f"{name}label": readable(appraisal) for name, appraisal in zip("xyz", axes, strict=True)},
    )
    ax.view_init(elev=24, azim=-68)
    ax.set_box_aspect((1.3, 1, 0.9), zoom=0.9)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.pane.set_alpha(0)
        axis._axinfo["grid"] |= {"linewidth": 0.3}
        axis.set_major_locator(MaxNLocator(3, symmetric=True))
    return fig


@styled
def emotion_map(ours: pd.DataFrame, *, xlabel: str, ylabel: str) -> Figure:
    """Return the emotions at their coordinates; columns: emotion, x, y."""
    fig = Figure(figsize=(WIDTH, 4.2))
    ax = fig.subplots()
    for row, place in zip(ours.itertuples(), _beside(ours), strict=True):
        ax.plot(row.x, row.y, "o", color=EMOTION_COLOURS[row.emotion], markersize=8)
        ax.annotate(row.emotion, (row.x, row.y), textcoords="offset points", ha="center", va="center", xytext=place)
    for line in (ax.axhline, ax.axvline):
        line(0, color=INK, linewidth=0.8)
    ax.margins(0.12)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return fig


def _beside(ours: pd.DataFrame) -> list[tuple[float, float]]:
    """Where each name goes, in points from its dot: above, below, left or right, wherever it covers least."""
    spots = ours[["x", "y"]].to_numpy()
    spots = (spots - spots.min(0)) / np.ptp(spots, axis=0) * (300, 210)  # about the size of the axes in points
    taken = [(x, y, 5.0, 5.0) for x, y in spots]
    chosen = []
    for (x, y), name in zip(spots, ours["emotion"], strict=True):
        half = LETTER * len(name) / 2
        ways = [(0.0, 12.0), (0.0, -12.0), (half + 9, 0.0), (-half - 9, 0.0)]
        covered = [
            sum(max(0.0, half + w - abs(x + dx - a)) * max(0.0, LINE / 2 + h - abs(y + dy - b)) for a, b, w, h in taken)
            for dx, dy in ways
        ]
        dx, dy = ways[int(np.argmin(covered))]
        taken.append((x + dx, y + dy, half, LINE / 2))
        chosen.append((dx, dy))
    return chosen


def _ring(
    ax: Axes, rows: pd.DataFrame, spokes: list[str], angles: np.ndarray, colour: str, line: object, width: float
) -> None:
    values = rows.set_index("appraisal")["value"].reindex([*spokes, spokes[0]]).to_numpy(dtype=float)
    ax.plot(np.append(angles, FULL_CIRCLE), values, color=colour, linestyle=line, linewidth=width)

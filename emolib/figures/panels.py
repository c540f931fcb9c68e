"""What all figures share: the style, the check that rows are drawable, panels, axes and legends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Literal, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from emolib.engine.sites import layer_number
from emolib.figures.palette import APPRAISAL_LABELS, COMPONENT_LABELS, INK, ordered, style
from emolib.tables.paper import DETAILED, EXTRA

P = ParamSpec("P")
Frames = Mapping[str, pd.DataFrame]
Look = Mapping[str, tuple[str, str]]
Line = Literal["-"] | tuple[float, Sequence[float]]  # drawn through, or an offset and lengths of dashes and gaps
OURS, PAPER = "this run", f"paper ({DETAILED.name})"
WIDTH = 5.8
COLUMNS = 3
# Columns that carry data or provenance rather than say which measurement a row is.
DATA = ("value", "ci_low", "ci_high", "n", "number", *EXTRA)
LINES: Mapping[str, Line] = {
    "ours": "-",
    "paper": (0, (5, 2)),
    "reference": (0, (1, 1.2)),
    "twin": (0, (4, 1.5, 1, 1.5)),
}
SOURCES = {"ours": OURS, "paper": PAPER, "reference": "reference run", "twin": "untrained twin"}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Return the function drawing in the book's style, whatever the session's style is."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(style()):
            return draw(*args, **kwargs)

    return inside


def check_rows(frame: pd.DataFrame, keys: list[str], what: str) -> pd.DataFrame:
    """Return the frame when it has rows, the key columns, and one row a key.

    Raises:
        ValueError: otherwise; the message names the columns that still vary, to select by.
    """
    missing = [key for key in (*keys, "value") if key not in frame]
    if missing or frame.empty:
        raise ValueError(f"{what}: columns {missing} are missing, {len(frame)} rows: select the rows to draw first")
    if frame.duplicated(keys).any():
        vary = [c for c in frame.columns if c not in (*keys, *DATA) and frame[c].nunique(dropna=False) > 1]
        raise ValueError(f"{what}: several rows for one point of {keys}; they differ in {vary}: select one of each")
    return frame


def with_depth(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the frame with `number` (1-based layer) and `depth` = number / n_layers (NaN where that is unknown)."""
    if "layer" not in frame or frame.empty or frame["layer"].isna().any():
        raise ValueError(f"{what}: every row needs a layer, and there must be rows: select one experiment and metric")
    number = frame["layer"].astype(int).map(layer_number)
    total = frame.get("n_layers", pd.Series(np.nan, index=frame.index)).astype(float)
    if (number > total).any():
        raise ValueError(f"{what}: layer {number.max()} of a model of {total.min():.0f} layers: give its own n_layers")
    return frame.assign(number=number, n_layers=total, depth=number / total)


def placed(**frames: pd.DataFrame | None) -> Frames:
    """Return the frames that are given, each `with_depth`."""
    return {what: with_depth(frame, what) for what, frame in frames.items() if frame is not None}


def depth_axis(frames: Frames) -> Literal["layer", "depth"]:
    """Return "layer" when all models have equally many layers, else "depth".

    Raises ValueError when curves of several sources cannot be placed because a number of layers is unknown.
    """
    depths = pd.concat([frame["n_layers"] for frame in frames.values()])
    if len(frames) > 1 and depths.isna().any():
        raise ValueError("curves of several models share an axis only with n_layers, the number of layers of ours")
    return "layer" if depths.nunique() <= 1 else "depth"


def names_of(frames: Frames, column: str | None) -> list[str]:
    """Return the distinct values of a column over all frames in the book's order; one empty name without a column."""
    if column is None:
        return [""]
    for what, frame in frames.items():
        if column not in frame:
            raise ValueError(f"{what}: no column {column!r}; there are {list(frame.columns)}")
    return ordered([str(value) for frame in frames.values() for value in frame[column]])


def rows_where(frame: pd.DataFrame, column: str | None, name: str) -> pd.DataFrame:
    """Return the rows whose column reads `name`; all rows without a column."""
    return frame if column is None else frame[frame[column].astype(str) == name]


def readable(name: str, column: str = "") -> str:
    """Return a word of a table as figures show it, given the column it comes from: components, appraisals, tokens and
    spans have names."""
    if column == "position":
        return "all tokens" if name == "all" else f"token \N{MINUS SIGN}{name.lstrip('-')}"
    if name.isdigit():
        return f"{column.replace('_', ' ')} {name}".strip()
    return COMPONENT_LABELS.get(name) or APPRAISAL_LABELS.get(name) or name.replace("_", " ")


def with_push(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a column `push`, how hard is pushed in words: "β = 2", "0.1 of the norm"."""
    words = {"absolute": "β = {:g}", "norm": "{:g} of the norm"}
    return rows.assign(push=[words[unit].format(dose) for unit, dose in zip(rows["unit"], rows["dose"], strict=True)])


def stack(ax: Axes, places: np.ndarray, shares: np.ndarray, colours: Iterable[str], *, width: float) -> None:
    """Draw `shares` [places, parts], which sum to 1, as stacked columns of a width around their places."""
    edges = np.repeat(places, 2) + np.tile([-width / 2, width / 2], len(places))
    ax.stackplot(edges, np.repeat(shares.T, 2, axis=1), colors=list(colours), linewidth=0)
    ax.set(ylim=(0, 1), xlim=(edges.min(), edges.max()))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(visible=False)


def panels(count: int, *, height: float, below: float = 0.9, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """Return a figure of the book's width with `count` panels of `height` inches, at most `columns` side by side.

    `below` inches are added for a legend.
    """
    across = min(count, columns)
    down = -(-count // across)
    fig = Figure(figsize=(WIDTH, height * down + below))
    grid = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in grid[count:]:
        ax.remove()
    for ax in grid[max(0, count - across) : count]:
        ax.tick_params(labelbottom=True)
    return fig, list(grid[:count])


def label_axes(axes: list[Axes], xlabel: str, ylabel: str) -> None:
    """Label those of the `panels` that have none below them (x) and those in the first column (y)."""
    across = len({ax.get_position().x0 for ax in axes})
    for ax in axes[-across:]:
        ax.set_xlabel(xlabel)
    for ax in axes[::across]:
        ax.set_ylabel(ylabel)


def legend(
    fig: Figure, look: Look, column: str, sources: Frames, lines: Mapping[str, float], *, ours: str = OURS
) -> None:
    """Put one legend under the figure: colour and marker per name, line style per source, the named levels."""
    shown = look.items() if len(look) > 1 else ()
    handles = [Line2D([], [], color=c, marker=m, label=readable(name, column)) for name, (c, m) in shown]
    for key in sources if len(sources) > 1 else ():
        width = 2 if key == "ours" else 1.3
        handles.append(
            Line2D([], [], color=INK, linestyle=LINES[key], linewidth=width, label=(SOURCES | {"ours": ours})[key])
        )
    for name, level in lines.items():
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 3)), linewidth=1, label=f"{name} ({level:.2f})"))
    legend_below(fig, handles)


def legend_below(fig: Figure, handles: Sequence[Artist], *, most: int = 4) -> None:
    """Put a legend of the handles, if any, under the figure: as many columns, up to `most`, as their words allow."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = min(len(handles), most, 4 if longest < 12 else 3 if longest < 20 else 2)
        fig.legend(handles=handles, loc="outside lower center", ncols=columns)


def has_interval(rows: pd.DataFrame) -> bool:
    """Return whether the rows carry interval ends."""
    return "ci_low" in rows and bool(rows["ci_low"].notna().any())


def two_sources(ours: pd.DataFrame, paper: pd.DataFrame | None, keys: list[str], theirs: str = PAPER) -> Frames:
    """Return the frames to draw under the names they carry in figures, each checked to have one row a key."""
    frames = {OURS: ours} if paper is None else {OURS: ours, theirs: paper}
    return {what: check_rows(frame, keys, what) for what, frame in frames.items()}


def bare(ax: Axes) -> None:
    """Take grid, spines and tick marks away: the cells or bars are their own frame."""
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)

"""Figures of texts that change their label: before on the left, after on the right, a ribbon for those that move.

Rows carry counts by `label`, before, and `answer`, after. Heights are shares of the texts, in the book's order and
colours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from scipy.optimize import isotonic_regression

from emolib.figures.palette import EMOTION_COLOURS, EMOTION_ORDER, INK
from emolib.figures.panels import WIDTH, check_rows, readable, styled

Spans = dict[str, tuple[float, float]]
GAP = 0.012  # between the blocks of a column, as a share of its height
BLOCK = 0.035  # width of a block, the panel being 1 wide
SCALE = 1 - GAP * (len(EMOTION_ORDER) - 1)  # height of all texts: room for thirteen blocks in either column
LINE = 0.058  # height of a line of text, as a share of the column


@styled
def label_flows(flows: Mapping[str, pd.DataFrame], *, before: str = "before", after: str = "after") -> Figure:
    """Return one panel per entry, one below the other: how the texts of each label before spread over labels after.

    Each frame has a row per pair of `label` and `answer` (count in `value`; pairs left out are 0). Ribbons have the
    colour of the label before; texts that keep their label are paler. Raises ValueError for other labels or no counts.
    """
    fig = Figure(figsize=(WIDTH, 3.6 * len(flows)))
    axes = fig.subplots(len(flows), 1, squeeze=False).ravel()
    for ax, (name, frame) in zip(axes, flows.items(), strict=True):
        table = flow_shares(frame, name)
        _panel(ax, table)
        ax.set_title(readable(name))
        for x, ha, text in ((0, "left", before), (1, "right", after)):
            ax.text(x, -0.02, text, ha=ha, va="top", fontsize=10, color=INK)
    return fig


def flow_shares(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the shares [13 before, 13 after] of all texts, in the book's order, that went from label to label."""
    check_rows(frame, ["label", "answer"], what)
    if not frame[["label", "answer"]].isin(EMOTION_ORDER).all(axis=None) or not frame["value"].sum() > 0:
        raise ValueError(f"{what}: labels read {frame['label'].iloc[0]!r}: select counts of emotions before and after")
    counts = frame.set_index(["label", "answer"])["value"].astype(float)
    table = counts.unstack(fill_value=0.0).reindex(index=EMOTION_ORDER, columns=EMOTION_ORDER, fill_value=0.0)
    return table / counts.sum()


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    columns = {0.0: _stacked(table.sum(axis=1)), 1 - BLOCK: _stacked(table.sum(axis=0))}
    left, right = ({label: top for label, (_, top) in spans.items()} for spans in columns.values())
    for old in EMOTION_ORDER:
        for new in EMOTION_ORDER:
            share = table.loc[old, new]
            if share > 0:
                height = share * SCALE
                _ribbon(ax, left[old], right[new], height, EMOTION_COLOURS[old], alpha=0.25 if old == new else 0.6)
                left[old] -= height
                right[new] -= height
    for x, spans in columns.items():
        for label, (low, top) in spans.items():
            ax.add_patch(Rectangle((x, low), BLOCK, top - low, color=EMOTION_COLOURS[label], linewidth=0))
        _names(ax, spans, x=-0.015 if x == 0 else 1.015, ha="right" if x == 0 else "left")
    ax.set(xlim=(-0.2, 1.2), ylim=(-0.08, 1))
    ax.set_axis_off()


def _stacked(shares: pd.Series) -> Spans:
    """The lower and upper end of the block of each label that occurs, the first label's at the top."""
    present = shares[shares > 0] * SCALE
    tops = 1 - np.concatenate([[0], np.cumsum(present.to_numpy()[:-1] + GAP)])
    return {label: (top - height, top) for (label, height), top in zip(present.items(), tops, strict=True)}


def _ribbon(ax: Axes, left: float, right: float, height: float, colour: str, *, alpha: float) -> None:
    start, end, middle = BLOCK, 1 - BLOCK, 0.5
    points = [
        (start, left),
        (middle, left),
        (middle, right),
        (end, right),
        (end, right - height),
        (middle, right - height),
        (middle, left - height),
        (start, left - height),
        (start, left),
    ]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    ax.add_patch(PathPatch(Path(points, codes), facecolor=colour, alpha=alpha, linewidth=0))


def _names(ax: Axes, spans: Spans, *, x: float, ha: str) -> None:
    """The labels beside their blocks, pushed apart where blocks are lower than a line of text."""
    centres = np.array([(low + top) / 2 for low, top in spans.values()])
    for label, y in zip(spans, spread(centres, LINE), strict=True):
        ax.text(x, y, label, ha=ha, va="center", fontsize=9.5, color=INK)


def spread(places: np.ndarray, distance: float) -> np.ndarray:
    """Return falling `places` moved as little as it takes to lie `distance` apart, within 0 to 1 if there is room."""
    steps = distance * np.arange(len(places))
    # Least squares under an order: blocks that collide share their mean.
    moved = isotonic_regression(places + steps, increasing=False).x - steps
    lowest, highest = distance / 2, 1 - distance / 2
    moved = moved - max(0.0, moved[0] - highest)
    return moved + max(0.0, lowest - moved[-1])

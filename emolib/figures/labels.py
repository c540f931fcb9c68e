"""Figures of predicted labels: confusions, stacked shares, stacked shares over layers.

Part of `emolib.figures`, which offers these functions too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emolib.engine.sites import layer_number
from emolib.figures.palette import EMOTION_COLOURS, EMOTION_ORDER, text_on
from emolib.figures.panels import (
    COLUMNS,
    WIDTH,
    bare,
    check_rows,
    label_axes,
    names_of,
    panels,
    readable,
    rows_where,
    styled,
    two_sources,
)
from emolib.tables.paper import DETAILED


@styled
def confusion_matrix(
    ours: pd.DataFrame, *, paper: pd.DataFrame | None = None, paper_model: str = DETAILED.name, smallest: float = 0.05
) -> Figure:
    """Return the share of each true label (row) given each predicted label (column), ours above the paper's.

    Rows of a frame are counts under labels `true=>pred`; shares from `smallest` on are also written, in per cent.
    """
    frames = two_sources(ours, paper, ["label"], paper_model)
    fig = Figure(figsize=(WIDTH, 5.3 * len(frames) + 0.5))
    grid = fig.subplots(len(frames), 1, squeeze=False).ravel()
    for ax, (what, frame) in zip(grid, frames.items(), strict=True):
        shares = confusion_shares(frame)
        written = shares.map(lambda share: f"{100 * share:.0f}" if share >= smallest else "")
        seaborn.heatmap(
            shares,
            ax=ax,
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            linewidths=0.5,
            linecolor="#ffffff",
            annot=written,
            fmt="",
            annot_kws={"fontsize": 9},
        )
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        plt.setp(ax.get_yticklabels(), rotation=0)
        ax.set(xlabel="predicted label", ylabel="writer's label", title=what if len(frames) > 1 else "")
        bare(ax)
    key = dict(location="bottom", label="share of the writer's label", aspect=45, shrink=0.7)
    bar = fig.colorbar(ax.collections[0], ax=grid, **key)
    bar.outline.set_visible(False)
    return fig


@styled
def stacked_labels(bars: Mapping[str, pd.DataFrame], *, xlabel: str = "share of predicted labels") -> Figure:
    """Return one horizontal bar per entry, split into the 13 labels in the paper's order, top entry first.

    Each frame has a row per label (count or share in `value`; labels left out are 0) and is scaled to 1.
    """
    fig = Figure(figsize=(WIDTH, 0.42 * len(bars) + 1.75))
    ax = fig.subplots()
    for y, (name, frame) in enumerate(bars.items()):
        left = 0.0
        for emotion, share in label_shares(frame, name).items():
            colour = EMOTION_COLOURS[emotion]
            ax.barh(y, share, left=left, color=colour, height=0.78)
            if share * 62 > len(emotion) + 1:
                middle = left + share / 2
                ax.text(middle, y, emotion, ha="center", va="center", fontsize=9, color=text_on(colour))
            left += share
    ax.set_yticks(range(len(bars)), [readable(name) for name in bars])
    ax.set(xlim=(0, 1), ylim=(len(bars) - 0.45, -0.55), xlabel=xlabel)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    bare(ax)
    _emotion_legend(fig)
    return fig


@styled
def depth_stacks(
    ours: pd.DataFrame, *, panel: str = "condition", columns: int = 2, ylabel: str = "share of predicted labels"
) -> Figure:
    """Return the split into 13 labels at every layer as stacked columns, a panel per value of `panel`."""
    check_rows(ours, [panel, "layer", "label"], "ours")
    names = names_of({"ours": ours}, panel)
    fig, axes = panels(len(names), height=2.1, below=1.1, columns=min(columns, COLUMNS))
    for name, ax in zip(names, axes, strict=True):
        layers = {int(layer): rows for layer, rows in rows_where(ours, panel, name).groupby("layer")}
        shares = pd.DataFrame([label_shares(rows, f"{name}, layer {layer}") for layer, rows in layers.items()])
        upward = list(reversed(EMOTION_ORDER))  # anger at the foot, joy on top, as in the paper
        numbers = [layer_number(layer) for layer in layers]
        edges = np.repeat(numbers, 2) + np.tile([-0.5, 0.5], len(numbers))
        heights = np.repeat(shares[upward].to_numpy().T, 2, axis=1)
        ax.stackplot(edges, heights, colors=[EMOTION_COLOURS[emotion] for emotion in upward], linewidth=0)
        ax.set(title=readable(name, panel), ylim=(0, 1), xlim=(min(edges), max(edges)))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(visible=False)
    label_axes(axes, "layer", ylabel)
    _emotion_legend(fig)
    return fig


def confusion_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Return counts under labels `true=>pred` as row shares [13 true, 13 predicted] in the stacking order.

    Raises ValueError for a label that is not of that form, and for a true label without any text.
    """
    pairs = frame["label"].str.split("=>", expand=True)
    if pairs.shape[1] != 2 or not pairs.isin(EMOTION_ORDER).all(axis=None):
        raise ValueError(f"labels read {frame['label'].iloc[0]!r}, expected 'true=>pred': select confusion counts only")
    counts = pd.Series(frame["value"].to_numpy(), index=pd.MultiIndex.from_frame(pairs))
    table = counts.unstack(fill_value=0.0).reindex(index=EMOTION_ORDER, columns=EMOTION_ORDER, fill_value=0.0)
    empty = table.index[table.sum(axis=1) == 0].tolist()
    if empty:
        raise ValueError(f"no counts for the true labels {empty}: give the whole confusion matrix")
    return table.div(table.sum(axis=1), axis=0)


def label_shares(frame: pd.DataFrame, what: str) -> dict[str, float]:
    """Return the share of each of the 13 labels in the stacking order; labels without a row are 0."""
    check_rows(frame, ["label"], what)
    unknown = sorted(set(frame["label"]) - set(EMOTION_ORDER))
    total = float(frame["value"].sum())
    if unknown or total <= 0 or (frame["value"] < 0).any():
        raise ValueError(f"{what}: labels {unknown} are not emotions, or the total is {total}: select label counts")
    values = dict(zip(frame["label"], frame["value"], strict=True))
    return {emotion: float(values.get(emotion, 0.0)) / total for emotion in EMOTION_ORDER}


def _emotion_legend(fig: Figure) -> None:
    handles = [Patch(color=colour, label=emotion) for emotion, colour in EMOTION_COLOURS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=5, handlelength=1, columnspacing=1.2)

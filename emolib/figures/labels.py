"""Figures of how a whole splits: confusions of labels, and shares stacked side by side or over layers.

The shares are of labels, or of outcomes that exclude one another: transferred, neither, kept.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emolib.engine.sites import layer_number
from emolib.figures.curves import layer_ticks
from emolib.figures.palette import EMOTION_COLOURS, EMOTION_ORDER, INK, text_on
from emolib.figures.panels import (
    LINES,
    SOURCES,
    WIDTH,
    bare,
    check_rows,
    label_axes,
    legend_below,
    names_of,
    panels,
    placed,
    readable,
    rows_where,
    stack,
    styled,
    two_sources,
)

DOTTED = (0, (1, 2))
HALO = (withStroke(linewidth=3, foreground="#ffffff"),)  # so that a ring is seen on every bar
# Bottom to top: what moved to the source, what broke, what stayed. Neither components nor emotions use these colours.
OUTCOMES = {"transfer": ("transferred", "#8647b9"), "neither": ("neither", "#cc79a7"), "kept": ("kept", "#8e959c")}


@styled
def confusion_matrix(ours: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> Figure:
    """Return the share of each writer's `label` (row) given each `answer` (column), ours above the paper's.

    Values are counts; shares from 5% on are also written, in per cent. A label without texts has an empty row.
    """
    frames = two_sources(ours, paper, ["label", "answer"])
    fig = Figure(figsize=(WIDTH, 5.3 * len(frames) + 0.5))
    grid = fig.subplots(len(frames), 1, squeeze=False).ravel()
    look = dict(cmap="Blues", vmin=0, vmax=1, cbar=False, linewidths=0.5, linecolor="#ffffff", fmt="")
    for ax, (what, frame) in zip(grid, frames.items(), strict=True):
        if absent := [label for label in EMOTION_ORDER if label not in frame["label"].to_numpy()]:
            raise ValueError(f"{what}: no counts for the labels {absent}: give the whole confusion matrix")
        counted = frame[frame.groupby("label")["value"].transform(lambda counts: (counts != 0).any())]
        shares = split(counted, "label", "answer", EMOTION_COLOURS, what).reindex(list(EMOTION_ORDER))
        written = shares.map(lambda share: f"{100 * share:.0f}" if share >= 0.05 else "")
        seaborn.heatmap(shares, ax=ax, annot=written, annot_kws={"fontsize": 9}, **look)
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        plt.setp(ax.get_yticklabels(), rotation=0)
        ax.set(xlabel="predicted label", ylabel="writer's label", title=what if len(frames) > 1 else "")
        bare(ax)
    of = ax.collections[0]
    key = fig.colorbar(of, ax=grid, location="bottom", label="share of the writer's label", aspect=45, shrink=0.7)
    key.outline.set_visible(False)
    return fig


@styled
def stacked_labels(
    bars: Mapping[str, pd.DataFrame],
    *,
    paper: Mapping[str, pd.DataFrame] | None = None,
    xlabel: str = "share of predicted labels",
) -> Figure:
    """Return one horizontal bar per entry, split into the 13 labels in the paper's order, top entry first.

    Each frame has a row per label (count or share in `value`; labels left out are 0) and is scaled to 1. The paper's
    bar, where there is one of that name, is thinner and below ours. A label is written where its part has room for it.
    """
    fig = Figure(figsize=(WIDTH, (0.42 if paper is None else 0.62) * len(bars) + 1.75))
    ax = fig.subplots()
    place, places, written = 0.0, [], []
    for name, frame in bars.items():
        written += _bar(ax, frame, name, place, 0.78)
        theirs = (paper or {}).get(name)
        if theirs is not None:
            written += _bar(ax, theirs, f"{name} (paper)", place + 0.64, 0.46)
        places.append(place if theirs is None else place + 0.25)
        place += 1.0 if theirs is None else 1.58
    ax.set_yticks(places, [textwrap.fill(readable(name), 25) for name in bars])
    ax.set(xlim=(0, 1), ylim=(place - 0.45, -0.55), xlabel=xlabel)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    bare(ax)
    _key(fig, EMOTION_COLOURS, {}, columns=5)
    fig.draw_without_rendering()  # how wide a part is, is known once the names beside the bars have their room
    for word, part in written:
        if word.get_window_extent().width > 0.94 * part.get_window_extent().width:
            word.remove()
    return fig


def _bar(ax: Axes, frame: pd.DataFrame, name: str, y: float, height: float) -> list[tuple[Text, Rectangle]]:
    """Draw one bar of `stacked_labels`; its words, which do not all have room, and their parts."""
    left, written = 0.0, []
    for emotion, share in split(frame.assign(bar=name), "bar", "label", EMOTION_COLOURS, name).loc[name].items():
        colour = EMOTION_COLOURS[emotion]
        (part,) = ax.barh(y, share, left=left, color=colour, height=height)
        look: dict[str, Any] = dict(ha="center", va="center", fontsize=9, color=text_on(colour), in_layout=False)
        written.append((ax.text(left + share / 2, y, emotion, **look), part))
        left += share
    return written


@styled
def label_shares(
    ours: pd.DataFrame, *, panel: str | None = None, xlabel: str = "share of the thirteen labels"
) -> Figure:
    """Return the share of each label as a bar in its colour, in the book's order, a panel per value of `panel`.

    Rows have label, value and, if wanted, `state`: "after", which is the bar, "before", a ring on it, and "random",
    dots on its middle line, one for each `draw`. Raises ValueError for two rows of one label and state, or of one draw.
    """
    shown = ours if "state" in ours else ours.assign(state="after", draw=-1)
    check_rows(shown, [*([panel] if panel else []), "label", "state", "draw"], "ours")
    names = names_of({"ours": shown}, panel)
    fig, axes = panels(len(names), height=2.9 if panel else 3.6, below=0.5, columns=2)
    places = {label: y for y, label in enumerate(EMOTION_ORDER)}
    for name, ax in zip(names, axes, strict=True):
        rows = rows_where(shown, panel, name)
        rows = rows.assign(y=rows["label"].map(places)).set_index("state")
        after, before, random = (rows[rows.index == state] for state in ("after", "before", "random"))
        ax.barh(after["y"], after["value"], height=0.62, color=[EMOTION_COLOURS[label] for label in after["label"]])
        ax.plot(
            before["value"],
            before["y"],
            "o",
            color=INK,
            markerfacecolor="none",
            markersize=6,
            zorder=4,
            path_effects=HALO,
        )
        ax.plot(random["value"], random["y"], ".", color=INK, markersize=3.5, path_effects=HALO)
        ax.set_yticks(range(len(places)), list(places))
        ax.set(title=readable(name, panel or ""), ylim=(len(places) - 0.4, -0.6))
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.grid(visible=False, axis="y")
    axes[0].set_xlim(0, None)
    label_axes(axes, xlabel, "")
    words: dict[str, dict[str, Any]] = {
        "before": dict(label="before", marker="o", color=INK, markerfacecolor="none"),
        "random": dict(label="random directions of the same length", marker=".", color=INK),
    }
    handles: list[Artist] = [
        Line2D([], [], linestyle="", markersize=6, **look)
        for state, look in words.items()
        if (shown["state"] == state).any()
    ]
    bar = Patch(facecolor="none", edgecolor=INK, label="after (bar)")
    legend_below(fig, [bar, *handles] if handles else [])
    return fig


@styled
def depth_stacks(
    ours: pd.DataFrame,
    *,
    panel: str,
    column: str = "label",
    colours: Mapping[str, str] | None = None,
    height: float = 2.1,
    ylabel: str = "share of predicted labels",
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Return the split into the values of `column` at every layer as stacked columns, a panel per value of `panel`.

    `colours` has these values from the foot up (default: anger at the foot, joy on top, as in the paper). `lines` are
    named levels. Raises ValueError for two rows of one value and layer, or for layers whose values have another sum
    than the others'.
    """
    shown = colours or dict(reversed([*EMOTION_COLOURS.items()]))
    check_rows(ours, [panel, "layer", column], "ours")
    names = names_of({"ours": ours}, panel)
    fig, axes = panels(len(names), height=height, below=1.1, columns=2)
    for name, ax in zip(names, axes, strict=True):
        rows = rows_where(ours, panel, name)
        shares, sums = split(rows, "layer", column, shown, name), rows.groupby("layer")["value"].sum()
        if not np.allclose(sums, sums.iloc[0], rtol=1e-3):
            raise ValueError(f"{name}: values add up to {sums.min():.4g} to {sums.max():.4g}: give all of every layer")
        numbers = np.array([layer_number(int(layer)) for layer in shares.index])
        stack(ax, numbers, shares.to_numpy(), shown.values(), width=1)
        for level in (lines or {}).values():
            ax.axhline(level, color="black", linewidth=1.2, linestyle=DOTTED)
        ax.set_title(readable(name, panel))
        ax.set_xticks(layer_ticks(int(numbers.max()), 6))
    label_axes(axes, "layer", ylabel)
    _key(fig, colours or EMOTION_COLOURS, lines or {}, columns=3 if colours else 5)
    return fig


@styled
def outcome_stacks(
    ours: pd.DataFrame,
    *,
    panel: str = "component",
    paper: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
) -> Figure:
    """Return the shares of the metrics transfer, neither and kept over depth, stacked, a panel per value of `panel`.

    The 95% intervals of transfer (from below) and kept (from above) are shaded around the edges of `neither`. The
    paper's edges are dashed and a reference run's dotted, as far as they have these metrics. Raises ValueError for two
    rows at one point and for shares that do not add up to 1.
    """
    frames = placed(ours=ours, paper=paper, reference=reference)
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
    handles: list[Artist] = [Patch(color=colour, label=word) for word, colour in OUTCOMES.values()]
    handles += [Line2D([], [], color=INK, linestyle=LINES[key], label=SOURCES[key]) for key in frames if key != "ours"]
    legend_below(fig, handles, most=3)
    return fig


def split(frame: pd.DataFrame, by: str, column: str, known: Mapping[str, str], what: str) -> pd.DataFrame:
    """Return `value` over `column` as shares, a row per value of `by` that sums to 1; columns those `known`, in order.

    Pairs left out are 0. Raises ValueError for others than these, negative values, and nothing to split.
    """
    check_rows(frame, [by, column], what)
    unknown = sorted(set(frame[column]) - set(known))
    table = frame.pivot(index=by, columns=column, values="value").reindex(columns=list(known)).fillna(0.0)
    total = table.sum(axis=1)
    if unknown or (table < 0).any(axis=None) or not (total > 0).all():
        raise ValueError(f"{what}: {unknown} are none of {list(known)}, or nothing is counted: select other rows")
    return table.div(total, axis=0)


def _key(fig: Figure, colours: Mapping[str, str], lines: Mapping[str, float], *, columns: int) -> None:
    handles: list[Patch | Line2D] = [Patch(color=colour, label=readable(name)) for name, colour in colours.items()]
    handles += [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=DOTTED, label=f"{name} ({level:.0%})")
        for name, level in lines.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1, columnspacing=1.2)


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

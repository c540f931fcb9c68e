"""The figure of attention by part of the prompt: what each gets at every layer, as stacked columns."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emolib.engine.sites import layer_number
from emolib.figures.palette import INK
from emolib.figures.panels import check_rows, label_axes, names_of, panels, readable, rows_where, styled

# From the foot: the text first, so that its height can be read; the first token, which is little else, last.
SEGMENT_COLOURS = MappingProxyType(
    {
        "text": "#d55e00",
        "demonstration_label": "#7331a0",
        "demonstration": "#cc79a7",
        "instruction": "#56b4e9",
        "format": "#0072b2",
        "first_token": "#d0d0d0",
    }
)


@styled
def segment_stacks(
    ours: pd.DataFrame, *, panel: str = "metric", ylabel: str = "share of attention", uniform: float | None = None
) -> Figure:
    """Return the share of each segment at every layer as stacked columns, a panel per value of `panel`.

    `uniform` is the share of the tokens that are the text's, what it would get if all were looked at alike: a dotted
    line. Raises ValueError for two rows of one segment and layer, or for shares that do not sum to 1.
    """
    check_rows(ours, [panel, "layer", "label"], "ours")
    names = names_of({"ours": ours}, panel)
    fig, axes = panels(len(names), height=2.6, below=0.9, columns=2)
    for name, ax in zip(names, axes, strict=True):
        shares = rows_where(ours, panel, name).pivot_table(index="layer", columns="label", values="value")
        if not np.allclose(shares.sum(axis=1), 1, atol=1e-3):
            raise ValueError(f"{name}: the segments of a layer do not sum to 1: give all of them, of one condition")
        shares = shares.reindex(columns=list(SEGMENT_COLOURS), fill_value=0)
        numbers = np.array([layer_number(int(layer)) for layer in shares.index])
        edges = np.repeat(numbers, 2) + np.tile([-0.5, 0.5], len(numbers))
        heights = np.repeat(shares.to_numpy().T, 2, axis=1)
        ax.stackplot(edges, heights, colors=list(SEGMENT_COLOURS.values()), linewidth=0)
        ax.set(title=readable(name, panel), ylim=(0, 1), xlim=(edges.min(), edges.max()))
        if uniform is not None:
            ax.axhline(uniform, color="black", linewidth=1.2, linestyle=(0, (1, 2)))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(visible=False)
    label_axes(axes, "layer", ylabel)
    _legend(fig, SEGMENT_COLOURS, uniform)
    return fig


def _legend(fig: Figure, colours: Mapping[str, str], uniform: float | None) -> None:
    handles: list[Patch | Line2D] = [Patch(color=colour, label=readable(name)) for name, colour in colours.items()]
    if uniform is not None:
        label = f"text under uniform attention ({uniform:.0%})"
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (1, 2)), label=label))
    fig.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1, columnspacing=1.2)

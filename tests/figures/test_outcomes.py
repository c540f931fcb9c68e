"""Stacked outcomes: what is drawn equals what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import Collection

from emolib.figures.labels import outcome_stacks
from emolib.figures.palette import INK


def outcomes(layers: range = range(4), *, n_layers: int = 4) -> pd.DataFrame:
    rows = []
    for component in ("attn_out", "resid_post"):
        for layer in layers:
            transfer, kept = 0.1 + 0.1 * layer, 0.6 - 0.1 * layer * (component == "resid_post")
            shares = {"transfer": transfer, "kept": kept, "neither": 1 - transfer - kept}
            key = dict(component=component, layer=layer)
            rows += [key | dict(metric=m, value=v, ci_low=v - 0.05, ci_high=v + 0.04, n=100) for m, v in shares.items()]
    return pd.DataFrame(rows).assign(n_layers=n_layers)


def heights(shape: Collection, depth: float) -> set[float]:
    """The edges of a drawn area at the two ends of the layer at this depth, of four layers."""
    points = shape.get_paths()[0].vertices
    return set(points[np.abs(np.abs(points[:, 0] - depth) - 0.125) < 1e-9, 1].round(9))


def test_stacks_are_the_shares_at_their_depths() -> None:
    fig = outcome_stacks(outcomes())
    assert [ax.get_title() for ax in fig.axes] == ["attention output", "residual stream"]
    for ax, kept in zip(fig.axes, ([0.6] * 4, [0.6, 0.5, 0.4, 0.3]), strict=True):
        for layer in range(4):
            moved, stayed = 0.1 + 0.1 * layer, 1 - kept[layer]
            edges = [(0, moved), (moved, stayed), (stayed, 1)]
            edges += [(moved - 0.05, moved + 0.04), (stayed - 0.04, stayed + 0.05)]
            for shape, ends in zip(ax.collections, edges, strict=True):
                assert {round(end, 9) for end in ends} <= heights(shape, (layer + 1) / 4)


def test_the_papers_edges_lie_at_its_own_depths() -> None:
    paper = outcomes(range(1, 7), n_layers=8)
    paper = paper[~((paper["component"] == "resid_post") & (paper["metric"] != "transfer"))]
    fig = outcome_stacks(outcomes(), paper=paper, reference=outcomes(range(2), n_layers=2))
    attention, stream = ([line for line in ax.lines if len(line.get_xdata()) == 6] for ax in fig.axes)
    assert len(attention) == 2 and len(stream) == 1
    assert np.allclose(attention[0].get_xdata(), np.arange(2, 8) / 8)
    assert np.allclose(attention[0].get_ydata(), 0.1 + 0.1 * np.arange(1, 7))
    assert np.allclose(attention[1].get_ydata(), 0.4)
    words = [text.get_text() for text in fig.legends[0].get_texts()]
    assert words == ["transferred", "neither", "kept", "paper (Llama 3.2 1B)", "reference run"]
    assert attention[0].get_color() == INK


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="attn_out: transfer, neither and kept do not add up to 1"):
        outcome_stacks(outcomes().query("metric != 'kept'"))
    with pytest.raises(ValueError, match="several rows for one point"):
        outcome_stacks(pd.concat([outcomes(), outcomes()]))

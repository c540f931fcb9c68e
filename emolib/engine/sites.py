"""Where in the network: components, layers, token positions, and spans of layers (paper §4, equation E1).

`attn_out` and `mlp_out` are what attention, or what stands in its place, and feed-forward add to the residual stream,
`resid_post` is the stream after the block: the paper's MHSA, FFN and hidden state. Layers count from 0 in code and data
and from 1 on axes and in prose; `layer_number` is the only place that converts. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Component = Literal["attn_out", "mlp_out", "resid_post"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
Position = int | Literal["all"]


def layer_number(layer: int) -> int:
    """The 1-based number, as the paper prints it, of a 0-based layer."""
    return layer + 1


def check_layers(layers: Iterable[int], n_layers: int, *, model: str = "the model") -> tuple[int, ...]:
    """The layers, ascending; raises ValueError when there are none or one lies outside 0..n_layers-1."""
    chosen = tuple(sorted(layers))
    if not chosen:
        raise ValueError("no layer given: name at least one")
    for layer in chosen:
        if not 0 <= layer < n_layers:
            raise ValueError(f"layer {layer} is outside {model}: it has layers 0..{n_layers - 1}")
    return chosen


def check_position(position: Position) -> Position:
    """The position itself: "all", or a negative offset from the end (-1 is the last prompt token)."""
    if position != "all" and not (isinstance(position, int) and position < 0):
        raise ValueError(f'position {position!r}: expected -1, -2, … (counted from the last token) or "all"')
    return position


def span_layers(centre: int, span: int, n_layers: int) -> tuple[int, ...]:
    """The `span` consecutive layers around `centre` (E3-E5: windows of 2k+1 layers).

    Raises ValueError for an even span and for a window that leaves the model: the paper draws centres 2..L-1 at span 3.
    """
    if span < 1 or span % 2 == 0:
        raise ValueError(f"span {span}: expected an odd number of layers, such as 1, 3 or 5")
    return check_layers(range(centre - span // 2, centre + span // 2 + 1), n_layers)


def centres(span: int, n_layers: int) -> range:
    """All centres whose window of `span` layers fits into the model."""
    return range(span // 2, n_layers - span // 2)

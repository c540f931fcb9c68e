"""One operation at many sites, and the table that says which edit is where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import pandas as pd

from emolib.engine.edits import Edit, Operation
from emolib.engine.model import Model
from emolib.engine.sites import Component, Position, centres, span_layers


@dataclass(frozen=True, eq=False)
class Sweep(Sequence[Edit]):
    """Edits, and `frame` with one row for each, in the same order.

    Columns: component, layer (the centre of the window), span, last_layer, position (text, "-1" or "all", as in every
    table). A slice is a sweep.
    """

    edits: tuple[Edit, ...]
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.edits)

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Sweep: ...
    def __getitem__(self, index: int | slice) -> Edit | Sweep:
        if isinstance(index, slice):
            return Sweep(self.edits[index], self.frame.iloc[index].reset_index(drop=True))
        return self.edits[index]

    def assign(self, **columns: object) -> Sweep:
        """The sweep with more columns in its frame, such as what its operation is called."""
        return Sweep(self.edits, self.frame.assign(**columns))


def joined(sweeps: Iterable[Sweep]) -> Sweep:
    """One sweep of several, in their order. Raises ValueError where there are none."""
    several = list(sweeps)
    edits = tuple(edit for one in several for edit in one)
    return Sweep(edits, pd.concat([one.frame for one in several], ignore_index=True))


def sweep(
    operation: Operation,
    model: Model,
    *,
    components: Iterable[Component] | None = None,
    span: int = 1,
    layers: Iterable[int] | None = None,
    position: Position = -1,
) -> Sweep:
    """The Sweep of `operation` through the model: at each component, a window of `span` layers around each layer.

    `components` are by default all that the model has, `layers` the centres of all windows that fit. Raises ValueError
    for an unknown component or position, an even span, and a window that leaves the model.
    """
    chosen = list(centres(span, model.n_layers)) if layers is None else list(layers)
    if not chosen:
        raise ValueError(f"no layer to edit: a span of {span} does not fit into {model.n_layers} layers, or none given")
    sites = [
        (component, layer, span_layers(layer, span, model.n_layers))
        for component in (model.components if components is None else components)
        for layer in chosen
    ]
    edits = [Edit(component=name, layers=window, operation=operation, position=position) for name, _, window in sites]
    rows = [
        dict(component=name, layer=layer, span=span, last_layer=window[-1], position=str(position))
        for name, layer, window in sites
    ]
    return Sweep(tuple(edits), pd.DataFrame(rows, columns=["component", "layer", "span", "last_layer", "position"]))

"""The design of steering experiments: doses, windows, which cells are run, and the texts they are fitted and judged on.

A push adds a unit vector times a dose to the residual stream at every layer of a window (E9, E11), at the last token.
Doses are absolute, as in the paper, or shares of the layer's mean residual norm, which grows with depth: only the
latter compare layers, and models. Shared by `modulation` and `promotion`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from emolib.engine.edits import Add, Edit
from emolib.engine.sites import centres, span_layers
from emolib.stats.sampling import balanced_rows, halves
from emolib.study.study import Study

# (kind, name of the setting, emotion or draw, unit of the dose) -> [n_layers, d]
Vectors = Mapping[tuple[str, str, str], Tensor]
FEWEST = 10


class Dose(NamedTuple):
    """The length of a push at each layer: absolute, or (`norm`) a share of the layer's mean residual norm."""

    size: float
    unit: str = ""

    @property
    def suffix(self) -> str:
        """What a condition says of the unit."""
        return f";unit:{self.unit}" if self.unit else ""


BETAS = tuple(Dose(size) for size in (1.0, 2.0, 4.0))
SHARES = tuple(Dose(size, "norm") for size in (0.05, 0.1, 0.2))
EVERY, MAIN = (*BETAS, *SHARES), (BETAS[1], SHARES[1])
REST, WIDE = tuple(dose for dose in EVERY if dose not in MAIN), (*BETAS, SHARES[1])


class Family(NamedTuple):
    """Which doses of a kind of vectors are run at decisive centres and elsewhere, and of random ones how many draws."""

    kind: str
    span: int
    elsewhere: Sequence[Dose]
    decisive: Sequence[Dose] = ()
    draws: tuple[int, int] = (0, 0)


class Design(NamedTuple):
    """How much is run: judged texts, texts that choose the centre, every which centre, and the families."""

    texts: int
    choosing: int
    step: int
    families: Sequence[Family]

    def grid(self, n_layers: int) -> range:
        """The centres at which everything is run."""
        return centres(3, n_layers)[:: self.step]


class Cell(NamedTuple):
    """Edits that differ only in what they push: a setting, an emotion or a random draw."""

    kind: str
    span: int
    dose: Dose
    centre: int
    names: Sequence[str]

    @property
    def site(self) -> dict[str, object]:
        """The columns of its rows that all of its measurements share."""
        place = dict(component="resid_post", layer=self.centre, span=self.span, position="-1")
        return place | dict(coefficient=self.dose.size)


def plan(
    design: Design, n_layers: int, names: Callable[[str, int], Sequence[str]], *, decisive: Sequence[int] = ()
) -> list[Cell]:
    """The cells that are run, family by family; `names` tells from a kind and its draws what is pushed."""
    cells = []
    for kind, span, elsewhere, at_decisive, draws in design.families:
        for centre in sorted({*design.grid(n_layers), *decisive}):
            here = centre in decisive
            pushed = names(kind, draws[here])
            cells += [Cell(kind, span, dose, centre, pushed) for dose in (at_decisive if here else elsewhere)]
    return cells


def edits(cells: Sequence[Cell], vectors: Vectors, n_layers: int) -> list[Edit]:
    """One edit for everything a cell pushes: the vector of each layer of the window is added there."""
    return [
        Edit(
            component="resid_post",
            layers=span_layers(cell.centre, cell.span, n_layers),
            operation=Add(vectors[cell.kind, name, cell.dose.unit], cell.dose.size),
        )
        for cell in cells
        for name in cell.names
    ]


def in_both_units(vectors: Mapping[tuple[str, str], Tensor], norms: Tensor) -> Vectors:
    """The unit vectors [L, d] of (kind, name) as they are, and times the mean residual norm [L] of each layer."""
    scaled = {(*key, "norm"): norms[:, None].to(vector) * vector for key, vector in vectors.items()}
    return {(*key, ""): vector for key, vector in vectors.items()} | scaled


def answers(study: Study, cells: Sequence[Cell], vectors: Vectors, rows: np.ndarray, *, name: str) -> list[np.ndarray]:
    """The answers [n_rows, names of the cell], label ids, to every cell; `name` is what progress is called."""
    ids = study.decide(study.intervene(edits(cells, vectors, study.model.n_layers), rows, name=name))
    return np.split(ids, np.cumsum([len(cell.names) for cell in cells])[:-1], axis=1)


def fitted_and_judged(study: Study, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, those of one half of the writers in the agreed set, and at most `texts` of the other half.

    The latter have the classes as equal as possible. Raises ValueError when either half has fewer than ten texts.
    """
    rows = study.agreed
    half = halves(study.groups[rows], seed=study.run.seed) if len(rows) else np.zeros(0, dtype=bool)
    if min(half.sum(), (~half).sum()) < FEWEST:
        raise ValueError(
            f"the model answers {len(rows)} of {len(study.truth)} texts right, and steering needs {FEWEST} on either "
            "side of a split by writers: try calibration=batch, another prompt or a larger model"
        )
    return rows[half], balanced_rows(study.truth, rows[~half], texts, seed=study.run.seed)

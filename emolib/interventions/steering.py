"""Steering: what is pushed, where and how hard, and on which texts it is fitted and judged. For two experiments.

A push adds a unit vector times a dose to the residual stream at every layer of a window (E9, E11), at the last token.
Doses are absolute, as in the paper, or shares of the layer's mean residual norm, which grows with depth: only the
latter compare layers, and models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from emolib.engine.edits import Add, Edit
from emolib.engine.sites import centres, span_layers
from emolib.stats.sampling import balanced_rows, halves
from emolib.study.study import Study

Pushed = Any  # a setting, an emotion, the number of a random draw, or a draw and a setting: the kind of vector says it
# (kind of vector, what it pushes, unit of the dose) -> [n_layers, d], or the layers of a window -> [d]
Vectors = Mapping[tuple[str, Pushed, str], Tensor | Mapping[int, Tensor]]
FEWEST = 10


class Dose(NamedTuple):
    """The length of a push at each layer: absolute, or (`norm`) a share of the layer's mean residual norm."""

    size: float
    unit: Literal["absolute", "norm"] = "absolute"


BETAS = tuple(Dose(size) for size in (1.0, 2.0, 4.0))
SHARES = tuple(Dose(size, "norm") for size in (0.05, 0.1, 0.2))
EVERY, MAIN = (*BETAS, *SHARES), (BETAS[1], SHARES[1])
REST, WIDE = tuple(dose for dose in EVERY if dose not in MAIN), (*BETAS, SHARES[1])


class Family(NamedTuple):
    """Which doses of a kind of vector are run at decisive centres and elsewhere, and of random ones how many draws.

    `draws` has the number elsewhere and that at decisive centres or, of three, at the chosen centre and at that of the
    paper's depth: the last of the decisive ones, where claims are judged.
    """

    vector: str
    span: int
    elsewhere: Sequence[Dose]
    decisive: Sequence[Dose] = ()
    draws: tuple[int, ...] = (0, 0)

    def drawn(self, centre: int, decisive: Sequence[int]) -> int:
        """How many are drawn at a centre."""
        if centre not in decisive:
            return self.draws[0]
        return self.draws[max(1, len(self.draws) - len(decisive) + decisive.index(centre))]


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
    """Edits that differ only in what they push."""

    vector: str
    span: int
    dose: Dose
    centre: int
    pushed: Sequence[Pushed]

    @property
    def columns(self) -> dict[str, object]:
        """The columns of a table that all of its rows share."""
        place = dict(component="resid_post", position="-1", layer=self.centre, span=self.span)
        return place | dict(vector=self.vector, unit=self.dose.unit, dose=self.dose.size)


def plan(
    design: Design,
    study: Study,
    pushed: Callable[[str, int], Sequence[Pushed]],
    *,
    decisive: Callable[[str], Sequence[int]] = lambda vector: (),
) -> list[Cell]:
    """The cells that are run, family by family, in the layers that the study measures.

    `pushed` tells from a kind of vector and its draws what is pushed, `decisive` at which centres the kind is looked at
    closely.
    """
    grid, measured = design.grid(study.model.n_layers), {*study.layers()}
    return [
        Cell(family.vector, family.span, dose, centre, pushed(family.vector, family.drawn(centre, close)))
        for family in design.families
        for close in [decisive(family.vector)]
        for centre in sorted({*grid, *close} & measured)
        for dose in (family.decisive if centre in close else family.elsewhere)
    ]


def in_both_units(vectors: Mapping[tuple[str, Pushed], Tensor], norms: Tensor) -> Vectors:
    """The unit vectors [L, d] as they are, and times the mean residual norm [L] of each layer."""
    scaled = {(*key, "norm"): norms[:, None].to(vector) * vector for key, vector in vectors.items()}
    return {(*key, "absolute"): vector for key, vector in vectors.items()} | scaled


def edits(cells: Sequence[Cell], vectors: Vectors, n_layers: int) -> list[Edit]:
    """One edit for everything a cell pushes: the vector of each layer of the window is added there."""
    return [
        Edit(
            component="resid_post",
            layers=span_layers(cell.centre, cell.span, n_layers),
            operation=Add(vectors[cell.vector, pushed, cell.dose.unit], cell.dose.size),
        )
        for cell in cells
        for pushed in cell.pushed
    ]


def answers(study: Study, cells: Sequence[Cell], vectors: Vectors, rows: np.ndarray, *, name: str) -> list[np.ndarray]:
    """The answers [n_rows, pushed], label ids, to every cell; `name` is what progress is called."""
    ids = study.decide(study.intervene(edits(cells, vectors, study.model.n_layers), rows, name=name))
    return np.split(ids, np.cumsum([len(cell.pushed) for cell in cells])[:-1], axis=1)


def fitted_and_judged(study: Study, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, those of one half of the writers in the agreed set, and at most `texts` of the other half.

    The latter have the classes as equal as possible. Raises ValueError when either half has fewer than ten texts.
    """
    rows, half = study.agreed, _half(study)
    if min(half.sum(), (~half).sum()) < FEWEST:
        raise ValueError(study.too_few(f"steering needs {FEWEST} on either side of a split by writers"))
    return rows[half], balanced_rows(study.truth, rows[~half], texts, seed=study.run.seed)


def outside_judged(study: Study) -> np.ndarray:
    """Whether each text [N], answered right or not, is by a writer of none that `fitted_and_judged` judges on."""
    return ~np.isin(study.groups, study.groups[study.agreed[~_half(study)]])


def _half(study: Study) -> np.ndarray:
    """For each text of the agreed set whether its writer is fitted on."""
    rows = study.agreed
    return halves(study.groups[rows], seed=study.run.seed) if len(rows) else np.zeros(0, dtype=bool)


def residual_norms(norms: Tensor) -> list[dict[str, object]]:
    """The rows of a table for the mean residual norm of each layer [L]."""
    place = dict(metric="residual_norm", component="resid_post", position="-1")
    return [place | dict(layer=layer, value=norm) for layer, norm in enumerate(norms.tolist())]

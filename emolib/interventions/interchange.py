"""Patching pairs of texts (E3): one text's activations in the place of another's, and what the model then answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.engine.edits import Edit, Patch
from emolib.engine.sites import COMPONENTS, Component, centres
from emolib.engine.sweeps import joined, sweep
from emolib.stats import pairs
from emolib.study.study import Study

LEAST = 4  # texts with a partner; fewer give no interval
OUTCOMES = ("transfer", "kept", "neither")


class Window(NamedTuple):
    """Sites of a sweep: windows of `span` layers, at each of the components and one token."""

    span: int
    components: Sequence[Component] = COMPONENTS
    position: int = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of patching P pairs of n texts at S sites.

    `sites` is the frame of the sweep; `base`, `source` [P] are places among the texts, `patched` [P, S, C] label logits
    and `answers` [P, S] what they say; `clean` [n, C], `labels` [n] and `writers` [n] belong to the texts, `rows` [n]
    are their numbers in the study.
    """

    sites: pd.DataFrame
    base: np.ndarray
    source: np.ndarray
    patched: Tensor
    answers: np.ndarray
    clean: Tensor
    labels: np.ndarray
    writers: np.ndarray
    rows: np.ndarray

    @property
    def dyads(self) -> tuple[np.ndarray, np.ndarray]:
        """The writers of base and source, [P] each."""
        return self.writers[self.base], self.writers[self.source]

    @property
    def transferred(self) -> np.ndarray:
        """Whether the answer is the source's clean label [P, S]."""
        return self.answers == self.labels[self.source][:, None]

    @property
    def kept(self) -> np.ndarray:
        """Whether the answer is the base's clean label [P, S]."""
        return self.answers == self.labels[self.base][:, None]

    def at(self, window: Window) -> pd.DataFrame:
        """The sites of a window of one component, one a layer; their index are the columns of the outcome."""
        at = (self.sites["span"] == window.span) & self.sites["component"].isin(window.components)
        return self.sites[at & (self.sites["position"] == str(window.position))]


def fitting(study: Study, span: int) -> list[int]:
    """The centres of the windows of `span` layers that fit into the model, of the layers that the study measures."""
    return [layer for layer in centres(span, study.model.n_layers) if layer in study.layers()]


def patch(study: Study, rows: np.ndarray, trials: Sequence[tuple[Sequence[Window], np.ndarray]]) -> list[Outcome]:
    """What came of each trial, all in one intervention on the texts `rows` [n] of the study.

    A trial is its windows, each swept through the layers where it fits, and its rounds [r, n] of donors, as places in
    `rows`; who is the own donor is in no pair.
    """
    read = {window.position for windows, _ in trials for window in windows}
    tables = {position: activations_at(study, rows, position) for position in read}
    edits: list[Edit] = []
    frames = []
    for windows, rounds in trials:
        for donors in rounds:
            donor = torch.zeros(len(study.truth), dtype=torch.long)
            donor[rows] = torch.from_numpy(donors)
            swept = joined(
                sweep(Patch(tables[window.position], donor), study.model, layers=layers, **window._asdict())
                for window in windows
                if (layers := fitting(study, window.span))
            )
            edits += swept
        frames.append(swept.frame)
    blocks = study.intervene(edits, rows, name="patching").split(
        [len(rounds) * len(sites) for sites, (_, rounds) in zip(frames, trials, strict=True)], dim=1
    )
    own: dict[str, Any] = dict(labels=study.predicted[rows], writers=study.groups[rows], rows=rows)
    found = []
    for sites, block, (_, rounds) in zip(frames, blocks, trials, strict=True):
        turn, base = np.nonzero(rounds != np.arange(len(rows)))
        patched = block.unflatten(1, (len(rounds), len(sites)))[base, turn]
        sides = dict(base=base, source=rounds[turn, base], answers=study.decide(patched))
        found.append(Outcome(sites=sites, patched=patched, clean=study.clean.logits[rows], **sides, **own))
    return found


def shares(outcome: Outcome, metrics: Sequence[str] = OUTCOMES, **keys: Any) -> Iterator[dict[str, Any]]:
    """Rows of transfer, kept and neither: the answer is the source's clean label, the base's, or another."""
    transferred, kept = outcome.transferred, outcome.kept
    hits = dict(zip(OUTCOMES, (transferred, kept, ~(transferred | kept)), strict=True))
    n = len(outcome.base)
    for metric in metrics if n else ():
        yield from pairs.share_interval(hits[metric], *outcome.dyads).rows(outcome.sites, metric=metric, n=n, **keys)


def activations_at(study: Study, rows: np.ndarray, position: int) -> dict[Component, Tensor]:
    """The activations [n_layers, n, d] of the texts `rows` at one token, by component."""
    layers, names, read = range(study.model.n_layers), study.model.components, study.activations
    return {name: torch.stack([read(name, layer, position)[rows] for layer in layers]) for name in names}

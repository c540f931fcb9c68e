"""Patching pairs of texts (E3): one text's activations in the place of another's, and what the model then answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emolib import stats
from emolib.engine.edits import Edit, Patch
from emolib.engine.sites import COMPONENTS, Component, centres, span_layers
from emolib.stats import pairs
from emolib.study.study import Study

LEAST = 4  # texts with a partner; fewer give no interval
SAME = "source:same_label"


class Site(NamedTuple):
    """A window of `span` layers around `centre` at one token."""

    component: Component
    centre: int
    span: int
    position: int = -1

    def key(self) -> dict[str, Any]:
        """The key columns of its rows. Of an overwritten stream only the last layer of the window counts (M1)."""
        layer = self.centre + (self.span // 2 if self.component == "resid_post" else 0)
        return dict(component=self.component, layer=layer, span=self.span, position=str(self.position))


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of patching P pairs of n texts at S sites.

    `base`, `source` [P] are places among the texts, `patched` [P, S, C] label logits and `answers` [P, S] what they
    say; `clean` [n, C], `labels` [n] and `writers` [n] belong to the texts.
    """

    sites: Sequence[Site]
    base: np.ndarray
    source: np.ndarray
    patched: Tensor
    answers: np.ndarray
    clean: Tensor
    labels: np.ndarray
    writers: np.ndarray

    @property
    def dyads(self) -> tuple[np.ndarray, np.ndarray]:
        """The writers of base and source, [P] each."""
        return self.writers[self.base], self.writers[self.source]

    def transferred(self) -> np.ndarray:
        """Whether the answer is the source's clean label [P, S]."""
        return self.answers == self.labels[self.source][:, None]

    def kept(self) -> np.ndarray:
        """Whether the answer is the base's clean label [P, S]."""
        return self.answers == self.labels[self.base][:, None]


def sites(n_layers: int, spans: Iterable[int], *, positions: Iterable[int] = (-1,)) -> list[Site]:
    """Every window of these spans that fits into the model, at each component and token."""
    return [
        Site(component, centre, span, position)
        for position in positions
        for span in spans
        for component in COMPONENTS
        for centre in centres(span, n_layers)
    ]


def patch(study: Study, pool: np.ndarray, trials: Sequence[tuple[Sequence[Site], np.ndarray]]) -> list[Outcome]:
    """What came of each trial, all in one intervention on the texts `pool` [n].

    A trial is its sites and its rounds [r, n] of donors, as places in `pool`; who is the own donor is in no pair.
    """
    positions = {site.position for chosen, _ in trials for site in chosen}
    tables = {position: activations_at(study, pool, position) for position in positions}
    edits, columns = [], []
    for chosen, rounds in trials:
        columns.append(len(edits) + np.arange(len(rounds) * len(chosen)).reshape(len(rounds), len(chosen)))
        for donors in rounds:
            donor = torch.zeros(len(study.truth), dtype=torch.long)
            donor[pool] = torch.from_numpy(donors)
            edits += [
                Edit(
                    component=site.component,
                    layers=span_layers(site.centre, site.span, study.model.n_layers),
                    operation=Patch(tables[site.position], donor),
                    position=site.position,
                )
                for site in chosen
            ]
    logits = study.intervene(edits, pool, name="patching")
    own = dict(clean=study.clean.logits[pool], labels=study.predicted[pool], writers=study.groups[pool])
    found = []
    for (chosen, rounds), column in zip(trials, columns, strict=True):
        turn, base = np.nonzero(rounds != np.arange(len(pool)))
        patched = logits[base[:, None], column[turn]]
        sides = dict(base=base, source=rounds[turn, base], answers=study.decide(patched))
        found.append(Outcome(sites=chosen, patched=patched, **sides, **own))
    return found


def shares(outcome: Outcome, condition: str = "") -> Iterator[dict[str, Any]]:
    """Rows of transfer, kept and neither: the answer is the source's clean label, the base's, or another.

    When the source has the base's label (SAME), kept and neither tell what patching breaks all by itself.
    """
    transferred, kept = outcome.transferred(), outcome.kept()
    hits = {} if condition == SAME else {"transfer": transferred}
    hits |= {"kept": kept, "neither": ~(transferred | kept)}
    for metric, hit in hits.items() if len(outcome.base) else ():
        yield from rows_of(outcome, pairs.share_interval(hit, *outcome.dyads), metric=metric, condition=condition)


def rows_of(
    outcome: Outcome, interval: stats.Interval, *, metric: str, condition: str = "", sites: Sequence[Site] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of an interval with a column for each of the `sites`, by default those of the outcome."""
    found = interval.columns()
    for column, site in enumerate(outcome.sites if sites is None else sites):
        key = site.key() | dict(metric=metric, condition=condition, n=len(outcome.base))
        yield key | {name: float(values[column]) for name, values in found.items()}


def activations_at(study: Study, pool: np.ndarray, position: int) -> dict[Component, Tensor]:
    """The activations [n_layers, n, d] of the texts `pool` at one token, by component."""
    layers = range(study.model.n_layers)
    read = study.activations
    return {name: torch.stack([read(name, layer, position)[pool] for layer in layers]) for name in COMPONENTS}

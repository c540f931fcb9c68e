"""Interventions: what is done to an activation (operations), and where (`Edit`). Equations E3, E4, E5, E9, E11.

An operation maps the activation of one site, [batch, d], to its replacement of the same shape. It is told `where` it
acts, so that one object serves all layers, components and texts. Operations never see other tokens or other texts, so
that the result for a text does not depend on the batch it happens to be in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emolib.engine.choices import check_choice
from emolib.engine.sites import COMPONENTS, Component, Position, check_position


class Where(NamedTuple):
    """The site an operation acts on; `rows` (texts) and `positions` (tokens), both [batch], are on the CPU."""

    layer: int
    component: Component
    rows: Tensor
    positions: Tensor


Operation = Callable[[Tensor, Where], Tensor]


def onto(tensor: Tensor, other: Tensor | torch.device) -> Tensor:
    """The tensor on a device, or there and in the dtype of another tensor; nobody waits for a copy to CUDA.

    For one to MPS somebody has to: it reads what may be gone by then.
    """
    device = other if isinstance(other, torch.device) else other.device
    return tensor.to(other, non_blocking=device.type == "cuda")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One intervention: `operation` at `component` of every layer in `layers`, at one token or at all of them.

    `position` -1 is the last prompt token. Raises ValueError for an unknown component or position.
    """

    component: Component
    layers: tuple[int, ...]
    operation: Operation
    position: Position = -1

    def __post_init__(self) -> None:
        check_choice("component", self.component, Component)
        check_position(self.position)
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))


@dataclass(frozen=True)
class Zero:
    """The zero vector (E4, zero ablation)."""

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        return torch.zeros_like(activation)


@dataclass(frozen=True)
class Noise:
    """A random direction with the norm of the activation (E5, random ablation).

    The direction is Gaussian and fixed by seed, layer, component, text and token: unlike the released code it depends
    neither on the order of the experiments nor on the batch.
    """

    seed: int = 0

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        address = np.random.SeedSequence((self.seed, where.layer, COMPONENTS.index(where.component)))
        base = int(address.generate_state(1, np.uint64)[0])
        generator = torch.Generator()
        tokens = zip(where.rows.tolist(), where.positions.tolist(), strict=True)
        seeds = ((base + row * 1_000_003 + position) % 2**63 for row, position in tokens)
        draws = [torch.randn(activation.shape[-1], generator=generator.manual_seed(seed)) for seed in seeds]
        wide = activation.float()
        random = onto(torch.stack(draws), wide)
        scale = wide.norm(dim=-1, keepdim=True) / random.norm(dim=-1, keepdim=True)
        return (random * scale).to(activation.dtype)


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean activation of a set of texts (mean ablation); `means` maps a component to [n_layers, d]."""

    means: Mapping[Component, Tensor]

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        return onto(self.means[where.component][where.layer], activation).expand_as(activation)


@dataclass(frozen=True, eq=False)
class Patch:
    """The activation another text has at the same site (E3 patching; with random donors, resample ablation).

    `activations` maps a component to [n_layers, n_texts, d]; text i receives that of text `donors[i]`.
    """

    activations: Mapping[Component, Tensor]
    donors: Tensor

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        table, donors = self.activations[where.component][where.layer], self.donors[where.rows]
        return onto(table[onto(donors, table.device)], activation)


@dataclass(frozen=True, eq=False)
class Add:
    """The activation plus `coefficient` times a steering vector (E9-E11).

    `vectors` is [n_layers, d], or has the vector [d] of each layer that is edited.
    """

    vectors: Tensor | Mapping[int, Tensor]
    coefficient: float = 1.0

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        return activation + self.coefficient * onto(self.vectors[where.layer], activation)


@dataclass(frozen=True, eq=False)
class ProjectOut:
    """The activation without its part in the span of `directions` [n_layers, k, d] (need not be orthogonal)."""

    directions: Tensor

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        wide = activation.to(torch.promote_types(activation.dtype, torch.float32))
        basis = onto(self._basis(where.layer), wide)
        return (wide - wide @ basis.T @ basis).to(activation)

    def _basis(self, layer: int) -> Tensor:
        if layer not in self._bases:
            given = self.directions[layer].cpu()
            _, scale, basis = torch.linalg.svd(given.double(), full_matrices=False)  # which MPS has no numbers for
            # Directions that depend on one another, but for rounding, span less than their number (as matrix_rank).
            smallest = scale.max() * max(given.shape) * torch.finfo(given.dtype).eps
            self._bases[layer] = basis[scale > smallest]
        return self._bases[layer]

    @cached_property
    def _bases(self) -> dict[int, Tensor]:
        """Orthonormal ones [rank, d] by layer, float64, found once."""
        return {}


def fingerprint(edits: Sequence[Edit]) -> str:
    """A hash of what the edits do: two lists have the same one exactly when every number in them is the same.

    Raises TypeError for an operation that is not a dataclass of numbers, tensors, mappings and sequences.
    """
    known: dict[int, str] = {}  # a table of activations is shared by many edits and read once
    return _digest(list(edits), known)


def _digest(value: object, known: dict[int, str]) -> str:
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous()
        text = hashlib.sha256(content.view(torch.uint8).numpy().data if content.numel() else b"").hexdigest()
        text = known[id(value)] = f"{content.dtype}{tuple(content.shape)}{text}"
        return text
    if isinstance(value, (str, int, float, np.integer, type(None))):
        return f"{type(value).__name__}:{value!r}"
    if is_dataclass(value):
        parts = [f"{field.name}={_digest(getattr(value, field.name), known)}" for field in fields(value)]
    elif isinstance(value, Mapping):
        parts = [f"{key!r}={_digest(item, known)}" for key, item in sorted(value.items())]
    elif isinstance(value, (list, tuple)):
        parts = [_digest(item, known) for item in value]
    else:
        raise TypeError(f"{type(value).__name__} cannot be told from another: write operations as dataclasses")
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return hashlib.sha256(f"{name}({','.join(parts)})".encode()).hexdigest()


def edit_in_place(
    output: Tensor,
    jobs: Sequence[tuple[slice, slice, Edit]],
    where: tuple[int, Component],
    rows: Tensor,
    positions: Tensor,
    scale: float = 1.0,
) -> None:
    """Apply each edit to its rows and columns of a component's output [B, Q, d] times `scale`; others are untouched.

    `where` is layer and component; `rows` [B] and `positions` [B, Q] are on the CPU.
    """
    for batch, columns, edit in jobs:
        old = output[batch, columns]
        texts = rows[batch].repeat_interleave(old.shape[1])
        new = edit.operation(old.flatten(0, 1) * scale, Where(*where, texts, positions[batch, columns].flatten()))
        output[batch, columns] = new.view_as(old) / scale

"""The dtype "mixed": bfloat16 where a model multiplies with its weights, float32 everywhere else.

Linear maps hold bfloat16 weights, round what comes in, and give float32 back. The residual stream, norms, attention
scores, biases, embeddings and the unembedding are float32: sums over many layers are not rounded at each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from emolib.engine.choices import DType


class MixedLinear(torch.nn.Linear):
    """A linear map with bfloat16 weights between float32 activations."""

    def forward(self, input: Tensor) -> Tensor:
        """The map of `input` [..., in], [..., out], in the dtype of `input`."""
        return _biased(linear(input.to(self.weight.dtype), self.weight).to(input.dtype), self.bias)


class MixedConv1D(Conv1D):
    """The same for the transposed linear maps of GPT-2."""

    def forward(self, x: Tensor) -> Tensor:
        """The map of `x` [..., in], [..., out], in the dtype of `x`."""
        return _biased((x.to(self.weight.dtype) @ self.weight).to(x.dtype), self.bias)


MIXED: dict[type, type] = {torch.nn.Linear: MixedLinear, Conv1D: MixedConv1D}
# Maps that are not called: a state space (Mamba, Jamba) multiplies with the weights of this one itself.
UNCALLED = "dt_proj"


def _biased(product: Tensor, bias: Tensor | None) -> Tensor:
    return product if bias is None else product + bias


def mix(hf: Any) -> Any:
    """The float32 transformers model itself, its linear maps made mixed ones."""
    for module in linear_maps(hf).values():
        module.__class__ = MIXED[type(module)]
        module.weight.data = module.weight.data.to(torch.bfloat16)
    return hf


def linear_maps(hf: Any) -> dict[str, Any]:
    """The linear maps of a transformers model that `mix` rounds, by name: all but the unembedding, and UNCALLED."""
    return {
        name: module
        for name, module in hf.named_modules()
        if type(module) in MIXED and module is not hf.get_output_embeddings() and not name.endswith(UNCALLED)
    }


def reader(kind: Any, dtype: DType) -> tuple[Any, torch.dtype]:
    """The transformers class and the torch dtype that a checkpoint of a model of class `kind` is read with.

    Of a mixed model the class decides, tensor by tensor: no weight of a linear map is read as float32 first.
    """
    if dtype != "mixed":
        return kind, getattr(torch, dtype)

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        kind.__init__(self, *arguments, **options)
        mix(self)

    return type(kind.__name__, (kind,), {"__init__": init, "__module__": kind.__module__}), torch.float32


def name_of(hf: Any) -> str:
    """The name of the dtype that a transformers model has."""
    mixed = any(type(module) in MIXED.values() for module in hf.modules())
    return "mixed" if mixed else str(hf.dtype).removeprefix("torch.")

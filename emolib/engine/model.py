"""A `Model`: the same sites on every family that LAYOUTS knows.

On families with a norm after the sub-layer (Gemma-2, OLMo-2) `tap="contribution"` reads after that norm, which is what
is added to the residual stream; `tap="module"` reads before it, as the paper's released code does. `engine.checks`
proves on loading that the sites mean what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import nnsight  # before any transformers model class: nnsight wraps what it finds
import torch
from torch import Tensor
from transformers import PreTrainedModel

from emolib.engine.choices import Tap, check_choice
from emolib.engine.context import ATTENTION
from emolib.engine.layouts import Layout, find_layout, resolve
from emolib.engine.sites import Component


@dataclass(frozen=True, kw_only=True)
class Model:
    """A causal language model with uniform sites. `lm` is the nnsight view of the transformers model `hf`."""

    name: str
    revision: str
    hf: PreTrainedModel
    lm: Any
    tokenizer: Any
    layout: Layout
    tap: Tap

    @cached_property
    def remote(self) -> Any:
        """The nnsight view that can send its requests to NDIF."""
        return nnsight.TransformersModel(self.hf, tokenizer=self.tokenizer, task="text-generation")

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.hf.config.num_hidden_layers

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return self.hf.config.hidden_size

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights and activations."""
        return self.hf.dtype

    @property
    def device(self) -> torch.device:
        """Where the embedding lives and inputs go."""
        return self.hf.device

    def modules(self, component: Component, *, view: Any = None) -> list[Any]:
        """The module of each layer whose output is `component`, as nnsight sees it (or in `view`, such as `hf`)."""
        layers = list(resolve(self.lm if view is None else view, self.layout.layers))
        if component == "resid_post":
            return layers
        attention = component == "attn_out"
        norm = self.layout.attention_norm if attention else self.layout.mlp_norm
        path = self.layout.attention if attention else self.layout.mlp
        if norm and self.tap == "contribution":
            path = norm
        return [resolve(layer, path) for layer in layers]

    def norm(self, *, view: Any = None) -> Any:
        """The final norm, whose output the unembedding multiplies."""
        return resolve(self.lm if view is None else view, self.layout.norm)

    def unembed(self, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Next-token logits, float32, of `tokens` [k] (or of the whole vocabulary) from final-norm outputs [..., d].

        Caps and scales that a family applies to its logits are applied (Gemma-2, Granite, Cohere).
        """
        head, config = self.hf.get_output_embeddings(), self.hf.config
        weight = head.weight if tokens is None else head.weight[tokens.to(head.weight.device)]
        bias = head.bias if tokens is None or head.bias is None else head.bias[tokens]
        logits = torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias).float()
        logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def key_shape(self) -> tuple[int, int]:
        """Number of key/value heads and their size."""
        config = self.hf.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return heads, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Sliding attention window of each layer, in tokens; None where a layer attends to everything before it."""
        config = self.hf.config
        window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
        if not getattr(config, "use_sliding_window", True):
            window = None
        if kinds is None:
            return (window,) * self.n_layers
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def wrap_model(
    hf: PreTrainedModel, tokenizer: Any, *, name: str, revision: str = "local", tap: Tap = "contribution"
) -> Model:
    """The Model around a transformers model and its tokenizer, unchecked.

    Raises ValueError for an unknown tap or a layout that none of LAYOUTS describes.
    """
    check_choice("tap", tap, Tap)
    layout = find_layout(hf)
    hf.eval().requires_grad_(False)
    softcap = getattr(hf.config, "attn_logit_softcapping", None) is not None
    hf.set_attn_implementation("eager" if softcap else ATTENTION if hf.device.type == "cpu" else "sdpa")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    lm = nnsight.NNsight(hf)
    return Model(name=name, revision=revision, hf=hf, lm=lm, tokenizer=tokenizer, layout=layout, tap=tap)


def resolve_device(device: str) -> torch.device:
    """The torch device for "auto" (CUDA, else Apple's MPS, else CPU) or a device name.

    Raises ValueError for a name torch does not know or hardware that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} is not available ({error}): use cpu, cuda, cuda:0, mps or auto") from error
    return torch.device(device)

"""A `Model`: the same sites on every family.

On families with a norm behind the sub-layer (Gemma-2, OLMo-2) or a factor (Granite) `tap="contribution"` is behind it,
what is added to the residual stream; `tap="module"` is before it, as the paper's released code reads.
`engine.checks` proves on loading that the sites mean what they say.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import nnsight  # before any transformers model class: nnsight wraps what it finds
import torch
from accelerate.utils import align_module_device
from torch import Tensor
from transformers import PreTrainedModel

from emolib.engine.anatomy import Anatomy, dissect
from emolib.engine.choices import Tap, check_choice
from emolib.engine.layouts import Layout, find_layout, logit_scale_and_cap, resolve
from emolib.engine.precision import name_of
from emolib.engine.sites import COMPONENTS, Component


@dataclass(frozen=True, kw_only=True)
class Model:
    """A causal language model with uniform sites. `lm` is the nnsight view of the transformers model `hf`.

    `obstacle` says why its edits are run by full passes instead of replayed; empty where they are replayed.
    """

    name: str
    revision: str
    hf: PreTrainedModel
    lm: Any
    tokenizer: Any
    layout: Layout
    anatomy: Anatomy
    tap: Tap
    obstacle: str = ""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.layout.paths["resid_post"])

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return self.hf.config.get_text_config(decoder=True).hidden_size

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations, and of the weights unless they are mixed."""
        return self.hf.dtype

    @cached_property
    def precision(self) -> str:
        """The name that this, or a mix of it and bfloat16, is loaded by."""
        return name_of(self.hf)

    @property
    def device(self) -> torch.device:
        """Where the embedding lives and inputs go."""
        return self.hf.device

    @property
    def components(self) -> tuple[Component, ...]:
        """Those it has: all, or resid_post alone."""
        return tuple(self.layout.paths)

    @property
    def absent(self) -> str:
        """Which components it does not have, and why, in words; empty where it has all."""
        missing = [name for name in COMPONENTS if name not in self.components]
        return f"no {' and no '.join(missing)}, because attention and feed-forward do not add up" if missing else ""

    def modules(self, component: Component, *, view: Any = None) -> list[Any]:
        """The module of each layer whose output is `component`, as nnsight sees it (or in `view`, such as `hf`).

        Raises ValueError for a component that the model does not have.
        """
        self.check(component)
        view = self.lm if view is None else view
        if (component, id(view)) not in self._resolved:
            self._resolved[component, id(view)] = [resolve(view, path) for path in self.layout.paths[component]]
        return self._resolved[component, id(view)]

    @cached_property
    def _resolved(self) -> dict[tuple[Component, int], list[Any]]:
        """Modules by component and view: a replay would look as long for them as it computes a layer."""
        return {}

    def check(self, component: Component) -> None:
        """Nothing for a component that the model has; else raises ValueError."""
        if component not in self.components:
            raise ValueError(
                f"{self.name} ({type(self.hf).__name__}) has no {component}: it has {', '.join(self.components)} alone"
            )

    def scale(self, component: Component) -> float:
        """What the output of the component's module is multiplied with."""
        return 1.0 if component == "resid_post" else self.layout.scale

    def head(self, *, view: Any = None) -> Any:
        """The unembedding."""
        return resolve(self.lm if view is None else view, self.layout.head)

    def unembed(self, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Next-token logits, float32, of `tokens` [k] (or the whole vocabulary) from what the head is given [..., d].

        Caps and scales that a family applies to its logits are applied (Gemma-2, Granite, Cohere).
        """
        head = self.head(view=self.hf)
        with align_module_device(head):  # its weights, should they be kept elsewhere
            at = slice(None) if tokens is None else tokens.to(head.weight.device)
            weight, bias = head.weight[at], None if head.bias is None else head.bias[at]
            logits = torch.nn.functional.linear(hidden.to(weight), weight, bias).float()
        scale, cap = logit_scale_and_cap(self.hf.config.get_text_config(decoder=True))
        return logits * scale if cap is None else cap * torch.tanh(logits * scale / cap)


def wrap_model(
    hf: PreTrainedModel, tokenizer: Any, *, name: str, revision: str = "local", tap: Tap = "contribution"
) -> Model:
    """The Model around a transformers model and its tokenizer, unchecked.

    Raises ValueError for an unknown tap, and for a model that is not one emolib can serve, with the reason.
    """
    check_choice("tap", tap, Tap)
    hf.eval().requires_grad_(False)
    # transformers copies every key/value head once per query head; on the CPU that costs more than the attention.
    os.environ["TRANSFORMERS_SDPA_FORCE_GQA"] = str(int(hf.device.type == "cpu"))
    layout = find_layout(hf, tap)
    anatomy = dissect(hf, [resolve(hf, path) for path in layout.paths["resid_post"]])
    parts: dict[str, Any] = dict(hf=hf, lm=nnsight.NNsight(hf), tokenizer=tokenizer, layout=layout, anatomy=anatomy)
    return Model(name=name, revision=revision, tap=tap, obstacle=anatomy.obstacle, **parts)


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

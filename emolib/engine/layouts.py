"""Module paths of the families: the only code that knows them. A new family is a row of LAYOUTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths from the model to its layers and final norm, and from a layer to its two sub-layers.

    `attention_norm`, `mlp_norm`: the norms behind the sub-layers, in families that have such. `tuples`: a layer returns
    its stream in a tuple, as attention modules do everywhere. `only`: families, by the model_type of transformers, that
    this row is for, where the same paths mean something else in others.
    """

    layers: str
    attention: str
    mlp: str
    norm: str
    attention_norm: str | None = None
    mlp_norm: str | None = None
    tuples: bool = False
    only: tuple[str, ...] = ()

    def fits(self, hf: Any) -> bool:
        """Whether the model is of a family this row is for, and has all modules it names."""
        if self.only and hf.config.model_type not in self.only:
            return False
        try:
            first, *_ = resolve(hf, self.layers)
            resolve(hf, self.norm)
            for path in (self.attention, self.mlp, self.attention_norm, self.mlp_norm):
                resolve(first, path or self.attention)
        except (AttributeError, ValueError):
            return False
        return True


# The first row that fits counts.
LAYOUTS: tuple[Layout, ...] = (
    # Gemma-2, OLMo-2. Llama has a norm of the first name as well, but before its feed-forward.
    Layout(
        layers="model.layers",
        attention="self_attn",
        mlp="mlp",
        norm="model.norm",
        attention_norm="post_attention_layernorm",
        mlp_norm="post_feedforward_layernorm",
    ),
    # Llama, Mistral, Ministral, Phi-3, Qwen-2, Qwen-3, Qwen-3-MoE, Cohere
    Layout(layers="model.layers", attention="self_attn", mlp="mlp", norm="model.norm"),
    Layout(layers="transformer.h", attention="attn", mlp="mlp", norm="transformer.ln_f", tuples=True, only=("gptj",)),
    # GPT-2
    Layout(layers="transformer.h", attention="attn", mlp="mlp", norm="transformer.ln_f"),
    # GPT-NeoX, Pythia
    Layout(layers="gpt_neox.layers", attention="attention", mlp="mlp", norm="gpt_neox.final_layer_norm"),
)


def find_layout(hf: Any) -> Layout:
    """The layout of a transformers model; raises ValueError when none of LAYOUTS fits."""
    found = next((layout for layout in LAYOUTS if layout.fits(hf)), None)
    if found is None:
        known = ", ".join(dict.fromkeys(f"{layout.layers}[i].{layout.attention}" for layout in LAYOUTS))
        raise ValueError(f"{type(hf).__name__} has a layout emolib does not know: expected one of {known}")
    return found


def resolve(root: Any, path: str) -> Any:
    """What is at the dotted `path` below `root`; raises AttributeError when there is nothing."""
    for name in path.split("."):
        root = getattr(root, name)
    return root


def unwrap(output: Any) -> Tensor:
    """The tensor of a module's output: attention modules, and the layers of some families, return it in a tuple."""
    return output if isinstance(output, Tensor) else output[0]

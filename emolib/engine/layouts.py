"""Module paths of the families: the only code that knows them. A new family is a row of LAYOUTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths from the model to its layers and final norm, and from a layer to its two sub-layers.

    `tuples` says that a layer returns its stream in a tuple, as attention modules do in every family.
    """

    layers: str
    attention: str
    mlp: str
    norm: str
    tuples: bool = False


LAYOUTS: tuple[Layout, ...] = (
    # Llama, Mistral, Ministral, Gemma-2, Phi-3, OLMo-2, Qwen-2, Qwen-3, Qwen-3-MoE, Cohere
    Layout(layers="model.layers", attention="self_attn", mlp="mlp", norm="model.norm"),
    # GPT-2
    Layout(layers="transformer.h", attention="attn", mlp="mlp", norm="transformer.ln_f"),
    # GPT-NeoX, Pythia
    Layout(layers="gpt_neox.layers", attention="attention", mlp="mlp", norm="gpt_neox.final_layer_norm"),
)


def find_layout(hf: Any) -> Layout:
    """The layout of a transformers model; raises ValueError when none of LAYOUTS fits."""
    for layout in LAYOUTS:
        try:
            first = resolve(hf, layout.layers)[0]
            resolve(hf, layout.norm), resolve(first, layout.attention), resolve(first, layout.mlp)
        except (AttributeError, IndexError):
            continue
        return layout
    known = ", ".join(f"{layout.layers}[i].{layout.attention}" for layout in LAYOUTS)
    raise ValueError(f"{type(hf).__name__} has a layout emolib does not know: expected one of {known}")


def resolve(root: Any, path: str) -> Any:
    """What is at the dotted `path` below `root`; raises AttributeError when there is nothing."""
    for name in path.split("."):
        root = getattr(root, name)
    return root


def unwrap(output: Any) -> Tensor:
    """The tensor of a module's output: attention modules, and the layers of some families, return it in a tuple."""
    return output if isinstance(output, Tensor) else output[0]

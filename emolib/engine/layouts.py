"""Module paths of the families: the only code that knows them. A new family is a row of BLOCKS, if it needs one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

from torch import Tensor
from torch.nn import ModuleList

from emolib.engine.choices import Tap
from emolib.engine.sites import COMPONENTS, Component

# Where the list of layers is, below the model.
LAYERS = (
    *("model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers", "model.language_model.layers"),
    *("transformer.blocks", "backbone.layers", "backbone.blocks", "rwkv.blocks", "biogpt.layers"),
    *("gpt_neox_japanese.layers", "cpmant.encoder.layers"),
)
# Paths from a layer to attention, to the feed-forward, and to what is behind each, mostly a norm, where something is.
# "|" divides alternatives; what stands in attention's place, such as a state space, counts as attention. The first row
# that fits a layer counts. Whether its sub-layers add up is checked when a model loads.
BLOCKS = (
    # Gemma-2, Gemma-3, OLMo-2, EXAONE-4. Llama has a norm of the first name as well, but before its feed-forward.
    ("self_attn", "mlp", "post_attention_layernorm", "post_feedforward_layernorm"),
    ("self_attn", "mlp", "post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM-4
    ("self_attn", "mlp", "post_attention_layernorm", "post_mlp_layernorm"),  # AFMoE
    ("self_attn", "mlp", "post_norm1", "post_norm2"),  # HyperCLOVA X
    ("self_attn", "mlp", "attn_sconv", "mlp_sconv"),  # Inkling
    ("self_attn|conv", "feed_forward", "post_operator_norm", "post_ffn_norm"),  # LFM-3
    ("self_attention.dense", "mlp.dense_4h_to_h"),  # Bloom adds the stream inside of both sub-layers
    ("attn", "ffn.down_proj"),  # MPT, in the second
    ("self_attn", "fc2"),  # OPT, XGLM, BioGPT
    ("norm_attn_norm.attn", "ffn"),  # DBRX
    (
        "self_attn|attn|attention|self_attention|multi_head_attention|linear_attn|conv|mamba|temporal_block|mlstm_layer",
        "mlp|feed_forward|block_sparse_moe|shared_mlp|mlp_block|ffn",
    ),
)
# A number of a layer that it multiplies the outputs of its sub-layers with before it adds them (Granite, MiniCPM-3).
RESIDUAL_SCALES = ("residual_multiplier", "residual_scale")
# What is done with `logits_scaling` (Granite divides), where another family means something else by it.
LOGITS_SCALING = {"hyperclovax": 1, "minicpm3": 0}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths from the model to each layer's module of a component, and to the unembedding.

    `scale` is what outputs of sub-layers are multiplied with. A family whose blocks are not attention and feed-forward
    has resid_post alone.
    """

    paths: Mapping[Component, Sequence[str]]
    head: str
    scale: float


def find_layout(hf: Any, tap: Tap = "contribution") -> Layout:
    """The layout of a transformers model; raises ValueError when it has none that emolib knows, saying why."""
    head, place = hf.get_output_embeddings(), next(_present(hf, "|".join(LAYERS), ModuleList), None)
    if hf.config.is_encoder_decoder or (place is None and getattr(hf.config, "is_decoder", True) is False):
        raise ValueError(f"{type(hf).__name__} is or has an encoder: emolib serves models that continue their prompt")
    layers = resolve(hf, place) if place else []
    if head is None or not len(layers):
        lacks = "no single unembedding" if len(layers) else "no list of layers"
        raise ValueError(
            f"{type(hf).__name__} has {lacks} where emolib looks for it: expected one of {', '.join(LAYERS)} and an "
            "output head. Add its path to emolib.engine.layouts, or report the model's name"
        )
    paths: dict[Component, list[str]] = {name: [] for name in COMPONENTS}
    for number, layer in enumerate(layers):
        rows = ([next(_present(layer, names), "") for names in row] for row in BLOCKS)
        sites = next((row for row in rows if all(row)), [])
        # Of four, the last two are behind the first two.
        for name, path in zip(COMPONENTS, sites[-2:] if tap == "contribution" else sites[:2], strict=False):
            paths[name].append(f"{place}.{number}.{path}")
        paths["resid_post"].append(f"{place}.{number}")
    scales = [
        getattr(layers[0], name) for name in RESIDUAL_SCALES if tap == "contribution" and hasattr(layers[0], name)
    ]
    return Layout(
        paths={name: found for name, found in paths.items() if len(found) == len(layers)},
        head=next(path for path, module in hf.named_modules() if module is head),
        scale=scales[0] if scales else 1.0,
    )


def logit_scale_and_cap(config: Any) -> tuple[float, float | None]:
    """What a family multiplies its logits with (Granite, Cohere), and the number it caps them at (Gemma-2), or None."""
    powers = dict(logit_scale=1, lm_head_multiplier=1, logits_scaling=LOGITS_SCALING.get(config.model_type, -1))
    caps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    scale = prod((getattr(config, name, None) or 1.0) ** power for name, power in powers.items())
    return scale, next((cap for name in caps if (cap := getattr(config, name, None))), None)


def resolve(root: Any, path: str) -> Any:
    """What is at the dotted `path` below `root`; raises AttributeError when there is nothing."""
    return reduce(lambda at, name: at[int(name)] if name.isdigit() else getattr(at, name), path.split("."), root)


def _present(root: Any, paths: str, kind: type | None = None) -> Iterator[str]:
    """Those of the paths at which there is a module, not a list of them, or one of the `kind`."""
    for path in paths.split("|"):
        try:
            found = resolve(root, path)
        except AttributeError:
            continue
        if found is not None and isinstance(found, kind or ModuleList) == bool(kind):
            yield path


def unwrap(output: Any, shape: Sequence[int] | None = None) -> Tensor:
    """The tensor of a module's output: attention modules, and the layers of some families, return it in a tuple.

    With the `shape` [batch, position] of what was run: OPT loses it inside of its layers.
    """
    found = output if isinstance(output, Tensor) else output[0]
    return found if shape is None or found.ndim == 3 else found.unflatten(0, tuple(shape))

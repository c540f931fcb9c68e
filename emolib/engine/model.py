"""Models: loading, and the only code that knows module paths.

A `Model` offers the same sites on Llama, Mistral, Gemma-2, Phi-3, OLMo-2, Qwen-2/3, GPT-2 and GPT-NeoX layouts. On
families with a norm after the sub-layer (Gemma-2, OLMo-2) `tap="contribution"` reads after that norm, which is what is
added to the residual stream; `tap="module"` reads before it, as the paper's released code does. `engine.checks` proves
on loading that the sites mean what they say.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nnsight  # before any transformers model class: nnsight wraps what it finds
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from emolib.engine import registry
from emolib.engine.context import ATTENTION
from emolib.engine.sites import Component
from emolib.study.run import DType, Tap, check_choice
from emolib.texts.sources import cache_folder


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Module paths of a family: from the model to its layers and final norm, and from a layer to its two sub-layers."""

    layers: str
    attention: str
    mlp: str
    norm: str


LAYOUTS: tuple[Layout, ...] = (
    Layout(layers="model.layers", attention="self_attn", mlp="mlp", norm="model.norm"),
    Layout(layers="transformer.h", attention="attn", mlp="mlp", norm="transformer.ln_f"),
    Layout(layers="gpt_neox.layers", attention="attention", mlp="mlp", norm="gpt_neox.final_layer_norm"),
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A causal language model with uniform sites. `lm` is the nnsight view of the transformers model `hf`."""

    name: str
    revision: str
    hf: torch.nn.Module
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
        layers = list(_resolve(self.lm if view is None else view, self.layout.layers))
        if component == "resid_post":
            return layers
        attention = component == "attn_out"
        # A norm after the sub-layer exists exactly where there is one after the feed-forward: Llama calls the norm
        # *before* its feed-forward "post_attention_layernorm".
        post_norm = hasattr(_resolve(self.hf, self.layout.layers)[0], "post_feedforward_layernorm")
        if post_norm and self.tap == "contribution":
            path = "post_attention_layernorm" if attention else "post_feedforward_layernorm"
        else:
            path = self.layout.attention if attention else self.layout.mlp
        return [_resolve(layer, path) for layer in layers]

    def norm(self, *, view: Any = None) -> Any:
        """The final norm, whose output the unembedding multiplies."""
        return _resolve(self.lm if view is None else view, self.layout.norm)

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


def unwrap(output: Any) -> Tensor:
    """The tensor of a module's output: attention modules, and the layers of some families, return it in a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def load_model(
    name: str,
    *,
    dtype: DType = "float32",
    device: str = "auto",
    tap: Tap = "contribution",
    revision: str | None = None,
    accept: Callable[[Any], object] = lambda tokenizer: None,
) -> Model:
    """The model called `name` (registry name, Hugging Face id or local folder), ready for the engine.

    `accept` sees the tokenizer before any weight is loaded, and raises what it has against it. Raises ValueError for an
    unknown name, dtype, device or tap before anything is loaded; RuntimeError when the weights cannot be had;
    emolib.engine.checks.UnsupportedModel when the model fails a check.
    """
    from emolib.engine.checks import check_model

    check_choice("dtype", dtype, DType)
    check_choice("tap", tap, Tap)
    place = resolve_device(device)
    source = registry.locate(name)
    address = str(_unpacked(Path(source))) if source.endswith(".gguf") else source
    at = dict(revision=revision or "main")
    try:
        tokenizer = AutoTokenizer.from_pretrained(address, **at)
    except (OSError, ValueError) as error:
        raise _unavailable(name, address, error) from error
    accept(tokenizer)
    try:
        hf = AutoModelForCausalLM.from_pretrained(address, **at, dtype=getattr(torch, dtype)).to(place)
    except (OSError, ValueError) as error:  # transformers raises either for a folder without a model
        raise _unavailable(name, address, error) from error
    found = getattr(hf.config, "_commit_hash", None) or registry.revision(name) or "unknown"
    return check_model(wrap_model(hf, tokenizer, name=name, revision=found, tap=tap))


def wrap_model(
    hf: torch.nn.Module, tokenizer: Any, *, name: str, revision: str = "local", tap: Tap = "contribution"
) -> Model:
    """The Model around a transformers model and its tokenizer, unchecked.

    Raises ValueError for an unknown tap or a layout that none of LAYOUTS describes.
    """
    check_choice("tap", tap, Tap)
    for layout in LAYOUTS:
        try:
            first = _resolve(hf, layout.layers)[0]
            _resolve(hf, layout.norm), _resolve(first, layout.attention), _resolve(first, layout.mlp)
        except (AttributeError, IndexError):
            continue
        break
    else:
        known = ", ".join(f"{layout.layers}[i].{layout.attention}" for layout in LAYOUTS)
        raise ValueError(f"{type(hf).__name__} has a layout emolib does not know: expected one of {known}")
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


def _unavailable(name: str, address: str, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"model {name!r} could not be loaded from {address!r}: {error}. Gated models need `hf auth login`; without a "
        "network give a folder that holds config, weights and tokenizer, or use smollm2-135m."
    )


def _resolve(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def _unpacked(gguf: Path) -> Path:
    """The folder that holds a GGUF file's weights as plain float32, written to the cache once: 20 s become 1."""
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    folder = cache_folder() / "models" / f"{gguf.stem}-{digest[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    where = dict(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)
    hf = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    settings = {k: v for k, v in hf.config.to_dict().items() if k not in ("quantization_config", "dtype")}
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        plain = type(hf)(type(hf.config).from_dict(settings))
        plain.load_state_dict(hf.state_dict())
        plain.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(**where).save_pretrained(temporary)
        # Two processes may have done the same work: whoever is first wins, the other's copy is equal.
        with contextlib.suppress(OSError):
            Path(temporary).rename(folder)
        Path(temporary).mkdir(exist_ok=True)
    return folder

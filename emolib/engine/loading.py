"""Loading a model by name: a registry name, hub id, folder or GGUF file, checked before anything is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, AutoTokenizer

from emolib.engine import registry, weights
from emolib.engine.checks import check_model
from emolib.engine.choices import DType, Tap, check_choice
from emolib.engine.layouts import find_layout
from emolib.engine.model import Model, resolve_device, wrap_model
from emolib.engine.remote import as_elsewhere, elsewhere


def load(
    name: str,
    *,
    dtype: DType = "float32",
    device: str | Mapping[str, str] = "auto",
    tap: Tap = "contribution",
    accept: Callable[[Any, Any], object] = lambda tokenizer, empty: None,
) -> Model:
    """The model called `name` (registry name, Hugging Face id, local folder or GGUF file), ready for the engine.

    Behind the name may stand @revision, and @random:SEED for a twin that was never trained. Configuration and tokenizer
    are read and checked before the weights; `accept` sees the tokenizer and the model without weights then, and raises
    what it has against them. For a model larger than one device, `device` is "balanced" over all GPUs, or a map of
    modules to devices. With the device "ndif" the weights stay there, see `emolib.engine.remote`; "ndif-local" loads
    them here and asks for them in that way. Raises ValueError for an unknown name, dtype, device or tap before anything
    is read; RuntimeError when something cannot be had or is not whole; emolib.engine.checks.UnsupportedModel when the
    model fails a check.
    """
    check_choice("dtype", dtype, DType)
    check_choice("tap", tap, Tap)
    split = device == "balanced" or not isinstance(device, str)
    place: Any = device if split else resolve_device("cpu" if str(device).startswith("ndif") else str(device))
    source, (_, revision, seed) = registry.locate(name), registry.parse(name)
    if seed is not None and (split or device == "ndif"):
        raise ValueError(f"twin {name!r} on {device!r}: it is drawn on one device, such as cpu or cuda")
    if dtype == "mixed" and device == "ndif":
        raise ValueError("dtype 'mixed' on NDIF: weights are there in one number format, such as bfloat16")
    gguf = Path(source) if source.endswith(".gguf") else None
    # A twin is drawn in float32.
    config, empty, tokenizer, folder = describe(name, dtype=dtype if seed is None else "float32")
    accept(tokenizer, empty)
    if device == "ndif":
        return check_model(elsewhere(source, tokenizer, name=name, revision=revision, dtype=dtype, tap=tap))
    advice = "get them again, as safetensors, which save_pretrained writes; pickles (.bin, .pt) are never opened"
    with _reading(name, source, "weights", advice):
        if not split:
            # A twin takes four bytes a weight while it is drawn, and no narrower number would help it.
            narrower = "a dtype of two bytes (bfloat16, mixed), " if dtype == "float32" and seed is None else ""
            weights.require_memory(empty, place, narrower)
        options = dict(config=config, device_map=place if split else None, use_safetensors=True)
        if seed is not None:
            hf = weights.untrained(config, seed, dtype)
        elif gguf:
            hf = weights.unpacked(gguf, Path(folder), empty, dtype, **options)
        else:
            hf = weights.pretrained(folder, type(empty), dtype, revision=revision or "main", **options)
    if split and hf.device.type == "meta":
        raise ValueError(
            f"device {device!r}: the first weights of {name!r} would wait elsewhere until they are needed, and a "
            "prompt has to go where they are: put them on the device that computes, a GPU where there is one"
        )
    hf = hf if split else hf.to(place)
    found = registry.revision(name) or "unknown"
    model = check_model(wrap_model(hf, tokenizer, name=name, revision=found, tap=tap))
    return as_elsewhere(model) if device == "ndif-local" else model


class Described(NamedTuple):
    """What is known of a model without its weights: `empty` has the modules, `folder` what was read."""

    config: Any
    empty: Any
    tokenizer: Any
    folder: str


def describe(name: str, *, dtype: DType = "float32") -> Described:
    """What a model called `name` is, in `dtype`, without its weights; they need not be here.

    Raises ValueError for an unknown name; RuntimeError when something cannot be had or is not whole.
    """
    source, (base, revision, seed) = registry.locate(name), registry.parse(name)
    at = dict(revision=revision or "main")
    folder = source
    if source.endswith(".gguf"):
        with _reading(name, source, "file", "get it again, or another quantisation of it, such as Q4_K_M or Q8_0"):
            sha256 = registry.registry().get(base, {}).get("sha256")
            folder = str(weights.described(Path(source), sha256=sha256))
    with _reading(
        name,
        source,
        "configuration",
        "give a folder that holds config, weights and tokenizer of a causal language model, log in for a gated one "
        "(`hf auth login`), or, without a network, use smollm2-135m",
    ):
        if seed is None:
            weights.check_address(folder, at["revision"])
        config = AutoConfig.from_pretrained(folder, **at, **weights.OWN_CODE)
        config._attn_implementation = None  # its own choice, which may be code from elsewhere, is not asked
        empty = weights.skeleton(config, dtype)
    find_layout(empty)
    with _reading(name, source, "tokenizer", "put tokenizer.json and tokenizer_config.json beside the weights"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **at, **weights.OWN_CODE)
        weights.check_tokenizer(tokenizer, empty.get_input_embeddings().weight.shape[0])
    return Described(config, empty, tokenizer, folder)


@contextmanager
def _reading(name: str, source: str, what: str, advice: str) -> Iterator[None]:
    """Turns what a library says about a part of a model into one sentence with what to do."""
    try:
        yield
    except weights.Refused as error:
        raise RuntimeError(f"model {name!r} could not be loaded from {source!r}: {error}.") from error
    except Exception as error:  # tokenizers and safetensors raise nothing narrower
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "trust_remote_code" in str(error):
            reason, advice = "it brings code of its own", "emolib never runs such code; choose another model"
        said = weights.damaged(Path(source)) or f"its {what} cannot be read ({reason}): {advice}"
        raise RuntimeError(f"model {name!r} could not be loaded from {source!r}: {said}.") from error

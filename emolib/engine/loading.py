"""Loading a model by name: a registry name, hub id, folder or GGUF file, checked before anything is measured on it."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from emolib.engine import registry
from emolib.engine.checks import check_model
from emolib.engine.choices import DType, Tap, check_choice
from emolib.engine.model import Model, resolve_device, wrap_model
from emolib.engine.remote import as_elsewhere, elsewhere


def load(
    name: str,
    *,
    dtype: DType = "float32",
    device: str | Mapping[str, str] = "auto",
    tap: Tap = "contribution",
    revision: str | None = None,
    accept: Callable[[Any], object] = lambda tokenizer: None,
) -> Model:
    """The model called `name` (registry name, Hugging Face id, local folder or GGUF file), ready for the engine.

    For a model larger than one device, `device` is "balanced" over all GPUs, or a map of modules to devices. With the
    device "ndif" the weights stay there, see `emolib.engine.remote`; "ndif-local" loads them here and asks for them in
    that way. `accept` sees the tokenizer before any weight is loaded, and raises what it has against it. Raises
    ValueError for an unknown name, dtype, device or tap before anything is loaded; RuntimeError when the weights cannot
    be had; emolib.engine.checks.UnsupportedModel when the model fails a check.
    """
    check_choice("dtype", dtype, DType)
    check_choice("tap", tap, Tap)
    split = device == "balanced" or not isinstance(device, str)
    place: Any = device if split else resolve_device("cpu" if str(device).startswith("ndif") else str(device))
    source = registry.locate(name)
    address = str(_unpacked(Path(source))) if source.endswith(".gguf") else source
    at = dict(revision=revision or "main")
    try:
        tokenizer = AutoTokenizer.from_pretrained(address, **at)
    except (OSError, ValueError) as error:
        raise _unavailable(name, address, error) from error
    accept(tokenizer)
    if device == "ndif":
        return check_model(elsewhere(address, tokenizer, name=name, revision=revision, dtype=dtype, tap=tap))
    try:
        settings = dict(dtype=getattr(torch, dtype), device_map=place if split else None)
        hf: Any = AutoModelForCausalLM.from_pretrained(address, **at, **settings)
        hf = hf if split else hf.to(place)
    except (OSError, ValueError) as error:  # transformers raises either for a folder without a model
        raise _unavailable(name, address, error) from error
    found = getattr(hf.config, "_commit_hash", None) or registry.revision(name) or "unknown"
    model = check_model(wrap_model(hf, tokenizer, name=name, revision=found, tap=tap))
    return as_elsewhere(model) if device == "ndif-local" else model


def _unavailable(name: str, address: str, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"model {name!r} could not be loaded from {address!r}: {error}. Gated models need `hf auth login`; without a "
        "network give a folder that holds config, weights and tokenizer, or use smollm2-135m."
    )


def _unpacked(gguf: Path) -> Path:
    """The folder that holds a GGUF file's weights as plain float32, written to the cache once: 20 s become 1."""
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    folder = registry.cache_folder() / "models" / f"{gguf.stem}-{digest[:12]}"
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

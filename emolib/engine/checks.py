"""What is proved about a model when it loads, in four short passes, before anything is measured on it."""

from __future__ import annotations

import torch

from emolib.engine.edits import Edit, Zero
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS

PROBES = ("Context: The bus left early. Answer:", "Context: My neighbour returned the ladder after a year. Answer:")
# Largest difference that rounding explains, as a share of the largest number compared.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}


class UnsupportedModel(ValueError):
    """A model whose sites do not mean what emolib says they mean."""


def check_model(model: Model) -> Model:
    """The model itself, once four things hold on two short prompts of different length.

    Batched, cached logits equal those of plain transformers; attn_out + mlp_out is what a layer adds to the residual
    stream (not asked of `tap="module"`, which promises something else); zeroing an mlp_out changes the logits; and
    replaying that edit equals a full pass with a plain PyTorch hook. Raises UnsupportedModel naming what failed.
    """
    vocabulary = torch.arange(min(model.hf.config.vocab_size, 2000))
    engine = Engine(model, PROBES, vocabulary)
    encoding = engine.encode([0, 1], read=COMPONENTS)
    expected = torch.stack([plain(model, prompt, None, vocabulary) for prompt in PROBES])
    _require(model, encoding.logits, expected, "batched logits differ from those of plain transformers")
    added = encoding.activations["attn_out"] + encoding.activations["mlp_out"]
    if model.tap == "contribution":
        step = encoding.activations["resid_post"].float() - encoding.resid_pre.float()
        scale = encoding.activations["resid_post"].float()
        _require(model, added.float(), step, "attn_out + mlp_out is not what a layer adds", scale=scale)
    edit = Edit(component="mlp_out", layers=(model.n_layers // 2,), operation=Zero())
    edited = engine.replay(encoding, [edit])[:, 0]
    hooked = torch.stack([plain(model, prompt, edit, vocabulary) for prompt in PROBES])
    _require(model, edited, hooked, "a replayed edit differs from a full pass with that edit")
    # An effect that is not larger than what replay and hooks differ by is rounding.
    if (edited - encoding.logits).abs().max() <= 2 * (edited - hooked).abs().max():
        raise UnsupportedModel(f"{model.name}: zeroing mlp_out leaves the logits as they were: the edit has no effect")
    return model


def _require(
    model: Model, found: torch.Tensor, expected: torch.Tensor, message: str, *, scale: torch.Tensor | None = None
) -> None:
    worst = (found - expected).abs().max().item()
    allowed = TOLERANCE[model.dtype] * (expected if scale is None else scale).abs().max().item()
    if not worst <= allowed:
        raise UnsupportedModel(
            f"{model.name} ({type(model.hf).__name__}): {message} (by {worst:.3g}, rounding allows {allowed:.3g}). Its "
            "layout is one emolib cannot serve; please report it with the model's name and transformers' version."
        )

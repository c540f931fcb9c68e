"""Errata shown on random networks: windows, taps, the printed equation, hooks, seeds (cases: `emolib.paper.errata`).

They know nothing, so what holds on them holds by construction. Every difference stands beside its control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from emolib.engine.checks import PROBES
from emolib.engine.edits import Edit, Noise, Where, Zero
from emolib.engine.engine import Engine
from emolib.engine.layouts import unwrap
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model
from emolib.paper.errata import Finding, finding

FAMILIES = ("llama", "mistral", "ministral", "gemma2", "phi3", "olmo2")  # those of the paper's ten models
SOME = torch.arange(50)  # tokens whose logits are compared


def from_networks() -> list[Finding]:
    """Return all findings of this module."""
    return [*tiny_window(), *tiny_taps(), *equation(tiny_model("llama")), *hooks(), *hooked_and_plain(), *seeds()]


def tiny_window() -> list[Finding]:
    """Return M1: the logits of a window of three on h minus those of its centre, and of its last layer alone."""
    engine = Engine(tiny_model("llama"), PROBES, SOME)
    encoding = engine.encode([0, 1], read=())
    edits = [Edit(component="resid_post", layers=layers, operation=Zero()) for layers in ((1, 2, 3), (3,), (2,))]
    wide, last, centre = engine.replay(encoding, edits).float().unbind(1)
    text = "logits of a random network: window minus its centre, and minus its last layer"
    return [finding("M1", text, (wide - centre).abs().max().item(), (wide - last).abs().max().item(), "executed")]


def tiny_taps() -> list[Finding]:
    """Return M15 on a random Gemma 2: by how much a layer's parts miss the residual stream, relative to its size."""
    gaps = []
    for tap in ("module", "contribution"):
        attention, forward, before, after = _parts(tiny_model("gemma2", tap=tap))
        gaps.append(_relative(attention + forward, after - before))
    text = "what a layer adds minus its two parts, relative: as released, and after the norm (random Gemma 2)"
    return [finding("M15", text, *gaps, "executed")]


def equation(model: Model) -> list[Finding]:
    """Return P3 on a model of the Llama layout: what a layer adds minus what equations of it give, relative."""
    attention, _, before, after = _parts(model)
    layers = model.modules("resid_post", view=model.hf)
    forward = model.modules("mlp_out", view=model.hf)

    def missed(stream: Tensor, *, norm: Literal["applied", "left out"] = "applied") -> float:
        inputs = stream + attention
        if norm == "applied":
            inputs = torch.stack([layer.post_attention_layernorm(x) for layer, x in zip(layers, inputs, strict=True)])
        added = torch.stack([module(x) for module, x in zip(forward, inputs, strict=True)])
        return _relative(attention + added, after - before)

    right, text = missed(before), "what a layer adds minus what the equation gives, relative, feed-forward"
    return [
        finding(
            "P3",
            f"{text} on h of its own layer, and of the one before (random Llama)",
            missed(after),
            right,
            "executed",
        ),
        finding(
            "P3",
            f"{text} without, and with its norm (random Llama)",
            missed(before, norm="left out"),
            right,
            "executed",
        ),
    ]


def _parts(model: Model) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What attention and feed-forward give, and the stream before and after, each [n_layers, texts, 1, width]."""
    encoding = Engine(model, PROBES, SOME).encode([0, 1], read=COMPONENTS)
    attention, forward, after = (encoding.activations[name].float() for name in COMPONENTS)
    return attention, forward, encoding.resid_pre.float(), after


def _relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def hooks() -> list[Finding]:
    """Return X2: what a hook does that returns a new tensor or writes into the old one, by what becomes of its return.

    Plain PyTorch on a random Llama; the hook silences one feed-forward layer.
    """
    model, text = tiny_model("llama"), "new tensor returned, and old one changed"
    anew, in_place = torch.zeros_like, Tensor.zero_
    ignored, used = (
        [_change(model, operation, returned=returned) for operation in (anew, in_place)]
        for returned in ("ignored", "used")
    )
    return [
        finding("X2", f"largest change of logits, a hook's return ignored: {text}", *ignored, "executed"),
        finding("X2", f"largest change of logits, a hook's return used: {text}", *used, "executed"),
    ]


def _change(model: Model, operation: Callable[[Tensor], Tensor], *, returned: Literal["ignored", "used"]) -> float:
    def hook(_module: torch.nn.Module, _inputs: object, output: object) -> Tensor | None:
        new = operation(unwrap(output))
        return new if returned == "used" else None

    before = _plain(model)
    handle = model.modules("mlp_out", view=model.hf)[1].register_forward_hook(hook)
    try:
        return (_plain(model) - before).abs().max().item()
    finally:
        handle.remove()


def _plain(model: Model) -> Tensor:
    """Next-token logits of both probes by one pass each, without the engine."""
    ids = [model.tokenizer(probe, return_tensors="pt")["input_ids"] for probe in PROBES]
    with torch.no_grad():
        return torch.stack([model.hf(one).logits[0, -1, SOME].float() for one in ids])


def hooked_and_plain() -> list[Finding]:
    """Return X3: how far logits read through the engine are from those of plain transformers, at most.

    All sites are read, nothing is changed; the control silences one feed-forward layer. Shares of the largest logit.
    """
    unchanged, silenced = [], []
    for family in FAMILIES:
        model = tiny_model(family)
        engine = Engine(model, PROBES, SOME)
        encoding = engine.encode([0, 1], read=COMPONENTS)
        edited = engine.replay(encoding, [Edit(component="mlp_out", layers=(1,), operation=Zero())])[:, 0]
        model.hf.set_attn_implementation("eager")
        plain = _plain(model)
        found = [((logits - plain).abs().max() / plain.abs().max()).item() for logits in (encoding.logits, edited)]
        unchanged.append(found[0])
        silenced.append(found[1])
    text = f"logits with hooks against plain ones, {len(FAMILIES)} random families: at most, and at least if one edits"
    return [finding("X3", text, max(unchanged), min(silenced), "executed")]


def seeds(*, n: int = 64, n_layers: int = 3, width: int = 48) -> list[Finding]:
    """Return M4: the share of random vectors that change with order or batch size; one seed, and one for each text."""
    orders = {"when the texts are reversed": (range(n)[::-1], 8), "in batches of 16 instead of 8": (range(n), 16)}
    found = []
    for change, (order, size) in orders.items():
        shares = [
            (draw(range(n), 8, n_layers, width) != draw(order, size, n_layers, width)).any(-1).float().mean().item()
            for draw in (one_seed, own_seeds)
        ]
        text = f"share of random vectors that change {change}: one seed for the loop, and one for each text"
        found.append(finding("M4", text, *shares, "executed"))
    return found


def one_seed(order: Sequence[int], size: int, n_layers: int, width: int) -> Tensor:
    """Vectors [n, n_layers, width] by text, as drawn in a loop over batches and layers that is seeded once before."""
    generator = torch.Generator().manual_seed(0)
    found = torch.empty(len(order), n_layers, width)
    for start in range(0, len(order), size):
        rows = list(order[start : start + size])
        for layer in range(n_layers):
            found[rows, layer] = torch.randn(len(rows), width, generator=generator)
    return found


def own_seeds(order: Sequence[int], size: int, n_layers: int, width: int) -> Tensor:
    """The same loop with the random ablation of this project, whose vectors are fixed by text, layer and site."""
    operation, found = Noise(), torch.empty(len(order), n_layers, width)
    for start in range(0, len(order), size):
        rows = torch.tensor(order[start : start + size])
        for layer in range(n_layers):
            where = Where(layer, "attn_out", rows, torch.zeros_like(rows))
            found[rows, layer] = operation(torch.ones(len(rows), width), where)
    return found

"""What is proved about a model when it loads, in a few short passes, before anything is measured on it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from emolib.engine.context import room_for
from emolib.engine.edits import Edit, Noise
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.sites import Component

PROBES = ("Context: The bus left early. Answer:", "Context: My neighbour returned the ladder after a year. Answer:")
# Largest difference that rounding explains, as a share of the largest number compared.
TOLERANCE = {torch.float32: 1e-4, "mixed": 4e-2, torch.float16: 2e-2, torch.bfloat16: 8e-2}
BEYOND, MARGIN = 2056, 100  # tokens: more than many models were trained on, and what two prompts take at the most
# Floating-point operations that a long pass may take, on a CPU and elsewhere. A window that is named in the
# configuration but seen in no mask is worth a hundred times as much: only a prompt that is longer shows what it does.
CHEAP = {"cpu": 2e10}, 2e13


class UnsupportedModel(ValueError):
    """A model whose sites do not mean what emolib says they mean."""


def check_model(model: Model) -> Model:
    """The model with what it can do, once that is proved: its `components`, and an `obstacle` where it has one.

    On two prompts of different length, longer than its attention windows where that is cheap, its logits are those of
    plain transformers, and replayed edits equal full passes with a plain PyTorch hook; if not, full passes are used.
    The sum of attn_out and mlp_out is what a layer adds to the residual stream (not asked of `tap="module"`, which
    promises something else); if not, there is resid_post alone. Warns of either. Raises UnsupportedModel naming what
    fails by full passes as well, and for an edit without effect.
    """
    if len(model.components) > 1 and model.tap == "contribution" and not sums(model).holds:
        alone: dict[Component, Sequence[str]] = {"resid_post": model.layout.paths["resid_post"]}
        model = replace(model, layout=replace(model.layout, paths=alone))
    problem = _problem(model)
    if problem and not model.obstacle:
        model = replace(model, obstacle=problem)
        problem = _problem(model)
    if problem:
        raise UnsupportedModel(
            f"{model.name} ({type(model.hf).__name__}): {problem}. Its layout is one emolib cannot serve; please "
            "report it with the model's name and transformers' version."
        )
    if len(model.components) == 1:
        warnings.warn(f"{model.name} has resid_post alone: attention and feed-forward do not add up", stacklevel=2)
    if model.obstacle:
        warnings.warn(
            f"{model.name} is run by full passes, because {model.obstacle}: equally right, but each edit reads its "
            "whole prompt, not its last tokens alone: 30 to 100 times as long where prompts have 100 tokens",
            stacklevel=2,
        )
    return model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two computations of one thing, in words: the largest `difference` of their numbers, and what rounding allows."""

    ours: str
    theirs: str
    difference: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether rounding explains the difference."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        return f"{self.ours} differ from {self.theirs} (by {self.difference:.3g}, rounding allows {self.allowed:.3g})"


def _problem(model: Model) -> str:
    """The first comparison that rounding does not explain, in words; empty when there is none."""
    return next((str(one) for one in passes(model) if not one.holds), "")


def sums(model: Model) -> Comparison:
    """What attention and feed-forward add, against the step of the residual stream over each layer."""
    encoding = Engine(model, PROBES, torch.arange(2)).encode([0, 1], read=model.components)
    found = {name: values.float() for name, values in encoding.activations.items()}
    step, added = found["resid_post"] - encoding.resid_pre.float(), found["attn_out"] + found["mlp_out"]
    words = ("attention and feed-forward", "the step of the residual stream")
    return _compared(model, *words, added, step, scale=found["resid_post"])


def passes(model: Model) -> list[Comparison]:
    """The engine's logits against those of plain transformers, without and with edits, which have an effect.

    Nothing for what runs elsewhere, which has no plain transformers here to be compared with. Raises UnsupportedModel
    for an edit without effect.
    """
    if model.hf.device.type == "meta":
        return []
    vocabulary = torch.arange(min(len(model.head(view=model.hf).weight), 2000))
    prompts = _prompts(model)
    engine = Engine(model, prompts, vocabulary, keep=2)
    # Of mlp_out at the last token, attn_out at the one before, or of resid_post.
    middle, where = (model.n_layers // 2,), zip(model.components[1::-1], (-1, -2), strict=False)
    edits = [Edit(component=name, layers=middle, operation=Noise(), position=position) for name, position in where]
    encoding = engine.encode([0, 1])
    found = torch.cat([encoding.logits[:, None], engine.replay(encoding, edits)], 1)
    hooked = [
        [plain(model, text, edit, vocabulary, row=i) for edit in (None, *edits)] for i, text in enumerate(prompts)
    ]
    expected = torch.stack([torch.stack(row) for row in hooked])
    compared = [
        _compared(model, "batched logits", "those of plain transformers", found[:, 0], expected[:, 0]),
        _compared(model, "replayed edits", "full passes with them", found[:, 1:], expected[:, 1:]),
    ]
    # An effect that is not larger than what replay and hooks differ by is rounding.
    effect = (found[:, 1] - found[:, 0]).abs().max()
    if all(one.holds for one in compared) and effect <= 2 * (found - expected)[:, 1].abs().max():
        raise UnsupportedModel(f"{model.name}: an edit of {edits[0].component} leaves the logits as they were")
    return compared


def _compared(
    model: Model,
    ours: str,
    theirs: str,
    found: torch.Tensor,
    expected: torch.Tensor,
    *,
    scale: torch.Tensor | None = None,
) -> Comparison:
    share = TOLERANCE["mixed" if model.precision == "mixed" else model.dtype]
    allowed = share * (expected if scale is None else scale).abs().max().item()
    worst = (found - expected).abs().max().item()
    return Comparison(ours=ours, theirs=theirs, difference=worst, allowed=allowed)


def _prompts(model: Model) -> list[str]:
    """Two prompts; longer, where that is cheap, than BEYOND and the windows of the model and its configuration.

    The masks are made by the model's own rules, and what changes with the length of a text is known from the
    configuration (`room_for`): such prompts are for what neither says.
    """
    config = model.hf.config.get_text_config(decoder=True)
    windows = {window for window in model.anatomy.windows if window}
    named = {
        size for name, size in vars(config).items() if isinstance(size, int) and ("window" in name or "chunk" in name)
    }
    cheap = CHEAP[0].get(model.device.type, CHEAP[1]) / (2 * model.hf.num_parameters())
    most = room_for(config) or BEYOND + MARGIN
    lengths = [size for size in {BEYOND} | windows | named if size < cheap * (100 if size in named - windows else 1)]
    longest = 0 if model.obstacle else max([size for size in lengths if size <= most - MARGIN], default=0)
    begin = "" if longest <= 8 else PROBES[0] * (longest // len(model.tokenizer(PROBES[0])["input_ids"]) + 1)
    return [begin + probe for probe in PROBES]

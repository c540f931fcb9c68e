"""The oracle: one unpadded pass of plain transformers with a PyTorch hook, which everything else has to equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emolib.engine.edits import Edit, Where
from emolib.engine.labels import answer_ids
from emolib.engine.model import Model


def plain(
    model: Model,
    prompt: str | Sequence[int],
    edit: Edit | None = None,
    answers: Sequence[str] | Int[Tensor, " answer"] | None = None,
    *,
    row: int = 0,
) -> Float[Tensor, " answer"]:
    """Next-token logits, float32, of `answers` (words, or token ids; the whole vocabulary without) under one edit.

    No cache, no padding, no shared prefix, no nnsight: slow, and simple enough to be read. Any edit, also of all
    positions; `row` is the prompt's number in the engine, for operations that differ from text to text.
    """
    read = model.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
    ids = torch.tensor([read], device=model.device)
    with torch.no_grad(), ExitStack() as undo:
        if edit is not None:
            modules = model.modules(edit.component, view=model.hf)
            scale = model.scale(edit.component)
            for layer in edit.layers:
                hook = _hook(edit, layer, row, ids.shape, scale)
                undo.callback(modules[layer].register_forward_hook(hook).remove)
        logits = model.hf(ids).logits[0, -1].float()
    return logits if answers is None else logits[answer_ids(model.tokenizer, answers).to(logits.device)]


def _hook(edit: Edit, layer: int, row: int, shape: torch.Size, scale: float) -> Callable[..., Any]:
    """A forward hook that replaces the activation, the output times `scale`, at the edit's token or at each one."""

    def hook(_module: torch.nn.Module, _inputs: object, output: Any) -> Any:
        old = output if isinstance(output, Tensor) else output[0]
        new = old.clone().view(*shape, -1)
        for place in range(shape[1]) if edit.position == "all" else [shape[1] + edit.position]:
            where = Where(layer, edit.component, torch.tensor([row]), torch.tensor([place]))
            new[:, place] = edit.operation(new[:, place] * scale, where) / scale
        new = new.view_as(old)
        return new if isinstance(output, Tensor) else (new, *output[1:])

    return hook

"""What runs on an accelerator stays there: the CPU asks for nothing until all edits are done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emolib.engine.edits import Add, Edit, Mean, Noise, Operation, Patch, ProjectOut, Zero
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model

PROMPTS = [f"Name it. My dog ran: joy. {text} Answer:" for text in ("Ok so", "The bus left.")]
LABELS, SEQUENCES = torch.tensor([70, 71, 75, 90]), [[70], [80, 81], [90, 70, 65]]
# From meta, which has no numbers, nothing can be read back.
DEVICES = ["meta", *(["cuda"] if torch.cuda.is_available() else [])]


def on(device: str) -> Model:
    """A small model on a device; one that cannot be run is moved there once its anatomy is known."""
    model = tiny_model("gemma2", device="cpu" if device == "meta" else device)
    if device != "meta":
        return model
    model.hf.to(device)
    return replace(model, anatomy=replace(model.anatomy, devices=(torch.device(device),) * model.n_layers))


def edits(model: Model, table: torch.device) -> list[Edit]:
    """Each operation at each component and two tokens, with the numbers it holds on the device `table`."""
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(table)  # noqa: E731
    layers, width = model.n_layers, model.width
    operations: list[Operation] = [
        Zero(),
        Noise(3),
        Mean({name: draw(layers, width) for name in COMPONENTS}),
        Patch({name: draw(layers, len(PROMPTS), width) for name in COMPONENTS}, torch.tensor([1, 0])),
        Add(draw(layers, width), 2.0),
    ]
    # Directions have their basis found on the CPU: there they are.
    operations += [ProjectOut(draw(layers, 2, width).cpu())] if table.type != "meta" else []
    places = [(name, position) for name in COMPONENTS for position in (-1, -2)]
    return [
        Edit(component=name, layers=(1, 2), operation=operation, position=position)
        for operation in operations
        for name, position in places
    ]


def run(model: Model, asked: list[Edit]) -> list[Tensor]:
    """What the model answers: clean, under the edits, and with what follows; in one batch and in batches of one."""
    engine = Engine(model, PROMPTS, LABELS, keep=2, max_texts=1)
    one, several = engine.encode([0, 1], read=COMPONENTS), engine.encode()
    with refused(model.device.type):
        many = engine.replay(one, asked), engine.replay(several, asked)
        return [one.logits, *many, engine.continuations(one, SEQUENCES), engine.greedy(one, 3)]


@contextmanager
def refused(device: str) -> Iterator[None]:
    """Inside, waiting for a GPU is an error."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("held", ["here", "there"])
@pytest.mark.parametrize("device", DEVICES)
def test_nothing_is_waited_for_while_edits_are_replayed(device: str, held: str) -> None:
    model, reference = on(device), tiny_model("gemma2")
    asked = edits(model, model.device if held == "there" else torch.device("cpu"))
    same = edits(reference, torch.device("cpu"))[: len(asked)]
    for found, expected in zip(run(model, asked), run(reference, same), strict=True):
        assert found.device.type == device and found.shape == expected.shape and found.dtype == expected.dtype
        if device != "meta":
            assert torch.allclose(found.cpu(), expected, atol=1e-4 * expected.abs().max().item())

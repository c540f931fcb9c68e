"""emolib's side: the same texts and edits through `engine.engine`, and the processor's rate on the model's weights."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.workload import KINDS, MODEL, PLAIN_BATCH, donors, edit_sites, first_tokens, prompts
from emolib.engine.choices import DType
from emolib.engine.edits import Edit, Mean, Noise, Operation, Patch, Zero
from emolib.engine.engine import Encoding, Encodings, Engine
from emolib.engine.loading import load
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS, Component


class OurSide:
    """The tasks of emolib's process: a model and the engine class that runs it."""

    def __init__(self, model: Model, engine: type[Engine] = Engine) -> None:
        self.model, self.engine = model, engine
        self.labels = torch.tensor(first_tokens(model.tokenizer))
        self.logits = self.clean = torch.empty(0)

    def folder(self) -> str:
        """Where the weights are, for the other side."""
        return self.model.hf.name_or_path

    def layers(self) -> int:
        """Number of layers."""
        return self.model.n_layers

    def edit(self, n_texts: int, n_kinds: int, at_most: int | None = None) -> dict[str, Any]:
        """Seconds of each part for all edits of all texts; the logits are kept for `answers` and `labels_of`.

        Everything is counted: tokenizing, the shared prefix, encoding, and replay. Where mean and resample ablation are
        among the kinds, all texts are encoded, with reading, before the first is edited, and stay in memory.
        """
        start = time.perf_counter()
        engine, kinds = self.engine(self.model, prompts(n_texts), self.labels), KINDS[:n_kinds]
        batches = engine.batches()[:at_most]
        seconds = dict(prepare=time.perf_counter() - start, encode=0.0, replay=0.0)
        encodings, activations = [], {}
        if "mean" in kinds:
            encodings = [_timed(seconds, "encode", engine.encode, batch, read=COMPONENTS) for batch in batches]
            activations = {c: values[:, :, -1] for c, values in gather(encodings)[0].items()}
        edits = make_edits(kinds, activations, n_texts, self.model.n_layers)
        self.logits = torch.empty(n_texts, len(edits), len(self.labels))
        self.clean = torch.empty(n_texts, len(self.labels))
        for index, batch in enumerate(batches):
            encoding = encodings[index] if encodings else _timed(seconds, "encode", engine.encode, batch)
            self.logits[batch] = _timed(seconds, "replay", engine.replay, encoding, edits)
            self.clean[batch] = encoding.logits
        tokens = sum(len(b) * (max(len(engine.ids[row]) for row in b) - len(engine.prefix)) for b in batches)
        return seconds | dict(tokens=tokens, total=time.perf_counter() - start)

    def answers(self, sample: Sequence[tuple[int, int]]) -> list[Any]:
        """Label logits [n_passes, 4, n_labels] of the last `edit`, for the pairs that the plain side ran."""
        return [self.logits[b * PLAIN_BATCH : (b + 1) * PLAIN_BATCH, edit].tolist() for b, edit in sample]

    def labels_of(self, calibration: str) -> list[Any]:
        """Predicted label ids [n_texts, n_edits] of the last `edit`, as they are or after batch calibration."""
        offsets = self.clean.mean(0) if calibration == "batch" else 0.0
        return (self.logits - offsets).argmax(-1).tolist()

    def read(self, n_texts: int) -> None:
        """Read all sites of the last token of all texts."""
        read(self.engine(self.model, prompts(n_texts), self.labels))

    def save_activations(self, path: str, sites: Sequence[int], n_texts: int, names: Sequence[str], keep: int) -> None:
        """Write what probes need: `activations` [n_sites, n_rows, d] float32 and the `text` [n_rows] of each row.

        Rows are the last `keep` tokens of all texts under each of the prompts `names`; sites count through the layers
        of one component after the other.
        """
        parts = []
        for name in names:
            engine = self.engine(self.model, prompts(n_texts, prompt=name), self.labels, keep=keep)
            found, _ = read(engine)
            chosen = torch.cat([found[component] for component in COMPONENTS])[list(sites)]
            parts.append(chosen.flatten(1, 2).float())
        text = torch.arange(n_texts).repeat_interleave(keep).repeat(len(names))
        torch.save(dict(activations=torch.cat(parts, 1), text=text), path)

    def linear_rate(self, rows: int, repeats: int) -> float:
        """FLOP/s of the linear layers of all blocks, each with its own weights, on `rows` rows: the machine's limit."""
        layers = [m for m in self.model.hf.modules() if isinstance(m, torch.nn.Linear)]
        layers = [m for m in layers if m is not self.model.hf.get_output_embeddings()]
        inputs = {m.in_features: torch.randn(rows, m.in_features, dtype=self.model.dtype) for m in layers}
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(repeats):
                for module in layers:
                    torch.nn.functional.linear(inputs[module.in_features], module.weight)
        return linear_flop(self.model) * rows * repeats / (time.perf_counter() - start)

    def flop(self) -> int:
        """FLOP of the linear layers of all blocks per token."""
        return linear_flop(self.model)


def linear_flop(model: Model) -> int:
    """Multiplications and additions of the blocks' linear layers for one token: twice their weights."""
    head = model.hf.get_output_embeddings()
    layers = (m for m in model.hf.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return 2 * sum(m.weight.numel() for m in layers)


def _timed(seconds: dict[str, float], part: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    start = time.perf_counter()
    value = function(*args, **options)
    seconds[part] += time.perf_counter() - start
    return value


def read(engine: Engine) -> tuple[dict[Component, Tensor], Tensor]:
    """Activations [n_layers, n_texts, keep, d] of all sites, in the order of the texts, and the clean logits."""
    # Not all encodings at once: a batch's keys and values are not needed after it was read.
    parts = [replace(engine.encode(batch, read=COMPONENTS), cache=None) for batch in engine.batches()]
    return gather(parts)


def gather(parts: Sequence[Encoding]) -> tuple[dict[Component, Tensor], Tensor]:
    """Activations [n_layers, n_texts, keep, d] by component and clean logits of all batches, in order of the texts."""
    together = Encodings(parts)
    return together.activations, together.logits


def make_edits(kinds: Sequence[str], activations: dict[Component, Tensor], n_texts: int, n_layers: int) -> list[Edit]:
    """The edits of `edit_sites`, in that order."""
    operations: dict[str, Operation] = {"zero": Zero(), "random": Noise(0)}
    if activations:
        operations["mean"] = Mean({c: values.mean(1) for c, values in activations.items()})
        operations["resample"] = Patch(activations, torch.tensor(donors(n_texts)))
    return [
        Edit(component=component, layers=(layer,), operation=operations[kind])
        for kind, component, layer in edit_sites(kinds, n_layers)
    ]


if __name__ == "__main__":
    from benchmarks.sides import serve

    (precision,) = sys.argv[1:]
    if precision not in get_args(DType):
        raise SystemExit(f"dtype {precision!r}: expected one of {', '.join(get_args(DType))}")
    serve(OurSide(load(MODEL, dtype=precision, device="cpu")))

"""The clean pass: every text read once, without any edit, its answers and activations kept in shards on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from emolib.engine.engine import Engine
from emolib.engine.labels import LabelTokens
from emolib.engine.sites import Component
from emolib.study.shards import Damaged, Shard, progress

KEEP = 5  # tokens -1..-5 are read, as in the paper's appendix C.3
WORD_TOKENS = 4  # enough to complete nearly every word of the open-vocabulary answer


@dataclass(frozen=True, kw_only=True, eq=False)
class Clean:
    """The model's answers without any edit, in the order of the texts: N texts, C labels.

    `logits` [N, C] under the run's scoring; `sums` [N, C] log-probabilities of whole labels; `words` the first word
    of the open-vocabulary answer.
    """

    logits: Tensor
    sums: Tensor
    words: list[str]


def cache_bytes(texts: int, layers: int, components: int, width: int, item: int) -> int:
    """Bytes that the clean pass leaves on the disk, of numbers of `item` bytes."""
    return texts * layers * components * KEEP * width * item


class CleanPass:
    """Reads the engine's texts on first use, one shard a batch in `folder`; probing then never needs the model."""

    def __init__(self, engine: Engine, labels: LabelTokens, folder: Path) -> None:
        self.engine, self.labels, self.folder = engine, labels, folder

    @cached_property
    def shards(self) -> list[Shard]:
        """The files of the pass, computed where missing."""
        batches = self.engine.batches()
        dims: dict[str, int] = {component: 2 for component in self.engine.model.components}
        found = [
            Shard(self.folder / f"{index:05d}.safetensors", partial(self.engine.in_parts, rows, self._read, dims))
            for index, rows in enumerate(batches)
        ]
        sizes = [len(rows) for rows in batches]
        for shard, rows in zip(progress(found, "reading", sizes), batches, strict=True):
            shard.keep()
            if shard.load("rows").tolist() != list(rows):  # of a version that puts other texts together
                shard.set_aside(Damaged("is of other texts"))
                shard.keep()
        return found

    @cached_property
    def clean(self) -> Clean:
        """The answers."""
        parts = {name: self._gather(name) for name in ("logits", "sums", "tokens")}
        words = self.engine.model.tokenizer.batch_decode(parts["tokens"], skip_special_tokens=True)
        first = [(word.split() or [""])[0].strip(".,;:!?\"'()").lower() for word in words]
        return Clean(logits=parts["logits"], sums=parts["sums"], words=first)

    def activations(self, component: Component, layer: int, position: int = -1) -> Tensor:
        """Activations [N, d] of one site, in the order of the texts and the dtype of the run."""
        return self._gather(component, (layer, KEEP + position))

    def _read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        encoding = self.engine.encode(rows, read=self.engine.model.components)
        answers = {
            "rows": encoding.rows,
            "logits": encoding.logits,
            "tokens": self.engine.greedy(encoding, WORD_TOKENS),
            "sums": self.engine.continuations(encoding, self.labels.tokens),
        }
        # [layer, position, text, d]: the texts of one site lie together on disk.
        return answers | {name: values.transpose(1, 2) for name, values in encoding.activations.items()}

    def _gather(self, name: str, index: tuple[int, ...] = ()) -> Tensor:
        order = torch.cat([shard.load("rows") for shard in self.shards]).argsort()
        return torch.cat([shard.load(name, index) for shard in self.shards])[order]

"""A run with its resources open: corpus, model, the clean pass, and interventions on it.

The clean pass reads every text once and keeps its answers and activations in shards under `cache/`, one a batch, so
that an interrupted pass goes on where it stopped and probing never needs the model. Everything is loaded on first use.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from emolib import results
from emolib.corpus import EMOTIONS, writer_groups
from emolib.edits import Edit
from emolib.engine import Engine
from emolib.labels import LabelTokens, calibration_offsets, label_tokens
from emolib.models import Model, load_model
from emolib.provenance import code_sha256, collect_provenance
from emolib.runs import REFERENCE, Run
from emolib.sites import COMPONENTS, Component

KEEP = 5  # tokens -1..-5 are read, as in the paper's appendix C.3
WORD_TOKENS = 4  # enough to complete nearly every word of the open-vocabulary answer


@dataclass(frozen=True, kw_only=True, eq=False)
class Clean:
    """The model's answers without any edit, in the order of the corpus: N texts, 13 labels.

    `logits` [N, 13] under the run's scoring; `sums` [N, 13] log-probabilities of whole labels; `words` the first word
    of the open-vocabulary answer.
    """

    logits: Tensor
    sums: Tensor
    words: list[str]


class Study:
    """Opened resources of a run. `folder` holds `cache/` and `results/` (default: the working directory)."""

    def __init__(self, run: Run, *, folder: str | Path = ".") -> None:
        self.run, self.folder = run, Path(folder)
        self.corpus, self.prompt = run.load_corpus(), run.load_prompt()
        self.events = self.corpus.events
        self.truth = pd.Categorical(self.events["emotion"], categories=EMOTIONS).codes.astype(int)
        self.groups = writer_groups(self.events)
        self._intervened: dict[tuple[str, int], int] = {}

    @cached_property
    def model(self) -> Model:
        """The run's model, checked."""
        return load_model(self.run.model, dtype=self.run.dtype, device=self.run.device, tap=self.run.tap)

    @cached_property
    def labels(self) -> LabelTokens:
        """The tokens of the 13 labels."""
        return label_tokens(self.model.tokenizer, EMOTIONS)

    @cached_property
    def engine(self) -> Engine:
        """The engine over all prompts of the corpus."""
        prompts = [self.prompt.render(text) for text in self.events["text"]]
        return Engine(self.model, prompts, self.labels.ids(self.run.scoring), keep=KEEP)

    @cached_property
    def shards(self) -> list[Path]:
        """The files of the clean pass, computed where missing."""
        batches = self.engine.batches()
        files = [self._cache("clean", "emolib.engine") / f"{index:05d}.safetensors" for index in range(len(batches))]
        for file, rows in progress(list(zip(files, batches, strict=True)), "reading", [len(rows) for rows in batches]):
            if not file.is_file():
                _save(file, self._read(rows))
        return files

    @cached_property
    def clean(self) -> Clean:
        """The clean answers."""
        parts = {name: self._gather(name) for name in ("logits", "sums", "tokens")}
        words = self.model.tokenizer.batch_decode(parts["tokens"], skip_special_tokens=True)
        first = [(word.split() or [""])[0].strip(".,;:!?\"'()").lower() for word in words]
        return Clean(logits=parts["logits"], sums=parts["sums"], words=first)

    @cached_property
    def offsets(self) -> Tensor:
        """Calibration offsets [13], fitted on the clean answers and used under every edit."""
        return calibration_offsets(self.clean.logits, self.run.calibration)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The model's label ids [N] without edits, calibrated as the run says."""
        return (self.clean.logits - self.offsets).argmax(-1).numpy()

    @cached_property
    def agreed(self) -> np.ndarray:
        """Row numbers of the texts whose predicted label equals the writer's (paper §3, A.3)."""
        return np.flatnonzero(self.predicted == self.truth)

    def activations(self, component: Component, layer: int, position: int = -1) -> Tensor:
        """Activations [N, d] of one site, in the order of the corpus and the dtype of the run."""
        return self._gather(component, (layer, KEEP + position))

    def stacked(self, component: Component) -> Tensor:
        """Activations [n_layers, N, d] of the last token at every layer."""
        return torch.stack([self.activations(component, layer) for layer in range(self.model.n_layers)])

    def intervene(self, edits: Sequence[Edit], rows: Sequence[int], *, experiment: str) -> np.ndarray:
        """Predicted label ids [n_rows, n_edits] under each edit; kept batch by batch, so that it can be resumed.

        `experiment` is the `__name__` of the module that made the edits: what was kept counts while its code is the
        same. An experiment that intervenes twice must give different numbers of edits; equal ones are refused.
        Raises ValueError for rows that repeat.
        """
        if len(set(rows)) < len(rows):
            raise ValueError("rows repeat: give each text once")
        if self._intervened.setdefault((experiment, len(edits)), id(edits)) != id(edits):
            raise ValueError(f"{experiment} intervenes twice with {len(edits)} edits: make them one list")
        name = experiment.rpartition(".")[2]
        place = {row: index for index, row in enumerate(rows)}
        found = np.empty((len(rows), len(edits)), dtype=np.int8)
        folder = self._cache(f"{name}-{len(edits)}", experiment)
        batches = self.engine.batches(rows)
        for batch in progress(batches, name, [len(batch) for batch in batches]):
            file = folder / f"{hashlib.sha256(str([int(row) for row in batch]).encode()).hexdigest()[:16]}.safetensors"
            if not file.is_file():
                _save(file, {"logits": self.engine.replay(self.engine.encode(batch), edits).cpu()})
            with safe_open(file, "pt") as shard:
                answers = (shard.get_tensor("logits") - self.offsets).argmax(-1)
            found[[place[row] for row in batch]] = answers.numpy()
        return found

    def measure(self, experiment: ModuleType) -> pd.DataFrame:
        """The experiment's table: the stored one when the code that measures is still the same, else measured anew.

        `experiment` is a module of `emolib.experiments`. Docstrings, comments and layout of code do not count. With
        EMOLIB_STORED=1 a stored table is taken as it is, to render a chapter anew without the hours of measuring.
        """
        name = experiment.__name__.rpartition(".")[2]
        path = self.folder / "results" / self.run.slug / f"{name}.parquet"
        if path.is_file():
            stored = results.read(path)
            made = stored.attrs["provenance"]
            same = made.get("code_sha256") == code_sha256(experiment.__name__)
            same = same and made["corpus_sha256"] == self.corpus.sha256 and made.get("prompt_text") == self._question
            same = same and made["model_revision"] == self.model.revision
            if same or os.environ.get("EMOLIB_STORED") == "1":
                return stored
        start = time.perf_counter()
        frame = experiment.run(self)
        frame["model"] = frame["model"].fillna(self.run.model) if "model" in frame else self.run.model
        frame = results.tidy(frame, experiment=name, prompt=self.run.prompt, seed=self.run.seed)
        provenance = self._provenance(time.perf_counter() - start)
        provenance |= {"code_sha256": code_sha256(experiment.__name__), "prompt_text": self._question}
        results.write(frame, path, provenance)
        return results.read(path)

    def reference(self, experiment: ModuleType) -> pd.DataFrame | None:
        """The committed table of the reference run, to draw behind this run's; None when this is that run."""
        name = experiment.__name__.rpartition(".")[2]
        path = self.folder / "results" / REFERENCE.slug / f"{name}.parquet"
        return results.read(path) if self.run.slug != REFERENCE.slug and path.is_file() else None

    @property
    def _question(self) -> str:
        """The prompt around an empty text: what the name of a prompt file alone does not fix."""
        return self.prompt.render("")

    def _provenance(self, seconds: float) -> dict:
        return collect_provenance(
            parameters=self.run.parameters(), corpus_sha256=self.corpus.sha256, model_revision=self.model.revision,
            device=str(self.model.device), dtype=self.run.dtype, seed=self.run.seed, seconds=seconds,
        )  # fmt: skip

    def _read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        encoding = self.engine.encode(rows, read=COMPONENTS)
        answers = {
            "rows": encoding.rows, "logits": encoding.logits, "tokens": self.engine.greedy(encoding, WORD_TOKENS),
            "sums": self.engine.continuations(encoding, self.labels.tokens),
        }  # fmt: skip
        # [layer, position, text, d]: the texts of one site lie together on disk.
        return answers | {name: values.transpose(1, 2) for name, values in encoding.activations.items()}

    def _gather(self, name: str, index: tuple[int, int] | None = None) -> Tensor:
        rows, parts = [], []
        for file in self.shards:
            with safe_open(file, "pt") as shard:
                rows.append(shard.get_tensor("rows"))
                piece = shard.get_slice(name)
                parts.append(piece[:] if index is None else piece[index[0], index[1]])
        return torch.cat(parts)[torch.cat(rows).argsort()]

    def _cache(self, name: str, module: str) -> Path:
        """The cache folder of one computation of this run, named by everything that decides its content."""
        run = self.run
        key = dict(
            model=run.model, revision=self.model.revision, dtype=run.dtype, corpus=self.corpus.sha256, text=run.text,
            prompt=self.prompt.render("\0"), tap=run.tap, scoring=run.scoring, keep=KEEP, seed=run.seed,
            calibration=run.calibration, name=name, code=code_sha256(module),
        )  # fmt: skip
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        folder = self.folder / "cache" / run.slug / f"{name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


T = TypeVar("T")


def progress(items: Sequence[T], name: str, sizes: Sequence[int], *, unit: str = " texts") -> Iterator[T]:
    """The items, with a bar that counts their sizes and estimates the time left."""
    with tqdm(total=sum(sizes), desc=name, unit=unit, mininterval=5, smoothing=0.1) as bar:
        for item, size in zip(items, sizes, strict=True):
            yield item
            bar.update(size)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a shard so that it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, partial)
    partial.rename(path)

"""A run with its resources open: corpus, model, the clean pass, and interventions on it. All loaded on first use."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.engine.edits import Edit, fingerprint
from emolib.engine.engine import Engine
from emolib.engine.labels import LabelTokens, calibration_offsets, label_tokens
from emolib.engine.model import Model, load_model
from emolib.engine.sites import Component
from emolib.study import shards
from emolib.study.clean import KEEP, Clean, CleanPass
from emolib.study.run import REFERENCE, Run, TextColumn
from emolib.tables import results
from emolib.tables.provenance import code_sha256, collect_provenance
from emolib.texts.corpus import EMOTIONS, writer_groups
from emolib.texts.prompts import Prompt

EDITS_AT_ONCE = 512  # edits in one shard: some minutes of work, kept before the next


class Study:
    """Opened resources of a run: N texts, and C words that may answer.

    `events` are the texts with their ratings, `truth` [N] the ids of the right answers among `words`, `groups` [N] the
    clusters of writers. `folder` holds `cache/` and `results/` (default: the working directory). Another task than the
    run's is a `variant`.
    """

    def __init__(
        self,
        run: Run,
        *,
        folder: str | Path = ".",
        rows: Sequence[int] | None = None,
        prompt: Prompt | None = None,
        truth: np.ndarray | None = None,
    ) -> None:
        self.run, self.folder = run, Path(folder)
        self.corpus, self.prompt = run.load_corpus(), prompt or run.load_prompt()
        self._rows = np.arange(len(self.corpus.events)) if rows is None else np.asarray(rows, dtype=int)
        self.events = self.corpus.events.iloc[self._rows].reset_index(drop=True)
        self.groups, self.words = writer_groups(self.events), self.prompt.labels
        if truth is None and self.words != EMOTIONS:
            raise ValueError(
                f"prompt {self.prompt.name!r} asks for {', '.join(self.words)}, not for emotions: an experiment on "
                "emotions needs another prompt, and a control task its right answers (Study.variant with truth)"
            )
        emotions = pd.Categorical(self.events["emotion"], categories=EMOTIONS).codes.astype(int)
        self.truth = emotions if truth is None else np.asarray(truth)
        self._spared = [0.0]

    def variant(
        self,
        *,
        rows: Sequence[int] | None = None,
        prompt: Prompt | None = None,
        text: TextColumn | None = None,
        truth: np.ndarray | None = None,
    ) -> Study:
        """The same model on part of these texts, with another prompt, or another column of the text.

        `truth` are the right answers of the texts in `rows`, needed where the prompt's labels are not the emotions.
        Clean pass, calibration and cache are its own; the model is shared. What it intervenes counts for this study.
        """
        kept = self._rows if rows is None else self._rows[np.asarray(rows, dtype=int)]
        run = self.run if text is None else replace(self.run, text=text)
        other = Study(run, folder=self.folder, rows=kept, prompt=prompt or self.prompt, truth=truth)
        other.__dict__["model"], other._spared = self.model, self._spared
        return other

    @cached_property
    def model(self) -> Model:
        """The run's model, checked; first of all, whether its tokenizer tells the words apart."""

        def accept(tokenizer: Any) -> None:
            label_tokens(tokenizer, self.words).ids(self.run.scoring)

        where = dict(dtype=self.run.dtype, device=self.run.device, tap=self.run.tap)
        return load_model(self.run.model, **where, accept=accept)

    @cached_property
    def labels(self) -> LabelTokens:
        """The tokens of the words that may answer."""
        return label_tokens(self.model.tokenizer, self.words)

    @cached_property
    def engine(self) -> Engine:
        """The engine over the prompts of all texts."""
        return Engine(self.model, self._prompts, self.labels.ids(self.run.scoring), keep=KEEP)

    @cached_property
    def clean_pass(self) -> CleanPass:
        """What the model does with every text when nothing is changed."""
        return CleanPass(self.engine, self.labels, self._cache("clean", "emolib.study.clean", words=self.labels.tokens))

    @cached_property
    def clean(self) -> Clean:
        """The clean answers."""
        return self.clean_pass.clean

    @cached_property
    def offsets(self) -> Tensor:
        """Calibration offsets [C], fitted on the clean answers and used under every edit."""
        return calibration_offsets(self.clean.logits, self.run.calibration)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The model's answers [N] without edits, calibrated as the run says."""
        return self.decide(self.clean.logits)

    @cached_property
    def agreed(self) -> np.ndarray:
        """Row numbers of the texts whose predicted label equals the writer's (paper §3, A.3)."""
        return np.flatnonzero(self.predicted == self.truth)

    def activations(self, component: Component, layer: int, position: int = -1) -> Tensor:
        """Activations [N, d] of one site, in the order of the texts and the dtype of the run."""
        return self.clean_pass.activations(component, layer, position)

    def stacked(self, component: Component) -> Tensor:
        """Activations [n_layers, N, d] of the last token at every layer."""
        return torch.stack([self.activations(component, layer) for layer in range(self.model.n_layers)])

    def decide(self, logits: Tensor) -> np.ndarray:
        """The answers [...], ids of `words`, to label logits [..., C], calibrated as the run says."""
        return (logits - self.offsets).argmax(-1).numpy()

    def intervene(self, edits: Sequence[Edit], rows: Sequence[int], *, name: str) -> Tensor:
        """Label logits [n_rows, n_edits, C], not calibrated, under each edit; kept in shards, so it can be resumed.

        Shards are found again by the content of the edits, the texts and the code; `name` is what progress is called.
        Raises ValueError for rows that repeat.
        """
        if len(set(rows)) < len(rows):
            raise ValueError("rows repeat: give each text once")
        place = {int(row): index for index, row in enumerate(rows)}
        found = torch.empty(len(rows), len(edits), len(self.words))
        # Edits that start at the same layer are replayed together, so they belong in one shard.
        order = sorted(range(len(edits)), key=lambda index: (edits[index].layers, str(edits[index].position)))
        chunks = [order[start : start + EDITS_AT_ONCE] for start in range(0, len(order), EDITS_AT_ONCE)]
        batches = self.engine.batches(list(place))
        folder = self._cache("edits", "emolib.engine.engine", edits=fingerprint([edits[index] for index in order]))
        for batch in shards.progress(batches, name, [len(batch) for batch in batches]):
            encode = cache(partial(self.engine.encode, batch))
            for number, chunk in enumerate(chunks):
                file = folder / f"{hashlib.sha256(str(batch).encode()).hexdigest()[:16]}-{number:03d}.safetensors"
                some = [edits[index] for index in chunk]
                self._spared[0] += shards.keep(file, lambda e=encode, s=some: {"logits": self.engine.replay(e(), s)})
                found[[[place[row]] for row in batch], chunk] = shards.load(file, "logits").float()
        return found

    def measure(self, experiment: ModuleType) -> pd.DataFrame:
        """The experiment's table: the stored one when the code that measures is still the same, else measured anew.

        `experiment` is a module of `emolib.experiments`. Docstrings, comments and layout of code do not count. With
        EMOLIB_STORED=1 a stored table is taken as it is, to render a chapter anew without the hours of measuring.
        """
        name = experiment.__name__.split(".")[2]
        path = self.folder / "results" / self.run.slug / f"{name}.parquet"
        code, question = code_sha256(experiment.__name__), self.prompt.render("")
        if path.is_file():
            stored = results.read(path)
            made = stored.attrs["provenance"]
            same = made.get("code_sha256") == code and made.get("prompt_text") == question
            same = same and made["corpus_sha256"] == self.corpus.sha256
            same = same and made["model_revision"] == self.model.revision
            if same or os.environ.get("EMOLIB_STORED") == "1":
                return stored
        start, spared = time.perf_counter(), self._spared[0]
        frame = experiment.run(self)
        own = dict(model=self.run.model, prompt=self.run.prompt, seed=self.run.seed)
        frame = results.tidy(frame, name, n_layers=self.model.n_layers, **own)
        # What an interrupted run had done already is part of what the experiment takes.
        provenance = self._provenance(time.perf_counter() - start + self._spared[0] - spared)
        results.write(frame, path, provenance | {"code_sha256": code, "prompt_text": question})
        return results.read(path)

    def reference(self, experiment: ModuleType) -> pd.DataFrame | None:
        """The committed table of the reference run, to draw behind this run's; None when this is that run."""
        name = experiment.__name__.split(".")[2]
        path = self.folder / "results" / REFERENCE.slug / f"{name}.parquet"
        return results.read(path) if self.run.slug != REFERENCE.slug and path.is_file() else None

    def _provenance(self, seconds: float) -> dict:
        return collect_provenance(
            parameters=self.run.parameters(),
            corpus_sha256=self.corpus.sha256,
            model_revision=self.model.revision,
            device=str(self.model.device),
            dtype=self.run.dtype,
            seed=self.run.seed,
            seconds=seconds,
        )

    @cached_property
    def _prompts(self) -> list[str]:
        return [self.prompt.render(text) for text in self.events["text"]]

    def _cache(self, name: str, module: str, **content: object) -> Path:
        """The cache folder of one computation, named by everything that decides its content: runs may share it."""
        key = dict(
            model=self.run.model,
            revision=self.model.revision,
            dtype=self.run.dtype,
            tap=self.run.tap,
            keep=KEEP,
            prompts=self._prompts,
            tokens=self.engine.labels.tolist(),
            code=code_sha256(module),
            **content,
        )
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.folder / "cache" / f"{name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

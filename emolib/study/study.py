"""A run with its resources open: corpus, model, the clean pass, and interventions on it. All loaded on first use."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib import stats
from emolib.engine.context import check_prompts
from emolib.engine.edits import Edit, fingerprint
from emolib.engine.engine import Encodings, Engine, token_ids
from emolib.engine.labels import LabelTokens, calibration_offsets, label_tokens
from emolib.engine.loading import load
from emolib.engine.model import Model
from emolib.engine.registry import parse
from emolib.engine.remote import lighter
from emolib.engine.sites import Component
from emolib.engine.work import counted, done
from emolib.stats import Interval
from emolib.stats.sampling import enough
from emolib.stats.scores import Statistic
from emolib.study import freshness, shards
from emolib.study.clean import KEEP, WORD_TOKENS, Clean, CleanPass
from emolib.study.needs import advice
from emolib.study.run import CHANGED, Run
from emolib.tables import results
from emolib.tables.provenance import collect_provenance
from emolib.texts import sources
from emolib.texts.corpus import EMOTIONS, Corpus, TextColumn, writer_groups
from emolib.texts.prompts import Prompt

Rows = Sequence[int] | np.ndarray  # numbers of texts
EDITS_AT_ONCE = 512  # edits in one shard: some minutes of work, kept before the next


def texts_used(run: Run, n: int) -> np.ndarray:
    """The numbers of the texts, of `n` in the corpus, that a run looks at: all, of a random twin a sample.

    What an untrained network answers is chance, of which `enough` texts tell what is to be told.
    """
    return np.arange(n) if parse(run.model).seed is None else enough(np.arange(n), seed=run.seed)


class Study:
    """Opened resources of a run: N texts, and C words that may answer.

    `model` and `corpus` are the run's, loaded on first use, unless they are given; of a random twin the texts are a
    sample of a large corpus (`stats.sampling.enough`); `folder` holds `cache/` and `results/`. `events` are the texts
    with their ratings, `truth` [N] the ids of the right answers among `words`,
    `groups` [N] the clusters of writers. What makes the study another one than its run's: `rows`, part of the texts;
    `prompt` and `truth`, another question; `clean`, answers that are known, so that they need not be computed;
    `agreed`, the texts taken to be answered right; `only_layers`, the layers that experiments measure. No table of such
    a study is stored. Raises ValueError for a model that is not the run's, and for a prompt without right answers.
    """

    def __init__(
        self,
        run: Run,
        *,
        model: Model | None = None,
        corpus: Corpus | None = None,
        folder: str | Path = ".",
        rows: Rows | None = None,
        prompt: Prompt | None = None,
        truth: np.ndarray | None = None,
        clean: Clean | None = None,
        agreed: Rows | None = None,
        only_layers: Sequence[int] | None = None,
    ) -> None:
        self.run, self.folder = run, Path(folder)
        self.corpus, self._prompt = corpus or run.load_corpus(), prompt or run.load_prompt()
        self._model, self._clean, self._agreed, self.only_layers = model, clean, agreed, only_layers
        self._tokenizer: Any = None
        self.whole = all(other is None for other in (rows, prompt, truth, clean, agreed, only_layers))
        self._rows = texts_used(run, len(self.corpus.events)) if rows is None else np.asarray(rows, dtype=int)
        self.events = self.corpus.events.iloc[self._rows].reset_index(drop=True)
        self.groups, self.words = writer_groups(self.events), self._prompt.labels
        if isinstance(model, Model):
            _check_model(model, run)
        if truth is None and self.words != EMOTIONS:
            raise ValueError(
                f"prompt {self._prompt.name!r} asks for {', '.join(self.words)}, not for emotions: an experiment on "
                "emotions needs another prompt, and a control task its right answers (Study.variant with truth)"
            )
        emotions = pd.Categorical(self.events["emotion"], categories=EMOTIONS).codes.astype(int)
        self.truth = emotions if truth is None else np.asarray(truth)
        self._spared = [0.0]

    def variant(
        self,
        *,
        rows: Rows | None = None,
        prompt: Prompt | None = None,
        text: TextColumn | None = None,
        truth: np.ndarray | None = None,
    ) -> Study:
        """The same model on part of these texts, with another prompt, or another column of the text.

        `truth` are the right answers of the texts in `rows`, needed where the prompt's labels are not the emotions.
        Clean pass, calibration and cache are its own; the model is shared. What it intervenes counts for this study.
        """
        run = self.run if text is None else replace(self.run, text=text)
        other = Study(
            run,
            model=self.model,
            corpus=self.corpus if text is None else self.written(text),
            folder=self.folder,
            rows=self._rows if rows is None else self._rows[np.asarray(rows, dtype=int)],
            prompt=prompt or self._prompt,
            truth=truth,
            only_layers=self.only_layers,
        )
        other._spared = self._spared
        return other

    def written(self, text: TextColumn) -> Corpus:
        """The corpus with that column of the text. Raises RuntimeError when its file is not what this study read."""
        corpus = replace(self.run, text=text).load_corpus()
        if corpus.sha256 != self.corpus.sha256:
            raise RuntimeError(CHANGED.format(corpus.name))
        return corpus

    @cached_property
    def model(self) -> Model:
        """The run's model, checked; before its weights, whether its tokenizer tells the words apart, and whether there
        is room for every text."""
        if self._model is not None:
            return self._model

        def accept(tokenizer: Any, empty: Any) -> None:
            self._tokenizer = tokenizer
            labels = label_tokens(tokenizer, self.words)
            labels.ids(self.run.scoring)
            more = max(WORD_TOKENS, *map(len, labels.tokens)) - 1
            names = [f"text {name}" for name in self.events["text_id"]]
            check_prompts(empty, token_ids(tokenizer, self._prompts), names, more=more)

        run = self.run
        with counted("loading"):
            return load(run.model, dtype=run.dtype, device=run.device, tap=run.tap, accept=accept)

    @cached_property
    def prompt(self) -> Prompt:
        """What the model is asked; a chat in the template of its tokenizer. Raises ValueError where that has none."""
        asked = self._prompt
        return asked.in_template(self.tokenizer) if asked.chat and not asked.turn else asked

    @property
    def first_prompt(self) -> dict[str, Any]:
        """The `tokens` of the first prompt, and the `sha256` of these; of texts that are not ours, which could be read
        from them, the tokens of the prompt without a text."""
        (ids,) = token_ids(self.tokenizer, self._prompts[:1])
        ours = "file" in sources.registry().get(self.run.corpus, {})
        shown = ids if ours else self.prompt.encode(self.tokenizer, "")["input_ids"]
        return {"tokens": list(shown), "sha256": freshness.digest(ids)}

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer or self.model.tokenizer

    def layers(self, step: int = 1) -> list[int]:
        """Every `step`-th layer, the last among them, in order; of `only_layers` where the study has them."""
        chosen = range(self.model.n_layers)[::-1][::step][::-1]
        return [layer for layer in chosen if self.only_layers is None or layer in self.only_layers]

    def interval(
        self, statistic: Statistic, rows: Sequence[int] | np.ndarray | None = None, **options: Any
    ) -> Interval:
        """The statistic of the texts `rows` (all) with its interval: whole writers resampled, with the run's seed.

        `options` are those of `emolib.stats.bootstrap`.
        """
        groups = self.groups if rows is None else self.groups[rows]
        return stats.bootstrap(statistic, groups, seed=self.run.seed, **options)

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
        shards.sweep(self.folder / "cache")
        return CleanPass(self.engine, self.labels, self._cache("clean", words=self.labels.tokens))

    @cached_property
    def clean(self) -> Clean:
        """The clean answers."""
        return self._clean or self.clean_pass.clean

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
        """Row numbers of the texts whose predicted label equals the writer's (paper §3, A.3), unless given."""
        if self._agreed is not None:
            return np.asarray(self._agreed, dtype=int)
        return np.flatnonzero(self.predicted == self.truth)

    def too_few(self, needs: str) -> str:
        """Why something that rests on texts answered right is not measured, and what may help; `needs` says of what."""
        return f"the model answers {len(self.agreed)} of {len(self.truth)} texts right, and {needs}: {advice(self.run)}"

    def activations(self, component: Component, layer: int, position: int = -1) -> Tensor:
        """Activations [N, d] of one site, in the order of the texts and the dtype of the run."""
        return self.clean_pass.activations(component, layer, position)

    def stacked(self, component: Component) -> Tensor:
        """Activations [n_layers, N, d] of the last token at every layer."""
        first = self.activations(component, 0)
        found = first.new_empty(self.model.n_layers, *first.shape)  # once: a list of layers to stack would be a second
        for layer in range(self.model.n_layers):
            found[layer] = self.activations(component, layer)
        return found

    def decide(self, logits: Tensor) -> np.ndarray:
        """The answers [...], ids of `words`, to label logits [..., C], calibrated as the run says."""
        return (logits - self.offsets).argmax(-1).numpy()

    def intervene(self, edits: Sequence[Edit], rows: Rows, *, name: str) -> Tensor:
        """Label logits [n_rows, n_edits, C], not calibrated, under each edit; kept in shards, so it can be resumed.

        Edits of all tokens are whole passes. Shards are found again by the content of edits, texts and weights; `name`
        is what progress is called. Raises ValueError for rows that repeat.
        """
        if len(set(rows)) < len(rows):
            raise ValueError("rows repeat: give each text once")
        place = {int(row): index for index, row in enumerate(rows)}
        found = torch.empty(len(rows), len(edits), len(self.words))
        # Edits that start at the same layer are replayed together, so they belong in one shard; those of all tokens,
        # which are no replay, come last and in shards of their own.
        whole = [edit.position == "all" for edit in edits]
        order = sorted(range(len(edits)), key=lambda i: (whole[i], edits[i].layers, str(edits[i].position)))
        parts = order[: len(order) - sum(whole)], order[len(order) - sum(whole) :]
        chunks = [part[start : start + EDITS_AT_ONCE] for part in parts for start in range(0, len(part), EDITS_AT_ONCE)]
        batches = self.engine.batches(list(place))
        folder = self._cache("edits", edits=fingerprint([edits[index] for index in order]))
        for batch in shards.progress(batches, name, [len(batch) for batch in batches]):
            encode = cache(partial(self.engine.encode, batch))
            for number, chunk in enumerate(chunks):
                file = folder / f"{hashlib.sha256(str(batch).encode()).hexdigest()[:16]}-{number:03d}.safetensors"
                shard = shards.Shard(file, partial(self._replay, batch, encode, [edits[index] for index in chunk]))
                self._spared[0] += shard.keep()
                found[[[place[row]] for row in batch], chunk] = shard.load("logits").float()
        return found

    def read_under(self, edits: Sequence[Edit], rows: Rows, component: Component, layer: int) -> Tensor:
        """What a component of a layer is at the last token [n_rows, n_edits, d] under each edit, on the CPU.

        Not kept: for few edits. Raises ValueError for edits that `Engine.read_under` refuses.
        """
        found: dict[int, Tensor] = {}
        for batch in self.engine.batches([int(row) for row in rows]):

            def read(part: Sequence[int]) -> dict[str, Tensor]:
                own = [lighter(edit, torch.tensor(part)) for edit in edits] if self.run.remote else edits
                return {"read": self.engine.read_under(self.engine.encode(part), own, component, layer).cpu()}

            found |= dict(zip(batch, self.engine.in_parts(batch, read)["read"], strict=True))
        return torch.stack([found[int(row)] for row in rows])

    def answers_to(self, notes: Sequence[str], rows: Rows, *, name: str) -> np.ndarray:
        """The answers [n_rows, n_notes], ids of `words`, where a note is said right behind each of the texts `rows`.

        Calibrated as the clean answers are, with the same offsets. A text is read once, and what the prompts with
        their notes do not share is run behind it; kept in shards. `name` is what progress is called.
        """
        texts, prompts = self.events["text"].iloc[[*rows]], [replace(self.prompt, note=note) for note in notes]
        ids = [token_ids(self.tokenizer, [asked.read(self.tokenizer, text) for asked in prompts]) for text in texts]
        shared = [len(os.path.commonprefix([min(own), max(own), min(own, key=len)[:-1]])) for own in ids]
        heads = [own[0][:end] for own, end in zip(ids, shared, strict=True)]
        endings = [[one[end:] for one in own] for own, end in zip(ids, shared, strict=True)]
        engine = Engine(self.model, heads, self.labels.ids(self.run.scoring))

        def read(part: Sequence[int]) -> dict[str, Tensor]:
            return {"logits": engine.follow(part, [endings[index] for index in part])}

        folder, batches = self._cache("notes", asked=ids), engine.batches()
        found = torch.empty(len(ids), len(notes), len(self.words))
        for number, batch in enumerate(shards.progress(batches, name, [len(batch) for batch in batches])):
            shard = shards.Shard(folder / f"{number:05d}.safetensors", partial(engine.in_parts, batch, read))
            self._spared[0] += shard.keep()
            found[batch] = shard.load("logits").float()
        return self.decide(found)

    def measure(self, experiment: ModuleType) -> pd.DataFrame:
        """The experiment's table: the stored one where it is fresh, else measured now, and stored.

        `experiment` is a package of `emolib.experiments`. Raises ValueError where this is not the study of a whole run.
        """
        if not self.whole:
            raise ValueError(
                "this is a study of part of a run, or of another question, and its table would stand for the whole "
                "run: call experiment.run(study), which stores nothing"
            )
        path = freshness.table_path(self.run, experiment, self.folder)
        found = freshness.stored(path, self._key(experiment), say=True)
        if found is not None:
            return found
        start, spared, before = time.perf_counter(), self._spared[0], done()
        frame = self.table(experiment)
        # What an interrupted run had done already is part of what the experiment takes.
        seconds = time.perf_counter() - start + self._spared[0] - spared
        special = {"full_passes": self.model.obstacle, "absent": self.model.absent}
        made_from = self._key(experiment) | {name: why for name, why in special.items() if why}
        made_from |= {"corpus_reading": str(self.corpus.reading)} if self.corpus.reading else {}
        made_from |= {"first_prompt": self.first_prompt, **frame.attrs}
        made_from.pop("run")  # which the parameters say, with where it was computed
        about = collect_provenance(
            parameters=self.run.public,
            device=self.run.device if self.run.remote else str(self.model.device),
            seconds=seconds,
            work=done(before),
            **made_from,
        )
        results.write(frame, path, about)
        return results.read(path)

    def table(self, experiment: ModuleType) -> pd.DataFrame:
        """What the experiment measures in this study, as a checked table; nothing is stored.

        In its `.attrs`, where the experiment says so, `left_out`: why part of it was not measured, in sentences.
        """
        own = {key: self.run.public[key] for key in ("model", "prompt", "seed")}
        name, found = freshness.name_of(experiment), experiment.run(self)
        table = results.tidy(found, name, n_layers=self.model.n_layers, **own)
        table.attrs |= found.attrs
        return table

    def _key(self, experiment: ModuleType) -> dict[str, Any]:
        """The key of a table, with the texts and weights that are open, which may be known only now."""
        opened = self._model or self.__dict__.get("model")
        found = freshness.key(self.run, experiment) | {"corpus_sha256": self.corpus.sha256}
        return found if opened is None else found | {"model_revision": opened.revision}

    def _replay(
        self, batch: Sequence[int], encode: Callable[[], Encodings], edits: Sequence[Edit]
    ) -> dict[str, Tensor]:
        if self.run.remote:  # what is not asked about need not travel
            edits = [lighter(edit, torch.tensor(batch)) for edit in edits]
        whole = edits[0].position == "all"

        def answers(rows: Sequence[int]) -> dict[str, Tensor]:
            if whole:
                return {"logits": self.engine.forward(rows, edits)}
            encoding = encode() if len(rows) == len(batch) else self.engine.encode(rows)
            return {"logits": self.engine.replay(encoding, edits)}

        return self.engine.in_parts(batch, answers)

    @cached_property
    def _prompts(self) -> list[str | list[int]]:
        return [self.prompt.read(self.tokenizer, text) for text in self.events["text"]]

    def _cache(self, name: str, **content: object) -> Path:
        """The cache folder of one computation, named by everything that decides its content: runs may share it."""
        key = dict(
            model=self.run.public["model"],
            revision=self.model.revision,
            dtype=self.run.dtype,
            tap=self.run.tap,
            keep=KEEP,
            prompts=self._prompts,
            tokens=self.engine.answers.tolist(),
            engine_protocol=freshness.ENGINE_PROTOCOL,
            **content,
            **({"device": self.run.device} if self.run.remote else {}),
        )
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.folder / "cache" / f"{name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _check_model(model: Model, run: Run) -> None:
    own = dict(model=model.name, dtype=model.precision, tap=model.tap)
    for name, value in own.items():
        if value != getattr(run, name):
            raise ValueError(
                f"the model given has {name} {value!r} and the run says {getattr(run, name)!r}: tables would be kept "
                f"under the wrong name; give a run with {name}={value!r}"
            )

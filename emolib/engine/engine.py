"""Encode once, replay the rest: the only place that runs a model.

Almost every experiment edits the last tokens at some layer and asks for the next-token logits of a few labels. In a
causal model nothing before the edited token can change. So `encode` reads a text once, keeping its key/value cache and
the residual stream of its last tokens, and `replay` runs only those tokens, only from the first edited layer on. All
edits of a group are queries beside one another in one sequence: each sees the cache and itself, never the others, so
the cache is shared, not copied, and every edit is exact. Instruction and demonstrations, equal for all texts, are read
once. `forward` is the plain way, one whole pass per edit: for edits of all tokens, and for models with an `obstacle` to
replay, such as a state space or another machine (NDIF): with these `encode` and `replay` run it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, overload

import nnsight
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache

from emolib.engine.context import NEVER, ROOM, SlotLayer, attention_masks, check_prompts, pad
from emolib.engine.edits import Edit, edit_in_place, onto
from emolib.engine.labels import answer_ids
from emolib.engine.layouts import unwrap
from emolib.engine.model import Model
from emolib.engine.registry import free_memory
from emolib.engine.sites import COMPONENTS, Component, check_layers
from emolib.engine.work import Kind, counted

TEXTS, BYTES = 64, 2**30  # what a batch may hold and take, unless told otherwise; on a GPU, `limits`
WORK = 12  # tensors as wide as a layer at its widest that are alive at once, measured: gate, up, product, and copies
READ = 1000  # prompts that a tokenizer reads at a time: until it is done it keeps several kilobytes of each
EACH = slice(None)
Plan = Mapping[tuple[int, Component], Sequence[tuple[slice, slice, Edit]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """What one batch of texts left behind: `rows` are their numbers, and all else is in the order of these.

    `resid_pre` is the residual stream before each layer, `activations` the components that were read, both at the last
    `keep` tokens (pos); `hidden` is what goes into the unembedding at the last token, `logits` those of the answers.
    `rows` and `positions` are on the CPU.
    """

    rows: Int[Tensor, " batch"]
    tokens: Int[Tensor, "batch pos"]
    positions: Int[Tensor, "batch pos"]
    key_positions: Int[Tensor, "batch key"]
    cache: Cache | None
    resid_pre: Float[Tensor, "layer batch pos d_model"]
    activations: Mapping[Component, Float[Tensor, "layer batch pos d_model"]]
    hidden: Float[Tensor, "batch d_model"]
    logits: Float[Tensor, "batch answer"]


class Encodings(list[Encoding]):
    """The encodings of several batches; what is read from all of them is in the order of the texts."""

    def in_order(self, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        """One tensor of one part a batch, its texts, along `dim`, in their order."""
        order = torch.cat([encoding.rows for encoding in self]).argsort()
        return torch.cat(list(parts), dim).index_select(dim, onto(order, parts[0].device))

    @property
    def logits(self) -> Float[Tensor, "text answer"]:
        """The clean logits of the answers."""
        return self.in_order([encoding.logits for encoding in self])

    @property
    def activations(self) -> dict[Component, Float[Tensor, "layer text pos d_model"]]:
        """The components that were read."""
        return {name: self.in_order([e.activations[name] for e in self], 1) for name in self[0].activations}


class Engine:
    """Runs one model over a fixed list of prompts, texts or token ids.

    `answers` are the words whose next-token logits are wanted (each by its first sub-token), or their token ids; the
    last `keep` tokens of each prompt can be read and edited; `prefix="none"` does without the shared prefix; a batch
    holds at most `max_texts` texts and takes about `memory_bytes`, one text at the least. Raises ValueError for a
    prompt of fewer than `keep` tokens or more than the model has room for, and for words that share a token.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[str | Sequence[int]],
        answers: Sequence[str] | Int[Tensor, " answer"],
        *,
        keep: int = 1,
        prefix: Literal["shared", "none"] = "shared",
        max_texts: int | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        texts, size = limits(model.device)
        self.model, self.keep = model, keep
        self.max_texts = texts if max_texts is None else max_texts
        self.memory_bytes = size if memory_bytes is None else memory_bytes
        self.answers = answer_ids(model.tokenizer, answers).to(model.device)
        self.ids = token_ids(model.tokenizer, prompts)
        check_prompts(model.hf, self.ids, [f"row {row}" for row in range(len(self.ids))])
        short = [row for row, ids in enumerate(self.ids) if len(ids) < keep]
        if short:
            raise ValueError(f"prompt {short[0]} has {len(self.ids[short[0]])} tokens: lower keep from {keep}")
        # Sorted lists share the prefix that their first and last share; `keep` tokens of each prompt stay its own.
        share = prefix == "shared" and self.ids and not model.obstacle
        common = os.path.commonprefix([min(self.ids), max(self.ids)]) if share else []
        self.prefix = common[: min(map(len, self.ids), default=0) - keep]
        self._prefix_cache: list[tuple[Tensor, Tensor]] | None = None
        self._at_once = self.max_texts

    def batches(self, rows: Sequence[int] | None = None) -> list[list[int]]:
        """Indices of the texts in batches of similar length, shortest first, that fit the memory budget."""
        lengths = {row: len(self.ids[row]) for row in (range(len(self.ids)) if rows is None else rows)}
        costs = {length: self._bytes(length) for length in set(lengths.values())}
        return batches(lengths, costs, most=self.memory_bytes, max_texts=self.max_texts)

    def _bytes(self, length: int) -> int:
        """Memory that a prompt of `length` tokens takes."""
        run = max(length - len(self.prefix), ROOM)
        return text_bytes(self.model, length + ROOM, run=run, keep=self.keep)

    def in_parts(
        self,
        rows: Sequence[int],
        compute: Callable[[Sequence[int]], Mapping[str, Tensor]],
        dims: Mapping[str, int] | None = None,
    ) -> dict[str, Tensor]:
        """What `compute` makes of the texts `rows`: at once, or in parts where memory is short.

        A part that does not fit, though nothing else is left, is halved, and so are those to come: numbers are the
        same, to rounding. `dims` say along which dimension a tensor has the texts, the first unless said. Raises what
        `compute` raises, and its lack of memory for a single text.
        """
        found: list[Mapping[str, Tensor]] = []
        rest, tidy = list(rows), False
        while rest:
            part = rest[: min(self._at_once, self._free() // max(self._bytes(len(self.ids[row])) for row in rest) or 1)]
            try:
                found.append(compute(part))
                del rest[: len(part)]
                tidy = False
                continue
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error) or (tidy and len(part) == 1):
                    raise
                if tidy:
                    now = self._at_once = len(part) // 2
                    print(f"{len(part)} texts at once need more memory than there is: now {now}", file=sys.stderr)
            gc.collect()  # what a trace leaves behind refers to itself, and with it to a batch's keys and values
            tidy = True
        return {name: torch.cat([one[name] for one in found], (dims or {}).get(name, 0)) for name in found[0]}

    def _free(self) -> int:
        """Memory for a batch: half of what is free here; of a device that shows when it is asked for more."""
        return free_memory() // 2 if self.model.device.type == "cpu" else self.memory_bytes * self.max_texts

    @overload
    def encode(self, rows: None = None, *, read: Collection[Component] = (), room: int = ROOM) -> Encodings: ...
    @overload
    def encode(self, rows: Sequence[int], *, read: Collection[Component] = (), room: int = ROOM) -> Encoding: ...
    def encode(
        self, rows: Sequence[int] | None = None, *, read: Collection[Component] = (), room: int = ROOM
    ) -> Encoding | Encodings:
        """The Encoding of the texts `rows`, run as one batch; without `rows` those of all texts, in good batches.

        One pass over what follows the shared prefix, the components in `read` read at all layers at once. There is
        `room` for as many tokens to be run behind the texts at a time. Encodings
        hold the keys and values of their texts: for thousands of texts go through `batches`, one after the other.
        """
        if rows is None:
            return Encodings(self.encode(batch, read=read, room=room) for batch in self.batches())
        tokens, own = pad([self.ids[row][len(self.prefix) :] for row in rows], start=len(self.prefix))
        shared = torch.arange(len(self.prefix)).expand(len(rows), -1)
        wanted: list[Any] = ["resid_pre", *read]
        cache = None
        if self.model.obstacle:
            activations, hidden = self._whole([self.ids[row] for row in rows], rows, [None], read=wanted)
            hidden = hidden[:, 0]
        else:
            layers = [
                SlotLayer(*(old.expand(len(rows), -1, -1, -1) for old in states), room=tokens.shape[1] + room)
                for states in self._prefix_states()
            ]
            cache = Cache(layers=[*layers])
            places = own.where(own < NEVER, len(self.prefix))
            start = torch.full_like(places, len(self.prefix))
            inputs = self._inputs(tokens, places, start, shared, own, torch.zeros_like(own[0]), cache=cache)
            activations, hidden = self._trace("reading", inputs, places, {}, rows, read=wanted)
            for layer in layers:
                layer.length += tokens.shape[1]
        return Encoding(
            rows=torch.tensor(rows),
            tokens=tokens[:, -self.keep :],
            positions=own[:, -self.keep :],
            key_positions=onto(torch.cat([shared, own], 1), self.model.device),
            cache=cache,
            resid_pre=activations.pop("resid_pre"),
            activations=activations,
            hidden=hidden[:, -1],
            logits=self.model.unembed(hidden[:, -1], self.answers),
        )

    def replay(
        self, encoding: Encoding | Sequence[Encoding], edits: Sequence[Edit]
    ) -> Float[Tensor, "text edit answer"]:
        """Logits of the answers under each edit, equal to a full forward pass with that edit.

        Of one encoding in the order of its rows, of several in the order of the texts. Raises ValueError for a layer or
        component that the model does not have, or a position that was not kept.
        """
        if not isinstance(encoding, Encoding):
            return Encodings(encoding).in_order([self.replay(batch, edits) for batch in encoding])
        if self.model.obstacle and edits:
            for edit in edits:
                self._check_kept(edit)
            return self.forward(encoding.rows.tolist(), edits)
        logits = encoding.logits.new_empty(len(encoding.rows), len(edits), len(self.answers))
        for chunk, hidden, _ in self._replayed(encoding, edits):
            logits[:, onto(torch.tensor(chunk), logits.device)] = self.model.unembed(hidden, self.answers)
        return logits

    def read_under(
        self, encoding: Encoding, edits: Sequence[Edit], component: Component, layer: int
    ) -> Float[Tensor, "batch edit d_model"]:
        """What a component of a layer is at the last token under each edit, as in a full forward pass with that edit.

        Raises ValueError as `replay` does, and for an edit that begins behind the layer, which cannot change it.
        """
        check_layers((layer,), self.model.n_layers, model=self.model.name)
        self.model.check(component)
        for edit in edits:
            self._check_kept(edit)
            if edit.layers[0] > layer:
                raise ValueError(
                    f"an edit begins at layer {edit.layers[0]} and layer {layer} is to be read, which is as it was: "
                    "read a later layer"
                )
        parts: dict[int, Tensor] = {}
        if self.model.obstacle:
            rows = encoding.rows.tolist()
            for index, edit in enumerate(edits):
                found = self._whole([self.ids[row] for row in rows], rows, [edit], read=[component])[0]
                parts[index] = found[component][layer, :, -1]
        else:
            for chunk, _, activations in self._replayed(encoding, edits, read=[component], only=layer):
                parts |= dict(zip(chunk, activations[component].unbind(1), strict=True))
        return torch.stack([parts[index] for index in range(len(edits))], 1)

    def _replayed(
        self, encoding: Encoding, edits: Sequence[Edit], *, read: Collection[Component] = (), only: int | None = None
    ) -> Iterator[tuple[list[int], Tensor, dict[Any, Tensor]]]:
        """By group of edits that are run together: their indices, what goes into the unembedding, and what is in `read`
        at the layer `only`, both [batch, edit, d_model] at the last token."""
        for first, length, chunk in self._groups(edits):
            plan = defaultdict(list)
            for column, index in enumerate(chunk):
                for layer in edits[index].layers:
                    site = slice(column * length, column * length + 1)
                    plan[layer, edits[index].component].append((EACH, site, edits[index]))
            tokens = encoding.tokens[:, -length:].repeat(1, len(chunk))
            positions = encoding.positions[:, -length:].repeat(1, len(chunk))
            stream = encoding.resid_pre[first, :, -length:].repeat(1, len(chunk), 1)
            activations, hidden = self._chains(
                encoding, tokens, positions, length, plan, first=first, stream=stream, read=read, only=only
            )
            last = slice(length - 1, None, length)
            yield chunk, hidden[:, last], {name: values[0, :, last] for name, values in activations.items()}

    def _groups(self, edits: Sequence[Edit]) -> Iterator[tuple[int, int, list[int]]]:
        """First layer to run, number of tokens to run, and the indices of the edits that share both, ROOM at a time."""
        groups = defaultdict(list)
        for index, edit in enumerate(edits):
            self._check_kept(edit)
            groups[edit.layers[0], -int(edit.position)].append(index)
        for (first, length), members in groups.items():
            at_once = max(1, ROOM // length)
            for begin in range(0, len(members), at_once):
                yield first, length, members[begin : begin + at_once]

    def continuations(self, encoding: Encoding, sequences: Sequence[Sequence[int]]) -> Float[Tensor, "batch sequence"]:
        """Log-probability, float32, of each token sequence as what follows the prompt."""
        first = self.model.unembed(encoding.hidden).log_softmax(-1)
        columns = []
        for sequence in sequences:
            total = first[:, sequence[0]]
            if len(sequence) > 1:
                follow = onto(torch.tensor(sequence), first.device)
                hidden = self._continue(encoding, follow[:-1].expand(len(first), -1))[:, 1:]
                steps = self.model.unembed(hidden).log_softmax(-1)
                total = total + steps[:, torch.arange(len(follow) - 1, device=first.device), follow[1:]].sum(-1)
            columns.append(total)
        return torch.stack(columns, 1)

    def follow(
        self, rows: Sequence[int], endings: Sequence[Sequence[Sequence[int]]]
    ) -> Float[Tensor, "batch ending answer"]:
        """Logits of the answers where the prompts of the texts `rows` go on, equal to those of the whole prompts.

        Each text has its own `endings`, equally many, of one or more token ids each. A text is read once, and its
        endings are run beside one another behind it.
        """
        count = len(endings[0])
        if self.model.obstacle:
            wholes = [[[*self.ids[row], *own[n]] for row, own in zip(rows, endings, strict=True)] for n in range(count)]
            hidden = torch.cat([self._whole(ids, rows, [None])[1][:, :, -1] for ids in wholes], 1)
            return self.model.unembed(hidden.to(self.model.device), self.answers)
        length = 1 + max(len(one) for own in endings for one in own)  # the last token of the text is run with each
        names = [f"row {row}" for row in rows]
        check_prompts(self.model.hf, [self.ids[row] for row in rows], names, more=length - 1)
        encoding = self.encode(rows, room=max(ROOM, length))
        at_once, parts = max(ROOM, length) // length, []
        for begin in range(0, count, at_once):
            some = [own[begin : begin + at_once] for own in endings]
            # Padded on the right, where nothing looks back from.
            chains = [
                [[self.ids[row][-1], *one, *[0] * (length - 1 - len(one))] for one in own]
                for row, own in zip(rows, some, strict=True)
            ]
            tokens = torch.tensor(chains).flatten(1)
            positions = (encoding.positions[:, -1:] + torch.arange(length)).repeat(1, len(some[0]))
            hidden = self._chains(encoding, tokens, positions, length, {})[1]
            ends = [[number * length + len(one) for number, one in enumerate(own)] for own in some]
            parts.append(hidden[torch.arange(len(rows))[:, None], torch.tensor(ends)])
        return self.model.unembed(torch.cat(parts, 1), self.answers)

    def greedy(self, encoding: Encoding, n_tokens: int) -> Int[Tensor, "batch {n_tokens}"]:
        """The `n_tokens` most probable next tokens, one after the other, over the whole vocabulary."""
        found = self.model.unembed(encoding.hidden).argmax(-1, keepdim=True)
        while found.shape[1] < n_tokens:
            hidden = self._continue(encoding, found)[:, -1]
            found = torch.cat([found, self.model.unembed(hidden).argmax(-1, keepdim=True)], 1)
        return found

    def forward(self, rows: Sequence[int], edits: Sequence[Edit]) -> Float[Tensor, "batch edit answer"]:
        """Logits of the answers by a full pass per edit."""
        for edit in edits:
            self._check(edit)
        hidden = self._whole([self.ids[row] for row in rows], rows, edits)[1]
        return self.model.unembed(hidden[:, :, -1].to(self.model.device), self.answers)

    def _check(self, edit: Edit) -> None:
        """Nothing when the model has the edit's layers and component; else raises ValueError."""
        check_layers(edit.layers, self.model.n_layers, model=self.model.name)
        self.model.check(edit.component)

    def _check_kept(self, edit: Edit) -> None:
        """Nothing when the edit can be replayed; else raises ValueError."""
        self._check(edit)
        if edit.position == "all" or -edit.position > self.keep:
            raise ValueError(
                f"position {edit.position} cannot be replayed: this engine keeps -1..-{self.keep}; raise keep, or "
                'use forward for position="all"'
            )

    def _whole(
        self,
        ids: Sequence[Sequence[int]],
        rows: Sequence[int],
        edits: Sequence[Edit | None],
        *,
        read: Collection[Any] = (),
        tail: int = 1,
    ) -> tuple[dict[Any, Tensor], Float[Tensor, "batch edit {tail} d_model"]]:
        """By whole passes, what is in `read`, and what the head is given at the last `tail` tokens under each edit.

        Texts are padded; where the model has an obstacle to replay, they are run with those of their length, with as
        many edits at a time as fill the batch.
        """
        groups = defaultdict(list)
        for index, text in enumerate(ids):
            groups[len(text) if self.model.obstacle else 0].append(index)
        hidden, activations = [], []
        for group in groups.values():
            tokens, own = pad([ids[index] for index in group], start=0)
            places = own.where(own < NEVER, 0)
            given, options = dict(input_ids=tokens), {}
            if not self.model.obstacle:
                # Without a cache transformers makes its own masks from which tokens are real, on any machine.
                given |= dict(position_ids=places, attention_mask=(own < NEVER).long())
                options = dict(use_cache=False)
            n, width, columns = len(group), tokens.shape[1], []
            room = self.memory_bytes // text_bytes(self.model, width, run=width, keep=self.keep)
            at_once = max(1, min(self.max_texts, room) // n) if self.model.obstacle else 1
            for begin in range(0, len(edits), at_once):
                chunk, plan = edits[begin : begin + at_once], defaultdict(list)
                for number, edit in enumerate(chunk):
                    if edit is not None:
                        at = EACH if edit.position == "all" else slice(edit.position, edit.position + 1 or None)
                        for layer in edit.layers:
                            plan[layer, edit.component].append((slice(number * n, (number + 1) * n), at, edit))
                copies = len(chunk)
                inputs = {k: onto(v.repeat(copies, 1), self.model.device) for k, v in given.items()} | options
                texts = [rows[index] for index in group] * copies
                found, last = self._trace("full", inputs, places.repeat(copies, 1), plan, texts, read=read)
                columns.append(last[:, -tail:].unflatten(0, (len(chunk), n)).transpose(0, 1))
            hidden.append(torch.cat(columns, 1))
            activations.append(found)
        order = onto(torch.tensor([index for group in groups.values() for index in group]).argsort(), hidden[0].device)
        return {name: torch.cat([f[name] for f in activations], 1)[:, order] for name in read}, torch.cat(hidden)[order]

    def _continue(
        self, encoding: Encoding, follow: Int[Tensor, "batch follow"]
    ) -> Float[Tensor, "batch 1+follow d_model"]:
        """What goes into the unembedding at the last prompt token and at `follow` behind it."""
        asked = {f"row {row}": self.ids[row] for row in encoding.rows.tolist()}
        check_prompts(self.model.hf, [*asked.values()], [*asked], more=follow.shape[1])
        if self.model.obstacle:
            rows = encoding.rows.tolist()
            ids = [self.ids[row] + tokens for row, tokens in zip(rows, follow.tolist(), strict=True)]
            return self._whole(ids, rows, [None], tail=1 + follow.shape[1])[1][:, 0]
        tokens = torch.cat([onto(encoding.tokens[:, -1:], follow.device), follow], 1)
        positions = encoding.positions[:, -1:] + torch.arange(tokens.shape[1])
        return self._chains(encoding, tokens, positions, tokens.shape[1], {})[1]

    def _chains(
        self,
        encoding: Encoding,
        tokens: Int[Tensor, "batch query"],
        positions: Int[Tensor, "batch query"],
        length: int,
        plan: Plan,
        *,
        first: int = 0,
        stream: Float[Tensor, "batch query d_model"] | None = None,
        read: Collection[Component] = (),
        only: int | None = None,
    ) -> tuple[dict[Any, Float[Tensor, "layer batch query d_model"]], Float[Tensor, "batch query d_model"]]:
        """What is in `read` and what goes into the unembedding, of chains of `length` tokens, which see the cache and
        themselves."""
        chain = torch.arange(tokens.shape[1]) // length
        start = positions[:, ::length].repeat_interleave(length, 1)
        inputs = self._inputs(tokens, positions, start, encoding.key_positions, positions, chain, cache=encoding.cache)
        rows, passes = encoding.rows.tolist(), positions.numel() // length
        return self._trace(
            "replaying",
            inputs,
            positions,
            plan,
            rows,
            first=first,
            stream=stream,
            read=read,
            only=only,
            tail=tokens.shape[1],
            passes=passes,
        )

    def _inputs(self, *given: Tensor, cache: Cache | None) -> dict[str, Any]:
        """What the model is called with to run tokens behind a cache, of these and what `attention_masks` is given."""
        tokens, positions, *masks = (onto(tensor, self.model.device) for tensor in given)
        seen = attention_masks(positions, *masks, rules=self.model.anatomy.rules, dtype=self.model.dtype)
        where = dict(position_ids=positions, attention_mask=seen)
        return dict(input_ids=tokens, past_key_values=cache, use_cache=True, **where)

    def _trace(
        self,
        kind: Kind,
        inputs: Mapping[str, Any],
        positions: Int[Tensor, "batch query"],
        plan: Plan,
        rows: Sequence[int],
        *,
        first: int = 0,
        stream: Float[Tensor, "batch query d_model"] | None = None,
        read: Collection[Component | Literal["resid_pre"]] = (),
        only: int | None = None,
        tail: int | None = None,
        passes: int | None = None,
    ) -> tuple[dict[Any, Float[Tensor, "layer batch pos d_model"]], Float[Tensor, "batch query d_model"]]:
        """What is in `read`, components and the stream before each layer, at the last tokens; what the head is given.

        Read are as many tokens as are kept, unless `tail` says how many, at every layer that is run or at that called
        `only`. Edits are in `plan`, `positions` are on the CPU; layers before `first` are not run: the `stream` enters
        there. It counts as `passes` of a `kind`, one a row unless said.
        """
        sites = [(name, self.model.modules(name), name in read) for name in self.model.components]
        layers, head, keep = self.model.modules("resid_post"), self.model.head(), tail or self.keep
        home = self.model.device
        scales, n_layers, want = {name: self.model.scale(name) for name, *_ in sites}, len(layers), "resid_pre" in read
        index, shape, others = torch.tensor(rows), tuple(positions.shape), [None] * (self.model.anatomy.returned - 1)
        entering = (stream, *others) if self.model.anatomy.returned else stream
        cost = dict(passes=shape[0] if passes is None else passes, tokens=positions.numel() * (n_layers - first))
        with torch.no_grad(), counted(kind, **cost), self.model.lm.trace(**inputs) as tracer:
            found: dict[str, list[Tensor]] = {name: [] for name in read}
            for layer in range(first):
                layers[layer].skip(entering)
            for layer in range(first, n_layers):
                if want:
                    found["resid_pre"].append(layers[layer].input[:, -keep:].to(home, copy=True))
                for name, modules, is_read in sites:
                    wanted = is_read and only in (None, layer)
                    if wanted or (layer, name) in plan:
                        output, scale = unwrap(modules[layer].output, shape), scales[name]
                        edit_in_place(output, plan.get((layer, name), ()), (layer, name), index, positions, scale)
                        if wanted:
                            found[name].append((output[:, -keep:] * scale).to(home))
            activations = nnsight.save({name: torch.stack(values) for name, values in found.items()})
            hidden = nnsight.save(head.input.clone())
            tracer.stop()
        return activations, hidden

    def _prefix_states(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [1, heads, P, head_dim] of the shared prefix per layer, computed once."""
        if self._prefix_cache is None:
            anatomy, new = self.model.anatomy, partial(torch.empty, dtype=self.model.dtype)
            layers = [
                SlotLayer(*(new(1, heads, 0, size, device=device) for heads, size in pair), room=len(self.prefix))
                for pair, device in zip(anatomy.keys, anatomy.devices, strict=True)
            ]
            if self.prefix:
                tokens, own = pad([self.prefix], start=0)
                masks = (torch.zeros_like(own), own[:, :0], own, torch.zeros_like(own[0]))
                inputs = self._inputs(tokens, own, *masks, cache=Cache(layers=[*layers]))
                self._trace("reading", inputs, own, {}, [-1], passes=0)
            self._prefix_cache = [(layer.keys, layer.values) for layer in layers]
        return self._prefix_cache


def token_ids(tokenizer: Any, prompts: Sequence[str | Sequence[int]]) -> list[list[int]]:
    """The token ids of prompts; those that are token ids already are returned as they are."""
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    parts = (tokenizer(texts[begin : begin + READ])["input_ids"] for begin in range(0, len(texts), READ))
    read, known = chain.from_iterable(parts), dict[int, int]()
    # One number for all tokens of a kind: thousands of prompts say the same.
    return [[known.setdefault(one, one) for one in (next(read) if isinstance(p, str) else p)] for p in prompts]


def limits(place: torch.device) -> tuple[int, int]:
    """Texts that a batch may hold, and bytes that it may take, where a model computes.

    A GPU waits to be told what comes next: eight times the texts take it a third longer (measured on one of 2024).
    """
    if place.type != "cuda":
        return TEXTS, BYTES
    return 8 * TEXTS, max(BYTES, torch.cuda.get_device_properties(place).total_memory // 8)


def batches(lengths: Mapping[int, int], costs: Mapping[int, int], *, most: int, max_texts: int) -> list[list[int]]:
    """The texts, keys of `lengths` (tokens), in batches, shortest first; each text is in one.

    `costs` are the bytes that a text of a length takes. A batch has at most `max_texts` texts, which together cost at
    most `most` bytes; one text at the least.
    """
    found: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: (lengths[row], row)):
        # All are padded to the longest, which is this one.
        if not found or len(found[-1]) >= max_texts or (len(found[-1]) + 1) * costs[lengths[row]] > most:
            found.append([])
        found[-1].append(row)
    return found


def lacks_memory(error: Exception) -> bool:
    """Whether memory, of the machine or of a device, was short: torch has no one exception for that."""
    said = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(one in str(error) for one in said)


def text_bytes(model: Model, length: int, *, run: int, keep: int) -> int:
    """Memory that a text of `length` tokens takes, of which `run` are run at a time and the last `keep` are read.

    What stays are its keys and values, and the stream and every component at `keep` tokens; a layer works on top of it.
    """
    keys = sum(heads * size for pair in model.anatomy.keys for heads, size in pair) * length
    kept = (1 + len(COMPONENTS)) * model.n_layers * keep * model.width
    widest = max(max(weight.shape) for weight in model.modules("resid_post", view=model.hf)[0].parameters())
    return (keys + kept + run * (WORK * widest + length)) * model.dtype.itemsize

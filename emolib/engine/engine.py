"""Encode once, replay the rest: the only place that runs a model.

Almost every experiment edits the last tokens at some layer and asks for the next-token logits of a few labels. In a
causal model nothing before the edited token can change. So `encode` reads a text once, keeping its key/value cache and
the residual stream of its last tokens, and `replay` runs only those tokens, only from the first edited layer on. All
edits of a group are queries beside one another in one sequence: each sees the cache and itself, never the others, so
the cache is shared, not copied, and every edit is exact. Instruction and demonstrations, equal for all texts, are read
once. `forward` is the plain way, one whole pass per edit: for edits of all tokens, and for other machines (NDIF).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, overload

import nnsight
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache

from emolib.engine.context import NEVER, SlotLayer, attention_masks, pad
from emolib.engine.edits import Edit, edit_in_place
from emolib.engine.labels import answer_ids
from emolib.engine.layouts import unwrap
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS, Component, check_layers

ROOM = 32  # columns one replay may hold: enough rows for a fast product, few enough for the masks to stay small
WORK = 12  # tensors as wide as a layer at its widest that are alive at once, measured: gate, up, product, and copies
Plan = Mapping[tuple[int, Component], Sequence[tuple[slice, Edit]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """What one batch of texts left behind: `rows` are their numbers, and all else is in the order of these.

    `resid_pre` is the residual stream before each layer, `activations` the components that were read, both at the last
    `keep` tokens (pos); `hidden` is the output of the final norm at the last token, `logits` those of the answers.
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
        return torch.cat(list(parts), dim).index_select(dim, order.to(parts[0].device))

    @property
    def logits(self) -> Float[Tensor, "text answer"]:
        """The clean logits of the answers."""
        return self.in_order([encoding.logits for encoding in self])

    @property
    def activations(self) -> dict[Component, Float[Tensor, "layer text pos d_model"]]:
        """The components that were read."""
        return {name: self.in_order([e.activations[name] for e in self], 1) for name in self[0].activations}


class Engine:
    """Runs one model over a fixed list of prompts.

    `answers` are the words whose next-token logits are wanted (each by its first sub-token), or their token ids; the
    last `keep` tokens of each prompt can be read and edited; `prefix="none"` does without the shared prefix; a batch
    holds at most `max_texts` texts and takes about `memory_bytes`, one text at the least. Raises ValueError for a
    prompt of fewer than `keep` tokens and for words that share a token.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[str],
        answers: Sequence[str] | Int[Tensor, " answer"],
        *,
        keep: int = 1,
        prefix: Literal["shared", "none"] = "shared",
        max_texts: int = 64,
        memory_bytes: int = 2**30,
    ) -> None:
        self.model, self.keep, self.max_texts, self.memory_bytes = model, keep, max_texts, memory_bytes
        self.answers = answer_ids(model.tokenizer, answers).to(model.device)
        self.ids: list[list[int]] = model.tokenizer(list(prompts))["input_ids"]
        short = [row for row, ids in enumerate(self.ids) if len(ids) < keep]
        if short:
            raise ValueError(f"prompt {short[0]} has {len(self.ids[short[0]])} tokens: lower keep from {keep}")
        # Sorted lists share the prefix that their first and last share; `keep` tokens of each prompt stay its own.
        common = os.path.commonprefix([min(self.ids), max(self.ids)]) if prefix == "shared" and self.ids else []
        self.prefix = common[: min(map(len, self.ids), default=0) - keep]
        self._prefix_cache: list[tuple[Tensor, Tensor]] | None = None
        self._pad = partial(pad, token=model.tokenizer.pad_token_id, device=model.device)
        self._masks = partial(attention_masks, windows=model.windows, dtype=model.dtype)

    def batches(self, rows: Sequence[int] | None = None) -> list[list[int]]:
        """Indices of the texts in batches of similar length, shortest first, that fit the memory budget."""
        lengths = {row: len(self.ids[row]) for row in (range(len(self.ids)) if rows is None else rows)}
        costs = {
            length: text_bytes(self.model, length + ROOM, run=max(length - len(self.prefix), ROOM), keep=self.keep)
            for length in set(lengths.values())
        }
        return batches(lengths, costs, most=self.memory_bytes, max_texts=self.max_texts)

    @overload
    def encode(self, rows: None = None, *, read: Collection[Component] = ()) -> Encodings: ...
    @overload
    def encode(self, rows: Sequence[int], *, read: Collection[Component] = ()) -> Encoding: ...
    def encode(self, rows: Sequence[int] | None = None, *, read: Collection[Component] = ()) -> Encoding | Encodings:
        """The Encoding of the texts `rows`, run as one batch; without `rows` those of all texts, in good batches.

        One pass over what follows the shared prefix, the components in `read` read at all layers at once. Encodings
        hold the keys and values of their texts: for thousands of texts go through `batches`, one after the other.
        """
        if rows is None:
            return Encodings(self.encode(batch, read=read) for batch in self.batches())
        rest = [self.ids[row][len(self.prefix) :] for row in rows]
        tokens, own = self._pad(rest, start=len(self.prefix))
        shared = torch.arange(len(self.prefix), device=own.device).expand(len(rows), -1)
        layers = [
            SlotLayer(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), tokens.shape[1] + ROOM)
            for keys, values in self._prefix_states()
        ]
        cache = Cache(layers=[*layers])
        positions = own.where(own < NEVER, len(self.prefix))
        start = torch.full_like(positions, len(self.prefix))
        masks = self._masks(positions, start, shared, own, torch.zeros_like(positions[0]))
        activations, hidden = self._trace(tokens, positions, masks, cache, {}, rows, read=("resid_pre", *read))
        for layer in layers:
            layer.length += tokens.shape[1]
        return Encoding(
            rows=torch.tensor(rows),
            tokens=tokens[:, -self.keep :],
            positions=positions[:, -self.keep :],
            key_positions=torch.cat([shared, own], 1),
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

        Of one encoding in the order of its rows, of several in the order of the texts. Raises ValueError for a layer
        outside the model or a position that was not kept.
        """
        if not isinstance(encoding, Encoding):
            return Encodings(encoding).in_order([self.replay(batch, edits) for batch in encoding])
        logits = encoding.logits.new_empty(len(encoding.rows), len(edits), len(self.answers))
        for first, length, chunk in self._groups(edits):
            plan = defaultdict(list)
            for column, index in enumerate(chunk):
                for layer in edits[index].layers:
                    site = slice(column * length, column * length + 1)
                    plan[layer, edits[index].component].append((site, edits[index]))
            tokens = encoding.tokens[:, -length:].repeat(1, len(chunk))
            positions = encoding.positions[:, -length:].repeat(1, len(chunk))
            stream = encoding.resid_pre[first, :, -length:].repeat(1, len(chunk), 1)
            hidden = self._chains(encoding, tokens, positions, length, plan, first=first, stream=stream)
            logits[:, chunk] = self.model.unembed(hidden[:, length - 1 :: length], self.answers)
        return logits

    def _groups(self, edits: Sequence[Edit]) -> Iterator[tuple[int, int, list[int]]]:
        """First layer to run, number of tokens to run, and the indices of the edits that share both, ROOM at a time."""
        groups = defaultdict(list)
        for index, edit in enumerate(edits):
            check_layers(edit.layers, self.model.n_layers, model=self.model.name)
            if edit.position == "all" or -edit.position > self.keep:
                raise ValueError(
                    f"position {edit.position} cannot be replayed: this engine keeps -1..-{self.keep}; raise keep, or "
                    'use forward for position="all"'
                )
            groups[edit.layers[0], -edit.position].append(index)
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
                follow = torch.tensor(sequence, device=first.device)
                hidden = self._continue(encoding, follow[:-1].expand(len(first), -1))[:, 1:]
                steps = self.model.unembed(hidden).log_softmax(-1)
                total = total + steps[:, torch.arange(len(follow) - 1), follow[1:]].sum(-1)
            columns.append(total)
        return torch.stack(columns, 1)

    def greedy(self, encoding: Encoding, n_tokens: int) -> Int[Tensor, "batch {n_tokens}"]:
        """The `n_tokens` most probable next tokens, one after the other, over the whole vocabulary."""
        found = self.model.unembed(encoding.hidden).argmax(-1, keepdim=True)
        while found.shape[1] < n_tokens:
            hidden = self._continue(encoding, found)[:, -1]
            found = torch.cat([found, self.model.unembed(hidden).argmax(-1, keepdim=True)], 1)
        return found

    def forward(
        self, rows: Sequence[int], edits: Sequence[Edit], *, remote: bool | Literal["local"] = False
    ) -> Float[Tensor, "batch edit answer"]:
        """Logits of the answers by a full pass per edit; `remote=True` on NDIF, "local" as NDIF would."""
        if remote:
            nnsight.register(__package__)  # the request carries this code: the server does not have it
        tokens, own = self._pad([self.ids[row] for row in rows], start=0)
        positions = own.where(own < NEVER, 0)
        # Without a cache transformers makes its own masks from which tokens are real, on any machine.
        real = (own < NEVER).long()
        columns = []
        for edit in edits:
            check_layers(edit.layers, self.model.n_layers, model=self.model.name)
            end = tokens.shape[1]
            at = slice(None) if edit.position == "all" else slice(end + edit.position, end + edit.position + 1)
            plan: Plan = {(layer, edit.component): [(at, edit)] for layer in edit.layers}
            _, hidden = self._trace(tokens, positions, real, None, plan, rows, remote=remote)
            columns.append(self.model.unembed(hidden[:, -1].to(self.model.device), self.answers))
        return torch.stack(columns, 1)

    def _continue(
        self, encoding: Encoding, follow: Int[Tensor, "batch follow"]
    ) -> Float[Tensor, "batch 1+follow d_model"]:
        """Final-norm outputs at the last prompt token and at `follow` behind it."""
        tokens = torch.cat([encoding.tokens[:, -1:], follow], 1)
        positions = encoding.positions[:, -1:] + torch.arange(tokens.shape[1], device=tokens.device)
        return self._chains(encoding, tokens, positions, tokens.shape[1], {})

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
    ) -> Float[Tensor, "batch query d_model"]:
        """Final-norm outputs of chains of `length` tokens that see the cache before them and themselves."""
        chain = torch.arange(tokens.shape[1], device=tokens.device) // length
        start = positions[:, ::length].repeat_interleave(length, 1)
        masks = self._masks(positions, start, encoding.key_positions, positions, chain)
        rows = encoding.rows.tolist()
        return self._trace(tokens, positions, masks, encoding.cache, plan, rows, first=first, stream=stream)[1]

    def _trace(
        self,
        tokens: Int[Tensor, "batch query"],
        positions: Int[Tensor, "batch query"],
        masks: Tensor | Mapping[str, Tensor],
        cache: Cache | None,
        plan: Plan,
        rows: Sequence[int],
        *,
        first: int = 0,
        stream: Float[Tensor, "batch query d_model"] | None = None,
        read: Collection[Component | Literal["resid_pre"]] = (),
        remote: bool | Literal["local"] = False,
    ) -> tuple[dict[Any, Float[Tensor, "layer batch pos d_model"]], Float[Tensor, "batch query d_model"]]:
        """What is in `read`, components and the stream before each layer, at the last tokens; the final norm's output.

        Edits are in `plan`; layers before `first` are not run: the `stream` enters there.
        """
        view, options = (self.model.remote, {"remote": remote}) if remote else (self.model.lm, {})
        modules = {component: self.model.modules(component, view=view) for component in COMPONENTS}
        layers, norm, keep = modules["resid_post"], self.model.norm(view=view), self.keep
        n_layers, want = len(layers), "resid_pre" in read
        sites = [(component, component in read) for component in COMPONENTS]
        inputs: dict[str, Any] = dict(input_ids=tokens, position_ids=positions, attention_mask=masks)
        inputs |= {} if remote else dict(past_key_values=cache)
        index, tuples = torch.tensor(rows), self.model.layout.tuples
        with torch.no_grad(), view.trace(**inputs, use_cache=cache is not None, **options) as tracer:
            found: dict[str, list[Tensor]] = {name: [] for name in read}
            for layer in range(first):
                layers[layer].skip((stream,) if tuples else stream)
            for layer in range(first, n_layers):
                if want:
                    found["resid_pre"].append(layers[layer].input[:, -keep:].clone())
                for component, is_read in sites:
                    if is_read or (layer, component) in plan:
                        output = unwrap(modules[component][layer].output)
                        edit_in_place(output, plan.get((layer, component), ()), layer, component, index, positions)
                        if is_read:
                            found[component].append(output[:, -keep:].clone())
            activations = nnsight.save({name: torch.stack(values) for name, values in found.items()})
            hidden = nnsight.save(norm.output.clone())
            tracer.stop()
        return activations, hidden

    def _prefix_states(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [1, heads, P, head_dim] of the shared prefix per layer, computed once."""
        if self._prefix_cache is None:
            heads, size = self.model.key_shape
            empty = torch.empty(1, heads, 0, size, dtype=self.model.dtype, device=self.model.device)
            layers = [SlotLayer(empty, empty, len(self.prefix)) for _ in range(self.model.n_layers)]
            if self.prefix:
                tokens, own = self._pad([self.prefix], start=0)
                masks = self._masks(own, torch.zeros_like(own), own[:, :0], own, torch.zeros_like(own[0]))
                self._trace(tokens, own, masks, Cache(layers=[*layers]), {}, [-1])
            self._prefix_cache = [(layer.keys, layer.values) for layer in layers]
        return self._prefix_cache


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


def text_bytes(model: Model, length: int, *, run: int, keep: int) -> int:
    """Memory that a text of `length` tokens takes, of which `run` are run at a time and the last `keep` are read.

    What stays are its keys and values, and the stream and every component at `keep` tokens; a layer works on top of it.
    """
    heads, size = model.key_shape
    keys = 2 * model.n_layers * heads * size * length
    kept = (1 + len(COMPONENTS)) * model.n_layers * keep * model.width
    widest = max(max(weight.shape) for weight in model.modules("resid_post", view=model.hf)[0].parameters())
    return (keys + kept + run * (WORK * widest + length)) * model.dtype.itemsize

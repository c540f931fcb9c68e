"""Where the last token looks: its attention weights, and the part of the prompt that each token belongs to.

Attention is read by plain transformers in two steps: all tokens but the last fill the key/value cache, then the last
one is run alone with eager attention, so that only its own weights are ever kept (E13). A weight says how much of a
token's value vector is taken up, not how long that vector is: the first token often takes most of the weight and gives
almost nothing. `value_weighted` therefore multiplies each weight by the length of the value vector it applies to, after
Kobayashi et al. (2020, arXiv 2004.10102), who also count the output projection; here it is left out.

Tokens are told apart by character offsets, so any fast tokenizer serves. Prompt tokens have names; tokens of the
evaluated text never have, because no text of a corpus may reach a table.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import nnsight
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from emolib.engine.engine import lacks_memory
from emolib.engine.layouts import find_layout, resolve
from emolib.engine.model import Model
from emolib.engine.remote import RemoteModel
from emolib.engine.work import counted
from emolib.experiments.attention.words import MASK
from emolib.texts.prompts import Prompt

SEGMENTS = ("first_token", "instruction", "demonstration", "demonstration_label", "text", "format")
FIRST, TEXT = SEGMENTS.index("first_token"), SEGMENTS.index("text")
# In the code of an attention module: what is called for its output, and the name of a weight that goes to no token.
CALL, SINK = "attention_interface(", "s_aux"
SPELLED = {":": "colon", ";": "semicolon", "": "blank"}  # tokens that a table could not show
Place = tuple[str, str]  # the part of the prompt, and the token there, "" where it has no name


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """One prompt of T tokens as the model reads it.

    `segments` [T] are indices into SEGMENTS; `places` [T] name the part of the prompt (demo_1, final_cue, ...) and, of
    prompt tokens and masks, the token; `starts` [T] is the first character of a token of the evaluated text, counted
    from the beginning of that text, and -1 for all others.
    """

    ids: list[int]
    segments: np.ndarray
    places: list[Place]
    starts: np.ndarray


def pieces(prompt: Prompt, text: str) -> list[tuple[str, str, str]]:
    """The rendered prompt in consecutive pieces: characters, segment, part.

    Parts are the instruction, each demonstration (`demo_1`: its text and label), `evaluated_text`, `final_cue` (the
    "Answer:" behind it), and `format`: the words "Context:" and "Answer:" everywhere else.
    """
    found = [(prompt.instruction, "instruction", "instruction")]
    for number, (shown, label) in enumerate(prompt.demonstrations, start=1):
        part = f"demo_{number}"
        found += [
            (prompt.opening, "format", "format"),
            (shown, "demonstration", part),
            (prompt.cue, "format", "format"),
            (f" {label}", "demonstration_label", part),
            (prompt.separator, "format", "format"),
        ]
    found += [(prompt.opening, "format", "format"), (text, "text", "evaluated_text"), (prompt.turn, "format", "format")]
    found.append((prompt.suffix.removeprefix(prompt.turn), "format", "final_cue"))
    if prompt.turn:  # a turn of a chat begins without a blank
        first = next(index for index, (characters, _, _) in enumerate(found) if characters)
        found[first] = (found[first][0].lstrip(), *found[first][1:])
    return [(prompt.before, "format", "format"), *found]


def tokenize(tokenizer: Any, prompt: Prompt, text: str) -> Tokens:
    """The Tokens of the prompt for one text; a token belongs where its first character that is not blank belongs.

    The first token is a segment of its own, whether or not the tokenizer puts a special token there: attention gathers
    on it. Raises ValueError for a tokenizer that does not say which characters its tokens come from.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets: load the model's fast tokenizer")
    parts, rendered = pieces(prompt, text), prompt.render(text)
    ends = np.cumsum([len(characters) for characters, _, _ in parts])
    if "".join(characters for characters, _, _ in parts) != rendered:
        raise ValueError(f"the pieces of prompt {prompt.name} are not what it renders: its assembly has changed")
    begin, masks = len(prompt.prefix), [found.span() for found in MASK.finditer(text)]
    coded = prompt.encode(tokenizer, text, return_offsets_mapping=True, return_special_tokens_mask=True)
    segments: list[int] = []
    places: list[Place] = []
    starts: list[int] = []
    for (start, end), special in zip(coded["offset_mapping"], coded["special_tokens_mask"], strict=True):
        word = rendered[start:end]
        start += len(word) - len(word.lstrip()) if word.strip() else 0
        _, segment, part = parts[min(int(np.searchsorted(ends, start, side="right")), len(parts) - 1)]
        first = special or not segments
        inside = segment == "text" and not first
        masked = any(a <= start - begin < b for a, b in masks)
        name = SPELLED.get(word.strip(), word.strip()) if segment != "text" else "mask" if masked else ""
        segments.append(FIRST if first else SEGMENTS.index(segment))
        places.append(("first_token", "") if first else (part, name))
        starts.append(start - begin if inside else -1)
    return Tokens(ids=coded["input_ids"], segments=np.array(segments), places=places, starts=np.array(starts))


@contextmanager
def eager(model: Model) -> Iterator[None]:
    """Switch the model to eager attention, the only one that gives weights, and back whatever happens."""
    before = model.hf.config._attn_implementation
    model.hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.hf.set_attn_implementation(before)


def last_token_attention(
    model: Model, ids: Sequence[Sequence[int]], *, max_texts: int = 32
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Indices of B prompts of one length T, the last token's attention weights, and the norms of the value vectors
    they apply to, both [L, B, H, T] float32 on the CPU; until every prompt has been read once.

    L layers, H query heads; those that share a key/value head share its norms. Prompts are read together only when
    they are equally long, so none is ever padded, and what all of them begin with is read once. Raises ValueError for
    a prompt of fewer than two tokens, or a model whose layers do not give a weight for every token.
    """
    if min(map(len, ids), default=2) < 2:
        raise ValueError("a prompt has fewer than two tokens: there is nothing for the last one to look at")
    elsewhere = isinstance(model, RemoteModel)
    lengths: dict[int, list[int]] = {}
    for row, tokens in enumerate(ids):
        lengths.setdefault(len(tokens), []).append(row)
    # Sorted lists share the prefix that their first and last share; two tokens of each prompt stay its own.
    whole = [list(tokens) for tokens in ids]
    shared = os.path.commonprefix([min(whole), max(whole)])[: min(lengths) - 2] if lengths and not elsewhere else []
    prefix = DynamicCache()  # a plain one: no layer forgets what its sliding window, left to the mask, does not see
    _attend(model, prefix, [shared])
    for length in sorted(lengths):
        for begin in range(0, len(lengths[length]), max_texts):
            rows = lengths[length][begin : begin + max_texts]
            rest = [whole[row][len(shared) :] for row in rows]
            yield rows, *(_read_elsewhere(model, rest) if elsewhere else _read(model, prefix, rest))


def check_readable(model: Model) -> None:
    """Nothing for a model in which the last token's attention can be read; else raises ValueError.

    It is tried on two short prompts: a state space has no weights, and some layers keep no keys and values. Of what
    runs elsewhere nothing is known before it is asked.
    """
    if isinstance(model, RemoteModel):
        return
    try:
        next(last_token_attention(model, [[1, 2, 3], [1, 2, 4]]))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:  # each family has its own
        if lacks_memory(error):
            raise
        raise _unreadable(model) from error


def _unreadable(model: Model) -> ValueError:
    return ValueError(
        f"{model.name} ({type(model.hf).__name__}) does not give attention weights for every token in every layer: "
        "what its last token looks at cannot be measured"
    )


@torch.no_grad()
def _attend(
    model: Model, cache: DynamicCache, ids: Sequence[Sequence[int]], *, output_attentions: bool = False
) -> tuple[Tensor, ...]:
    """Attention weights [B, H, n, T] of each layer when asked for; the tokens [B, n] are added to the cache."""
    if not ids[0]:
        return ()
    tokens = torch.tensor(ids, device=model.device)
    # Eager attention gives weights and is slow: it reads only the tokens whose weights are wanted.
    cost = dict(passes=len(ids) * output_attentions, tokens=tokens.numel() * model.n_layers)
    with counted("reading", **cost), eager(model) if output_attentions else nullcontext():
        options = dict(use_cache=True, output_attentions=output_attentions)
        return getattr(model.hf.base_model(tokens, past_key_values=cache, **options), "attentions", None) or ()


def _read(model: Model, prefix: DynamicCache, rest: list[list[int]]) -> tuple[Tensor, Tensor]:
    cache = copy.deepcopy(prefix)
    if cache.get_seq_length():
        cache.batch_repeat_interleave(len(rest))
    _attend(model, cache, [tokens[:-1] for tokens in rest])
    found = _attend(model, cache, [tokens[-1:] for tokens in rest], output_attentions=True)
    width = cache.get_seq_length()
    layers = [layer for layer in cache.layers if isinstance(layer, CacheLayerMixin)]
    values = [layer.values for layer in layers if layer.values is not None]
    complete = len(found) == len(values) == model.n_layers
    if not complete or any(layer is None or layer.shape[-1] != width for layer in found):
        raise _unreadable(model)
    norms = [
        value.float().norm(dim=-1).repeat_interleave(layer.shape[1] // value.shape[1], 1)
        for value, layer in zip(values, found, strict=True)  # some families have other heads in other layers
    ]
    weights, lengths = (
        torch.stack([layer.to(model.device) for layer in of]).cpu()
        for of in ([layer[:, :, -1].float() for layer in found], norms)
    )
    return weights, lengths


def _read_elsewhere(model: Model, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The same by one request of whole prompts: there, attention keeps no weights but shows what it is called with."""
    paths = find_layout(model.hf, "module").paths["attn_out"]
    code = {inspect.getsource(type(resolve(model.hf, path)).forward) for path in paths}
    if not all(CALL in forward and SINK not in forward for forward in code):
        raise ValueError(f"{model.name} ({type(model.hf).__name__}) does not give attention weights where it runs")
    modules = [resolve(model.lm, path) for path in paths]
    with torch.no_grad(), model.lm.trace(input_ids=torch.tensor(ids), use_cache=False) as tracer:
        weights: list[Tensor] = []
        norms: list[Tensor] = []
        for attention in modules:
            (_, query, keys, values, mask), settings = attention.source.attention_interface_1.inputs
            weights.append(_weights(query[:, :, -1:], keys, mask, settings))
            norms.append(values.float().norm(dim=-1))
        found = nnsight.save((torch.stack(weights), torch.stack(norms)))
        tracer.stop()
    return found[0], found[1].repeat_interleave(found[0].shape[2] // found[1].shape[2], 2)


def _weights(query: Tensor, keys: Tensor, mask: Tensor | None, settings: Mapping[str, Any]) -> Tensor:
    """Attention weights [B, H, T] of the last token, from its query [B, H, 1, d] and the keys [B, H or fewer, T, d]."""
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    scores = query @ keys.transpose(2, 3) * settings["scaling"]
    cap = settings.get("softcap")
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    if mask is not None:
        seen = mask[:, :, -1:, : keys.shape[2]]
        scores = scores.masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else scores + seen
    return scores.float().softmax(-1)[:, :, 0]


def value_weighted(weights: Tensor, norms: Tensor) -> Tensor:
    """Each token's share of what attention takes up [L, B, T]: weight times value norm, summed over heads.

    Both are [L, B, H, T]; a head with long values counts for more. Shares of a text and layer sum to 1.
    """
    taken = (weights * norms).sum(2)
    return taken / taken.sum(-1, keepdim=True)


def segment_mass(shares: Tensor, segments: Tensor) -> Tensor:
    """The sum [L, B, 6] of `shares` [L, B, T] over the tokens of each segment; `segments` [B, T] index SEGMENTS."""
    member = torch.nn.functional.one_hot(segments, len(SEGMENTS)).to(shares.dtype)
    return torch.einsum("lbt,bts->lbs", shares, member)


def most_attended(weights: Tensor, segments: Tensor, n: int = 3) -> Tensor:
    """Positions [L, B, n] of the `n` tokens with the largest weight in any head, largest first, the first token aside.

    `weights` [L, B, H, T]. The first of them is the paper's released statistic, the largest weight over heads and
    tokens; n=3 is the described one, the three most attended tokens over all heads (E13).
    """
    best = weights.amax(2).masked_fill((segments == FIRST)[None], -1)
    return best.topk(n, dim=-1).indices


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """What was read of n texts: L layers, 6 segments.

    `tokens` of each; `mass`, `value_mass` [n, L, 6], shares of the weight averaged over heads; `top` [n, L, 3] the most
    attended tokens; `weights` of each text [L, T], averaged over heads.
    """

    tokens: list[Tokens]
    mass: np.ndarray
    value_mass: np.ndarray
    top: np.ndarray
    weights: list[np.ndarray]

    def part(self, rows: np.ndarray) -> Looks:
        """The same of some of the texts."""
        lists = {name: [getattr(self, name)[row] for row in rows] for name in ("tokens", "weights")}
        return Looks(**lists, mass=self.mass[rows], value_mass=self.value_mass[rows], top=self.top[rows])

    @property
    def top_segments(self) -> np.ndarray:
        """Segments [n, L, 3] of the most attended tokens."""
        return np.stack([tokens.segments[top] for tokens, top in zip(self.tokens, self.top, strict=True)])

    @property
    def token_share(self) -> np.ndarray:
        """Share of the tokens [n, 6] in each segment: the mass under uniform attention."""
        counts = [np.bincount(tokens.segments, minlength=len(SEGMENTS)) for tokens in self.tokens]
        return np.stack([count / count.sum() for count in counts])


def look(model: Model, prompt: Prompt, texts: Sequence[str], *, name: str = "attention") -> Looks:
    """What the last token looks at in the prompt with each of the texts; `name` labels the progress bar."""
    tokens = [tokenize(model.tokenizer, prompt, text) for text in texts]
    shape, kept = (len(texts), model.n_layers), [np.empty(0)] * len(texts)
    mass, value_mass = np.empty((*shape, len(SEGMENTS))), np.empty((*shape, len(SEGMENTS)))
    top = np.empty((*shape, 3), dtype=int)
    with tqdm(total=len(texts), desc=name, unit=" texts", mininterval=5) as bar:
        for rows, weights, norms in last_token_attention(model, [found.ids for found in tokens]):
            segments = torch.from_numpy(np.stack([tokens[row].segments for row in rows]))
            average = weights.mean(2)
            mass[rows] = segment_mass(average, segments).transpose(0, 1)
            value_mass[rows] = segment_mass(value_weighted(weights, norms), segments).transpose(0, 1)
            top[rows] = most_attended(weights, segments).transpose(0, 1)
            for row, found in zip(rows, average.transpose(0, 1), strict=True):
                kept[row] = found.numpy()
            bar.update(len(rows))
    return Looks(tokens=tokens, mass=mass, value_mass=value_mass, top=top, weights=kept)

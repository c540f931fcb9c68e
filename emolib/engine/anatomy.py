"""What one short pass shows of a model: what its layers return and keep, and which keys they see."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function

from emolib.engine.layouts import unwrap

LENGTH = 5  # tokens of the pass
FAR = 2**17  # tokens after which nobody looks for the end of a window
# (batch, head, query, key): whether a query at one position sees a key at another, as transformers' masks are made of.
Rule = Callable[[Any, Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Found by running the model.

    `rules` say which keys are seen, None where all before are, by kind of layer ("" where all are alike), `kinds` of
    which kind each layer is. `keys` are the shapes [heads, size] of keys and values in each layer of the cache,
    `devices` where these are. A layer returns `returned` things in a tuple, 0 for the stream alone. `obstacle` is what
    keeps the model from replay, if anything does.
    """

    rules: Mapping[str, Rule | None]
    kinds: tuple[str, ...]
    keys: tuple[tuple[torch.Size, torch.Size], ...]
    returned: int
    devices: tuple[torch.device, ...]
    obstacle: str

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Number of tokens each layer looks back, itself included; None where there is no end to it."""
        # How many tokens see the first one: with chunks, how many one sees depends on where it is.
        place = self.devices[0] if self.devices else None
        first = torch.zeros((), dtype=torch.long, device=place)
        at = first, first, torch.arange(FAR, device=place), first
        sizes = {kind: FAR if rule is None else int(rule(*at).sum()) for kind, rule in self.rules.items()}
        return tuple(None if sizes[kind] == FAR else sizes[kind] for kind in self.kinds)


@torch.no_grad()
def dissect(hf: Any, layers: Sequence[Any]) -> Anatomy:
    """The Anatomy of a transformers model in evaluation mode, whose blocks are `layers`.

    Raises ValueError for an encoder, and for a model whose stream is not one tensor [batch, token, d_model].
    """
    name, config = type(hf).__name__, hf.config.get_text_config(decoder=True)
    rules: dict[int, Rule] = {}
    seen: list[tuple[Rule | None, Any]] = []
    masks: list[Any] = []

    def look(_module: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen.append((next((rules[id(one)] for one in (*given, *named.values()) if id(one) in rules), None), output))

    def record(**settings: Any) -> Any:
        masks.append(make(**settings | dict(allow_is_causal_skip=False)))
        rules[id(masks[-1])] = settings["mask_function"]
        return masks[-1]

    # Two texts that differ in their last token: nothing before it may notice.
    tokens = torch.arange(1, LENGTH + 1, device=hf.device).repeat(2, 1)
    tokens[1, -1] += 1
    with ExitStack() as undo:
        make = ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation]
        ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation] = record
        undo.callback(ALL_MASK_ATTENTION_FUNCTIONS.__delitem__, config._attn_implementation)
        for layer in layers:
            undo.callback(layer.register_forward_hook(look, with_kwargs=True).remove)
        output = hf(tokens)
    shapes, expected = {tuple(unwrap(returned).shape) for _, returned in seen}, (2, LENGTH, config.hidden_size)
    if len(seen) != len(layers) or shapes != {expected}:
        raise ValueError(
            f"{name} has no residual stream that passes each layer once: {len(layers)} layers ran {len(seen)} times "
            f"and returned {', '.join(map(str, shapes))}, expected {expected}"
        )
    before = unwrap(seen[-1][1])[:, :-1].float()
    if (before[0] - before[1]).abs().max() > 1e-3 * before.abs().max():
        raise ValueError(f"{name} is an encoder: its tokens see those that follow them; emolib continues prompts")
    given, cache = [rule for rule, _ in seen], getattr(output, "past_key_values", None)
    kept: list[Any] = cache.layers if isinstance(cache, DynamicCache) else []
    obstacle = _obstacle(hf, kept, given)
    given = [None] * len(layers) if obstacle else given
    # Layers whose masks are of one kind share one.
    alike = len(set(map(id, given))) == 1
    kinds = (
        ("",) * len(layers) if alike else tuple(getattr(config, "layer_types", None) or map(str, range(len(layers))))
    )
    return Anatomy(
        rules={kind: None if rule is causal_mask_function else rule for kind, rule in zip(kinds, given, strict=True)},
        kinds=kinds,
        keys=() if obstacle else tuple((one.keys[0, :, 0].shape, one.values[0, :, 0].shape) for one in kept),
        returned=0 if isinstance(seen[0][1], Tensor) else len(seen[0][1]),
        devices=() if obstacle else tuple(one.keys.device for one in kept),
        obstacle=obstacle,
    )


def _obstacle(hf: Any, layers: Sequence[Any], rules: Sequence[Rule | None]) -> str:
    """Why the past of a text is not what the layers of its cache hold, or not seen by position; empty when it is."""
    other = {type(layer).__name__ for layer in layers if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer)}
    if not layers:
        return "it keeps no cache of keys and values"
    if other:
        return f"its state is more than keys and values ({', '.join(sorted(other))})"
    if len(layers) < len(rules) or not all(layer.is_initialized for layer in layers):
        return "some of its layers have no keys of their own"
    if "position_ids" not in inspect.signature(hf.forward).parameters:
        return "it takes no positions"
    try:
        for rule in set(rules) - {None}:
            rule(*torch.tensor([0, 0, FAR, FAR]))  # type: ignore[misc]
    except IndexError:  # a rule of a model that sees pictures looks up what each token of the pass was
        return "what its tokens see depends on more than positions"
    return ""

"""What a token sees: its position, padding, attention masks, and a key/value cache that many edits share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from emolib.engine.anatomy import Rule

NEVER = 2**30  # position of a padding key: after every query, so that none sees it
POSITIONS = ("max_position_embeddings", "max_seq_len", "max_target_positions")  # as configurations call their number
ROOM = 32  # columns one replay may hold: enough rows for a fast product, few enough for the masks to stay small


class SlotLayer(DynamicLayer):
    """Keys and values of one layer with free slots behind them: new ones are written there and forgotten again."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, *, room: int) -> None:
        super().__init__()
        self.length = keys.shape[2]
        self.keys, self.values = (
            torch.cat([old, old.new_zeros(*old.shape[:2], room, old.shape[3])], 2) for old in (keys, values)
        )
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values the new tokens may see, each [batch, heads, length + new, head_dim]."""
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Number of tokens that stay."""
        return self.length


def pad(ids: Sequence[Sequence[int]], *, start: int) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the left, and their positions from `start` on, NEVER where padded.

    What stands there no token sees: 0, which every model has, whatever its tokenizer pads with.
    """
    width = max(map(len, ids))
    tokens = [[0] * (width - len(row)) + list(row) for row in ids]
    places = [[NEVER] * (width - len(row)) + list(range(start, start + len(row))) for row in ids]
    return torch.tensor(tokens), torch.tensor(places)


def room_for(config: Any) -> int | None:
    """Number of tokens that a model with this configuration can read, exactly by replay too; None without an end.

    Some models count otherwise where a text is long: longrope has other frequencies, also for its beginning, which is
    in the cache by then, and Llama 4 scales attention by the column that a token has, not its position.
    """
    config = config.get_text_config(decoder=True)
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = [ropes, *(kind for kind in ropes.values() if isinstance(kind, Mapping))]
    scale = getattr(config, "attn_temperature_tuning", False) and getattr(config, "floor_scale", 0)
    sizes = [
        *(getattr(config, name, None) for name in POSITIONS),
        *(kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"),
        scale - ROOM if scale else None,
    ]
    return min((size for size in sizes if size and size > 0), default=None)


def check_prompts(hf: Any, ids: Sequence[Sequence[int]], names: Sequence[object], *, more: int = 0) -> None:
    """Nothing when a transformers model can read each prompt and `more` tokens behind it; else raises ValueError, which
    calls the first that it cannot read by its name."""
    room, rows = room_for(hf.config), hf.get_input_embeddings().weight.shape[0]
    long = [(name, len(one)) for name, one in zip(names, ids, strict=True) if room and len(one) + more > room]
    if long:
        name, length = long[0]
        raise ValueError(
            f"the prompt of {name} has {length} tokens, up to {more} are put behind it, and the model has room for "
            f"{room} ({len(long)} of {len(ids)} prompts are too long): shorten the text or leave it out, or choose a "
            "model that has the room"
        )
    for name, one in zip(names, ids, strict=True):
        if max(one, default=0) >= rows:
            raise ValueError(
                f"the prompt of {name} has token {max(one)}, and the model has {rows} embeddings: its tokenizer was "
                "given tokens that the model never saw; use the one that it came with"
            )


def attention_masks(
    positions: Tensor,
    start: Tensor,
    cached: Tensor,
    own: Tensor,
    chain: Tensor,
    *,
    rules: Mapping[str, Rule | None],
    dtype: torch.dtype,
) -> Tensor | dict[str, Tensor]:
    """Additive masks [B, 1, Q, K + Q]; by kind of layer where they differ.

    A query at `positions` [B, Q] sees the keys at `cached` [B, K] before the `start` [B, Q] of its chain, and the keys
    at `own` [B, Q] of its own `chain` [Q] up to itself; of these, what the `rules` of the model let it see.
    """
    keys, queries = torch.cat([cached, own], 1)[:, None, :], positions[:, :, None]
    same = (chain[:, None] == chain)[None] & (own[:, None, :] <= queries)
    seen = torch.cat([cached[:, None, :] < start[:, :, None], same], 2)
    zero = torch.zeros((), dtype=torch.long, device=keys.device)

    def additive(rule: Rule | None) -> Tensor:
        near = seen if rule is None else seen & rule(zero, zero, queries, keys)
        mask = torch.zeros(near.shape, dtype=dtype, device=near.device)
        return mask.masked_fill(~near, torch.finfo(dtype).min)[:, None]

    masks = {kind: additive(rule) for kind, rule in rules.items()}
    return masks.get("", masks)

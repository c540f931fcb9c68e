"""What a token sees: padding, attention masks, and a key/value cache that many edits share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from emolib.engine.anatomy import Rule

NEVER = 2**30  # position of a padding key: after every query, so that none sees it


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

"""What a token sees: padding, attention masks, attention itself, and a key/value cache that many edits share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NEVER = 2**30  # position of a padding key: after every query, so that none sees it


class SlotLayer(DynamicLayer):
    """Keys and values of one layer with free slots behind them: new ones are written there and forgotten again."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__()
        self.length = keys.shape[2]
        spare = keys.new_zeros(*keys.shape[:2], room, keys.shape[3])
        self.keys, self.values = torch.cat([keys, spare], 2), torch.cat([values, spare], 2)
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


def pad(ids: Sequence[Sequence[int]], *, start: int, token: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded with `token` on the left, and their positions from `start` on, NEVER where padded."""
    width = max(map(len, ids))
    tokens = [[token] * (width - len(row)) + list(row) for row in ids]
    places = [[NEVER] * (width - len(row)) + list(range(start, start + len(row))) for row in ids]
    return torch.tensor(tokens, device=device), torch.tensor(places, device=device)


def attention_masks(
    positions: Tensor,
    start: Tensor,
    cached: Tensor,
    own: Tensor,
    chain: Tensor,
    *,
    windows: Sequence[int | None],
    dtype: torch.dtype,
) -> Tensor | dict[str, Tensor]:
    """Additive masks [B, 1, Q, K + Q]; by kind of layer where only some layers have a sliding window.

    A query at `positions` [B, Q] sees the keys at `cached` [B, K] before the `start` [B, Q] of its chain, and the keys
    at `own` [B, Q] of its own `chain` [Q] up to itself. `windows` are the layers' sliding windows in tokens, or None.
    """
    keys = torch.cat([cached, own], 1)[:, None, :]
    same = (chain[:, None] == chain)[None] & (own[:, None, :] <= positions[:, :, None])
    seen = torch.cat([cached[:, None, :] < start[:, :, None], same], 2)

    def additive(window: int | None) -> Tensor:
        near = seen if window is None else seen & (positions[:, :, None] - keys < window)
        mask = torch.zeros(near.shape, dtype=dtype, device=near.device)
        return mask.masked_fill(~near, torch.finfo(dtype).min)[:, None]

    kinds = set(windows)
    if len(kinds) == 1:
        return additive(kinds.pop())
    return {"full_attention": additive(None), "sliding_attention": additive(max(window for window in kinds if window))}


def _grouped_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    # transformers copies every key/value head once per query head; on the CPU that costs more than the attention.
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=True,
        is_causal=attention_mask is None and query.shape[2] > 1,
    )
    return out.transpose(1, 2).contiguous(), None


ATTENTION = "sdpa_grouped"
ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _grouped_sdpa)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)

"""Which texts are run together: of similar length, so that little is padded, and no more than memory holds."""

from __future__ import annotations

from collections.abc import Mapping

from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS

WORK = 12  # tensors as wide as a layer at its widest that are alive at once, measured: gate, up, product, and copies


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

"""Files that long passes leave behind, one a batch, so that an interrupted pass goes on where it stopped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")


def keep(path: Path, compute: Callable[[], Mapping[str, Tensor]]) -> float:
    """The seconds that were spared because the shard at `path` was there; else 0, and it is computed and written.

    It is there whole or not at all, and two processes that compute the same one, on whichever machines, do not disturb
    each other.
    """
    if path.is_file():
        with safe_open(path, "pt") as shard:
            return float(shard.metadata()["seconds"])
    start = time.perf_counter()
    tensors = {name: value.contiguous().cpu() for name, value in compute().items()}
    seconds = time.perf_counter() - start
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    save_file(tensors, partial, metadata={"seconds": repr(seconds)})
    partial.rename(path)
    return 0.0


def load(path: Path, name: str, index: Any = slice(None)) -> Tensor:
    """One tensor of a shard, or the part of it that `index` selects, without reading the rest."""
    with safe_open(path, "pt") as shard:
        return shard.get_slice(name)[index]


def progress(items: Sequence[T], name: str, sizes: Sequence[int], *, unit: str = " texts") -> Iterator[T]:
    """The items, with a bar that counts their sizes and estimates the time left."""
    with tqdm(total=sum(sizes), desc=name, unit=unit, mininterval=5, smoothing=0.1) as bar:
        for item, size in zip(items, sizes, strict=True):
            yield item
            bar.update(size)

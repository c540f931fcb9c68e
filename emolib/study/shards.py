"""Files that long passes leave behind, one a batch, so that an interrupted pass goes on where it stopped.

A shard carries its name and a checksum of each of its parts, which are compared whenever a part is read: what is not
what was written there is computed again, never used.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8
from tqdm import tqdm

from emolib.engine.places import umask

T = TypeVar("T")
CHECKS, NAME = "crc32", "of"
LEFT = 86400.0  # seconds without a change after which nobody is writing a shard any more: it takes moments


class Damaged(Exception):
    """A shard that does not hold what was written."""


class Shard(NamedTuple):
    """The file of one batch, and what computes it."""

    path: Path
    compute: Callable[[], Mapping[str, Tensor]]

    def keep(self) -> float:
        """The seconds that were spared because the shard was there; else 0, and it is computed and written.

        It is there whole or not at all, and two processes that compute the same one, on whichever machines, do not
        disturb each other. Raises RuntimeError, and writes nothing, for values that are no numbers.
        """
        if self.path.is_file():
            try:
                return _metadata(self.path)[0]
            except Damaged as error:
                self.set_aside(error)
        start = time.perf_counter()
        tensors = {name: value.contiguous().cpu() for name, value in self.compute().items()}
        for name, value in tensors.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise RuntimeError(
                    f"the model gives {name} that are no numbers (nan or infinite): choose another dtype, such as "
                    "float32, or look at its weights with emolib doctor"
                )
        seconds = time.perf_counter() - start
        checks = {name: _checks(value) for name, value in tensors.items()}
        partial = self.path.with_suffix(f".{uuid.uuid4().hex}.partial")
        own = {"seconds": repr(seconds), CHECKS: json.dumps(checks), NAME: _name(self.path)}
        try:
            save_file(tensors, partial, metadata=own)
            partial.chmod(0o666 & ~umask())  # safetensors makes files that nobody else reads
            partial.rename(self.path)
        finally:
            partial.unlink(missing_ok=True)  # of a write that failed; else it is not there any more
        return 0.0

    def load(self, name: str, index: tuple[int, ...] = ()) -> Tensor:
        """One tensor of the shard, or the part of it at `index`, without reading the rest; computed anew if damaged."""
        try:
            return _load(self.path, name, index)
        except Damaged as error:
            self.set_aside(error)
            self.keep()
            return _load(self.path, name, index)

    def set_aside(self, error: Damaged) -> None:
        """The shard is not there any more, and stderr says why."""
        print(f"{self.path} {error}: it is computed anew", file=sys.stderr)
        self.path.unlink(missing_ok=True)


def sweep(cache: Path) -> None:
    """Nothing; shards in the folders of `cache` that killed processes had begun a day ago or longer are gone."""
    for partial in cache.glob("*/*.partial"):
        with suppress(OSError):  # another process may be quicker, or have the only right to remove it
            if time.time() - partial.stat().st_mtime > LEFT:
                partial.unlink()


def _metadata(path: Path) -> tuple[float, Any]:
    """Seconds that it took, and checksums."""
    try:
        with safe_open(path, "pt") as shard:
            found = shard.metadata() or {}
        own = float(found["seconds"]), json.loads(found[CHECKS])
    except KeyError as error:
        raise Damaged("has no checksums") from error
    except (SafetensorError, OSError, ValueError) as error:  # the last, of metadata that are no numbers, or no JSON
        raise Damaged(f"cannot be read ({error})") from error
    if found.get(NAME, _name(path)) != _name(path):  # earlier ones do not say
        raise Damaged(f"is {found[NAME]}")
    return own


def _name(path: Path) -> str:
    """What a shard is of: its folder is named by what was asked, and its file by the texts."""
    return f"{path.parent.name}/{path.name}"


def _load(path: Path, name: str, index: tuple[int, ...]) -> Tensor:
    _, expected = _metadata(path)
    try:
        expected = expected[name]
        for place in index:
            expected = expected[place]
        with safe_open(path, "pt") as shard:
            value = shard.get_slice(name)[index or slice(None)]
    except (SafetensorError, LookupError, TypeError) as error:
        raise Damaged(f"does not hold {name} ({error})") from error
    if _checks(value) != expected:
        raise Damaged(f"was changed ({name} is not what was written)")
    return value


def _checks(value: Tensor) -> Any:
    """A checksum of a tensor; of one of more dimensions than a batch of vectors, one each of its parts."""
    if value.ndim > 2:
        return [_checks(part) for part in value]
    return zlib.crc32(value.contiguous().view(uint8).numpy().data) if value.numel() else 0


def progress(items: Sequence[T], name: str, sizes: Sequence[int], *, unit: str = " texts") -> Iterator[T]:
    """The items, with a bar that counts their sizes and estimates the time left."""
    with tqdm(total=sum(sizes), desc=name, unit=unit, mininterval=5, smoothing=0.1) as bar:
        for item, size in zip(items, sizes, strict=True):
            yield item
            bar.update(size)

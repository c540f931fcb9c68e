"""Room on the disk: what each folder of a checkout is for and needs, and one sentence where that is not to be had."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import platformdirs

MB = 10**6
# What a folder is for, and the bytes that must be free in it before anything begins.
FOLDERS = {
    "results": ("the tables of a run", 20 * MB),
    "runs": ("executed notebooks", 50 * MB),
    "cache": ("what the model computes of each text", 50 * MB),
    ".snakemake": ("what the workflow remembers", 20 * MB),
    "_build": ("the rendered book", 200 * MB),
    "book": ("copies of your notebooks, as pages", 50 * MB),
}

# How systems and libraries say that it is the disk.
DISK = ("No space left on device", "os error 28", "Disk quota exceeded", "Read-only file system", "File too large")


def require_folders(root: Path, names: Iterable[str]) -> None:
    """Return None when these folders of a checkout can be written to and have room. Raises OSError otherwise."""
    for name in names:
        require_space(root, name, FOLDERS[name][1])


def require_home() -> None:
    """Return None when the user's cache folder can be written to. Raises OSError otherwise."""
    folder = Path(platformdirs.user_cache_dir())
    _try(folder, "what is downloaded, and Snakemake's own; set XDG_CACHE_HOME to a folder that can")


def require_space(root: Path, name: str, wanted: float) -> None:
    """Return None when a folder of a checkout can be written to and has room for so many bytes, those counted that it
    holds already. Raises OSError otherwise."""
    folder, (purpose, least) = root / name, FOLDERS[name]
    wanted = max(wanted, least)
    _try(folder, f"{purpose}, and needs about {size(wanted)}")
    free = shutil.disk_usage(folder).free
    if free < wanted and free + sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < wanted:
        raise OSError(f"{folder} has {size(free)} free and needs about {size(wanted)}: it holds {purpose}")


def hint(reason: str, root: Path) -> str:
    """Return what is free in each folder, as a sentence, when the reason of a failure is the disk; else nothing."""
    if not any(word in reason for word in DISK):
        return ""
    free = [f"{name} {size(shutil.disk_usage(root / name).free)}" for name in FOLDERS if (root / name).is_dir()]
    return f". Free on the disk now: {', '.join(free)}; what was computed is kept, make room and call it again"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / MB:.0f} MB"


def _try(folder: Path, purpose: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}): it is for {purpose}") from error

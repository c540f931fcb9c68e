"""Where the last token looks (paper §6, Fig 4; E13): attention by part of the prompt, its top tokens, its words."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

"""What carries the answer from one text to another (paper §6, C.2, C.3): activation patching."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

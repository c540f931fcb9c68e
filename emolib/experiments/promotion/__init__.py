"""Whether an emotion's own vector makes the model answer that emotion (paper appendix D; E11, E12; Fig 28)."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

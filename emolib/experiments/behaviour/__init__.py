"""What the model answers (paper §3, A.3; Figs 8-11, 24, 25), with human readers as the ceiling."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

"""Where the emotion can be read (paper §5, C.1, C.3; E2; Figs 2, 13, 18): probes per layer, component and token."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

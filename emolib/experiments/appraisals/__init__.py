"""Whether appraisals can be read, beyond what the emotion's name tells (paper §7, E; E6, E14; Figs 5, 29)."""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

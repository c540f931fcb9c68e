"""Do the directions of emotions and of appraisals lie as theory says, and where do emotions lie (paper §8)?"""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

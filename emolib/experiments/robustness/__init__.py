"""Does any of it depend on the prompt, the task, the mask, the split or the token (paper C.3-C.6)?"""

from importlib import import_module
from typing import Any

PROTOCOL = 1  # raise it when the numbers of this experiment may change
INPUTS = ("prompts.yml", "topics.yml")  # whose content decides numbers, beside texts and the run's prompt


def __getattr__(name: str) -> Any:
    return getattr(import_module(f"{__name__}.measure"), name)

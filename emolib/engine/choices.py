"""The words a model, a measurement or an answer is chosen by, and what a word that is none of them is told.

Loads no model library.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args

DType = Literal["float32", "bfloat16", "float16", "mixed"]
Tap = Literal["contribution", "module"]  # what is added to the residual stream, or what the sub-layer's module returns
Scoring = Literal["first_subtoken", "last_subtoken"]
Calibration = Literal["none", "batch"]


def nearest(given: object, known: Iterable[str]) -> str | None:
    """The known word that is spelt most like `given`, in whatever case; None when none is near."""
    words = {word.lower(): word for word in reversed(list(known))}
    near = difflib.get_close_matches(str(given).strip().lower(), words, n=1, cutoff=0.5)
    return words[near[0]] if near else None


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """What a message says behind the given word, such as " (did you mean 'joy'?)"; "" when no known word is near."""
    near = nearest(given, known)
    return f" (did you mean {near!r}?)" if near else ""


def check_choice(name: str, given: object, kind: Any) -> None:
    """Nothing when `given` is one of the words of the Literal `kind`; else raises ValueError with the nearest one."""
    choices = get_args(kind)
    if given not in choices:
        hint = did_you_mean(given, choices)
        raise ValueError(f"unknown {name} {given!r}{hint}: expected one of {', '.join(choices)}")

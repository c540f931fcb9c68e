"""What was done in this process, by kind: the account behind a table's cost, and behind estimates of other runs.

`loading` a model, `reading` texts, `replaying` edits of their last tokens, and `full` passes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Kind = Literal["loading", "reading", "replaying", "full"]
Work = dict[str, dict[str, float]]

_DONE: dict[str, list[float]] = {}


@contextmanager
def counted(kind: Kind, *, passes: int = 0, tokens: int = 0) -> Iterator[None]:
    """Counts what is done inside: `passes`, of a text or of a text under an edit, and `tokens` times layers."""
    start = time.perf_counter()
    yield
    done = _DONE.setdefault(kind, [0, 0, 0.0])
    done[:] = [done[0] + passes, done[1] + tokens, done[2] + time.perf_counter() - start]


def done(since: Work | None = None) -> Work:
    """By kind what was done in this process so far, or `since` an earlier account: passes, tokens times layers, and
    seconds."""
    found = {}
    for kind, numbers in _DONE.items():
        before = (since or {}).get(kind, {})
        now = dict(zip(("passes", "tokens", "seconds"), numbers, strict=True))
        found[kind] = {name: value - before.get(name, 0) for name, value in now.items()}
    return {kind: numbers for kind, numbers in found.items() if any(numbers.values())}

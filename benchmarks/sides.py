"""Processes that wait for work, and measurements that alternate between them.

A side is `python -m benchmarks.<module>`: it reads one request a line from its standard input, as JSON, and answers
with the value and the seconds it took inside that process. Only one side works at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Side:
    """One process. `side("task", **arguments)` returns the value; `side.seconds` is what the last task took there."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[1], **pipes)
        self.seconds = 0.0

    def __call__(self, task: str, **arguments: Any) -> Any:
        """The value of `task`. Raises RuntimeError when the process has died; its own words are on stderr."""
        with contextlib.suppress(BrokenPipeError):  # it died before: then there is no answer either
            self.process.stdin.write(json.dumps([task, arguments]) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{' '.join(self.process.args[2:])} died at task {task!r}: its error is above")
        self.seconds, value = json.loads(answer)
        return value

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def serve(tasks: Any) -> None:
    """Answer requests for the methods of `tasks` until standard input ends. Prints of libraries go to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        start = time.perf_counter()
        value = getattr(tasks, name)(**arguments)
        answers.write(json.dumps([time.perf_counter() - start, value]) + "\n")
        answers.flush()


def alternate(runs: int, sides: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """What each function returns in each of `runs` rounds; in every other round the order is reversed."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs):
        for name in list(sides)[:: 1 if run % 2 == 0 else -1]:
            found[name].append(sides[name](run))
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of the values, and the values."""
    return dict(median=statistics.median(values), min=min(values), max=max(values), runs=list(values))


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, Any]:
    """The spread of slow / fast over rounds: both of a round ran next to each other."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])

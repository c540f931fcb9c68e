"""make soak: random runs of a tiny workflow, disturbed at random, and what came of each, counted.

    python tests/soak --minutes 60 --seed 7          # an hour; the seed is printed and decides every trial
    python tests/soak --seed 7 --only study-12           # one trial of that seed again

Each trial disturbs runs of a small random model on made-up texts in one of the ways of `faults.py`, runs them again to
the end without, and compares every table with that of an undisturbed run, row by row. Fails when one was lost or is
another. `--write` keeps the counts in tests/soak/seen.json, from which book/faults.md is made.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from soak import faults, page  # noqa: E402
from soak.world import World  # noqa: E402


def main(arguments: list[str]) -> int:
    """0 when nothing was lost and nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", help="one trial, as it is printed")
    parser.add_argument("--write", action="store_true", help="keep the counts for the book")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="emolib-soak-") as folder:
        world = World(Path(folder))
        for trial in [given.only] if given.only else trials(60 * given.minutes):
            name, came = faults.trial(world, trial.partition("-")[0], Random(f"{given.seed}-{trial}"))
            counts[name] += Counter({"tried": 1, came.outcome: 1})
            if came.outcome != "survived":
                print(f"{trial} {came.outcome}: {name}: {came.why}", flush=True)
    rows = {name: dict(counts[name]) for name in faults.KINDS if name in counts}
    print(page.table(rows, page.SOAK, "kind of fault"))
    if given.write:
        seen = json.loads(page.SEEN.read_text()) if page.SEEN.is_file() else {}
        about = {"about": f"{given.minutes:g} minutes with seed {given.seed}", "soak": rows}
        page.SEEN.write_text(json.dumps(seen | about, indent=1) + "\n")
    return int(any(counts[name][what] for name in counts for what in ("lost", "wrong")))


def trials(seconds: float) -> Iterator[str]:
    """Names of trials for so long: as much time for runs of the workflow as for the much shorter ones of studies."""
    numbers, spent = Counter({"study": 0, "run": 0}), {"study": 0.0, "run": 0.0}
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        level = min(spent, key=spent.__getitem__)
        yield f"{level}-{numbers[level]}"
        numbers[level] += 1
        spent[level] += time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

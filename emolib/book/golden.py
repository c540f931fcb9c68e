"""The golden tables: the default run, committed, against which the build compares what it has measured.

They keep the promise that code may change and numbers may not, unless an experiment's PROTOCOL is raised
(`emolib.study.freshness`). What counts as the same is said in `emolib.tables.compare`. Imports no model library.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emolib.book.run import experiment, measuring, result_of, why_stale
from emolib.study.run import Run
from emolib.tables import results
from emolib.tables.compare import compare

FOLDER = Path("tests/golden")
UPDATE = "look at the differences, then call emolib golden --update and commit tests/golden"


def golden(
    root: Path, only: str | None = None, *, anew: bool = False, update: bool = False
) -> Iterator[tuple[str, bool]]:
    """Yield what the comparison found of each experiment, as text, and whether all is as it was.

    Compared are the stored tables of the default run, and what is not there is left out; with `anew` all are measured
    from the weights, whatever is stored, in minutes. `update` makes them the golden ones. Raises ValueError when
    there is nothing fresh to update from.
    """
    run = Run()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if anew else root
        if anew:
            from emolib.study.study import Study

            study = Study(run, folder=folder)
        for name in measuring(only, root):
            if anew:
                study.measure(experiment(name))
            stored = result_of(name, run.slug, folder)
            kept = root / FOLDER / stored.name
            text, well = _compared(run, name, kept, stored)
            yield text, well or update
            if update:
                if not stored.is_file() or why_stale(run, name, results.read(stored)):
                    raise ValueError(f"there is no fresh table of {name} to keep: emolib run --only {name}")
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(stored, kept)


def _compared(run: Run, notebook: str, kept: Path, stored: Path) -> tuple[str, bool]:
    name = kept.stem
    if not stored.is_file():
        return f"{name}: not measured here", True
    if not kept.is_file():
        return f"{name}: there is no golden table: call emolib golden --update and commit it", False
    old, new = results.read(kept), results.read(stored)
    if reason := why_stale(run, notebook, new):
        return f"{name}: not compared, the stored table is stale, {reason}: emolib run --only {notebook}", False
    if reason := why_stale(run, notebook, old):
        return f"{name}: the golden table is of before, {reason}: {UPDATE}", False
    found = compare(old, new)
    failures = list(found.failures())
    if failures:
        failures.append(
            f"The numbers of {name} changed and its PROTOCOL did not: mend the code; or, where they should change, "
            f"raise PROTOCOL in emolib/experiments/{name}/__init__.py, measure, {UPDATE}"
        )
    return "\n  ".join([str(found), *failures]), not failures

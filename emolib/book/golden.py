"""The golden tables: the default run, committed, against which the build compares what it has measured.

They keep the promise that code may change and numbers may not, unless an experiment's PROTOCOL is raised
(`emolib.study.freshness`). What counts as the same is said in `emolib.tables.compare`. Imports no model library.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from emolib.book.run import experiment, experiment_of, measures, notebook_names
from emolib.study import freshness
from emolib.study.run import Run
from emolib.tables import results
from emolib.tables.compare import compare

FOLDER = Path("tests/golden")
UPDATE = "look at the differences, then call emolib golden --update and commit tests/golden"


def golden(
    root: Path, only: list[str] | None = None, *, anew: bool = False, update: bool = False
) -> tuple[list[str], bool]:
    """Return what the comparison found, a line or more an experiment, and whether all is as it was.

    Compared are the stored tables of the default run, and what is not there is left out; with `anew` all are measured
    from the weights, whatever is stored, in minutes. `update` makes them the golden ones. Raises FileNotFoundError or
    ValueError when there is nothing fresh to update from.
    """
    names = [name for name in (notebook_names(root) if only is None else only) if measures(name, root)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if anew else root
        if anew:
            from emolib.study.study import Study

            study = Study(Run(), folder=folder)
            for name in names:
                study.measure(experiment(name))
        pairs = {name: (root / FOLDER / f"{experiment_of(name)}.parquet", _stored(name, folder)) for name in names}
        found = {name: _compared(name, *pair) for name, pair in pairs.items()}
        for name, (kept, stored) in pairs.items() if update else ():
            if not stored.is_file():
                raise FileNotFoundError(f"results/{Run().slug}/{stored.name} is missing: emolib run --only {name}")
            made = results.read(stored).attrs["provenance"]
            if reason := freshness.why_stale(made, freshness.key(Run(), experiment(name))):
                raise ValueError(f"the stored table of {name} is stale, {reason}: emolib run --only {name}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, kept)
    absent = [stored.stem for _, stored in pairs.values() if not stored.is_file() and not anew]
    lines = [line for some, _ in found.values() for line in some]
    lines += [f"not measured here: {', '.join(absent)}"] if absent else []
    return lines, update or all(well for _, well in found.values())


def _stored(notebook: str, folder: Path) -> Path:
    return freshness.table_path(Run(), experiment(notebook), folder)


def _compared(notebook: str, kept: Path, stored: Path) -> tuple[list[str], bool]:
    name = kept.stem
    if not stored.is_file():
        return [], True
    if not kept.is_file():
        return [f"{name}: there is no golden table: call emolib golden --update and commit it"], False
    old, new = results.read(kept), results.read(stored)
    now = freshness.key(Run(), experiment(notebook))
    if reason := freshness.why_stale(new.attrs["provenance"], now):
        return [f"{name}: not compared, the stored table is stale, {reason}: emolib run --only {notebook}"], False
    if reason := freshness.why_stale(old.attrs["provenance"], now):
        return [f"{name}: the golden table is of before, {reason}: {UPDATE}"], False
    found = compare(old, new)
    failures = list(found.failures())
    lines = [str(found), *(f"  {failure}" for failure in failures)]
    if failures:
        lines.append(
            f"  The numbers of {name} changed and its PROTOCOL did not: mend the code; or, where they should change, "
            f"raise PROTOCOL in emolib/experiments/{name}/__init__.py, measure, {UPDATE}"
        )
    return lines, not failures

"""What a table is made from, and whether a stored one still is: asked by studies, chapters, Snakemake and the doctor.

A table carries its `key`: the PROTOCOL of its experiment (a number that is raised when its numbers may change), that of
the engine, and what was read: texts, prompt, weights, data files. Code may be moved and cleaned as long as no number
changes; the golden tables (`emolib.book.golden`) are the guard. Loads no model library.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from emolib.engine import places
from emolib.engine.registry import revision
from emolib.study.run import REFERENCE, Run
from emolib.tables import results
from emolib.texts import sources
from emolib.texts.corpus import corpus_file

# Raised when the logits or activations that the engine and the clean pass compute may change: every table and every
# shard of the cache is then stale.
ENGINE_PROTOCOL = 1
MISSING = "it was not measured"
ELSEWHERE = ("device", "corpus_path")  # where a run was computed, which decides no number
REASONS = {
    "protocol": "the experiment measures something else",
    "engine_protocol": "the engine computes something else",
    "corpus_sha256": "the texts are others",
    "readings_sha256": "the readers' guesses are others",
    "prompt_text": "the prompt is another",
    "model_revision": "the weights are others",
    "inputs": "a data file says something else",
}


def key(run: Run, experiment: ModuleType) -> dict[str, Any]:
    """Everything that decides the numbers of an experiment in a run, beside the run's parameters; part of a provenance.

    `experiment` is a package of `emolib.experiments` with a PROTOCOL and, where it reads more than texts and the run's
    prompt, INPUTS, the names of files in `emolib/data`. Of these the content counts, not its layout or comments.
    An entry is None where this machine cannot tell: weights or texts that are not here.
    """
    readings = sources.registry().get(run.corpus, {}).get("readings", {})
    return {
        "run": {name: value for name, value in run.public.items() if name not in (*ELSEWHERE, *run.local)},
        "protocol": experiment.PROTOCOL,
        "engine_protocol": ENGINE_PROTOCOL,
        "corpus_sha256": corpus_sha256(run),
        "readings_sha256": readings.get("sha256"),
        "prompt_text": run.load_prompt().render(""),
        "model_revision": revision(run.model),
        # Not by getattr, which a package answers by importing what measures.
        "inputs": {name: digest(sources.packaged(name)) for name in vars(experiment).get("INPUTS", ())},
    }


def why_stale(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why a table with the provenance `stored` is not what `now`, a `key`, would give; None when it is.

    What this machine cannot tell is taken to be the same, so that a chapter is drawn where the weights are not.
    """
    made = stored.get("parameters", {})
    for name, value in now.get("run", {}).items():
        if made.get(name) != value:
            return f"it is of another run ({name} {made.get(name)!r}, not {value!r})"
    for name, value in now.items():
        if name != "run" and value is not None and stored.get(name) != value:
            numbers = f" ({name} {stored.get(name)}, now {value})" if "protocol" in name else ""
            return REASONS[name] + numbers
    return None


def corpus_sha256(run: Run) -> str | None:
    """The sha256 of the run's texts; None where a corpus that is downloaded is not on this machine."""
    entry = sources.registry().get(run.corpus, {})
    if "texts" in entry:
        named = run.corpus_path or os.environ.get(entry["environment"])
        if not (named or (sources.cache_folder() / entry["texts"]["file"]).is_file()):
            return None
    return corpus_file(places.place(run.corpus), run.corpus_path).sha256


def digest(content: object) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def table_path(run: Run, experiment: ModuleType, folder: str | Path = ".") -> Path:
    """Where an experiment's table of a run is stored below `folder`: results/<slug>/patching.parquet."""
    return Path(folder) / "results" / run.slug / f"{name_of(experiment)}.parquet"


def name_of(experiment: ModuleType) -> str:
    """The name of an experiment: "patching" of the package `emolib.experiments.patching`."""
    return experiment.__name__.rpartition(".")[2]


def opened(path: Path) -> tuple[pd.DataFrame | None, str | None]:
    """The table at `path`, or why there is none to be used: it is missing, damaged, or that of another experiment."""
    if not path.is_file():
        return None, MISSING
    try:
        found = results.read(path)
    except ValueError as error:
        return None, str(error)
    other = set(found["experiment"]) - {path.stem}
    return (None, f"it is the table of {other.pop()}") if other else (found, None)


def stored(path: Path, now: Mapping[str, Any], *, say: bool = False) -> pd.DataFrame | None:
    """The table at `path` when it is what `now`, a `key`, would give; None when it is stale (`say` why on stderr)."""
    found, reason = opened(path)
    if found is not None:
        reason = why_stale(found.attrs["provenance"], now)
    if say and reason not in (None, MISSING):
        print(f"{path.stem} is measured anew: {reason}", file=sys.stderr)
    return None if reason else found


def measured(run: Run, experiment: ModuleType, *, folder: str | Path = ".") -> pd.DataFrame:
    """The experiment's table of a run: the stored one where it is fresh, without a model; else measured now.

    Raises RuntimeError when the texts are not those that the command at work has begun with.
    """
    now = key(run, experiment)
    run.check_texts(now["corpus_sha256"])
    found = stored(table_path(run, experiment, folder), now)
    if found is None:
        from emolib.study.study import Study

        found = Study(run, folder=folder).measure(experiment)
    return found


def reference_table(run: Run, experiment: ModuleType, *, folder: str | Path = ".") -> pd.DataFrame | None:
    """The committed table of the reference run, to draw behind this run's; None when this is that run."""
    path = table_path(REFERENCE, experiment, folder)
    return results.readable(path) if run.slug != REFERENCE.slug and path.is_file() else None

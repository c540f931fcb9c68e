"""`python -m benchmarks`: measures everything, writes results/bench/*.json, ends with one line per figure."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

THREADS = "2"
os.environ.setdefault("OMP_NUM_THREADS", THREADS)  # before torch is imported, here and in every side
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from benchmarks import comparisons, growth  # noqa: E402
from benchmarks.comparisons import Size  # noqa: E402
from benchmarks.sides import Side  # noqa: E402
from benchmarks.workload import CORPUS, MODEL, PROMPT, corpus  # noqa: E402
from emolib.tables.provenance import collect_provenance  # noqa: E402

FIGURES = ("editing", "machine", "overhead", "reading", "probing", "growth")
REPLAY_ROWS = (64, 192, 768, 2048)  # what replay multiplies: 64 texts times 1, 3, 12 and 32 edits
ENCODE_ROWS = 1728  # 64 texts times their mean number of tokens behind the shared prefix


def measure(size: Size, figures: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and record of each figure asked for, as they get ready. `machine` needs, and therefore brings, `editing`."""
    runs = dict(runs=size.runs)
    with Side("ours", "float32") as ours:
        folder = ours("folder")
        with Side("plain", folder) as plain:
            if {"editing", "machine"} & set(figures):
                edited = editing(ours, plain, size)
                yield "editing", edited
            if "reading" in figures:
                sizes = dict(n_texts=size.read_texts, batches=size.read_batches)
                yield "reading", comparisons.reading(ours, plain, **runs, **sizes)
        if "machine" in figures:
            hardest, rows = edited["edits_360"], dict(rows=REPLAY_ROWS, tokens=ENCODE_ROWS)
            yield "machine", comparisons.machine(ours, hardest, **runs, **rows)
        if "overhead" in figures:
            with Side("hooked", folder) as hooked:
                yield "overhead", comparisons.overhead(ours, hooked, **runs, n_texts=size.overhead_texts)
        if "probing" in figures:
            yield "probing", probing(ours, size)
    if "growth" in figures:
        yield "growth", growth.measure()


def editing(ours: Side, plain: Side, size: Size) -> dict[str, Any]:
    """All four ablations on fewer texts, then zero ablation alone, and that in bfloat16."""
    many = comparisons.editing(ours, plain, runs=size.runs, n_texts=size.many_texts, n_kinds=4, passes=size.many_passes)
    few = comparisons.editing(ours, plain, runs=size.runs, n_texts=size.edit_texts, n_kinds=1, passes=size.edit_passes)
    with Side("ours", "bfloat16") as other:
        bfloat16 = comparisons.other_precision(ours, other, few)
    return dict(edits_90=few, edits_360=many, bfloat16=bfloat16)


def probing(ours: Side, size: Size) -> dict[str, Any]:
    """On as many rows as the embedded corpus has texts, and on about as many as crowd-enVENT has."""
    texts = dict(n_texts=size.probe_texts)
    few = comparisons.probing(ours, runs=size.runs, n_sites=size.probe_sites, names=(PROMPT,), keep=1, **texts)
    more = dict(n_sites=size.probe_many_sites, names=size.probe_prompts, keep=size.probe_tokens)
    return dict(few=few, many=comparisons.probing(ours, runs=2, **more, **texts))


def lines(records: Mapping[str, Any]) -> list[str]:
    """The summary, a line a figure, of the figures that were measured."""
    found = []
    if "editing" in records:
        found += [f"edits@{n} {records['editing'][f'edits_{n}']['ratio']['median']:.1f}x" for n in (90, 360)]
    if "reading" in records:
        found.append(f"reading {records['reading']['ratio']['median']:.1f}x")
    if "probing" in records:
        found.append(f"probing {records['probing']['many']['ratio']['median']:.1f}x")
    if "overhead" in records:
        found.append(f"nnsight_overhead {records['overhead']['percent']['median']:.1f}%")
    if "machine" in records:
        found.append(f"machine_rate {records['machine']['replay_percent']['median']:.1f}%")
    return found


def main(arguments: list[str]) -> int:
    """Exit status; writes a file per figure, with where it was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"some of {', '.join(FIGURES)}, comma-separated")
    parser.add_argument("--folder", type=Path, default=Path("results/bench"), help="where the JSON files go")
    chosen = parser.parse_args(arguments)
    figures = FIGURES if chosen.only is None else tuple(chosen.only.split(","))
    unknown = sorted(set(figures) - set(FIGURES))
    if unknown:
        parser.error(f"unknown figure {', '.join(unknown)}: choose from {', '.join(FIGURES)}")
    size, start = Size(), time.perf_counter()
    records: dict[str, Any] = {}
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name, record in measure(size, figures):
        seconds = time.perf_counter() - start
        print(f"{name}: done after {seconds:.0f} s", file=sys.stderr, flush=True)
        text = json.dumps(dict(figure=name, provenance=provenance(size, seconds)) | record, indent=1)
        partial = chosen.folder / f"{name}.json.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(chosen.folder / f"{name}.json")
        records[name] = record
    print("\n".join(lines(records)))
    return 0


def provenance(size: Size, seconds: float) -> dict[str, Any]:
    """Where and with what it was measured; `seconds` since the start, memory of the largest side that has ended."""
    about = collect_provenance(
        parameters=dict(model=MODEL, corpus=CORPUS, prompt=PROMPT, dtype="float32", seed=0, **asdict(size)),
        device="cpu",
        seconds=seconds,
        corpus_sha256=corpus(size.probe_texts).sha256,
        model_revision=None,
    )
    return about | dict(peak_memory_mb=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

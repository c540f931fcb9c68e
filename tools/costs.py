"""What every experiment takes, from the tables of the embedded model's runs: `python tools/costs.py`.

Writes emolib/book/costs.yml, what `emolib run --dry-run` scales. Measure the default run first, with nothing else at
work: `make clean`, `make run`. A profile whose tables do not say what was done keeps what is written of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from emolib.book import plan
from emolib.book.run import experiment_of, measuring, result_of, side_by_side
from emolib.study.run import LADDER, Run
from emolib.tables import results

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "emolib" / "book" / "costs.yml"
HEAD = "# By tools/costs.py, what every experiment took: passes, tokens times layers, seconds; bytes at the peak.\n"
KINDS = ("reading", "replaying", "full")


def profile(run: Run, known: dict[str, Any]) -> dict[str, object] | None:
    """What the tables of a run say; None where one of them does not say what was done.

    How many arrays of [texts, layers, width] an experiment holds follows from peaks of both profiles: as `known`.
    """
    found: dict[str, Any] = {}
    seconds, threads = [], 0
    for notebook in measuring(None, ROOT):
        table = results.read(result_of(notebook, run.slug, ROOT))
        about = table.attrs["provenance"]
        if "work" not in about:
            return None
        work = about["work"]
        done = {
            kind: [round(work.get(kind, {}).get(name, 0), 1) for name in ("passes", "tokens", "seconds")]
            for kind in KINDS
        }
        engine = sum(numbers[2] for numbers in done.values())
        seconds.append(about["seconds"])
        found[experiment_of(notebook)] = done | {
            "other": round(about["seconds"] - engine, 1),
            "memory": round(about["peak_memory_mb"] * 2**20),
            "arrays": known["experiments"][experiment_of(notebook)]["arrays"],
        }
        threads = min(threads or about["threads"], about["threads"])
    # What notebooks take beside: to start, to load the model for a chapter's open cell, and to draw.
    made = sorted(path.stat().st_mtime for path in (ROOT / "runs" / run.slug).glob("*.ipynb"))
    beside = side_by_side(run) * (made[-1] - made[0]) - sum(seconds[1:])
    shape, texts = plan.shape_of(run), plan.texts_of(run)
    rates = plan.calibrate(shape, run, texts, threads)
    return dict(
        texts=texts.number,
        agreed=round(plan.agreed_share(run, ROOT)[0] * texts.number),
        own=texts.own,
        layers=shape.layers,
        width=shape.width,
        bytes=shape.bytes,
        threads=threads,
        rates=dict(reading=rates.reading, replaying=rates.replaying),
        drawing=round(beside / (len(made) - 1), 1),
        experiments=found,
    )


if __name__ == "__main__":
    (full,) = [run for run in LADDER if run.model == Run().model]
    known = yaml.safe_load(TARGET.read_text(encoding="utf-8")) if TARGET.is_file() else {}
    known |= {run.profile: new for run in (Run(), full) if (new := profile(run, known[run.profile]))}
    TARGET.write_text(HEAD + yaml.safe_dump(known, sort_keys=False, default_flow_style=None), encoding="utf-8")

"""What was seen of faults, as tables and as a page of the book: `python tests/soak/page.py` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from emolib.book.staging import as_words  # noqa: E402
from emolib.tables.compare import EXACT, UNCONVERGED  # noqa: E402
from emolib.texts.corpus import load_corpus  # noqa: E402

PAGE = ROOT / "book" / "faults.md"
SEEN = Path(__file__).parent / "seen.json"
CASES = ROOT / "tests" / "texts"
LONGEST = 150  # letters of a message
SOAK = {"tried": "tried", "survived": "survived", "lost": "lost", "wrong": "wrong"}
GIVEN = {"tried": "tried", "worked": "worked", "refused": "refused"}

INTRODUCTION = """# Faults

For developers. A result is right and says where it comes from, or it is absent. This page says how that was tried,
and what came of it. `python tests/soak/page.py` writes it from `tests/soak/seen.json`, and a test holds it to that.

## Disturbed runs

`make soak` runs a small random model on {texts} made-up texts for an hour (`SOAK_MINUTES=10 make soak` for ten
minutes), and disturbs it at random moments. After each fault the same is run again to its end, undisturbed.
*Survived*: every table equals that of a run that was never disturbed, row by row; no file under a final name is
half-written; no process is left and no lock is held. *Lost*: something of this does not hold, and the run says so.
*Wrong*: a table has other values and nothing says so. A seed is printed with which each trial can be made again.

Below: {about}.

{soak}

## What is given

Generated inputs: each works exactly, as another way of computing says, or ends in one of our errors (`ValueError`,
`RuntimeError`, `OSError` with a sentence; exit status 1 or 2 of the command), and writes nothing. `make test` tries
few of each kind, `EMOLIB_EXAMPLES=2000` as many as here. Tables of texts in any dialect and encoding are tried in the
same way.

{properties}

## How exact a number is

The same run with other threads, batches or memory, on one kind of processor:

| what | moves by |
|---|---|
| labels, counts and shares of texts | nothing; where two answers nearly tie, one text, counted as a flip |
| what is continuous | at most {exact:g} of itself, or of 1 |
| the paper's own probe, which stops early | at most {value:g}, its intervals {interval:g} |
| the order of rows | nothing |

Hash seeds, and what was resumed, move nothing at all. `emolib.tables.compare` holds these numbers and the tests hold
to them. The tables of one run are checked against each other: one that counts other texts, or other answers right, is
named where it is shown. One command reads one file of texts: if it is edited meanwhile, the run stops and says so.

## Files of texts

Files that spreadsheets, R, pandas and careless hands write, and what loading each does.

"""


def table(rows: Mapping[str, Mapping[str, int]], columns: Mapping[str, str], head: str) -> str:
    """Rows with their counts, and the sum of them, as Markdown."""
    total = {key: sum(counts.get(key, 0) for counts in rows.values()) for key in columns}
    lines = [f"| {head} | {' | '.join(columns.values())} |", "|---" + "|---:" * len(columns) + "|"]
    for name, counts in {**rows, "all": total}.items():
        lines.append(f"| {name} | {' | '.join(str(counts.get(key, 0)) for key in columns)} |")
    return "\n".join(lines)


def case(file: str) -> str:
    """What loading a file of the cases does, in Markdown."""
    try:
        corpus = load_corpus(str(CASES / "cases" / file))
    except ValueError as error:
        said = " ".join(str(error).replace(str(CASES / "cases") + "/", "").split())
        return "refused: " + as_words(said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…")
    return f"read: {len(corpus.events)} texts ({as_words(str(corpus.reading))})"


def page(seen: Mapping[str, Any]) -> str:
    """The page."""
    text = INTRODUCTION.format(
        texts=150,
        about=seen["about"],
        soak=table(seen["soak"], SOAK, "kind of fault"),
        properties=table(seen["properties"], GIVEN, "what is given"),
        exact=EXACT.numbers[0],
        value=UNCONVERGED.numbers[0],
        interval=UNCONVERGED.numbers[1],
    )
    cases = yaml.safe_load((CASES / "cases.yml").read_text(encoding="utf-8"))
    rows = [f"| {as_words(one['kind'])} (`{one['file']}`) | {case(one['file'])} |\n" for one in cases]
    return text + "| file | what happens |\n|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(SEEN.read_text(encoding="utf-8"))), encoding="utf-8")

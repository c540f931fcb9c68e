"""The paper's 19 claims, and what a stored run, or the paper's own ten models, say about each.

`data/claims.yml` holds the claims in our words with the paper's values, the test and its thresholds; the tests are
functions, one a claim, in the modules of TEST_MODULES; `verdicts` explains how checks make an outcome. Loads no
model library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import yaml

from emolib.paper.claims import appraisals, causes, errors, readout, theory
from emolib.paper.claims.verdicts import TESTS, Outcome, Tables, Verdict, evaluate
from emolib.paper.tables import paper_tables
from emolib.tables import paper
from emolib.tables.results import KEYS, read

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
TEST_MODULES = (readout, causes, appraisals, theory, errors)  # imported for the tests they register
WORDS = {
    "reproduced": "reproduced",
    "partly": "partly reproduced",
    "not": "not reproduced",
    "not testable": "not testable",
}
ANSWERS = {"reproduced": "yes", "partly": "partly", "not": "no", "not testable": "untested"}  # where a column is narrow
SYMBOLS = {"reproduced": "●", "partly": "◐", "not": "○", "not testable": "–"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: `sentence` in our words, where the paper makes it, its values, how it is tested and how strictly.

    `tables` are the experiments whose results the test reads; `compare` names the metric that is set beside the
    paper's row by row when the same model is run, with `tolerance` the largest difference that counts as equal.
    """

    id: str
    sentence: str
    section: str
    figure: str
    values: str
    test: str
    tolerance: float
    compare: str
    tables: tuple[str, ...]
    chapter: str


@cache
def claims() -> dict[str, Claim]:
    """Return the claims by id, C1 to C19 in order.

    Raises ValueError when a claim in the data file has no test or a test no claim.
    """
    entries = yaml.safe_load(files("emolib").joinpath("data/claims.yml").read_text(encoding="utf-8"))
    found = {name: Claim(id=name, **{**entry, "tables": tuple(entry["tables"])}) for name, entry in entries.items()}
    if set(found) != set(TESTS):
        raise ValueError(f"claims without a test, or tests without a claim: {sorted(set(found) ^ set(TESTS))}")
    return found


def run_tables(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Return the stored tables of a run by experiment name, from its folder results/<slug>; empty without any."""
    return {path.stem: read(path) for path in sorted(Path(folder).glob("*.parquet"))}


def stored_runs(root: str | Path = ".") -> dict[str, dict[str, pd.DataFrame]]:
    """Return the tables of every stored run by slug, in order of their names."""
    folders = sorted(path for path in (Path(root) / "results").glob("*") if path.is_dir())
    found = {folder.name: run_tables(folder) for folder in folders}
    return {slug: tables for slug, tables in found.items() if tables}


def verdict(name: str, tables: Tables) -> Verdict:
    """Return the verdict on one claim.

    Raises ValueError for an id that is not a claim.
    """
    if name not in claims():
        raise ValueError(f"{name!r} is not a claim: they are {', '.join(claims())}")
    return evaluate(name, tables)


def verdicts(tables: Tables) -> pd.DataFrame:
    """Return one row a claim: claim, outcome, numbers (decisive, in words), n (the smallest behind them), figure."""
    rows = [verdict(name, tables) for name in claims()]
    table = pd.DataFrame([vars(row) for row in rows]).astype({"n": "Int64"})
    return table.assign(figure=[claims()[name].figure for name in table["claim"]])


def verdict_line(name: str, tables: Tables) -> str:
    """Return the verdict on a claim as a Markdown paragraph for the end of the chapter that carries it."""
    found, about = verdict(name, tables), claims()[name]
    outcome = WORDS[found.outcome]
    near = distance(name, tables)
    equal = f"{near['equal'].sum()} of {len(near)} within {about.tolerance:g}"
    beside = "" if near.empty else f" Beside the paper's own values of this model: {equal}."
    return f"**{name}, {outcome}.** {about.sentence} *Decided by:* {found.numbers}.{beside}"


def chapter_verdicts(chapter: str, tables: Tables) -> str:
    """Return the verdicts on the claims that a chapter carries, as Markdown for its end.

    Raises ValueError for a chapter that carries none.
    """
    own = [name for name, about in claims().items() if about.chapter == chapter]
    if not own:
        carriers = sorted({about.chapter for about in claims().values()})
        raise ValueError(f"{chapter!r} carries no claim: choose from {', '.join(carriers)}")
    return "\n\n".join(
        ["*By the tests of the chapter “What reproduces”:*", *(verdict_line(name, tables) for name in own)]
    )


def paper_verdicts(models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the verdicts on the paper's own values, one row a claim and model; all ten models when none is named."""
    names = list(models) or [model.name for model in paper.PAPER_MODELS]
    return pd.concat([verdicts(paper_tables(name)).assign(model=name) for name in names], ignore_index=True)


def grid(found: pd.DataFrame) -> pd.DataFrame:
    """Return verdicts as models x claims with one symbol a cell; `found` has columns claim, model, outcome."""
    table = found.assign(symbol=found["outcome"].map(SYMBOLS)).pivot(index="model", columns="claim", values="symbol")
    return table.loc[list(dict.fromkeys(found["model"])), list(claims())].rename_axis(index=None, columns=None)


def distance(name: str, tables: Tables) -> pd.DataFrame:
    """Return our values beside the paper's where model, site and condition are the same, for the claim's metric.

    Columns: the keys, ours, paper, difference, equal (within the claim's tolerance). Empty for a model that is not in
    the paper, or when nothing matches.
    """
    about = claims()[name]
    shared = [key for key in KEYS if key not in ("experiment", "model", "seed")]
    parts = []
    for experiment in about.tables:
        if experiment not in tables:
            continue
        ours = tables[experiment]
        known = [model.id for model in paper.PAPER_MODELS if (ours["model"] == model.id).any()]
        theirs = paper_tables(known[0]).get(experiment) if known else None
        if theirs is not None:
            chosen = [(table["metric"] == about.compare) & (table["model"] == known[0]) for table in (ours, theirs)]
            left, right = (t.loc[keep, [*shared, "value"]] for t, keep in zip((ours, theirs), chosen, strict=True))
            parts.append(left.merge(right, on=shared, suffixes=("_ours", "_paper")))
    found = pd.concat(parts) if parts else pd.DataFrame(columns=[*shared, "value_ours", "value_paper"])
    found = found.rename(columns={"value_ours": "ours", "value_paper": "paper"})
    found["difference"] = (found["ours"] - found["paper"]).astype(float)
    return found.assign(equal=np.abs(found["difference"]) <= about.tolerance)


def in_short(judged: Mapping[str, Tables]) -> pd.DataFrame:
    """Return one row a claim, its sentence and whether each of the named sets of tables reproduces it, in a word."""
    outcomes = {
        name: [f"{SYMBOLS[outcome]}\N{NO-BREAK SPACE}{ANSWERS[outcome]}" for outcome in verdicts(tables)["outcome"]]
        for name, tables in judged.items()
    }
    sentences = [f"{name} {about.sentence}" for name, about in claims().items()]
    return pd.DataFrame({"claim of the paper": sentences, **outcomes})


def summary(found: pd.DataFrame) -> str:
    """Return how many claims had which outcome, in words: "3 reproduced, 2 partly reproduced, …"."""
    counts = found["outcome"].value_counts()
    return ", ".join(f"{counts.get(name, 0)} {WORDS[name]}" for name in OUTCOMES)


def origins(runs: Mapping[str, Tables]) -> str:
    """Return a Markdown paragraph that names the stored tables a page is made of, with the code and time of each."""
    parts = []
    for slug, tables in runs.items():
        made = [(name, table.attrs.get("provenance", {})) for name, table in tables.items()]
        shown = [(name, (about.get("commit") or "no commit")[:10], about.get("utc", "")) for name, about in made]
        # a slug is one long word, which would be wider than a phone
        named = ", ".join(f"{name} ({commit}, {utc})" for name, commit, utc in shown)
        parts.append(f"*{slug.replace('_', ' ')}*: {named}")
    made_of = "; ".join(parts) if parts else "this run has none"
    return f"**Provenance.** Computed from stored tables: {made_of}."

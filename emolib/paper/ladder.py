"""Runs side by side: the committed models and the reader's own, how they are called, and what each has of a number.

Chapters show these beside one another, in figures, sentences and badges. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from emolib.engine.registry import TWIN, known_parameters, parse, registry, usual_dtype
from emolib.figures.display import spoken
from emolib.paper.claims import carried, checks, claims, in_short, run_tables, standing, twin_folders
from emolib.paper.claims.evidence import NUMBER, RELEASED, ROBUST, Evidence, NotTestable, Reading, Tables
from emolib.paper.tables import paper_tables
from emolib.study import freshness
from emolib.study.run import LADDER, REFERENCE, Run
from emolib.tables import paper
from emolib.tables.provenance import cost
from emolib.tables.results import Absent, readable


def run_name(tables: Tables, slug: str) -> str:
    """How figures name a run: its model, and what is not usual about it; never as a model of the paper."""
    usual = {name: str(value) for name, value in REFERENCE.parameters().items() if name not in ("model", "device")}
    stated = Evidence(tables).parameters("model", *usual)
    known = parse(stated.get("model", "")).base in registry()
    usual["dtype"] = usual_dtype(stated["model"]) if known else Run.dtype
    extra = [stated[name] for name in usual if stated.get(name, usual[name]) != usual[name]]
    name = paper.model_name(_titled(stated["model"]) if "model" in stated else slug)
    extra = extra or ["run here"] * (name in {model.name for model in paper.PAPER_MODELS})
    return f"{name} ({', '.join(extra)})" if extra else name


def _titled(model: str) -> str:
    """A registered model by its title, anything else as it is."""
    base, behind, seed = model.partition(TWIN)
    title = registry().get(base, {}).get("title", base).removesuffix(" Instruct")
    return f"{title}{behind}{seed}"


def with_ladder(*slugs: str, root: str | Path = ".") -> dict[str, Tables]:
    """The tables of the named runs and of the committed ones by slug, as far as there are any, the smallest first."""
    chosen = dict.fromkeys([*slugs, *(one.slug for one in LADDER)])
    stored = {slug: tables for slug in chosen if (tables := run_tables(Path(root) / "results" / slug))}
    order = sorted(stored, key=lambda slug: np.nan_to_num(size_of(stored[slug]), nan=np.inf))
    return {slug: stored[slug] for slug in order}


def beside(*slugs: str, root: str | Path = ".") -> dict[str, tuple[Tables, Reading]]:
    """The tables of `with_ladder` by name, to be read with all controls."""
    return {run_name(tables, slug): (tables, ROBUST) for slug, tables in with_ladder(*slugs, root=root).items()}


def model_by_model(
    run: Run, experiment: ModuleType, view: Callable[[pd.DataFrame], pd.DataFrame], root: str | Path = "."
) -> pd.DataFrame:
    """What `view` takes from an experiment's table of this run and of each committed run that has one, column `run`.

    The smallest model comes first; one of unknown size last. A run whose table lacks these rows, as one of a model that
    answers too few texts right, is left out; where all lack them, there are none. Raises ValueError when no run has a
    table.
    """
    parts, lacking = {}, None
    for name, _, table in _stored(run, experiment, root):
        lacking = table.iloc[:0].assign(run="")
        with suppress(Absent):
            parts[name] = view(table)
    if lacking is None:
        raise ValueError(f"no run has a table of {freshness.name_of(experiment)}: measure it first (emolib run)")
    if not parts:
        return lacking
    return pd.concat([rows.assign(run=name) for name, rows in parts.items()], ignore_index=True)


def untrained(
    run: Run, experiment: ModuleType, view: Callable[[pd.DataFrame], pd.DataFrame], root: str | Path = "."
) -> pd.DataFrame:
    """What `view` takes from the tables of untrained twins of the runs of `model_by_model`.

    Columns also run, as there, and twin, which of the run's twins this is, from 0. Without rows where no twin has them.
    """
    parts = [pd.DataFrame(columns=["run", "twin"])]
    for name, path, table in _stored(run, experiment, root):
        others = [folder / path.name for folder in twin_folders(path.parent)]
        with suppress(Absent):
            parts.append(view(table).iloc[:0])  # the columns, where no twin has rows
        for twin, other in enumerate(others):
            if other.is_file() and (one := readable(other)) is not None:
                with suppress(Absent):
                    parts.append(view(one).assign(run=name, twin=twin))
    return pd.concat(parts, ignore_index=True)


def _stored(run: Run, experiment: ModuleType, root: str | Path) -> Iterator[tuple[str, Path, pd.DataFrame]]:
    """The tables of an experiment of this run and of the committed ones, name, path and table, the smallest first."""
    shown = {one.slug: one for one in (*LADDER, run)}.values()
    for one in sorted(shown, key=lambda one: known_parameters(one.model) or np.inf):
        path = freshness.table_path(one, experiment, root)
        if path.is_file() and (table := readable(path)) is not None:
            yield run_name({path.stem: table}, one.slug), path, table


def behind(rows: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows once for each run of `model_by_model`: the same curve behind every panel."""
    return pd.concat([rows.assign(run=name) for name in shown["run"].unique()], ignore_index=True)


def listed(rows: pd.DataFrame, form: str = ".2f") -> str:
    """The number of each run of `model_by_model`, a row a run, in words: "**0.42 (0.34 to 0.51)** in A and ...in B"."""
    return in_words(rows["run"], in_cells(rows, form).values())


def in_untrained(rows: pd.DataFrame) -> str:
    """What `untrained` twins have, `shown` or else the number, as the end of a sentence, if there are any: "; with
    weights that were never trained, **3 of 12** in A"."""
    texts = rows["shown"] if "shown" in rows else [spoken(row) for _, row in rows.iterrows()]
    return f"; with weights that were never trained, {in_words(rows['run'], texts)}" if len(rows) else ""


def in_cells(rows: pd.DataFrame, form: str = ".2f") -> dict[str, str]:
    """The number of each run of `best_rows` or `model_by_model`, a row a run, by run, as `side_by_side` takes them."""
    return {row["run"]: spoken(row, form) for _, row in rows.iterrows()}


def best_rows(runs: Mapping[str, Tables], experiment: str, **keys: Any) -> pd.DataFrame:
    """Of each run that has rows of an experiment with these keys the one of the largest value, column `run` first."""
    rows = []
    for slug, tables in runs.items():
        with suppress(NotTestable):
            own = Evidence(tables).rows(experiment, **keys)
            rows.append({"run": run_name(tables, slug), **own.loc[own["value"].idxmax()]})
    return pd.DataFrame(rows, columns=None if rows else ["run", *NUMBER])


def checked(runs: Mapping[str, Tables], names: Sequence[str] = ()) -> pd.DataFrame:
    """The `claims.checks` of stored runs, columns also run (as figures name it) and parameters, the smallest first.

    `names` are the claims, by default all.
    """
    parts = []
    for slug, tables in runs.items():
        parts.append(checks(tables, names).assign(run=run_name(tables, slug), parameters=size_of(tables)))
    found = pd.concat(parts, ignore_index=True) if parts else checks({}).assign(run="", parameters=np.nan)
    return found.sort_values("parameters", kind="stable")


def of_paper() -> pd.DataFrame:
    """The same checks of the paper's own values of the model that it examined in detail, to stand behind `checked`."""
    return checks(paper_tables(paper.DETAILED.name)).assign(run=f"{paper.DETAILED.name} (paper)")


def measured(found: pd.DataFrame, claim: str, check: str, *, untrained: bool = False) -> dict[str, str]:
    """What each run has of a check of `checked`, by run: "0.42 (0.34 to 0.51)"; or what its `untrained` twins have.

    `check` is its words or how they begin; a run that lacks it has no entry.
    """
    own = checks_of(found, dict(claim=claim, check=check))
    column, there = ("untrained", own["untrained"] != "") if untrained else ("shown", own["outcome"] != "no number")
    return dict(own.loc[there, ["run", column]].drop_duplicates("run").to_numpy().tolist())


def quoted(found: pd.DataFrame, claim: str, check: str) -> str:
    """The `measured` numbers in words: "**0.42 (0.34 to 0.51)** in A and ... in B", or "(not measured)"."""
    own = measured(found, claim, check)
    return in_words(own, own.values())


def positive(found: pd.DataFrame, claim: str, check: str) -> str:
    """In how many runs a check's number has its whole interval above zero, in words: "**1 of 2** models"."""
    own = checks_of(found, dict(claim=claim, check=check)).drop_duplicates("run").dropna(subset="number")
    return share_of(own["ci_low"] > 0)


def how_many(found: pd.DataFrame, claim: str, check: str, outcome: str = "holds") -> str:
    """Of how many runs that have a check's number its outcome is this one, in words: "**1 of 2** models"."""
    own = checks_of(found, dict(claim=claim, check=check)).drop_duplicates("run")
    return share_of(own.loc[own["outcome"] != "no number", "outcome"] == outcome)


def share_of(hit: pd.Series) -> str:
    """How many of a row a run are true, in words: "**1 of 2** models"."""
    return f"**{hit.sum()} of {len(hit)}** models" if len(hit) else "(not measured)"


def side_by_side(rows: Mapping[str, Mapping[str, str]], runs: Iterable[str]) -> Styler:
    """What is measured, in words, and the number of each run as `measured` gives it, as a table for a page.

    A run that has none of them has no column.
    """
    table = pd.DataFrame(
        [  # an interval ends in the next line at most
            {"what is measured": words, **{run: text.replace(" to ", "\xa0to ") for run, text in numbers.items()}}
            for words, numbers in rows.items()
        ]
    )
    return as_page_table(table.reindex(columns=["what is measured", *runs]).dropna(axis=1, how="all").fillna("–"))


def checks_of(found: pd.DataFrame, about: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of `checked` that an entry of claims.yml names, by the words of a check or how they begin."""
    of_claim = found[found["claim"] == about["claim"]]
    own = of_claim[of_claim["check"] == about["check"]]
    return of_claim[of_claim["check"].str.startswith(about["check"])] if own.empty else own


def in_words(runs: Iterable[str], numbers: Iterable[str]) -> str:
    return _listing([f"**{number}** in {run}" for run, number in zip(runs, numbers, strict=True)]) or "(not measured)"


def _listing(each: Sequence[str]) -> str:
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)


def badges(run: Run, chapter: str) -> Styler:
    """The claims that a chapter carries and what this run and the committed ones say of each, as a table for a page."""
    return _judged(beside(run.slug), chapter)


def claims_in_short(*slugs: str, root: str | Path = ".") -> Styler:
    """All claims and what the named runs and the committed ones say of each, and the study's own values of one model,
    as released, as a table for a page."""
    theirs = {f"{paper.DETAILED.name} (paper)": (paper_tables(paper.DETAILED.name), RELEASED)}
    return _judged(beside(*slugs, root=root) | theirs)


def _judged(judged: Mapping[str, tuple[Tables, Reading]], chapter: str = "") -> Styler:
    """What `in_short` says, and of which models no untrained twin was asked what these claims rest on."""
    asked = {table for name in (carried(chapter) if chapter else claims()) for table in claims()[name].tables}
    own = {name: tables for name, (tables, _) in judged.items() if standing(tables) != "paper"}
    alone = [name for name, one in own.items() if not any(asked & {*twin} for twin in getattr(one, "twins", ()))]
    told = f"No untrained twin of {_listing(alone)} was asked: whether one shows the same is not known."
    table = as_page_table(in_short(judged, chapter))
    return table.set_caption(told) if alone else table


def as_page_table(table: pd.DataFrame) -> Styler:
    return table.style.hide().set_table_attributes('class="short"')


def took(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """What each experiment took in each run, in words: its dtype and events in the head of a column, a row each."""
    columns = {}
    for slug, tables in runs.items():
        found = Evidence(tables)
        texts = [int(table["n"].max()) for name, table in tables.items() if name == "behaviour"]
        about = ", ".join([found.parameters("dtype").get("dtype", ""), *(f"{n:,} events" for n in texts)])
        spent = {name: table.attrs["provenance"] for name, table in tables.items() if "provenance" in table.attrs}
        columns[f"{run_name(tables, slug)} ({about})"] = {name: cost(made) for name, made in spent.items()}
    return pd.DataFrame(columns).rename_axis("experiment").fillna("–").reset_index()


def size(model: str) -> float:
    """The parameters of a model, NaN if unknown."""
    size = known_parameters(model)
    return np.nan if size is None else float(size)


def size_of(tables: Tables) -> float:
    return size(Evidence(tables).parameters("model").get("model", ""))

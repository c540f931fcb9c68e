"""The paper's 19 claims, and what a stored run, or the paper's own ten models, say about each.

`data/claims.yml` holds the claims in our words with the paper's values, the levels of each test and its words; `tests`
has a function for each claim, `evidence` what these work with. A claim is tested where its gates are open: what it
rests on is above chance and, where its run is stored, above the untrained twin's. It has three readings, each with
its checks: as released, as described, and robust, with controls that the paper lacks. In one it is reproduced when all
its checks that have a number hold and the twin does not pass them as well, not reproduced when its core, the first of
them, fails, and partly reproduced in all other cases; where all hold but a control of the robust reading has no number,
that is not testable. Verdicts keep their checks as data; text is made here, at the end. Loads no model
library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from html import escape
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt

from emolib.engine.choices import check_choice
from emolib.engine.registry import known_parameters, registry
from emolib.paper.claims.evidence import (
    NUMBER,
    READINGS,
    RELEASED,
    ROBUST,
    Check,
    Evidence,
    NotMeasured,
    NotTestable,
    Reading,
    Tables,
    above,
    number,
)
from emolib.paper.claims.tests import CHANCE, GATES, TESTS
from emolib.paper.tables import paper_tables
from emolib.stats import landmarks
from emolib.study.run import LADDER, REFERENCE
from emolib.tables import paper, results, schemas
from emolib.texts.sources import packaged

Outcome = Literal["reproduced", "partly", "not", "not testable"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What an outcome is called, by whose it is: a claim is reproduced, or is not, in a model of the size of the paper's; in
# any other model, of which the paper claims nothing, something is seen; the paper's own values support what it says.
Standing = Literal["in range", "other", "paper"]
STEMS: Mapping[Standing, str] = {"in range": "reproduced", "other": "seen", "paper": "supported"}
SYMBOLS = {"reproduced": "●", "partly": "◐", "not": "○", "not testable": "–"}
UNMEASURED = ("not run", "not published")  # what is not testable is called where nobody has looked
TWIN = re.compile(r"-random-\d+")  # what a twin's folder has in its name
SMALLEST = min(entry["parameters"] for entry in registry().values() if "paper" in entry)  # of the paper's models
LANDMARKS = {name: getattr(landmarks, name) for name in ("SATURATION", "ONSET", "EDGE")}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: `sentence` in our words, where the paper makes it, its values, how it is tested and how strictly.

    `gates` are what it rests on, by name; `levels` are the thresholds, named, and `test` the words that show them.
    `tables` are the experiments whose results the test reads; `compare` names the metric that is set beside the paper's
    row by row when the same model is run, with `tolerance` the largest difference that counts as equal.
    """

    id: str
    sentence: str
    section: str
    figure: str
    values: str
    gates: tuple[str, ...]
    levels: Mapping[str, Any]
    test: str
    tolerance: float
    compare: str
    tables: tuple[str, ...]
    chapter: str


TWIN_PASSES = "its untrained twin passes the same test, so that passing says nothing of what was learnt"


class Unmeasured(str):
    """A reason why a claim is not testable that says nothing of the model: numbers are missing."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one claim in one reading for one set of tables, with its checks; `reason`: why not testable."""

    claim: str
    outcome: Outcome
    checks: tuple[Check, ...] = ()
    reason: str = ""

    @property
    def numbers(self) -> str:
        """The checks in words, or the reason why there are none."""
        return "; ".join(map(str, self.checks)) or self.reason

    @property
    def n(self) -> int | None:
        """The smallest number of texts or pairs behind a check."""
        return min((check.n for check in self.checks if check.n is not None), default=None)


def standing(tables: Tables) -> Standing:
    """Whose tables they are: the paper's, those of a model as large as one of the paper's at least, or any other's."""
    if tables and not any("provenance" in table.attrs for table in tables.values()):
        return "paper"
    stated = Evidence(tables).parameters("model")
    size = known_parameters(stated["model"]) if stated else None
    return "in range" if size is not None and size >= SMALLEST else "other"


def word(outcome: Outcome, whose: Standing) -> str:
    """What an outcome is called: "partly reproduced", "not seen", "supported"."""
    if outcome == "not testable":
        return outcome
    return f"{outcome} {STEMS[whose]}" if outcome in ("partly", "not") else STEMS[whose]


def called(verdict: Verdict, whose: Standing) -> str:
    """What a verdict is called: its outcome's `word`, or "not run" and "not published" where nobody has looked."""
    if isinstance(verdict.reason, Unmeasured) and (whose == "paper" or not verdict.checks):
        return UNMEASURED[whose == "paper"]
    return word(verdict.outcome, whose)


class RunTables(Mapping[str, pd.DataFrame]):
    """The tables of a run by experiment name, with those of the model's untrained twins on the same texts.

    One that is given by its file is read when it is first asked for: a chapter about one claim looks at few of them.
    Damaged ones are not there. What each claim's tests gave is kept, so nobody may change a table.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame | Path], twins: Iterable[Tables] = ()) -> None:
        self.twins = tuple(twins)
        self.tested: dict[str, dict[Reading, Verdict]] = {}
        self._tables: dict[str, pd.DataFrame | Path | None] = dict(tables)

    def __getitem__(self, name: str) -> pd.DataFrame:
        found = self._tables[name]
        if isinstance(found, Path):
            found = self._tables[name] = results.readable(found)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tables if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(True for _ in self)


def data() -> dict[str, Any]:
    """What data/claims.yml says: `gates`, in words, and `claims`."""
    return packaged("claims.yml")


@cache
def claims() -> dict[str, Claim]:
    """The claims by id, C1 to C19 in order. Raises ValueError when a claim has no test or a test no claim."""
    entries = data()["claims"]
    if set(entries) != set(TESTS):
        raise ValueError(f"claims without a test, or tests without a claim: {sorted(set(entries) ^ set(TESTS))}")
    for entry in entries.values():
        entry |= {name: tuple(entry[name]) for name in ("tables", "gates")}
        entry["test"] = entry["test"].format(**entry["levels"], **LANDMARKS)
        # Tables of HTML show it, which nothing typesets.
        entry["sentence"] = entry["sentence"].replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    return {name: Claim(id=name, **entry) for name, entry in entries.items()}


def judge(found: Sequence[str]) -> Outcome:
    """The outcome of a claim from those of its checks, the core first; checks without a number do not count.

    Raises ValueError when none is left.
    """
    if unknown := set(found) - {"holds", "open", "fails", "no number"}:
        raise ValueError(f"{', '.join(sorted(unknown))}: a check holds, is open, fails, or has no number")
    marks = [mark for mark in found if mark != "no number"]
    if not marks:
        raise ValueError("a claim needs at least one check: its core")
    if set(marks) == {"holds"}:
        return "reproduced"
    return "not" if marks[0] == "fails" else "partly"


def verdict(name: str, tables: Tables, reading: Reading = ROBUST) -> Verdict:
    """The verdict on one claim in one reading. Raises ValueError for an id that is not a claim, or for no reading."""
    check_choice("reading", reading, Reading)
    return readings_of(name, tables)[reading]


def readings_of(name: str, tables: Tables, shut: Mapping[str, str] | None = None) -> dict[Reading, Verdict]:
    """The verdicts on one claim in its readings; `shut` is what `closed` says of each gate, where it was asked already.

    Raises ValueError for an id that is not a claim.
    """
    if name not in claims():
        raise ValueError(f"{name!r} is not a claim: they are {', '.join(claims())}")
    twins = getattr(tables, "twins", ())
    gates = claims()[name].gates
    shut = {gate: closed(gate, tables, twins) for gate in gates} if shut is None else shut
    reason = next((shut[gate] for gate in gates if shut[gate]), "")
    if reason:
        return {reading: Verdict(claim=name, outcome="not testable", reason=reason) for reading in READINGS}
    found, *others = (tested(name, one) for one in (tables, *twins))
    for reading, own in found.items():
        if own.outcome == "reproduced" and any(other[reading].outcome == "reproduced" for other in others):
            found[reading] = replace(own, outcome="not testable", reason=TWIN_PASSES)
    return found


def tested(name: str, tables: Tables) -> dict[Reading, Verdict]:
    """The verdicts on one claim in its readings, whatever its gates and twins."""
    if not isinstance(tables, RunTables):
        return _tested(name, tables)
    if name not in tables.tested:
        tables.tested[name] = _tested(name, tables)
    return dict(tables.tested[name])


def _tested(name: str, tables: Tables) -> dict[Reading, Verdict]:
    try:
        found = TESTS[name](Evidence(tables), SimpleNamespace(**claims()[name].levels))
    except NotTestable as missing:
        return {reading: Verdict(claim=name, outcome="not testable", reason=_told(missing)) for reading in READINGS}
    return {reading: _read(name, reading, found) for reading in READINGS}


def _read(name: str, reading: Reading, found: Sequence[Check]) -> Verdict:
    """The verdict in one reading from the checks of all of them."""
    own = tuple(check for check in found if reading in check.readings)
    absent = [check for check in own if check.outcome == "no number"]
    controls = [check for check in absent if check.readings == (ROBUST,)]
    outcome = judge([check.outcome for check in own]) if len(absent) < len(own) else "not testable"
    if outcome == "not testable" or (outcome == "reproduced" and controls):
        kind = "controls" if controls else "checks"
        asked = sum(check.readings == (ROBUST,) for check in own) if controls else len(own)
        reason = Unmeasured(f"no number for {len(controls or absent)} of {asked} {kind}")
        return Verdict(claim=name, outcome="not testable", checks=own, reason=reason)
    return Verdict(claim=name, outcome=outcome, checks=own)


def _told(missing: NotTestable) -> str:
    return Unmeasured(missing) if isinstance(missing, NotMeasured) else str(missing)


def closed(gate: str, tables: Tables, twins: Sequence[Tables] = ()) -> str:
    """Why a claim that rests on the gate cannot be tested: no better than chance, or than a twin is at the same
    layer; empty if it is better."""
    row = _measured(gate, tables)
    if isinstance(row, str):
        return row
    others = [_measured(gate, twin, row.get("layer")) for twin in twins]
    what = f"{data()['gates'][gate]} no better than"
    if above("", row, CHANCE).outcome != "holds":
        return f"{what} chance: {_percent(row)}, chance {100 * CHANCE:.1f}%"
    for other in others:  # a twin that was not asked this closes nothing
        if not isinstance(other, str) and above("", row, other).outcome != "holds":
            return f"{what} its untrained twin: {_percent(row)}, twin {_percent(other)}"
    return ""


def _measured(gate: str, tables: Tables, layer: int | None = None) -> pd.Series | str:
    try:
        return GATES[gate](Evidence(tables), layer)
    except NotTestable as missing:
        return _told(missing)


def _percent(row: pd.Series) -> str:
    return f"{number(100 * row[[*NUMBER]].astype(float), 1)}%"


def verdicts(tables: Tables) -> pd.DataFrame:
    """One row a claim and reading: claim, reading, outcome, said (what it is called), numbers (its checks in words),
    reason (why it is not testable, if it is not), n (the smallest behind them), figure."""
    whose = standing(tables)
    shut = {gate: closed(gate, tables, getattr(tables, "twins", ())) for gate in GATES}
    rows = [
        dict(
            claim=name,
            reading=reading,
            outcome=one.outcome,
            said=called(one, whose),
            numbers=one.numbers,
            reason=one.reason,
            n=one.n,
            figure=about.figure,
        )
        for name, about in claims().items()
        for reading, one in readings_of(name, tables, shut).items()
    ]
    return pd.DataFrame(rows).astype({"n": "Int64"})


def checks(tables: Tables, names: Sequence[str] = ()) -> pd.DataFrame:
    """One row a check of the named claims, by default of all.

    Columns: claim, check, where, number, ci_low, ci_high (missing where nothing is stored), expectation, outcome
    (holds, open, fails, no number), n, readings (the readings of the claim that it decides), shown (the number with its
    interval, as text), untrained (the same of untrained twins, whatever their gates, divided by semicolons; empty where
    no twin has it), in_twin (whether the check holds in one: what does so is not learnt).
    """
    return _checks({name: readings_of(name, tables) for name in names or list(claims())}, tables)


def _checks(found: Mapping[str, Mapping[Reading, Verdict]], tables: Tables) -> pd.DataFrame:
    own = _table(found)
    twins = [_table({name: tested(name, twin) for name in found}) for twin in getattr(tables, "twins", ())]
    theirs = pd.concat([own.iloc[:0], *twins]).query("outcome != 'no number'")
    each = theirs.assign(in_twin=theirs["outcome"] == "holds").groupby(["claim", "check"])
    beside = each.agg(untrained=("shown", "; ".join), in_twin=("in_twin", "any"))
    return own.join(beside, on=["claim", "check"]).fillna({"untrained": "", "in_twin": False}).astype({"in_twin": bool})


def _table(found: Mapping[str, Mapping[Reading, Verdict]]) -> pd.DataFrame:
    rows = [dict(claim=name, **vars(one), shown=one.number) for name, each in found.items() for one in _together(each)]
    columns = ["claim", "what", "where", "value", "ci_low", "ci_high", "expected", "outcome", "n", "readings", "shown"]
    table = pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})
    return table.rename(columns=dict(what="check", value="number", expected="expectation"))


def _together(each: Mapping[Reading, Verdict]) -> list[Check]:
    """The checks of all readings, each once, in the order of each, the robust one first: cores come before the rest."""
    left, found = [list(one.checks) for one in reversed([*each.values()])], list[Check]()
    while left := [checks for checks in left if checks]:
        behind = [check for checks in left for check in checks[1:]]
        first = next(checks[0] for checks in left if not any(checks[0] is check for check in behind))
        found.append(first)
        left = [checks[checks[0] is first :] for checks in left]
    return found


def verdict_line(name: str, tables: Tables, found: Mapping[Reading, Verdict] | None = None) -> str:
    """The outcomes of a claim in its readings (`found`, where they are known) and its sentence, as Markdown."""
    found = found or readings_of(name, tables)
    said, more = _outcomes(found, standing(tables)), _why(name, tables, found)
    return f"**{name}, {said}.** {claims()[name].sentence}{more}"


def _outcomes(found: Mapping[Reading, Verdict], whose: Standing) -> str:
    """What the verdicts are called: once where all readings agree, else "as released: seen; robust: not seen"."""
    which: dict[str, list[str]] = {}
    for reading, one in found.items():
        which.setdefault(called(one, whose), []).append(reading)
    return "; ".join(f"{' and '.join(own)}: {said}" for said, own in which.items()) if len(which) > 1 else [*which][0]


def _why(name: str, tables: Tables, found: Mapping[Reading, Verdict]) -> str:
    """Why a claim is not testable, and how near the values are to the paper's, where they are not the paper's own."""
    whose = standing(tables)
    told = [one.reason for one in found.values() if one.reason]
    said = [reason for reason in told if whose != "paper" or not isinstance(reason, Unmeasured)]  # "not published"
    parts = [f" *Why:* {'; '.join(dict.fromkeys(said))}."] if said else []
    near = distance(name, tables) if whose != "paper" else pd.DataFrame()
    if len(near):
        equal = f"{near['equal'].sum()} of {len(near)} within {claims()[name].tolerance:g}"
        parts.append(f" Beside the paper's own values of this model: {equal}.")
    return "".join(parts)


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """Checks (the rows of `checks`) as readers see them: claim, check, decides, number, expected, outcome, which says
    where an untrained twin passes as well what the model does."""
    same = found["in_twin"] & (found["outcome"] == "holds")
    where = found["where"].map(lambda text: f" ({text})" if text else "")
    return pd.DataFrame(
        {
            "claim": found["claim"],
            "check": found["check"] + where,
            "decides": found["readings"].map(lambda own: "all readings" if own == READINGS else ", ".join(own)),
            "number (95% interval)": found["shown"],
            "expected": found["expectation"],
            "outcome": found["outcome"].mask(same, "holds, in its untrained twin as well"),
        }
    )


def verdict_table(name: str, tables: Tables) -> str:
    """The outcome of a claim, its sentence, and its checks as a table, in Markdown."""
    found = readings_of(name, tables)
    table = as_markdown(shown(_checks({name: found}, tables)).drop(columns="claim"))
    return "\n\n".join([verdict_line(name, tables, found), table]).strip()


def one_by_one(named: Mapping[str, Tables]) -> str:
    """Every claim with what each of the named sets of tables says of it; folded, how it is tested and the checks of
    each. Markdown with HTML."""
    parts = []
    for about in claims().values():
        each = {who: (tables, readings_of(about.id, tables)) for who, tables in named.items()}
        said = {who: _outcomes(found, standing(tables)) for who, (tables, found) in each.items()}
        head = f"**{about.id}** {about.sentence} " + " ".join(f"*{who}*: {words}." for who, words in said.items())
        body = [described(about.id)]
        for who, (tables, found) in each.items():
            body += [f"**{who}.**{_why(about.id, tables, found)}"]
            body += [as_markdown(shown(_checks({about.id: found}, tables)).drop(columns="claim"))]
        parts.append(folded(head, "\n\n".join(filter(None, body))))
    return "\n\n".join(parts)


def folded(head: str, body: str) -> str:
    """Markdown that opens under a line of Markdown, as Markdown with HTML."""
    summary = MarkdownIt("commonmark").renderInline(head)
    return f'<details class="emolib-more"><summary>{summary}</summary>\n\n{body}\n\n</details>'


def as_markdown(frame: pd.DataFrame) -> str:
    """A table of texts in Markdown; empty without rows."""
    rows = [list(frame), ["---"] * frame.shape[1], *frame.to_numpy().tolist()] if len(frame) else []
    return "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in row)} |" for row in rows)


def chapter_verdicts(chapter: str, tables: Tables) -> str:
    """The verdicts on the claims that a chapter carries, each with the checks that decide it, as Markdown.

    Raises ValueError for a chapter that carries none.
    """
    head = (
        "*By the tests of [What reproduces](11_claims.ipynb). A check decides each reading of its claim that it "
        "names; [How to read a chapter](../how_to_read.md) says what the readings are, and when a claim is called "
        "reproduced and when seen:*"
    )
    return "\n\n".join([head, *(verdict_table(name, tables) for name in carried(chapter))])


def verdicts_by(judged: Mapping[str, Tables]) -> pd.DataFrame:
    """The verdicts on several sets of tables, one row a claim and name, column `model`."""
    parts = [verdicts(tables).assign(model=name) for name, tables in judged.items()]
    return pd.concat(parts, ignore_index=True) if parts else verdicts({}).assign(model="").iloc[:0]


@cache
def paper_verdicts() -> pd.DataFrame:
    """The verdicts on the paper's own values, one row a claim and model."""
    return verdicts_by({model.name: paper_tables(model.name) for model in paper.PAPER_MODELS})


def unsupported(found: pd.DataFrame) -> str:
    """Of verdicts with a column `model` those that do not reproduce their claim as released, with what decides, folded
    by claim, as Markdown with HTML."""
    rows = found[found["outcome"].isin(["not", "partly"]) & (found["reading"] == RELEASED)]
    shown = rows[["model", "said", "numbers"]].rename(columns={"said": "outcome", "numbers": "decided by"})
    parts = {claim: shown.loc[part] for claim, part in rows.groupby("claim", sort=False).groups.items()}
    return "\n\n".join(
        folded(f"**{claim}**, {len(part)} of ten: {', '.join(part['model'])}", as_markdown(part))
        for claim, part in parts.items()
    )


def distance(name: str, tables: Tables) -> pd.DataFrame:
    """Our values beside the paper's where model and site are the same, for the claim's metric.

    Columns: the keys, ours, paper, difference, equal (within the claim's tolerance). Empty for a model that is not in
    the paper, or when nothing matches.
    """
    about, parts = claims()[name], []
    for experiment in set(about.tables) & set(tables):
        ours = tables[experiment]
        known = [model.id for model in paper.PAPER_MODELS if (ours["model"] == model.id).any()]
        theirs = paper_tables(known[0]).get(experiment) if known else None
        if theirs is not None:
            shared = [key for key in schemas.keys(experiment) if key not in ("experiment", "model", "seed")]
            chosen = [(table["metric"] == about.compare) & (table["model"] == known[0]) for table in (ours, theirs)]
            left, right = (t.loc[keep, [*shared, "value"]] for t, keep in zip((ours, theirs), chosen, strict=True))
            parts.append(left.merge(right, on=shared, suffixes=("_ours", "_paper")))
    found = pd.concat(parts) if parts else pd.DataFrame(columns=["value_ours", "value_paper"])
    found = found.rename(columns={"value_ours": "ours", "value_paper": "paper"})
    found["difference"] = (found["ours"] - found["paper"]).astype(float)
    return found.assign(equal=np.abs(found["difference"]) <= about.tolerance)


def grid(*parts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts as claims x models with one symbol a cell, none where nobody has looked.

    Columns of each part: claim, model, reading, outcome, said (of one at least). A model judged in several readings has
    a column for each ("llama, robust").
    """
    found = pd.concat(parts, ignore_index=True)
    several = found.groupby("model")["reading"].transform("nunique") > 1
    column = found["model"].where(~several, found["model"] + ", " + found["reading"])
    symbol = found["outcome"].map(SYMBOLS).mask(found["said"].isin(UNMEASURED), "")
    table = found.assign(symbol=symbol, column=column)
    table = table.pivot(index="claim", columns="column", values="symbol")
    return table.loc[list(claims()), [*column.drop_duplicates()]].rename_axis(index=None, columns=None)


def in_short(judged: Mapping[str, tuple[Tables, Reading]], chapter: str = "") -> pd.DataFrame:
    """One row a claim, of a chapter or of all, its sentence and what each of the named sets of tables says of it so
    read, in a word or two. Raises ValueError for a chapter that carries no claim."""
    names = carried(chapter) if chapter else list(claims())
    outcomes = {}
    for name, (tables, reading) in judged.items():
        whose = standing(tables)
        own = [readings_of(claim, tables)[reading] for claim in names]
        said = [(SYMBOLS[one.outcome], called(one, whose)) for one in own]
        outcomes[name] = [words if words in UNMEASURED else f"{symbol} {words}" for symbol, words in said]
    sentences = [f"{name} {claims()[name].sentence}" for name in names]
    return pd.DataFrame({"claim of the paper": sentences, **outcomes})


def carried(chapter: str) -> list[str]:
    """The claims that a chapter carries. Raises ValueError for one that carries none."""
    own = [name for name, about in claims().items() if about.chapter == chapter]
    if not own:
        carriers = sorted({about.chapter for about in claims().values()})
        raise ValueError(f"{chapter!r} carries no claim: choose from {', '.join(carriers)}")
    return own


def summary(tables: Tables) -> str:
    """How many claims had which outcome, a line of Markdown a reading: "- as released: 3 reproduced, 2 partly …"."""
    return "\n".join(f"- {reading}: {counted(tables, reading)}" for reading in READINGS)


def counted(tables: Tables, reading: Reading = ROBUST) -> str:
    """How many claims had which outcome in a reading, in words: "3 reproduced, 2 partly reproduced, ..."."""
    found, whose = verdicts(tables), standing(tables)
    counts = found.loc[found["reading"] == reading, "said"].value_counts()
    told = [word(name, whose) for name in OUTCOMES[:3]]
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in [*told, *counts.index.difference(told)])


def described(name: str) -> str:
    """The published values of a claim, what it rests on, its test and its tolerance, as Markdown."""
    about = claims()[name]
    return (
        f"*Published* (section {about.section}, {about.figure}): {about.values}.\n\n"
        f"*Gates:* {', '.join(about.gates) or 'none'}. *Test:* {about.test}. *Tolerance:* {about.tolerance:g}."
    )


def run_tables(folder: str | Path) -> RunTables:
    """The stored tables of a run by experiment name, from its folder results/<slug>; without those that are damaged.

    `twins` are the tables of its `twin_folders`. The same object each time, as long as no file changes.
    """
    folders = [Path(folder).resolve(), *twin_folders(Path(folder).resolve())]
    files = [sorted(one.glob("*.parquet")) for one in folders]
    return _run_tables(*(tuple((path, *results.content_of(path)) for path in own) for own in files))


@lru_cache(maxsize=64)
def _run_tables(*content: tuple[Any, ...]) -> RunTables:
    own, *twins = ({path.stem: path for path, *_ in files} for files in content)
    return RunTables(own, map(RunTables, twins))


def twin_folders(folder: str | Path) -> list[Path]:
    """The stored runs that differ from the one in this folder by the model's being an untrained twin alone."""
    beside = sorted(Path(folder).parent.glob("*-random-*"))
    return [other for other in beside if TWIN.sub("", other.name, 1) == Path(folder).name]


def stored_runs(root: str | Path = ".") -> dict[str, RunTables]:
    """The tables of every stored run by slug, in order of their names."""
    folders = sorted(path for path in (Path(root) / "results").glob("*") if path.is_dir())
    found = {folder.name: run_tables(folder) for folder in folders}
    return {slug: tables for slug, tables in found.items() if tables}


def shown_runs(slug: str, root: str | Path = ".") -> dict[str, RunTables]:
    """The stored runs that a chapter of the named run sets beside one another: it, the ladder, then all others.

    A chapter of the reference run is published, so what else was computed on one machine is not in it. An
    untrained twin is no model to be set beside others: it stands behind its own (`RunTables`), unless the run is one.
    """
    stored = stored_runs(root)
    others = [name for name in stored if not TWIN.search(name)] if slug != REFERENCE.slug else ()
    ladder = (run.slug for run in LADDER)
    return {name: stored[name] for name in dict.fromkeys([slug, *ladder, *others]) if name in stored}


def document(tables: Tables) -> dict[str, Any]:
    """What the owner of a run can send: its parameters, what it was computed with, and every check, ready for JSON.

    Keys: parameters (those that decide numbers), model_revision, corpus_sha256, packages, tables (name to protocol and
    digest of the rows), claims (id to outcomes, reason, and checks as in `checks`). No text of a corpus and no path.
    Raises ValueError without a table, and for tables of more than one model or corpus.
    """
    made = {name: dict(table.attrs["provenance"]) for name, table in tables.items()}
    kept = ("parameters", "model_revision", "corpus_sha256")
    for about in made.values():
        about["parameters"] = {k: v for k, v in about["parameters"].items() if k not in ("corpus_path", "device")}
    shared = {json.dumps({key: about.get(key) for key in kept}, sort_keys=True) for about in made.values()}
    if len(shared) != 1:
        raise ValueError(f"{len(shared)} different models, corpora or parameters in these tables, expected one run's")
    found = {}
    for name in claims():
        each, rows = readings_of(name, tables), checks(tables, [name]).drop(columns="claim")
        found[name] = {
            "outcomes": {reading: one.outcome for reading, one in each.items()},
            "reasons": {reading: one.reason for reading, one in each.items() if one.reason},
            "checks": json.loads(rows.to_json(orient="records")),
        }
    about = next(iter(made.values()))
    stored = {
        name: dict(protocol=about.get("protocol"), rows=results.digest(tables[name])) for name, about in made.items()
    }
    return json.loads(shared.pop()) | dict(packages=about["packages"], tables=stored, claims=found)


def contributed(root: str | Path = ".") -> pd.DataFrame:
    """The verdicts of the runs in results/contributed, files that `document` made: claim, reading, outcome, model.

    A verdict is what its checks give, whatever the file says. Raises ValueError for a file of another form.
    """
    rows = []
    for path in sorted((Path(root) / "results" / "contributed").glob("*.json")):
        try:
            sent = json.loads(path.read_text(encoding="utf-8"))
            model = paper.model_name(escape(sent["parameters"]["model"]))  # somebody else's file, for a page
            for name, reading in product(claims(), READINGS):
                told = sent["claims"][name]["checks"]
                own = [
                    Check(what=one["check"], outcome=one["outcome"], readings=tuple(one["readings"])) for one in told
                ]
                outcome = _read(name, reading, own).outcome
                counted = [one for one in told if reading in one["readings"] and one["outcome"] != "no number"]
                if outcome == "reproduced" and all(one.get("in_twin") for one in counted):
                    outcome = "not testable"  # its untrained twin passes as well
                rows.append(dict(claim=name, reading=reading, outcome=outcome, model=model))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name} is not what emolib verdicts writes ({error!r}): write it anew") from error
    return pd.DataFrame(rows, columns=["claim", "reading", "outcome", "model"])


def origins(runs: Mapping[str, Tables]) -> str:
    """The stored tables a page is made of, with the code and time of each, folded, as Markdown with HTML."""
    parts = []
    for slug, tables in runs.items():
        made = {name: table.attrs.get("provenance", {}) for name, table in tables.items()}
        rows = [[name, (one.get("commit") or "no commit")[:10], one.get("utc", "")] for name, one in made.items()]
        # a slug is one long word, which would be wider than a phone
        parts.append(as_markdown(pd.DataFrame(rows, columns=[slug.replace("_", " "), "commit", "time"])))
    head = "**Provenance.** The stored tables that this page is computed from"
    return folded(head, "\n\n".join(parts) or "This run has none.")

"""Errata of the study: every case in words, and two numbers for those that can change a conclusion.

The words, and which published values decide, are data (`data/errata.yml`); here are the cases that take more than a
look-up: in the paper's values, in a run's stored tables, in the corpus. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from emolib.paper.claims.evidence import Evidence, NotTestable, Tables, landmark
from emolib.paper.claims.tests import central, pushed, word
from emolib.paper.tables import paper_tables
from emolib.tables import paper
from emolib.tables.results import last_of_window
from emolib.texts.appraisals import PRINTED, Setting
from emolib.texts.corpus import Corpus, load_corpus
from emolib.texts.sources import packaged

NUMBERS = {"stated": "the paper", "corrected": "corrected"}
LLAMA = paper.DETAILED.id
ACTING_DEPTH = 9 / paper.DETAILED.layers  # where the paper pushes


@dataclass(frozen=True)
class Finding:
    """Two numbers: the paper's (`stated`, NaN where it gives none) and the corrected or contrasting one.

    `quantity` names what both are of and, after a colon or in its order, which is which.
    """

    id: str
    quantity: str
    stated: float
    corrected: float
    source: str


def cases() -> pd.DataFrame:
    """Return every case: id, grade (A, B, C), where, said (claimed or intended), case (what is so)."""
    rows = [(name, *entry) for name, entry in packaged("errata.yml")["cases"].items()]
    return pd.DataFrame(rows, columns=["id", "grade", "where", "said", "case"])


def table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table, in the order of the cases, with their grade."""
    rows = pd.DataFrame([vars(finding) for finding in findings])
    return cases()[["id", "grade"]].merge(rows, on="id")


def listed(findings: Iterable[Finding], grade: str) -> pd.DataFrame:
    """Return the cases of a grade as readers see them, with their findings: a row a finding, the words in the first.

    Columns: case (id, place, and what is said or intended there; in further rows the id), what is the case, compared,
    the paper, corrected, source; the last four are empty for a case without a finding.
    """
    rows = cases().query("grade == @grade").merge(table(findings).drop(columns="grade"), on="id", how="left")
    repeated = rows["id"].duplicated()
    names = rows["id"] + ", " + rows["where"] + rows["said"].map(lambda said: f": {said}" if said else "")
    numbers = {name: rows[name].map(_shown) for name in NUMBERS}
    return pd.DataFrame(
        {
            "case": names.mask(repeated, rows["id"]),
            "what is the case": rows["case"].mask(repeated, ""),
            "compared": rows["quantity"].fillna(""),
            **{head: numbers[name] for name, head in NUMBERS.items()},
            "source": rows["source"].fillna(""),
        }
    )


def _shown(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def from_paper() -> list[Finding]:
    """Return what the paper's own values decide: its sentences against its figures."""
    windows = paper.values("zero_ablation", model=LLAMA, component="resid_post", position="-1", prompt="T1-2shot")
    one = [vacuous(windows, "Figs 12, 14"), attention_dominates()]
    return [*map(looked_up, packaged("errata.yml")["numbers"]), *one, *copied(), *label_only()]


def looked_up(entry: Mapping[str, Any]) -> Finding:
    """Return the finding of an entry of `numbers` in `data/errata.yml`.

    Raises ValueError when a side has fewer or more values than it names.
    """
    stated, corrected = (_number(entry.get(side, np.nan), entry.get("both", {})) for side in ("stated", "corrected"))
    return Finding(entry["id"], entry["quantity"], stated, corrected, entry["source"])


def _number(side: float | Mapping[str, Any], both: Mapping[str, Any]) -> float:
    if not isinstance(side, Mapping):
        return float(side)
    keys = {**both, **side}
    if "layer" in keys:
        keys["layer"] -= 1  # the data count layers from 1, as the paper does
    found = paper.values(**keys)
    named = np.prod([len(value) for value in keys.values() if isinstance(value, list)], dtype=int)
    if len(found) != named:
        raise ValueError(f"{len(found)} published values match {keys}: expected {named}, so name another key")
    return float(found["value"].sum())


def vacuous(agreement: pd.DataFrame, source: str) -> Finding:
    """Return M1: windows of ablations of the residual stream, at spans of one and three, against their last layer."""
    text = "largest difference in agreement, window of three at c against layer c + 1 alone"
    return Finding("M1", text, np.nan, float(last_of_window(agreement)["apart"].max()), source)


def attention_dominates() -> Finding:
    """Return P24: in how many of ten models the lowest agreement without attention is below that without feed-forward.

    That is the core of claim C7, there beyond the intervals of both.
    """
    keys = dict(metric="agreement", method="zero", span=3, position="-1")
    runs = [Evidence(paper_tables(model.id)) for model in paper.PAPER_MODELS]
    a, m = (
        np.array([landmark("dip", run.curve("ablation", component=name, **keys))["value"] for run in runs])
        for name in ("attn_out", "mlp_out")
    )
    return Finding(
        "P24", "models of ten where removing attention hurts more: said, and counted", 10, int((a < m).sum()), "Fig 12"
    )


def copied() -> list[Finding]:
    """Return M13: the first-word task's commonest answer, and what a probe of the first layer has of it."""
    words = paper.values("control_first_word", metric="behaviour:confusion_count")
    right = words[words["label"] == words["answer"]]["value"]
    probe = paper.values("control_first_word", metric="emotion_probe:accuracy", component="resid_post", layer=0)
    common, total = right.max() / right.sum(), words.groupby("label")["value"].sum()
    text = "commonest first word among all texts of the task"
    return [
        Finding("M13", text, np.nan, total.max() / total.sum(), "stored outputs"),
        Finding(
            "M13",
            "probe of the first word at layer 1, and always the commonest of the texts answered right",
            probe["value"].item(),
            common,
            "Fig 22, stored outputs",
        ),
    ]


def label_only() -> list[Finding]:
    """Return M14: the best probe of six appraisals, and the label alone, both with the labels of the agreed set."""
    best = paper.values("appraisal_probe", model=LLAMA).groupby("appraisal")["value"].max()
    alone = paper.values("label_baseline", weights="llama_1b_agreed").set_index("appraisal")["value"]
    text = "R2 of {}: best probe, and the label alone, counts of the agreed set"
    return [Finding("M14", text.format(word(name)), best[name], alone[name], "Fig 29, ratings") for name in best.index]


def from_run(tables: Tables) -> list[Finding]:
    """Return what a run's stored tables show of the study's method, as far as they are there."""
    found: list[Finding] = []
    for rule in (unprojected, window_of_run, unequal_pushes, overfitted):
        with suppress(NotTestable):
            found += rule(Evidence(tables))
    return found


def unprojected(run: Evidence) -> list[Finding]:
    """Return D1: how much of the injected vectors lies along appraisals that are said to be held fixed."""
    kept = run.rows("modulation", metric="kept_share", vector=["fix3", "fixall"]).groupby("vector")["value"].mean()
    text = "squared length along {} appraisals held fixed, mean of all pushes: vector computed, and injected"
    held = {"fix3": "the two other pushed", "fixall": "all other"}
    return [Finding("D1", text.format(held[name]), 0.0, 1 - share, "this run") for name, share in kept.items()]


def window_of_run(run: Evidence) -> list[Finding]:
    """Return M1 of a run's own ablations."""
    keys = dict(metric="agreement", method="zero", component="resid_post", position="-1")
    return [vacuous(run.rows("ablation", **keys), "this run")]


def unequal_pushes(run: Evidence) -> list[Finding]:
    """Return M6: the length that unit pushes of a window add up to, drawn anew per layer (the control), and fitted."""
    rows = run.rows("modulation", metric="accumulated_norm", vector=["random_per_layer", "raw"], span=3)
    length = rows.groupby("vector")["value"].mean()
    text = "accumulated length of three unit pushes: random control, and fitted vectors"
    return [Finding("M6", text, length["random_per_layer"], length["raw"], "this run")]


def overfitted(run: Evidence) -> list[Finding]:
    """Return M18: R2 of the directions that are pushed, on unseen writers, as released and with a chosen penalty.

    Of a table without these, R2 of the probes of the same ratings.
    """
    names = sorted({name for setting in PRINTED for name in setting})
    if run.has("modulation", metric="direction_r2"):
        ups = [Setting(**{name: 1}) for name in names]
        fits = [central(pushed(run, ups, "direction_r2", one), ACTING_DEPTH) for one in ("raw", "tuned")]
        r2 = np.transpose([rows.set_index("setting").loc[map(str, ups), "value"] for rows in fits])
    else:
        keys = dict(metric="r2", target="writer", component="resid_post", position="-1", appraisal=names)
        kinds = dict(as_released="agreed", ours="all")
        fits = [run.rows("appraisals", setting=name, set=texts, **keys) for name, texts in kinds.items()]
        r2 = np.transpose([central(rows, ACTING_DEPTH).set_index("appraisal").loc[names, "value"] for rows in fits])
    text = (
        "R2 of {} on unseen texts where the paper pushes: fitted as released, and with a chosen penalty on more events"
    )
    return [
        Finding("M18", text.format(word(name)), float(released), float(chosen), "this run")
        for name, (released, chosen) in zip(names, r2, strict=True)
    ]


def from_corpus(path: str | None = None) -> list[Finding]:
    """Return what crowd-enVENT decides; raises what `emolib.texts.corpus.load_corpus` raises."""
    masked, original = (load_corpus("crowd-envent", path=path, text=text) for text in ("masked", "original"))
    return masking(masked, original)


def masking(masked: Corpus, original: Corpus) -> list[Finding]:
    """Return P33: how many events masking changes, in all, and its share in the least and the most masked label."""
    changed = masked.events["text"] != original.events["text"]
    share = changed.groupby(masked.events["emotion"]).mean().sort_values()
    rows = [Finding("P33", "events with a masked word", np.nan, float(changed.sum()), "corpus")]
    for name in (share.index[0], share.index[-1]):
        rows.append(Finding("P33", f"share of masked events of {name}", np.nan, share[name], "corpus"))
    return rows

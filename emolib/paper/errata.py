"""Errata of the study: every case in words, and two numbers for those that can change a conclusion.

The words, and which published values decide, are data (`data/errata.yml`); here are the cases that take more than a
look-up. Those on weights are in `errata_demos`. Loads no model library.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

from emolib.tables import paper
from emolib.tables.results import last_of_window
from emolib.texts.corpus import Corpus, load_corpus

LLAMA = paper.DETAILED.id


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


@cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(files("emolib").joinpath("data/errata.yml").read_text(encoding="utf-8"))


def cases() -> pd.DataFrame:
    """Return every case: id, grade (A, B, C), where, said (claimed or intended), case (what is so)."""
    rows = [(name, *entry) for name, entry in _data()["cases"].items()]
    return pd.DataFrame(rows, columns=["id", "grade", "where", "said", "case"])


def table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table, in the order of the cases.

    Raises ValueError for a finding about no case.
    """
    frame = pd.DataFrame([vars(finding) for finding in findings])
    order = {name: index for index, name in enumerate(_data()["cases"])}
    unknown = sorted(set(frame["id"]) - set(order))
    if unknown:
        raise ValueError(f"findings about unknown cases {unknown}: add them to data/errata.yml")
    return frame.sort_values("id", key=lambda ids: ids.map(order), kind="stable").reset_index(drop=True)


def established(computed: Collection[str]) -> pd.Series:
    """Return by case how it is known here: "computed", "see D1" where the case it refers to is, else "read"."""
    found = {}
    for name, text in cases().set_index("id")["case"].items():
        targets = re.findall(r"[PDXM]\d+", "".join(re.findall(r"\bsee ((?:[PDXM]\d+(?: and )?)+)", text)))
        known = [target for target in targets if target in computed]
        found[name] = "computed" if name in computed else f"see {' and '.join(known)}" if known else "read"
    return pd.Series(found, name="established")


def from_paper() -> list[Finding]:
    """Return what the paper's own values decide: its sentences against its figures."""
    return [*map(looked_up, _data()["numbers"]), vacuous_paper(), attention_dominates(), *copied(), *label_only()]


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


def vacuous_paper() -> Finding:
    """Return M1: windows of the paper's own ablation of the residual stream, against their last layer."""
    keys = dict(model=LLAMA, component="resid_post", position="-1", prompt="T1-2shot")
    gap = float(last_of_window(paper.values("zero_ablation", **keys))["apart"].max())
    text = "largest difference in agreement, window of three at c against layer c + 1 alone"
    return Finding("M1", text, np.nan, gap, "Figs 12, 14")


def attention_dominates() -> Finding:
    """Return P24: in how many of ten models the lowest agreement without attention is below that without feed-forward.

    Span 3, without the first and last three centres.
    """
    wins = 0
    for model in paper.PAPER_MODELS:
        rows = paper.values("zero_ablation", model=model.id, prompt="T1-2shot", position="-1", span=3)
        lowest = {
            name: rows[rows["component"] == name].sort_values("layer")["value"].iloc[3:-3].min()
            for name in ("attn_out", "mlp_out")
        }
        wins += int(lowest["attn_out"] < lowest["mlp_out"])
    return Finding("P24", "models of ten where removing attention hurts more: said, and counted", 10, wins, "Fig 12")


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
    return [Finding("M14", text.format(name), best[name], alone[name], "Fig 29, ratings") for name in best.index]


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

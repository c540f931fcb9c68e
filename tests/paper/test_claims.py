"""Verdicts on planted runs, where each claim is made true, then false, then untestable; and on the paper's values."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emolib.paper import claims
from emolib.paper.claims import evidence
from emolib.paper.claims.evidence import above, all_hold, at_least, at_most, below, in_place, inside, positive
from emolib.paper.claims.tests import MISSED
from emolib.paper.tables import paper_tables
from emolib.study.run import REFERENCE
from emolib.tables import paper, results
from helpers import ROOT
from planted import LAYERS, MAKERS, bump, rising

SINGLE_COLUMNS = ["pleasantness", "other_responsblt", "predict_event"]
NAMES = [f"C{number}" for number in range(1, 20)]


@pytest.fixture
def tables(planted: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Copies that a test may spoil."""
    return {name: table.copy() for name, table in planted.items()}


def change(tables: dict[str, pd.DataFrame], experiment: str, new: Any, **keys: Any) -> None:
    """Overwrite `value` where the columns have the given values, by a number or a function."""
    table = tables[experiment]
    hit = np.ones(len(table), dtype=bool)
    for name, value in keys.items():
        hit &= (table[name] == value).fillna(False).to_numpy(bool)
    assert hit.any(), keys
    value = new(table.loc[hit]) if callable(new) else new
    table.loc[hit, "value"] = value
    table.loc[hit, ["ci_low", "ci_high"]] = np.nan


def by_layer(values: np.ndarray) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda rows: values[rows["layer"].to_numpy(int)]


# What makes each claim false: experiment, new values, rows.
FALSIFY: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "C1": ("behaviour", 0.2, dict(metric="accuracy")),
    "C2": ("probing", by_layer(rising(17)), dict(component="resid_post", position="-1", metric="accuracy")),
    "C3": ("probing", by_layer(1 - rising(7)), dict(component="mlp_out")),
    "C4": ("probing", 0.95, dict(position="-2")),
    "C5": ("patching", by_layer(rising(17, top=1.0, steep=0.3) - 0.1), dict(component="resid_post")),
    "C6": ("patching", by_layer(bump(5, 0.5)), dict(component="mlp_out")),
    "C7": ("ablation", by_layer(0.95 - bump(12, 0.9)), dict(component="mlp_out")),
    "C8": ("patching", 0.1, dict(component="attn_out", span=3)),
    "C9": ("attention", by_layer(0.5 - bump(12, 0.4)), dict(segment="text")),
    "C10": ("robustness", by_layer(rising(5, top=1.0, steep=0.4)), dict(component="resid_post")),
    "C11": ("robustness", by_layer(bump(2, 0.6)), dict(prompt="T3-2shot", metric="transfer")),
    "C12": ("appraisals", -0.1, dict(setting="as_released", appraisal="suddenness")),
    "C13": ("geometry", lambda rows: -rows["value"], dict(metric="cosine")),
    "C14": ("modulation", 0.1, dict(metric="theory_score")),
    "C15": ("modulation", 0.1, dict(metric="theory_score")),
    "C16": ("modulation", 0.9, dict(metric="theory_score_null")),
    "C17": ("promotion", 0.05, dict(vector="probe")),
    "C18": ("robustness", 2.0, dict(set="missed")),
    "C19": ("robustness", 0.05, dict(metric="accuracy_sd")),
}


def test_the_claims_are_nineteen_in_order_and_each_has_words_for_everything() -> None:
    found = claims.claims()
    assert list(found) == NAMES == list(FALSIFY)
    for claim in found.values():
        assert claim.sentence.endswith(".") and claim.test and claim.values and claim.figure and claim.tolerance > 0
        assert set(claim.tables) <= set(MAKERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_names_the_tables_that_it_reads(name: str, tables: dict[str, pd.DataFrame]) -> None:
    class Watched(dict[str, pd.DataFrame]):
        def __contains__(self, experiment: object) -> bool:
            read.add(str(experiment))
            return super().__contains__(experiment)

    read: set[str] = set()
    claims.tested(name, Watched(tables))
    assert read <= set(claims.claims()[name].tables)
    for gate in claims.claims()[name].gates:
        claims.closed(gate, Watched(tables))
    assert read >= set(claims.claims()[name].tables)


# What a control would have to say for the robust reading to be not reproduced, or in part; the others stand.
CONTROLS: list[tuple[str, str, str, Any, dict[str, Any]]] = [
    ("C2", "partly", "probing", 0.0, dict(metric="selectivity")),
    ("C2", "partly", "wording", -0.1, dict(target="writer")),
    ("C7", "not", "ablation", by_layer(0.95 - bump(12, 0.9)), dict(component="mlp_out", metric="recentred_agreement")),
    ("C7", "partly", "ablation", by_layer(0.95 - bump(12, 0.9)), dict(component="mlp_out", metric="auroc")),
    ("C7", "partly", "ablation", by_layer(0.95 - bump(15, 0.9)), dict(method="resample")),
    ("C9", "not", "attention", 0.5, dict(metric="enrichment")),
    ("C10", "not", "robustness", 0.3, dict(metric="transfer_change", check="topic")),
    ("C12", "partly", "appraisals", 0.9, dict(baseline="label", appraisal="suddenness")),
    ("C12", "partly", "appraisals", -0.1, dict(metric="partial_r2", appraisal="suddenness")),
    ("C12", "partly", "wording", -0.1, dict(metric="best_difference", appraisal="suddenness")),
    ("C13", "not", "geometry", 0.9, dict(metric="alignment_by_construction")),
    ("C13", "partly", "geometry", 1.1, dict(metric="fade", vector="whitened")),
    ("C13", "partly", "geometry", 1.1, dict(metric="fade", vector="mean_difference")),
    ("C14", "not", "modulation", 0.1, dict(metric="theory_score", vector="tuned")),
    ("C14", "partly", "modulation", 0.85, dict(metric="theory_score_null", vector="shuffled_sets")),
    ("C14", "partly", "modulation", 0.5, dict(metric="total_variation", vector="tuned")),
    ("C14", "partly", "modulation", -0.1, dict(metric="direction_r2", vector="tuned")),
    ("C15", "not", "modulation", 0.1, dict(metric="theory_score", vector="tuned")),
    ("C15", "partly", "modulation", 0.85, dict(metric="theory_score_null", vector="matched_sets")),
    ("C16", "not", "modulation", 0.9, dict(metric="theory_score_null", vector="matched_sets")),
    ("C17", "partly", "promotion", 0.8, dict(vector="random")),
    ("C18", "partly", "robustness", 0.0, dict(source="beyond_label", emotion="sadness")),
]


SITES = ("component", "appraisal", "emotion")  # without these keys, the rows of a control at all places


def outcomes(name: str, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {reading: found.outcome for reading, found in claims.readings_of(name, tables).items()}


@pytest.mark.parametrize("name", NAMES)
def test_planted_claim_is_reproduced_then_not_then_not_testable(name: str, tables: dict[str, pd.DataFrame]) -> None:
    assert set(outcomes(name, tables).values()) == {"reproduced"}, claims.readings_of(name, tables)
    experiment, new, keys = FALSIFY[name]
    change(tables, experiment, new, **keys)
    found = claims.verdict(name, tables, "as released")
    assert found.outcome == "not", found.numbers
    del tables[experiment]
    found = claims.verdict(name, tables)
    assert found.outcome == "not testable" and experiment in found.numbers and found.n is None


@pytest.mark.parametrize(("name", "outcome", "experiment", "new", "keys"), CONTROLS)
def test_a_control_decides_the_robust_reading_alone(
    name: str, outcome: str, experiment: str, new: Any, keys: dict[str, Any], tables: dict[str, pd.DataFrame]
) -> None:
    change(tables, experiment, new, **keys)
    reproduced = {"as released": "reproduced", "as described": "reproduced"}
    assert outcomes(name, tables) == {**reproduced, "robust": outcome}
    rows, kind = tables[experiment], {key: value for key, value in keys.items() if key not in SITES}
    hit = np.all([(rows[column] == value).fillna(False) for column, value in kind.items()], axis=0)
    without = tables | {experiment: rows[~hit]}
    assert outcomes(name, without) == {**reproduced, "robust": "not testable"}
    found = claims.verdict(name, without)
    assert re.fullmatch(r"no number for [1-9]\d* of \d+ controls", found.reason)
    assert claims.called(found, "in range") == "not testable" and claims.called(found, "paper") == "not published"


def test_what_the_paper_says_and_its_code_does_not_is_a_reading_of_its_own(tables: dict[str, pd.DataFrame]) -> None:
    change(tables, "modulation", 0.1, metric="theory_score", vector="fixall")
    apart = {"as released": "reproduced", "as described": "not", "robust": "reproduced"}
    assert outcomes("C14", tables) == outcomes("C15", tables) == apart


def with_row(tables: dict[str, pd.DataFrame], experiment: str, **row: Any) -> dict[str, pd.DataFrame]:
    """The tables with one more row in one of them."""
    more = results.tidy([row], experiment, model="planted", prompt="T1-2shot", n_layers=LAYERS)
    return tables | {experiment: pd.concat([tables[experiment], more], ignore_index=True)}


@pytest.mark.parametrize(("gap", "outcome"), [(-0.3, "reproduced"), (0.05, "partly"), (0.3, "not")])
def test_what_attention_carries_as_well_of_topics_is_not_specific_to_emotion(
    tables: dict[str, pd.DataFrame], gap: float, outcome: str
) -> None:
    """The core of C10, at the peak of emotion on the same texts and not where topics differ most."""
    table = tables["robustness"]
    topic = table["metric"] == "transfer_change"
    change = np.where(table.loc[topic, "layer"] == 9, gap, -gap)
    table.loc[topic, ["value", "ci_low", "ci_high"]] = np.stack([change, change - 0.1, change + 0.1], axis=1)
    found = claims.verdict("C10", tables)
    assert found.outcome == outcome and found.checks[0].value == gap


def test_without_a_pattern_of_fitted_directions_random_ones_have_nothing_to_lack(
    tables: dict[str, pd.DataFrame],
) -> None:
    for vector in ("raw", "tuned"):
        change(tables, "modulation", 0.3, metric="theory_score", vector=vector)
    found = claims.verdict("C16", tables)
    assert found.outcome == "not testable" and "no contrast: C14, directions that predict 0.30" in found.reason


def test_in_short_has_each_claim_with_the_outcome_of_each_set_of_tables(tables: dict[str, pd.DataFrame]) -> None:
    change(tables, "modulation", 0.1, metric="theory_score", vector="fixall")
    sets = {reading: (tables, reading) for reading in claims.READINGS}
    found = claims.in_short({**sets, "nothing": ({}, "robust")})
    assert found["claim of the paper"].str.split().str[0].tolist() == NAMES
    assert set(found["robust"]) == set(found["as released"]) == {"● supported"}
    apart = found["as described"] != "● supported"
    assert found.loc[apart, "claim of the paper"].str.split().str[0].tolist() == ["C14", "C15"]
    assert set(found["nothing"]) == {"not run"}


def test_a_chapter_ends_with_the_verdicts_it_carries(tables: dict[str, pd.DataFrame]) -> None:
    chapters = {about.chapter for about in claims.claims().values()}
    ends = {chapter: claims.chapter_verdicts(chapter, tables) for chapter in chapters}
    for name, about in claims.claims().items():
        holders = [chapter for chapter, text in ends.items() if f"**{name}, " in text]
        assert holders == [about.chapter]
        source = ROOT.joinpath("notebooks", f"{about.chapter}.py").read_text()
        assert f'claims.chapter_verdicts("{about.chapter}", ' in source
    with pytest.raises(ValueError, match="07_apraisals.*choose from"):
        claims.chapter_verdicts("07_apraisals", tables)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_without_the_needed_rows_is_not_testable_rather_than_an_error(
    name: str, tables: dict[str, pd.DataFrame]
) -> None:
    for experiment in claims.claims()[name].tables:
        tables[experiment] = tables[experiment].assign(metric="something_else")
    assert claims.verdict(name, tables).outcome == "not testable"


def test_only_the_later_check_failing_is_partly(tables: dict[str, pd.DataFrame]) -> None:
    change(tables, "ablation", 0.5, component="attn_out", span=1, layer=15)
    found = claims.verdict("C7", tables)
    assert found.outcome == "partly" and found.checks[-1].outcome == "fails" and found.n == 1000


def test_an_interval_over_the_threshold_leaves_a_check_open(tables: dict[str, pd.DataFrame]) -> None:
    tables["behaviour"].loc[0, ["value", "ci_low", "ci_high"]] = 0.39, 0.37, 0.41
    found = claims.verdict("C1", tables)
    assert found.outcome == "partly" and found.checks[0].number == "0.39 (0.37 to 0.41)"
    assert found.checks[0].outcome == "open"


def test_missed_events_that_only_lean_to_their_answered_label_are_partly(tables: dict[str, pd.DataFrame]) -> None:
    """Stored differences come before differences of means; beyond the label two thirds of them vanish."""
    for appraisal, signs in MISSED.items():
        for emotion, sign in signs.items():
            ends = dict(value=sign * 0.5, ci_low=sign * 0.5 - 0.1, ci_high=sign * 0.5 + 0.1)
            keys = dict(metric="rating_difference", check="misclassified", source="probe", layer=9, n=80)
            tables = with_row(tables, "robustness", emotion=emotion, appraisal=appraisal, **keys, **ends)
            if emotion != "joy":
                change(tables, "robustness", 0.0, source="beyond_label", emotion=emotion)
    found = claims.verdict("C18", tables)
    assert found.outcome == "partly" and [check.value for check in found.checks] == [6, 2]


def test_a_check_without_a_number_is_named_and_does_not_count(tables: dict[str, pd.DataFrame]) -> None:
    missing = at_least("b", None, 0.5)
    assert str(missing) == "b, expected at least 0.5 [no number]"
    held, none = "holds", missing.outcome
    assert claims.judge([held, none]) == claims.judge([none, held]) == "reproduced"
    assert claims.judge([none, "fails"]) == "not"
    with pytest.raises(ValueError, match="at least one check"):
        claims.judge([none])
    without = tables | {"probing": tables["probing"][tables["probing"]["metric"] != "selectivity"]}
    found = claims.verdict("C2", without)
    assert found.outcome == "not testable" and claims.verdict("C2", without, "as released").outcome == "reproduced"
    assert [one.what for one in found.checks if one.outcome == "no number"] == [
        "best probe minus that of shuffled labels"
    ]


def test_a_dip_in_the_first_layers_is_not_the_one_that_prompts_are_compared_by(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["robustness"]
    early = (rows["metric"] == "agreement") & (rows["layer"] == 1)
    assert early.sum() == 3
    for prompt, layer in (("T1-2shot", 10), ("T3-2shot", 15)):
        moved = rows.assign(value=rows["value"].where(~early, 0.0))
        other = (moved["metric"] == "agreement") & (moved["layer"] == layer) & (moved["prompt"] == prompt)
        found = claims.verdict("C11", tables | {"robustness": moved.assign(value=moved["value"].where(~other, 0.01))})
        assert found.outcome == ("reproduced" if layer == 10 else "partly")
        assert found.checks[1].where == "within 1 layer(s) of layer 11"


def test_a_gain_over_the_same_pairs_decides_whether_wider_windows_transfer_more(
    tables: dict[str, pd.DataFrame],
) -> None:
    wide = tables["patching"].copy()
    near = (wide["span"] == 5) & (wide["component"] == "attn_out") & (wide["layer"] == 10)
    wide.loc[near, ["value", "ci_low", "ci_high"]] = [0.62, 0.60, 0.64]  # span 3 has 0.60, 0.58 to 0.62
    both = tables | {"patching": wide}
    assert claims.verdict("C8", both).outcome == "partly"
    for span in (3, 5):
        keys = dict(metric="span_gain", component="attn_out", span=span, layer=10, position="-1")
        both = with_row(both, "patching", value=0.02, ci_low=0.01, ci_high=0.03, **keys)
    assert claims.verdict("C8", both).outcome == "reproduced"


def test_a_window_of_the_stream_counts_at_its_last_layer(tables: dict[str, pd.DataFrame]) -> None:
    """The rows of one span alone, each window at its centre, give the onset of single layers."""
    rows = tables["patching"]
    alone = rows[rows["component"] == "resid_post"]
    wide = alone.assign(layer=alone["layer"] - 1, span=3)[alone["layer"] >= 1]
    found = [claims.verdict("C5", tables | {"patching": table}) for table in (alone, wide)]
    assert found[0].checks[0] == found[1].checks[0] and "layer 11" in found[0].checks[0].where


def test_the_first_check_decides() -> None:
    yes, no, open_ = "holds", "fails", "open"
    assert claims.judge([yes, yes]) == "reproduced"
    assert claims.judge([yes, no]) == claims.judge([yes, open_]) == claims.judge([open_, no]) == "partly"
    assert claims.judge([no, yes]) == "not"


def test_sides_of_a_threshold() -> None:
    row = dict(value=0.5, ci_low=0.4, ci_high=0.6, n=7)
    sides = ["holds", "open", "open", "fails"]
    assert [at_least("", row, level).outcome for level in (0.4, 0.45, 0.55, 0.65)] == sides
    assert [at_most("", row, level).outcome for level in (0.6, 0.55, 0.45, 0.35)] == sides
    bands = ((0.3, 0.7), (0.45, 0.7), (0.55, 0.7), (0.65, 0.7))
    assert [inside("", row, band).outcome for band in bands] == sides
    assert [at_least("", 0.5, level).outcome for level in (0.5, 0.51)] == ["holds", "fails"]
    assert at_least("", 0.5, 0.5).outcome == "holds" and at_least("", 0.5, 0.5).n is None
    assert [positive("", end).outcome for end in (1e-9, 0, dict(value=1, ci_low=0))] == ["holds", "fails", "open"]
    # half-widths of .1 and .1 add to .141: a gap of .15 is outside, one of .14 is not
    assert above("", dict(value=0.65, ci_low=0.55, ci_high=0.75), row).outcome == "holds"
    assert above("", dict(value=0.64, ci_low=0.54, ci_high=0.74), row).outcome == "open"
    assert above("", dict(value=0.34, ci_low=0.24, ci_high=0.44), row).outcome == "fails"
    assert above("", row, row).outcome == above("", 0.5, 0.5).outcome == "open"
    lower = below("a", row, dict(value=0.65, ci_low=0.55, ci_high=0.75), "of b", where="here")
    assert str(lower) == "a 0.50 (0.40 to 0.60) (here), expected below 0.65 (0.55 to 0.75) of b [holds]"
    assert lower.n == 7


def test_behind_a_count_stand_its_lowest_part_and_how_many_are_undecided() -> None:
    high, low = dict(value=0.5, ci_low=0.4, ci_high=0.6), dict(value=0.2, ci_low=0.1, ci_high=0.35)
    found = all_hold("parts", [at_least("a", high, 0.3), at_least("b", low, 0.3)])
    assert found.where == "lowest: b 0.20, 1 undecided" and found.outcome == "open" and found.value == 1
    nameless = all_hold("parts", [at_least("", high, 0.3)] * 3, 1.5)
    assert nameless.where == "" and nameless.expected == "at least 2 of 3" and nameless.outcome == "holds"


def test_checks_are_a_table_and_a_chapter_shows_them(tables: dict[str, pd.DataFrame]) -> None:
    found = claims.checks(tables, ["C1", "C2"])
    core = found.iloc[0]
    assert list(core[["claim", "check", "expectation", "outcome"]]) == ["C1", "accuracy", "at least 0.385", "holds"]
    assert list(core[["number", "ci_low", "ci_high", "n"]]) == [0.5, 0.48, 0.52, 600]
    assert set(claims.checks(tables)["claim"]) == set(NAMES) and claims.checks({}).empty
    shown = claims.chapter_verdicts("03_behaviour", tables)
    where = "as scored, by first subtoken"
    row = f"| accuracy ({where}) | all readings | 0.50 (0.48 to 0.52) | at least 0.385 | holds |"
    assert row in shown.splitlines()
    folds = claims.one_by_one({"one": tables, "other": {}}).split("</details>")
    assert len(folds) == len(NAMES) + 1 and folds[0].splitlines().count(row) == 1
    assert "<summary><strong>C1</strong> Restricted to" in folds[0] and claims.claims()["C1"].test in folds[0]
    assert "<em>one</em>: supported. <em>other</em>: not run.</summary>" in folds[0]
    judged = claims.paper_verdicts()
    beside = claims.unsupported(judged)
    kept = judged[judged["outcome"].isin(["not", "partly"]) & (judged["reading"] == claims.RELEASED)]
    assert beside.count("<details") == kept["claim"].nunique() and all(model in beside for model in kept["model"])


def test_thresholds_stand_once_and_are_what_the_words_say(
    tables: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    about = claims.claims()["C1"]
    assert f"at least {about.levels['accuracy']}" in about.test
    monkeypatch.setitem(about.levels, "accuracy", 0.9)
    found = claims.verdict("C1", tables)
    assert found.outcome == "not" and found.checks[0].expected == "at least 0.9"


def test_verdicts_are_one_row_a_claim_and_reading(tables: dict[str, pd.DataFrame]) -> None:
    found = claims.verdicts(tables)
    assert list(found["claim"]) == [name for name in NAMES for _ in claims.READINGS]
    assert list(found["reading"]) == [*claims.READINGS] * 19 and set(found["outcome"]) == {"reproduced"}
    assert list(found.columns) == ["claim", "reading", "outcome", "said", "numbers", "reason", "n", "figure"]
    table = claims.grid(found.assign(model="planted"))
    assert table.eq("●").all(axis=None) and list(table) == [f"planted, {one}" for one in claims.READINGS]
    alone = found[found["reading"] == "robust"].assign(model="alone")
    assert list(claims.grid(alone)) == ["alone"] and list(table.index) == NAMES
    counts = "19 supported, 0 partly supported, 0 not supported"
    assert claims.counted(tables) == counts
    assert claims.counted({}) == "0 seen, 0 partly seen, 0 not seen, 19 not run"
    assert claims.grid(claims.verdicts({}).assign(model="nothing")).eq("").all(axis=None)
    assert claims.summary(tables) == "\n".join(f"- {reading}: {counts}" for reading in claims.READINGS)


@pytest.mark.parametrize(
    ("model", "words"),
    {
        None: "supported, partly supported, not supported",  # no run: the paper's own values
        "smollm2-135m": "seen, partly seen, not seen",
        "somebody/unknown": "seen, partly seen, not seen",
        "meta-llama/Llama-3.2-1B-Instruct": "reproduced, partly reproduced, not reproduced",
        "qwen2.5-coder-1.5b@random:3": "reproduced, partly reproduced, not reproduced",
    }.items(),
)
def test_a_verdict_is_called_by_whose_it_is(tables: dict[str, pd.DataFrame], model: str | None, words: str) -> None:
    for table in tables.values():
        table.attrs = {} if model is None else {"provenance": {"parameters": {"model": model}}}
    whose = claims.standing(tables)
    assert ", ".join(claims.word(outcome, whose) for outcome in claims.OUTCOMES[:3]) == words
    assert claims.word("not testable", whose) == "not testable"
    assert claims.verdict_line("C1", tables).startswith(f"**C1, {words.partition(',')[0]}.**")
    assert claims.standing(claims.paper_tables("Llama 3.2 1B")) == "paper" and claims.standing({}) == "other"


def test_verdict_line_names_the_outcome_and_the_numbers(tables: dict[str, pd.DataFrame]) -> None:
    line = claims.verdict_line("C2", tables)
    assert line.startswith("**C2, supported.**")
    assert claims.verdict_line("C2", {}).endswith("*Why:* no behaviour table.")
    assert "Beside the paper" not in claims.verdict_line("C2", paper_tables("Llama 3.2 1B")), (
        "those are the paper's own"
    )
    with pytest.raises(ValueError, match="C20"):
        claims.verdict_line("C20", tables)


# The paper's own values


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    found = claims.paper_verdicts().query("reading == 'as released'")
    return found.set_index(["claim", "model"])["outcome"].unstack()


def test_the_paper_s_own_values_do_not_support_necessity_in_five_of_ten_models(published: pd.DataFrame) -> None:
    """Two of the five are ties within their intervals."""
    refuted, undecided = (published.columns[published.loc["C7"] == outcome] for outcome in ("not", "partly"))
    assert set(refuted) == {"Ministral 8B", "Mistral Nemo 12B", "Gemma 2 9B"}
    assert {"Phi 3 medium", "OLMo 2 13B"} <= set(undecided)
    assert published.loc["C7", "Llama 3.2 1B"] == "reproduced"


def test_in_which_models_feed_forward_follows_the_stream_more_closely_is_left_open(published: pd.DataFrame) -> None:
    """It does in eight of ten, by differences of ranks that the intervals of most curves do not carry."""
    gaps = {model.name: claims.verdict("C3", paper_tables(model.name)).checks[0].value for model in paper.PAPER_MODELS}
    assert {name for name, gap in gaps.items() if gap < 0} == {"Phi 3.5 mini", "Gemma 2 9B"}
    assert not (published.loc["C3"] == "not").any()
    assert set(published.columns[published.loc["C3"] == "reproduced"]) == {"OLMo 2 7B", "OLMo 2 13B", "Ministral 8B"}


@pytest.mark.parametrize("name", ["C1", "C2", "C5", "C6"])
def test_what_the_paper_shows_for_all_models_holds_for_all(name: str, published: pd.DataFrame) -> None:
    assert (published.loc[name] == "reproduced").all()


def test_claims_that_the_paper_shows_for_one_model(published: pd.DataFrame) -> None:
    llama = published[paper.DETAILED.name]
    whole = {"C1", "C2", "C4", "C5", "C6", "C7", "C8", "C11", "C13", "C15", "C17", "C18"}
    assert {name for name in NAMES if llama[name] == "reproduced"} == whole
    # a difference of ranks within noise, few looks at the text (M10), overlap with the control (P12), no gain over the
    # label (M14), three draws (M6)
    assert {name for name in NAMES if llama[name] == "partly"} == {"C3", "C9", "C10", "C12", "C14", "C16"}
    assert llama["C19"] == "not testable"
    others = published.drop(columns=paper.DETAILED.name).loc[["C4", "C8", "C9", "C10", "C11", "C12", "C13", "C14"]]
    assert (others == "not testable").all(axis=None)


def test_the_paper_s_values_keep_their_numbers_in_our_layout() -> None:
    tables = paper_tables("Llama 3.2 1B")
    keys = dict(component="resid_post", metric="transfer", position="-1")
    stream = results.select(tables["patching"], last_layer=9, **keys).set_index("span")
    # a window of three is plotted at 9, and counts at its last layer, block 10
    assert stream.loc[3, "value"] == pytest.approx(0.535) and stream.loc[3, "layer"] == 8
    text = tables["attention"].query("segment == 'text'").set_index("layer")["value"]
    assert (text * 2740).round().astype(int).tolist() == [1, 0, 1, 2, 0, 427, 74, 24, 150, 95, 355, 39, 7, 157, 1, 0]
    scores = results.select(tables["modulation"], metric="theory_score", layer=8, dose=2)
    found = {(p, o, e): round(v, 2) for p, o, e, v in scores[[*SINGLE_COLUMNS, "value"]].itertuples(index=False)}
    assert found[1, 0, 0] == 0.88 and found[0, -1, 0] == 0.60 and found[0, 0, 1] == 0.45 and found[1, -1, 0] == 0.76


def test_distance_sets_our_values_beside_the_paper_s_where_the_model_is_the_same() -> None:
    theirs = {name: table.copy() for name, table in paper_tables("Gemma 2 2B").items()}
    same = claims.distance("C2", theirs)
    assert len(same) == 3 * 26 and same["equal"].all() and (same["difference"] == 0).all()
    theirs["probing"].loc[0, "value"] += 0.05
    assert claims.distance("C2", theirs)["equal"].sum() == 3 * 26 - 1
    assert claims.distance("C2", {"probing": theirs["probing"].assign(model="other")}).empty


def test_stored_runs_are_read_by_their_folder(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    results.write(tables["probing"], tmp_path / "results" / "one" / "probing.parquet", {"seed": 0})
    (tmp_path / "results" / "empty").mkdir()
    found = claims.stored_runs(tmp_path)
    assert list(found) == ["one"] and list(found["one"]) == ["probing"]
    said = claims.origins(found)
    assert said.startswith("<details") and "| one | commit | time |" in said and "| probing | no commit |" in said
    assert "This run has none." in claims.origins({})
    assert claims.stored_runs(tmp_path / "nowhere") == {}
    for name in (REFERENCE.slug, "another", "another-random-0_c", "one-random-3"):
        results.write(tables["probing"], tmp_path / "results" / name / "probing.parquet", {"seed": 0})
    assert list(claims.shown_runs("one", tmp_path)) == ["one", REFERENCE.slug, "another"]
    assert list(claims.shown_runs(REFERENCE.slug, tmp_path)) == [REFERENCE.slug]
    twin = "one-random-3"
    assert list(claims.shown_runs(twin, tmp_path)) == [twin, REFERENCE.slug, "another", "one"]


def test_what_an_owner_sends_says_what_the_tables_say(
    reference_tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    tables = reference_tables
    sent = claims.document(tables)
    assert sent["parameters"]["model"] == REFERENCE.model and "corpus_path" not in sent["parameters"]
    found = claims.checks(tables)
    assert sum(len(one["checks"]) for one in sent["claims"].values()) == len(found)
    assert sent["claims"]["C7"]["checks"][0]["number"] == pytest.approx(found[found["claim"] == "C7"]["number"].iloc[0])
    folder = tmp_path / "results" / "contributed"
    folder.mkdir(parents=True)
    sent["claims"]["C1"]["outcome"] = "reproduced by decree"
    (folder / "a.json").write_text(json.dumps(sent))
    read = claims.contributed(tmp_path).set_index("claim")
    assert read["outcome"].to_dict() == claims.verdicts(tables).set_index("claim")["outcome"].to_dict()
    assert set(read["model"]) == {paper.model_name(REFERENCE.model)}
    sent["claims"]["C1"]["checks"][0]["outcome"] = "shines"
    (folder / "a.json").write_text(json.dumps(sent))
    with pytest.raises(ValueError, match="a.json is not what emolib verdicts writes.*shines"):
        claims.contributed(tmp_path)


def test_a_run_reads_the_tables_that_are_asked_for_and_tests_a_claim_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("behaviour", "patching", "ablation"):
        shutil.copy(ROOT / "results" / REFERENCE.slug / f"{name}.parquet", tmp_path)
    read, tested = [], []
    plain, test = results.read, claims.TESTS["C6"]
    monkeypatch.setattr(results, "read", lambda path: read.append(path.stem) or plain(path))
    monkeypatch.setitem(claims.TESTS, "C6", lambda *given: tested.append("C6") or test(*given))
    run = claims.run_tables(tmp_path)
    assert run and read == ["ablation"], "whether there is any"
    assert "C6" in set(claims.checks(run, ["C6"])["claim"]) and claims.verdict("C6", run).checks
    assert read == ["ablation", "behaviour", "patching"] and tested == ["C6"]
    assert claims.run_tables(tmp_path) is run
    (tmp_path / "patching.parquet").write_bytes(b"cut short")
    changed = claims.run_tables(tmp_path)
    assert [*changed] == ["ablation", "behaviour"] and "patching" in run, "what was read stays as it was"
    assert "left out" in capsys.readouterr().err


def test_tables_of_two_models_are_no_document(reference_tables: dict[str, pd.DataFrame]) -> None:
    tables = reference_tables
    other = tables["patching"].copy()
    other.attrs = {"provenance": tables["patching"].attrs["provenance"] | {"model_revision": "another"}}
    with pytest.raises(ValueError, match="2 different models"):
        claims.document({**tables, "patching": other})
    with pytest.raises(ValueError, match="0 different"):
        claims.document({})


@pytest.mark.parametrize(
    ("values", "near"),
    [([0, 1, 4, 3, 0, 0], 2), ([0, 0, 0, 0, 3, 4], 1), ([4, 3, 0, 0, 0, 0], 1), ([0, 0, 4, 0, 0, 0], 0)],
)
def test_a_peak_at_either_end_has_no_neighbour_there(values: list[float], near: int) -> None:
    check = in_place("peak", "a curve", [pd.DataFrame({"value": values})])
    assert check.value == near and check.outcome == ("holds" if near == 2 else "fails")


def test_the_number_of_layers_is_what_the_first_table_says_that_has_any() -> None:
    silent, told = (pd.DataFrame({"n_layers": pd.array(rows, dtype="Int64")}) for rows in ([None], [None, 12]))
    found = evidence.Evidence({"behaviour": silent, "probing": told})
    assert found.n_layers == 12 and (found.layers(0.25), found.layers(0.01)) == (3, 1)
    with pytest.raises(evidence.NotTestable, match="layers"):
        _ = evidence.Evidence({"behaviour": silent}).n_layers

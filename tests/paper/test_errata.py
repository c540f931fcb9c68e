"""Errata against hand computations: printed counts, planted tables, the reference run and the corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emolib.paper import claims, errata
from emolib.paper.claims.tests import word
from emolib.paper.errata import Finding
from emolib.study.run import LADDER
from emolib.tables import paper as paper_values
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import Corpus, load_corpus
from helpers import ROOT

Tables = dict[str, pd.DataFrame]


def of(findings: list[Finding], name: str) -> list[tuple[float, float]]:
    return [(found.stated, found.corrected) for found in findings if found.id == name]


@pytest.fixture(scope="module")
def from_paper() -> list[Finding]:
    return errata.from_paper()


def test_every_case_is_there_once_with_a_grade_and_words() -> None:
    found = errata.cases()
    expected = [f"P{n}" for n in range(1, 38)] + [f"D{n}" for n in range(1, 12)] + ["X1", "X2", "X3"]
    assert list(found["id"]) == expected + [f"M{n}" for n in range(1, 19)]
    assert set(found["grade"]) == {"A", "B", "C"}
    assert (found["case"].str.len() > 10).all() and (found["where"] != "").all()
    graded_a = {"P12", "P15", "P20", "P24", "P28", "P33", "D1", "D6", "M2", "M6", "M10", "M13", "M14", "M18"}
    assert set(found.loc[found["grade"] == "A", "id"]) == graded_a


def test_cases_of_grade_a_are_computed_or_see_one_that_is(from_paper: list[Finding], reference_tables: Tables) -> None:
    computed = {one.id for one in from_paper + errata.from_run(reference_tables)}
    left = errata.cases().query("grade == 'A' and id not in @computed").set_index("id")["case"]
    assert set(left.index) == {"P15", "P20", "P33"}, "and P33 needs the corpus"
    assert "see D1" in left["P15"] and "see D6 and D8" in left["P20"] and {"D1", "D6", "D8"} <= computed


def test_findings_come_in_the_order_of_the_cases() -> None:
    rows = errata.table([Finding("M1", "b", 1, 2, "x"), Finding("P4", "a", 1, 2, "x"), Finding("M1", "c", 1, 2, "x")])
    assert rows[["quantity", "grade"]].to_numpy().tolist() == [["a", "C"], ["b", "B"], ["c", "B"]]


def test_a_grade_is_listed_with_its_words_once_and_its_numbers_beside_them() -> None:
    rows = errata.listed([Finding("D1", "b", 0, 0.25, "x"), Finding("D1", "c", np.nan, 12345, "y")], "A")
    own = rows[rows["compared"] != ""]
    assert own[["compared", "the paper", "corrected"]].to_numpy().tolist() == [["b", "0", "0.25"], ["c", "", "12,345"]]
    assert own["case"].iloc[0].startswith("D1, code: other appraisals") and own["case"].iloc[1] == "D1"
    graded = errata.cases().query("grade == 'A'")["id"].tolist()
    assert [case.partition(",")[0] for case in rows["case"] if "," in case] == graded


# Numbers of the authors' stored confusion matrix and figures, typed here by hand.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P6", [(0, 2340), (4, 2410)]),
        ("P12", [(0.49, 0.69)]),
        ("P24", [(10, 5)]),
        ("P28", [(0.705, 0.435)]),
        ("D6", [(1925, 0)]),
        ("D8", [(3337, 3413), (3740, 3702)]),
        ("M2", [(459, 6)]),
        ("M10", [(np.nan, 150), (np.nan, 95), (np.nan, 355)]),
        ("M13", [(np.nan, 3551 / 5832), (0.619, 0.622)]),
    ],
)
def test_published_values_decide(name: str, expected: list, from_paper: list[Finding]) -> None:
    found = of(from_paper, name)
    assert len(found) == len(expected)
    for pair, wanted in zip(found, expected, strict=True):
        assert pair == pytest.approx(wanted, rel=0.005, abs=0.002, nan_ok=True)


def test_a_look_up_that_meets_more_or_fewer_values_than_it_names_is_refused() -> None:
    entry = dict(id="P9", quantity="joy", source="Fig 30")
    keys = dict(experiment="behaviour", metric="confusion_count", prompt="T1-2shot", label="joy")
    both = errata.looked_up(entry | dict(corrected=keys | dict(answer=["joy", "pride"])))
    one = [errata.looked_up(entry | dict(corrected=keys | dict(answer=name))).corrected for name in ("joy", "pride")]
    assert both.corrected == sum(one) > max(one) and np.isnan(both.stated)
    with pytest.raises(ValueError, match=r"13 published values match .*expected 1, so name another key"):
        errata.looked_up(entry | dict(corrected=keys))


def test_the_label_explains_what_the_published_baseline_says(crowd_envent: Corpus, from_paper: list[Finding]) -> None:
    confusion = paper_values.values("behaviour", metric="confusion_count", model=errata.LLAMA, prompt="T1-2shot")
    agreed = confusion[confusion["label"] == confusion["answer"]].set_index("label")["value"]
    label = crowd_envent.events["emotion"]
    weights = label.map(agreed) / label.map(label.value_counts())
    found = {one.quantity.split()[2][:-1]: one.corrected for one in from_paper if one.id == "M14"}
    assert len(found) == 6
    columns = {word(name): name for name in crowd_envent.ratings}
    for name, published in found.items():
        ratings = crowd_envent.ratings[columns[name]].astype(float)
        means = ratings.groupby(label).transform("mean")
        centre = np.average(ratings, weights=weights)
        between, total = (np.average((values - centre) ** 2, weights=weights) for values in (means, ratings))
        assert published == pytest.approx(between / total, abs=0.002)


def test_windows_of_the_papers_stream_are_worth_their_last_layer(from_paper: list[Finding]) -> None:
    assert of(from_paper, "M1")[0][1] < 0.002, "both readings of the paper's have an error of .001"


def test_masking_counts_planted_differences() -> None:
    corpus = load_corpus("situations")
    events = corpus.events.head(26)
    changed = events.assign(text=["..." + text if i < 3 else text for i, text in enumerate(events["text"])])
    found = errata.masking(replace(corpus, events=changed), replace(corpus, events=events))
    assert found[0].corrected == 3


def test_the_corpus_decides_how_much_is_masked(crowd_envent_path: Path) -> None:
    found = errata.from_corpus(str(crowd_envent_path))
    assert [round(one.corrected, 2) for one in found] == [2126, 0.22, 0.44]
    assert [one.quantity.split()[-1] for one in found[1:]] == ["anger", "trust"]


# What a run shows


def test_a_run_s_tables_show_what_the_method_does(reference_tables: Tables) -> None:
    found = errata.from_run(reference_tables)
    kept = select(reference_tables["modulation"], metric="kept_share", vector="fixall")["value"]
    assert of(found, "D1")[1] == (0, pytest.approx(1 - kept.mean())) and len(of(found, "D1")) == 2
    by_dtype = {run.dtype: errata.from_run(claims.run_tables(ROOT / "results" / run.slug)) for run in LADDER[:2]}
    ((_, exact),), ((_, rounded),) = (of(by_dtype[dtype], "M1") for dtype in ("float32", "mixed"))
    assert exact == 0 and rounded < 0.001, (
        "a window on the stream equals its last layer, in mixed precision up to rounding"
    )
    ((drawn, fitted),) = of(found, "M6")
    assert drawn == pytest.approx(np.sqrt(3), rel=0.01) and drawn < fitted < 3
    released, chosen = np.transpose(of(found, "M18"))
    assert len(released) == 3 and (released < chosen).all()
    assert errata.from_run({}) == []


def test_where_the_paper_pushes_is_its_layer_nine_of_sixteen() -> None:
    keys = dict(metric="r2", target="writer", component="resid_post", position="-1")
    rows = [
        dict(layer=layer, value=layer + offset, setting=setting, set=which, appraisal=name, **keys)
        for layer in range(16)
        for setting, which, offset in (("as_released", "agreed", 0.0), ("ours", "all", 0.5))
        for name in ("pleasantness", "other_responsblt", "predict_event", "suddenness")
    ]
    found = errata.from_run({"appraisals": results.tidy(rows, "appraisals", model="m", n_layers=16)})
    assert of(found, "M18") == [(8.0, 8.5)] * 3

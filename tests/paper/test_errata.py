"""Errata against hand computations: printed counts, planted windows, vectors and pieces, and the corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emolib.paper import errata
from emolib.paper.errata import Finding
from emolib.tables import paper as paper_values
from emolib.texts.corpus import Corpus, load_corpus


def of(findings: list[Finding], name: str) -> list[tuple[float, float]]:
    return [(found.stated, found.corrected) for found in findings if found.id == name]


@pytest.fixture(scope="module")
def from_paper() -> list[Finding]:
    return errata.from_paper()


def test_every_case_is_there_once_with_a_grade_and_words() -> None:
    found = errata.cases()
    expected = [f"P{n}" for n in range(1, 38)] + [f"D{n}" for n in range(1, 12)] + ["X1", "X2", "X3"]
    assert list(found["id"]) == expected + [f"M{n}" for n in range(1, 18)]
    assert set(found["grade"]) == {"A", "B", "C"}
    assert (found["case"].str.len() > 10).all() and (found["where"] != "").all()
    graded_a = {"P12", "P15", "P20", "P24", "P28", "P33", "D1", "D6", "M2", "M6", "M10", "M13", "M14"}
    assert set(found.loc[found["grade"] == "A", "id"]) == graded_a


def test_cases_of_grade_a_are_computed_or_see_one_that_is(from_paper: list[Finding]) -> None:
    known = errata.established({one.id for one in from_paper} | {"D1", "M6"})
    graded_a = set(errata.cases().query("grade == 'A'")["id"])
    assert {name for name in graded_a if known[name] == "read"} == {"P33"}, "for which the corpus is needed"


def test_findings_come_in_the_order_of_the_cases() -> None:
    rows = errata.table([Finding("M1", "b", 1, 2, "x"), Finding("P4", "a", 1, 2, "x"), Finding("M1", "c", 1, 2, "x")])
    assert rows["quantity"].tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="Q9"):
        errata.table([Finding("Q9", "a", 1, 2, "x")])


def test_a_case_is_computed_read_or_computed_where_it_refers_to() -> None:
    found = errata.established({"D1", "D6", "M1"})
    assert found.loc[["D1", "P15", "P19", "P20", "P21"]].tolist() == ["computed", "see D1", "see M1", "see D6", "read"]
    assert errata.established({"D6", "D8"})["P20"] == "see D6 and D8"
    assert set(errata.established(set())) == {"read"}
    assert errata.established({"P15", "D1"})["P15"] == "computed", "its own number comes first"


# Numbers of the authors' stored confusion matrix and figures, typed here by hand.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P6", [(0, 2340), (4, 2410)]),
        ("P9", [(2009, 1746)]),
        ("P12", [(0.49, 0.69)]),
        ("P13", [(4.54, 4.07)]),
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
    for name, published in found.items():
        ratings = crowd_envent.ratings[name].astype(float)
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


# Demonstrations


def test_what_holds_by_construction_is_shown() -> None:
    from emolib.paper import errata_demos

    found = errata_demos.from_demos()
    ((computed, injected),) = of(found, "D1")
    assert computed < 1e-10 and 0.38 < injected < 0.50
    ((centre, last),) = of(found, "M1")
    assert last < 1e-4 < centre, "a window on the stream equals its last layer and not its centre"
    ((drawn, aligned),) = of(found, "M6")
    assert drawn == pytest.approx(np.sqrt(3), rel=0.01) and aligned == pytest.approx(3)


def test_projection_against_a_hand_computation() -> None:
    from emolib.paper import errata_demos
    from emolib.probes.directions import project_out

    target, held = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.allclose(project_out(target, held), torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64))
    found = errata_demos.projection("x", target, project_out(target, held), held)
    assert found.corrected == pytest.approx(7 / np.sqrt(2) / np.sqrt(50))
    assert found.stated == pytest.approx(0, abs=1e-12)


def test_four_labels_are_scored_on_a_fragment() -> None:
    from emolib.paper import errata_demos

    found = errata_demos.label_pieces(errata_demos.llama_2_like()).set_index("label")
    assert found.loc["disgust", "pieces"] == "disg + ust" and found.loc["disgust", "last"] == "ust"
    split = found.index[found["first"] != found["last"]]
    assert set(split) == {"boredom", "disgust", "guilt", "sadness"}
    assert (found["first"].drop(split) == found.index.drop(split)).all()
    assert errata_demos.pieces().corrected == 4

"""Errata against hand computations: the printed counts, the corpus, planted vectors and pieces."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from emolib.corpus import APPRAISALS, Corpus, load_corpus
from emolib.errata import Finding, cases, finding, table
from emolib.errata import corpus as errata_corpus
from emolib.errata import counts as errata_counts
from emolib.errata import paper as errata_paper


def of(findings: list[Finding], name: str) -> list[tuple[float, float]]:
    return [(found.stated, found.corrected) for found in findings if found.id == name]


@pytest.fixture(scope="module")
def paper_findings() -> list[Finding]:
    return errata_paper.from_paper() + errata_counts.from_counts()


def test_every_case_is_there_once_with_a_grade_and_words() -> None:
    found = cases()
    expected = [f"P{n}" for n in range(1, 38)] + [f"D{n}" for n in range(1, 12)] + ["X1", "X2", "X3"]
    assert list(found["id"]) == expected + [f"M{n}" for n in range(1, 18)]
    assert set(found["grade"]) == {"A", "B", "C"}
    assert (found["case"].str.len() > 10).all() and (found["where"] != "").all()
    assert found.loc[found["said"] == "", "id"].tolist() == ["P33"]
    graded_a = {"P12", "P15", "P20", "P24", "P28", "P33", "D1", "D6", "M2", "M6", "M10", "M13", "M14"}
    assert set(found.loc[found["grade"] == "A", "id"]) == graded_a


def test_findings_come_in_the_order_of_the_cases() -> None:
    rows = table([finding("M1", "b", 1, 2, "x"), finding("P4", "a", 1, 2, "x"), finding("M1", "c", 1, 2, "x")])
    assert rows["quantity"].tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="Q9"):
        table([finding("Q9", "a", 1, 2, "x")])


# Numbers of the authors' stored confusion matrix and figures, typed here by hand.


def test_swapped_sentences_are_decided_by_ratings_and_counts(paper_findings: list[Finding]) -> None:
    ((guilt, pride),) = of(paper_findings, "P4")
    assert (round(guilt, 2), round(pride, 2)) == (1.60, 4.52)
    ((sadness, guilt),) = of(paper_findings, "P5")
    assert (round(sadness, 2), round(guilt, 2)) == (2.01, 4.07)
    assert of(paper_findings, "P6") == [(0, 2340), (4, 2410)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P7", [(1284, 173), (140, 0)]),
        ("P9", [(2009, 1746)]),
        ("P12", [(0.49, 0.69)]),
        ("P13", [(4.54, 4.07)]),
        ("P16", [(0.414, 0.283)]),
        ("P19", [(9, 10)]),
        ("P23", [(0.571, 0.69)]),
        ("P24", [(10, 5)]),
        ("P25", [(0.49, 0.27)]),
        ("P26", [(0.90, 0.942)]),
        ("P27", [(280, 918), (280, 2207)]),
        ("P28", [(0.705, 0.435)]),
        ("P30", [(0.015, 0.0214)]),
        ("P35", [(40, 55.8)]),
        ("D7", [(206, 457), (457, 206)]),
        ("M2", [(459, 6)]),
        ("D6", [(1925, 0), (1, 4675 / 6600)]),
    ],
)
def test_published_values_decide(name: str, expected: list, paper_findings: list[Finding]) -> None:
    found = of(paper_findings, name)
    assert len(found) == len(expected)
    for pair, wanted in zip(found, expected, strict=True):
        assert pair == pytest.approx(wanted, rel=0.005, abs=0.002)


def test_what_the_paper_does_not_state_has_no_stated_number(paper_findings: list[Finding]) -> None:
    assert [round(value, 3) for _, value in of(paper_findings, "M10")] == [0.055, 0.035, 0.130]
    assert of(paper_findings, "M17")[0][1] == pytest.approx(459 / 2740)
    assert of(paper_findings, "P36")[0][1] > 0
    assert of(paper_findings, "P37")[0][1] == 0, "the bar called human is the written labels"
    assert of(paper_findings, "M3")[0][1] == pytest.approx(0.07, abs=0.001)
    assert of(paper_findings, "M13")[0][1] == pytest.approx(0.622, abs=0.001)
    silent = [found for found in paper_findings if found.id in ("M10", "M17", "P36")]
    assert all(np.isnan(found.stated) for found in silent)


def test_a_planted_window_is_found_wherever_it_is() -> None:
    rows = [dict(span=1, layer=layer, value=layer / 10) for layer in range(6)]
    rows += [dict(span=3, layer=layer, value=(layer + 1) / 10) for layer in range(1, 5)]
    assert errata_paper.vacuous_window(pd.DataFrame(rows)) == (0.0, 4)
    rows[7]["value"] += 0.25
    gap, pairs = errata_paper.vacuous_window(pd.DataFrame(rows))
    assert gap == pytest.approx(0.25) and pairs == 4


def test_the_paper_s_own_windows_on_the_stream_are_vacuous(paper_findings: list[Finding]) -> None:
    ((_, gap),) = of(paper_findings, "M1")
    assert gap < 0.002, "both readings have an error of .001"


# Corpora


@pytest.fixture(scope="module")
def situations() -> Corpus:
    return load_corpus("situations")


def test_label_only_r2_is_the_share_between_groups(situations: Corpus) -> None:
    events = situations.events.iloc[:4].assign(emotion=["joy", "joy", "fear", "fear"], pleasantness=[4, 5, 1, 2])
    planted = replace(situations, events=events)
    # total variance 2.5, between the means 4.5 and 1.5 it is 2.25
    assert errata_corpus.explained(planted, "pleasantness") == pytest.approx(2.25 / 2.5)


def test_masking_and_decoding_count_planted_differences(situations: Corpus) -> None:
    events = situations.events.head(26)
    changed = events.assign(text=["..." + text if i < 3 else text for i, text in enumerate(events["text"])])
    found = errata_corpus.masking(replace(situations, events=changed), replace(situations, events=events))
    assert found[0].corrected == 3
    garbled = events.assign(text=[text + "\x92" if i < 5 else text for i, text in enumerate(events["text"])])
    pair = errata_corpus.decoding(replace(situations, events=events), replace(situations, events=garbled))
    assert [one.corrected for one in pair] == [5, 5]


def test_the_corpus_decides_its_own_counts(crowd_envent_path: Path) -> None:
    found = errata_corpus.from_corpus(str(crowd_envent_path))
    assert of(found, "P1") == [(6800, 6600), (23, len(APPRAISALS)), (500, 550), (250, 275)]
    assert [one.corrected for one in found if one.id == "P33"][0] == 2126
    shares = [round(one.corrected, 2) for one in found if one.id == "P33"][1:]
    assert shares == [0.22, 0.44]
    assert [one.corrected for one in found if one.id == "P34"] == [183, 183]
    assert [one.corrected for one in found if one.id == "M11"] == [12, 14]
    label = {one.quantity.split()[2][:-1]: (one.stated, one.corrected) for one in found if one.id == "M14"}
    assert label["pleasantness"] == pytest.approx((0.703, 0.626), abs=0.002)
    assert label["other_responsblt"] == pytest.approx((0.433, 0.118), abs=0.002)
    ((bar, answers),) = of(found, "P37")
    assert bar == pytest.approx(550 / 6600) and abs(bar - answers) > 0.03


# Demonstrations


@pytest.fixture(scope="module")
def demos() -> list[Finding]:
    from emolib.errata import demos as errata_demos

    return errata_demos.from_demos()


def test_the_injected_vector_is_not_the_projected_one(demos: list[Finding]) -> None:
    ((computed, injected),) = of(demos, "D1")
    assert computed < 1e-10 and 0.38 < injected < 0.50


def test_projection_against_a_hand_computation() -> None:
    from emolib.directions import project_out
    from emolib.errata import demos as errata_demos

    target, held = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.allclose(project_out(target, held), torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64))
    (found,) = errata_demos._projection("x", target, project_out(target, held), held)
    assert found.corrected == pytest.approx(7 / np.sqrt(2) / np.sqrt(50))
    assert found.stated == pytest.approx(0, abs=1e-12)


def test_random_pushes_add_up_to_the_root_of_three(demos: list[Finding]) -> None:
    ((drawn, aligned),) = of(demos, "M6")
    assert drawn == pytest.approx(np.sqrt(3), rel=0.01) and aligned == pytest.approx(3)


def test_a_window_on_the_stream_equals_its_last_layer_and_not_its_centre(demos: list[Finding]) -> None:
    ((centre, last),) = of(demos, "M1")
    assert last < 1e-4 < centre


def test_a_norm_after_the_sub_layer_breaks_the_sum_as_released_only(demos: list[Finding]) -> None:
    ((released, described),) = of(demos, "M15")
    assert described < 1e-5 and released > 0.1


def test_four_labels_are_scored_on_a_fragment() -> None:
    from emolib.errata import demos as errata_demos

    found = errata_demos.label_pieces(errata_demos.llama_2_like()).set_index("label")
    assert found.loc["disgust", "pieces"] == "disg + ust" and found.loc["disgust", "last"] == "ust"
    split = found.index[found["first"] != found["last"]]
    assert set(split) == {"boredom", "disgust", "guilt", "sadness"}
    assert (found["first"].drop(split) == found.index.drop(split)).all()


def test_findings_on_a_run_s_own_activations(tiny_study) -> None:
    from emolib.errata import demos as errata_demos

    found = errata_demos.from_study(tiny_study) if len(tiny_study.agreed) > 5 else errata_demos.norms(tiny_study)
    stream = tiny_study.activations("resid_post", 0).float()
    assert of(found, "M8")[0][0] == pytest.approx(stream.square().sum(-1).sqrt().mean().item(), rel=1e-5)
    for computed, injected in of(found, "D1"):
        assert computed < 1e-6 < injected


def test_cases_and_published_findings_need_no_model_library() -> None:
    code = "import sys, emolib.errata.counts, emolib.errata.corpus; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)



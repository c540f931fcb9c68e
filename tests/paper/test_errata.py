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

from emolib.paper import claims
from emolib.paper.errata import Finding, cases, established, finding, table
from emolib.paper.errata import corpus as errata_corpus
from emolib.paper.errata import counts as errata_counts
from emolib.paper.errata import paper as errata_paper
from emolib.study.run import REFERENCE
from emolib.tables import paper as paper_values
from emolib.texts.corpus import APPRAISALS, EMOTIONS, Corpus, load_corpus
from helpers import ROOT


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


def test_a_case_is_computed_read_or_computed_where_it_refers_to() -> None:
    found = established({"D1", "D6", "M1"})
    assert found.loc[["D1", "P15", "P19", "P20", "P21"]].tolist() == ["computed", "see D1", "see M1", "see D6", "read"]
    assert established({"D6", "D8"})["P20"] == "see D6 and D8"
    assert set(established(set())) == {"read"} and len(found) == len(cases())
    assert established({"P15", "D1"})["P15"] == "computed", "its own number comes first"
    waiting = established({"D1", "M5"}, waiting=("M5", "P11", "P15"))
    assert waiting.loc[["M5", "P11", "P15", "P14"]].tolist() == ["computed", "another run", "see D1", "read"]


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
        ("D7", [(201, 457), (463, 206)]),
        ("D8", [(3337, 3413), (3740, 3702)]),
        ("P2", [(3, 3.82)]),
        ("P8", [(14, 1)]),
        ("P17", [(1, 10)]),
        ("X1", [(1, 6), (1, 3), (1, 3)]),
        ("M12", [(2740 / 6600, 188 / 550), (2740 / 6600, 162 / 550)]),
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
    silent = [found for found in paper_findings if found.id in ("M10", "M17")]
    assert all(np.isnan(found.stated) for found in silent)


def test_readings_of_figure_24_are_the_exchanged_counts_within_reading_error(paper_findings: list[Finding]) -> None:
    (boredom, true_boredom), (sadness, true_sadness) = of(paper_findings, "D7")
    assert abs(boredom - true_sadness) <= 6 and abs(sadness - true_boredom) <= 6
    assert abs(boredom - true_boredom) > 200 < abs(sadness - true_sadness)


def test_late_cosines_are_those_of_random_vectors_more_often(paper_findings: list[Finding]) -> None:
    rows = paper_values.values("geometry")
    late = [abs(row.value) < 0.0442 for row in rows.itertuples() if row.layer + 1 >= 13]
    early = [abs(row.value) < 0.0442 for row in rows.itertuples() if row.layer + 1 < 13]
    assert (len(early), len(late)) == (6 * 2 * 12, 6 * 2 * 4)
    assert of(paper_findings, "P36")[1] == pytest.approx((sum(early) / len(early), sum(late) / len(late)))


def test_the_label_explains_what_the_published_baseline_says(
    crowd_envent: Corpus, paper_findings: list[Finding]
) -> None:
    confusion = paper_values.values("behaviour", metric="confusion_count", **errata_paper.DEFAULT)
    agreed = {a: n for (a, b), n in zip(confusion["label"].str.split("=>"), confusion["value"], strict=True) if a == b}
    label = crowd_envent.events["emotion"]
    weights = label.map(agreed) / label.map(label.value_counts())
    found = {one.quantity.split()[2][:-1]: one.corrected for one in paper_findings if one.id == "M14"}
    assert len(found) == 6
    for name, published in found.items():
        ratings = crowd_envent.ratings[name].astype(float)
        means = ratings.groupby(label).transform("mean")
        centre = np.average(ratings, weights=weights)
        share = np.average((means - centre) ** 2, weights=weights) / np.average(
            (ratings - centre) ** 2, weights=weights
        )
        assert published == pytest.approx(share, abs=0.002)


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


def test_the_corpus_decides_its_own_counts(
    crowd_envent_path: Path, paper_findings: list[Finding], demos: list[Finding]
) -> None:
    others = {one.id for one in [*paper_findings, *demos]}
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
    assert {one.id for one in found} - others == set(errata_corpus.ONLY_HERE)
    ((bar, answers),) = of(found, "P37")
    assert bar == pytest.approx(550 / 6600) and abs(bar - answers) > 0.03


# Demonstrations


@pytest.fixture(scope="module")
def demos() -> list[Finding]:
    from emolib.paper.errata import demos as errata_demos
    from emolib.paper.errata import networks

    return errata_demos.from_demos() + networks.from_networks()


def test_the_injected_vector_is_not_the_projected_one(demos: list[Finding]) -> None:
    ((computed, injected),) = of(demos, "D1")
    assert computed < 1e-10 and 0.38 < injected < 0.50


def test_projection_against_a_hand_computation() -> None:
    from emolib.paper.errata import demos as errata_demos
    from emolib.probes.directions import project_out

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


def test_the_equation_with_the_layer_before_gives_the_stream_and_the_printed_one_does_not() -> None:
    from emolib.engine.checks import PROBES
    from emolib.engine.tiny import tiny_model
    from emolib.paper.errata import networks

    model = tiny_model("llama")
    caught: dict[str, list[torch.Tensor]] = {"attention": [], "before": [], "after": []}
    for layer in model.hf.model.layers:
        layer.self_attn.register_forward_hook(lambda m, i, out: caught["attention"].append(out[0][0, -1]))
        layer.register_forward_pre_hook(lambda m, args: caught["before"].append(args[0][0, -1]))
        layer.register_forward_hook(lambda m, i, out: caught["after"].append(out[0, -1]))
    for probe in PROBES:
        model.hf(model.tokenizer(probe, return_tensors="pt")["input_ids"])
    attention, before, after = (torch.stack(caught[name]).double() for name in ("attention", "before", "after"))
    blocks = [*model.hf.model.layers] * len(PROBES)

    def missed(stream: torch.Tensor, normed: bool) -> float:
        x = stream + attention
        forward = []
        for block, row in zip(blocks, x, strict=True):
            weight = block.post_attention_layernorm.weight.double()
            row = weight * row / (row.square().mean() + 1e-6).sqrt() if normed else row
            gate, up, down = (getattr(block.mlp, f"{name}_proj").weight.double() for name in ("gate", "up", "down"))
            forward.append(down @ (torch.nn.functional.silu(gate @ row) * (up @ row)))
        step = after - before
        return float((attention + torch.stack(forward) - step).norm() / step.norm())

    slip, bare = networks.equation(tiny_model("llama"))
    assert slip.stated == pytest.approx(missed(after, True), rel=1e-3) and slip.stated > 0.1
    assert bare.stated == pytest.approx(missed(before, False), rel=1e-3) and bare.stated > 0.1
    assert slip.corrected == bare.corrected < 1e-5
    assert missed(before, True) < 1e-5, "the control: written out by hand, the corrected equation is exact"


def test_a_hook_whose_return_is_ignored_acts_only_in_place(demos: list[Finding]) -> None:
    from emolib.engine.tiny import tiny_model
    from emolib.paper.errata import networks

    (returned, in_place), used = of(demos, "X2")
    assert returned == 0 < in_place and used == (in_place, in_place)
    model = tiny_model("llama")
    before = networks._plain(model)
    model.hf.model.layers[1].mlp.down_proj.weight.zero_()  # a layer that is silent by its weights
    assert in_place == pytest.approx((networks._plain(model) - before).abs().max().item())


def test_hooked_logits_are_plain_logits_and_a_planted_difference_is_seen(
    demos: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    from emolib.paper.errata import networks

    ((unchanged, silenced),) = of(demos, "X3")
    assert unchanged < 1e-4 and silenced > 0.01
    plain = networks._plain
    monkeypatch.setattr(networks, "_plain", lambda model: 2 * plain(model))
    assert networks.hooked_and_plain()[0].stated == pytest.approx(0.5, rel=1e-3)


def test_vectors_of_one_seed_change_where_their_place_in_the_stream_does(demos: list[Finding]) -> None:
    def place(text: int, layer: int, size: int) -> int:
        return text // size * size * 3 + layer * size + text % size

    reversed_order, larger = of(demos, "M4")
    sites = [(text, layer) for text in range(64) for layer in range(3)]
    moved = [place(text, layer, 8) != place(63 - text, layer, 8) for text, layer in sites]
    assert reversed_order == (np.mean(moved), 0)
    moved = [place(text, layer, 8) != place(text, layer, 16) for text, layer in sites]
    assert larger == (pytest.approx(np.mean(moved)), 0)


def test_random_vectors_of_both_kinds_differ_between_texts_and_layers() -> None:
    from emolib.paper.errata import networks

    for draw in (networks.one_seed, networks.own_seeds):
        vectors = draw(range(4), 2, 3, 48).flatten(0, 1)
        assert len(torch.unique(vectors, dim=0)) == 12


def test_four_labels_are_scored_on_a_fragment() -> None:
    from emolib.paper.errata import demos as errata_demos

    found = errata_demos.label_pieces(errata_demos.llama_2_like()).set_index("label")
    assert found.loc["disgust", "pieces"] == "disg + ust" and found.loc["disgust", "last"] == "ust"
    split = found.index[found["first"] != found["last"]]
    assert set(split) == {"boredom", "disgust", "guilt", "sadness"}
    assert (found["first"].drop(split) == found.index.drop(split)).all()


def test_findings_on_a_run_s_own_activations(tiny_study) -> None:
    from emolib.paper.errata import demos as errata_demos

    found = errata_demos.from_study(tiny_study) if len(tiny_study.agreed) > 5 else errata_demos.norms(tiny_study)
    stream = tiny_study.activations("resid_post", 0).float()
    assert of(found, "M8")[0][0] == pytest.approx(stream.square().sum(-1).sqrt().mean().item(), rel=1e-5)
    for computed, injected in of(found, "D1"):
        assert computed < 1e-6 < injected
    assert len(of(found, "P22")) == 1


def test_tokens_of_the_control_prompt_are_counted_letter_by_letter() -> None:
    from emolib.engine.tiny import byte_tokenizer
    from emolib.paper.errata import demos as errata_demos

    (found,) = errata_demos.control_prompt(byte_tokenizer())
    assert (found.stated, found.corrected) == (2, 1), "two semicolons; the u of mouldy"


def test_the_released_probe_stops_on_features_of_unequal_size() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from emolib.paper.errata import demos as errata_demos

    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    unit = random.standard_normal((300, 20)) + np.eye(20)[labels]
    unequal = unit * np.geomspace(0.01, 100, 20)
    raw, standardised = errata_demos.probe_iterations(torch.tensor(unequal).float(), labels)
    scaled = StandardScaler().fit_transform(unequal).astype(np.float32)
    assert standardised == LogisticRegression(C=1.0, max_iter=100).fit(scaled, labels).n_iter_[0] < 100
    assert raw == 100, "the limit"
    constant = torch.cat([torch.tensor(unit).float(), torch.ones(300, 1)], 1)
    assert errata_demos.probe_iterations(constant, labels)[1] < 100, "a feature without spread is no obstacle"


def test_thirteen_rows_do_not_take_nine(demos: list[Finding]) -> None:
    from emolib.paper.errata import demos as errata_demos

    assert of(demos, "D5") == [(13, 9), (0, 1)]
    rows, failing = errata_demos.missing_labels(missing=("trust",))
    assert (rows.corrected, failing.stated, failing.corrected) == (12, 0, 1)
    assert errata_demos.assign_rows(EMOTIONS, width=5, seed=1) == (13, 0)


def test_two_names_without_a_comma_are_one(demos: list[Finding]) -> None:
    assert of(demos, "D9") == [(2, 1)] and "firstsecond" == "firstsecond"


# Tables of a run


def test_planted_attention_is_averaged_over_the_middle_layers() -> None:
    from emolib.paper.errata import stored

    rows = [
        dict(condition="demonstrations:given", metric=metric, label="text", layer=layer, value=scale * layer)
        for metric, scale in (("top1_share", 0.01), ("top3_share", 0.02))
        for layer in range(10)
    ]
    rows += [row | dict(label="format", value=9.0) for row in rows]
    (found,) = stored.from_tables({"attention": pd.DataFrame(rows)})
    # of ten layers, depth .6 and .7 are the middle: indices 5 and 6
    assert (found.id, found.stated, found.corrected) == ("P11", pytest.approx(0.11), pytest.approx(0.055))
    assert "layers 6 to 7" in found.quantity


def planted_modulation() -> pd.DataFrame:
    from emolib.interventions import theory

    tail = ";vector:raw;unit:norm"
    pushed = dict(span=3, coefficient=0.1, n=50)
    rows = [dict(metric="count", label="anger", condition="baseline", value=5, n=50, coefficient=0.0)]
    for layer, anger in {1: 10, 2: 30, 3: 20}.items():
        up = dict(metric="count", label="anger", layer=layer, condition=f"other_responsblt:+1{tail}", value=anger)
        rows += [up | pushed, up | pushed | dict(coefficient=0.2, value=50), up | pushed | dict(span=1, value=49)]
        trained = dict(metric="selection_score", condition=tail[1:], layer=layer, value=layer / 10)
        rows.append(trained | pushed)
        names = [*theory.settings(), "self_responsblt:+1"]  # the last is not among the settings of the choice
        for place, name in enumerate(names):
            value = 100.0 if place == len(names) - 1 else layer / 20 + (0.01 if place % 2 else -0.01)
            rows.append(pushed | dict(metric="theory_score", layer=layer, condition=name + tail, value=value))
    return pd.DataFrame(rows).assign(label=lambda table: table["label"].fillna(""))


def test_planted_modulation_gives_shares_and_means_of_the_same_cells() -> None:
    from emolib.paper.errata import stored

    found = {
        one.id: one for one in stored.from_tables({"modulation": planted_modulation(), "ablation": pd.DataFrame()})
    }
    assert set(found) == {"P8", "M5"}
    assert (found["P8"].stated, found["P8"].corrected) == (pytest.approx(5 / 50), pytest.approx(30 / 50))
    assert (found["M5"].stated, found["M5"].corrected) == (pytest.approx(0.2), pytest.approx(0.1))
    assert stored.from_tables({}) == []


def test_the_tables_of_the_reference_run_are_read(paper_findings: list[Finding], demos: list[Finding]) -> None:
    from emolib.paper.errata import stored

    tables = claims.stored_runs(ROOT)[REFERENCE.slug]
    found = {one.id: one for one in stored.from_tables(tables)}
    rows = tables["attention"].query("condition == 'demonstrations:given' and label == 'text'")
    middle = rows[(rows["layer"] + 1 > 15) & (rows["layer"] + 1 <= 21)].groupby("metric")["value"].mean()
    assert found["P11"].stated == pytest.approx(middle["top3_share"])
    assert found["P11"].corrected == pytest.approx(middle["top1_share"])
    assert set(found) - {one.id for one in [*paper_findings, *demos]} == set(stored.ONLY_HERE)


def test_cases_and_published_findings_need_no_model_library() -> None:
    code = "import sys, emolib.paper.errata.counts, emolib.paper.errata.corpus; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

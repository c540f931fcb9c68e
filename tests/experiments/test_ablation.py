"""Ablations whose outcome is known: overwriting the last residual stream, and plain passes with hooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from emolib.engine.edits import Edit
from emolib.engine.sites import COMPONENTS
from emolib.experiments import ablation
from emolib.experiments.ablation import measure, views
from emolib.figures import spoken
from emolib.stats import landmarks
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT, plain_answers, plain_logits

KINDS = ("zero", "random", "mean", "resample")
LAST = 4  # of the five layers of the tiny model
SITE = ["method", "component", "layer", "span"]


@pytest.fixture(scope="module")
def study(tiny_run: Run, tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The full profile, with every other text counted as answered right: what a random model gets right is too few."""
    run, folder = replace(tiny_run, profile="full"), tmp_path_factory.mktemp("ablation")
    return Study(run, model=tiny_study.model, folder=folder, agreed=np.arange(1, len(tiny_study.truth), 2))


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return study.table(ablation)


def agreement(table: pd.DataFrame, kind: str, component: str, layer: int, span: int = 1) -> float:
    keys = dict(method=kind, component=component, layer=layer, span=span)
    return select(table, metric="agreement", **keys)["value"].item()


def test_every_site_has_every_ablation_once(table: pd.DataFrame) -> None:
    for metric in ("agreement", "recentred_agreement", "label_entropy"):
        found = select(table, metric=metric)
        assert len(found) == len(KINDS) * len(COMPONENTS) * (5 + 3)
        assert not found.duplicated(SITE).any()
    assert sorted(set(select(table, metric="agreement", span=3)["layer"])) == [1, 2, 3]
    assert set(table["position"]) == {"-1", ""}


def test_quick_runs_take_every_second_window_and_its_last_layer(study: Study, tiny_run: Run, tmp_path: Path) -> None:
    quick = Study(tiny_run, model=study.model, folder=tmp_path, agreed=study.agreed[:6])
    found = quick.table(ablation)
    assert sorted(set(select(found, metric="agreement", span=3)["layer"])) == [2]
    assert sorted(set(select(found, metric="agreement", span=1)["layer"])) == [1, 3]


def test_a_study_of_some_layers_ablates_no_others(study: Study, tiny_run: Run, tmp_path: Path) -> None:
    run = replace(tiny_run, profile="full")
    part = Study(run, model=study.model, folder=tmp_path, agreed=study.agreed[:6], only_layers=[LAST])
    found = select(part.table(ablation), metric="agreement")
    assert set(zip(found["layer"], found["span"], strict=True)) == {(LAST, 1)}  # three do not fit there


def test_resampling_the_last_stream_gives_the_answers_of_the_donors(study: Study, table: pd.DataFrame) -> None:
    rows = study.agreed
    donor = measure.donors(rows, len(study.truth), seed=study.run.seed).numpy()
    expected = (study.predicted[donor[rows]] == study.predicted[rows]).mean()
    assert 0 < expected < 0.5
    assert agreement(table, "resample", "resid_post", LAST) == pytest.approx(expected)
    share = np.bincount(study.predicted[donor[rows]], minlength=13) / len(rows)
    entropy = select(table, metric="label_entropy", method="resample", component="resid_post", layer=LAST)
    expected = -sum(p * np.log2(p) for p in share if p)
    assert entropy["value"].tolist() == pytest.approx([expected])


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_one_vector_for_all_in_the_last_stream_is_a_constant_answer(
    study: Study, table: pd.DataFrame, kind: str
) -> None:
    entropy = select(table, metric="label_entropy", method=kind, component="resid_post", layer=LAST)
    assert entropy["value"].tolist() == [0.0]
    shares = np.bincount(study.predicted[study.agreed], minlength=13) / len(study.agreed)
    assert agreement(table, kind, "resid_post", LAST) in shares.tolist()
    if kind == "zero":  # the norm of zero is zero, so the answer is what calibration alone says
        answer = int((-study.offsets).argmax())
        assert agreement(table, kind, "resid_post", LAST) == pytest.approx(shares[answer])


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_only_the_last_layer_of_a_span_in_the_stream_counts(table: pd.DataFrame, kind: str) -> None:
    for centre in (1, 2, 3):
        wide = agreement(table, kind, "resid_post", centre, span=3)
        assert wide == agreement(table, kind, "resid_post", centre + 1)


def test_a_wide_span_is_another_edit_elsewhere(table: pd.DataFrame) -> None:
    pairs = [(c, layer) for c in ("attn_out", "mlp_out") for layer in (1, 2, 3)]
    assert any(agreement(table, "zero", *site, span=3) != agreement(table, "zero", *site) for site in pairs)


@pytest.mark.parametrize(("component", "centre", "span"), [("attn_out", 3, 1), ("mlp_out", 1, 1), ("mlp_out", 3, 3)])
def test_zero_and_mean_ablation_equal_plain_passes(
    study: Study, table: pd.DataFrame, component: str, centre: int, span: int
) -> None:
    layers, rows = tuple(range(centre - span // 2, centre + span // 2 + 1)), study.agreed
    edit = Edit(component=component, layers=layers, operation=lambda activation, where: 0 * activation)  # type: ignore
    zero = plain_answers(study, rows, edit)
    expected = (zero == study.predicted[rows]).mean()
    assert agreement(table, "zero", component, centre, span) == pytest.approx(expected)
    if span == 1:
        everyone = study.activations(component, centre).mean(dim=0)  # type: ignore[arg-type]
        mean = plain_answers(study, rows, replace(edit, operation=lambda activation, where: everyone))
        expected = (mean == study.predicted[rows]).mean()
        assert agreement(table, "mean", component, centre, span) == pytest.approx(expected)


def test_what_an_edit_does_to_all_texts_alike_is_no_lost_answer(study: Study, table: pd.DataFrame) -> None:
    clean, rows = study.clean.logits[study.agreed], study.agreed
    one, other = torch.tensor([0.0, 9.0, *[0.0] * 11]), clean.roll(1, dims=0)
    edited = torch.stack([clean, clean + one, other, other + one], dim=1)  # the second edit raises one label for all
    alike = study.decide(edited - measure.shift(edited, clean))
    assert (study.decide(edited)[:, 1] == 1).all()
    assert (alike[:, 0] == study.predicted[rows]).all() and (alike[:, 1] == study.predicted[rows]).all()
    assert (alike[:, 2] == alike[:, 3]).all() and (alike[:, 2] != study.predicted[rows]).any()
    # zero in the last stream leaves nothing of a text: all scores are then the mean of the clean ones
    answer = int((clean.mean(dim=0) - study.offsets).argmax())
    kept = select(table, metric="recentred_agreement", method="zero", component="resid_post", layer=LAST)["value"]
    assert kept.tolist() == pytest.approx([(study.predicted[rows] == answer).mean()])


def test_recentred_agreement_equals_plain_passes(study: Study, table: pd.DataFrame) -> None:
    rows = study.agreed
    edit = Edit(component="attn_out", layers=(3,), operation=lambda activation, where: 0 * activation)  # type: ignore
    scores = torch.stack([plain_logits(study, row, edit) for row in rows])
    scores -= scores.mean(dim=0) - study.clean.logits[rows].mean(dim=0)
    expected = ((scores - study.offsets).argmax(dim=1).numpy() == study.predicted[rows]).mean()
    keys = dict(metric="recentred_agreement", method="zero", component="attn_out", layer=3, span=1)
    assert select(table, **keys)["value"].tolist() == pytest.approx([expected])


def test_areas_under_the_curve_equal_plain_passes_and_scikit_learn(study: Study, table: pd.DataFrame) -> None:
    rows = study.agreed
    edit = Edit(component="attn_out", layers=(3,), operation=lambda activation, where: 0 * activation)  # type: ignore
    edited = torch.stack([plain_logits(study, row, edit) for row in rows])
    sites = {"zero": dict(component="attn_out", layer=3, span=1), "": dict(component="")}
    for (method, site), scores in zip(sites.items(), (edited, study.clean.logits[rows]), strict=True):
        own = (scores - scores.mean(dim=1, keepdim=True)).numpy()
        labels = [c for c in range(13) if (study.predicted[rows] == c).any()]
        areas = [roc_auc_score(study.predicted[rows] == c, own[:, c]) for c in labels]
        found = select(table, metric="auroc", method=method, **site)["value"]
        assert found.tolist() == pytest.approx([np.mean(areas)], abs=2e-3)  # near ties may turn
    gone = select(table, metric="auroc", method="zero", component="resid_post", layer=LAST)["value"]
    assert gone.tolist() == pytest.approx([0.5]), "zero in the last stream leaves nothing of a text"


def test_where_all_have_one_answer_there_is_no_area_and_the_rest_is_measured(
    study: Study, tiny_run: Run, tmp_path: Path
) -> None:
    most = np.bincount(study.predicted).argmax()
    same = np.flatnonzero(study.predicted == most)[:6]
    assert len(same) == 6
    found = Study(tiny_run, model=study.model, folder=tmp_path, agreed=same).table(ablation)
    assert set(found["metric"]) == {"agreement", "recentred_agreement", "label_entropy", "constant_agreement"}
    assert views.told_apart(found).empty and views.least_kept(found, "auroc").empty


def test_the_view_of_areas_has_sub_layers_by_span(table: pd.DataFrame) -> None:
    found = views.told_apart(table)
    assert set(found["component"]) == set(views.SUBLAYERS) and set(found["method"]) == {"zero"}
    assert found.groupby("panel").size().to_dict() == {"one layer": 2 * 5, "3 layers": 2 * 3}


def test_the_floor_by_hand(study: Study, table: pd.DataFrame) -> None:
    answers = study.predicted[study.agreed].tolist()
    most = max(set(answers), key=answers.count)
    floor = select(table, metric="constant_agreement")
    assert floor["label"].tolist() == [EMOTIONS[most]]
    assert floor["value"].tolist() == pytest.approx([answers.count(most) / len(answers)])
    assert floor["n"].tolist() == [len(answers)]
    constant = [agreement(table, kind, "resid_post", LAST) for kind in ("zero", "mean")]
    assert max(constant) <= floor["value"].item() + 1e-9


def test_agreement_has_intervals_and_is_a_share_of_the_agreed_texts(study: Study, table: pd.DataFrame) -> None:
    found = select(table, metric="agreement")
    n = len(study.agreed)
    assert set(found["n"]) == {n}
    assert np.allclose(found["value"] * n, (found["value"] * n).round())
    assert (found["ci_low"] < found["ci_high"]).all()
    assert found["value"].between(found["ci_low"], found["ci_high"]).all()
    entropy = select(table, metric="label_entropy")["value"]
    assert entropy.between(0, np.log2(13)).all()


def test_the_same_run_gives_the_same_table_and_another_seed_other_draws(
    study: Study, table: pd.DataFrame, tiny_run: Run, tmp_path: Path
) -> None:
    fixed = ["zero", "mean", ""]
    for seed, equal in ((0, True), (1, False)):
        run = replace(tiny_run, profile="full", seed=seed)
        found = Study(run, model=study.model, folder=tmp_path, agreed=study.agreed).table(ablation)
        for rows, same in ((table["method"].isin(fixed), True), (~table["method"].isin(fixed), equal)):
            numbers = [frame.loc[rows, ["value", "ci_low", "ci_high"]] for frame in (table, found)]
            assert numbers[0].equals(numbers[1]) == same


def test_donors_are_a_derangement_of_the_rows() -> None:
    for seed in range(30):
        rows = np.random.default_rng(seed).permutation(40)[: 2 + seed]
        donor = measure.donors(rows, 40, seed=seed).numpy()
        assert sorted(donor[rows]) == sorted(rows)
        assert (donor[rows] != rows).all()
        others = np.setdiff1d(np.arange(40), rows)
        assert np.array_equal(donor[others], others)


def test_donors_are_drawn_by_the_seed_and_do_not_follow_the_order_of_the_corpus() -> None:
    rows = np.arange(200)
    first, again, other = (measure.donors(rows, 200, seed=seed).numpy() for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.05
    assert abs(np.corrcoef(rows, first)[0, 1]) < 0.3


@pytest.mark.parametrize("right", [0, 1])
def test_too_few_right_answers_are_refused_before_any_edit(study: Study, right: int, tmp_path: Path) -> None:
    opened = Study(study.run, folder=tmp_path, agreed=np.arange(right))
    message = f"answers {right} of 150 texts right, and ablation needs two: try CORPUS=crowd-envent"
    with pytest.raises(ValueError, match=message):
        ablation.run(opened)


def test_views_find_in_the_golden_table_what_is_there() -> None:
    table = results.read(ROOT / "tests" / "golden" / "ablation.parquet")
    zero = select(table, metric="agreement", span=1, method="zero")
    stream = zero[zero["component"] == "resid_post"].set_index("layer")["value"].iloc[landmarks.EDGE : -landmarks.EDGE]
    lowest = views.lowest(zero, "component").set_index("component")
    assert lowest.loc["resid_post", ["layer", "value"]].tolist() == [stream.idxmin(), stream.min()]
    assert lowest.loc["resid_post", "where"] == stream.idxmin() + 1
    lows = views.lows(table).set_index("without")["as in the clean run"]
    assert lows["attention output, one layer"] == spoken(lowest.loc["attn_out"])
    one = select(table, metric="agreement", span=1, component=views.SUBLAYERS)
    there = views.in_its_place(one).set_index("component").loc["attn_out"]
    at = select(one, component="attn_out", layer=there["where"] - 1).set_index("method")["value"]
    assert there["zero"] == at["zero"] == lowest.loc["attn_out", "value"] and there["mean"] == at["mean"]
    assert there["zero"] + there["back"] * (1 - there["zero"]) == pytest.approx(at["mean"])
    assert views.lows(table[table["component"] == "resid_post"]).empty
    stream = select(table, metric="agreement", component="resid_post", method=views.ONE_VECTOR)
    apart = results.last_of_window(stream, "method")["apart"]
    assert len(apart) == 14 * 3 and apart.max() == 0
    theirs = views.paper_agreement(span=3, component=views.SUBLAYERS)
    assert len(theirs) == 2 * 2 * 14 and set(theirs["method"]) == {"zero", "random"}

"""Directions where the answer is known: planted ones, random ones, and scikit-learn's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge

from emolib.experiments import geometry
from emolib.experiments.geometry import alignment, measure, views
from emolib.experiments.geometry.alignment import Moments, Sample, components, correlation, interval, metrics
from emolib.probes.directions import class_directions, unit
from emolib.probes.linear import released_split
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.appraisals import APPRAISALS, EMOTIONS, NAMED
from helpers import ROOT, tiny_table

N, WIDTH, LAYERS, WRITERS = 520, 24, 2, 130
NOISE, PLANTED = 0, 1
AXES = {"pleasantness": 2, "other_responsblt": 7}


class PlantedStudy(Study):
    """A study without a model: the last layer holds two ratings along two axes, the first holds noise."""

    def activations(self, component: Any, layer: int, position: int = -1) -> torch.Tensor:
        noise = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(layer))
        if layer == PLANTED:
            for name, axis in AXES.items():
                noise[:, axis] += 2.0 * torch.as_tensor(self.events[name].to_numpy(dtype=np.float32))
        return noise


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Study:
    """520 texts whose pleasantness, its opposite and other-agency follow from the label; other ratings are random."""
    folder, random = tmp_path_factory.mktemp("planted"), np.random.default_rng(1)
    table = tiny_table(N, writers=WRITERS, seed=3)
    label = pd.Categorical(table["emotion"], categories=EMOTIONS).codes
    luck = random.integers(0, 2, (3, N))
    table["pleasantness"] = 1 + label % 4 + luck[0]
    table["unpleasantness"] = 5 - label % 4 - luck[1]
    table["other_responsblt"] = 1 + (label * 7 % 13) // 4 + luck[2]
    table.to_csv(folder / "planted.csv", index=False)
    right = random.random(N) < 0.8
    run = Run(model=str(tiny_folder), corpus=str(folder / "planted.csv"), profile="full")
    model = SimpleNamespace(n_layers=LAYERS, width=WIDTH)
    return PlantedStudy(run, model=model, agreed=np.flatnonzero(right), folder=folder)


@pytest.fixture(scope="module")
def table(planted: Study) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "HALVING", (0.5, 1.0))
        return results.tidy(measure.run(planted), "geometry", n_layers=LAYERS, model="planted")


@pytest.fixture(scope="module")
def everyone(planted: Study) -> Sample:
    return sampled(planted, np.arange(N))


def sampled(study: Study, rows: np.ndarray) -> Sample:
    rated = study.events[list(NAMED)].to_numpy(dtype=np.float32)
    return Sample(study.truth, rated, study.groups, rows, n_classes=13, draws=20, splits=3, seed=0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def own(vector: str) -> dict[str, str]:
    """The keys of a kind of vector on the texts that it is meant for."""
    return dict(vector=vector, set="agreed" if vector == "probe" else "all")


def level(table: pd.DataFrame, metric: str, layer: int, **keys: str) -> float:
    return select(table, metric=metric, layer=layer, **keys)["value"].item()


@pytest.mark.parametrize("vector", ["probe", "mean_difference", "whitened", "lda"])
def test_planted_directions_are_aligned_as_planted(planted: Study, table: pd.DataFrame, vector: str) -> None:
    rated = planted.events[list(AXES)].to_numpy(dtype=float)
    contrast = planted.events.groupby("emotion")[list(AXES)].mean() - rated.mean(axis=0)
    rising = np.cov(rated.T)  # in the plane of the two axes: how both ratings move with each
    for emotion in EMOTIONS:
        here = [level(table, "cosine", PLANTED, emotion=emotion, appraisal=name, **own(vector)) for name in AXES]
        if vector == "mean_difference":
            assert np.allclose(here, [cosine(contrast.loc[emotion], v) for v in rising], atol=0.15), emotion
        for value, gap in zip(here, contrast.loc[emotion], strict=True):
            assert value * np.sign(gap) > 0 or abs(gap) < 0.8, (emotion, gap)


@pytest.mark.parametrize("vector", ["probe", "mean_difference", "whitened", "lda"])
def test_without_knowledge_alignment_is_there_by_construction_and_gone_between_halves(
    table: pd.DataFrame, vector: str
) -> None:
    found, built, split, null = (
        level(table, f"alignment{end}", NOISE, **own(vector)) for end in ("", "_by_construction", "_split", "_null")
    )
    band = select(table, metric="alignment_by_construction", layer=NOISE, **own(vector)).iloc[0]
    assert built > 0.15 and band["ci_low"] < found < band["ci_high"]  # noise aligns, as much as shuffles say
    assert abs(split) < 0.12 and abs(null) < 0.06  # unless the two directions come from different writers, or ratings
    assert level(table, "alignment_split", PLANTED, **own(vector)) > 3 * max(abs(split), 0.05)


def test_ratings_that_were_not_planted_are_orthogonal_to_what_was(table: pd.DataFrame) -> None:
    rows = select(table, metric=["cosine", "cosine_null"], layer=PLANTED, **own("whitened"))
    wide = rows.pivot(index=["appraisal", "emotion"], columns="metric", values=["value", "ci_low", "ci_high"])
    value = wide["value"]["cosine"]
    outside = (value < wide["ci_low"]["cosine_null"]) | (value > wide["ci_high"]["cosine_null"])
    share = outside.groupby(level="appraisal").mean()
    assert share[["pleasantness", "unpleasantness", "other_responsblt"]].min() > 0.5
    # an accidental correlation with a planted rating takes all thirteen emotions along, so one appraisal may stray
    assert share[["suddenness", "predict_event", "self_responsblt"]].median() < 0.1


def test_closed_directions_are_those_of_the_library_and_of_numpy(planted: Study, everyone: Sample) -> None:
    x = planted.activations("resid_post", PLANTED)
    rated = planted.events[list(NAMED)].to_numpy(dtype=float)
    known, turns = Moments(x, everyone), metrics(x, everyone.labels)
    classes = class_directions(x, torch.as_tensor(planted.truth), n_classes=13).double().numpy()
    ours = (known.value @ turns["mean_difference"]).double().numpy()
    assert all(cosine(a, b) == pytest.approx(1, abs=1e-4) for a, b in zip(classes, ours[:13], strict=True))
    by_hand = np.stack([((rated[:, k] - rated[:, k].mean())[:, None] * x.numpy()).mean(0) for k in range(6)])
    assert np.allclose(known.value[13:], by_hand, atol=1e-4)
    found = known.cosines(turns["mean_difference"]).value
    assert found[5, 1] == pytest.approx(cosine(known.value[5].numpy(), by_hand[1]), abs=1e-4)


def test_whitened_cosines_do_not_depend_on_the_basis(planted: Study, everyone: Sample) -> None:
    x = planted.activations("resid_post", PLANTED)
    stretched = x * torch.logspace(-2, 2, WIDTH)
    found, same = (
        Moments(part, everyone).cosines(metrics(part, everyone.labels)["whitened"]).value for part in (x, stretched)
    )
    raw, other = (Moments(part, everyone).cosines(torch.eye(WIDTH)).value for part in (x, stretched))
    assert np.allclose(found, same, atol=1e-3) and not np.allclose(raw, other, atol=0.2)


def test_the_metric_whitens(planted: Study) -> None:
    x = planted.activations("resid_post", PLANTED)
    turns = metrics(x, planted.truth)
    assert torch.allclose(turns["whitened"] @ turns["whitened"].T, turns["lda"], atol=1e-5)
    within = x.numpy() - pd.DataFrame(x.numpy()).groupby(planted.truth).transform("mean").to_numpy()
    scale = x.numpy().std(axis=0)
    covariance = LedoitWolf(assume_centered=True).fit(within / scale).covariance_ * np.outer(scale, scale)
    turn = turns["whitened"].numpy()
    assert np.allclose(turn.T @ covariance @ turn, np.eye(WIDTH), atol=1e-4)


def test_resamples_and_halves_are_those_of_the_texts_drawn(planted: Study, everyone: Sample) -> None:
    x, known = planted.activations("resid_post", PLANTED), Moments(planted.activations("resid_post", PLANTED), everyone)
    copies = np.repeat(np.arange(N), everyone.weights[4].int().numpy())
    target = everyone.targets[copies]
    expected = (target - target.mean(0)).T @ (x[copies] - x[copies].mean(0)) / len(copies)
    assert torch.allclose(known.resampled[4], expected, atol=1e-4)
    half = everyone.halves[1]
    assert not set(everyone.groups[half]) & set(everyone.groups[~half])
    for side, rows in enumerate((half, ~half)):
        target = everyone.targets[rows]
        expected = (target - target.mean(0)).T @ (x[rows] - x[rows].mean(0)) / rows.sum()
        assert torch.allclose(known.halved[side, 1], expected, atol=1e-4)
    order = everyone.orders[2]
    shuffled = everyone.targets[order]
    expected = (shuffled - shuffled.mean(0)).T @ (x - x.mean(0)) / N
    assert torch.allclose(known.shuffled[2], expected, atol=1e-4)
    found = known.cosines(torch.eye(WIDTH))
    first, second = unit(known.halved[:, 1].double()).numpy()
    assert found.split[1, 5, 2] == pytest.approx((first[5] @ second[15] + second[5] @ first[15]) / 2)
    expected = cosine(known.value[5].numpy(), known.shuffled[2, 15].numpy())
    assert found.apart[2, 5, 2] == pytest.approx(expected, abs=1e-5)
    assert found.together[2, 5, 2] == pytest.approx(cosine(*known.shuffled[2, [5, 15]].numpy()), abs=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_probe_cosines_are_those_of_the_papers_code(planted: Study) -> None:
    split = released_split(planted.agreed, planted.truth)
    assert split
    train, _ = split
    x = planted.activations("resid_post", PLANTED)[train]
    of = sampled(planted, train)
    found = measure.probe_cosines(x, of, 4, 2, 3, seed=0)
    rated = planted.events[list(NAMED)].to_numpy(dtype=float)[train]
    features, labels = x.double().numpy(), planted.truth[train]
    emotions = LogisticRegression(max_iter=100).fit(x.numpy(), labels)
    rising = Ridge(alpha=5.0).fit(features, rated).coef_
    for row, label in enumerate(emotions.classes_):
        expected = [cosine(emotions.coef_[row], v) for v in rising]
        assert found.value[label].tolist() == pytest.approx(expected, abs=2e-3)
    keep = measure.left_out(of.groups, 4, seed=0)[3]
    emotions = LogisticRegression(max_iter=100).fit(x.numpy()[keep], labels[keep])
    rising = Ridge(alpha=5.0).fit(features[keep], rated[keep]).coef_
    assert found.replicates[3, emotions.classes_[2], 1] == pytest.approx(cosine(emotions.coef_[2], rising[1]), abs=2e-3)
    half = of.halves[1]
    first, second = (LogisticRegression(max_iter=100).fit(x.numpy()[rows], labels[rows]) for rows in (half, ~half))
    others, own = (Ridge(alpha=5.0).fit(features[rows], rated[rows]).coef_[1] for rows in (~half, half))
    expected = (cosine(first.coef_[3], others) + cosine(second.coef_[3], own)) / 2
    assert len(first.classes_) == len(second.classes_) == 13
    assert found.split[1, 3, 1] == pytest.approx(expected, abs=2e-3)
    assert found.split.shape == (3, 13, 6) and found.together.shape == (2, 13, 6)
    assert found.factor == pytest.approx(3 / 2)


def test_left_out_parts_are_whole_writers_and_each_is_left_out_once(planted: Study) -> None:
    keep = measure.left_out(planted.groups, 10, seed=0)
    assert keep.shape == (10, N) and ((~keep).sum(0) == 1).all()
    for rows in keep:
        assert not set(planted.groups[rows]) & set(planted.groups[~rows])
    assert not np.array_equal(keep, measure.left_out(planted.groups, 10, seed=1))  # the run's seed decides


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    draws = np.random.default_rng(0).normal(size=12)
    without = np.array([np.delete(draws, i).mean() for i in range(12)])
    found = interval(draws.mean(), without, factor=11 / 12**0.5)
    half = student.ppf(0.975, 11) * draws.std(ddof=1) / 12**0.5
    assert (found.value - found.ci_low, found.ci_high - found.value) == pytest.approx((half, half))


def test_intervals_of_cosines_stay_within_one_and_are_fishers() -> None:
    replicates = np.tanh(np.arctanh(0.98) + np.array([-1.0, 0.0, 1.0]))
    found = interval(np.array(0.98), replicates, scale="cosine")
    reach = student.ppf(0.975, 2)
    assert found.ci_high == pytest.approx(np.tanh(np.arctanh(0.98) + reach)) and found.ci_high <= 1
    assert found.ci_low == pytest.approx(np.tanh(np.arctanh(0.98) - reach))


def test_components_are_scikit_learns() -> None:
    centroids = np.random.default_rng(0).normal(size=(13, 30))
    shares, places = components(torch.as_tensor(centroids))
    model = PCA().fit(centroids)
    assert np.allclose(shares, model.explained_variance_ratio_[:12])
    expected = model.transform(centroids)
    assert all(correlation(places[:, k], expected[:, k]) == pytest.approx(1) for k in range(12))
    assert np.allclose(np.abs(places[:, :12]), np.abs(expected[:, :12]))
    outer = np.random.default_rng(1).normal(size=13)
    assert correlation(places[:, 0], outer) == pytest.approx(abs(np.corrcoef(places[:, 0], outer)[0, 1]))


@pytest.mark.parametrize("kind", ["mean_difference", "whitened"])
def test_the_first_component_is_valence_where_it_was_planted(table: pd.DataFrame, kind: str) -> None:
    assert level(table, "pc1_valence", PLANTED, **own(kind)) > 0.8
    assert level(table, "pc1_valence_p", PLANTED, **own(kind)) < 0.01
    assert level(table, "pc1_valence_p", NOISE, **own(kind)) > 0.02
    names = ("between_share", "between_share_null")
    share, null = (select(table, metric=metric, layer=PLANTED, **own(kind)).iloc[0] for metric in names)
    assert share["value"] > 2 * null["ci_high"]
    noise, null = (level(table, metric, NOISE, **own(kind)) for metric in names)
    assert noise == pytest.approx(null, rel=0.35) and null == pytest.approx(12 / N, rel=0.25)
    spots = select(table, metric="pc_coordinate", pc=1, layer=PLANTED, **own(kind))
    spots = spots.set_index("emotion")["value"]
    assert spots["disgust"] < spots["fear"]  # ids 2 and 3: neighbours in pleasantness, and the sign is the pleasant one
    assert len(spots) == 13 and abs(spots.sum()) < 1e-3 * spots.abs().sum()


def test_contrasts_are_those_of_the_ratings(planted: Study, table: pd.DataFrame) -> None:
    means = planted.events.groupby("emotion")[list(APPRAISALS)].mean()
    row = select(table, metric="rating_contrast", emotion="joy", appraisal="pleasantness").iloc[0]
    assert row["value"] == pytest.approx((means - means.mean()).loc["joy", "pleasantness"], abs=1e-5)
    assert row["ci_low"] < row["value"] < row["ci_high"] and row["n"] == (planted.truth == 5).sum()


def test_summaries_are_means_of_the_twelve(table: pd.DataFrame) -> None:
    contrast = select(table, metric="rating_contrast").set_index(["emotion", "appraisal"])["value"]
    sizes = {}
    for layer in range(LAYERS):
        rows = select(table, metric="cosine", layer=layer, emotion=geometry.SIX, appraisal=geometry.PLANE, **own("lda"))
        value = rows.set_index(["emotion", "appraisal"])["value"]
        assert len(value) == 12
        signed, sizes[layer] = value * np.sign(contrast[value.index]), value.abs().mean()
        assert level(table, "alignment", layer, **own("lda")) == pytest.approx(signed.mean())
        assert level(table, "magnitude", layer, **own("lda")) == pytest.approx(sizes[layer])
    for metric in ("halving", "fade"):
        row = select(table, metric=metric, **own("lda")).iloc[0]
        assert row["value"] == pytest.approx(sizes[1] / sizes[0]) and row["ci_low"] < row["value"] < row["ci_high"]


def test_where_too_few_answers_are_right_all_that_needs_none_is_measured(
    planted: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "HALVING", (0.5, 1.0))
    few = PlantedStudy(planted.run, model=planted.model, agreed=planted.agreed[:40], folder=planted.folder)
    found = few.table(geometry)
    closed = table[table["set"] != "agreed"].reset_index(drop=True)
    run = ["model", "prompt", "seed"]
    pd.testing.assert_frame_equal(found.drop(columns=run), closed.drop(columns=run))
    assert f"the model answers 40 of {N} texts right, and the paper's probes" in found.attrs["left_out"]
    assert views.kinds(found) == ["mean_difference", "whitened", "lda"] and len(views.alignment_by_half(found)) == 2
    assert views.walks(found)["panel"].nunique() == 3 and views.fading(found)["name"].nunique() == 3
    assert list(views.reach(found).index) == ["mean difference", "whitened", "LDA"]
    assert list(views.expected_signs(found))[2:] == ["mean difference", "whitened", "LDA"]
    for view in (views.aligned, views.beyond_construction, views.early_signs):
        with pytest.raises(results.Absent):
            view(found)


def test_quick_runs_read_every_third_layer_to_the_last(planted: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def stop(layers: list[int], *_: Any, **__: Any) -> list[int]:
        seen.extend(layers)
        raise InterruptedError

    model = SimpleNamespace(n_layers=8, width=WIDTH)
    quick = Study(replace(planted.run, profile="quick"), model=model, agreed=planted.agreed, folder=planted.folder)
    monkeypatch.setattr(measure, "progress", stop)
    with pytest.raises(InterruptedError):
        measure.run(quick)
    assert seen == [1, 4, 7]


def test_absent_emotions_have_no_direction(planted: Study) -> None:
    rows = np.flatnonzero(planted.truth != 5)
    of = sampled(planted, rows)
    x = planted.activations("resid_post", PLANTED)[rows]
    found = Moments(x, of).cosines(alignment.metrics(x, of.labels)["whitened"])
    assert np.isnan(found.value[5]).all() and not np.isnan(np.delete(found.value, 5, axis=0)).any()
    cells = list(measure.cosine_rows(found, nulls=True))
    assert len(cells) == 12 * 6 * 3 and not any(row["emotion"] == "joy" for row in cells)


def golden() -> pd.DataFrame:
    return results.read(ROOT / "tests/golden/geometry.parquet")


def test_views_are_the_table() -> None:
    data = golden()
    twelve = views.cosines(data)
    assert set(twelve.groupby(["vector", "layer"]).size()) == {12}
    assert set(twelve.groupby("vector")["set"].unique().map(tuple)) == {("agreed",), ("all",)}
    signs = views.expected_signs(data).loc[("joy", "pleasantness")]
    early = select(twelve, vector="lda", emotion="joy", appraisal="pleasantness", layer=[2, 5, 8, 11, 14])
    assert signs["LDA"] == (early["value"] > 0).mean() and signs.iloc[0] > 0
    halves = views.alignment_by_half(data)
    lines = select(views.alignment(data), vector="whitened", kind="measured")
    first = lines[lines["depth"] <= 0.5]["value"].mean()
    assert halves.loc["whitened", "measured"].startswith(f"{first:.2f} and ")
    reach = views.chance(data).loc["probe", ("reach", "first half")]
    null = select(views.cosines(data, "cosine_null"), vector="probe")
    null = null[null["depth"] <= 0.5]
    assert reach == pytest.approx(((null["ci_high"] - null["ci_low"]) / 2).mean())
    shown = views.reach(data).loc["probe"]
    assert shown["shuffled ratings reach"].startswith(f"±{reach:.2f} and ") and len(shown) == 2
    assert views.beyond_construction(data)["shown"].item() == halves.loc["probe", "beyond both shuffled"]
    layer = views.clearest_layer(data)
    spots, shares = views.emotion_places(data)
    assert len(spots) == 13 and shares[0] > shares[1] > 0
    joy = select(data, metric="pc_coordinate", vector="whitened", layer=layer, pc=2, emotion="joy")["value"].item()
    assert spots.set_index("emotion").loc["joy", "y"] == joy


def test_valence_settles_behind_the_last_layer_where_shuffled_labels_do_as_well() -> None:
    data = golden()
    chosen = (data["vector"] == "mean_difference") & data["metric"].isin(["pc1_valence", "pc1_valence_null"])
    layers = sorted(data.loc[chosen, "layer"].unique())
    for last in (None, 2, len(layers) - 1):  # measured beyond shuffled but for one layer, and in an early one again
        planted = data.copy()
        planted.loc[chosen & (data["metric"] == "pc1_valence"), ["value", "ci_low", "ci_high"]] = [0.9, 0.8, 0.95]
        planted.loc[chosen & (data["metric"] == "pc1_valence_null"), ["value", "ci_low", "ci_high"]] = [0.2, 0.1, 0.5]
        if last is not None:
            planted.loc[chosen & data["layer"].isin([layers[0], layers[last]]), ["value", "ci_low"]] = [0.6, 0.3]
        found = views.valence_settles(planted)["layer"].tolist()
        assert found == layers[0 if last is None else last + 1 :][:1]
    row = views.spread_between(data).iloc[0]
    assert row["layer"] == data["n_layers"].max() - 1 and 0 < row["ci_low"] <= row["value"] < 1


def test_a_rating_whose_interval_includes_zero_gives_no_clear_sign() -> None:
    data = golden()
    rated = (data["metric"] == "rating_contrast") & (data["appraisal"] == "pleasantness")
    early = (data["metric"] == "cosine") & (data["vector"] == "probe") & (data["appraisal"] == "pleasantness")
    numbers = ["value", "ci_low", "ci_high"]
    data.loc[data["metric"] == "rating_contrast", numbers] = [1.0, 0.5, 1.5]
    data.loc[rated & (data["emotion"] == "joy"), numbers] = [-0.1, -0.3, 0.1]
    data.loc[early, "value"] = 0.2
    data.loc[early & (data["emotion"] == "joy"), "value"] = -0.2
    other = select(views.cosines(data), vector="probe", appraisal="other_responsblt")
    also = int((other[other["depth"] <= 0.5].groupby("emotion")["value"].mean() > 0).sum())
    found = views.early_signs(data).iloc[0]
    assert found["shown"] == f"{6 + also} of 12" and found["clear"] == f"{5 + also} of 11"
    shown = views.signs_in_words(data)
    assert (
        shown.loc["joy, pleasantness", "rating"] == "(−0.10)" and shown.loc["fear, pleasantness", "rating"] == "+1.00"
    )


def test_texts_without_one_of_the_six_are_drawn_without_it() -> None:
    data, signs = golden(), views.expected_signs(golden())
    fewer = data[data["emotion"] != "guilt"]
    pd.testing.assert_frame_equal(views.expected_signs(fewer), signs.drop(index="guilt", level="emotion"))
    whole = views.cosines(data)
    left, right = (rows.reset_index(drop=True) for rows in (views.cosines(fewer), whole[whole["emotion"] != "guilt"]))
    pd.testing.assert_frame_equal(left, right)
    assert len(views.walks(fewer)) < len(views.walks(data)) and len(views.chance(fewer)) == len(views.chance(data))


def test_the_papers_cosines_fade() -> None:
    ratios = views.published_fading().set_index("ratio")["value"]
    assert ratios.tolist() == pytest.approx([0.146, 0.457], abs=1e-3)

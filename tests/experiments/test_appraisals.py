"""Appraisals where the answer is known: activations that carry one rating, or only the label, or nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from emolib.engine.sites import COMPONENTS
from emolib.experiments import appraisals
from emolib.experiments.appraisals import measure, views
from emolib.probes import ridge as ratings
from emolib.stats import scores
from emolib.stats.sampling import halves
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import paper, results
from emolib.tables.results import select
from emolib.texts.corpus import APPRAISALS, EMOTIONS
from helpers import ROOT, tiny_table

N, WIDTH, LAYERS, WRITERS = 390, 20, 3, 78
CARRIES_RATING, CARRIES_LABEL = ("mlp_out", 1), ("resid_post", 2)
FROM_LABEL, PLANTED = "pleasantness", "suddenness"


class PlantedStudy(Study):
    """A study without a model: one site holds one rating, one the writer's label, the others noise."""

    def activations(self, component: Any, layer: int, position: int = -1) -> torch.Tensor:
        noise = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(COMPONENTS.index(component) * 10 + layer))
        if (component, layer) == CARRIES_RATING:
            noise[:, 3] += 6.0 * torch.as_tensor(self.events[PLANTED].to_numpy(dtype=np.float32))
        if (component, layer) == CARRIES_LABEL:
            noise[:, :13] += 9.0 * torch.nn.functional.one_hot(torch.as_tensor(self.truth), 13)
        return noise


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Study:
    """390 texts; pleasantness follows from the label, all other ratings are random."""
    folder = tmp_path_factory.mktemp("planted")
    table = tiny_table(N, writers=WRITERS, seed=3)
    label = pd.Categorical(table["emotion"], categories=EMOTIONS).codes
    table[FROM_LABEL] = 1 + label % 4 + np.random.default_rng(1).integers(0, 2, N)
    table.to_csv(folder / "planted.csv", index=False)
    run = Run(model=str(tiny_folder), corpus=str(folder / "planted.csv"), profile="full")
    right = np.flatnonzero(np.random.default_rng(0).random(N) < 0.85)
    return PlantedStudy(run, model=SimpleNamespace(n_layers=LAYERS, components=COMPONENTS), agreed=right, folder=folder)


@pytest.fixture(scope="module")
def table(planted: Study) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "RESAMPLES", 60)
        return results.tidy(measure.run(planted), "appraisals", n_layers=LAYERS, model="planted")


OURS, RELEASED = dict(setting="ours", target="writer", set="all"), dict(setting="as_released")
SHUFFLED, LABEL = OURS | dict(target="shuffled"), dict(baseline="label", set="all")


def values(table: pd.DataFrame, metric: str, **keys: str) -> dict[tuple[str, int, str], float]:
    found = select(table, metric=metric, **keys)
    sites = zip(found["component"], found["layer"].astype(int), found["appraisal"], strict=True)
    return dict(zip(sites, found["value"], strict=True))


def real(planted: Study) -> np.ndarray:
    return planted.events[list(APPRAISALS)].to_numpy(dtype=float)


@pytest.mark.parametrize("keys", [OURS, RELEASED])
def test_the_rating_is_found_where_it_is_and_nowhere_else(table: pd.DataFrame, keys: dict[str, str]) -> None:
    found = values(table, "r2", **keys)
    assert len(found) == len(COMPONENTS) * LAYERS * len(APPRAISALS)
    ceiling = 0.05 if keys == OURS else 0.3  # five times fewer texts, and no choice of alpha
    for (component, layer, name), value in found.items():
        if (component, layer) == CARRIES_RATING and name == PLANTED:
            assert value > 0.9
        elif (component, layer) == CARRIES_LABEL and name == FROM_LABEL:
            assert value > 0.6
        else:
            assert value < ceiling, (component, layer, name)


def test_shuffled_ratings_are_not_found_even_where_the_rating_is(table: pd.DataFrame) -> None:
    null, full, gap = values(table, "r2", **SHUFFLED), values(table, "r2", **OURS), values(table, "selectivity", **OURS)
    assert max(null.values()) < 0.05
    assert gap == pytest.approx({key: full[key] - null[key] for key in full})


def test_what_the_label_tells_is_not_beyond_the_label(table: pd.DataFrame) -> None:
    base = select(table, metric="r2", **LABEL).set_index("appraisal")["value"]
    assert base[FROM_LABEL] > 0.6 and base.drop(FROM_LABEL).max() < 0.1
    partial, gain, full = (values(table, key, **OURS) for key in ("partial_r2", "r2_gain", "r2"))
    for (component, layer, name), value in partial.items():
        assert (value > 0.9) == ((component, layer) == CARRIES_RATING and name == PLANTED)
        assert value > 0.9 or value < 0.05, (component, layer, name)
    assert gain == pytest.approx({key: value - base[key[2]] for key, value in full.items()})
    assert full[(*CARRIES_LABEL, FROM_LABEL)] > 0.6 > 0.05 > partial[(*CARRIES_LABEL, FROM_LABEL)]


def test_partial_r2_has_an_interval_that_tells(table: pd.DataFrame) -> None:
    rows = select(table, metric="partial_r2").set_index(["component", "layer", "appraisal"])
    assert rows.loc[(*CARRIES_RATING, PLANTED), "ci_low"] > 0.85
    others = rows.drop([(*CARRIES_RATING, PLANTED)])
    assert (others["ci_low"] > 0).mean() < 0.06  # 2.5% expected where there is nothing


def test_the_released_probe_is_the_papers_code(planted: Study, table: pd.DataFrame) -> None:
    found = values(table, "r2", **RELEASED)
    for site in (CARRIES_RATING, ("attn_out", 0)):
        x, y = planted.activations(*site)[planted.agreed].double().numpy(), real(planted)[planted.agreed]
        x, held_out, y, truth = train_test_split(x, y, test_size=0.2, random_state=42)
        expected = r2_score(truth, Ridge(alpha=5.0).fit(x, y).predict(held_out), multioutput="raw_values")
        assert [found[(*site, name)] for name in APPRAISALS] == pytest.approx(expected.tolist(), abs=1e-6)
    base = select(table, baseline="label", set="agreed").set_index("appraisal")["value"]
    labels = np.eye(13)[planted.truth[planted.agreed]]
    a, b, y, truth = train_test_split(labels, real(planted)[planted.agreed], test_size=0.2, random_state=42)
    guess = LinearRegression(fit_intercept=False).fit(a, y).predict(b)
    expected = r2_score(truth, guess, multioutput="raw_values")
    assert base[list(APPRAISALS)].tolist() == pytest.approx(expected.tolist())


def test_profiles_are_means_by_emotion(planted: Study, table: pd.DataFrame) -> None:
    rows = select(table, metric="mean_rating").set_index(["emotion", "appraisal", "set"])
    for part, chosen in (("all", slice(None)), ("agreed", planted.agreed)):
        means = planted.events.iloc[chosen].groupby("emotion")[list(APPRAISALS)].mean()
        for emotion, name in (("joy", "pleasantness"), ("neutral", "effort")):
            row = rows.loc[(emotion, name, part)]
            assert row["value"] == pytest.approx(means.loc[emotion, name])
            assert row["ci_low"] < row["value"] < row["ci_high"]
    assert len(rows) == 2 * 13 * 21


def test_the_emotion_is_named_from_what_tells_it(table: pd.DataFrame) -> None:
    found = select(table, metric="emotion_from_appraisals")
    score = found.set_index(["source", "target", "layer"])["value"].sort_index()
    assert score["activations", "writer", 2] > 0.9
    assert 0.12 < score["ratings", "writer"].item() < 0.6  # five levels of pleasantness for 13 labels
    assert (select(found, target="shuffled")["value"] < 0.16).all()


def test_a_fall_is_measured_where_its_peak_was_not_looked_for() -> None:
    random = np.random.default_rng(0)
    falls = {"flat": [], "falling": []}
    for _ in range(200):
        for name, level in {"flat": np.zeros(8), "falling": np.linspace(0.5, 0, 8)}.items():
            table = level + random.normal(size=(60, 8))
            sides = np.repeat([[1.0, 0.0], [0.0, 1.0]], 30, axis=1)
            curve = scores.mean(table)
            peaks = curve(sides).argmax(axis=1)
            found = measure.fall(curve, peaks, sides[::-1], np.ones((1, 60)))[0, 0]
            first, second = table[:30].mean(0), table[30:].mean(0)
            by_hand = [second[first.argmax()] - second[-1], first[second.argmax()] - first[-1]]
            assert found == pytest.approx(np.mean(by_hand))
            falls[name].append(found)
    # a curve that does not fall has a highest point all the same
    assert abs(np.mean(falls["flat"])) < 0.03 < np.mean(falls["falling"]) - 0.2


def test_the_peak_of_a_fall_comes_from_the_other_half_of_the_writers(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(6)
    ratings = random.normal(size=(120, len(APPRAISALS)))
    curves = {layer: ratings + random.normal(size=ratings.shape) for layer in range(6)}
    folder = tmp_path_factory.mktemp("halves")
    tiny_table(120, writers=60).to_csv(folder / "own.csv", index=False)
    run = Run(model=str(tiny_folder), corpus=str(folder / "own.csv"))
    study = Study(run, model=SimpleNamespace(n_layers=6, components=COMPONENTS), folder=folder)
    rows = measure.peak_rows(study, ratings, curves)
    falls = {row["appraisal"]: row["value"] for row in rows if row["metric"] == "r2_fall"}
    half = halves(study.groups, seed=0)
    for column, name in enumerate(APPRAISALS):
        one, two = (
            [r2_score(ratings[side, column], guess[side, column]) for guess in curves.values()]
            for side in (half, ~half)
        )
        by_hand = (two[int(np.argmax(one))] - two[-1] + one[int(np.argmax(two))] - one[-1]) / 2
        assert falls[name] == pytest.approx(by_hand)


def test_peak_and_fall_are_those_of_the_curve(table: pd.DataFrame) -> None:
    curve = values(table, "r2", **OURS)
    peak, fall = (select(table, metric=metric).set_index("appraisal") for metric in ("peak_depth", "r2_fall"))
    for name in APPRAISALS:
        levels = [curve["resid_post", layer, name] for layer in range(LAYERS)]
        assert peak.loc[name, "value"] == (np.argmax(levels) + 1) / LAYERS
        assert fall.loc[name, "value"] == pytest.approx(max(levels) - levels[-1], abs=0.03)
        assert fall.loc[name, "layer"] == np.argmax(levels)


def test_readers_are_the_corpus_s_own(crowd_envent_path: Path, tiny_folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(measure, "RESAMPLES", 40)
    run = Run(model=str(tiny_folder), corpus="crowd-envent", corpus_path=str(crowd_envent_path), prompt="T1-2shot")
    study = Study(run)
    truth = study.events[list(APPRAISALS)].to_numpy(dtype=float)
    rows = pd.DataFrame(measure.reader_rows(study, truth, {0: truth.copy()}))
    for metric, reader in (("r_single_reader", "single"), ("r_mean_of_5", "mean_of_5")):
        ours = select(rows, model="human", metric="r", reader=reader).set_index("appraisal")
        theirs = paper.values("human", metric=metric).set_index("appraisal")["value"]
        assert (ours["value"] - theirs[ours.index]).abs().max() < 2e-4
        squares = select(rows, model="human", metric="r2", reader=reader).set_index("appraisal")["value"]
        assert (squares - ours["value"] ** 2).abs().max() < 1e-12
        assert (ours["ci_low"] < ours["value"]).all() and (ours["value"] < ours["ci_high"]).all()
    as_given = select(rows, metric="r2_as_given", reader="mean_of_5").set_index("appraisal")["value"]
    assert (as_given <= squares).all()  # the best straight line can only help
    same = select(rows, metric="r2", setting="ours", set="read")
    assert set(same["n"]) == {1200} and same["value"].min() == 1.0


def test_other_corpora_have_no_readers(table: pd.DataFrame) -> None:
    assert not (table["model"] == "human").any()


def test_a_corpus_without_ratings_is_refused_before_anything(tmp_path: Path, tiny_folder: Path) -> None:
    tiny_table().drop(columns=list(APPRAISALS)).to_csv(tmp_path / "bare.csv", index=False)
    study = Study(Run(model=str(tiny_folder), corpus=str(tmp_path / "bare.csv")), folder=tmp_path)
    with pytest.raises(ValueError, match="has no appraisal ratings"):
        measure.run(study)


def test_where_too_few_answers_are_right_all_that_needs_none_is_measured(
    planted: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESAMPLES", 60)
    right = np.flatnonzero(planted.truth < 2)[:30]
    few = PlantedStudy(planted.run, model=planted.model, agreed=right, folder=planted.folder)
    found = few.table(appraisals)
    rest, run = table["setting"].ne("as_released") & table["set"].ne("agreed"), ["model", "prompt", "seed"]
    ours, own = (
        rows.drop(columns=run).reset_index(drop=True) for rows in (table[rest], found[found["set"] != "agreed"])
    )
    pd.testing.assert_frame_equal(own, ours)
    assert set(found.loc[found["set"] == "agreed", "metric"]) == {"mean_rating"}
    assert f"the model answers 30 of {N} texts right" in found.attrs["left_out"] and not views.has_released(found)
    best = views.best_released(found)
    assert best[["ours", "label"]].isna().all(axis=None) and best["paper"].notna().all()
    assert len(views.set_gaps(found)) == 6  # of the six emotions anger alone


def test_the_grid_of_alphas_reaches_both_ends() -> None:
    assert ratings.ALPHAS[0] <= 10 and ratings.ALPHAS[-1] >= 1e6


def test_views_are_the_table() -> None:
    data = results.read(ROOT / "tests/golden/appraisals.parquet")
    released = views.released(data)
    assert released.groupby("component").size().to_dict() == dict.fromkeys([*COMPONENTS, "label only"], 60)
    best = views.best_released(data).loc["pleasantness"]
    probes = select(data, metric="r2", setting="as_released", appraisal="pleasantness")
    assert best["ours"] == probes["value"].max() and best["paper"] == pytest.approx(0.70, abs=0.01)
    ours = views.ours(data)
    assert ours["source"].unique().tolist() == ["residual stream", "shuffled", "label only"]
    stream = select(ours, source="residual stream", layer=2, appraisal="pleasantness")["value"].item()
    assert stream == values(data, "r2", **OURS)["resid_post", 2, "pleasantness"]
    beyond, layer = views.beyond_label(data), views.best_layer(data)
    assert beyond["value"].is_monotonic_decreasing and set(beyond["layer"]) == {layer} and len(beyond) == 21
    assert views.beside_readers(data).empty and views.set_gaps(data).shape == (36,)
    peak, fall = views.peak_and_fall(data)
    assert len(peak) == len(fall) == 6 and fall["value"].is_monotonic_decreasing
    late = data[(data["metric"] == "r2") & (data["component"] == "resid_post") & (data["layer"] == data["layer"].max())]
    data.loc[late.index, "value"] = np.where(late["setting"] == "as_released", -0.5, 0.5)
    assert views.lost_at_the_end(data) == "by the paper's probes for **6 of 6** and by ours for **0 of 6**"
    named = views.emotion_named(data)
    assert set(named["source"]) == {
        "all 21 ratings",
        "the six of the paper",
        "probed ratings",
        "residual stream",
        "shuffled labels",
    }
    assert named["target"].eq("shuffled").sum() == named["source"].eq("shuffled labels").sum() > 0


def test_a_probe_is_better_or_worse_than_readers_where_intervals_are_apart() -> None:
    data = results.read(ROOT / "tests/golden/appraisals.parquet")
    numbers = ["value", "ci_low", "ci_high"]
    probe = select(data, metric="r2", **views.STREAM, layer=views.best_layer(data)).assign(set="read")
    probe[numbers] = [0.5, 0.4, 0.6]
    readers = [probe.assign(model="human", component="", setting="", reader=name) for name in views.READERS]
    for rows, ends in zip(readers, ([0.2, 0.1, 0.3], [0.8, 0.7, 0.9]), strict=True):
        rows[numbers] = ends
    readers[1].iloc[0, readers[1].columns.get_loc("ci_low")] = 0.55  # one overlaps
    said = views.against_readers(pd.concat([data, probe, *readers]))
    assert said.startswith("Of 21 appraisals the probe predicts **21** better and **0** worse than one reader, and ")
    assert "**0** better and **20** worse than the mean of five" in said

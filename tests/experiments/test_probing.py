"""Probing where the answer is known: planted activations that carry the label at chosen sites and noise elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from emolib.engine.sites import COMPONENTS
from emolib.experiments import probing
from emolib.experiments.probing import measure, views
from emolib.stats import scores
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT, tiny_table

N, WIDTH, LAYERS, WRITERS = 390, 24, 4, 78
CARRIES_LAST = {("mlp_out", 1), ("resid_post", 2), ("resid_post", 3)}
CARRIES_THIRD = ("resid_post", 3, -3)
CHANCE = 1 / len(EMOTIONS)


class PlantedStudy(Study):
    """A study without a model: chosen sites hold the writer's label in noise, others noise."""

    def activations(self, component: Any, layer: int, position: int = -1) -> torch.Tensor:
        address = COMPONENTS.index(component) * 100 + layer * 10 - position
        noise = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(address))
        if ((component, layer) in CARRIES_LAST and position == -1) or (component, layer, position) == CARRIES_THIRD:
            noise[:, : len(EMOTIONS)] += 8.0 * torch.nn.functional.one_hot(torch.as_tensor(self.truth), len(EMOTIONS))
        return noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where 390 texts lie, 30 of each emotion."""
    folder = tmp_path_factory.mktemp("planted")
    tiny_table(N, writers=WRITERS, seed=3).to_csv(folder / "planted.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def planted(folder: Path, tiny_folder: Path) -> Callable[..., PlantedStudy]:
    """The study of these texts, of which the model answers 85% as the writers did."""
    run = Run(model=str(tiny_folder), corpus=str(folder / "planted.csv"), calibration="none")
    random, truth = np.random.default_rng(0), Study(run).truth
    wrong = (truth + random.integers(1, 13, N)) % 13
    answers = np.where(random.random(N) < 0.85, truth, wrong)
    logits = torch.nn.functional.one_hot(torch.as_tensor(answers), len(EMOTIONS)).float()
    clean: Any = SimpleNamespace(logits=logits)
    model: Any = SimpleNamespace(n_layers=LAYERS, components=COMPONENTS)

    def open_study(profile: str = "quick", **arguments: Any) -> PlantedStudy:
        given = dict(folder=folder, model=model, clean=clean) | arguments
        return PlantedStudy(replace(run, profile=profile), **given)

    return open_study


@pytest.fixture(scope="module")
def table(planted: Callable[..., PlantedStudy]) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "RESAMPLES", 60)  # the intervals are tested with emolib.stats.intervals
        return planted().table(probing)


Curve = dict[tuple[str, int], float]


def curve(table: pd.DataFrame, metric: str, *, position: str = "-1", **keys: str) -> Curve:
    found = select(table, metric=metric, position=position, **keys)
    sites = zip(found["component"], found["layer"].astype(int), strict=True)
    return dict(zip(sites, found["value"], strict=True))


@pytest.mark.parametrize(
    "keys",
    [
        dict(metric="accuracy", setting="as_released", probe="linear"),
        dict(metric="accuracy", setting="as_released", probe="mlp"),
        dict(metric="balanced_accuracy", setting="ours", target="writer"),
    ],
)
def test_the_label_is_found_where_it_is_and_nowhere_else(table: pd.DataFrame, keys: dict[str, str]) -> None:
    found = curve(table, **keys)
    assert set(found) == {(component, layer) for component in COMPONENTS for layer in range(LAYERS)}
    for site, value in found.items():
        if site in CARRIES_LAST:
            assert value > 0.9, site
        else:
            assert value < CHANCE + 0.14, site


def test_the_token_is_the_one_that_carries_it(table: pd.DataFrame) -> None:
    for position in ("-2", "-3", "-4", "-5"):
        found = curve(table, "balanced_accuracy", position=position, target="writer")
        assert set(found) == {("resid_post", 0), ("resid_post", 3)}  # quick: the stream only, at every third layer
        assert (found["resid_post", 3] > 0.9) == (position == "-3")


def test_full_runs_probe_every_site(planted: Callable[..., PlantedStudy], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def stop(sites: list[tuple[str, int, int]], *_: Any, **__: Any) -> list[Any]:
        seen.extend(sites)
        raise InterruptedError

    monkeypatch.setattr(measure, "progress", stop)
    for profile, count in (("quick", 3 * LAYERS + 4 * 2), ("full", 5 * 3 * LAYERS)):
        seen.clear()
        with pytest.raises(InterruptedError):
            probing.run(planted(profile))
        assert len(seen) == len(set(seen)) == count


def test_shuffled_labels_are_at_chance_even_where_the_label_is(table: pd.DataFrame) -> None:
    found = curve(table, "balanced_accuracy", target="shuffled")
    assert max(found.values()) < CHANCE + 0.1
    assert abs(np.mean(list(found.values())) - CHANCE) < 0.03


def test_selectivity_is_the_gap(table: pd.DataFrame) -> None:
    found = curve(table, "selectivity", target="writer")
    writer, shuffled = (curve(table, "balanced_accuracy", target=target) for target in ("writer", "shuffled"))
    assert found == pytest.approx({site: writer[site] - shuffled[site] for site in writer})
    assert all((found[site] > 0.8) == (site in CARRIES_LAST) for site in found)


def test_the_models_own_answer_is_found_as_far_as_it_is_the_writers(
    planted: Callable[..., PlantedStudy], table: pd.DataFrame
) -> None:
    found, writer = (curve(table, "balanced_accuracy", target=target) for target in ("model", "writer"))
    same = (planted().predicted == planted().truth).mean()
    for site in CARRIES_LAST:
        assert same - 0.12 < found[site] < same + 0.03
        assert found[site] < writer[site] - 0.05


def test_the_released_probe_is_the_papers_code(planted: Callable[..., PlantedStudy], table: pd.DataFrame) -> None:
    found, study = curve(table, "accuracy", setting="as_released", probe="linear"), planted()
    for site in (("mlp_out", 1), ("attn_out", 0)):
        features = study.activations(*site)[study.agreed].numpy()
        labels = study.truth[study.agreed]
        x, held_out, y, truth = train_test_split(features, labels, test_size=0.2, random_state=42)
        probe = LogisticRegression(max_iter=100).fit(x, y)
        assert found[site] == pytest.approx(probe.score(held_out, truth), abs=1.5 / len(truth))
    assert set(select(table, setting="as_released", metric="accuracy")["n"]) == {len(truth)}


@pytest.mark.parametrize("setting", ["as_released", "ours"])
def test_each_curve_saturates_where_it_was_planted(table: pd.DataFrame, setting: str) -> None:
    found = select(table, metric="saturation_depth", setting=setting).set_index("component")
    assert found.loc["mlp_out", "value"] == 2 / LAYERS  # the second of four layers
    assert found.loc["resid_post", "value"] == 3 / LAYERS
    steps = found[["value", "ci_low", "ci_high"]].loc[["mlp_out", "resid_post"]]
    assert steps.loc["mlp_out"].tolist() == [2 / LAYERS] * 3  # one layer alone: no doubt where
    assert steps["ci_low"].ge(1 / LAYERS).all() and steps["ci_high"].le(1).all()


@pytest.mark.parametrize(("second", "depth"), [(0.9, 1.0), (0.98, 0.5)])
def test_saturation_by_hand(planted: Callable[..., PlantedStudy], second: float, depth: float) -> None:
    # 0.9 is below 95% of the maximum, so the last of four layers; 0.98 is above.
    study, random = planted(), np.random.default_rng(0)
    shares = (0.3, second, 0.8, 1.0)
    right = np.stack([random.random(N) < share for share in shares], axis=1)
    answers = np.where(right, study.predicted[:, None], (study.predicted[:, None] + 1) % 13)
    curves = {"as_released": scores.mean(right), "ours": scores.balanced_accuracy(study.predicted, answers)}
    keys = measure.RELEASED, measure.OURS | dict(target="model")
    places = zip(curves.values(), keys, (np.arange(N), None), strict=True)
    (released,), (ours,) = (measure._saturation(study, "mlp_out", *place) for place in places)
    for row in (released, ours):
        assert (row["value"], row["n"], row["metric"], row["position"]) == (depth, N, "saturation_depth", "-1")
    assert (released["setting"], ours["setting"], ours["target"]) == ("as_released", "ours", "model")


def test_every_row_has_an_interval_around_its_value(table: pd.DataFrame) -> None:
    assert table["value"].between(table["ci_low"] - 1e-9, table["ci_high"] + 1e-9).all()
    assert set(select(table, metric="balanced_accuracy")["n"]) == {N}


@pytest.mark.parametrize("right", [0, 60])
def test_where_too_few_answers_are_right_all_that_needs_none_is_measured(
    planted: Callable[..., PlantedStudy], table: pd.DataFrame, right: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty spread over thirteen labels are too few for five of one label in the test part."""
    monkeypatch.setattr(measure, "RESAMPLES", 60)
    found = planted(agreed=np.arange(right)).table(probing)
    ours = table[table["setting"] == "ours"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, ours)
    said = found.attrs["left_out"]
    assert said.startswith(f"Left out are the probes as released: the model answers {right} of {N} texts right, and ")
    assert "try CORPUS=crowd-envent, which has 6,600 texts, CALIBRATION=batch, another PROMPT or" in said
    assert not views.has_released(found) and views.has_released(table) and not table.attrs


def test_a_model_that_always_answers_alike_is_probed_for_the_writers_label(
    planted: Callable[..., PlantedStudy], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESAMPLES", 60)
    one: Any = SimpleNamespace(logits=torch.eye(len(EMOTIONS))[[3] * N])
    found = planted(clean=one).table(probing)
    assert set(found["target"]) == {"writer", "shuffled"} and not views.has_released(found)
    ours = table[(table["setting"] == "ours") & (table["target"] != "model")].reset_index(drop=True)
    ours = ours[found.columns]
    same = pd.testing.assert_frame_equal
    same(found.drop(columns=["value", "ci_low", "ci_high"]), ours.drop(columns=["value", "ci_low", "ci_high"]))
    assert np.allclose(found[["value", "ci_low", "ci_high"]], ours[["value", "ci_low", "ci_high"]], atol=0.02)
    assert "it hardly ever gives another than one" in found.attrs["left_out"]


def test_too_few_texts_are_refused_before_any_probe(tiny_folder: Path, tmp_path: Path) -> None:
    tiny_table(49).to_csv(tmp_path / "few.csv", index=False)
    study = Study(Run(model=str(tiny_folder), corpus=str(tmp_path / "few.csv")), folder=tmp_path, agreed=np.arange(49))
    with pytest.raises(ValueError, match="too few texts to probe: 49"):
        probing.run(study)
    assert "model" not in vars(study)


def test_views_find_in_the_golden_table_what_is_there() -> None:
    table = results.read(ROOT / "tests" / "golden" / "probing.parquet")
    stream = views.released(table).query("component == 'resid_post'").set_index("layer")["value"]
    assert views.best(table, **views.RELEASED)["value"] == stream.max()
    every = select(table, metric="accuracy", setting="as_released", probe="linear")
    assert views.best_released(table)["value"].tolist() == [every["value"].max()]
    whose = views.by_target(table)
    assert set(whose["target"]) == set(views.TARGETS.values()) and (whose["position"] == "-1").all()
    assert views.paper_saturations()["Llama 3.2 1B"] == 10 / 16 and len(views.paper_saturations()) == 10
    both, theirs, gain = views.nonlinear(table)
    assert set(both["probe"]) == {"linear", "non-linear"} and set(theirs["probe"]) == {"non-linear"}
    means = both.groupby(["component", "probe"])["value"].mean().unstack()
    assert gain.to_dict() == pytest.approx((means["non-linear"] - means["linear"]).to_dict())

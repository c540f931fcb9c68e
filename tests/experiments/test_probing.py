"""Probing where the answer is known: planted activations that carry the label at chosen sites and noise elsewhere."""

from __future__ import annotations

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
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS
from helpers import tiny_table

N, WIDTH, LAYERS, WRITERS = 390, 24, 4, 78
CARRIES_LAST = {("mlp_out", 1), ("resid_post", 2), ("resid_post", 3)}
CARRIES_THIRD = ("resid_post", 2, -3)
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
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Study:
    """390 texts, 30 of each emotion; the model answers 85 % of them as the writers did."""
    folder = tmp_path_factory.mktemp("planted")
    tiny_table(N, writers=WRITERS, seed=3).to_csv(folder / "planted.csv", index=False)
    study = PlantedStudy(Run(model=str(tiny_folder), corpus=str(folder / "planted.csv")), folder=folder)
    random = np.random.default_rng(0)
    wrong = (study.truth + random.integers(1, 13, N)) % 13
    study.__dict__["predicted"] = np.where(random.random(N) < 0.85, study.truth, wrong)
    study.__dict__["model"] = SimpleNamespace(n_layers=LAYERS)
    return study


@pytest.fixture(scope="module")
def table(planted: Study) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "RESAMPLES", 60)  # the intervals are tested with emolib.stats.intervals
        return results.tidy(probing.run(planted), experiment="probing", model="planted")


def curve(table: pd.DataFrame, metric: str, condition: str, position: str = "-1") -> dict[tuple[str, int], float]:
    found = select(table, metric=metric, condition=condition, position=position)
    sites = zip(found["component"], found["layer"].astype(int), strict=True)
    return dict(zip(sites, found["value"], strict=True))


@pytest.mark.parametrize(
    ("metric", "condition"),
    [
        ("accuracy", "setting:as_released"),
        ("accuracy", "probe:mlp"),
        ("balanced_accuracy", "setting:ours;target:writer"),
    ],
)
def test_the_label_is_found_where_it_is_and_nowhere_else(table: pd.DataFrame, metric: str, condition: str) -> None:
    found = curve(table, metric, condition)
    assert set(found) == {(component, layer) for component in COMPONENTS for layer in range(LAYERS)}
    for site, value in found.items():
        if site in CARRIES_LAST:
            assert value > 0.9, site
        else:
            assert value < CHANCE + 0.14, site


def test_the_token_is_the_one_that_carries_it(table: pd.DataFrame) -> None:
    for position in ("-2", "-3", "-4", "-5"):
        found = curve(table, "balanced_accuracy", "setting:ours;target:writer", position)
        assert set(found) == {("resid_post", 2)}  # quick: the stream only, at every third layer
        assert (found["resid_post", 2] > 0.9) == (position == "-3")


def test_full_runs_probe_every_site(planted: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def stop(sites: list[tuple[str, int, int]], *_: Any, **__: Any) -> list[Any]:
        seen.extend(sites)
        raise InterruptedError

    monkeypatch.setattr(probing, "progress", stop)
    for profile, count in (("quick", 3 * LAYERS + 4), ("full", 5 * 3 * LAYERS)):
        seen.clear()
        object.__setattr__(planted.run, "profile", profile)
        with pytest.raises(InterruptedError):
            probing.run(planted)
        assert len(seen) == len(set(seen)) == count
    object.__setattr__(planted.run, "profile", "quick")


def test_shuffled_labels_are_at_chance_even_where_the_label_is(table: pd.DataFrame) -> None:
    found = curve(table, "balanced_accuracy", "setting:ours;target:shuffled")
    assert max(found.values()) < CHANCE + 0.1
    assert abs(np.mean(list(found.values())) - CHANCE) < 0.03


def test_selectivity_is_the_gap(table: pd.DataFrame) -> None:
    found = curve(table, "selectivity", "setting:ours;target:writer")
    writer = curve(table, "balanced_accuracy", "setting:ours;target:writer")
    shuffled = curve(table, "balanced_accuracy", "setting:ours;target:shuffled")
    assert found == pytest.approx({site: writer[site] - shuffled[site] for site in writer})
    assert all((found[site] > 0.8) == (site in CARRIES_LAST) for site in found)


def test_the_models_own_answer_is_found_as_far_as_it_is_the_writers(planted: Study, table: pd.DataFrame) -> None:
    found = curve(table, "balanced_accuracy", "setting:ours;target:model")
    same = (planted.predicted == planted.truth).mean()
    writer = curve(table, "balanced_accuracy", "setting:ours;target:writer")
    for site in CARRIES_LAST:
        assert same - 0.12 < found[site] < same + 0.03
        assert found[site] < writer[site] - 0.05


def test_the_released_probe_is_the_papers_code(planted: Study, table: pd.DataFrame) -> None:
    found = curve(table, "accuracy", "setting:as_released")
    for site in (("mlp_out", 1), ("attn_out", 0)):
        features = planted.activations(*site)[planted.agreed].numpy()
        labels = planted.truth[planted.agreed]
        x, held_out, y, truth = train_test_split(features, labels, test_size=0.2, random_state=42)
        probe = LogisticRegression(max_iter=100).fit(x, y)
        assert found[site] == pytest.approx(probe.score(held_out, truth), abs=1.5 / len(truth))
    assert set(select(table, condition="setting:as_released", metric="accuracy")["n"]) == {len(truth)}


def test_each_curve_saturates_where_it_was_planted(table: pd.DataFrame) -> None:
    for condition in ("setting:as_released", "setting:ours;target:model"):
        found = select(table, metric="saturation_depth", condition=condition).set_index("component")
        assert found.loc["mlp_out", "value"] == 2 / LAYERS  # the second of four layers
        assert found.loc["resid_post", "value"] == 3 / LAYERS
        steps = found[["value", "ci_low", "ci_high"]].loc[["mlp_out", "resid_post"]]
        assert steps.loc["mlp_out"].tolist() == [2 / LAYERS] * 3  # one layer alone: no doubt where
        assert steps["ci_low"].ge(1 / LAYERS).all() and steps["ci_high"].le(1).all()


def test_saturation_by_hand(planted: Study) -> None:
    random = np.random.default_rng(0)
    truth = planted.predicted
    layers = [np.where(random.random(N) < share, truth, (truth + 1) % 13) for share in (0.3, 0.9, 0.8, 1.0)]
    curves: Any = {("setting:ours;target:model", "mlp_out"): layers}
    (row,) = probing._saturation(planted, curves, planted.groups)
    assert row["value"] == 1.0  # 0.9 is below 95 % of the maximum, so the last of four layers
    assert (row["n"], row["metric"], row["position"]) == (N, "saturation_depth", "-1")
    reached = [np.where(random.random(N) < share, truth, (truth + 1) % 13) for share in (0.3, 0.98, 0.8, 1.0)]
    (row,) = probing._saturation(planted, {("setting:ours;target:model", "mlp_out"): reached}, planted.groups)
    assert row["value"] == 0.5


def test_every_row_has_an_interval_around_its_value(table: pd.DataFrame) -> None:
    assert table["value"].between(table["ci_low"] - 1e-9, table["ci_high"] + 1e-9).all()
    assert (table["seed"].isna() | (table["seed"] == 0)).all()
    ours = select(table, metric="balanced_accuracy")
    assert set(ours["n"]) == {N}


@pytest.mark.parametrize("right", [5, 20, 60])
def test_too_few_right_answers_are_refused_before_any_probe(
    planted: Study, right: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sixty spread over thirteen labels are too few for five of one label in the test part.
    small = Study(planted.run, folder=planted.folder)
    small.__dict__.update(predicted=planted.predicted, agreed=np.arange(right), model=None)
    monkeypatch.setattr(small, "activations", None)
    with pytest.raises(ValueError, match=f"too few texts to probe: {right}, .*expected at least 50"):
        probing.run(small)

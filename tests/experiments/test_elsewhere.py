"""Every experiment on a model that runs elsewhere: its table is the one it has here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from emolib.engine.model import Model
from emolib.engine.remote import as_elsewhere
from emolib.interventions.steering import Design
from emolib.study.clean import Clean
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT, assert_agree, tiny_table

EXPERIMENTS = sorted(path.parent.name for path in (ROOT / "emolib" / "experiments").glob("*/measure.py"))
LAYERS = (1, 4)  # those measured, of five: a request takes a while
TEXTS, AGREED = 78, {"ablation": 26, "patching": 16}  # the others need 50


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of two emotions, so that few texts suffice, in texts of one length, so that they share requests."""
    table, path = tiny_table(TEXTS, writers=39), tmp_path_factory.mktemp("corpora") / "short.csv"
    table["emotion"] = [("joy", "sadness")[number // 2 % 2] for number in range(TEXTS)]
    table["text"] = [" ".join(text.split()[:6]) for text in table["text"]]
    table.to_csv(path, index=False)
    return Run(model=str(tiny_folder), corpus=str(path), device="cpu", calibration="none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def elsewhere(run: Run) -> Model:
    return as_elsewhere(Study(run).model)


@pytest.fixture
def given(run: Run, folder: Path) -> dict[str, Any]:
    """What a study is made with. The answers are planted: those of a random model are too many to probe."""
    truth = Study(run).truth
    clean = Clean(logits=torch.eye(len(EMOTIONS))[truth], sums=torch.eye(len(EMOTIONS))[truth], words=["joy"] * TEXTS)
    return dict(folder=folder, only_layers=LAYERS, agreed=np.arange(60), clean=clean)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """An experiment by its name, of small design."""

    def experiment(name: str) -> ModuleType:
        found, measure = (import_module(f"emolib.experiments.{name}{part}") for part in ("", ".measure"))
        if hasattr(measure, "QUICK"):
            few = [
                family._replace(
                    elsewhere=family.elsewhere[:1],
                    decisive=family.decisive[:1],
                    draws=tuple(min(n, 1) for n in family.draws),
                )
                for family in measure.QUICK.families
            ]
            monkeypatch.setattr(measure, "QUICK", Design(texts=4, choosing=4, step=4, families=few))
        return found

    return experiment


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_is_the_same_elsewhere(
    name: str,
    run: Run,
    tiny_study: Study,
    elsewhere: Model,
    given: dict[str, Any],
    measured: Callable[[str], ModuleType],
) -> None:
    experiment, model = measured(name), tiny_study.model
    given |= dict(agreed=np.arange(AGREED.get(name, 60)))
    tables = [Study(run, model=model, **given).table(experiment)]
    there = replace(run, device="ndif-local")
    tables.append(Study(there, model=elsewhere, **given).table(experiment))
    assert_agree(*tables)
    assert np.isfinite(tables[0]["value"]).any()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_model_whose_sublayers_do_not_add_up_is_measured_at_its_stream(
    name: str, run: Run, tiny_study: Study, given: dict[str, Any], measured: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    whole = tiny_study.model
    layout = replace(whole.layout, paths={"resid_post": whole.layout.paths["resid_post"]})
    experiment = measured(name)
    table, other = (
        Study(run, model=model, **given | dict(folder=tmp_path / str(number))).table(experiment)
        for number, model in enumerate((replace(whole, layout=layout), whole))
    )
    parts = {"attn_out", "mlp_out"}
    if "component" not in table:
        return pd.testing.assert_frame_equal(table, other)
    assert not set(table["component"]) & parts
    same = other[~other["component"].isin(parts) & (other["metric"].isin(table["metric"]))].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, same)


def test_a_run_elsewhere_is_kept_apart_and_says_so(run: Run, tmp_path: Path) -> None:
    from emolib.experiments import behaviour

    remote = replace(run, device="ndif-local")
    table, here = (Study(one, folder=tmp_path).measure(behaviour) for one in (remote, run))
    pd.testing.assert_frame_equal(table, here, atol=1e-4, rtol=0)
    about = table.attrs["provenance"]
    assert (about["device"], about["parameters"]["device"]) == ("ndif-local", "ndif-local")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {remote.slug, run.slug}
    assert "_ndif-local_" in remote.slug

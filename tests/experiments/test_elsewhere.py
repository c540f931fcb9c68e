"""Every experiment on a model that runs elsewhere: its table is the one it has here."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from emolib.engine.remote import as_elsewhere
from emolib.interventions.steering import Design
from emolib.study.clean import Clean
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT, tiny_table

EXPERIMENTS = sorted(path.parent.name for path in (ROOT / "emolib" / "experiments").glob("*/measure.py"))
LAYERS = (1, 4)  # those measured, of five: a request takes a while
TEXTS, AGREED = 78, {"ablation": 26, "patching": 26}  # the others need 50


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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_is_the_same_elsewhere(
    name: str, run: Run, tiny_study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, measure = (import_module(f"emolib.experiments.{name}{part}") for part in ("", ".measure"))
    if hasattr(measure, "QUICK"):
        few = [
            family._replace(
                elsewhere=family.elsewhere[:1],
                decisive=family.decisive[:1],
                draws=tuple(min(n, 1) for n in family.draws),
            )
            for family in measure.QUICK.families
        ]
        monkeypatch.setattr(measure, "QUICK", Design(texts=13, choosing=13, step=4, families=few))
    model, there = tiny_study.model, replace(run, device="ndif-local")
    truth = Study(run, model=model).truth
    # The answers are planted: those of a random model are too many to probe.
    clean = Clean(logits=torch.eye(len(EMOTIONS))[truth], sums=torch.eye(len(EMOTIONS))[truth], words=["joy"] * TEXTS)
    given = dict(folder=folder, only_layers=LAYERS, agreed=np.arange(AGREED.get(name, 60)), clean=clean)
    tables = [Study(run, model=model, **given).table(experiment)]
    tables.append(Study(there, model=as_elsewhere(model), **given).table(experiment))
    pd.testing.assert_frame_equal(*tables, atol=1e-4, rtol=0)
    assert np.isfinite(tables[0]["value"]).any()


def test_a_run_elsewhere_is_kept_apart_and_says_so(run: Run, tmp_path: Path) -> None:
    from emolib.experiments import behaviour

    remote = replace(run, device="ndif-local")
    table, here = (Study(one, folder=tmp_path).measure(behaviour) for one in (remote, run))
    pd.testing.assert_frame_equal(table, here, atol=1e-4, rtol=0)
    about = table.attrs["provenance"]
    assert (about["device"], about["parameters"]["device"]) == ("ndif-local", "ndif-local")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {remote.slug, run.slug}
    assert "_ndif-local_" in remote.slug

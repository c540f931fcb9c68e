"""The golden tables notice a changed number, and a stored run is held against its weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emolib import cli
from emolib.book.golden import FOLDER, golden
from emolib.book.run import write_parameters
from emolib.experiments import ablation
from emolib.study import freshness
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.provenance import collect_provenance
from helpers import ROOT

KEY = freshness.key(Run(), ablation)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of which the default run of one experiment is golden, and measured here."""
    for file in ("Snakefile", "_toc.yml", "notebooks/B_ablation.ipynb", "emolib/experiments/ablation/measure.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    table = results.read(ROOT / FOLDER / "ablation.parquet")
    store(tmp_path / FOLDER, table)
    store(freshness.table_path(Run(), ablation, tmp_path).parent, table)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store(folder: Path, table: pd.DataFrame, **changes: object) -> None:
    about = collect_provenance(parameters=Run().parameters(), device="cpu", seconds=1, **KEY | changes)
    results.write(table, folder / "ablation.parquet", about)


def measured(root: Path) -> Path:
    return freshness.table_path(Run(), ablation, root).parent


def test_every_experiment_has_a_golden_table_of_its_protocol() -> None:
    names = sorted(path.parent.name for path in (ROOT / "emolib" / "experiments").glob("*/measure.py"))
    assert sorted(path.stem for path in (ROOT / FOLDER).glob("*.parquet")) == names
    for name in names:
        made = results.read(ROOT / FOLDER / f"{name}.parquet").attrs["provenance"]
        now = freshness.key(Run(), import_module(f"emolib.experiments.{name}"))
        assert freshness.why_stale(made, now) is None, f"{name}: emolib golden --update"
        assert made["parameters"] == Run().parameters()


def test_what_has_not_changed_is_well(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["golden"]) == 0
    rows = len(results.read(root / FOLDER / "ablation.parquet"))
    assert f"ablation: {rows} rows agree, 0 flipped" in capsys.readouterr().out


def test_a_number_changed_on_purpose_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = results.read(root / FOLDER / "ablation.parquet")
    table.loc[table["metric"] == "label_entropy", "value"] *= 1.001
    store(measured(root), table)
    assert cli.main(["golden"]) == 1
    said = capsys.readouterr().out
    assert "label_entropy: 338 of 348 rows differ (17 may)" in said
    assert "numbers of ablation changed and its PROTOCOL did not" in said and "ablation/__init__.py" in said


def test_another_protocol_asks_for_an_update(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, other = ablation.PROTOCOL, ablation.PROTOCOL + 1
    monkeypatch.setattr(ablation, "PROTOCOL", other)
    assert cli.main(["golden"]) == 1
    assert "the stored table is stale, the experiment measures something else" in capsys.readouterr().out
    assert cli.main(["golden", "--update"]) == 2
    assert "emolib run --only B_ablation" in capsys.readouterr().err
    table = results.read(root / FOLDER / "ablation.parquet")
    clipped = table.assign(value=table["value"].clip(upper=0.3), ci_low=np.nan, ci_high=np.nan)
    store(measured(root), clipped, protocol=other)
    assert cli.main(["golden"]) == 1
    said = f"(protocol {now}, now {other}): look at the differences, then call emolib golden --update"
    assert said in capsys.readouterr().out
    assert cli.main(["golden", "--update"]) == 0
    assert list(golden(root)) == [(f"ablation: {len(table)} rows agree, 0 flipped", True)]


def test_what_was_not_measured_is_said(root: Path) -> None:
    (measured(root) / "ablation.parquet").unlink()
    assert list(golden(root)) == [("ablation: not measured here", True)]
    with pytest.raises(ValueError, match="emolib run --only B_ablation"):
        list(golden(root, update=True))


def test_verify_finds_the_cells_that_are_not_what_the_weights_give(
    root: Path, tiny_run: Run, tiny_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Study(tiny_run, model=tiny_study.model, folder=root).measure(ablation)
    path = freshness.table_path(tiny_run, ablation, root)
    assert cli.main(["verify", tiny_run.slug]) == 2
    assert "do not say where their model or corpus lies" in capsys.readouterr().err
    write_parameters(tiny_run, root)
    assert cli.main(["verify", tiny_run.slug, "--cells", "50"]) == 0
    said = capsys.readouterr().out
    assert "rows agree, 0 flipped; layers" in said and "largest difference: " in said
    table.loc[(table["metric"] == "agreement") & (table["method"] == "mean"), "ci_high"] = 1.0
    results.write(table, path, results.read(path).attrs["provenance"])
    assert cli.main(["verify", tiny_run.slug, "--cells", "1000"]) == 1
    assert "agreement: " in capsys.readouterr().out
    assert cli.main(["verify", "nothing"]) == 2
    assert f"no tables in results/nothing: choose from {Run().slug}, {tiny_run.slug}" in capsys.readouterr().err

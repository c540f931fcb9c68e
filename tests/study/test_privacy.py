"""Demographics, worker ids and texts of a corpus like crowd-enVENT never leave the loader: planted, then looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from emolib.book.run import execute
from emolib.study.needs import NEEDS
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.texts import sources
from emolib.texts.corpus import EMOTIONS, load_readings
from helpers import all_right, tiny_table

ROOT = Path(__file__).resolve().parents[2]
MARK = "zqxplantedzqx"
# Columns of the two published files that say who wrote or read, and the texts.
PERSONAL = ["prolific_id", "timestamp", "age", "gender", "education", "ethnicity", "original_demographics"]
TEXTS = ["generated_text", "hidden_emo_text"]


def planted() -> pd.DataFrame:
    """150 rows in the layout of crowd-enVENT, every personal cell and every text with a mark of its own."""
    table = tiny_table().rename(columns={"writer": "prolific_id"})
    table["emotion"] = table["annotator_emotion"] = [EMOTIONS[i % 3] for i in range(len(table))]
    for column in (*PERSONAL, *TEXTS):
        own = table["prolific_id"] if column == "prolific_id" else pd.Series(range(len(table))).astype(str)
        table[column] = f"{MARK}{column.replace('_', '')}" + own
    for column, end in zip(TEXTS, (" ", " ... "), strict=True):
        table[column] += end + table["text"]
    return table.drop(columns="text")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with both files of the corpus, registered as the published ones."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    entry = dict(sources.registry()["crowd-envent"])
    for part in ("texts", "readings"):
        path = folder / entry[part]["file"]
        planted().to_csv(path, index=False)
        entry[part] = {**entry[part], "sha256": sources.read_bytes(path).sha256}
    monkeypatch.setattr(sources, "registry", lambda: {**sources.packaged("corpora.yml"), "crowd-envent": entry})
    return folder


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder with its name and content, tables and their metadata unpacked."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content += table.to_pandas().to_csv().encode() + str(table.schema.metadata).encode()
        yield path, path.name.encode() + content


def assert_nothing_leaks(folder: Path) -> None:
    files = list(written(folder))
    assert len(files) > 2
    assert [path.relative_to(folder).as_posix() for path, content in files if MARK.encode() in content] == []


def test_the_loader_keeps_what_is_personal(published: Path, tiny_folder: Path) -> None:
    run = Run(model=str(tiny_folder), corpus="crowd-envent", corpus_path=str(published), device="cpu")
    corpus = run.load_corpus()
    assert corpus.events["text"].str.contains(MARK).all()  # what a model reads; all else is left behind
    assert MARK not in corpus.events.drop(columns="text").to_csv() + load_readings(published).to_csv()
    assert MARK not in str(corpus.reading) + corpus.name + corpus.note


def test_no_experiment_writes_what_is_personal(
    published: Path, tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(model=str(tiny_folder), corpus="crowd-envent", corpus_path=str(published), device="cpu")
    folder = tmp_path / "out"
    behaviour = import_module("emolib.experiments.behaviour")
    assert (Study(run, folder=folder).measure(behaviour)["reader"] != "").any()  # the readings were read
    study = Study(run, folder=folder, **all_right(run.load_corpus().events))  # so that all can be measured
    for name in NEEDS:
        study.table(import_module(f"emolib.experiments.{name}")).to_parquet(folder / f"{name}.parquet")
    assert (folder / "cache").is_dir()
    assert_nothing_leaks(folder)
    assert MARK not in "".join(capfd.readouterr())


@pytest.mark.workflow
def test_no_notebook_shows_what_is_personal(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planted().to_csv(tmp_path / "mine.csv", index=False)
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("emolib", "notebooks", "book", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tree)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    run = Run(model=str(tiny_folder), corpus=str(tmp_path / "mine.csv"), device="cpu")
    execute(asdict(run), Path("notebooks/03_behaviour.ipynb"), Path("runs") / run.slug / "03_behaviour.ipynb")
    assert (tree / "results" / run.slug / "behaviour.parquet").is_file()
    for part in ("runs", "results", "cache"):
        assert list((tree / part).rglob("*.*"))
        assert [path for path, content in written(tree / part) if MARK.encode() in content] == []
    assert MARK not in "".join(capfd.readouterr())


def test_a_plant_that_leaks_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("nothing")
    pd.DataFrame({"text": [f"{MARK}age7"]}).to_parquet(folder / "c.parquet", compression="zstd")
    with pytest.raises(AssertionError, match=r"c.parquet"):
        assert_nothing_leaks(folder)

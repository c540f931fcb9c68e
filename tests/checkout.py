"""A checkout with this Snakefile and library, and two made-up experiments in place of the real ones."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from emolib.book.run import experiment_of
from emolib.study.run import Run
from helpers import ROOT

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def made_up_checkout(folder: Path) -> None:
    """Returns None after the checkout was made in an empty folder."""
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "_toc.yml").touch()
    shutil.copytree(ROOT / "emolib", folder / "emolib", ignore=shutil.ignore_patterns("__pycache__", "experiments"))
    (folder / "emolib" / "experiments").mkdir()
    (folder / "emolib" / "experiments" / "__init__.py").touch()
    (folder / "notebooks").mkdir()
    for name in ("01_first", "02_second"):
        write_notebook(folder, name)


def write_notebook(tree: Path, name: str, last: str = "") -> Path:
    """The path of a notebook that measures an experiment of its own, `last` being what it does at the end."""
    experiment = experiment_of(name)
    package = tree / "emolib" / "experiments" / experiment
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("PROTOCOL = 1\n")
    (package / "measure.py").touch()
    work = (
        "import sys\nfrom pathlib import Path\nfrom emolib.study.run import Run\n"
        "run = Run.of(globals())\nfolder = Path('results') / run.slug\nfolder.mkdir(parents=True, exist_ok=True)\n"
        "print('a bar', file=sys.stderr)\nprint('shown', seed)\n"
        f"size = (folder / '{experiment}.parquet').write_text('measured')\n" + last
    )
    cells = [new_code_cell(parameters_cell(), metadata={"tags": ["parameters"]}), new_code_cell(work)]
    path = tree / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    return path


def parameters_cell(**changes: object) -> str:
    """The cell of parameters, with the defaults of Run."""
    values = {field.name: field.default for field in fields(Run)} | changes
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())

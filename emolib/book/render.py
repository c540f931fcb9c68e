"""The rendered book: the committed pages, and the reader's own runs behind them.

The reference run's chapters are committed in book/chapters; other runs are added by `emolib.book.staging`. Scripts,
buttons and the explorer's data are added while Sphinx renders, by `emolib.book.pages`. Imports no model library.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import nbformat
import yaml

from emolib.book import colab
from emolib.book.run import INJECTED, cleaned, files_sha256
from emolib.book.staging import stage_runs
from emolib.study.run import Run

CHAPTERS = Path("book/chapters")
# What decides how a page looks, beside the pages and the code that renders them.
INPUTS = ("_config.yml", "_build/_toc.yml", "requirements.lock", "pyproject.toml")


def build(root: Path) -> tuple[Path, bool]:
    """Return the book's first page and whether it had to be rendered; it is left alone when nothing has changed.

    Raises RuntimeError when the book has a warning or an error, ValueError when the repository's address is none.
    """
    for path in colab.write_cells(root):
        print(f"{path.relative_to(root)}: brought the cell for Colab up to date; commit it")
    colab.repository(root)  # refuses a wrong address before anything is rendered
    toc = write_toc(root)
    page, stamp, state = root / "_build" / "html" / "index.html", root / "_build" / "book.sha256", _state(root)
    if page.is_file() and stamp.is_file() and stamp.read_text() == state:
        return page, False
    stamp.unlink(missing_ok=True)
    render(root, toc, "html")
    stamp.write_text(state)
    return page, True


def write_toc(root: Path) -> Path:
    """Return the file with the table of contents that is rendered, _build/_toc.yml."""
    path = root / "_build" / "_toc.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(effective_toc(root), sort_keys=False))
    return path


def render(root: Path, toc: Path, builder: Literal["html", "singlehtml"]) -> Path:
    """Return the first page that jupyter-book wrote, _build/<builder>/index.html.

    Every page is written anew: unchanged ones would keep an old table of contents, old scripts and old data, and
    would not warn again. Raises RuntimeError when there is a warning or an error.
    """
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    options = ["--toc", str(toc), "--builder", builder, "--all", "-W", "-n", "--keep-going", "-q"]
    if subprocess.run([*program, *options], cwd=root).returncode:
        raise RuntimeError("the book has the warnings or errors above: mend them, then build again")
    first = root / "_build" / builder / "index.html"
    if builder == "html":
        first.write_text(_redirect(yaml.safe_load(toc.read_text())["root"], root), encoding="utf-8")
    return first


def effective_toc(root: Path) -> dict[str, Any]:
    """Return the committed table of contents, with a part "Your runs" when there are executed notebooks."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    chapters = stage_runs(root)
    if chapters:
        toc["parts"].append({"caption": "Your runs", "chapters": chapters})
    return toc


def publish(root: Path, run: Run, names: list[str]) -> list[Path]:
    """Return the chapters written to book/chapters from the named notebooks of the run.

    Raises ValueError when a notebook is missing, or when the corpus was given by its path, which would be published.
    """
    check_publishable(run.corpus_path)
    (root / CHAPTERS).mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        source, target = root / "runs" / run.slug / f"{name}.ipynb", root / CHAPTERS / f"{name}.ipynb"
        if not source.is_file():
            raise ValueError(f"{source.relative_to(root)} is missing: call make reference, which computes it")
        document = nbformat.read(source, as_version=4)
        check_publishable(_corpus_path(document))
        nbformat.write(cleaned(document), target)
        written.append(target)
    return written


def check_publishable(corpus_path: str | None) -> None:
    """Return None when no path of the corpus was given; raises ValueError, since a chapter would show it."""
    if corpus_path:
        raise ValueError(
            "a chapter would show where the corpus lies on this machine: leave out --corpus-path (make: CORPUS_PATH), "
            "and set EMOLIB_CROWD_ENVENT or call emolib fetch crowd-envent instead; where a notebook was executed with "
            "the path, remove it from runs/ first"
        )


def _corpus_path(document: nbformat.NotebookNode) -> str | None:
    """Return the path of the corpus that an executed notebook was given."""
    cells = [cell.source for cell in document.cells if INJECTED in cell.metadata.get("tags", [])]
    lines = [line for source in cells for line in ast.parse(source).body if isinstance(line, ast.Assign)]
    given = {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in lines}
    return given.get("corpus_path")


def code_cells(document: nbformat.NotebookNode) -> list[str]:
    """Return the source of the code cells, without the parameters that papermill put in and the cell for Colab."""
    extra = {INJECTED, colab.TAG}
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    return [cell.source for cell in code if not extra & set(cell.metadata.get("tags", []))]


def _redirect(page: str, root: Path) -> str:
    """Return the page that leads to the first one; jupyter-book's has no icon, and browsers ask the server for one.

    An empty one, because a file would still be on its way when the next page opens.
    """
    title = yaml.safe_load((root / "_config.yml").read_text())["title"]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<link rel="icon" href="data:,">\n'
        f'<meta http-equiv="refresh" content="0; url={page}.html">\n</head>\n'
        f'<body><a href="{page}.html">{title}</a></body>\n</html>\n'
    )


def _state(root: Path) -> str:
    """Return one hash over everything the book is rendered from."""
    place = colab.repository(root)
    folders = ("book", "notebooks", "results", "emolib/book")
    files = [path for folder in folders for path in (root / folder).rglob("*") if path.suffix != ".pyc"]
    everything = files_sha256(root, [*(root / name for name in INPUTS), *files])
    return f"{everything} {place.requirement if place else ''}"

"""The rendered book: the committed pages, and the reader's own runs behind them.

The reference run's chapters are committed in book/chapters. Executed notebooks of other runs are copied to
book/run-<slug>, at the same depth, so that their links to other pages hold. Imports no model library.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml

from emolib.display import MIME
from emolib.execute import INJECTED, cleaned, notebook_names
from emolib.runs import REFERENCE, Run

CHAPTERS = Path("book/chapters")
LABEL = re.compile(r"^\(([^)\s]+)\)=\s*$|^:(?:name|label): *(\S+) *$", re.MULTILINE)
CHAPTER_LINK = re.compile(r"\]\((\w+)\.ipynb")


def build(root: Path) -> tuple[Path, bool]:
    """Return the book's first page and whether it had to be rendered; it is left alone when nothing has changed.

    Raises RuntimeError when the book has a warning or an error; the next build then looks at every page again.
    """
    out = root / "_build"
    out.mkdir(exist_ok=True)
    toc = out / "_toc.yml"
    toc.write_text(yaml.safe_dump(effective_toc(root), sort_keys=False))
    page, stamp, state = out / "html" / "index.html", out / "book.sha256", _state(root)
    if page.is_file() and stamp.is_file() and stamp.read_text() == state:
        return page, False
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*program, "build", ".", "--toc", str(toc), "-W", "-n", "--keep-going", "-q"]
    stamp.unlink(missing_ok=True)
    if subprocess.run(command, cwd=root).returncode:
        # Pages that were read once would not be read, and not warn, again.
        shutil.rmtree(out / ".doctrees", ignore_errors=True)
        raise RuntimeError("the book has the warnings or errors above: mend them, then build again")
    stamp.write_text(state)
    return page, True


def effective_toc(root: Path) -> dict[str, Any]:
    """Return the committed table of contents, with a part "Your runs" when there are executed notebooks."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    chapters = stage_runs(root)
    if chapters:
        toc["parts"].append({"caption": "Your runs", "chapters": chapters})
    return toc


def stage_runs(root: Path) -> list[dict[str, Any]]:
    """Return the table-of-contents entries of the reader's runs after copying their notebooks into book/."""
    chapters = []
    for old in (root / "book").glob("run-*"):
        if not (root / "runs" / old.name.removeprefix("run-")).is_dir():
            shutil.rmtree(old)
    for folder in sorted((root / "runs").glob("*")):
        names = [name for name in notebook_names(root) if (folder / f"{name}.ipynb").is_file()]
        if names and folder.name != REFERENCE.slug:
            chapters.append(_stage(root, folder, names))
    return chapters


def publish(root: Path, run: Run, names: list[str]) -> list[Path]:
    """Return the chapters written to book/chapters from the named notebooks of the run.

    Raises ValueError when a notebook is missing, or when the corpus was given by its path, which would be published.
    """
    if run.corpus_path is not None:
        raise ValueError(
            "a chapter would show where the corpus lies on this machine: leave out --corpus-path, and set "
            "EMOLIB_CROWD_ENVENT or call emolib fetch crowd-envent instead"
        )
    (root / CHAPTERS).mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        source, target = root / "runs" / run.slug / f"{name}.ipynb", root / CHAPTERS / f"{name}.ipynb"
        if not source.is_file():
            raise ValueError(f"{source.relative_to(root)} is missing: call make reference, which computes it")
        nbformat.write(cleaned(nbformat.read(source, as_version=4)), target)
        written.append(target)
    return written


def code_cells(document: nbformat.NotebookNode) -> list[str]:
    """Return the source of the code cells, without the parameters that papermill put in."""
    return [
        cell.source
        for cell in document.cells
        if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]


def _stage(root: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    target = root / "book" / f"run-{folder.name}"
    target.mkdir(exist_ok=True)
    for old in set(target.glob("*.ipynb")) - {target / f"{name}.ipynb" for name in names}:
        old.unlink()
    for name in names:
        document = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        _write(target / f"{name}.ipynb", nbformat.writes(_adopted(document, folder.name, names)) + "\n")
    _write(target / "index.md", _front_page(json.loads((folder / "run.json").read_text())))
    sections = [{"file": f"book/{target.name}/{name}"} for name in names]
    return {"file": f"book/{target.name}/index", "sections": sections}


def _adopted(document: nbformat.NotebookNode, slug: str, names: list[str]) -> nbformat.NotebookNode:
    """Return the notebook with labels of its own, since the reference chapter has the same, and with links that
    lead to the reference chapter where this run has none."""
    labels = sorted({name for cell in document.cells for name in _labels(cell)}, key=len, reverse=True)
    mine = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, labels)) + r")(?![\w-])") if labels else None

    prefix = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")  # as Sphinx writes it into addresses

    def rename(text: str) -> str:
        text = mine.sub(rf"{prefix}-\1", text) if mine else text
        return CHAPTER_LINK.sub(lambda link: link[0] if link[1] in names else f"](../chapters/{link[1]}.ipynb", text)

    for cell in document.cells:
        if cell.cell_type == "markdown":
            cell.source = rename(cell.source)
        for data in _data(cell):
            for kind in set(data) & {MIME, "text/html", "text/markdown"}:
                data[kind] = _map_texts(data[kind], rename)
    return document


def _labels(cell: nbformat.NotebookNode) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield from (first or second for first, second in LABEL.findall(cell.source))
    yield from (data[MIME]["name"] for data in _data(cell) if MIME in data)


def _data(cell: nbformat.NotebookNode) -> Iterator[dict[str, Any]]:
    yield from (output["data"] for output in cell.get("outputs", []) if "data" in output)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_texts(item, change) for key, item in value.items()}
    return change(value) if isinstance(value, str) else value


def _front_page(parameters: dict[str, Any]) -> str:
    rows = "\n".join(f"| {name} | `{value}` |" for name, value in parameters.items() if value is not None)
    title = "# {model}, {corpus}, {profile}".format(**parameters)
    return f"{title}\n\nComputed on this machine.\n\n| parameter | value |\n|---|---|\n{rows}\n"


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _state(root: Path) -> str:
    """Return one hash over everything the book is rendered from."""
    digest = hashlib.sha256()
    pages = sorted(path for path in (root / "book").rglob("*") if path.is_file())
    for path in [root / "_config.yml", root / "_build" / "_toc.yml", root / "requirements.lock", *pages]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()

"""The reader's own runs as pages: executed notebooks copied to book/run-<slug>, at the depth of the committed chapters.

A copy gets labels of its own, since the reference chapter has the same, and links that hold. Imports no model library.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from emolib.book.run import contradictory, notebook_names
from emolib.figures.display import MIME
from emolib.study.run import REFERENCE, public

LABEL = re.compile(r"^\(([^)\s]+)\)=\s*$|^:(?:name|label): *(\S+) *$", re.MULTILINE)
CHAPTER_LINK = re.compile(r"\]\((\w+)\.ipynb")


def stage_runs(root: Path) -> list[dict[str, Any]]:
    """Return the table-of-contents entries of the reader's runs after copying their notebooks into book/."""
    for old in (root / "book").glob("run-*"):
        shutil.rmtree(old)
    chapters = []
    for folder in sorted((root / "runs").glob("*")):
        names = [name for name in notebook_names(root) if (folder / f"{name}.ipynb").is_file()]
        if names and folder.name != REFERENCE.slug and (folder / "run.json").is_file():
            chapters.append(_stage(root, folder, names))
    return chapters


def _stage(root: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    target = root / "book" / f"run-{folder.name}"
    target.mkdir()
    for name in names:
        document = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        nbformat.write(adopted(document, folder.name, names), target / f"{name}.ipynb")
    shown = public(json.loads((folder / "run.json").read_text()))
    parameters = {name: as_words(str(value)) for name, value in shown.items() if value is not None}
    rows = "\n".join(f"| {name} | {value} |" for name, value in parameters.items())
    title = "# {model}, {corpus}, {profile}".format(**parameters)
    against = [
        f"Do not cite this run: {reason}.\n\n" for reason in sorted(set(contradictory(folder.name, root).values()))
    ]
    page = f"{title}\n\n{''.join(against)}Computed on this machine.\n\n| parameter | value |\n|---|---|\n{rows}\n"
    (target / "index.md").write_text(page, encoding="utf-8")
    sections = [{"file": f"book/{target.name}/{name}"} for name in names]
    return {"file": f"book/{target.name}/index", "sections": sections}


def as_words(text: str) -> str:
    """Return Markdown that shows the text as it is, whatever it holds."""
    return re.sub(r"([^\w\s.,@:/-]|_)", lambda mark: f"&#{ord(mark[1])};", " ".join(text.split()))


def adopted(document: nbformat.NotebookNode, slug: str, names: list[str]) -> nbformat.NotebookNode:
    """Return the notebook with labels of its own, since the reference chapter has the same, and with links that
    lead to the reference chapter where this run has none."""
    labels = sorted({name for cell in document.cells for name in _labels(cell)}, key=len, reverse=True)
    mine = re.compile(r"(?<![\w-])(" + ("|".join(map(re.escape, labels)) or "(?!)") + r")(?![\w-])")
    prefix = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")  # as Sphinx writes it into addresses

    def rename(text: str) -> str:
        text = mine.sub(rf"{prefix}-\1", text)
        return CHAPTER_LINK.sub(lambda link: link[0] if link[1] in names else f"](../chapters/{link[1]}.ipynb", text)

    for cell in document.cells:
        if cell.cell_type == "markdown":
            cell.source = rename(cell.source)
        for data in _data(cell):
            for kind in set(data) & {MIME, "text/html", "text/markdown"}:
                data[kind] = json.loads(rename(json.dumps(data[kind], ensure_ascii=False)))
    return document


def _labels(cell: nbformat.NotebookNode) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield from (first or second for first, second in LABEL.findall(cell.source))
    yield from (data[MIME]["name"] for data in _data(cell) if MIME in data)


def _data(cell: nbformat.NotebookNode) -> Iterator[dict[str, Any]]:
    yield from (output["data"] for output in cell.get("outputs", []) if "data" in output)

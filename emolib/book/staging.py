"""The reader's own runs as pages: executed notebooks copied to book/run-<slug>, at the depth of the committed chapters.

A copy gets labels of its own, since the reference chapter has the same, links that hold, and the run's name in its
title. Where a notebook failed or was left out, a page says why. The book's first page shows what the latest run has to
say. Imports no model library.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

from emolib.book.run import WHY, contradictory, left_out, notebook_names
from emolib.figures.display import MIME
from emolib.paper.ladder import run_name
from emolib.study.run import REFERENCE, public
from emolib.tables.results import readable

CHAPTERS = Path("book/chapters")
SUMMARY, ABSTRACT = "11_claims", "abstract"  # the notebook that shows the latter under this name
# What a small run leaves open, and what would measure more.
SMALL, MORE = (
    ("situations", "keyword-free", "quick", "none"),
    dict(CORPUS="crowd-envent", PROFILE="full", CALIBRATION="batch"),
)
GLUED = re.compile(r"^(```{glue} (\S+)\n:doc: )chapters/(\w+)\.ipynb$", re.MULTILINE)
LABEL = re.compile(r"^\(([^)\s]+)\)=\s*$|^:(?:name|label): *(\S+) *$", re.MULTILINE)
CHAPTER_LINK = re.compile(r"\]\((\w+)\.ipynb")


def stage_runs(root: Path) -> list[dict[str, Any]]:
    """Return the table-of-contents entries of the reader's runs after copying their notebooks into book/."""
    for old in (root / "book").glob("run-*"):
        shutil.rmtree(old)
    return [_stage(root, folder) for folder in _folders(root)]


def _folders(root: Path) -> list[Path]:
    """The folders of the reader's runs that have something to show, the one that was last at work first."""
    found = [path.parent for path in (root / "runs").glob("*/run.json") if path.parent.name != REFERENCE.slug]
    made = {folder: [path for path in folder.glob("*.ipynb") if ".partial" not in path.suffixes] for folder in found}
    times = {folder: max(path.stat().st_mtime for path in paths) for folder, paths in made.items() if paths}
    return sorted(times, key=lambda folder: (-times[folder], folder.name))


def latest(root: Path) -> str | None:
    """Return the slug of the reader's latest run that is part of the book; None where there is none."""
    return next((folder.name for folder in _folders(root) if (root / "book" / f"run-{folder.name}").is_dir()), None)


def with_latest(page: str, root: Path) -> str:
    """Return the Markdown of the book's first page with what the reader's latest run shows in place of the committed
    run's, where it has that, and a line that leads to its own page."""
    if (slug := latest(root)) is None:
        return page
    folder = root / "book" / f"run-{slug}"

    def own(found: re.Match[str]) -> str:
        path = folder / f"{found[3]}.ipynb"
        return f"{found[1]}{folder.name}/{path.name}" if path.is_file() and found[2] in _glued(path) else found[0]

    head, _, rest = GLUED.sub(own, page).partition("\n")
    line = (
        f"**This copy of the book has a run of its own:** [{as_words(title_of(slug, root))}]({folder.name}/index.md)."
    )
    return f"{head}\n\n{line} What follows shows it beside the committed runs.\n{rest}"


def title_of(slug: str, root: Path) -> str:
    """Return how the book calls a run: as its figures do where something was measured, else by its parameters."""
    for path in sorted((root / "results" / slug).glob("*.parquet")):
        if (table := readable(path)) is not None:
            return run_name({path.stem: table}, slug)
    shown = public(json.loads((root / "runs" / slug / "run.json").read_text()))
    return "{model}, {corpus}, {profile}".format(**shown)


def _stage(root: Path, folder: Path) -> dict[str, Any]:
    target, title = root / "book" / f"run-{folder.name}", as_words(title_of(folder.name, root))
    target.mkdir()
    made = [name for name in notebook_names(root) if (folder / f"{name}.ipynb").is_file()]
    missing = unmade(root, folder)
    names = [name for name in notebook_names(root) if name in made or name in missing]
    for name in names:
        source = folder if name in made else root / "notebooks"
        document = nbformat.read(source / f"{name}.ipynb", as_version=4)
        if name not in made:
            document = new_notebook(cells=[new_markdown_cell(_heading(document))], metadata=document.metadata)
        named(document, title, missing.get(name, ""))
        nbformat.write(adopted(document, folder.name, names), target / f"{name}.ipynb")
    (target / "index.md").write_text(_front(root, folder, title, missing), encoding="utf-8")
    sections = [{"file": f"book/{target.name}/{name}"} for name in names]
    return {"file": f"book/{target.name}/index", "sections": sections}


def unmade(root: Path, folder: Path) -> dict[str, str]:
    """Return why notebooks of a run are missing or as they were before, by name: they failed, or were left out."""
    found = {name: f"It was left out: {as_words(why)}." for name, why in left_out(folder.name, root).items()}
    for name in notebook_names(root):
        path = folder / f"{name}.failed.ipynb"
        if path.is_file():
            document = nbformat.read(path, as_version=4)
            said = document.metadata.get(WHY) or "an earlier version did not say why"
            found[name] = (
                f"It failed: {as_words(said.rstrip('.'))}. The cells that ran: `runs/{folder.name}/{path.name}`."
            )
    committed = {name for name in found if (root / CHAPTERS / f"{name}.ipynb").is_file()}
    link = " The committed run has [this chapter](../chapters/{}.ipynb)."
    ordered = [name for name in notebook_names(root) if name in found]
    return {name: found[name] + (link.format(name) if name in committed else "") for name in ordered}


def _heading(document: nbformat.NotebookNode) -> str:
    """The first line of the first text of a notebook, its title."""
    text = next(cell.source for cell in document.cells if cell.cell_type == "markdown")
    return str(text).partition("\n")[0]


def _chapter(root: Path, name: str) -> str:
    """What a chapter is called, without its question."""
    heading = _heading(nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4))
    return heading.removeprefix("# ").partition(":")[0]


def named(document: nbformat.NotebookNode, title: str, missing: str = "") -> None:
    """Return None after putting the run's name into a notebook's title, behind the chapter's, and below it why the
    chapter is `missing`, or not new."""
    cell = next((cell for cell in document.cells if cell.cell_type == "markdown"), None)
    if cell is None or not cell.source.startswith("# "):
        return
    head, _, rest = cell.source.partition("\n")
    chapter, colon, question = head.partition(":")
    shown = any(cell.get("outputs") for cell in document.cells)
    what = "This chapter is as it was before." if shown else "This chapter was not made for this run."
    note = f"\n\n```{{admonition}} {what}\n:class: warning\n{missing}\n```\n" if missing else ""
    cell.source = f"{chapter}, {title}{colon}{question}{note}\n{rest}".rstrip() + "\n"


def _front(root: Path, folder: Path, title: str, missing: dict[str, str]) -> str:
    """The first page of a run: the abstract, what is missing and why, how to measure more, its parameters."""
    shown = public(json.loads((folder / "run.json").read_text()))
    against = sorted(set(contradictory(folder.name, root).values()))
    parts = [f"# {title}", *(f"Do not cite this run: {reason}." for reason in against), "Computed on this machine."]
    summary = folder / f"{SUMMARY}.ipynb"
    if summary.is_file() and ABSTRACT in _glued(summary):
        parts.append(f"```{{glue}} {ABSTRACT}\n:doc: {SUMMARY}.ipynb\n```")
    if missing:
        lines = [f"- [{_chapter(root, name)}]({name}.ipynb). {why}" for name, why in missing.items()]
        parts += ["## What is missing, and why", "\n".join(lines)]
    rows = [f"| {name} | {as_words(str(value))} |" for name, value in shown.items() if value is not None]
    parts += ["## What was asked", "\n".join(["| parameter | value |", "|---|---|", *rows])]
    if more := [f"{name}={value}" for name, value in MORE.items() if shown[name.lower()] in SMALL]:
        line = f"`make book MODEL=... {' '.join(more)}`, with the model of this run."
        parts += ["## For more right answers, more texts, and narrower intervals", line]
    return "\n\n".join(parts) + "\n"


def _glued(path: Path) -> set[str]:
    """The names under which an executed notebook shows something on other pages."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return {output.metadata.get("scrapbook", {}).get("name", "") for output in outputs if "metadata" in output}


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

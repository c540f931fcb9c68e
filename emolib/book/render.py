"""The rendered book: the committed pages, and the reader's own runs behind them.

The reference run's chapters are committed in book/chapters; other runs are added by `emolib.book.staging`. Scripts,
buttons and the explorer's data are added while Sphinx renders, by `emolib.book.pages`. Imports no model library.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import yaml

from emolib.book import colab
from emolib.book.run import contradictory, experiment_of, files_sha256, measures, notebook_names, stale_tables
from emolib.book.staging import CHAPTERS, stage_runs
from emolib.engine.places import replace_text
from emolib.engine.registry import sha256
from emolib.study.run import LADDER, Run

MANIFEST = Path("book/manifest.json")
ANSWERS = Path("book/_static/answers")  # of models to every event under many edits, see `emolib.book.answers`
# What decides how a page looks, beside the pages and the code that renders them.
INPUTS = ("_config.yml", "_build/_toc.yml", "requirements.lock", "pyproject.toml")


def build(root: Path) -> tuple[Path, bool]:
    """Return the book's first page and whether it had to be rendered; it is left alone when nothing has changed.

    Raises RuntimeError when the book has a warning or an error, ValueError when the repository's address is none.
    """
    for path in colab.write_addresses(root):
        print(f"{path.relative_to(root)}: wrote the address into the cell for Colab; commit it")
    colab.repository(root)  # refuses a wrong address before anything is rendered
    toc = write_toc(root)
    page, stamp, state = root / "_build" / "html" / "index.html", root / "_build" / "book.sha256", _state(root)
    if page.is_file() and stamp.is_file() and stamp.read_text() == state:
        return page, False
    stamp.unlink(missing_ok=True)
    render(root, toc, "html")
    for folder in (page.parent / "book", page.parent / "_sources" / "book"):
        for old in folder.glob("run-*"):
            if not (root / "book" / old.name).is_dir():  # of a run that is no longer there
                shutil.rmtree(old)
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
        replace_text(first, _redirect(yaml.safe_load(toc.read_text())["root"], root))
    return first


def effective_toc(root: Path) -> dict[str, Any]:
    """Return the committed table of contents, with a part "Your runs" before all others when there are any."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    chapters = stage_runs(root)
    short = {
        Path(one["file"]).name: one["title"] for part in toc["parts"] for one in part["chapters"] if "title" in one
    }
    for section in (section for chapter in chapters for section in chapter["sections"]):
        name = Path(section["file"]).name
        section |= {"title": short[name]} if name in short else {}
    if chapters:
        toc["parts"].insert(0, {"caption": "Your runs", "chapters": chapters})
    return toc


def publish(root: Path, run: Run, names: list[str]) -> list[Path]:
    """Return the chapters written to book/chapters, which are the named executed notebooks of the run.

    The digests of all committed chapters and tables go into `MANIFEST`.
    """
    (root / CHAPTERS).mkdir(parents=True, exist_ok=True)
    executed = root / "runs" / run.slug
    texts = {name: (executed / f"{name}.ipynb").read_text(encoding="utf-8") for name in names}
    written = [replace_text(root / CHAPTERS / f"{name}.ipynb", text) for name, text in texts.items()]
    found = {path.relative_to(root).as_posix(): sha256(path) for path in published(root)}
    replace_text(root / MANIFEST, json.dumps(found, indent=1) + "\n")
    return written


def published(root: Path) -> list[Path]:
    """Return the committed chapters, and the tables of the committed runs that they are drawn from."""
    tables = (path for run in LADDER for path in sorted((root / "results" / run.slug).glob("*.parquet")))
    return [*sorted((root / CHAPTERS).glob("*.ipynb")), *tables]


def altered(root: Path) -> dict[str, str]:
    """Return by chapter, such as "05_probing", why what it shows is not what was computed, or not what would be now.

    A chapter or a table was changed, added or removed after the run that wrote both, or the table is of earlier code,
    or says something else than the run's others. A chapter is drawn from its experiment's tables of all committed runs,
    one without an experiment of its own from all tables.
    """
    manifest = root / MANIFEST
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    there = {path.relative_to(root).as_posix(): sha256(path) for path in published(root)}
    changed = [name for name in sorted({*known, *there}) if known.get(name) != there.get(name)]
    everything = [name for name in changed if name.endswith(".parquet")]
    found = {}
    for name in notebook_names(root):
        chapter = (CHAPTERS / f"{name}.ipynb").as_posix()
        tables = [one for one in everything if not measures(name, root) or Path(one).stem == experiment_of(name)]
        if lost := [*([chapter] if chapter in changed else []), *tables]:
            found[name] = f"altered: {', '.join(lost)} is not what the run has written"
    for run in LADDER:
        against = {name: f"inconsistent: {reason}" for name, reason in contradictory(run.slug, root).items()}
        older = {name: f"of earlier code: {reason}" for name, reason in stale_tables(run, root).items()}
        found = older | against | found
    return found


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

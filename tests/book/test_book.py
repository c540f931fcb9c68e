"""The book as committed, and how it is put together: sources, executed chapters, the reader's runs, the rendering."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
from dataclasses import fields, replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import jupytext
import nbformat
import papermill
import pyarrow.parquet as pq
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from markdown_it import MarkdownIt
from myst_nb.sphinx_ import HideCodeCellNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from emolib.book import colab, pages, terms
from emolib.book.doctor import _freshness
from emolib.book.render import MANIFEST, altered, build, effective_toc, publish, published
from emolib.book.run import (
    INJECTED,
    WHY,
    keep_left_out,
    measures,
    measuring,
    notebook_names,
    result_of,
    write_parameters,
)
from emolib.book.staging import adopted, as_words, latest, stage_runs, with_latest
from emolib.engine.registry import sha256
from emolib.figures.display import MIME
from emolib.study.run import LADDER, REFERENCE, Run
from emolib.tables import results
from emolib.texts.corpus import Corpus
from emolib.texts.prompts import get_prompt
from helpers import ROOT, committed

NOTEBOOKS = notebook_names(ROOT)
CHAPTERS = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
RESULTS = sorted((ROOT / "results" / REFERENCE.slug).glob("*.parquet"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def source(name: str) -> nbformat.NotebookNode:
    return read(ROOT / "notebooks" / f"{name}.ipynb")


def code_cells(document: nbformat.NotebookNode) -> list[str]:
    """The source of the code cells, without the parameters that papermill put in and the cell for Colab."""
    extra = {INJECTED, colab.TAG}
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    return [cell.source for cell in code if not extra & set(cell.metadata.get("tags", []))]


# notebooks


def test_there_are_the_notebooks_of_the_book_and_they_are_published() -> None:
    assert {"03_behaviour", "05_probing", "B_ablation"} <= set(NOTEBOOKS)
    # What the reference run has not measured yet has no chapter; what reads others' results always has one.
    unmeasured = [name for name in measuring(None, ROOT) if result_of(name, REFERENCE.slug, ROOT) not in RESULTS]
    measured = [name for name in NOTEBOOKS if name not in unmeasured]
    assert [path.stem for path in CHAPTERS] == measured, "make reference"
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    listed = {Path(file).name for file in files if file.startswith("book/chapters/")}
    assert listed == set(measured)
    for file in [toc["root"], *files]:
        assert (ROOT / f"{file}.md").is_file() or (ROOT / f"{file}.ipynb").is_file(), file


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_short_plain_and_without_outputs(name: str) -> None:
    cells = [cell for cell in source(name).cells if cell.cell_type == "code"]
    assert len(code_cells(source(name))) <= 16
    traced = 0
    for cell in cells:
        tags = set(cell.metadata.get("tags", []))
        by_hand = "intervention" in tags  # needs the embedded model's weights
        assert len(cell.source.splitlines()) <= (30 if by_hand else 20), cell.source
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}, cell.source
        traced += ".trace(" in cell.source
        assert cell.outputs == [] and cell.execution_count is None
        folded = tags & {"hide-input", "remove-input", "hide-cell", "remove-cell"}
        assert folded or by_hand, f"not folded: {cell.source}"
        # The trace that the library's call is equal to is open to the reader.
        assert ".trace(" not in cell.source or (by_hand and not folded), cell.source
    # A cell that runs later would find something else under an imported name.
    tree = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    imports = [node for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {(one.asname or one.name).partition(".")[0] for node in imports for one in node.names}
    assert not imported & {node.id for node in tree if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert bool(traced) == any("intervention" in cell.metadata.get("tags", []) for cell in cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_parameters_are_the_fields_of_run_with_its_defaults(name: str) -> None:
    declared = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
    values = {key: ast.literal_eval(entry["default"]) for key, entry in declared.items()}
    assert list(values) == [field.name for field in fields(Run)]
    assert Run(**values) == Run()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_and_its_script_say_the_same(name: str) -> None:
    script = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    mine, theirs = (
        [(cell.cell_type, cell.source, sorted(cell.metadata.get("tags", []))) for cell in document.cells]
        for document in (source(name), script)
    )
    assert mine == theirs, f"jupytext --sync notebooks/{name}.py"


# the reference run's chapters and results


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_its_notebook_executed_for_the_reference_run(path: Path) -> None:
    chapter = read(path)
    assert code_cells(chapter) == code_cells(source(path.stem)), "make reference"
    (injected,) = [cell for cell in chapter.cells if INJECTED in cell.metadata.get("tags", [])]
    assignments = {line.targets[0].id: line.value for line in ast.parse(injected.source).body}
    parameters = {name: ast.literal_eval(value) for name, value in assignments.items()}
    assert replace(Run(**parameters), device=REFERENCE.device) == REFERENCE
    code = [cell for cell in chapter.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "not executed to the end"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_holds_no_error_and_nothing_of_a_machine(path: Path) -> None:
    chapter, text = read(path), path.read_text()
    tags = {tag for cell in chapter.cells for tag in cell.metadata.get("tags", [])}
    outputs = [output for cell in chapter.cells for output in cell.get("outputs", [])]
    assert not any("papermill-error" in tag for tag in tags)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert "papermill" not in chapter.metadata
    assert machine_in(text) is None


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_hold_nothing_of_a_machine(path: Path) -> None:
    metadata = pq.read_schema(path).metadata or {}
    assert machine_in(" ".join(value.decode("utf-8", "ignore") for value in metadata.values())) is None


def machine_in(text: str) -> str | None:
    """The first local path or the host's name in a text."""
    folders = "|".join(["root", "work", "tmp", "home", "farm", "Users", "opt", "mnt", "var"])
    found = re.search(rf"(?<![A-Za-z0-9_.:/])/(?:{folders})/[\w.-]+|[A-Z]:\\\\\w+|file://", text)
    host = socket.gethostname()
    return found[0] if found else host if len(host) > 5 and host != "localhost" and host in text else None


def test_the_search_for_machines_finds_them() -> None:
    assert machine_in('"/tmp' + '/x.csv"') and machine_in("C:" + "\\\\data") and machine_in("in file:" + "//x")
    assert machine_in("https://doi.org/10.1/home/x and results/tmp/x and m/s") is None


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower().replace("’", "'"))


def shingles(text: str, n: int = 8) -> set[tuple[str, ...]]:
    parts = words(text)
    return {tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)}


def test_no_text_of_the_corpus_is_in_the_repository(crowd_envent: Corpus) -> None:
    prompt = get_prompt("T1-12shot").render("")
    known = shingles(prompt)
    corpus = set().union(*(shingles(text) for text in crowd_envent.events["text"])) - known
    assert shingles(max(crowd_envent.events["text"], key=len)) & corpus, "the search finds what is there"
    skipped = {".git", ".venv", "_build", "cache", ".snakemake", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    kinds = {".py", ".md", ".yml", ".ipynb", ".csv", ".json", ".bib", ".txt"}
    for path in ROOT.rglob("*"):
        if path.suffix in kinds and not skipped & set(path.relative_to(ROOT).parts):
            found = shingles(path.read_text(encoding="utf-8", errors="ignore")) & corpus
            assert not found, f"{path.relative_to(ROOT)} holds {len(found)} stretches of eight words of the corpus"


def test_no_text_of_the_corpus_is_in_the_results(crowd_envent: Corpus) -> None:
    texts = {" ".join(words(text)) for text in crowd_envent.events["text"]}
    for path in RESULTS:
        table = pq.read_table(path)
        for name in table.column_names:
            values = {" ".join(words(value)) for value in table[name].to_pylist() if isinstance(value, str)}
            long = {value for value in values if len(value.split()) > 2}
            assert not long & texts, f"{path.name}: {name}"


# putting it together


def document(label: str, text: str = "", name: str = "fig-a") -> nbformat.NotebookNode:
    figure = {MIME: {"name": name, "alt": "a", "caption": f"See {{numref}}`{name}`."}}
    html = f'<figure id="{name}"><svg></svg></figure>'
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    output = new_output("display_data", data={**figure, "text/html": html, "image/png": pixel})
    cells = [
        new_markdown_cell(f"# Title\n\n({label})=\n## Part\n\n{{ref}}`here <{label}>`, {{numref}}`{name}`. {text}"),
        new_code_cell("1", outputs=[output], execution_count=1),
        new_code_cell('repository = ""', execution_count=2),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small book: this configuration, one page, one chapter, and a run of the reader's with the same notebook."""
    for folder in ("book/chapters", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    for name in ("references.bib", "references.md"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "book" / "index.md").write_text("# Book\n\nText with $x$.\n")
    toc = {"format": "jb-book", "root": "book/index", "parts": [{"caption": "All", "chapters": []}]}
    toc["parts"][0]["chapters"] = [{"file": "book/chapters/01_a"}, {"file": "book/references"}]
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    for folder in ("notebooks", "book/chapters"):
        nbformat.write(document("part", "[up](../index.md)"), tmp_path / folder / "01_a.ipynb")
    nbformat.write(document("part-b"), tmp_path / "notebooks" / "02_b.ipynb")
    digests = {path.relative_to(tmp_path).as_posix(): sha256(path) for path in published(tmp_path)}
    (tmp_path / MANIFEST).write_text(json.dumps(digests))
    run = Run(seed=7)
    write_parameters(run, tmp_path)
    executed = document("part", "[up](../index.md), [self](01_a.ipynb)")
    nbformat.write(executed, tmp_path / "runs" / run.slug / "01_a.ipynb")
    return tmp_path


def test_the_reader_s_runs_become_a_part_and_vanish_with_them(tree: Path) -> None:
    slug = Run(seed=7).slug
    parts = effective_toc(tree)["parts"]
    assert [part["caption"] for part in parts] == ["Your runs", "All"]
    entry = {"file": f"book/run-{slug}/index", "sections": [{"file": f"book/run-{slug}/01_a"}]}
    assert parts[0]["chapters"] == [entry]
    assert "| seed | 7 |" in (tree / "book" / f"run-{slug}" / "index.md").read_text()
    reference = tree / "runs" / REFERENCE.slug
    shutil.copytree(tree / "runs" / slug, reference)
    (reference / "01_a.failed.ipynb").touch()
    assert effective_toc(tree)["parts"] == parts, "the reference run has its chapters already"
    shutil.rmtree(tree / "runs")
    assert [part["caption"] for part in effective_toc(tree)["parts"]] == ["All"]
    assert not list((tree / "book").glob("run-*"))


def test_what_failed_or_was_left_out_has_a_page_that_says_why(tree: Path) -> None:
    run = Run(seed=7)
    folder, target = tree / "runs" / run.slug, tree / "book" / f"run-{run.slug}"
    keep_left_out(run, ["02_b"], {"02_b": "b needs 50 texts (here 1)"}, tree)
    failed = document("part")
    failed.metadata[WHY] = "ValueError: <b> no room"
    nbformat.write(failed, folder / "01_a.failed.ipynb")
    (entry,) = stage_runs(tree)
    assert [Path(one["file"]).name for one in entry["sections"]] == ["01_a", "02_b"]
    before, never = (read(target / f"{name}.ipynb").cells for name in ("01_a", "02_b"))
    title = as_words(f"{run.model}, situations, quick")
    assert before[0].source.startswith(f"# Title, {title}\n") and never[0].source.startswith(f"# Title, {title}\n")
    assert "as it was before" in before[0].source and "It failed: ValueError: &#60;b&#62; no room." in before[0].source
    assert before[1].outputs, "what was made before is still there"
    assert "was not made for this run" in never[0].source and "50 texts &#40;here 1&#41;" in never[0].source
    assert len(never) == 1
    front = (target / "index.md").read_text()
    assert all(f"- [Title]({name}.ipynb). It" in front for name in ("01_a", "02_b"))
    assert "committed run has [this chapter](../chapters/01_a.ipynb)" in before[0].source
    assert "committed run" not in never[0].source
    (folder / "01_a.failed.ipynb").unlink()
    keep_left_out(run, ["02_b"], {"02_b": ""}, tree)
    stage_runs(tree)
    assert [path.name for path in sorted(target.iterdir())] == ["01_a.ipynb", "index.md"]
    assert "missing" not in (target / "index.md").read_text()
    assert "CORPUS=crowd-envent PROFILE=full`" in (target / "index.md").read_text()


def test_the_first_page_is_about_the_latest_run_where_it_shows_the_same(tree: Path) -> None:
    page = (
        "# Book\n\n```{glue} one\n:doc: chapters/01_a.ipynb\n```\n\n```{glue} other\n:doc: chapters/02_b.ipynb\n```\n"
    )
    assert with_latest(page, tree) == page, "no run is part of the book yet"
    slug = Run(seed=7).slug
    path = tree / "runs" / slug / "01_a.ipynb"
    executed = read(path)
    executed.cells[1].outputs[0].metadata = {"scrapbook": {"name": "one", "mime_prefix": ""}}
    nbformat.write(executed, path)
    stage_runs(tree)
    found = with_latest(page, tree)
    assert f"{{glue}} one\n:doc: run-{slug}/01_a.ipynb\n" in found and "other\n:doc: chapters/02_b.ipynb" in found
    assert found.startswith("# Book\n") and f"](run-{slug}/index.md)" in found
    older = Run(seed=8)
    write_parameters(older, tree)
    shutil.copy(path, tree / "runs" / older.slug)
    os.utime(tree / "runs" / older.slug / path.name, (1, 1))
    assert [Path(entry["file"]).parent.name for entry in stage_runs(tree)] == [f"run-{slug}", f"run-{older.slug}"]
    assert with_latest(page, tree) == found
    assert latest(tree) == slug


def test_a_run_s_page_shows_names_as_text_and_no_path(tree: Path) -> None:
    folder = tree / "runs" / Run(seed=7).slug
    nasty = "<script>alert(1)</script> `x` $(touch y) $z$ {ref}`a` | *b* _c_ [d](e) \n\n# f"
    for model, shown in ((nasty, as_words(nasty)), (str(tree / "somebody" / "mine.gguf"), "mine-")):
        (folder / "run.json").write_text(json.dumps(Run(seed=7).parameters() | {"model": model}))
        effective_toc(tree)
        page = (tree / "book" / f"run-{folder.name}" / "index.md").read_text()
        assert f"# {shown}" in page and f"| model | {shown}" in page and "somebody" not in page
        assert not set(page.split("| parameter |")[0]) & set("<>`$*[]()|{}_")
    html = MarkdownIt().render(f"# {as_words(nasty)}")
    assert unescape(html).strip() == f"<h1>{' '.join(nasty.split())}</h1>" and html.count("<") == 2


def test_a_run_s_copy_has_labels_of_its_own_and_links_that_hold() -> None:
    copy = adopted(document("part", "[b](02_b.ipynb) [a](01_a.ipynb#part) [x](../index.md)"), "Sl_ug", ["01_a"])
    text, data = copy.cells[0].source, copy.cells[1].outputs[0].data
    assert "(sl-ug-part)=" in text and "{ref}`here <sl-ug-part>`" in text and "{numref}`sl-ug-fig-a`" in text
    assert "[b](../chapters/02_b.ipynb) [a](01_a.ipynb#sl-ug-part) [x](../index.md)" in text
    assert data[MIME] == {"name": "sl-ug-fig-a", "alt": "a", "caption": "See {numref}`sl-ug-fig-a`."}
    assert 'id="sl-ug-fig-a"' in data["text/html"] and data["image/png"].startswith("iVBOR")


def test_book_is_rendered_once_and_a_warning_is_an_error_every_time(tree: Path, capfd) -> None:
    page, rendered = build(tree)
    assert rendered and page == tree / "_build" / "html" / "index.html" and page.is_file()
    chapters = sorted((tree / "_build" / "html" / "book").glob("*/01_a.html"))
    assert [path.parent.name for path in chapters] == ["chapters", f"run-{Run(seed=7).slug}"]
    pages = [path.read_text() for path in (tree / "_build" / "html").rglob("*.html")]
    asset = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?://[^"]+)')
    assert [url for text in pages for url in asset.findall(text)] == [], "the book asks nobody else for anything"
    assert "unpkg.com" not in "".join(pages)
    assert build(tree) == (page, False)
    shutil.rmtree(tree / "runs")
    assert build(tree) == (page, True)
    assert not [path for path in (tree / "_build" / "html").rglob("run-*")], (
        "a run that is deleted takes its pages along"
    )
    (tree / "book" / "index.md").write_text("# Book\n\n{ref}`nowhere`\n\n$x^{2$\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="warnings"):
            build(tree)
        said = capfd.readouterr().err
        assert "nowhere" in said and "the formula x^{2 cannot be set" in said
    (tree / "book" / "index.md").write_text("# Book\n")
    assert build(tree) == (page, True)


def test_buttons_appear_with_an_address_and_the_download_always(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html = tree / "_build" / "html"
    for address in ("", "https://github.com/owner/name"):
        monkeypatch.setenv(colab.VARIABLE, address)
        assert build(tree)[1], "another address is another book"
        chapter = (html / "book" / "chapters" / "01_a.html").read_text()
        place = "https://colab.research.google.com/github/owner/name/blob/main/notebooks/01_a.ipynb"
        assert (place in chapter) == bool(address) and ("colab.research" in chapter) == bool(address)
        assert "colab.research" not in (html / "book" / "index.html").read_text()
        downloads = re.findall(r'href="([^"]+\.ipynb)"', chapter)
        assert downloads.count("../../_sources/book/chapters/01_a.ipynb") == 1
        offered = read(html / "_sources" / "book" / "chapters" / "01_a.ipynb")
        named = "git+https://github.com/owner/name@main" if address else ""
        assert offered.cells[-1].source == f'repository = "{named}"'
        assert offered.cells[0].source == read(tree / "notebooks" / "01_a.ipynb").cells[0].source
    monkeypatch.setenv(colab.VARIABLE, "https://example.org")
    with pytest.raises(ValueError, match="github.com/owner/name"):
        build(tree)


def test_publishing_copies_the_reference_run_whole(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match="01_a.ipynb"):
        publish(tree, REFERENCE, ["01_a"])
    folder = tree / "runs" / REFERENCE.slug
    folder.mkdir()
    for name in notebook_names(tree):
        nbformat.write(document("part", f"published {name}"), folder / f"{name}.ipynb")
    assert [path.stem for path in publish(tree, REFERENCE, notebook_names(tree))] == ["01_a", "02_b"]
    assert "published 02_b" in read(tree / "book" / "chapters" / "02_b.ipynb").cells[0].source


@pytest.mark.parametrize(
    "tampered", ["a value", "a sentence", "a table removed", "two tables exchanged", "seed", "another model's value"]
)
def test_what_was_changed_after_the_run_is_named(tampered: str, tmp_path: Path) -> None:
    """A value with its digest, a sentence, a table of another run under this one's name: the chapters that show it."""
    for folder in ("book/chapters", *(f"results/{tables.name}" for tables in committed()), "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copyfile(ROOT / MANIFEST, tmp_path / MANIFEST)
    (tmp_path / "emolib").symlink_to(ROOT / "emolib")
    tables = tmp_path / "results" / REFERENCE.slug
    of_all = {name for name in notebook_names(ROOT) if not measures(name, ROOT)}
    frame = results.read(tables / "probing.parquet")
    about = frame.attrs["provenance"]
    if tampered == "a value":
        frame.loc[0, "value"] += 0.01
        results.write(frame, tables / "probing.parquet", about)
        expected = {"05_probing"} | of_all
    elif tampered == "another model's value":
        path = tables.with_name(LADDER[1].slug) / "patching.parquet"
        frame = results.read(path)
        results.write(frame.assign(n=frame["n"] + 1), path, frame.attrs["provenance"])
        expected = {"06_patching"} | of_all
    elif tampered == "seed":
        results.write(frame, tables / "probing.parquet", about | {"parameters": about["parameters"] | {"seed": 1}})
        expected = {"05_probing"} | of_all
    elif tampered == "a sentence":
        chapter = tmp_path / "book" / "chapters" / "05_probing.ipynb"
        chapter.write_text(chapter.read_text(encoding="utf-8").replace(" not ", " ", 1), encoding="utf-8")
        expected = {"05_probing"}
    elif tampered == "a table removed":
        (tables / "probing.parquet").unlink()
        expected = {"05_probing"} | of_all
    else:
        both = [tables / f"{name}.parquet" for name in ("probing", "patching")]
        contents = [path.read_bytes() for path in both]
        for path, content in zip(both, reversed(contents), strict=True):
            path.write_bytes(content)
        expected = {"05_probing", "06_patching"} | of_all
    found = altered(tmp_path)
    assert set(found) == expected and all(reason.startswith("altered: ") for reason in found.values())


def test_tables_that_disagree_are_named_where_they_are_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Even with a manifest that was written anew for them."""
    slug = Run().slug
    for folder in (f"results/{slug}", f"results/{REFERENCE.slug}"):
        shutil.copytree(ROOT / "results" / REFERENCE.slug, tmp_path / folder)
        path = tmp_path / folder / "ablation.parquet"
        frame = results.read(path)
        results.write(frame.assign(n=frame["n"] + 1), path, frame.attrs["provenance"])
    for folder in ("book/chapters", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "emolib").symlink_to(ROOT / "emolib")
    shutil.copytree(ROOT / "book" / "chapters", tmp_path / "runs" / REFERENCE.slug)
    publish(tmp_path, REFERENCE, [path.stem for path in CHAPTERS])
    found = altered(tmp_path)
    assert set(found) == {"B_ablation", "03_behaviour", "06_attention", "07_appraisals"}
    assert all(reason.startswith("inconsistent: tables of one run disagree") for reason in found.values())
    assert "3244 in " in found["B_ablation"] and "1801 in ablation" in found["B_ablation"]
    made = tmp_path / "runs" / slug
    made.mkdir()
    shutil.copyfile(ROOT / "notebooks" / "B_ablation.ipynb", made / "B_ablation.ipynb")
    write_parameters(Run(), tmp_path)
    stage_runs(tmp_path)
    page = (tmp_path / "book" / f"run-{slug}" / "index.md").read_text()
    assert "Do not cite this run: tables of one run disagree" in page
    assert "disagree on the number of texts answered right" in _freshness(REFERENCE.slug, tmp_path)


def test_the_committed_chapters_and_tables_are_those_of_the_manifest() -> None:
    assert altered(ROOT) == {}


def test_an_altered_chapter_says_so_at_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    app = SimpleNamespace(srcdir=str(ROOT))
    monkeypatch.setattr(pages, "_altered", lambda root: {"05_probing": "altered: <a> is not what the run has written"})
    for page, warned in (
        ("book/chapters/05_probing", True),
        ("book/chapters/06_patching", False),
        ("book/run-x/05_probing", False),
    ):
        context = {"body": "<p>text</p>"}
        pages.say_altered(app, page, "page.html", context, None)
        assert ("Do not cite" in context["body"]) is warned and "<a>" not in context["body"]
        assert context["body"].endswith("<p>text</p>")


def test_the_concordance_lists_every_figure_whose_caption_names_one_of_the_paper(tmp_path: Path) -> None:
    captions = {
        "fig-a": "Ours; dashed, its Figures 2, 3 and 12. On 200 events.",
        "fig-b": "As in the paper (its Figure 16, 200 pairs a layer), and Figures 30-32.",
        "fig-c": "Nothing of the paper: 14 texts.",
    }
    outputs = [
        nbformat.v4.new_output("display_data", {MIME: {"name": name, "alt": "x", "caption": caption}})
        for name, caption in captions.items()
    ]
    cell = nbformat.v4.new_code_cell("", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "05_x.ipynb")
    found = {number: re.findall("fig-[abc]", text) for number, text in pages.concordance(tmp_path).items()}
    assert found == {**{n: ["fig-a"] for n in (2, 3, 12)}, **{n: ["fig-b"] for n in (16, 30, 31, 32)}}


def test_the_concordance_has_every_figure_of_the_paper_and_ours_beside_it() -> None:
    page = [(ROOT / "book" / "concordance.md").read_text()]
    rows = [line.strip("| ").split(" | ") for line in page[0].splitlines() if re.match(r"\| \d", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 37)) and {len(row) for row in rows} == {3}
    assert all(row[2] in (f"OURS {row[0]}", "{doc}`chapters/00_tour` tells both to the model") for row in rows)
    pages.fill_concordance(SimpleNamespace(srcdir=ROOT), "book/concordance", page)
    assert "OURS" not in page[0] and "{numref}`fig-probing-depth`" in page[0] and page[0].count(" | – |") < 12


@pytest.mark.parametrize(
    ("tex", "number"),
    [
        (r"a = b, \qquad c = d", 2),
        (r"x \leftarrow 0 \qquad\text{and}\qquad x \leftarrow r", 3),
        (r"s = \begin{cases} a \qquad b \\ c \end{cases} \qquad t", 2),
        (r"\frac{a \qquad b}{c}", 1),
    ],
)
def test_a_formula_is_parted_where_it_may_go_on_in_the_next_line(tex: str, number: int) -> None:
    parts = pages.formula_parts(tex)
    assert len(parts) == number and r"\qquad".join(parts) == tex
    for part in parts:
        assert pages.mathml(nodes.math_block(), part).startswith('<math display="block"')


def test_code_stands_in_one_fold_behind_the_chapter_or_below_what_it_shows() -> None:
    def cell(name: str, *shown: str) -> nodes.container:
        code = nodes.container("", nodes.literal_block(name, name), nb_element="cell_code_source")
        drawn = [nodes.container("", nodes.paragraph("", text), nb_element="cell_code_output") for text in shown]
        return nodes.container("", code, *drawn, classes=["tag_hide-input", name])

    opening, later = nodes.section("", cell("in", "drawn")), nodes.section("", cell("late", "table"), cell("silent"))
    chapter = nodes.section("", cell("first"), opening, later)
    document = new_document("chapter")
    document += chapter
    pages.put_setup_last(None, document)
    assert opening.astext() == "drawn" and later.astext().split() == ["late", "table"]
    (fold,) = [one for one in chapter[-1] if isinstance(one, nodes.container)]
    assert [block.astext() for block in fold.findall(nodes.literal_block)] == ["first", "in", "silent"]
    assert {"first", "in", "silent"} <= set(fold["classes"])
    (shown,) = later
    code = HideCodeCellNode("", shown.pop(0), classes=["above-input"])
    shown.insert(0, code)
    pages.put_code_below(None, document, "chapter")
    assert [one.astext() for one in shown] == ["table", "late"]


def test_the_first_use_of_a_word_in_prose_is_a_link_and_nothing_else_changes() -> None:
    said = (
        terms.Term("term-probe", 'A "small" reader.', ("probe", "probes")),
        terms.Term("term-stream", "The state.", ("residual stream",)),
    )
    body = """<h1>A probe</h1><p>See <a href="#x">probes</a>, <code>probe</code>; a "reprobe" is no pre-probe.</p>
<p><strong>Provenance.</strong> Code: <code>1</code>, probe 2.</p><div>probe</div><pre>probe</pre>
<figure><svg aria-label="probe > text"><text>probe</text></svg><figcaption><p>A probe<figcaption></figcaption></figure>
<table><tr><td><p>probe</p></td></tr></table><p>Two <em>Probes</em> of the residual
stream.</p><ul><li>a probe, the residual stream</li></ul>"""
    linked = terms.linked(body, said, "../glossary.html")
    found = re.findall(r'<a class="emolib-term" href="([^"]+)" title="([^"]+)">(.*?)</a>', linked, re.DOTALL)
    assert found == [
        ("../glossary.html#term-probe", "A &quot;small&quot; reader.", "Probes"),
        ("../glossary.html#term-stream", "The state.", "residual\nstream"),
    ]
    assert re.sub(r'<a class="emolib-term"[^>]*>(.*?)</a>', r"\1", linked, flags=re.DOTALL) == body
    assert terms.linked(body, (), "x") == body


def test_every_word_of_the_glossary_is_explained_by_a_sentence_that_stands_alone() -> None:
    """Plain for both readers: short, without formulas, and without other words of the glossary but the commonest."""
    text = (ROOT / "book" / "glossary.md").read_text().split("```{glossary}\n")[1].split("```")[0]
    special = yaml.safe_load((ROOT / "emolib" / "book" / "terms.yml").read_text())
    entries = {}
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        words = tuple(line for line in lines if not line.startswith(" "))
        entries[words] = re.split(r"(?<=[.?]) ", " ".join(line.strip() for line in lines[len(words) :]))[0]
    known = {word for words in entries for word in words}
    order = [words[0].lower().replace("²", "2") for words in entries]
    assert set(special) <= known and order == sorted(order)
    forms = [
        (form.lower(), words) for words in entries for word in words for form in special.get(word, [word, f"{word}s"])
    ]
    assert len({form for form, _ in forms}) == len(forms), "a form of two words"
    for words, sentence in entries.items():
        assert sentence[-1] in ".?" and len(sentence.split()) <= 30 and not set(sentence) & set("$`{"), words
        others = {form for form, owners in forms if words != owners and re.search(rf"\b{form}\b", sentence.lower())}
        assert others <= {"layer", "layers", "direction", "directions"}, f"{words}: {others}"

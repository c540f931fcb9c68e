"""The written pages: every equation, every reference, every page in the table of contents."""

from __future__ import annotations

import ast
import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from emolib.figures import palette
from helpers import ROOT

PAGES = sorted((ROOT / "book").glob("*.md"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in PAGES}
NOTEBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "notebooks").glob("*.py"))}
DRAWINGS = sorted((ROOT / "book" / "drawings").glob("*.svg"))


def bibliography() -> dict[str, str]:
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = re.split(r"^@", text, flags=re.MULTILINE)[1:]
    return {re.match(r"\w+\{([^,]+),", entry)[1]: entry for entry in entries}  # type: ignore[index]


def cited(text: str) -> set[str]:
    return {key.strip() for keys in re.findall(r"\{cite:[tp]\}`([^`]+)`", text) for key in keys.split(",")}


def test_every_citation_has_an_entry_and_every_entry_says_who_what_and_when() -> None:
    entries = bibliography()
    assert len(entries) >= 30
    for name, text in {**TEXTS, **NOTEBOOKS}.items():
        assert cited(text) <= set(entries), f"{name}: {cited(text) - set(entries)}"
    for key, entry in entries.items():
        software = "howpublished = {Software}" in entry  # has a version instead of a year
        for field in ("title", "author", *(() if software else ("year",))):
            assert re.search(rf"^  {field} = \{{.+\}}", entry, re.MULTILINE), f"{key} has no {field}"
        eprint = re.search(r"eprint = \{([^}]*)\}", entry)
        assert eprint is None or re.fullmatch(r"\d{4}\.\d{4,5}", eprint[1]), key


def test_the_page_of_the_interface_names_modules_that_exist() -> None:
    named = re.findall(r"automodule:: (\S+)", TEXTS["api"])
    assert len(named) > 10 and not [name for name in named if importlib.util.find_spec(name) is None]


def test_entries_are_cited_somewhere() -> None:
    used = set().union(*(cited(text) for text in [*TEXTS.values(), *NOTEBOOKS.values()]))
    assert not set(bibliography()) - used


def test_notation_has_all_fourteen_equations_typeset_and_labelled() -> None:
    text = TEXTS["04_notation"]
    named = {int(number) for number in re.findall(r"\bE(\d+)\b", text)}
    assert set(range(1, 15)) <= named
    labels = re.findall(r"^:label: (eq-[a-z-]+)$", text, re.MULTILINE)
    assert len(labels) == len(set(labels)) == text.count("```{math}") >= 11
    assert r"h_t^{(l-1)} + a_t^{(l)}\bigr)" in text, "the corrected residual stream"


@pytest.mark.parametrize("page", [path.stem for path in PAGES])
def test_every_page_is_in_the_table_of_contents(page: str) -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert files.count(f"book/{page}") == 1


def test_sections_come_in_the_paper_s_order() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [Path(chapter["file"]).name for part in toc["parts"] for chapter in part["chapters"]]
    sections = [name for name in files if re.match(r"0\d_|1[012]_(?:discussion|limitations|ethics)", name)]
    numbers = [int(name[:2]) for name in sections]
    assert numbers == sorted(numbers) and {1, 2, 3, 4, 5, 10, 11, 12} <= set(numbers)


def test_the_glossary_defines_each_word_once() -> None:
    body = TEXTS["glossary"].split("```{glossary}")[1].split("```")[0]
    terms = [line for line in body.splitlines() if line and not line.startswith(" ")]
    assert len(terms) == len(set(terms)) >= 30
    assert {"appraisal", "residual stream", "patching", "probe", "agreed set", "theory score"} <= set(terms)


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_says_what_it_shows_in_the_book_s_colours_and_is_shown_once(path: Path) -> None:
    root, svg = ET.parse(path).getroot(), "{http://www.w3.org/2000/svg}"  # raises where it is not well-formed
    assert root.get("role") == "img" and path.stat().st_size < 12_000
    title, desc = (root.findtext(f"{svg}{name}") or "" for name in ("title", "desc"))
    assert 0 < len(title) <= 80 < len(desc), "a title that fits a tooltip, and a description of what is to be seen"
    known = {palette.GREY, *palette.COMPONENT_COLOURS.values(), *palette.EMOTION_COLOURS.values()}
    used = {part.get(name) for part in root.iter() for name in ("fill", "stroke", "color")}
    assert used <= {*known, "currentColor", "none", None}
    # Inline in a page: a style would be the page's, an id would be there twice, and the page's fonts are used.
    assert not [part for part in root.iter() if part.tag == f"{svg}style" or part.get("style") or part.get("id")]
    assert {part.get("font-family") for part in root.iter()} == {"system-ui, sans-serif", None}
    _, _, width, _ = map(float, root.get("viewBox", "").split())
    sizes = [float(part.get("font-size", "inf")) for part in root.iter()]
    assert min(sizes) * 312 / width >= 11, "px of type on a phone of 360 px, of which the theme leaves 312"
    directive = f"{{figure}} drawings/{path.name}\n", f"{{figure}} ../drawings/{path.name}\n"
    pages = [text.replace("\n# ", "\n") for text in NOTEBOOKS.values()]
    assert [sum(map(text.count, directive)) for text in [*TEXTS.values(), *pages] if path.name in text] == [1]


def test_there_are_the_six_drawings() -> None:
    assert {path.stem for path in DRAWINGS} == {"stream", "probe", "patch", "knockout", "push", "prompt"}


def shown(notebook: str) -> list[dict[str, ast.expr]]:
    """What is said of each figure that a notebook shows, in its order."""
    calls = [node for node in ast.walk(ast.parse(notebook)) if isinstance(node, ast.Call)]
    drawn = sorted((call for call in calls if ast.unparse(call.func) == "figures.show"), key=lambda call: call.lineno)
    return [{word.arg or "": word.value for word in call.keywords} for call in drawn]


def folded(words: dict[str, ast.expr]) -> bool:
    return "fold" in words and ast.unparse(words["fold"]) == "True"


def test_figures_in_the_text_are_few_and_their_titles_are_computed() -> None:
    in_text = {name: [words for words in shown(text) if not folded(words)] for name, text in NOTEBOOKS.items()}
    for name, figures in in_text.items():
        for words in figures:
            typed = not any(isinstance(part, ast.Name) for part in ast.walk(words["title"]))
            assert not typed, f"{name}: {ast.unparse(words['title'])} is typed, not computed"
        assert not shown(NOTEBOOKS[name]) or not folded(shown(NOTEBOOKS[name])[0]), (
            "a chapter's key figure is in its text"
        )
    assert sum(map(len, in_text.values())) - len(in_text["00_tour"]) == 35, "the rest is folded"


@pytest.mark.parametrize("name", [name for name, text in NOTEBOOKS.items() if "# ## In short\n" in text])
def test_a_chapter_opens_with_its_answer_its_figure_and_its_verdicts(name: str) -> None:
    head, _, rest = NOTEBOOKS[name].partition("# ## In short\n")
    first = re.search(r"^# # .*?(?=\n\n# %%)", head, re.DOTALL | re.MULTILINE)
    assert first and re.fullmatch(r"# # [^\n]+\n#\n# \*\*Question\.\*\*(\n# |[^\n])+", first[0]), "terms come behind"
    opening = rest[: rest.index("# ## ")]
    places = [opening.find(call) for call in ("say(", "figures.show(", "overview.badges(") if call in opening]
    assert places and places[0] == min(places) and places == sorted(places), "answer, figure, badges"

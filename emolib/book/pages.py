"""A Sphinx extension: the book asks no other host for anything, and every chapter offers its notebook.

Vega comes out of vl-convert-python and is copied beside the pages when the book is rendered. Formulas become MathML,
which browsers set themselves, with the font of book/_static/vendor. The extension adds the button that opens a
chapter's notebook in Colab, if the project has an address (`emolib.book.colab`), and puts that notebook, not its
outputs, behind the download. The drawings of book/drawings become part of the page that shows them, and words of the
glossary are linked to it (`emolib.book.terms`).
"""

from __future__ import annotations

import html
import inspect
import json
import re
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from math_core import LatexError, LatexToMathML
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from emolib.book import colab, explorer, render, staging, terms
from emolib.engine.places import plain
from emolib.engine.registry import registry
from emolib.figures.display import MIME
from emolib.figures.palette import COMPONENT_LABELS, EMOTION_COLOURS
from emolib.study.run import REFERENCE
from emolib.texts.appraisals import PUSHED
from emolib.texts.corpus import load_corpus

logger = logging.getLogger(__name__)
ASK = "book/ask"
DRAWINGS = "book/drawings"
ICONS = re.compile(r"<script [^>]*scripts/fontawesome\.js[^>]*></script>|<link [^>]*scripts/fontawesome\.js[^>]*>")
SEARCH = re.compile(r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
FORMULAS = LatexToMathML(fancy_error=False)


def setup(app: Sphinx) -> dict[str, Any]:
    """Return what Sphinx wants to know about the extension."""
    app.add_html_math_renderer("mathml", (set_in_line, None), (set_apart, None))
    app.connect("config-inited", add_assets)
    app.connect("source-read", fill_concordance)
    app.connect("source-read", take_over)
    app.connect("doctree-read", draw_inline, priority=400)  # Sphinx copies images at 500
    app.connect("doctree-read", put_setup_last, priority=400)  # before the contents of a page are listed
    app.connect("doctree-resolved", put_code_below)
    app.connect("autodoc-process-docstring", as_text)
    app.connect("html-page-context", add_button, priority=502)  # the theme fills the header at 501
    app.connect("html-page-context", link_terms)
    app.connect("html-page-context", say_altered)
    app.connect("html-page-context", drop_scripts, priority=900)
    app.connect("build-finished", offer_notebooks)
    app.connect("build-finished", drop_unused)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def as_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn a docstring of emolib into reStructuredText, in place: names in backticks are code, all else is words.

    What Python itself says of a named tuple's fields is left out.
    """
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc("\n".join(lines)))
    lines[:] = []
    for paragraph in paragraphs:
        if paragraph.startswith(" ") or "\n    " in paragraph:  # a formula or an example stays as it is
            lines += ["::", "", *(f"    {line}" for line in paragraph.splitlines()), ""]
            continue
        parts = re.split(r"(`+[^`]+`+)", " ".join(paragraph.split()))
        words = [
            f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([*|_\\])", r"\\\1", part) for part in parts
        ]
        lines += ["".join(words), ""]


def add_assets(app: Sphinx, config: Config) -> None:
    """Return None after putting the scripts that pages load into a folder that becomes part of _static."""
    folder = Path(app.outdir).parent / "assets"
    folder.mkdir(parents=True, exist_ok=True)
    config.release = metadata.version("emolib")
    place = colab.repository(Path(app.srcdir))
    code = f"[{place.owner}/{place.name}]({place.page})" if place else "the repository that this book was made from"
    config.myst_substitutions |= {"code": code, "reference": registry()[REFERENCE.model]["title"]}
    if (Path(app.srcdir) / f"{explorer.PAGE}.md").is_file():
        shutil.rmtree(folder / explorer.FOLDER, ignore_errors=True)  # of measures that are no longer there
        (folder / explorer.FOLDER).mkdir()
        for name, text in explorer.scripts(Path(app.srcdir)):
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "vega.js").write_text(explorer.vega(), encoding="utf-8")
    if (Path(app.srcdir) / f"{ASK}.md").is_file():
        data = json.dumps(questions(Path(app.srcdir)), separators=(",", ":"))
        (folder / "ask-data.js").write_text(f"window.emolibQuestions = {data};\n", encoding="utf-8")
    config.html_static_path.append(str(folder))


def set_in_line(translator: Any, node: nodes.math) -> None:
    """Write a formula that stands in a sentence; for Sphinx. Raises nodes.SkipNode, its word for "done"."""
    translator.body.append(f'<span class="math">{mathml(node, node.astext())}</span>')
    raise nodes.SkipNode


def set_apart(translator: Any, node: nodes.math_block) -> None:
    """Write a formula that stands by itself, with its number; for Sphinx. Raises nodes.SkipNode, its word for "done".

    What \\qquad parts goes on in the next line where the page is narrow.
    """
    parts = "".join(mathml(node, part) for part in formula_parts(node.astext()))
    translator.body.append(f"{translator.starttag(node, 'div', '', CLASS='math')}<div>{parts}</div>")
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def mathml(node: nodes.Element, tex: str) -> str:
    """Return TeX as MathML; what cannot be set is a warning, which names it, and stays as it is."""
    try:
        return FORMULAS.convert_with_local_state(tex, displaystyle=isinstance(node, nodes.math_block))
    except LatexError as error:
        logger.warning("the formula %s cannot be set: %s", tex, error, location=node)
        return html.escape(tex)


def formula_parts(tex: str) -> list[str]:
    """Return the formulas that \\qquad parts, where it stands in no braces and in no environment."""
    parts: list[str] = []
    for piece in tex.split(r"\qquad"):
        inside = parts and any(parts[-1].count(a) != parts[-1].count(b) for a, b in (("{", "}"), (r"\begin", r"\end")))
        parts = [*parts[:-1], rf"{parts[-1]}\qquad{piece}"] if inside else [*parts, piece]
    return [part for part in parts if part.strip()]


def fill_concordance(app: Sphinx, docname: str, source: list[str]) -> None:
    """Return None after putting our figures beside those of the paper into the page that asks for them ("OURS 12")."""
    if Path(docname).name == "concordance":
        ours = concordance(Path(app.srcdir) / "book" / "chapters")
        source[0] = re.sub(r"\bOURS (\d+)", lambda asked: ours.get(int(asked[1]), "–"), source[0])


def take_over(app: Sphinx, docname: str, source: list[str]) -> None:
    """Return None after making the first page one about the reader's latest run, where there is one."""
    if docname == "book/index":
        source[0] = staging.with_latest(source[0], Path(app.srcdir))


def concordance(chapters: Path) -> dict[int, str]:
    """Our figures by chapter, in Markdown, for each figure of the paper that their captions name."""
    ours: dict[int, dict[str, list[str]]] = {}
    for path in sorted(chapters.glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                about = output.get("data", {}).get(MIME)
                for number in _figures_of_paper(about["caption"]) if about else ():
                    ours.setdefault(number, {}).setdefault(path.stem, []).append(f"{{numref}}`{about['name']}`")
    return {
        number: "; ".join(
            f"{', '.join(dict.fromkeys(names))} ({{doc}}`chapters/{stem}`)" for stem, names in places.items()
        )
        for number, places in ours.items()
    }


def _figures_of_paper(caption: str) -> list[int]:
    """The numbers in a caption's "its Figure 17", "Figures 2, 3 and 12", "Figures 30-36"."""
    numbers = [int(one) for one in re.findall(r"Figure (\d+)", caption)]
    for listed in re.findall(r"Figures (\d+(?:(?:, | and |[–-])\d+)*)", caption):
        for part in re.split(r", | and ", listed):
            ends = [int(end) for end in re.findall(r"\d+", part)]
            numbers += range(ends[0], ends[-1] + 1)
    return numbers


def questions(root: Path) -> dict[str, Any]:
    """Return what a reader can ask of which models on the page `ASK`, as plain JSON values.

    The events of our corpus in the order of every file in `render.ANSWERS`, the models whose answers are there, and how
    labels, components and pushes are drawn and called.
    """
    corpus, files = load_corpus("situations"), sorted((root / render.ANSWERS).glob("*.js"))
    titles = {plain(name): entry["title"] for name, entry in registry().items()}
    return {
        "events": corpus.events[["text_id", "emotion", "text"]].rename(columns={"text_id": "id"}).to_dict("records"),
        "corpus": corpus.sha256,
        "models": [
            {
                "file": path.stem,
                "title": titles.get(path.stem, path.stem),
                "megabytes": f"{path.stat().st_size / 1e6:.1f}",
            }
            for path in files
        ],
        "colours": EMOTION_COLOURS,
        "names": COMPONENT_LABELS,
        "pushes": PUSHED,
    }


def draw_inline(app: Sphinx, doctree: nodes.document) -> None:
    """Return None after putting each drawing itself in place of its image: only so does it take the page's colours."""
    for image in list(doctree.findall(nodes.image)):
        _, path = app.env.relfn2path(image["uri"], app.env.docname)
        if Path(path).parent == Path(app.srcdir) / DRAWINGS:
            svg = Path(path).read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", svg, format="html", classes=["emolib-drawing"]))


def put_setup_last(app: Sphinx, doctree: nodes.document) -> None:
    """Return None after moving code to the end of a chapter, in one fold: of folded cells that show nothing, and of its
    top."""
    # Before the chapter stands the cell for Colab, which is not shown.
    chapter, opening, *_ = list(doctree.findall(nodes.section)) + [None, None]
    section = nodes.section("", nodes.title("", "Set-up"), ids=["set-up"], names=["set-up"])
    section += nodes.paragraph("", "The cells that come first when the notebook is run, and those of the opening.")
    fold: nodes.container | None = None
    for cell in [one for one in doctree.findall(nodes.container) if "tag_hide-input" in one["classes"]]:
        source, *shown = cell.children
        if shown and cell.parent not in (chapter, opening):
            continue
        cell.remove(source)
        if fold is None:
            fold = cell.copy()  # without its children
            fold += source
            section += fold
        else:
            fold["classes"] += [name for name in cell["classes"] if name not in fold["classes"]]
            fold[0].extend(source.children)
        if not shown:
            cell.parent.remove(cell)
    if chapter is not None and fold is not None:
        chapter += section


def put_code_below(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Return None after moving folded code below what it shows: under a heading the reader looks for that."""
    for fold in list(doctree.findall(HideCodeCellNode)):
        if "above-input" in fold["classes"] and len(fold.parent) > 1:
            cell = fold.parent
            cell.remove(fold)
            cell += fold


def add_button(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Return None after adding the Colab button to the header of a chapter, if the project has an address."""
    place = colab.repository(Path(app.srcdir))
    if place is None or _notebook(app, pagename) is None:
        return
    button = {
        "type": "link",
        "url": place.colab(Path(pagename).name),
        "tooltip": "Open this chapter's notebook in Colab",
        "text": "Colab",
        "icon": "_static/images/logo_colab.png",
        "label": "colab-button",
    }
    context["header_buttons"].insert(0, button)


def link_terms(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Return None after linking the first use of each word of the glossary in a page, if it is a page of its own."""
    if app.builder.name == "html" and pagename not in terms.WITHOUT and "body" in context:
        address = app.builder.get_relative_uri(pagename, terms.PAGE)
        context["body"] = terms.linked(context["body"], terms.of_book(app.env), address)


def say_altered(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Return None after putting a warning at the head of a committed chapter that is not what was computed."""
    chapter = Path(pagename)
    if chapter.parent == render.CHAPTERS and (reason := _altered(Path(app.srcdir)).get(chapter.name)):
        title, text = "Do not cite this chapter", html.escape(f"What it shows is {reason}.")
        note = f'<div class="admonition danger"><p class="admonition-title">{title}</p><p>{text}</p></div>'
        context["body"] = note + context["body"]


_altered = cache(render.altered)  # once a rendering


def drop_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Return None after removing what jupyter-book adds to every page and this one does not use.

    What is for live code is never used here, names another host, and is added twice, which is an error in the browser's
    console.
    """
    for kind in ("script_files", "css_files"):  # some scripts have no file but a body
        context[kind] = [file for file in context[kind] if "thebe" not in f"{file} {vars(file)}".lower()]


def drop_unused(app: Sphinx, error: Exception | None) -> None:
    """Return None after taking from the pages what the theme's templates load and nothing uses.

    The script that draws icons, 1.5 MB: the theme has them as a font too. And the index of all words, 0.2 MB, which the
    page that shows what a search has found loads by itself.
    """
    if error is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            bare = ICONS.sub("", text)
            bare = bare if page.name == "search.html" else SEARCH.sub("", bare)
            if bare != text:
                page.write_text(bare, encoding="utf-8")
        (Path(app.outdir) / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)


def offer_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Return None after replacing each executed chapter behind a download button by its notebook, without outputs."""
    if error is not None or app.builder.name != "html":
        return
    for page in app.env.found_docs:
        source = _notebook(app, page)
        target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        if source is not None and target.is_file():
            notebook = source.read_text(encoding="utf-8")
            target.write_text(colab.addressed(notebook, colab.repository(Path(app.srcdir))), encoding="utf-8")


def _notebook(app: Sphinx, page: str) -> Path | None:
    """The notebook a page was executed from, None when it is no chapter."""
    path = Path(app.srcdir) / "notebooks" / f"{Path(page).name}.ipynb"
    return path if Path(app.env.doc2path(page)).suffix == ".ipynb" and path.is_file() else None

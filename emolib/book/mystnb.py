"""Numbered figures in the book: a MyST-NB renderer for the outputs of `emolib.figures.display.show`.

MyST-NB takes captions and anchors from a cell's metadata, which a run cannot compute. This plugin, registered as the
entry point `emolib` in the group `myst_nb.mime_renderers`, reads them from the output instead and makes a figure with
number, anchor, title, Markdown caption and inline SVG; the PNG of the same output stands in where a builder takes no
HTML. A folded figure is one too, inside of a `details` that links and printing open (emolib.js).
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from sphinx import addnodes

from emolib.book.explorer import PAGE, question_of
from emolib.figures.display import MIME


class FigureRenderer:
    """The plugin; MyST-NB calls `handle_mime` for every output of every notebook."""

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [("*", MIME, 1)]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """Return the figure node of an output of `show`, None for any other output."""
        if inline or data.mime_type != MIME:
            return None
        about = data.content
        output = renderer.renderer.nb_client.code_cell_outputs(data.cell_index)[1][data.output_index]["data"]
        html = output["text/html"]
        drawing = html[html.index("<svg") : html.rindex("</svg>") + len("</svg>")]
        picture = base64.b64decode(output["image/png"])
        uri = renderer.write_file([f"{hashlib.sha256(picture).hexdigest()}.png"], picture, exists_ok=True)
        figure = nodes.figure("", classes=["emolib-figure"], align="default")
        title, fold = _words(renderer.renderer, about.get("title", ""), data.line), about.get("fold", False)
        if title and not fold:  # chapters that were drawn by earlier code have no titles
            figure += nodes.paragraph("", "", *title, classes=["emolib-title"])
        figure += _only("html", nodes.raw("", drawing, format="html"))
        figure += _only("not html", nodes.image(uri=uri, alt=about["alt"]))
        figure += nodes.caption("", "", *_words(renderer.renderer, about["caption"], data.line))
        figure += _question(renderer.renderer.document.settings.env, about["name"])
        figure["names"].append(nodes.fully_normalize_name(about["name"]))
        figure.line = data.line
        renderer.renderer.document.note_explicit_target(figure, figure)
        if not fold:
            return [figure]
        opens, says, closes = (
            nodes.raw("", html, format="html")
            for html in ('<details class="emolib-more"><summary>More: ', "</summary>", "</details>")
        )
        return [opens, nodes.inline("", "", *title), says, figure, closes]


def _only(builders: str, child: nodes.Element) -> addnodes.only:
    return addnodes.only("", child, expr=builders)


def _question(env: Any, name: str) -> list[nodes.Element]:
    """The link from a figure to its question in the explorer, if it has one and the book has an explorer."""
    found = question_of(name)
    if found is None or PAGE not in env.found_docs:
        return []
    address = f"{posixpath.relpath(PAGE, posixpath.dirname(env.docname))}.html#{found[0]}"
    link = nodes.reference("", f"Explore: {found[1]}", refuri=address, internal=True)
    return [nodes.legend("", nodes.paragraph("", "", link, classes=["emolib-explore"]))]


def _words(parser: Any, text: str, line: int | None) -> list[nodes.Node]:
    """Markdown of one paragraph or several as what stands inside of one."""
    holder = nodes.Element()
    with parser.current_node_context(holder):
        parser.nested_render_text(text, line or 0)
    words: list[nodes.Node] = []
    for paragraph in holder.children:
        words += [nodes.Text(" ")] if words else []
        words += paragraph.children
    return words

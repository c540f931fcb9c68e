"""Words of the glossary in the pages of the book: the first use of each becomes a link that says what it means.

The first sentence of the glossary's entry goes into the link's title, which book/_static/emolib.js shows under the
mouse, the keyboard's focus and a finger. It is done to the HTML of a page, so that computed sentences need nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

PAGE = "book/glossary"
# Pages that explain the words themselves, or list names.
WITHOUT = (PAGE, "book/api", "book/references", "book/faults", "book/families")
PROSE = {"p", "li", "dd"}
# Within it a link is not made another one, and code, formulas and drawings are no prose.
CLOSED = {"a", "button", "code", "dt", "figure", "math", "pre", "summary", "svg", "table"}
# Tags; and the paragraph behind a chapter that names code and parameters, whole.
TAGS = re.compile(r"(<p><strong>Provenance\..*?</p>|<[^>]*>)", re.DOTALL)


@dataclass(frozen=True)
class Term:
    """An entry of the glossary: its anchor, the first sentence of its text, and the forms under which it is found."""

    anchor: str
    says: str
    forms: tuple[str, ...]


@cache  # once a rendering
def of_book(env: Any) -> tuple[Term, ...]:
    """Return the terms of a book's glossary, none when it has no glossary; `env` is Sphinx's environment."""
    return tuple(entries(env.get_doctree(PAGE))) if PAGE in env.found_docs else ()


def entries(glossary: nodes.document) -> list[Term]:
    """Return the terms of a glossary as docutils has read it.

    Raises ValueError when terms.yml has forms of a word that the glossary lacks.
    """
    special = yaml.safe_load(Path(__file__).with_name("terms.yml").read_text(encoding="utf-8"))
    found, heads = [], set()
    for item in glossary.findall(nodes.definition_list_item):
        terms = [one for one in item if isinstance(one, nodes.term)]
        words = [one.astext() for one in terms]
        text = " ".join(item[-1][0].astext().split())
        forms = [form for word in words for form in special.get(word, [word, f"{word}s"])]
        found.append(Term(terms[0]["ids"][0], re.split(r"(?<=[.?!]) ", text)[0], tuple(forms)))
        heads |= set(words)
    if unknown := sorted(set(special) - heads):
        raise ValueError(f"terms.yml has forms of {unknown}, which are no words of {PAGE}.md: write them as it does")
    return found


def linked(body: str, terms: tuple[Term, ...], address: str) -> str:
    """Return the HTML of a page in which the first use of each term leads to the glossary at the address.

    Only words of paragraphs, lists and definitions are links, not those of headings, captions, tables, links and code.
    """
    by_form = {form.lower(): term for term in terms for form in term.forms}
    if not by_form:
        return body
    longest = sorted(by_form, key=len, reverse=True)
    words = "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in longest)
    pattern = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)
    used: set[Term] = set()

    def link(word: re.Match[str]) -> str:
        term = by_form[" ".join(word[0].lower().split())]
        if term in used:
            return word[0]
        used.add(term)
        return f'<a class="emolib-term" href="{address}#{term.anchor}" title="{escape(term.says)}">{word[0]}</a>'

    parts, prose, closed = TAGS.split(body), 0, 0
    for number, part in enumerate(parts):
        if tag := re.match(r"<(/?)([a-z][a-z0-9]*)[^>]*>$", part):
            step = -1 if tag[1] else 1
            prose += step * (tag[2] in PROSE)
            closed += step * (tag[2] in CLOSED)
        elif prose and not closed and not part.startswith("<"):
            parts[number] = pattern.sub(link, part)
    return "".join(parts)

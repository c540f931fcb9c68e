"""The book as one PDF: rendered as a single page, printed by a browser. `make pdf` runs `python -m emolib.book.pdf`.

Formulas and figures are those of the pages, in light colours; folded code stays out; links and bookmarks work.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from emolib.book import browser
from emolib.book.render import render, write_toc
from emolib.cli import checkout

TARGET = Path("_build/pdf/book.pdf")
# The theme's page for printing begins with title and contents. Pages are sections of it, and links between pages are
# links within it. Sphinx numbers the entries of the bibliography as it numbers the citations of each page, so those
# get names of their own.
PREPARE = """([name, author, day]) => {
  const title = document.querySelector("#jb-print-docs-body h1");
  title.textContent = name;
  for (const text of [day, author]) title.after(Object.assign(document.createElement("p"), { textContent: text }));
  const entries = new Map();
  for (const entry of document.querySelectorAll(".citation[id], .citation [id], dt.bibtex[id]")) {
    entries.set(entry.id, `entry-${entry.id}`);
    entry.id = `entry-${entry.id}`;
  }
  for (const link of document.querySelectorAll("article a[href]")) {
    const [address, anchor] = link.getAttribute("href").split("#");
    if (anchor && !/^[a-z]+:/.test(address)) {
      const entry = address && entries.get(anchor);
      link.setAttribute("href", `#${entry ?? anchor}`);
    }
  }
  const code = "details.hide, #emolib-explorer details, #emolib-ask details";
  document.querySelectorAll(code).forEach((fold) => fold.remove());
  document.querySelectorAll("details.emolib-more").forEach((fold) => { fold.open = true; });
  // A link to a page leads to a name before it, which would stay behind at the foot of the page before.
  for (const name of document.querySelectorAll("article span[id^='document-']")) name.nextElementSibling?.prepend(name);
  // What is left of a cell that showed nothing else would part a heading from what it is about, at the foot of a page.
  for (const cell of [...document.querySelectorAll("article :is(.cell, .cell_input, .cell_output)")].reverse()) {
    if (!cell.textContent.trim() && !cell.querySelector("svg, img, table")) cell.remove();
  }
  for (const link of document.querySelectorAll("#jb-print-toc a[href^='#']")) {
    link.append(Object.assign(document.createElement("span"), { className: "emolib-page", textContent: "000" }));
  }
}"""
# Where an entry of the contents leads is known once it has been printed, on pages that the numbers do not move.
NUMBER = """(pages) => {
  for (const place of document.querySelectorAll(".emolib-page")) {
    place.textContent = pages[decodeURIComponent(place.parentElement.hash.slice(1))] ?? "";
  }
}"""
FOOTER = """<div style="font: 8px sans-serif; width: 100%; text-align: center; color: #555">
<span class="pageNumber"></span></div>"""
SHEET: dict[str, Any] = dict(
    format="A4",
    outline=True,
    tagged=True,
    print_background=True,
    display_header_footer=True,
    header_template="<span></span>",
    footer_template=FOOTER,
    margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
)


def print_book(root: Path) -> Path:
    """Return the PDF, A4, of the book as it would be rendered now, with a title page, page numbers and bookmarks.

    Raises RuntimeError when the book has warnings or errors, or when there is no Chromium to print with.
    """
    program = browser.install()
    if program is None:
        raise RuntimeError(f"the PDF is printed by Chromium, and there is none here: {browser.ADVICE}")
    toc = write_toc(root)
    folder = render(root, toc, "singlehtml").parent
    written = folder / f"{yaml.safe_load(toc.read_text())['root']}.html"
    # Sphinx writes its links as if this page lay at the top, so there it goes; those of the explorer are its own.
    source = folder / "print.html"
    source.write_text(written.read_text(encoding="utf-8").replace('"../_static/', '"_static/'), encoding="utf-8")
    target, config = root / TARGET, yaml.safe_load((root / "_config.yml").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    with browser.chromium(program) as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 1100}, color_scheme="light")
        page.set_default_timeout(600_000)  # milliseconds: it is the whole book, and the machine may have more to do
        page.goto(source.as_uri(), wait_until="load")
        if page.query_selector("#emolib-explorer"):
            page.wait_for_selector("#emolib-explorer[data-rows]")
        if page.query_selector("#emolib-ask[data-offered]"):
            page.click("#emolib-ask button")
            page.wait_for_selector("#emolib-ask[data-shown]")
        page.evaluate(PREPARE, [config["title"], config["author"], date.today().isoformat()])
        page.emulate_media(media="print", color_scheme="light")
        page.pdf(path=target, **SHEET)
        page.evaluate(NUMBER, page_numbers(target))
        page.pdf(path=target, **SHEET)
    return target


def page_numbers(pdf: Path) -> dict[str, int]:
    """Return the page, counted from 1, of every anchor that a link of the PDF leads to."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    places = {name.removeprefix("/"): place for name, place in reader.named_destinations.items()}
    return {name: (reader.get_destination_page_number(place) or 0) + 1 for name, place in places.items()}


if __name__ == "__main__":
    try:
        print(f"The book as PDF: {print_book(checkout()).as_uri()}")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"emolib: {error}")

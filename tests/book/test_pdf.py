"""The PDF of a small book: title, pages, figures, formulas and links, read back with another library."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pypdf import PdfReader

from emolib.book import browser
from emolib.book.pdf import TARGET, print_book
from helpers import ROOT

PICTURE = '<figure><svg viewBox="0 0 9 9" role="img" aria-label="a"><rect width="9" height="9"/></svg></figure>'
EMPTY = '<div class="cell"><div class="cell_input"></div></div>'
SECTION = "\n## Heading {0}\n\n```{{raw}} html\n{1}\n```\n\nWhat it is about.\n"
PRINT = "import sys, pathlib; from emolib.book.pdf import print_book; print_book(pathlib.Path(sys.argv[1]))"
PAGES = {
    "index": "# The first page\n\nIt cites {cite:t}`tak2025` and [the second](second.md).\n",
    "second": f"# The second page\n\n(part)=\n## A part\n\n$$x^2$$\n\n```{{raw}} html\n{PICTURE}\n```\n\n"
    "It cites {cite:t}`zhou2023`.\n",
    "third": "# The third page\n\nBack to {ref}`the part <part>`.\n"
    + "".join(SECTION.format(number, EMPTY + PICTURE) for number in range(9)),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    for name in ("references.bib", "references.md"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    for name, text in PAGES.items():
        (tmp_path / "book" / f"{name}.md").write_text(text)
    chapters = [{"file": f"book/{name}"} for name in ("second", "third", "references")]
    toc = {"format": "jb-book", "root": "book/index", "parts": [{"caption": "All", "chapters": chapters}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    return tmp_path


def links(reader: PdfReader) -> list[str]:
    found = [item.get_object() for page in reader.pages for item in page.get("/Annots", [])]
    return ["inner" if "/Dest" in item else item["/A"]["/URI"] for item in found if item.get("/Subtype") == "/Link"]


def test_book_is_printed_whole(root: Path) -> None:
    if browser.install() is None:
        pytest.skip(f"nothing was printed, because there is no Chromium: {browser.ADVICE}")
    # In a process of its own: other tests keep a browser open in this one.
    subprocess.run([sys.executable, "-c", PRINT, str(root)], check=True)
    reader = PdfReader(root / TARGET)
    texts = [" ".join(page.extract_text().split()) for page in reader.pages]
    title = yaml.safe_load((root / "_config.yml").read_text())["title"]
    assert title in texts[0] and "The emolib authors" in texts[0]
    starts = [
        next(i for i, text in enumerate(texts) if i and text.startswith(f"The {name} page"))
        for name in ("second", "third")
    ]
    assert 0 < starts[0] < starts[1], "each page of the book begins on a page of its own"
    contents = " ".join(texts[: starts[0]])
    for name, start in zip(("second", "third"), starts, strict=True):
        assert re.search(rf"The {name} page {start + 1}\b", contents), "the contents say on which page it begins"
    lines = [[line for line in page.extract_text().split("\n") if not line.strip().isdigit()] for page in reader.pages]
    assert sum(line.startswith("Heading") for page in lines for line in page) >= 9
    assert not [page for page in lines if page and page[-1].startswith("Heading")], "no heading stands alone"
    assert {page.mediabox.width for page in reader.pages} == {reader.pages[0].mediabox.width}
    targets = links(reader)
    assert targets.count("inner") >= 4, "the contents, the page, the part and the citation"
    assert not [target for target in targets if target.startswith("file:")], "no link leads to this machine"


def test_printing_without_a_browser_says_how_to_get_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "install", lambda: None)
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        print_book(root)

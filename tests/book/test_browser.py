"""Every page of the rendered book in a real browser: wide and narrow, light and dark, from a server and from files.

The book is rendered once, each page is opened once in every mode, and what was seen is judged test by test. A word that
stands nowhere else is planted in one page for the search. Without Chromium (`emolib.book.browser`) nothing can be seen,
and the tests are skipped, saying how to get one.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from fontTools.ttLib import TTFont

from emolib.book import browser, colab
from emolib.book.render import build, effective_toc
from emolib.engine.registry import registry
from emolib.study.run import REFERENCE
from emolib.tables import results
from helpers import ROOT, committed

WORD, PLANTED = "quokkaphone", "book/how_to_read"
ADDRESS = "https://github.com/someone/something/tree/trunk"
# Layout follows from the width, contrast from the theme, and paths from the scheme: each once is enough. What a page
# says is the same in both, so of axe's rules the second has those alone that follow from width; contrast is apart.
MODES = {
    "wide light": (1280, "light", "http", {"rules": {"color-contrast": {"enabled": False}}}),
    "narrow dark": (390, "dark", "file", {"runOnly": ["scrollable-region-focusable", "target-size"]}),
}
# One text of each look is marked: to measure the contrast of thousands of the same would take most of the time.
LOOKS = """() => {
  const seen = new Set(), clear = "rgba(0, 0, 0, 0)";
  const ground = (e) => e && (getComputedStyle(e).backgroundColor !== clear ? getComputedStyle(e).backgroundColor
    : ground(e.parentElement));
  for (const e of document.querySelectorAll("body *")) {
    const texts = [...e.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!texts.length || !e.checkVisibility()) continue;
    const s = getComputedStyle(e), look = [s.color, s.fill, s.opacity, s.fontSize, s.fontWeight, ground(e)].join();
    if (!seen.has(look)) e.setAttribute("data-look", seen.add(look).size);
  }
}"""
CONTRAST: dict[str, Any] = {
    "context": {"include": [["[data-look]"]]},
    "options": {"runOnly": ["color-contrast"], "resultTypes": ["violations"], "preload": False},
}
# Browsers slant a letter that stands alone in <mi>: what is drawn is another character, of the block of italic letters.
SEEN = """() => {
  const slanted = (code) => code === 104 ? 0x210e : code >= 65 && code <= 90 ? code - 65 + 0x1d434
    : code >= 97 && code <= 122 ? code - 97 + 0x1d44e : code >= 0x3b1 && code <= 0x3c9 ? code - 0x3b1 + 0x1d6fc : code;
  const letters = (e) => {
    const all = [...e.textContent];
    return e.localName === "mi" && all.length === 1 && e.getAttribute("mathvariant") !== "normal"
      ? String.fromCodePoint(slanted(all[0].codePointAt(0))) : all;
  };
  const images = [...document.images], box = document.documentElement;
  const named = (e) => e.alt?.trim() || e.getAttribute("aria-label") || e.getAttribute("aria-hidden") === "true"
    || e.querySelector(":scope > title")?.textContent.trim();
  return {
    overflow: box.scrollWidth - box.clientWidth,
    wide: [...document.querySelectorAll("article *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
      && !e.closest("[style*=overflow], .text_html, .pst-scrollable-table-container, .highlight, .math, svg")).length,
    broken: images.filter((e) => e.src && !e.naturalWidth).map((e) => e.src),
    cut: [...document.querySelectorAll("article div.math, article .text_html")].filter((box) =>
      [...box.querySelectorAll("math, table")].some(
        (e) => e.getBoundingClientRect().left < box.getBoundingClientRect().left - 1)).length,
    uncued: [...document.querySelectorAll("article *")].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1
      && /auto|scroll/.test(getComputedStyle(e).overflowX) && !e.matches(".emolib-scrolls")).length,
    unnamed: [...images, ...document.querySelectorAll("article svg[role=img]")].filter((e) => !named(e)).length,
    uncaptioned: [...document.querySelectorAll("article figure")].filter((e) =>
      !e.querySelector("figcaption")?.textContent.trim()).length,
    large: images.filter((e) => !e.closest("article") && e.getBoundingClientRect().height > 40).length,
    theme: box.dataset.theme,
    raw: document.querySelectorAll(".math:not(:has(math)), merror").length,
    wide_formulas: [...document.querySelectorAll("div.math")].filter((e) => e.scrollWidth > e.clientWidth + 1).length,
    letters: [...new Set([...document.querySelectorAll("math :not(:has(*))")].flatMap(letters))].join(""),
    bytes: performance.getEntries().reduce((sum, one) => sum + (one.decodedBodySize ?? 0), 0),
    ids: [...document.querySelectorAll("[id], a[name]")].map((e) => e.id || e.name),
    links: [...document.querySelectorAll("a[href]")].map((e) => e.href),
    toc: [...document.querySelectorAll("nav.bd-links a")].map((e) => e.href),
    buttons: [...document.querySelectorAll(".article-header-buttons a")].map((e) => e.href),
    fonts: [...document.fonts].filter((one) => one.status === "loaded").map((one) => one.family),
    seconds: performance.getEntriesByType("navigation")[0].loadEventEnd / 1000,
  };
}"""


@dataclass
class Visit:
    """What was seen of one page in one mode."""

    page: str
    problems: list[str] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the rendered book, with an address of the repository and a planted word."""
    root = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "_toc.yml", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("run-*"))
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    for tables in committed():
        shutil.copytree(tables, root / "results" / tables.name)
    with (root / f"{PLANTED}.md").open("a") as page:
        page.write(f"\nA planted word: {WORD}.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(colab.VARIABLE, ADDRESS)
        return build(root)[0].parent


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


@pytest.fixture(scope="session")
def pages(site: Path) -> list[str]:
    """Every page there is, those that Sphinx adds included; index.html only leads to the first one."""
    found = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    return sorted(page for page in found if not page.startswith("_static"))


@pytest.fixture(scope="session")
def visits(program: str, site: Path, server: str, pages: list[str]) -> dict[str, list[Visit]]:
    """What was seen of all pages in each mode; both at a time, each in a browser of its own."""

    def tour(mode: str) -> list[Visit]:
        width, theme, scheme, rules = MODES[mode]
        base = server if scheme == "http" else site.as_uri()
        with browser.chromium(program) as chromium:
            context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
            return [visit(context, page, base, rules) for page in pages]

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(MODES, threads.map(tour, MODES), strict=True))


def visit(context: Any, name: str, base: str, rules: dict[str, list[str]]) -> Visit:
    result = Visit(name)
    page = context.new_page()
    watch(page, base, result.problems)
    page.goto(f"{base}/{name}.html", wait_until="load")
    if name == "index":  # which only leads to the first page
        page.wait_for_url("**/book/index.html")
    page.evaluate("document.fonts.ready.then(() => true)")
    if name.endswith("explorer"):
        page.wait_for_selector(".emolib-explorer[data-rows] svg")
    if name.endswith("/ask"):
        page.wait_for_selector(".emolib-ask[data-offered]")
    result.seen = page.evaluate(SEEN)
    page.evaluate(LOOKS)
    others = {"options": {"resultTypes": ["violations"], "preload": False, **rules}}
    result.violations = [
        f"{found['impact']} {found['id']}: {node['target']} {node['html'][:120]}"
        for asked in (others, CONTRAST)
        for found in Axe().run(page, **asked).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]
    page.close()
    return result


def watch(page: Any, base: str, problems: list[str]) -> None:
    """Write down whatever goes wrong on a page, and every request that leaves it."""
    page.on("console", lambda line: problems.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on(
        "response",
        lambda response: problems.append(f"{response.status}: {response.url}") if response.status >= 400 else None,
    )
    page.on(
        "request",
        lambda request: (
            problems.append(f"elsewhere: {request.url}")
            if not request.url.startswith((base, "data:", "blob:"))
            else None
        ),
    )


def test_the_set_up_of_a_chapter_stands_behind_all_that_it_shows(site: Path) -> None:
    pages = sorted((site / "book" / "chapters").glob("*.html"))
    texts = [page.read_text() for page in pages]
    assert len(pages) == 18 and all(text.count('id="set-up"') == 1 for text in texts)
    for text in texts:
        before, _, last = text.partition('id="set-up"')
        assert "tag_parameters" in last and "tag_parameters" not in before and "emolib-figure" not in last
        opening = before.partition("<h1")[2].split("<h2")[:2]  # the title, and the first part
        assert 'details class="hide' not in "".join(opening)


@pytest.mark.parametrize("mode", MODES)
def test_pages_open_without_an_error_and_ask_nobody_else(visits: dict[str, list[Visit]], mode: str) -> None:
    assert {visit.page: visit.problems for visit in visits[mode] if visit.problems} == {}
    assert {visit.seen["theme"] for visit in visits[mode]} == {mode.split()[1]}


@pytest.mark.parametrize("mode", MODES)
def test_pages_fit_and_everything_on_them_is_there(visits: dict[str, list[Visit]], mode: str) -> None:
    for visit in visits[mode]:
        right = {"overflow": 0, "wide": 0, "cut": 0, "broken": [], "unnamed": 0, "uncaptioned": 0, "raw": 0, "large": 0}
        right["uncued"] = 0  # boxes that go on out of sight without saying so
        right["wide_formulas"] = 0  # that have to scroll, on a phone too
        assert {key: visit.seen[key] for key in right} == right, visit.page


@pytest.mark.parametrize("mode", MODES)
def test_axe_finds_nothing_serious(visits: dict[str, list[Visit]], mode: str) -> None:
    assert {visit.page: visit.violations for visit in visits[mode] if visit.violations} == {}


def test_pages_are_there_within_two_seconds(visits: dict[str, list[Visit]]) -> None:
    # The quickest of four openings, and of a machine with more to do than cores only the share that was left.
    allowed = 2 * max(1.0, max(os.getloadavg()) / (os.cpu_count() or 1))
    for number, visit in enumerate(visits["wide light"]):
        seconds = min(visits[mode][number].seen["seconds"] for mode in MODES)
        assert seconds < allowed, f"{visit.page} took {seconds:.1f} s, {allowed:.1f} allowed"


def test_table_of_contents_is_complete_on_every_page(visits: dict[str, list[Visit]], site: Path, server: str) -> None:
    toc = yaml.safe_load((site.parent / "_toc.yml").read_text())
    files = set(re.findall(r"file: (\S+)", yaml.safe_dump(toc))) | {toc["root"]}
    for visit in visits["wide light"]:
        listed = {urldefrag(href)[0].removeprefix(f"{server}/").removesuffix(".html") for href in visit.seen["toc"]}
        listed.add(visit.page)  # a page's own entry is "#"
        assert files <= listed or visit.page == "index", (visit.page, files - listed)
    assert effective_toc(site.parents[1]) == toc


def test_links_lead_to_pages_and_anchors_that_exist(visits: dict[str, list[Visit]], site: Path, server: str) -> None:
    ids = {visit.page: set(visit.seen["ids"]) for visit in visits["wide light"]}
    inner = 0
    for visit in visits["wide light"]:
        for href in visit.seen["links"]:
            address, anchor = urldefrag(href)
            if not address.startswith(server):
                assert address.startswith(("https://", "data:")), f"{visit.page}: {href}"
                continue
            inner += 1
            path = unquote(address.removeprefix(f"{server}/").partition("?")[0]) or "index.html"
            assert (site / path).exists(), f"{visit.page}: {href}"
            known = ids.get(path.removesuffix(".html"))
            assert not anchor or known is None or unquote(anchor) in known, f"{visit.page}: {href}"
    assert inner > 20 * len(ids)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_a_planted_word(opened: Any, site: Path, server: str, scheme: str) -> None:
    base = server if scheme == "http" else site.as_uri()
    page = opened.new_page()
    page.goto(f"{base}/search.html?q={WORD}")
    page.wait_for_selector("#search-results ul.search li a")
    links = page.eval_on_selector_all("#search-results li a", "found => found.map((e) => e.href)")
    assert {urldefrag(link)[0].partition("?")[0] for link in links} == {f"{base}/{PLANTED}.html"}
    page.close()


def test_explorer_reacts_and_its_tooltip_shows_the_stored_value(opened: Any, site: Path, server: str) -> None:
    page = opened.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{server}/book/explorer.html")
    chosen = {"experiment": "ablation", "metric": "agreement", "component": "mlp_out", "span": "1", "method": "mean"}
    page.wait_for_selector(".emolib-explorer[data-rows]")
    name = registry()[REFERENCE.model]["title"].removesuffix(" Instruct")
    for other in page.eval_on_selector_all(".emolib-models input:checked", "found => found.map((e) => e.value)"):
        if other != name:  # one curve is looked at
            page.uncheck(f".emolib-models input[value='{other}']")
    before = page.inner_html(".emolib-chart svg")
    page.click(".emolib-own summary")
    for name, value in chosen.items():
        page.select_option(f".emolib-controls [name={name}]", value)
        page.wait_for_selector(".emolib-explorer[data-rows]")
    assert page.inner_html(".emolib-chart svg") != before
    stored = results.read(site.parents[1] / "results" / REFERENCE.slug / "ablation.parquet")
    rows = results.select(stored, **{**chosen, "span": 1}).sort_values("layer")
    points = page.locator(".emolib-chart .mark-symbol path")
    page.locator(".emolib-chart").scroll_into_view_if_needed()
    assert points.count() == len(rows)
    for number in (0, 7, len(rows) - 1):
        row = rows.iloc[number]
        box = points.nth(number).bounding_box()
        page.mouse.move(box["x"] - 30, box["y"] - 30)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
        page.wait_for_selector("#vg-tooltip-element.visible")
        tip = page.inner_text("#vg-tooltip-element").split()
        assert f"{row.value:.4g}" in tip and f"{row.ci_low:.4g}" in tip and f"{row.ci_high:.4g}" in tip, tip
        assert f"{row.layer + 1} of 28" in " ".join(tip)
        assert any(word.endswith("ablation.parquet") for word in tip)
    page.close()


def test_explorer_draws_models_of_the_paper_beside_ours_and_lists_their_values(opened: Any, server: str) -> None:
    from emolib.tables import paper

    page = opened.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(f"{server}/book/explorer.html")
    page.wait_for_selector(".emolib-explorer[data-rows]")
    page.set_viewport_size({"width": 700, "height": 844})
    page.wait_for_function("document.querySelector('.emolib-chart svg').clientWidth > 600")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.querySelector('.emolib-chart svg').clientWidth < 380")
    page.click(".emolib-own summary")
    page.select_option(".emolib-controls [name=experiment]", "patching")
    page.wait_for_selector(".emolib-explorer[data-rows]")
    for model in paper.PAPER_MODELS:
        page.check(f".emolib-models input[value='{model.name} (paper)']")
    page.click(".emolib-explorer > details:last-child summary")
    span = int(page.input_value(".emolib-controls [name=span]"))
    keys = {name: page.input_value(f".emolib-controls [name={name}]") for name in ("metric", "component")}
    theirs = paper.values("patching", prompt="T1-2shot", position="-1", span=span, **keys)
    listed = page.locator(".emolib-rows tbody tr:has-text('(paper)')")
    assert theirs["model"].nunique() == 10 and listed.count() == len(theirs)
    page.click(".emolib-rows th:has-text('value')")
    page.wait_for_timeout(100)
    shown = [float(text) for text in page.locator(".emolib-rows tbody td:nth-child(3)").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    page.close()


def test_chapters_offer_their_notebook_and_colab(visits: dict[str, list[Visit]], site: Path, server: str) -> None:
    chapters = [visit for visit in visits["wide light"] if visit.page.startswith("book/chapters/")]
    assert chapters
    for visit in chapters:
        name = Path(visit.page).name
        place = f"https://colab.research.google.com/github/someone/something/blob/trunk/notebooks/{name}.ipynb"
        assert visit.seen["buttons"].count(place) == 1
        (download,) = [href for href in visit.seen["buttons"] if href.endswith(".ipynb") and href.startswith(server)]
        notebook = nbformat.read(site / download.removeprefix(f"{server}/"), as_version=4)
        assert f'repository = "{colab.parse(ADDRESS).requirement}"' in notebook.cells[0].source.splitlines()
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_figures_open_large_and_go_back_by_keyboard(opened: Any, server: str) -> None:
    page = opened.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{server}/book/chapters/05_probing.html")
    button = page.locator("#fig-probing-depth > .emolib-enlarge")
    drawing = page.locator("svg[aria-label]").filter(has=page.locator("[id^=fig-probing-depth]"))
    small = drawing.bounding_box()["width"]
    button.focus()
    page.keyboard.press("Enter")
    assert page.eval_on_selector("dialog.emolib-large", "one => one.open && !!one.querySelector('svg')")
    assert small < 390 < 600 < drawing.bounding_box()["width"]
    page.keyboard.press("Escape")
    page.wait_for_selector("#fig-probing-depth > svg")
    assert drawing.bounding_box()["width"] == small
    assert button.evaluate("one => one === document.activeElement")
    page.close()


def test_tables_of_few_columns_are_cards_on_a_phone(opened: Any, server: str) -> None:
    page = opened.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{server}/book/chapters/11_claims.html")
    page.wait_for_selector("table.stacked td[data-label]", state="attached")
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    page.wait_for_selector("table.stacked td[data-label]")
    heads = page.eval_on_selector(
        "table.stacked", "one => [...one.tHead.rows[0].cells].map((head) => head.textContent.trim())"
    )
    labels = page.eval_on_selector(
        "table.stacked", "one => [...one.tBodies[0].rows[0].cells].map((cell) => cell.dataset.label)"
    )
    assert len(heads) > 2 and [label for label in labels if label] == [head for head in heads if head in labels]
    cut = "all => all.filter((cell) => cell.getBoundingClientRect().right > innerWidth).length"
    assert page.eval_on_selector_all("table.stacked td", cut) == 0
    page.close()


def test_a_figure_leads_to_its_question(opened: Any, server: str) -> None:
    page = opened.new_page()
    page.goto(f"{server}/book/chapters/06_patching.html")
    assert not page.is_visible("#fig-patching-tokens svg")
    page.goto(f"{server}/book/chapters/06_patching.html#fig-patching-tokens")  # a link opens what is folded
    page.wait_for_selector("#fig-patching-tokens svg", state="visible")
    page.click("#fig-patching-tokens .emolib-explore a")
    page.wait_for_selector(".emolib-explorer[data-rows] svg")
    assert page.input_value("[name=question]") == "move-token" and page.url.endswith("explorer.html#move-token")
    page.close()


def test_formulas_are_set_in_the_font_that_comes_along(visits: dict[str, list[Visit]], site: Path) -> None:
    for visit in visits["narrow dark"]:
        assert any("STIX" in family for family in visit.seen["fonts"]) == bool(visit.seen["letters"]), visit.page
    letters = {
        letter for visit in visits["wide light"] for letter in visit.seen["letters"] if letter.strip(" \n\u2009\ufe00")
    }
    font = TTFont(site / "_static" / "vendor" / "stix-two-math.woff")
    assert "MATH" in font and {"\U0001d465", "∑", "⟨"} <= letters
    assert letters <= {chr(code) for code in font.getBestCmap()}, (
        "make the font anew, with these (its LICENSE says how)"
    )


def test_words_of_the_glossary_say_what_it_says(opened: Any, site: Path, server: str) -> None:
    page = opened.new_page()
    page.goto(f"{server}/book/glossary.html")
    texts = page.eval_on_selector_all(
        "dl.glossary > dt",
        """all => all.map((one) => {
        let text = one; while (text.localName === "dt") text = text.nextElementSibling;
        return [one.id, text.firstElementChild.textContent.replace(/\\s+/g, " ")]; })""",
    )
    says = dict(texts)
    linked = 0
    for name in (
        "index",
        "chapters/10_discussion",
        "chapters/00_tour",
        "chapters/05_probing",
        "chapters/09_modulation",
    ):
        page.goto(f"{server}/book/{name}.html")
        found = page.eval_on_selector_all(
            "a.emolib-term", "all => all.map((one) => [one.hash.slice(1), one.getAttribute('aria-description')])"
        )
        assert len({anchor for anchor, _ in found}) == len(found) > 8, name
        assert all(says[anchor].startswith(sentence) and len(sentence) > 10 for anchor, sentence in found)
        linked += len(found)
    assert linked > 60
    page.close()


def test_a_word_is_explained_by_mouse_keyboard_and_finger(opened: Any, site: Path) -> None:
    address, tip = f"{site.as_uri()}/book/index.html", ".emolib-tip"
    page = opened.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    word = page.locator("a.emolib-term").first
    said = word.get_attribute("aria-description")
    word.hover()
    assert page.inner_text(tip) == said
    page.mouse.move(2, 2)
    page.wait_for_selector(tip, state="hidden")
    page.locator("article a.reference").first.focus()
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.locator("a.emolib-term:focus").count():
            break
    assert page.inner_text(tip) == page.evaluate("document.activeElement.getAttribute('aria-description')")
    page.keyboard.press("Escape")
    assert page.locator(tip).is_hidden()
    page.close()
    phone = opened.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = phone.new_page()
    page.goto(address)
    for number in range(page.locator("a.emolib-term").count()):
        page.locator("a.emolib-term").nth(number).tap()
        assert page.inner_text(tip) and page.url == address
        box = page.locator(tip).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and 0 <= box["y"] <= 844 - box["height"]
    page.locator("a.emolib-term").first.tap()
    page.locator("a.emolib-term").first.tap()
    page.wait_for_url("**/glossary.html#term-*")
    phone.close()


def test_no_page_takes_more_than_two_megabytes(visits: dict[str, list[Visit]], site: Path) -> None:
    """With all that it loads by itself, the first view of the explorer too."""
    assert {v.page: v.seen["bytes"] for v in visits["wide light"] if not 1e5 < v.seen["bytes"] < 2e6} == {}
    assert not list(site.rglob("fontawesome.js"))  # of 1.5 MB, on every page


def test_book_is_small_enough_to_send(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 40e6

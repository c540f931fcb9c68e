"""Figures on a page: SVG that takes the page's text colour, with alt text and a caption computed from the run.

`show` puts a figure into a notebook as HTML that any notebook viewer renders, and as a marker that `emolib.book.mystnb`
turns into a numbered, linkable figure of the book.
"""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib as mpl
import pandas as pd
from IPython import get_ipython
from IPython.core.formatters import format_display_data
from IPython.display import Markdown, display
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from emolib.engine.places import attended
from emolib.figures.palette import INK, style
from emolib.figures.panels import readable

MIME = "application/vnd.emolib.figure+json"
AFTER = "post_run_cell"  # IPython's word for when a cell has ended
NAME = re.compile(r"^[a-z][a-z0-9-]*$")
# Figures are narrow, so that their text stays readable on a phone; a wide page shows them this much larger.
LARGEST = 1.1
ELSEWHERE = "application/papermill.record/"  # what MyST-NB takes out of a page, and gives to {glue} alone
FIGURE_CSS = "margin:1em 0;background:none"
TITLE_CSS = "font-weight:600;margin:0 2.4em 0.4em 0"  # the button that enlarges stands beside it
CAPTION_CSS = "font-size:0.9em;line-height:1.4;margin-top:0.4em"


def show(fig: Figure, *, title: str, caption: str, alt: str, name: str, fold: bool = False) -> None:
    """Display the figure once: what it finds as its title, alt text, a Markdown caption and an anchor.

    `title` is one computed sentence without a full stop, the finding; the alt text begins with it, and `alt` says what
    is drawn to somebody who cannot see it. The caption says what was measured, on what, with which interval. `name` is
    the anchor (`fig-patching-depth`), unique in the book, for {numref}`fig-patching-depth`. To `fold` is for detail:
    the title alone is in the text, and the figure opens below it.

    Raises:
        ValueError: an empty title, caption or alt text, or a name that is not lower-case words joined by hyphens.
    """
    display(bundle(fig, title=title, caption=caption, alt=alt, name=name, fold=fold), raw=True)


def bundle(fig: Figure, *, title: str, caption: str, alt: str, name: str, fold: bool = False) -> dict[str, Any]:
    """Return the notebook output of `show`: one entry per MIME type."""
    if not NAME.match(name):
        raise ValueError(f"the name is {name!r}: give lower-case letters and digits joined by hyphens, 'fig-patching'")
    for what, text in {"title": title, "caption": caption, "alt text": alt}.items():
        if not text.strip():
            raise ValueError(f"the {what} of {name} is empty: say in words what the figure shows")
    alt = f"{re.sub('[*$]', '', title)}. {alt}"
    for ax in fig.axes:
        ax.title.set_wrap(True)  # words beyond the figure's edge would be cut
    drawing = svg(fig, alt=alt, name=name)
    fig.set_layout_engine("none")  # it is laid out: half the time of a drawing goes into that
    words = MarkdownIt("commonmark").render(caption).strip()
    head = MarkdownIt("commonmark").renderInline(title)
    above = "" if fold else f'<p class="emolib-title" style={TITLE_CSS!r}>{head}</p>'
    html = (
        f'<figure id="{name}" class="emolib-figure" style="{FIGURE_CSS}">'
        f"{above}{drawing}"
        f'<figcaption style="{CAPTION_CSS}">{words}</figcaption></figure>'
    )
    picture = base64.b64encode(png(fig)).decode()
    return {
        MIME: {"name": name, "title": title, "alt": alt, "caption": caption, "fold": fold},
        "text/html": f"<details><summary>More: {head}</summary>{html}</details>" if fold else html,
        "image/png": picture,
        "text/plain": f"[{name}] {alt}",
    }


def svg(fig: Figure, *, alt: str, name: str) -> str:
    """Return the figure as an SVG element in the page's text colour, no wider than its container; same every time.

    Every id inside starts with `name`, so that several drawings share a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**style(), "svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(re.escape(INK), "currentColor", text, flags=re.IGNORECASE)
    width, height = fig.get_size_inches()
    head = (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" '
        f'style="width:100%;max-width:{round(width * 96 * LARGEST)}px;height:auto" '
        f'viewBox="0 0 {width * 72:.6g} {height * 72:.6g}" xmlns="http://www.w3.org/2000/svg">'
    )
    body = re.sub(r"\n\s*", "\n", text[text.index(">") + 1 :])
    return compact(head + re.sub(r"\n{2,}", "\n", body).strip())


def compact(text: str) -> str:
    """Return the SVG, about a third shorter and drawn alike.

    Straight lines go in steps of a tenth of a point, curves are to a hundredth; ids that nothing refers to and turns
    by nothing are left out; the style of many equal marks, and the one family of letters, are said once.
    """

    def rounded(number: re.Match[str]) -> str:
        return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")

    def short(found: re.Match[str]) -> str:
        return f'd="{re.sub(r"-?[0-9]+[.][0-9]{3,}", rounded, " ".join(found[1].split()))}"'

    def once(found: re.Match[str]) -> str:
        styles = re.findall(r' style="[^"]*"', found[2])
        if len(styles) < 2 or len({*styles}) > 1 or len(styles) < found[2].count("<use"):
            return found[0]
        return f"<g{found[1]}{styles[0]}>{found[2].replace(styles[0], '')}</g>"

    text = re.sub(r'\bd="(\s*M[-MLz0-9.\s]*)"', _steps, text)
    text = re.sub(r'\bd="([^"]*C[^"]*)"', short, text)
    text = re.sub(r'\b([xy])="(-?[0-9.]+)"', lambda found: f'{found[1]}="{round(float(found[2]), 1):g}"', text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text).replace("xlink:href", "href")
    families = re.findall(r" font-family: [^;\"]*;", text)
    if len(set(families)) == 1:
        text = text.replace(families[0], "").replace('style="', f'style="{families[0].strip()}', 1)
    text = re.sub(r"<g((?: clip-path=[^>]*| id=[^>]*)?)>((?:\s*<use [^>]*/>)+\s*)</g>", once, text)
    used = set(re.findall(r'#([^")]+)', text))
    return re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)


def _steps(found: re.Match[str]) -> str:
    """The path of straight lines with each point told from the one before; points are rounded, not steps."""
    path, x, y, first = "", 0, 0, (0, 0)
    for command, *point in re.findall(r"([MLz])(?:\s*(\S+)\s+([^\sMLz]+))?", found[1]):
        if command == "z":
            path, (x, y) = f"{path}z", first
            continue
        before, (x, y) = (x, y), (round(10 * float(number)) for number in point)
        right, down = f"{(x - before[0]) / 10:g}", f"{(y - before[1]) / 10:g}"
        if command == "M":
            path, first = f"{path}M{x / 10:g} {y / 10:g}", (x, y)
        elif (x, y) != before:
            path += f"h{right}" if down == "0" else f"v{down}" if right == "0" else f"l{right} {down}"
    return f'd="{path}"'


def png(fig: Figure) -> bytes:
    """Return the figure on white in 128 colours, for viewers and printers that take no SVG."""
    buffer = io.BytesIO()
    with mpl.rc_context(style()):
        fig.savefig(buffer, format="png", dpi=130, facecolor="white", transparent=False)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(128).save(small, format="PNG", optimize=True)
    return small.getvalue()


def spoken(row: Any, form: str = ".2f") -> str:
    """Return the value of a row with its interval, if it has one, as a sentence says it: "0.42 (0.34 to 0.51)"."""
    value, low, high = (plain(row[name], form) for name in ("value", "ci_low", "ci_high"))
    return value if pd.isna(row["ci_low"]) else f"{value} ({low} to {high})"


def in_table(
    rows: pd.DataFrame, by: str | list[str], across: str, words: Mapping[str, str] | None = None, form: str = ".2f"
) -> pd.DataFrame:
    """Return numbers as `spoken` says them: a row for each value of `by`, a column for each of `across`, "–" for none.

    Both in the order of the rows; with `words`, columns in their order, under their names.
    """
    by = [by] if isinstance(by, str) else by
    cells = rows.assign(cell=[spoken(row, form) for _, row in rows.iterrows()])
    wide = cells.pivot(index=by, columns=across, values="cell").reindex(rows.drop_duplicates(by).set_index(by).index)
    heads = [name for name in words or rows[across].unique() if name in wide]
    return wide[heads].fillna("–").rename(columns=words or {}).rename_axis(columns=None).reset_index()


def plain(value: float, form: str) -> str:
    """Return a number in a form, with a real minus; what rounds to nothing has none."""
    text = f"{value:{form}}"
    return (text if any(digit in text for digit in "123456789") else text.lstrip("-")).replace("-", "\N{MINUS SIGN}")


def extremes(rows: pd.DataFrame, by: str, form: str = ".2f", *, lowest: bool = False) -> str:
    """Return the largest, or the lowest, value of each curve as a title says it: "0.42 (A), 0.40 (B) and 0.31 (C)".

    `by` is the column that tells curves apart, in the order of its rows; "(not measured)" where there are no rows.
    """
    if rows.empty:
        return "(not measured)"
    values = rows.groupby(by, sort=False)["value"].agg("min" if lowest else "max").dropna()
    *most, last = [f"{plain(value, form)} ({readable(str(name), by)})" for name, value in values.items()]
    return f"{', '.join(most)} and {last}" if most else last


def say(markdown: str) -> None:
    """Display a computed sentence or paragraph as Markdown."""
    display(Markdown(markdown))


def glue(name: str, shown: Any, *, here: bool = True) -> None:
    """Display something under a name, by which {glue} shows it on other pages of the book too; not `here`: only there.

    `shown` is anything that a notebook displays, Markdown as a string, or a figure as `bundle` gives it.
    """
    prefix = "" if here else ELSEWHERE
    if isinstance(shown, str):
        parts = {
            "text/html": MarkdownIt("commonmark", {"typographer": True}).enable("smartquotes").render(shown),
            "text/plain": shown,
        }
    else:
        parts = shown if isinstance(shown, dict) else format_display_data(shown)[0]
    data = {f"{prefix}{kind}": part for kind, part in parts.items() if kind != MIME}
    display(data, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": prefix}})


def tell_seconds() -> None:
    """From now on each cell of this notebook says below it how many seconds it took.

    Where a program draws it for the book, and outside a notebook, nothing happens.
    """
    shell = get_ipython()
    if (
        shell is None
        or not attended()
        or any(tell_seconds.__name__ in one.__qualname__ for one in shell.events.callbacks[AFTER])
    ):
        return
    begun: list[float] = []

    def begin(*_: object) -> None:
        begun[:] = [time.perf_counter()]

    def end(*_: object) -> None:
        if begun:
            print(f"{time.perf_counter() - begun[0]:.1f} s")

    shell.events.register("pre_run_cell", begin)
    shell.events.register(AFTER, end)

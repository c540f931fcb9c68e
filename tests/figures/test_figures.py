"""Figures: drawn numbers equal the table, refusals, colours that can be told apart, SVG that survives any page."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from IPython.core.events import EventManager, available_events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from emolib import figures
from emolib.book.mystnb import FigureRenderer
from emolib.engine.places import UNATTENDED
from emolib.engine.sites import COMPONENTS
from emolib.figures import display
from emolib.figures.curves import layer_ticks
from emolib.figures.labels import OUTCOMES, split
from emolib.figures.palette import (
    COMPONENT_COLOURS,
    CYCLE,
    EMOTION_COLOURS,
    INK,
    SEGMENT_COLOURS,
    luminance,
    ordered,
    palette,
    style,
    text_on,
)
from emolib.figures.panels import readable, with_depth
from emolib.paper.claims.evidence import number
from emolib.tables import paper
from emolib.tables.results import select
from emolib.texts.appraisals import EMOTIONS

PAGES = ("#ffffff", "#14181e")
LLAMA = "Llama 3.2 1B"
PROBES = paper.values("emotion_probe", model=LLAMA, position="-1", prompt="T1-2shot")
TRANSFER = paper.values("patching", model=LLAMA, span=3, position="-1", metric="transfer")
CONFUSION = paper.values("behaviour", metric="confusion_count")
MODULATION = paper.values("modulation", dose=2, pleasantness=[-1, 1], other_responsblt=0, predict_event=0)
R2 = paper.values("appraisal_probe", metric="r2", layer=9)
PROFILE = paper.values("appraisal_profile", model=LLAMA)
COSINES = paper.values("geometry")
RATINGS = PROFILE[["emotion", "appraisal", "value"]]
SPOTS = pd.DataFrame({"emotion": ["joy", "fear", "anger"], "x": [0.0, 1, 1.01], "y": [1.0, 0, 0.01]})
SHARES = pd.DataFrame(
    [
        {"label": label, "state": state, "draw": draw, "value": (place + 1 + draw) / 100}
        for state, draws in {"before": [-1], "after": [0], "random": [1, 2]}.items()
        for draw in draws
        for place, label in enumerate(EMOTIONS)
    ]
)
WORDS = {"title": "*Joy* reaches 0.62", "caption": "A **bold** caption.", "alt": 'Curves <"rise">', "name": "fig-probe"}


def ours(frame: pd.DataFrame, half: float = 0.03, n_layers: int = 16) -> pd.DataFrame:
    """The paper's rows dressed up as a run of another model, with intervals."""
    frame = frame.assign(model="tiny", value=frame["value"] * 0.9, n_layers=n_layers)
    return frame.assign(ci_low=frame["value"] - half, ci_high=frame["value"] + half)


def null_draws() -> pd.DataFrame:
    draws = np.random.default_rng(0).normal(0, 0.2, 60)
    return pd.DataFrame({"setting": "a", "draw": range(60), "value": draws})


KINDS: dict[str, Callable[[], Figure]] = {
    "curves": lambda: figures.depth_curves(ours(PROBES), ylabel="a", paper=PROBES, lines={"chance": 1 / 13}),
    "panels": lambda: figures.depth_curves(ours(TRANSFER), ylabel="a", hue="prompt", panel="component"),
    "heatmap": lambda: figures.site_heatmap(ours(TRANSFER), label="a", rows="prompt", paper=TRANSFER),
    "confusion": lambda: figures.confusion_matrix(CONFUSION, paper=CONFUSION),
    "labels": lambda: figures.stacked_labels({"this run": label_rows({"joy": 1.0}), "b": label_rows({"fear": 2.0})}),
    "stacks": lambda: figures.depth_stacks(MODULATION, panel="pleasantness", lines={"half": 0.5}),
    "shares": lambda: figures.label_shares(SHARES.assign(panel="a"), panel="panel"),
    "points": lambda: figures.interval_points(
        ours(R2), by="appraisal", hue="component", xlabel="a", lines={"c": 0.1}, paper=R2
    ),
    "null": lambda: figures.against_null(
        null_draws().head(1).assign(value=0.9), null_draws(), by="setting", xlabel="a"
    ),
    "radar": lambda: figures.radar(PROFILE.assign(set="all"), paper=PROFILE),
    "paths": lambda: figures.paths(COSINES.assign(panel="a"), x="pleasantness", y="other_responsblt"),
    "space": lambda: figures.space(RATINGS, axes=("pleasantness", "suddenness", "self_responsblt")),
    "map": lambda: figures.emotion_map(SPOTS, xlabel="a", ylabel="b"),
}


def label_rows(counts: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame({"label": list(counts), "value": list(counts.values())})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_every_kind_is_valid_svg_on_any_page(kind: str) -> None:
    fig = KINDS[kind]()
    text = display.svg(fig, alt=WORDS["alt"], name="fig-x")
    root = ElementTree.fromstring(text)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == WORDS["alt"]
    assert INK not in text.lower() and "currentColor" in text
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", text)]
    assert sizes and min(sizes) >= 9  # 1 px of the drawing is 1 pt
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and all(name.startswith("fig-x-") for name in ids)
    assert {*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)} <= set(ids)
    assert text == display.svg(KINDS[kind](), alt=WORDS["alt"], name="fig-x")
    assert "Date" not in text and len(text) < 200_000
    assert fig.get_figwidth() <= 6.4


@pytest.mark.parametrize("kind", ["points", "heatmap", "stacks", "null"])
def test_a_shorter_drawing_has_the_same_lines_and_marks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = display.svg(KINDS[kind](), alt="a", name="fig-x")
    monkeypatch.setattr(display, "compact", lambda text: text)
    long = display.svg(KINDS[kind](), alt="a", name="fig-x")
    assert len(short) < 0.85 * len(long)
    there, was = ([walked(path) for path in re.findall(r'\bd="([^"C]*)"', text)] for text in (short, long))
    assert len(there) == len(was) > 3 and max(map(len, was)) > 4
    assert there == [[point for i, point in enumerate(path) if i == 0 or point != path[i - 1]] for path in was]
    marks = [re.findall(r'<use [^>]*x="([^"]+)" y="([^"]+)"', text) for text in (short, long)]
    assert marks[0] and np.abs(np.subtract(*(np.array(found, float) for found in marks))).max() < 0.051
    assert re.findall(r">([^<>]+)</text>", short) == re.findall(r">([^<>]+)</text>", long)
    assert "DejaVu Sans" in short and short.count("DejaVu Sans") == 1


def walked(path: str) -> list[tuple[int, int]]:
    """The points of a path of straight lines, in tenths of a point."""
    here, points = [0, 0], []
    for command, text in re.findall(r"([a-zA-Z])([^a-zA-Z]*)", path):
        numbers = [round(10 * float(number)) for number in text.replace("-", " -").split()]
        if command in "ML":
            here = numbers
        elif command == "z":
            continue
        else:
            right, down = {"h": (*numbers, 0), "v": (0, *numbers)}.get(command, tuple(numbers))
            here = [here[0] + right, here[1] + down]
        points.append((here[0], here[1]))
    return points


def test_curves_are_the_table_with_layers_from_one() -> None:
    fig = figures.depth_curves(ours(PROBES), ylabel="accuracy")
    lines = {line.get_color(): line for line in fig.axes[0].lines}
    for component in COMPONENTS:
        line = lines[COMPONENT_COLOURS[component]]
        expected = PROBES[PROBES["component"] == component].sort_values("layer")
        assert line.get_xdata().tolist() == list(range(1, 17))
        np.testing.assert_allclose(line.get_ydata(), 0.9 * expected["value"])
    band = fig.axes[0].collections[0].get_paths()[0].get_extents()
    top = 0.9 * PROBES[PROBES["component"] == COMPONENTS[0]]["value"].max() + 0.03
    assert band.ymax == pytest.approx(top)
    assert fig.axes[0].get_xlabel() == "layer"
    assert fig.axes[0].get_xticks().tolist() == layer_ticks(16, 8) == [1, 4, 6, 8, 10, 12, 14, 16]
    assert layer_ticks(30, 8) == [1, 5, 10, 15, 20, 25, 30] and layer_ticks(28, 4) == [1, 10, 20, 28]
    assert layer_ticks(1, 4) == [1] and layer_ticks(2, 4) == [1, 2]


def test_untrained_twins_are_one_pale_band_behind_their_model() -> None:
    rows = ours(PROBES)
    twins = pd.concat(
        [rows.assign(twin=i, value=high, ci_low=high - 0.1, ci_high=high + 0.1) for i, high in ((0, 0.2), (1, 0.4))]
    )
    (ax,) = figures.depth_curves(rows, ylabel="a", twin=twins).axes
    hues = rows["component"].nunique()
    behind = [line for line in ax.lines if line.get_linestyle() != "-"]
    assert len(behind) == hues and all(np.allclose(line.get_ydata(), 0.3) for line in behind)
    bands = [np.ptp(part.get_paths()[0].vertices[:, 1]) for part in ax.collections]
    assert bands[:hues] == pytest.approx([0.4] * hues), "from the lowest end to the highest"
    with pytest.raises(ValueError, match="several rows for one point"):
        figures.depth_curves(rows, ylabel="a", twin=pd.concat([twins, twins]))
    alone, beside = (figures.depth_curves(rows, ylabel="a", twin=twin) for twin in (None, twins.iloc[:0]))
    assert display.svg(alone, alt="a", name="fig-x") == display.svg(beside, alt="a", name="fig-x")


def test_a_curve_beyond_the_limits_stays_in_its_panel() -> None:
    ends = PROBES["value"].min(), PROBES["value"].max()
    inside, cut = (figures.depth_curves(PROBES, ylabel="a", ylim=(ends[0], top)) for top in (ends[1], ends[1] - 0.01))
    assert not any(line.get_clip_on() for line in inside.axes[0].lines)  # markers at the limits in full
    above = [line.get_ydata().max() > ends[1] - 0.01 for line in cut.axes[0].lines]
    assert any(above) and [line.get_clip_on() for line in cut.axes[0].lines] == above


def test_models_of_another_depth_share_the_fraction_of_depth() -> None:
    fig = figures.depth_curves(ours(PROBES, n_layers=32), ylabel="a", paper=PROBES)
    solid = [line for line in fig.axes[0].lines if line.get_linestyle() == "-"]
    dashed = [line for line in fig.axes[0].lines if line.get_linestyle() == "--"]
    assert len(solid) == len(dashed) == 3
    assert {line.get_xdata().max() for line in solid} == {0.5}
    assert {line.get_xdata().max() for line in dashed} == {1.0}
    assert {a.get_color() for a in solid} == {b.get_color() for b in dashed}
    assert "paper (Llama 3.2 1B)" in [text.get_text() for text in fig.legends[0].get_texts()]


def test_heatmap_cells_are_the_table() -> None:
    fig = figures.site_heatmap(TRANSFER, label="a", rows="prompt")
    image = fig.axes[0].images[0]
    cells = np.asarray(image.get_array().filled(np.nan))
    rows = TRANSFER[(TRANSFER["component"] == "attn_out") & (TRANSFER["prompt"] == "T3-2shot")]
    row = [text.get_text() for text in fig.axes[0].get_yticklabels()].index("T3-2shot")
    np.testing.assert_allclose(cells[row, 1:15], rows.sort_values("layer")["value"])
    assert np.isnan(cells[:, [0, 15]]).all()  # span 3 has no centre in the first and the last layer
    assert {tuple(ax.get_xlim()) for ax in fig.axes if ax.images} == {(0.5, 16.5)}  # all layers, in every panel


def test_shares_of_labels() -> None:
    shares = split(CONFUSION, "label", "answer", EMOTION_COLOURS, "x")
    assert shares.loc["anger", "anger"] == pytest.approx(459 / 550)
    assert shares.loc["shame", "anger"] == pytest.approx(120 / 275)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert list(shares) == list(EMOTION_COLOURS)
    cells = figures.confusion_matrix(CONFUSION).axes[0].collections[0].get_array()
    np.testing.assert_allclose(np.asarray(cells), shares.loc[list(EMOTION_COLOURS)])
    without = CONFUSION.assign(value=CONFUSION["value"].where(CONFUSION["label"] != "fear", 0))
    cells = figures.confusion_matrix(without).axes[0].collections[0].get_array()
    assert cells.mask.all(axis=1).tolist() == [label == "fear" for label in EMOTION_COLOURS]
    fig = figures.stacked_labels({"a": label_rows({"fear": 1, "joy": 3})})
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    assert sum(widths) == pytest.approx(1) and widths[0] == 0.75  # joy first, as the paper stacks
    thin = figures.stacked_labels({"a": label_rows({"fear": 97, "joy": 3})}, paper={"a": label_rows({"fear": 1})}).axes[
        0
    ]
    assert [word.get_text() for word in thin.texts] == ["fear", "fear"]  # there is no room for the joy of three
    assert len(thin.get_yticks()) == 1 and {round(bar.get_height(), 2) for bar in thin.patches} == {0.78, 0.46}
    stack = figures.depth_stacks(MODULATION, panel="pleasantness").axes[0].collections
    tops = [layer.get_paths()[0].get_extents().ymax for layer in stack]
    assert len(stack) == 13 and max(tops) == pytest.approx(1)
    first = select(MODULATION, pleasantness=MODULATION["pleasantness"].iloc[0])
    joy = select(first, label="joy")["value"] / select(first, layer=8)["value"].sum()
    heights = stack[-1].get_paths()[0].vertices[:, 1]
    assert 1 - heights.min() == pytest.approx(joy.max())


def test_shares_before_and_after_are_the_table() -> None:
    (ax,) = figures.label_shares(SHARES).axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == list(EMOTION_COLOURS)
    after = SHARES[SHARES["state"] == "after"].set_index("label")["value"]
    for bar in ax.patches:
        label = names[round(bar.get_y() + bar.get_height() / 2)]
        assert bar.get_width() == pytest.approx(after[label]) and bar.get_facecolor() == to_rgba(EMOTION_COLOURS[label])
    rings, dots = ax.lines
    for line, state in ((rings, "before"), (dots, "random")):
        rows = SHARES[SHARES["state"] == state]
        assert [names[y] for y in line.get_ydata()] == list(rows["label"]), "each in the middle of its bar"
        np.testing.assert_allclose(line.get_xdata(), rows["value"])
    one = SHARES[SHARES["state"] == "after"][["label", "value"]]
    fig = figures.label_shares(pd.concat([one.assign(panel="a"), one.assign(panel="b")]), panel="panel")
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"] and not fig.legends
    with pytest.raises(ValueError, match="several rows for one point"):
        figures.label_shares(pd.concat([one, one]))


def test_points_are_the_table() -> None:
    point = figures.interval_points(ours(R2), by="appraisal", hue="component", xlabel="a")
    names = [text.get_text() for text in point.axes[0].get_yticklabels()]
    assert "other-agency" in names and "predictability" in names
    drawn = np.concatenate([line.get_xdata() for line in point.axes[0].lines])
    np.testing.assert_allclose(np.sort(drawn), np.sort(0.9 * R2["value"]))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: figures.depth_curves(pd.concat([PROBES, PROBES.assign(prompt="T2-2shot")]), ylabel="a"),
            r"several rows for one point.*differ in \['prompt'\]",
        ),
        (
            lambda: figures.depth_curves(ours(PROBES).drop(columns="n_layers"), ylabel="a", paper=PROBES),
            "share an axis only with n_layers",
        ),
        (lambda: with_depth(ours(PROBES, n_layers=12), "ours"), "layer 16 of a model of 12 layers"),
        (lambda: figures.depth_curves(CONFUSION, ylabel="a", hue="label"), "every row needs a layer"),
        (lambda: figures.depth_curves(PROBES, ylabel="a", hue="colour"), "no column 'colour'"),
        (lambda: figures.site_heatmap(TRANSFER, label="a", rows="prompt", limits=(0, 0.5)), "widen limits"),
        (lambda: figures.confusion_matrix(PROBES), "several rows for one point"),
        (lambda: figures.confusion_matrix(CONFUSION[13:]), r"no counts for the labels \['anger'\]"),
        (lambda: figures.depth_stacks(MODULATION[:-1], panel="pleasantness"), "values add up to"),
        (lambda: figures.stacked_labels({"x": label_rows({"happiness": 1})}), r"x: \['happiness'\] are none of"),
        (lambda: figures.depth_curves(MODULATION, ylabel="a", hue="value"), "share 10 colours"),
    ],
)
def test_refusals(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


def test_style_stays_inside() -> None:
    before = dict(mpl.rcParams)
    KINDS["curves"]()
    assert dict(mpl.rcParams) == before
    assert style()["svg.fonttype"] == "none"


def lab(colour: str, deficiency: str) -> np.ndarray:
    """CIE Lab of a colour as seen with a colour vision deficiency (Machado et al. 2009, severity 1)."""
    seen = {
        "none": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    }[deficiency]
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_apart_and_seen_on_both_pages() -> None:
    assert set(EMOTION_COLOURS) == set(EMOTIONS) and tuple(COMPONENT_COLOURS) == COMPONENTS
    for deficiency in ("none", "protan", "deutan", "tritan"):
        distance = {
            pair: np.linalg.norm(lab(pair[0], deficiency) - lab(pair[1], deficiency))
            for colours in (EMOTION_COLOURS, COMPONENT_COLOURS)
            for pair in itertools.combinations(colours.values(), 2)
        }
        neighbours = itertools.pairwise(EMOTION_COLOURS.values())
        assert min(distance[pair] for pair in neighbours) > 15, deficiency
        assert min(distance[pair] for pair in itertools.combinations(COMPONENT_COLOURS.values(), 2)) > 15, deficiency
        if deficiency == "none":
            assert min(distance.values()) > 20
    for colour in EMOTION_COLOURS.values():
        assert contrast(colour, text_on(colour)) >= 4.5
    outcomes = [colour for _, colour in OUTCOMES.values()]
    for colour in (
        *EMOTION_COLOURS.values(),
        *COMPONENT_COLOURS.values(),
        *SEGMENT_COLOURS.values(),
        *CYCLE,
        *outcomes,
    ):
        assert min(contrast(colour, page) for page in PAGES) >= 3, colour


def test_order_and_names() -> None:
    assert ordered(["anger", "joy", "anger"]) == ["joy", "anger"]
    assert ordered(["all", "-5", "-1"]) == ["-1", "-5", "all"]
    assert ordered(["5", "10", "1"]) == ["1", "5", "10"]
    assert ordered(["b", "a"]) == ["b", "a"]
    assert palette(["joy"])["joy"] == palette(["joy", "fear"])["joy"]
    first, second = (
        palette(["mean_difference", "random", "probe"]),
        palette(["probe", "b", "random", "mean difference"]),
    )
    assert first["random"] == second["random"] and first["mean_difference"] == second["mean difference"]
    beside = {colour for colour, _ in palette(["resid_post", "one", "two", "three", "four"]).values()}
    assert beside & {*COMPONENT_COLOURS.values()} == {COMPONENT_COLOURS["resid_post"]}
    for look in (first, second, palette(["shuffled", "both_shuffled", "attn_out"]), palette(list("abcdefghij"))):
        assert all(len({*parts}) == len(look) for parts in zip(*look.values(), strict=True))  # no two look alike
    assert readable("other_responsblt") == "other-agency" and readable("resid_post") == "residual stream"
    assert readable("-1", "position") == "token −1" and readable("3", "span") == "span 3"
    assert readable("paper: Llama 3.2 1B") == "paper: Llama 3.2 1B"


def test_show_puts_one_captioned_figure_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, object]] = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data))
    figures.show(KINDS["curves"](), **WORDS)
    (data,) = shown
    assert data[display.MIME] == WORDS | {"alt": 'Joy reaches 0.62. Curves <"rise">', "fold": False}
    html = str(data["text/html"])
    assert html.startswith('<figure id="fig-probe"') and "<strong>bold</strong>" in html and html.count("<svg") == 1
    assert 'aria-label="Joy reaches 0.62. Curves &lt;&quot;rise&quot;&gt;"' in html, "the alt text states the finding"
    assert html.index("<em>Joy</em> reaches 0.62</p>") < html.index("<svg")
    folded = display.bundle(KINDS["null"](), **WORDS, fold=True)["text/html"]
    assert folded.startswith("<details><summary>More: <em>Joy</em> reaches 0.62</summary><figure")
    assert str(data["image/png"]).startswith("iVBOR")
    for name, value in {"name": "Fig 1", "title": "", "caption": " ", "alt": ""}.items():
        with pytest.raises(ValueError, match=name if name != "alt" else "alt text"):
            display.bundle(KINDS["null"](), **{**WORDS, name: value})


def test_a_title_has_the_extremes_of_each_curve() -> None:
    rows = pd.DataFrame({"run": ["B", "B", "A", "A"], "value": [0.1, 0.4, 0.3, float("nan")], "span": [3, 3, 5, 5]})
    assert figures.extremes(rows, "run") == "0.40 (B) and 0.30 (A)"
    assert figures.extremes(rows, "span", ".0%", lowest=True) == "10% (span 3) and 30% (span 5)"
    three = pd.concat([rows, rows.iloc[:1].assign(run="attn_out")])
    assert figures.extremes(three, "run", ".1f") == "0.4 (B), 0.3 (A) and 0.1 (attention output)"
    assert figures.extremes(rows.iloc[:0], "run") == "(not measured)"


def test_each_cell_says_how_long_it_took(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = SimpleNamespace(events=EventManager(None, available_events))
    monkeypatch.setattr(display, "get_ipython", lambda: shell)
    monkeypatch.setenv(UNATTENDED, "1")
    display.tell_seconds()
    assert not any(shell.events.callbacks.values()), "pages do not say how long they took"
    monkeypatch.delenv(UNATTENDED)
    for _ in range(2):  # the cell is run again
        display.tell_seconds()
    shell.events.trigger("post_run_cell", None)  # of the cell that calls it, whose beginning nobody has seen
    assert capsys.readouterr().out == ""
    shell.events.trigger("pre_run_cell", None)
    time.sleep(0.3)
    shell.events.trigger("post_run_cell", None)
    said = capsys.readouterr()
    assert said.err == "" and 0.3 <= float(said.out.removesuffix(" s\n")) < 3, "Jupyter shows standard error in red"
    monkeypatch.setattr(display, "get_ipython", lambda: None)
    display.tell_seconds()


def test_the_book_makes_a_numbered_figure_of_it(tmp_path: object) -> None:
    nbformat = pytest.importorskip("nbformat")
    from sphinx.application import Sphinx

    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_nb']\nnumfig = True\nnb_execution_mode = 'off'\nhtml_theme = 'basic'\n"
        "def setup(app):\n"
        "    from myst_nb.core import render\n"
        "    from emolib.book.mystnb import FigureRenderer\n"
        "    render.load_mime_renders = lambda: [FigureRenderer]\n"
    )
    drawn = [display.bundle(KINDS["null"](), **WORDS)]
    drawn += [display.bundle(KINDS["null"](), **WORDS | {"name": "fig-more", "title": "Detail"}, fold=True)]
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in drawn]
    cell = nbformat.v4.new_code_cell("show()", outputs=outputs, execution_count=1)
    text = nbformat.v4.new_markdown_cell("# Chapter\n\nSee {numref}`fig-probe` and {numref}`fig-more`.")
    language = {"language_info": {"name": "python", "pygments_lexer": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[text, cell], metadata=language), tmp_path / "index.ipynb")
    folders = {"srcdir": tmp_path, "confdir": tmp_path, "outdir": tmp_path / "out", "doctreedir": tmp_path / "tree"}
    app = Sphinx(**{k: str(v) for k, v in folders.items()}, buildername="html", status=None, warningiserror=True)
    app.build()
    page = (tmp_path / "out" / "index.html").read_text()
    assert app.statuscode == 0
    title = r'<p class="emolib-title"><em>Joy</em> reaches 0.62</p>'
    assert re.search(rf'<figure class="[^"]*emolib-figure[^"]*" id="fig-probe">\s*{title}\s*<svg role="img"', page)
    fold = r'<details class="emolib-more"><summary>More: <span>Detail</span></summary>'
    assert re.search(
        rf'{fold}<figure class="[^"]*" id="fig-more">\s*<svg.*Fig\. 2.*</figure>\s*</details>', page, re.DOTALL
    )
    assert page.count("<svg role=") == 2 and page.count("<details") == 1
    assert re.search(r"<figcaption>.*Fig\. 1.*<strong>bold</strong>", page, re.DOTALL)
    for place, name in enumerate(("fig-probe", "fig-more"), start=1):
        assert re.search(rf'href="#{name}"><span class="std std-numref">Fig. {place}', page)
    assert "detail" in (tmp_path / "out" / "searchindex.js").read_text(), "what is folded is found"


def test_renderer_leaves_other_outputs_alone() -> None:
    other = type("Data", (), {"mime_type": "text/html", "content": "<b>x</b>"})
    assert FigureRenderer.handle_mime(None, other, False) is None


def test_what_is_glued_elsewhere_is_taken_from_its_page_and_has_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], dict[str, dict[str, str]]]] = []
    monkeypatch.setattr(display, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    display.glue("said", "- **one** of two's", here=False)
    display.glue("drawn", display.bundle(KINDS["curves"](), **WORDS))
    (text, about), (figure, _) = shown
    assert text["application/papermill.record/text/html"] == "<ul>\n<li><strong>one</strong> of two’s</li>\n</ul>\n"
    assert about["scrapbook"] == {"name": "said", "mime_prefix": "application/papermill.record/"}
    assert "<svg" in figure["text/html"] and display.MIME not in figure, "another page has no number for it"


def test_a_table_of_words_keeps_the_order_of_rows_or_of_words() -> None:
    cells = [("b", "two", 0.5), ("b", "one", 0.25), ("a", "one", -0.125)]
    rows = pd.DataFrame([dict(who=w, what=k, value=v, ci_low=v, ci_high=v) for w, k, v in cells])
    table = display.in_table(rows, "who", "what")
    assert table.columns.tolist() == ["who", "two", "one"] and table["who"].tolist() == ["b", "a"]
    assert table["two"].tolist() == ["0.50 (0.50 to 0.50)", "–"]
    named = display.in_table(rows, ["who"], "what", {"one": "First", "two": "Second", "three": "Third"}, "+.1f")
    assert named.columns.tolist() == ["who", "First", "Second"] and named["First"].iloc[1] == "−0.1 (−0.1 to −0.1)"


def test_a_number_without_an_interval_is_said_without_one() -> None:
    row = dict(value=0.423, ci_low=0.34, ci_high=0.506)
    assert figures.spoken(row) == "0.42 (0.34 to 0.51)" and figures.spoken(row | {"ci_low": np.nan}) == "0.42"


def test_what_rounds_to_nothing_has_no_minus() -> None:
    nothing = dict(value=-0.001, ci_low=-0.014, ci_high=0.004)
    assert figures.spoken(nothing) == "0.00 (−0.01 to 0.00)" and figures.spoken(nothing, ".0%") == "0% (−1% to 0%)"
    assert figures.extremes(pd.DataFrame([nothing | {"run": "A"}]), "run", "+.2f") == "0.00 (A)"
    assert number(nothing) == "0.00 (−0.01 to 0.00)"


def test_a_panel_s_title_stays_inside_the_figure() -> None:
    fig = Figure(figsize=(4, 2), layout="constrained")
    left, right = fig.subplots(1, 2)
    right.set_title("a title that is far longer than the panel it stands above")
    left.set_title("short")
    display.bundle(fig, title="A figure", caption="What it is.", alt="Two panels.", name="fig-title")
    for ax in (left, right):
        box = ax.title.get_window_extent(FigureCanvasAgg(fig).get_renderer())
        assert 0 <= box.x0 < box.x1 <= fig.bbox.x1, ax.get_title()

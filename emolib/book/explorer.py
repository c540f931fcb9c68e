"""Data and chart of the explorer: every measurement over layers, the paper's ten models' and every stored run's.

The page book/explorer.md loads what `payload` returns as a script, so it works from a file and needs no server.
The paper's rows have our experiments, conditions and labels (`paper_tables`), so that one choice shows both. Single
random draws are left out; the rows that summarise them stay. Loads no model library.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from emolib.engine.registry import registry
from emolib.figures.palette import APPRAISAL_LABELS, COMPONENT_LABELS, CYCLE
from emolib.paper import tables as paper_tables
from emolib.tables import paper, results

# What is chosen, in this order; the page shows a choice only where there is one.
CHOICES = ("experiment", "metric", "component", "span", "position", "condition", "label", "coefficient", "prompt")
SHOWN = (*CHOICES, "source", "where")
NUMBERS = ("layer", "layers", "value", "ci_low", "ci_high", "n")
RANDOM = re.compile(r"(?:^|;)random:\d")
DIGITS = 5
TEXTS = ["component", "position", "condition", "label", "prompt"]
EXTRAS = ("figure", "how", "tolerance", "n_layers")


def payload(root: Path) -> dict[str, Any]:
    """Return chart, choices and data of the explorer as plain JSON values.

    A series is what one line of a figure shows. Texts are stored once and numbered for each series; rows name theirs.
    """
    frame = measurements(root)
    series = frame.groupby([*SHOWN], sort=False).ngroup()
    each = frame.drop_duplicates([*SHOWN])
    coded = {}
    for name in SHOWN:
        codes, values = pd.factorize(each[name])
        coded[name] = {"values": values.tolist(), "codes": codes.tolist()}
    numbers = {name: [_short(value) for value in frame[name].astype(float)] for name in NUMBERS}
    sources = coloured(frame)
    names = {"component": dict(COMPONENT_LABELS), "label": dict(APPRAISAL_LABELS)}
    return {
        "spec": chart(sources),
        "choices": list(CHOICES),
        "sources": sources,
        "names": names,
        "texts": coded,
        "series": series.tolist(),
        "numbers": numbers,
    }


def coloured(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Return name, kind and colour of every source: runs, then the paper's models in its order.

    There are more sources than colours that everybody can tell apart; those that share one are a run, drawn solid, and
    one of the paper's last models, dashed.
    """
    names = [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    found = frame.drop_duplicates("source")[["source", "kind"]].to_dict("records")
    found.sort(key=lambda source: names.index(source["source"]) if source["kind"] == "paper" else -1)
    return [{**source, "colour": CYCLE[number % len(CYCLE)]} for number, source in enumerate(found)]


def measurements(root: Path) -> pd.DataFrame:
    """Return all measurements that belong to a layer, our runs' first, with `source`, `kind`, `where` and `layers`."""
    runs = [stored(path, root) for path in sorted((root / "results").glob("*/*.parquet"))]
    runs = [frame for frame in runs if len(frame)]
    for slug in {frame["slug"].iloc[0] for frame in runs}:
        own = [frame for frame in runs if frame["slug"].iloc[0] == slug]
        deepest = max(frame["layer"].max() for frame in own) + 1
        for frame in own:
            frame["layers"] = registry().get(frame["model"].iloc[0], {}).get("layers", deepest)
    columns = [*SHOWN, *NUMBERS, "kind"]
    frame = pd.concat([*(run[columns] for run in runs), published()[columns]], ignore_index=True)
    # A choice of a span where a sub-layer has none would only be confusing.
    texts = {name: frame[name].map(_text) for name in ("span", "coefficient")}
    return frame.assign(**texts)


def stored(path: Path, root: Path) -> pd.DataFrame:
    """Return the rows over layers of one stored table, `source` naming its run and `where` its file."""
    frame = results.read(path)
    parameters = frame.attrs["provenance"]["parameters"]
    frame = drawn(frame)
    name = "{model} on {corpus}, {profile}".format(**parameters)
    defaults = {"prompt": "T1-2shot", "calibration": "batch", "dtype": "float32", "seed": 0, "text": "masked"}
    other = [str(parameters[key]) for key, value in defaults.items() if parameters.get(key, value) != value]
    return frame.assign(
        source=", ".join([name, *other]), kind="run", slug=path.parent.name, where=path.relative_to(root).as_posix()
    )


def published() -> pd.DataFrame:
    """Return the paper's rows over layers in our words, `where` naming figure, way of reading and reading error."""
    parts = [
        rows[rows["model"] == model.id].assign(experiment=experiment)
        for model in paper.PAPER_MODELS
        for experiment, rows in paper_tables.aligned(model.id).items()
    ]
    frame = drawn(pd.concat(parts, ignore_index=True).reindex(columns=[*results.COLUMNS, *EXTRAS]))
    frame[TEXTS] = frame[TEXTS].fillna("")
    frame["where"] = frame["figure"].str.replace("Fig ", "Figure ") + ", " + frame["how"]
    frame["where"] += [f" (±{t:.2g})" if t > 0 else "" for t in frame["tolerance"]]
    source = frame["model"].map(paper.model_name) + " (paper)"
    return frame.assign(source=source, kind="paper", layers=frame["n_layers"])


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over layers, without single random draws, and with the pairs of a condition in one order."""
    single = frame["condition"].str.contains(RANDOM) | frame["label"].fillna("").str.startswith("draw:")
    frame = frame[frame["layer"].notna() & ~single].copy()
    order = {text: ";".join(sorted(text.split(";"))) for text in frame["condition"].unique()}
    frame["condition"] = frame["condition"].map(order)
    return frame


def chart(sources: list[dict[str, str]]) -> dict[str, Any]:
    """Return the Vega-Lite specification; the page fills the data set `rows` and titles the vertical axis."""
    domain, colours = ([source[name] for source in sources] for name in ("source", "colour"))
    hue = alt.Color("source:N", scale=alt.Scale(domain=domain, range=colours), legend=None)
    axis = alt.Axis(title="depth: layer / number of layers", tickCount=5)
    depth = alt.X("depth:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    tooltip = [
        alt.Tooltip(f"{name}:N", title=title)
        for name, title in {
            "source": "model",
            "shown": "value",
            "interval": "95 % interval",
            "n": "n",
            "place": "layer",
            "where": "source",
        }.items()
    ]
    base = alt.Chart(alt.NamedData("rows")).encode(x=depth, color=hue)
    dash = alt.condition("datum.kind === 'paper'", alt.value([5, 3]), alt.value([1, 0]))
    band = base.transform_filter("isValid(datum.ci_low)").mark_area(opacity=0.18, aria=False)
    band = band.encode(y=alt.Y("ci_low:Q"), y2="ci_high:Q")
    y = alt.Y("value:Q", scale=alt.Scale(zero=False, nice=True))
    line = base.mark_line(strokeWidth=2, aria=False).encode(y=y, strokeDash=dash)
    points = base.mark_point(filled=True, size=40, opacity=1).encode(y=y, tooltip=tooltip)
    layered = alt.layer(band, line, points).properties(width="container", height=360, background="transparent")
    ink = {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.15,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    }
    configured = layered.configure(font="system-ui, sans-serif").configure_axis(**ink).configure_view(stroke=None)
    return configured.to_dict(context={"pre_transform": False})


def vega() -> str:
    """Return the script that defines `vegaEmbed`, with the version of Vega-Lite that `chart` is written for."""
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # In a function of its own: its short names are those of the theme's scripts too.
    return f"(() => {{{vl_convert.javascript_bundle(vl_version=version)}\n}})();\n"


def _text(value: object) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def _short(value: float) -> float | int | None:
    if np.isnan(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded

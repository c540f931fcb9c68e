"""Data and chart of the explorer: every measurement over layers, the paper's ten models' and every stored run's.

The page book/explorer.md loads what `payload` returns as a script, so it works from a file and needs no server.
The paper's rows are given our experiment, condition and label, so that one choice shows both. Conditions that only
number random directions are left out; the rows that summarise them stay. Loads no model library.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from emolib import paper, results
from emolib.palette import APPRAISAL_LABELS, COMPONENT_LABELS, CYCLE
from emolib.registry import registry

# What is chosen, in this order; the page shows a choice only where there is one.
CHOICES = ("experiment", "metric", "component", "span", "position", "condition", "label", "coefficient", "prompt")
SHOWN = (*CHOICES, "source", "where")
NUMBERS = ("layer", "layers", "value", "ci_low", "ci_high", "n")
RANDOM = re.compile(r"(?:^|;)random:\d")
DIGITS = 5
# The paper's rows in our words: experiment of the value table -> pair of our condition.
AS_OURS = {"emotion_probe": "setting:as_released", "emotion_probe_mlp": "probe:mlp", "zero_ablation": "edit:zero",
           "random_ablation": "edit:random", "control_first_word": "task:first_word", "geometry": "vector:probe",
           "appraisal_probe": "setting:as_released", "promotion": "vector:probe"}  # fmt: skip
EXPERIMENTS = {theirs: ours for ours, pairs in paper.PAPER_EXPERIMENTS.items() for theirs in pairs.values()}
# Experiments whose condition in the value table is our label.
LABELLED = {"appraisal_probe": "appraisal:", "promotion": "emotion:", "attention": "segment:"}


def payload(root: Path) -> dict[str, Any]:
    """Return chart, choices and data of the explorer as plain JSON values; texts are stored once and numbered."""
    frame = measurements(root)
    coded = {}
    for name in SHOWN:
        codes, values = pd.factorize(frame[name])
        coded[name] = {"values": values.tolist(), "codes": codes.tolist()}
    numbers = {name: [_short(value) for value in frame[name].astype(float)] for name in NUMBERS}
    sources = coloured(frame)
    names = {"component": dict(COMPONENT_LABELS), "label": dict(APPRAISAL_LABELS)}
    return {"spec": chart(sources), "choices": list(CHOICES), "sources": sources, "names": names,
            "texts": coded, "numbers": numbers}  # fmt: skip


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
    frame = frame[frame["layer"].notna() & ~frame["condition"].str.contains(RANDOM)].copy()
    name = "{model} on {corpus}, {profile}".format(**parameters)
    defaults = {"prompt": "T1-2shot", "calibration": "batch", "dtype": "float32", "seed": 0, "text": "masked"}
    other = [str(parameters[key]) for key, value in defaults.items() if parameters.get(key, value) != value]
    return frame.assign(
        source=", ".join([name, *other]), kind="run", slug=path.parent.name, where=path.relative_to(root).as_posix()
    )


def published() -> pd.DataFrame:
    """Return the paper's rows over layers in our words, `where` naming figure, way of reading and reading error."""
    frame = paper.load_values()
    frame = frame[frame["layer"].notna()].copy()
    frame["condition"] = [_condition(row.experiment, row.condition) for row in frame.itertuples()]
    cut = [_label(row.experiment, row.condition, row.label) for row in frame.itertuples()]
    frame["condition"], frame["label"] = [pair[0] for pair in cut], [pair[1] for pair in cut]
    frame["metric"] = frame["metric"].str.removeprefix("emotion_probe:").str.removeprefix("patching:")
    frame["where"] = frame["figure"].str.replace("Fig ", "Figure ") + ", " + frame["how"]
    frame["where"] += [f" (±{t:g})" if t > 0 else "" for t in frame["tolerance"]]
    return frame.assign(
        experiment=frame["experiment"].map(EXPERIMENTS).fillna(frame["experiment"]),
        source=frame["model"].map(paper.model_name) + " (paper)",
        kind="paper",
        layers=frame["n_layers"],
    )


def chart(sources: list[dict[str, str]]) -> dict[str, Any]:
    """Return the Vega-Lite specification; the page fills the data set `rows` and titles the vertical axis."""
    domain, colours = ([source[name] for source in sources] for name in ("source", "colour"))
    hue = alt.Color("source:N", scale=alt.Scale(domain=domain, range=colours), legend=None)
    axis = alt.Axis(title="depth: layer / number of layers", tickCount=5)
    depth = alt.X("depth:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    tooltip = [
        alt.Tooltip(f"{name}:N", title=title)
        for name, title in {"source": "model", "shown": "value", "interval": "95 % interval", "n": "n",
                            "place": "layer", "where": "source"}.items()
    ]  # fmt: skip
    base = alt.Chart(alt.NamedData("rows")).encode(x=depth, color=hue)
    dash = alt.condition("datum.kind === 'paper'", alt.value([5, 3]), alt.value([1, 0]))
    band = base.transform_filter("isValid(datum.ci_low)").mark_area(opacity=0.18, aria=False)
    band = band.encode(y=alt.Y("ci_low:Q"), y2="ci_high:Q")
    y = alt.Y("value:Q", scale=alt.Scale(zero=False, nice=True))
    line = base.mark_line(strokeWidth=2, aria=False).encode(y=y, strokeDash=dash)
    points = base.mark_point(filled=True, size=40, opacity=1).encode(y=y, tooltip=tooltip)
    layered = alt.layer(band, line, points).properties(width="container", height=360, background="transparent")
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "domainColor": "currentColor",
           "tickColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.15,
           "labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": "normal"}  # fmt: skip
    configured = layered.configure(font="system-ui, sans-serif").configure_axis(**ink).configure_view(stroke=None)
    return configured.to_dict(context={"pre_transform": False})


def vega() -> str:
    """Return the script that defines `vegaEmbed`, with the version of Vega-Lite that `chart` is written for."""
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # In a function of its own: its short names are those of the theme's scripts too.
    return f"(() => {{{vl_convert.javascript_bundle(vl_version=version)}\n}})();\n"


def _condition(experiment: str, condition: str) -> str:
    return ";".join(part for part in (AS_OURS.get(experiment, ""), condition) if part)


def _label(experiment: str, condition: str, label: str) -> tuple[str, str]:
    prefix = LABELLED.get(experiment)
    if prefix is None or label:
        return condition, label
    parts = condition.split(";")
    found = [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]
    return ";".join(part for part in parts if not part.startswith(prefix)), ";".join(found)


def _text(value: object) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def _short(value: float) -> float | int | None:
    if np.isnan(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded

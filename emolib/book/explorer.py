"""Data of the explorer: every measurement over layers, the paper's ten models' and every stored run's.

The page book/explorer.md loads the index that `payload` returns as a script, and of the measurements one script for
each measure when it is looked at (`scripts`), so it works from a file and needs no server; book/_static/explorer.js
draws it. The choices of a measure are the columns of its table with more than one value; the paper's rows have the same
columns, so that one choice shows both. Single random draws are left out; the rows that summarise them stay. Of
behaviour, which has no layers, all is there. Questions in words lead to choices: they, and how readers see the tables'
words, are in questions.yml. Loads no model library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import yaml

from emolib.figures.palette import APPRAISAL_LABELS, COMPONENT_COLOURS, COMPONENT_LABELS, CYCLE, EMOTION_COLOURS
from emolib.paper.ladder import run_name
from emolib.paper.tables import aligned
from emolib.study.run import LADDER
from emolib.tables import paper, results, schemas
from emolib.texts.appraisals import EMOTIONS, PUSHED, Setting

NUMBERS = ("layer", "n_layers", "value", "ci_low", "ci_high", "n")
WHOSE = ("who", "kind", "slug", "where")
NO_CHOICE = {"experiment", "model", "seed", "layer", "draw", "settings", *PUSHED}
# Every column that may be a choice.
COLUMNS = dict.fromkeys(name for experiment in schemas.EXPERIMENTS for name in schemas.columns(experiment))
CHOICES = [name for name in COLUMNS if name not in {*NO_CHOICE, *NUMBERS, *schemas.DERIVED}]
# What a measure is compared with is stored as a measure of its own, whose name has one of these ends.
COMPARED = re.compile(r"_(null|split|by_construction)$")
PAGE, FOLDER = "book/explorer", "explorer"


@cache
def questions() -> dict[str, Any]:
    """The questions by part and name, and words, menus and levels of the tables: what questions.yml holds."""
    return yaml.safe_load(files("emolib.book").joinpath("questions.yml").read_text(encoding="utf-8"))


def question_of(figure: str) -> tuple[str, str] | None:
    """Name and words of the question that a figure of a chapter answers, whatever run it is of; None if there is none.

    `figure` is the figure's anchor, before which a reader's own run has its name.
    """
    for part in questions()["parts"].values():
        for name, about in part.items():
            if any(figure == known or figure.endswith(f"-{known}") for known in about.get("figures", [])):
                return name, about["question"]
    return None


def scripts(root: Path) -> Iterator[tuple[str, str]]:
    """The scripts that the page loads, path under _static and text: the index, then one for each measure."""

    def compact(data: object) -> str:
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    data = payload(root)
    tables = data.pop("tables")
    index = data | {"tables": {experiment: list(measures) for experiment, measures in tables.items()}}
    yield "explorer-data.js", f"window.emolibExplorer = {compact(index)};\n"
    for experiment, measures in tables.items():
        for metric, table in measures.items():
            call = f"window.emolibExplorer.add({compact(experiment)},{compact(metric)},{compact(table)});\n"
            yield f"{FOLDER}/{experiment}-{metric}.js", call


def payload(root: Path) -> dict[str, Any]:
    """Models, questions, names and data of the explorer as plain JSON values.

    For each experiment and measure its choices in order, rows of numbers, and the series that each row belongs to: what
    one line of a figure shows. The texts of a series are stored once and numbered. The measure that most models have
    comes first.
    """
    frame = measurements(root)
    about = questions()
    names = {**COMPONENT_LABELS, **APPRAISAL_LABELS}
    colours = {**COMPONENT_COLOURS, **EMOTION_COLOURS}
    chance = {"chance": 1 / len(EMOTIONS)}
    levels = {
        experiment: {metric: chance if level == "chance" else level for metric, level in known.items()}
        for experiment, known in about["levels"].items()
    }
    tables: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(each["experiment"] for part in about["parts"].values() for each in part.values()):
        rows = frame[frame["experiment"] == name]
        measures = rows.groupby("metric", sort=False)["who"].nunique().sort_values(ascending=False, kind="stable").index
        tables[name] = {
            metric: packed(mine := rows[rows["metric"] == metric], choices(name, mine)) for metric in measures
        }
    return {
        "models": models(frame),
        "parts": about["parts"],
        "menus": about["menus"],
        "words": about["words"],
        "pages": pages(root),
        "names": names,
        "colours": colours,
        "cycle": list(CYCLE),
        "levels": levels,
        "tables": {name: measures for name, measures in tables.items() if measures},
    }


def pages(root: Path) -> dict[str, str]:
    """By experiment the address of its chapter from the explorer's page, as far as there is one."""
    chapters = sorted((root / "book" / "chapters").glob("*_*.ipynb"))
    return {path.stem.split("_", 1)[1]: f"chapters/{path.stem}.html" for path in chapters}


def packed(rows: pd.DataFrame, chosen: list[str]) -> dict[str, Any]:
    """One measure's rows in the form that the page reads."""
    columns = [*chosen, "who", "where"]
    each = rows.drop_duplicates(columns)
    coded = {name: pd.factorize(each[name]) for name in columns}
    return {
        "choices": chosen,
        "texts": {
            name: {"values": values.tolist(), "codes": codes.tolist()} for name, (codes, values) in coded.items()
        },
        "series": rows.groupby(columns, sort=False).ngroup().tolist(),
        "numbers": {name: _short(rows[name]) for name in NUMBERS},
    }


def choices(experiment: str, rows: pd.DataFrame) -> list[str]:
    """The columns that tell the rows of a measure apart, as far as they have several values."""
    names = [name for name in schemas.keys(experiment) if name not in NO_CHOICE and name not in ("metric", "prompt")]
    names = ["comparison", *names, *(["setting"] if experiment == "modulation" else []), "prompt"]
    # what is measured comes first, then where
    names.sort(key=lambda name: name not in ("comparison", "check", "component", "span", "position"))
    return [name for name in names if rows[name].nunique() > 1]


def models(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Name, kind and colour of every run, then of the paper's models in its order.

    A model keeps its colour, whatever else is stored: this book's runs take the first of CYCLE in the ladder's order,
    the paper's models the last, others one that follows from their name. Those that share one differ in the form of
    the line: runs are drawn solid, the paper's models dashed.
    """
    order = [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    found = frame.drop_duplicates("who")[["who", "kind", "slug"]].to_dict("records")
    found.sort(key=lambda model: order.index(model["who"]) if model["kind"] == "paper" else -1)
    ladder = [run.slug for run in LADDER]

    def colour(who: str, slug: str) -> str:
        if who in order:
            return CYCLE[-1 - order.index(who) % len(CYCLE)]
        return CYCLE[(ladder.index(slug) if slug in ladder else crc32(slug.encode())) % len(CYCLE)]

    return [{"who": one["who"], "kind": one["kind"], "colour": colour(one["who"], one["slug"])} for one in found]


def measurements(root: Path) -> pd.DataFrame:
    """All measurements that belong to a layer, our runs' first, with `who`, `kind` and `where`; choices are texts.

    Of behaviour those without a layer. `comparison` says what a measure is compared with, "" for the measure itself.
    """
    runs = [stored(path, root) for path in sorted((root / "results").glob("*/*.parquet"))]
    frame = pd.concat([run for run in [*runs, published()] if len(run)], ignore_index=True)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *CHOICES, "settings", "slug"])))
    frame = frame.astype(dict.fromkeys(["experiment", *WHOSE], object))  # quicker to take rows of than texts of arrow
    pushed = frame["pleasantness"].notna()
    frame["setting"] = np.where(frame["settings"] == "printed", "mean of the printed settings", "")
    signs = [*map(tuple, frame.loc[pushed, [*PUSHED]].to_numpy())]
    settings = {row: _setting(dict(zip(PUSHED, row, strict=True))) for row in dict.fromkeys(signs)}
    frame.loc[pushed, "setting"] = [settings[row] for row in signs]
    for name in CHOICES:
        codes, values = pd.factorize(frame[name])  # -1, so the last, where there is none
        frame[name] = np.array([*map(_text, values), ""], dtype=object)[codes]
    codes, measures = pd.factorize(frame["metric"])
    measures = pd.Series(measures)
    frame["comparison"] = measures.str.extract(COMPARED, expand=False).fillna("").to_numpy(object)[codes]
    frame["metric"] = measures.str.replace(COMPARED, "", regex=True).to_numpy(object)[codes]
    kept = dict.fromkeys(["experiment", *WHOSE, "metric", "comparison", "setting", *CHOICES, *NUMBERS])
    return frame[[*kept]]


def stored(path: Path, root: Path) -> pd.DataFrame:
    """The rows of one stored table, `who` naming its run and `where` its file; none of a damaged one."""
    frame = results.readable(path)
    if frame is None:
        return pd.DataFrame()
    who, slug = run_name({path.stem: frame}, path.parent.name), path.parent.name
    return _drawn(frame).assign(who=who, kind="run", slug=slug, where=path.relative_to(root).as_posix())


def published() -> pd.DataFrame:
    """The paper's rows in our columns, `where` naming figure, way of reading and reading error."""
    parts = [rows for model in paper.PAPER_MODELS for rows in aligned(model.id).values()]
    frame = _drawn(pd.concat(parts, ignore_index=True))
    frame = frame[frame["model"].ne("human")]  # who are no model
    where = frame["figure"].str.replace("Fig ", "Figure ") + ", " + frame["how"]
    where += [f" (±{t:.2g})" if t > 0 else "" for t in frame["tolerance"]]
    return frame.assign(who=frame["model"].map(paper.model_name) + " (paper)", kind="paper", where=where)


def _drawn(frame: pd.DataFrame) -> pd.DataFrame:
    single = frame["draw"].notna() if "draw" in frame else False
    placed = frame["layer"].notna() | frame["experiment"].eq("behaviour") & frame["metric"].ne("word_count")
    return frame[placed & ~single]


def _setting(signs: dict[str, Any]) -> str:
    """The pushed appraisals as readers see them, "pleasantness ↑, other-agency ↓"."""
    pushed = Setting.from_columns(signs) if any(signs.values()) else {}
    names = {name: APPRAISAL_LABELS.get(name, name.replace("_", " ")) for name in pushed}
    return ", ".join(f"{names[name]} {'↑' if sign > 0 else '↓'}" for name, sign in pushed.items())


def vega() -> str:
    """The script that defines `vegaEmbed`."""
    import vl_convert

    # In a function of its own: its short names are those of the theme's scripts too.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub requires `snippet`
    return f"(() => {{{bundle}\n}})();\n"


def _text(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _short(numbers: pd.Series) -> list[float | None]:
    """Five digits, which is what the page shows at the most; None, which JSON has, for no number."""
    codes, values = pd.factorize(numbers.to_numpy(float, na_value=np.nan))  # -1, so the last, where there is none
    return np.array([*(float(f"{value:.5g}") for value in values), None], dtype=object)[codes].tolist()

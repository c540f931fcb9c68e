"""Data of the explorer: every measurement over layers, the paper's ten models' and every stored run's.

The page book/explorer.md loads what `payload` returns as a script, so it works from a file and needs no server;
book/_static/explorer.js draws it. The choices of an experiment are the columns of its table with more than one value;
the paper's rows have the same columns, so that one choice shows both. Single random draws are left out; the rows that
summarise them stay. Loads no model library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emolib.figures.palette import APPRAISAL_LABELS, COMPONENT_LABELS, CYCLE
from emolib.paper.overview import run_name
from emolib.paper.tables import aligned
from emolib.tables import paper, results, schemas
from emolib.texts.appraisals import PUSHED, Setting

NUMBERS = ("layer", "n_layers", "value", "ci_low", "ci_high", "n")
NO_CHOICE = {"experiment", "model", "seed", "layer", "draw", "settings", *PUSHED}
# Every column that may be a choice.
COLUMNS = dict.fromkeys(name for experiment in schemas.EXPERIMENTS for name in schemas.columns(experiment))
CHOICES = [name for name in COLUMNS if name not in {*NO_CHOICE, *NUMBERS, *schemas.DERIVED}]


def payload(root: Path) -> dict[str, Any]:
    """Models, names and data of the explorer as plain JSON values.

    For each experiment its choices in order, rows of numbers, and the series that each row belongs to: what one line of
    a figure shows. The texts of a series are stored once and numbered.
    """
    frame = measurements(root)
    names = {**COMPONENT_LABELS, **APPRAISAL_LABELS}
    tables = {str(name): packed(rows, choices(str(name), rows)) for name, rows in frame.groupby("experiment")}
    return {"models": models(frame), "names": names, "tables": tables}


def packed(rows: pd.DataFrame, chosen: list[str]) -> dict[str, Any]:
    """One experiment's rows in the form that the page reads."""
    columns = [*chosen, "who", "where"]
    each = rows.drop_duplicates(columns)
    coded = {name: pd.factorize(each[name]) for name in columns}
    return {
        "choices": chosen,
        "texts": {
            name: {"values": values.tolist(), "codes": codes.tolist()} for name, (codes, values) in coded.items()
        },
        "series": rows.groupby(columns, sort=False).ngroup().tolist(),
        "numbers": {name: [_short(value) for value in rows[name].astype(float)] for name in NUMBERS},
    }


def choices(experiment: str, rows: pd.DataFrame) -> list[str]:
    """The columns that tell the rows of an experiment over layers apart, as far as they have several values."""
    names = [name for name in schemas.keys(experiment) if name not in NO_CHOICE and name != "prompt"]
    names = [*names, *(["setting"] if experiment == "modulation" else []), "prompt"]
    # what is measured comes first, then where
    names.sort(key=lambda name: name not in ("metric", "component", "span", "position"))
    return [name for name in names if name == "metric" or rows[name].nunique() > 1]


def models(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Name, kind and colour of every run, then of the paper's models in its order.

    There are more of them than colours that everybody can tell apart; those that share one are a run, drawn solid, and
    one of the paper's last models, dashed.
    """
    order = [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    found = frame.drop_duplicates("who")[["who", "kind"]].to_dict("records")
    found.sort(key=lambda model: order.index(model["who"]) if model["kind"] == "paper" else -1)
    return [{**model, "colour": CYCLE[number % len(CYCLE)]} for number, model in enumerate(found)]


def measurements(root: Path) -> pd.DataFrame:
    """All measurements that belong to a layer, our runs' first, with `who`, `kind` and `where`; choices are texts."""
    runs = [stored(path, root) for path in sorted((root / "results").glob("*/*.parquet"))]
    frame = pd.concat([run for run in [*runs, published()] if len(run)], ignore_index=True)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *CHOICES, "settings"])))
    pushed = frame["pleasantness"].notna()
    frame["setting"] = np.where(frame["settings"] == "printed", "mean of the printed settings", "")
    frame.loc[pushed, "setting"] = [_setting(row) for row in frame.loc[pushed, [*PUSHED]].to_dict("records")]
    for name in CHOICES:
        codes, values = pd.factorize(frame[name])  # -1, so the last, where there is none
        frame[name] = np.array([*map(_text, values), ""], dtype=object)[codes]
    return frame


def stored(path: Path, root: Path) -> pd.DataFrame:
    """The rows over layers of one stored table, `who` naming its run and `where` its file; none of a damaged one."""
    frame = results.readable(path)
    if frame is None:
        return pd.DataFrame()
    who = run_name({path.stem: frame}, path.parent.name)
    return _drawn(frame).assign(who=who, kind="run", where=path.relative_to(root).as_posix())


def published() -> pd.DataFrame:
    """The paper's rows over layers in our columns, `where` naming figure, way of reading and reading error."""
    parts = [rows for model in paper.PAPER_MODELS for rows in aligned(model.id).values()]
    frame = _drawn(pd.concat(parts, ignore_index=True))
    where = frame["figure"].str.replace("Fig ", "Figure ") + ", " + frame["how"]
    where += [f" (±{t:.2g})" if t > 0 else "" for t in frame["tolerance"]]
    return frame.assign(who=frame["model"].map(paper.model_name) + " (paper)", kind="paper", where=where)


def _drawn(frame: pd.DataFrame) -> pd.DataFrame:
    single = frame["draw"].notna() if "draw" in frame else False
    return frame[frame["layer"].notna() & ~single]


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


def _short(value: float) -> float | None:
    """Five digits, which is what the page shows at the most; None, which JSON has, for no number."""
    return None if np.isnan(value) else float(f"{value:.5g}")

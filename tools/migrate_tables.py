"""Bring tables of the old layout (one column `condition` of `key:value;key:value`) into the columns of today, once.

    python tools/migrate_tables.py OLD_FOLDER NEW_FOLDER    # converts every parquet, then compares value by value

`NEW_FOLDER` may already hold tables that today's code has measured: with `--compare` nothing is written, and the
converted rows are compared with those. Windows of the residual stream, filed at their last layer by `patching`, move to
their centre, where all others stand.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from emolib.study import freshness
from emolib.study.run import Run
from emolib.tables import results, schemas

OLD = b"emolib.provenance"
DROPPED = ("code_sha256", "library_sha256", "notebook", "notebook_sha256", "dtype", "seed")  # of the provenance
# What one key of an old condition is called now; others keep their names.
RENAMED = {"edit": "method"}
Row = dict[str, Any]


def read_old(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows and provenance of a table of the old layout."""
    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[OLD])


def convert(old: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """The rows of an old table as a table of today."""
    experiment = old["experiment"].iloc[0]
    own = own_columns(experiment, old[["metric", "condition", "label"]].drop_duplicates())
    frame = old.merge(own, on=["metric", "condition", "label"], how="left", validate="many_to_one")
    frame["metric"] = frame.pop("new_metric")
    frame = frame.drop(columns=["condition", "label"]).rename(columns={"new_label": "label"})
    if experiment in ("modulation", "promotion"):
        frame = frame.rename(columns={"coefficient": "dose"})
    frame = frame.drop(columns=[name for name in ("coefficient",) if name in frame])
    if experiment == "patching":
        stream = (frame["component"] == "resid_post") & (frame["span"] > 1) & frame["layer"].notna()
        frame.loc[stream, "layer"] -= frame.loc[stream, "span"] // 2
    known = schemas.columns(experiment)
    empty = [name for name in frame if name not in known and not frame[name].replace("", np.nan).notna().any()]
    return results.tidy(frame.drop(columns=empty), experiment, n_layers=n_layers)


def own_columns(experiment: str, cases: pd.DataFrame) -> pd.DataFrame:
    """For each metric, condition and label of an old table its own columns today, with new_metric and new_label."""
    rows = []
    for metric, condition, label in cases.itertuples(index=False):
        parts = dict(part.split(":", 1) for part in condition.split(";") if ":" in part)
        parts = {RENAMED.get(name, name): value for name, value in parts.items()}
        row = dict(metric=metric, condition=condition, label=label, new_metric=metric, new_label=label)
        rows.append(row | FOUND[experiment](row, parts, condition))
    return pd.DataFrame(rows)


def behaviour(row: Row, parts: Row, condition: str) -> Row:
    parts.pop("vocabulary", None)
    if row["metric"] == "count":
        row["new_metric"] = "word_count"
    if "=>" in row["label"]:
        row["new_label"], parts["answer"] = row["label"].split("=>")
    return row | parts


def probing(row: Row, parts: Row, condition: str) -> Row:
    mlp = parts.get("probe") == "mlp"
    return row | {"setting": "as_released", "probe": "linear"} | parts | ({"probe": "mlp"} if mlp else {})


def ablation(row: Row, parts: Row, condition: str) -> Row:
    return row | parts


def patching(row: Row, parts: Row, condition: str) -> Row:
    if row["metric"] == "pair_count":
        parts["source_label"], parts["base_label"] = row["label"].split("=>")
        row["new_label"] = ""
    elif "source" not in parts:
        parts["source"] = "other_label"
    return row | parts


def attention(row: Row, parts: Row, condition: str) -> Row:
    if "layers" in parts:
        parts["band"] = parts.pop("layers")
    if row["metric"] == "enrichment":
        parts["words"] = row["label"]
    elif row["metric"] in ("top1_count", "top3_count"):
        named = dict(part.split(":", 1) for part in row["label"].split(";"))
        parts |= {"part": named["segment"], "token": named.get("token", "")}
    else:
        parts["segment"] = row["label"]
    return row | parts | {"new_label": ""}


def appraisals(row: Row, parts: Row, condition: str) -> Row:
    if row["metric"] not in ("mean_rating", "emotion_from_appraisals"):
        parts["appraisal"] = row["label"]
        row["new_label"] = ""
    if "setting" in parts:
        parts.setdefault("target", "writer")
        parts.setdefault("set", "agreed" if parts["setting"] == "as_released" else "all")
    if "baseline" in parts:
        parts.setdefault("set", "all")
    if "reader" in parts:
        parts["set"] = "read"
    return row | parts


def geometry(row: Row, parts: Row, condition: str) -> Row:
    if "vector" in parts:
        parts.setdefault("set", "agreed" if parts["vector"] == "probe" else "all")
    if row["metric"] == "pc_coordinate":
        parts |= {"emotion": row["label"], "pc": int(parts["pc"])}
    elif row["label"].startswith("pc"):
        parts["pc"] = int(row["label"].removeprefix("pc"))
    return row | parts | {"new_label": ""}


def modulation(row: Row, parts: Row, condition: str) -> Row:
    found: Row = {}
    signs = {name: int(parts.pop(name)) for name in schemas.PUSHED if name in parts}
    if signs:
        found |= dict.fromkeys(schemas.PUSHED, 0) | signs
    metric, label = row["metric"], row["label"]
    dosed = metric in ("count", "theory_score", "total_variation", "flow", "selection_score") or "null" in metric
    if condition != "baseline" and dosed:
        found["unit"] = parts.pop("unit", "absolute")
    if metric == "flow":
        row["new_label"], found["answer"] = label.split("=>")
    if label.startswith("draw:"):
        found["draw"], row["new_label"] = int(label.removeprefix("draw:")), ""
    over = parts.pop("over", "")
    if "random" in parts:
        found |= {"draw": int(parts.pop("random")), "vector": "random_per_layer" if over else "random"}
    if metric.startswith("theory_score_null"):
        kind = "random_sets" if "settings" in parts else "random" + metric.removeprefix("theory_score_null")
        row["new_metric"] = "theory_score_null"
        parts["vector"] = kind
    return row | parts | found


def promotion(row: Row, parts: Row, condition: str) -> Row:
    return row | ({"unit": "absolute"} | parts if "vector" in parts else parts)


def robustness(row: Row, parts: Row, condition: str) -> Row:
    if row["metric"] == "r2":
        parts["appraisal"], row["new_label"] = row["label"], ""
    return row | parts


FOUND = {
    make.__name__: make
    for make in (
        behaviour,
        probing,
        ablation,
        patching,
        attention,
        appraisals,
        geometry,
        modulation,
        promotion,
        robustness,
    )
}


def compare(converted: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The keys of rows whose value, ends or n differ, or that only one of the two has, with what is different."""
    experiment = results.experiment_of(new)
    keys = schemas.keys(experiment)
    both = converted.merge(new, on=keys, how="outer", suffixes=("_old", "_new"), indicator=True)
    differ = both["_merge"] != "both"
    for name in ("value", "ci_low", "ci_high", "n", "last_layer", "n_layers", "depth"):
        old, mine = (both[f"{name}_{side}"].astype(float).to_numpy() for side in ("old", "new"))
        differ |= ~((old == mine) | (np.isnan(old) & np.isnan(mine)))
    return both[differ]


def main(arguments: list[str]) -> int:
    """0 when every old row has its equal in the new tables."""
    look = "--compare" in arguments
    old_folder, new_folder = (Path(one) for one in arguments if not one.startswith("--"))
    found = {path: read_old(path) for path in sorted(old_folder.glob("*.parquet"))}
    n_layers = max(int(old["layer"].max()) + 1 for old, _ in found.values() if old["layer"].notna().any())
    total = 0
    for path, (old, provenance) in found.items():
        converted, target = convert(old, n_layers), new_folder / path.name
        if not look:
            key = freshness.key(Run(**provenance["parameters"]), import_module(f"emolib.experiments.{path.stem}"))
            results.write(converted, target, {k: v for k, v in provenance.items() if k not in DROPPED} | key)
        differences = compare(converted, results.read(target))
        total += len(differences)
        print(f"{path.stem}: {len(old)} rows, {len(differences)} differences")
        if len(differences):
            shown = differences.drop(columns=[name for name in differences if differences[name].nunique() <= 1])
            print(differences.groupby("metric", observed=True).size().to_dict(), shown.head(6).to_string(), sep="\n")
    print(f"{total} differences")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

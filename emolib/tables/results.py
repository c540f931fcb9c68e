"""Measurements as one long table: schema, checks, storage with provenance, strict selection.

One row is one measurement. The key columns say what was measured, `value` what came out, `ci_low` and `ci_high` its
95 % interval, `n` the number of texts, pairs or readings behind it. `layer` is 0-based. A text key that does not apply
is the empty string, a number that does not apply is missing.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emolib.engine.sites import COMPONENTS
from emolib.tables.provenance import collect_provenance, footer, local_paths

__all__ = ["COLUMNS", "KEYS", "collect_provenance", "footer", "read", "select", "tidy", "validate", "write"]

TEXT = ("experiment", "model", "prompt", "component", "position", "condition", "label", "metric")
COUNTS = ("layer", "span", "seed", "n")
NUMBERS = ("coefficient", "value", "ci_low", "ci_high")
KEYS = (
    "experiment",
    "model",
    "prompt",
    "component",
    "layer",
    "span",
    "position",
    "condition",
    "label",
    "coefficient",
    "seed",
    "metric",
)
COLUMNS = (*KEYS, "value", "ci_low", "ci_high", "n")
REQUIRED_TEXT = ("experiment", "model", "metric")
POSITIONS = ("-1", "-2", "-3", "-4", "-5", "all", "")
METADATA_KEY = b"emolib.tables.provenance"
# An interval may miss its value by rounding alone, never by more than this share of the value (or of 1).
SLACK = 1e-6


def tidy(records: pd.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]], **constants: object) -> pd.DataFrame:
    """Return the records as a validated table with all columns of the schema, in order and typed.

    `records` is a table, a mapping of columns, or an iterable of rows; `constants` are columns with one value for all
    rows. Text keys left out become "", numbers left out become missing; `value` must be there.

    Raises:
        ValueError: an unknown column, a column given twice, or anything that `validate` refuses.
    """
    frame = pd.DataFrame(records) if isinstance(records, (pd.DataFrame, Mapping)) else pd.DataFrame(list(records))
    twice = sorted(set(constants) & set(frame.columns))
    if twice:
        raise ValueError(f"columns {twice} are given both in the records and as constants: give each once")
    frame = frame.reset_index(drop=True).assign(**constants)
    _refuse_unknown(frame)
    if "value" not in frame:
        raise ValueError(f"the records have no column 'value', only {list(frame.columns)}: every row needs one")
    typed = {name: _typed(frame.get(name), name, len(frame)) for name in COLUMNS}
    return validate(pd.DataFrame(typed, columns=list(COLUMNS)))


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame unchanged when it follows the schema.

    Raises:
        ValueError: unknown or missing column, wrong type, empty required key, word outside a vocabulary, duplicate
            key, value that is not finite, interval that does not contain its value.
    """
    _refuse_unknown(frame)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ValueError(
            f"columns {missing} are missing: build the table with emolib.tables.results.tidy, which fills them"
        )
    for name in COLUMNS:
        _check_type(frame[name], name)
    for name in REQUIRED_TEXT:
        _refuse(frame, frame[name] == "", f"{name} is empty", "name it, for example as a constant of tidy")
    for name, words in {"component": (*COMPONENTS, ""), "position": POSITIONS}.items():
        _refuse(frame, ~frame[name].isin(words), f"{name} is not one of {list(words)}", "use a word of the vocabulary")
    negative = (frame["layer"] < 0) | (frame["span"] < 1) | (frame["n"] < 0)
    _refuse(frame, negative.fillna(False), "layer < 0, span < 1 or n < 0", "layers are 0-based, spans and n are counts")
    _refuse(frame, ~np.isfinite(frame["value"]), "value is not a finite number", "leave the row out or repair it")
    _check_intervals(frame)
    key = "two rows have the same key, so one measurement has two values"
    _refuse(frame, frame.duplicated(list(KEYS)), key, "tell them apart by condition, label or metric, or drop one")
    return frame


def write(frame: pd.DataFrame, path: str | Path, provenance: Mapping[str, Any]) -> Path:
    """Return the path after storing the validated frame there as parquet, with its provenance in the metadata.

    The file is written under a temporary name in the same folder and renamed, so a failure leaves an old file intact.

    Raises:
        ValueError: the frame breaks the schema, or the provenance is empty, not JSON, or holds a local path.
    """
    path = Path(path)
    if not provenance:
        raise ValueError("the provenance is empty: build it with emolib.tables.results.collect_provenance")
    local = local_paths(provenance)
    if local:
        raise ValueError(f"the provenance holds local paths {local}: give file names or identifiers only")
    try:
        text = json.dumps(dict(provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the provenance is not plain JSON ({error}): use text, finite numbers, lists") from error
    bare = validate(frame)[list(COLUMNS)].reset_index(drop=True)
    bare.attrs = {}
    table = pa.Table.from_pandas(bare, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: text.encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, lambda file: pq.write_table(table, file, compression="zstd"))
    return path


def read(path: str | Path) -> pd.DataFrame:
    """Return the validated frame stored at the path, its provenance in `.attrs["provenance"]`.

    Raises:
        FileNotFoundError: nothing is stored there.
        ValueError: the file has no provenance or breaks the schema.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}: run the experiment first (emolib run)")
    table = pq.read_table(path)
    stored = (table.schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise ValueError(
            f"{path} has no provenance: it was not written by emolib.tables.results.write, so run it again"
        )
    try:
        frame = validate(table.to_pandas())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    frame.attrs["provenance"] = json.loads(stored)
    return frame


def select(frame: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """Return the rows in which every named column has the given value (or one of a list); None matches missing.

    Columns are narrowed in the order given, so a combination that never occurs is an error too.

    Raises:
        ValueError: a column that does not exist, or a value that does not occur; the message lists those that do.
    """
    for name, wanted in keys.items():
        if name not in frame:
            raise ValueError(f"no column {name!r}: the table has {list(frame.columns)}")
        column = frame[name]
        many = isinstance(wanted, (list, tuple, set, frozenset, range, np.ndarray, pd.Series))
        hits = [column.isna() if value is None else (column == value).fillna(False) for value in _listed(wanted, many)]
        absent = [value for value, hit in zip(_listed(wanted, many), hits, strict=True) if not hit.any()]
        if absent or not hits:
            raise ValueError(f"{name}={absent or wanted!r} does not occur here: {name} is one of {_occurring(column)}")
        frame = frame[np.logical_or.reduce([hit.to_numpy(dtype=bool) for hit in hits])]
    return frame.reset_index(drop=True)


def _listed(wanted: Any, many: bool) -> list[Any]:
    return list(wanted) if many else [wanted]


def _occurring(column: pd.Series) -> str:
    values = sorted(column.dropna().unique().tolist())
    shown = [*map(repr, values[:40]), *(["None"] if column.isna().any() else [])]
    return "[" + ", ".join(shown) + (", ..." if len(values) > 40 else "") + "]"


def _typed(column: pd.Series | None, name: str, length: int) -> pd.Series:
    try:
        if name in TEXT:
            return pd.Series([""] * length, dtype="str") if column is None else column.astype("str").fillna("")
        kind = "Int64" if name in COUNTS else "float64"
        if column is None:
            return pd.Series([None] * length, dtype=kind)
        numbers = pd.to_numeric(column).astype("float64")
        if kind == "Int64" and (numbers % 1 > 0).any():
            raise ValueError("a count or index has a fraction")
        return numbers.astype(kind)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {name!r} does not convert to its type ({error}): see emolib.tables.results"
        ) from error


def _check_type(column: pd.Series, name: str) -> None:
    expected = "text" if name in TEXT else "Int64" if name in COUNTS else "float64"
    is_text = pd.api.types.is_string_dtype(column.dtype) and not column.isna().any()
    if not (is_text if name in TEXT else str(column.dtype) == expected):
        raise ValueError(f"column {name!r} has type {column.dtype}, expected {expected} without gaps: use tidy")


def _check_intervals(frame: pd.DataFrame) -> None:
    value, low, high = (frame[name].to_numpy() for name in ("value", "ci_low", "ci_high"))
    _refuse(frame, np.isnan(low) != np.isnan(high), "only one end of the interval is given", "give both or neither")
    _refuse(frame, np.isinf(low) | np.isinf(high), "an interval end is infinite", "give finite ends or neither")
    slack = SLACK * np.maximum(1.0, np.abs(value))
    outside = (value < low - slack) | (value > high + slack)
    _refuse(frame, outside, "the interval does not contain its value", "take both from the same resamples")


def _refuse_unknown(frame: pd.DataFrame) -> None:
    unknown = [name for name in frame.columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown columns {unknown}: the schema has {list(COLUMNS)}; use condition for anything else")
    if not frame.columns.is_unique:
        raise ValueError(f"columns are repeated in {list(frame.columns)}: keep one of each")


def _refuse(frame: pd.DataFrame, bad: Any, what: str, do: str) -> None:
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if len(rows):
        first = frame.iloc[[rows[0]]].to_dict("records")[0]
        row = {name: value for name, value in first.items() if not (pd.isna(value) or value == "")}
        raise ValueError(f"{what} in {len(rows)} of {len(frame)} rows, first in row {rows[0]} {row}: {do}")


def _replace(path: Path, save: Any) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; results are meant to be shared like any other file of the project
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

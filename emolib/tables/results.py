"""Measurements as tables: built, checked, stored with their provenance and a digest of their rows, strictly selected.

The columns are those of `tables.schemas`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pandera.errors
import pyarrow as pa
import pyarrow.parquet as pq

from emolib.engine.places import replacing
from emolib.tables import schemas
from emolib.tables.provenance import local_paths

PROVENANCE, DIGEST, ABOUT = b"emolib.provenance", b"emolib.digest", b"emolib.provenance.sha256"
Rows: TypeAlias = pd.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]]


class Absent(ValueError):
    """Rows that were asked for are not in a table; the message says which, and what is there."""


def tidy(rows: Rows, experiment: str, *, n_layers: int | None = None, **constants: object) -> pd.DataFrame:
    """The rows as a validated table of an experiment, with all of its columns in order and typed.

    `constants` are columns with one value for all rows that do not give it themselves. Texts left out become "",
    numbers missing; `last_layer`, `n_layers` and `depth` follow from the layers. Raises ValueError for an unknown
    column or anything that `validate` refuses.
    """
    frame = pd.DataFrame(rows) if isinstance(rows, (pd.DataFrame, Mapping)) else pd.DataFrame(list(rows))
    frame = frame.reset_index(drop=True)
    for name, value in {"experiment": experiment, "n_layers": n_layers, **constants}.items():
        frame[name] = frame[name].fillna(value) if name in frame and value is not None else value
    known = schemas.columns(experiment)
    unknown = [name for name in frame if name not in known]
    if unknown:
        raise ValueError(f"{experiment}: unknown columns {unknown}: the table has {list(known)}")
    frame = frame.reindex(columns=list(known))
    layer, span = (pd.to_numeric(frame[name]) for name in ("layer", "span"))
    frame["last_layer"] = layer + span.fillna(1) // 2
    frame["depth"] = np.nan if n_layers is None else (layer + 1) / n_layers
    return validate(pd.DataFrame({name: _typed(frame[name], kind) for name, kind in known.items()}), experiment)


def validate(frame: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The table unchanged, if it follows the schema of its experiment.

    Raises ValueError otherwise: what is wrong, in how many rows, and the first of them.
    """
    try:
        schemas.schema(experiment).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        first = cases.iloc[0]
        if first["check"] == "column_in_dataframe":
            raise ValueError(f"{experiment}: no column {first['failure_case']!r}: build the table with tidy") from None
        same = cases[(cases["check"] == first["check"]) & (cases["column"] == first["column"])]
        what = first["column"] if first["schema_context"] == "Column" else "the table"
        row = "" if pd.isna(first["index"]) else f", first in row {first['index']} {_shown(frame, first['index'])}"
        raise ValueError(
            f"{experiment}: {what} breaks the rule {first['check']} in {same['index'].nunique()} of "
            f"{len(frame)} rows{row}; see tables/schemas.py"
        ) from None  # pandera's own report lists every row
    return frame


def write(frame: pd.DataFrame, path: str | Path, provenance: Mapping[str, Any]) -> Path:
    """The path, after the validated table was stored there as parquet, provenance and digest in its metadata.

    Written under a temporary name in the same folder and renamed, so a failure leaves an old file intact. Raises
    ValueError for a table that breaks the schema, and for provenance that is empty, not JSON, or holds a local path.
    """
    path = Path(path)
    if not provenance:
        raise ValueError("the provenance is empty: build it with tables.provenance.collect_provenance")
    if local := local_paths(provenance):
        raise ValueError(f"the provenance holds local paths {local}: give file names or identifiers only")
    try:
        text = json.dumps(dict(provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the provenance is not plain JSON ({error}): use text, finite numbers, lists") from error
    bare = validate(frame, experiment_of(frame)).reset_index(drop=True)
    bare.attrs = {}
    table = pa.Table.from_pandas(bare, preserve_index=False)
    own = {PROVENANCE: text.encode(), DIGEST: digest(bare).encode(), ABOUT: _sha256(text.encode())}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")
    return path


class Provenance(dict[str, Any]):
    """What a table was made from. All that is taken out of the table has this one: pandas would copy it every time."""

    def __deepcopy__(self, memo: object) -> Provenance:
        return self


def read(path: str | Path) -> pd.DataFrame:
    """The validated table stored at the path, its provenance in `.attrs["provenance"]`.

    Raises FileNotFoundError when nothing is stored there, ValueError for a file that has no provenance, breaks the
    schema, or whose rows are not those that were written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}: run the experiment first (emolib run)")
    kept, about = _read(path, *content_of(path))
    frame = kept.copy()
    frame.attrs["provenance"] = Provenance(json.loads(about))
    return frame


def content_of(path: Path) -> tuple[int, ...]:
    """What changes with what a file holds."""
    now = path.stat()
    return now.st_dev, now.st_ino, now.st_mtime_ns, now.st_size


@lru_cache(maxsize=256)  # a chapter asks for a table several times, and to check one takes longer than to copy it
def _read(path: Path, *content: int) -> tuple[pd.DataFrame, bytes]:
    """The table of a file, and its provenance; `content` is its `content_of`."""
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        about = metadata.get(PROVENANCE, b"null")
        json.loads(about)
        frame = table.to_pandas()
    except Exception as error:  # of a damaged file libraries raise what they like
        raise ValueError(f"{path} is damaged ({error}): delete it and run the experiment again") from error
    if PROVENANCE not in metadata or DIGEST not in metadata:
        raise ValueError(f"{path} has no provenance or no digest: it was not written by this library, run it again")
    if digest(frame).encode() != metadata[DIGEST]:
        raise ValueError(f"{path} was altered: its rows are not those that were written; run the experiment again")
    if metadata.get(ABOUT, _sha256(metadata[PROVENANCE])) != _sha256(metadata[PROVENANCE]):  # earlier ones have none
        raise ValueError(f"{path} was altered: its provenance is not what was written; run the experiment again")
    try:
        frame = validate(frame, experiment_of(frame))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return frame, about


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def readable(path: str | Path) -> pd.DataFrame | None:
    """The table at the path as by `read`, None after saying on stderr why it cannot be: others are still shown."""
    try:
        return read(path)
    except ValueError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None


def experiment_of(frame: pd.DataFrame) -> str:
    """The one experiment whose table this is. Raises ValueError when there are none or several."""
    names = frame["experiment"].unique().tolist() if "experiment" in frame else []
    if len(names) != 1:
        raise ValueError(f"the table is of the experiments {names}: expected one; build it with tables.results.tidy")
    return str(names[0])


def digest(frame: pd.DataFrame) -> str:
    """The sha256 of names, types and values of a table, row by row, hexadecimal.

    Texts are texts, whatever a version of pandas calls their type.
    """
    kinds = {name: "str" if str(kind) == "object" else str(kind) for name, kind in frame.dtypes.items()}
    head = json.dumps([*kinds.items()])
    rows = pd.util.hash_pandas_object(frame, index=False, categorize=False).to_numpy()
    return hashlib.sha256(head.encode() + rows.tobytes()).hexdigest()


def select(frame: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The rows in which every named column has the given value (or one of a list); None matches missing.

    Columns are narrowed in the order given, so a combination that never occurs is an error too. Raises ValueError for a
    column that does not exist, and `Absent` for a value that does not occur; the message lists those that do.
    """
    for name, wanted in keys.items():
        if name not in frame:
            raise ValueError(f"no column {name!r}: the table has {list(frame.columns)}")
        column = frame[name]
        listed = list(wanted) if isinstance(wanted, (list, tuple, set, range, np.ndarray, pd.Series)) else [wanted]
        hits = [column.isna() if value is None else (column == value).fillna(False) for value in listed]
        absent = [value for value, hit in zip(listed, hits, strict=True) if not hit.any()]
        if absent or not hits:
            raise Absent(f"{name}={absent or wanted!r} does not occur here: {name} is one of {_occurring(column)}")
        frame = frame[np.logical_or.reduce([hit.to_numpy(dtype=bool) for hit in hits])]
    return frame.reset_index(drop=True)


def at_last_layer(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, those of the residual stream filed at the last layer of their window.

    An overwritten stream replaces all that came before, so that layer alone counts.
    """
    layer = frame["layer"].mask(frame["component"] == "resid_post", frame["last_layer"])
    return frame.assign(layer=layer, depth=(layer + 1).astype(float) / frame["n_layers"])


def at_layers(frame: pd.DataFrame, layers: Iterable[int], **columns: str) -> pd.DataFrame:
    """The rows at every one of the layers, with more columns: a level to be drawn as a curve."""
    return pd.concat([frame.assign(layer=layer, **columns) for layer in sorted(layers)])


def last_of_window(frame: pd.DataFrame, *by: str) -> pd.DataFrame:
    """A row for each window of several layers: `apart`, how far its value lies from that of its last layer alone.

    `by` are columns that tell curves apart. In the residual stream, and only there, it should be nothing.
    """
    single, wide = frame[frame["span"] == 1], frame[frame["span"] > 1]
    both = wide.merge(single, on=[*by, "last_layer"], suffixes=("", "_alone"))
    return both.assign(apart=(both["value"] - both["value_alone"]).abs())


def _occurring(column: pd.Series) -> str:
    values = sorted(column.dropna().unique().tolist())
    shown = [*map(repr, values[:40]), *(["None"] if column.isna().any() else [])]
    return "[" + ", ".join(shown) + (", ..." if len(values) > 40 else "") + "]"


def _typed(column: pd.Series, kind: schemas.Kind) -> pd.Series:
    wanted = schemas.dtype(kind)
    if wanted == "str":
        return column.astype(object).where(column.notna(), "").astype("str")
    try:
        numbers = pd.to_numeric(column).astype("float64")
        if wanted == "Int64" and (numbers % 1 > 0).any():
            raise ValueError("a count or index has a fraction")
        return numbers.astype(wanted)
    except (TypeError, ValueError, OverflowError) as error:  # the last, of an infinite count
        raise ValueError(
            f"column {column.name!r} does not convert to {wanted} ({error}): see tables/schemas.py"
        ) from error


def _shown(frame: pd.DataFrame, row: Any) -> dict[str, Any]:
    values = frame.loc[[row]].to_dict("records")[0]
    return {name: value for name, value in values.items() if not (pd.isna(value) or value == "")}

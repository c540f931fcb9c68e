"""Pack the table of the paper's measured values into the file that emolib ships, and unpack it byte for byte.

    python tools/build_paper_values.py paper_values.csv [emolib/data/paper_values.parquet]

The csv holds numbers read from the paper's figures and from the authors' stored outputs, no text or code of theirs.
Layers stay 1-based in both files; `emolib.tables.paper.load_values` converts them once, on loading.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

TARGET = Path(__file__).resolve().parents[1] / "emolib" / "data" / "paper_values.parquet"
TEXT = ("figure", "experiment", "model", "prompt", "component", "position", "condition", "label", "metric", "how")
COUNTS = ("layer", "last_layer", "n_layers", "span", "n", "seed")
ORDER = (
    "figure",
    "experiment",
    "model",
    "prompt",
    "component",
    "layer",
    "last_layer",
    "n_layers",
    "span",
    "position",
    "n",
    "coefficient",
    "seed",
    "condition",
    "label",
    "metric",
    "value",
    "tolerance",
    "how",
)


def read_csv(path: Path) -> pd.DataFrame:
    """Return the csv as a table: text without gaps, counts as nullable integers, the rest as floats."""
    frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str) | dict.fromkeys(COUNTS, "Int32"))
    if tuple(frame.columns) != ORDER:
        raise ValueError(f"{path.name} has columns {list(frame.columns)}, expected {list(ORDER)}")
    return frame.fillna(dict.fromkeys(TEXT, ""))


def csv_text(frame: pd.DataFrame) -> str:
    """Return the table as the csv it was read from, to the byte."""
    columns = [[_cell(value) for value in frame[name].astype(object)] for name in ORDER]
    return "\n".join([",".join(ORDER), *map(",".join, zip(*columns, strict=True))]) + "\n"


def pack(source: Path, target: Path = TARGET) -> str:
    """Return the sha256 of the source after writing it to `target` as parquet and reading it back unchanged."""
    raw = source.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    frame = read_csv(source)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"sha256_of_csv": digest.encode()})
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target, compression="zstd", compression_level=19, use_dictionary=True)
    if csv_text(pq.read_table(target).to_pandas()).encode() != raw:
        raise ValueError(f"{target.name} does not give {source.name} back: its numbers are written in another form")
    return digest


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


if __name__ == "__main__":
    print(pack(*map(Path, sys.argv[1:])))

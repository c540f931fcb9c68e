"""Bytes of a csv, tsv, JSON lines or parquet file to a table of strings, exactly or not at all, and what was decided.

Delimiters, a first line "sep=;", row names, blank rows and line breaks inside texts are plain and read as what they
are. Whatever would move, swallow or drop a text is refused with its row. Loads no model library.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emolib.texts.appraisals import EMOTIONS
from emolib.texts.encodings import CorpusError, decoded, row_at

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}  # where the header does not say another
SUFFIXES = (*DELIMITERS, ".jsonl", ".parquet")
# What is no table, by how it begins.
FOREIGN = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file: git lfs pull brings it",
    b"<!doctype html": "a web page, not a table: download the file itself",
    b"<html": "a web page, not a table: download the file itself",
    b"pk\x03\x04": "a workbook or another archive: save its sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old workbook: save its sheet as CSV UTF-8",
    b"\x1f\x8b": "compressed: unpack it",
    b"%pdf": "a PDF, not a table",
}
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that show nothing
QUOTES = (
    "put texts that contain a separator, a quote or a line break in double quotes, quotes inside them doubled (R: "
    'write.csv, or qmethod = "double")'
)
LABELS = {*EMOTIONS, "no-emotion"}
Row = tuple[int, list[str]]  # number, 1 for the first under the header, and cells


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file was read: its encoding with the evidence, rows in the file and rows kept, what else was decided."""

    encoding: str
    rows: int
    kept: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words: "utf-8, 26 of 29 rows, 3 empty rows left out"."""
        rows = f"{self.kept} rows" if self.kept == self.rows else f"{self.kept} of {self.rows} rows"
        return ", ".join([self.encoding, rows, *self.notes])


def read_table(
    content: bytes, suffix: str, label: str, *, stated: str | None = None, layout: str | None = None
) -> tuple[pd.DataFrame, Reading]:
    """All named columns as strings, "" where a cell is empty, names in lower case, rows by number; and how it was read.

    The index has the number of each row, 0 for the first under the header, empty rows counted but left out. `stated`
    and `layout` are encodings, as in `decoded`. Raises CorpusError for what cannot be read exactly.
    """
    head = content[:64].lstrip().lower()
    for start, what in FOREIGN.items():
        if head.startswith(start):
            raise CorpusError(f"{label} is {what}.")
    if suffix not in SUFFIXES:
        raise CorpusError(f"{label} has the suffix {suffix!r}; expected one of {', '.join(SUFFIXES)}.")
    if suffix == ".parquet":
        encoding, (header, rows, notes) = "parquet", _parquet(content, label)
    else:
        text, encoding = decoded(content, label, stated=stated, layout=layout)
        if "\0" in text:
            raise CorpusError(f"{label} has a NUL character in {row_at(text[: text.index(chr(0))])}: it is damaged.")
        parts = _json_lines(text, label) if suffix == ".jsonl" else _delimited(text, DELIMITERS[suffix], label)
        header, rows, notes = parts
    names = [plain(name) for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise CorpusError(f"{label} has the column {twice[0]} twice: leave one of them.")
    named = [place for place, name in enumerate(names) if name]
    if names and not names[0]:
        notes = [*notes, "row names left out"]
    kept = [(number, [cells[place] for place in named]) for number, cells in rows]
    kept = [(number, cells) for number, cells in kept if any(map(str.strip, cells))]
    if len(kept) < len(rows):
        notes = [f"{len(rows) - len(kept)} empty rows left out", *notes]
    table = pd.DataFrame([cells for _, cells in kept], columns=[names[place] for place in named], dtype=str)
    table.index = pd.Index([number - 1 for number, _ in kept], dtype=int)
    return table, Reading(encoding=encoding, rows=len(rows), kept=len(kept), notes=tuple(notes))


def plain(word: str) -> str:
    """A name or label without what is not seen: capitals, blanks around it, marks of no width, forms of one letter."""
    shown = "".join(char for char in unicodedata.normalize("NFKC", word) if unicodedata.category(char) != "Cf")
    return shown.strip().casefold()


def visible(text: str) -> bool:
    """Whether a text has a character that is seen: a letter that is no filler, a digit, a sign, a punctuation mark."""
    return any(unicodedata.category(char)[0] in "LNPS" and char not in FILLERS for char in text)


def _parquet(content: bytes, label: str) -> tuple[list[str], list[Row], list[str]]:
    """Header, rows and notes; the index that pandas stores beside the columns is no part of the table."""
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
        places = [n for n, name in enumerate(table.column_names) if not re.fullmatch(r"__index_level_\d+__", name)]
        columns = [[_cell(value) for value in table.column(place).to_pylist()] for place in places]
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise CorpusError(f"{label} is damaged or no parquet file: {error}") from error
    rows = [(number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), start=1)]
    notes = ["the index left out"] if len(places) < len(table.column_names) else []
    return [table.column_names[place] for place in places], rows, notes


def _json_lines(text: str, label: str) -> tuple[list[str], list[Row], list[str]]:
    """Header (all keys, by first appearance), rows and notes."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                record = json.loads(line, object_pairs_hook=once)
                json.dumps(record, ensure_ascii=False).encode()  # halves of a character are no text
            except ValueError as error:
                raise CorpusError(f"{label}: row {number} cannot be read: {error}.") from error
            if not isinstance(record, dict):
                raise CorpusError(f"{label}: row {number} is no object; expected {{...}}, one a line.")
            found.append((number, record))
    header = list(dict.fromkeys(key for _, record in found for key in record))
    return header, [(n, [_cell(record.get(key)) for key in header]) for n, record in found], []


def _cell(value: Any) -> str:
    """A value of a typed file as it would stand in a csv file; "" for lists and bytes, which no column of ours has."""
    return str(value) if isinstance(value, (str, int, float)) and value == value else ""


def _delimited(text: str, default: str, label: str) -> tuple[list[str], list[Row], list[str]]:
    """Header, rows and notes; the delimiter is the one of which the header has most."""
    said = re.match(r'\s*"?sep=(.)"?[^\r\n]*(?:\r\n|\r|\n)', text, re.IGNORECASE)
    body = (text[said.end() :] if said else text).lstrip("\r\n")
    ends = re.search(r"\r*\n|\r", body)
    if ends and ends[0] != "\r":  # a carriage return elsewhere is part of a text; no NUL is left to be mistaken for it
        body = re.sub(r"\r(?!\r*\n)", "\0", body)
    first = body[: ends.start()] if ends else body
    delimiter = said[1] if said else max(default, *",;\t|", key=first.count)
    if not first.strip():
        raise CorpusError(f"{label} is empty; expected a header with the columns emotion and text.")
    try:
        header, rows = _parsed(body, delimiter, label)
        notes = [] if delimiter == default else [f"separated by {delimiter!r}"]
    except CorpusError:
        if delimiter != "\t":
            raise
        header, rows = _parsed(body, delimiter, label, quoted=False)
        notes = ["quotes read as characters"]
    width = len(header)
    if {len(cells) for _, cells in rows} == {width + 1} and _numbers([cells[0] for _, cells in rows]):
        header, width = ["", *header], width + 1
    unnamed = [place for place, name in enumerate(header) if place and not name.strip()]
    for number, cells in rows:
        if len(cells) > width:
            raise CorpusError(f"{label}: row {number} has {len(cells)} cells and the header {width}; {QUOTES}.")
        cells.extend([""] * (width - len(cells)))
        if any(cells[place].strip() for place in unnamed):
            raise CorpusError(f"{label}: row {number} has a cell under no name; {QUOTES}.")
    if "\0" in body:
        rows = [(number, [cell.replace("\0", "\r") for cell in cells]) for number, cells in rows]
    return header, rows, notes


def _numbers(cells: Sequence[str]) -> bool:
    """Whether cells are the row numbers that R writes under no name: digits, each once."""
    return all(cell.isdigit() for cell in cells) and len(cells) == len(set(cells))


def _parsed(text: str, delimiter: str, label: str, *, quoted: bool = True) -> tuple[list[str], list[Row]]:
    """Header and rows. Raises CorpusError for quotes that do not pair, and for a text that has swallowed a row."""
    lines, quoting = io.StringIO(text, newline=""), csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)  # type: ignore[arg-type]
    header: list[str] = []
    rows: list[Row] = []
    begun = 0
    try:
        for cells in reader:
            if reader.line_num > begun + 1 and _swallowed(cells, header, delimiter):
                raise csv.Error("a text holds what reads as another row: a quote is not closed")
            if not quoted and cells and header and len(cells) != len(header):
                raise csv.Error(f"{len(cells)} cells and {len(header)} in the header")
            if cells and header:
                rows.append((len(rows) + 1, cells))
            header = header or cells
            begun = reader.line_num
    except csv.Error as error:
        where = f"row {len(rows) + 1} (line {begun + 1})" if header else "the header"
        raise CorpusError(f"{label} cannot be read as a table: {where}: {error}; {QUOTES}.") from error
    return header, rows


def _swallowed(cells: Sequence[str], header: Sequence[str], delimiter: str) -> bool:
    """Whether a line inside a cell is itself a row, with an emotion where the header has it."""
    names = [plain(name) for name in header]
    place = names.index("emotion") if "emotion" in names else len(names)
    for column, cell in enumerate(cells):
        lines = re.split(r"\r\n|\r|\n", cell)
        for number, line in enumerate(lines if len(lines) > 1 else ()):
            parts = dict(enumerate(line.split(delimiter), start=0 if number else column))
            if len(parts) > 1 and (number or place > column) and plain(parts.get(place, "").strip('"')) in LABELS:
                return True
    return False

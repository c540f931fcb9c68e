"""The events table: its columns, the two file layouts it is read from, and everything that can be wrong with it.

Rows are numbered in messages as in the file, 1 for the first row under the header. Loads no model library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from emolib.engine.choices import nearest
from emolib.texts.appraisals import APPRAISALS, EMOTIONS

TextColumn = Literal["masked", "original"]
CROWD_TEXT: dict[str, str] = {"masked": "hidden_emo_text", "original": "generated_text"}
CROWD_LABELS = {"no-emotion": "neutral"}
SHOWN = 5


def normalised(text: str) -> str:
    """The text in lower case without punctuation, words one blank apart; "" when it has no word."""
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())


def events_from(table: pd.DataFrame, text: TextColumn, label: str) -> pd.DataFrame:
    """The checked events (text_id, writer, emotion, text as strings, the appraisals as int8 if any) in file order.

    `table` holds strings in the general layout or in that of crowd-enVENT, whose column for `text` is taken; `label`
    names the file in messages. Raises ValueError for a missing column, an unknown emotion, an empty text, a repeated
    text_id, or a rating that is not an integer from 1 to 5.
    """
    table = _general_layout(table, text)
    require_columns(table, ("emotion", "text"), label)
    if table.empty:
        raise ValueError(f"{label} has a header but no rows; expected one row an event.")
    numbers = [str(number) for number in range(1, len(table) + 1)]
    events = pd.DataFrame(
        {
            "text_id": table.get("text_id", pd.Series(numbers)),
            "writer": table.get("writer", pd.Series(numbers)),
            "emotion": table["emotion"].replace(CROWD_LABELS),
            "text": table["text"],
        }
    )
    check_emotions(events["emotion"], label)
    _refuse(events["text"].str.strip() == "", events["text"], f"{label}: empty text", "every event needs a text")
    _refuse(events["text_id"].str.strip() == "", events["text_id"], f"{label}: empty text_id", "fill it in every row")
    _refuse(events["writer"].str.strip() == "", events["writer"], f"{label}: empty writer", "fill it in every row")
    repeated = events["text_id"].duplicated(keep=False)
    _refuse(repeated, events["text_id"], f"{label}: text_id used more than once", "give each event its own")
    present = [column for column in APPRAISALS if column in table.columns]
    if not present:
        return events
    require_columns(table, APPRAISALS, label, "ratings are optional, but all 21 or none")
    return events.join(ratings_from(table, label))


def pseudonyms(ids: pd.Series, letter: str) -> pd.Series:
    """Short names (`letter` and a number by first appearance) in place of ids that belong to persons."""
    return pd.Series([f"{letter}{code}" for code in pd.factorize(ids)[0]], index=ids.index, dtype=str)


def ratings_from(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """The 21 appraisal columns as int8. Raises ValueError naming column, row and value of what is not 1..5."""
    ratings = {}
    for column in APPRAISALS:
        numbers = pd.to_numeric(table[column], errors="coerce")
        what = f"{label}: {column} outside 1..5 or not an integer"
        _refuse(~numbers.isin([1, 2, 3, 4, 5]), table[column], what, "ratings are 1 (not at all) to 5 (extremely)")
        ratings[column] = numbers.astype(np.int8)
    return pd.DataFrame(ratings)


def require_columns(table: pd.DataFrame, wanted: Iterable[str], label: str, rule: str = "") -> None:
    """Nothing; raises ValueError naming the missing columns, the present ones and near misses."""
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise ValueError(
            f"{label} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
            f"{f' ({rule})' if rule else ''}; it has {', '.join(map(str, table.columns))}."
            f"{_suggestions(missing, [str(column) for column in table.columns])}"
        )


def check_emotions(emotions: pd.Series, label: str) -> None:
    """Nothing; raises ValueError with rows, values and the nearest known emotion when a label is unknown."""
    unknown = ~emotions.isin(EMOTIONS)
    hint = _suggestions(emotions[unknown].unique(), EMOTIONS)
    _refuse(unknown, emotions, f"{label}: unknown emotion", f"expected one of {', '.join(EMOTIONS)}.{hint}")


def content_digest(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """The sha256 of what the columns say, row by row: the same for two files that differ only in encoding or quoting.

    Letters and digits count; case, punctuation and everything outside ASCII (which an encoding may spell differently)
    do not.
    """
    ascii_only = table[list(columns)].map(lambda cell: normalised(cell.encode("ascii", "ignore").decode()))
    lines = ascii_only.agg("\t".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _general_layout(table: pd.DataFrame, text: TextColumn) -> pd.DataFrame:
    if not set(CROWD_TEXT.values()) <= set(table.columns):
        return table
    general = table.assign(text=table[CROWD_TEXT[text]])
    if "prolific_id" in table.columns:
        general["writer"] = pseudonyms(table["prolific_id"], "w")
    return general


def _refuse(wrong: pd.Series, values: pd.Series, what: str, expected: str) -> None:
    if not wrong.any():
        return
    rows = np.flatnonzero(wrong.to_numpy())
    shown = ", ".join(f"row {row + 1}: {values.iloc[row]!r}" for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    raise ValueError(f"{what} ({shown}{more}); {expected.rstrip('.')}.")


def _suggestions(unknown: Iterable[str], known: Sequence[str]) -> str:
    pairs = ((word, nearest(word, known)) for word in unknown)
    hints = [f"{word!r} may be {match!r}" for word, match in pairs if match]
    return f" {'; '.join(hints[:SHOWN])}." if hints else ""

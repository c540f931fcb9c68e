"""The events a model reads: one checked table with text, writer, emotion and the 21 appraisal ratings.

Sources: crowd-enVENT (the paper's corpus, fetched and never redistributed), two corpora embedded and authored for this
project (`situations`; `keyword-free`, the same scenes under every label, no word of an emotion lexicon), or anybody's
csv, tsv, JSON lines or parquet file. Everything that can be wrong with a corpus is found here or in `reading`, before a
model is loaded; messages number rows as in the file, 1 for the first under the header. Traps of the files and their
counts are described in `load_corpus`. Loads no model library.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emolib.engine.choices import check_choice, did_you_mean, nearest
from emolib.texts import sources
from emolib.texts.appraisals import APPRAISALS, EMOTIONS
from emolib.texts.encodings import CorpusError
from emolib.texts.prompts import Prompt
from emolib.texts.reading import SUFFIXES, Reading, plain, read_table, visible
from emolib.texts.sources import Found, Part

TextColumn = Literal["masked", "original"]
CROWD_TEXT: dict[str, str] = {"masked": "hidden_emo_text", "original": "generated_text"}
CROWD_LABELS = {"no-emotion": "neutral"}
CONTENT_COLUMNS: dict[Part, tuple[str, ...]] = {
    "texts": ("text_id", "emotion", "generated_text", "hidden_emo_text", *APPRAISALS),
    "readings": ("text_id", "annotator_emotion", *APPRAISALS),
}
SHOWN = 5


def _filled(name: str, expected: str) -> pa.Check:
    return pa.Check(lambda column: column.str.strip() != "", error=f"empty {name}; {expected}")


def _rating(name: str) -> pa.Check:
    wrong, scale = f"{name} outside 1..5 or not an integer", "ratings are 1 (not at all) to 5 (extremely)"
    return pa.Check(lambda column: pd.to_numeric(column, errors="coerce").isin(range(1, 6)), error=f"{wrong}; {scale}")


# What a column of strings must say: "what is wrong; what was expected".
RULES = {
    "emotion": [pa.Check.isin(EMOTIONS, error=f"unknown emotion; expected one of {', '.join(EMOTIONS)}")],
    "text": [
        _filled("text", "every event needs a text"),
        pa.Check(lambda texts: texts.map(visible), error="no visible text; every event needs a text"),
        pa.Check(lambda texts: texts.str.strip() != "NA", error="a missing text, as R writes it; leave the row out"),
    ],
    "text_id": [
        _filled("text_id", "fill it in every row"),
        pa.Check(lambda ids: ~ids.duplicated(keep=False), error="text_id used more than once; give each event its own"),
    ],
    "writer": [_filled("writer", "fill it in every row")],
    **{name: [_rating(name)] for name in APPRAISALS},
}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A checked corpus.

    `events` has the columns text_id, writer, emotion, text (strings) and, unless the file has none, the 21 appraisals
    (int8, 1 not at all .. 5 extremely), in file order with a plain 0-based index. `sha256` is that of the bytes read;
    `note` is the sentence on authorship and licence for captions, `reading` how the file was read.
    """

    name: str
    events: pd.DataFrame
    sha256: str
    note: str
    reading: Reading | None = None

    @property
    def rated(self) -> bool:
        """Whether the events carry the 21 appraisal ratings."""
        return set(APPRAISALS) <= set(self.events.columns)

    @property
    def ratings(self) -> pd.DataFrame:
        """The 21 appraisal ratings, one row an event. Raises ValueError when the corpus has none."""
        if not self.rated:
            raise ValueError(
                f"the corpus {self.name} has no appraisal ratings, which this experiment needs: add the 21 columns "
                f"{', '.join(APPRAISALS)} (integers 1..5), or leave the experiment out."
            )
        return self.events[list(APPRAISALS)]


def load_corpus(
    name: str, *, path: str | os.PathLike[str] | None = None, text: TextColumn = "masked", encoding: str | None = None
) -> Corpus:
    """The checked corpus called `name`: "crowd-envent", "situations", "keyword-free", or the path of a table.

    crowd-envent is looked for at `path`, then at $EMOLIB_CROWD_ENVENT (each a file, a zip archive or a folder), then
    downloaded and checked. `text` chooses between the column with emotion words masked by "..." (as in the paper) and
    the original. `encoding` is that of a file that is not UTF-8 (default: as its name says, mine.cp1250.csv, or what
    alone makes words of it); cp1252 is what crowd-enVENT is written in, "latin-1" repeats the paper's code, which
    leaves control characters in 183 texts. "no-emotion" becomes "neutral"; workers' ids become w0, w1, ….

    A file of one's own is a .csv, .tsv, .txt, .jsonl or .parquet file and needs the columns emotion and text; text_id
    (default: the row's number), writer (default: each text has its own) and the 21 appraisals (all or none) are
    optional, and `text` has no effect on it. A file in the layout of crowd-enVENT is understood too. Capitals and
    blanks around names and labels do not count. Raises FileNotFoundError or ValueError, saying what is wrong and where.
    """
    check_choice("text", text, TextColumn)
    known, found = sources.registry().get(name), corpus_file(name, path)
    table, reading = _table(found, encoding or (known or {}).get("encoding"))
    if name == "crowd-envent":
        _compare_content(found, table, "texts")
    events = events_from(table, text, found.label)
    written = int((table["emotion"].replace(CROWD_LABELS).to_numpy() != events["emotion"].to_numpy()).sum())
    notes = (*reading.notes, f"capitals, blanks and marks left out of {written} labels") if written else reading.notes
    return Corpus(
        name=name if known else Path(name).stem,
        events=events,
        sha256=found.sha256,
        note=corpus_note(name),
        reading=replace(reading, notes=notes),
    )


def corpus_file(name: str, path: str | os.PathLike[str] | None = None) -> Found:
    """The bytes of the corpus called `name`, found as `load_corpus` does, unread; their sha256 is the corpus's.

    Raises what `load_corpus` raises for a name or a file that is not there.
    """
    if path is not None and name != "crowd-envent":
        raise ValueError(f'path= belongs to crowd-envent only; for a file of your own write load_corpus("{path}").')
    check_corpus_name(name)
    if name == "crowd-envent":
        return sources.find(name, "texts", path)
    known = sources.registry().get(name)
    return sources.read_bytes(sources.DATA / known["file"] if known else Path(name).expanduser())


def _table(found: Found, encoding: str | None) -> tuple[pd.DataFrame, Reading]:
    """The table of a file, and how it was read; one with the columns of crowd-enVENT is taken to be so encoded."""
    like = all(column.encode() in found.content for column in CROWD_TEXT.values())
    layout = sources.registry()["crowd-envent"].get("encoding") if like else None
    return read_table(found.content, found.suffix, found.label, stated=encoding, layout=layout)


def corpus_note(name: str) -> str:
    """The sentence on authorship and licence of a corpus, for captions; the texts need not be here."""
    return sources.registry().get(name, {}).get("note", f"Texts: {Path(name).stem}, supplied by the user.")


def check_corpus_name(name: str) -> None:
    """Nothing when `name` can be a corpus: a known one or a table's path; else raises ValueError with the nearest."""
    if name in sources.registry() or Path(name).suffix.lower() in SUFFIXES:
        return
    known = tuple(sources.registry())
    raise CorpusError(
        f"there is no corpus called {name!r}{did_you_mean(name, known)}; known are "
        f"{', '.join(known)}, or give the path of a table ({', '.join(SUFFIXES)}) with the columns emotion and text."
    )


def load_readings(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """The readers' guesses of crowd-enVENT: reader, text_id, emotion (the reader's), the 21 appraisals (int8, 1..5).

    6,000 rows, five for each of 1,200 texts; `emotion` is the guess, not the writer's label. Looked for like the
    texts. Raises FileNotFoundError or ValueError.
    """
    found = sources.find("crowd-envent", "readings", path)
    table, _ = _table(found, sources.registry()["crowd-envent"].get("encoding"))
    _require_columns(table, ("prolific_id", *CONTENT_COLUMNS["readings"]), found.label)
    _compare_content(found, table, "readings")
    table = table.assign(
        reader=_pseudonyms(table["prolific_id"], "r"), emotion=table["annotator_emotion"].replace(CROWD_LABELS)
    )
    return _checked(table[["reader", "text_id", "emotion", *APPRAISALS]], ("emotion", *APPRAISALS), found.label)


def events_from(table: pd.DataFrame, text: TextColumn, label: str) -> pd.DataFrame:
    """The checked events (text_id, writer, emotion, text as strings, the appraisals as int8 if any) in file order.

    `table` holds strings in the general layout or in that of crowd-enVENT, whose column for `text` is taken, its index
    the numbers of the rows in the file, which `label` names in messages. Raises CorpusError for a missing column, an
    unknown emotion, a text in which nothing is seen, a repeated text_id, or a rating that is not a whole number from 1
    to 5.
    """
    if set(CROWD_TEXT.values()) <= set(table.columns):
        table = table.assign(text=table[CROWD_TEXT[text]])
        if "prolific_id" in table.columns:
            table["writer"] = _pseudonyms(table["prolific_id"], "w")
    _require_columns(table, ("emotion", "text"), label)
    if table.empty:
        raise CorpusError(f"{label} has a header but no rows; expected one row an event.")
    rated = APPRAISALS if set(APPRAISALS) & set(table.columns) else ()
    _require_columns(table, rated, label, "ratings are optional, but all 21 or none")
    numbers = pd.Series([str(number) for number in range(1, len(table) + 1)], index=table.index)
    own = {name: table.get(name, numbers).str.strip() for name in ("text_id", "writer")}
    whole = {name: table[name].str.replace(",", ".") for name in rated}  # 2,0 where a comma is the decimal point
    labels = table["emotion"].map(plain).replace(CROWD_LABELS)
    table = table.assign(**own, **whole, emotion=labels.where(labels.isin(EMOTIONS), table["emotion"]))
    return _checked(table[["text_id", "writer", "emotion", "text", *rated]], RULES, label).reset_index(drop=True)


def _checked(table: pd.DataFrame, names: Iterable[str], label: str) -> pd.DataFrame:
    """The table with its ratings as int8; raises CorpusError with rows and values of the first of `RULES` it breaks."""
    schema = pa.DataFrameSchema({name: pa.Column(checks=RULES[name]) for name in names if name in table})
    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        rule = next(str(check.error) for name in RULES for check in RULES[name] if check.error in set(cases["check"]))
        broken = cases[cases["check"] == rule].sort_values("index")
        what, expected = rule.split("; ")
        pairs = zip(broken["index"], broken["failure_case"], strict=True)
        shown = [f"row {row + 1}: {value!r}" for row, value in pairs][:SHOWN]
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        hint = _suggestions(broken["failure_case"].unique(), EMOTIONS if what == "unknown emotion" else ())
        if what == "unknown emotion" and broken["failure_case"].str.fullmatch(r"[\d.]+").all():
            hint = " Numbers are no labels: write into each row the word that its number stands for."
        raise CorpusError(f"{label}: {what} ({', '.join(shown)}{more}); {expected}.{hint}") from None
    return table.assign(**{name: pd.to_numeric(table[name]).astype(np.int8) for name in APPRAISALS if name in table})


def _require_columns(table: pd.DataFrame, wanted: Iterable[str], label: str, rule: str = "") -> None:
    """Nothing; raises ValueError naming the missing columns, the present ones and near misses."""
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise CorpusError(
            f"{label} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
            f"{f' ({rule})' if rule else ''}; it has {', '.join(map(str, table.columns))}."
            f"{_suggestions(missing, [str(column) for column in table.columns])}"
        )


def _suggestions(unknown: Iterable[str], known: Sequence[str]) -> str:
    shown = {word: repr(word) if word.isascii() else f"{word!r} ({word!a})" for word in unknown}
    hints = [f"{shown[word]} may be {near!r}" for word in shown if (near := nearest(word, known))]
    return f" {'; '.join(hints[:SHOWN])}." if hints else ""


def _pseudonyms(ids: pd.Series, letter: str) -> list[str]:
    """Short names (`letter` and a number by first appearance) in place of ids that belong to persons."""
    return [f"{letter}{code}" for code in pd.factorize(ids)[0]]


def writer_groups(events: pd.DataFrame) -> np.ndarray:
    """One group number (0..k-1, by first appearance) for each event, for splits that leak neither writer nor text.

    Events share a group when a chain of shared writers or of texts equal but for case and punctuation joins them
    (connected components of the graph between events, writers and texts).
    """
    words = events["text"].map(normalised)
    texts = words.where(words != "", events["text"])
    n = len(events)
    nodes = np.concatenate([pd.factorize(events["writer"])[0] + n, pd.factorize(texts)[0] + 2 * n])
    graph = coo_array((np.ones(2 * n, dtype=bool), (np.tile(np.arange(n), 2), nodes)), shape=(3 * n, 3 * n))
    _, component = connected_components(graph, directed=False)
    return pd.factorize(component[:n])[0]


def subset(corpus: Corpus, n: int, seed: int) -> Corpus:
    """The corpus reduced to at most `n` events, drawn at random in proportion to its emotions, in file order.

    Raises ValueError when `n` is smaller than the number of emotions present.
    """
    counts = corpus.events["emotion"].value_counts().sort_index()
    if n < len(counts):
        raise ValueError(f"n={n} is too small for {len(counts)} emotions; ask for at least one event of each.")
    if n >= len(corpus.events):
        return corpus
    share = counts * n / counts.sum()
    quota = counts * 0 + 1
    for _ in range(n - len(counts)):
        quota[(share - quota).idxmax()] += 1
    rank = pd.Series(np.random.default_rng(seed).permutation(len(corpus.events)), index=corpus.events.index)
    chosen = rank.groupby(corpus.events["emotion"]).rank() <= corpus.events["emotion"].map(quota)
    return replace(corpus, events=corpus.events[chosen].reset_index(drop=True))


def demonstration_rows(events: pd.DataFrame, prompt: Prompt) -> list[str]:
    """The text_ids of events that are (nearly) a demonstration of the prompt with the same label, in file order.

    Nearly: equal but for case, punctuation and one leading word ("When …", "I …") of either. Twelve of the paper's
    demonstrations are corpus texts and would be evaluated on themselves with the answer in view.
    """
    shown = {(label, *normalised(text).split()) for text, label in prompt.demonstrations}
    without_first = {(label, *words[1:]) for label, *words in shown}
    rows = []
    for text_id, label, text in events[["text_id", "emotion", "text"]].itertuples(index=False):
        words = normalised(text).split()
        if (label, *words) in shown | without_first or (label, *words[1:]) in shown:
            rows.append(text_id)
    return rows


def normalised(text: str) -> str:
    """The text in lower case without punctuation, words one blank apart; "" when it has no word."""
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())


def content_digest(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """The sha256 of what the columns say, row by row: the same for two files that differ only in encoding or quoting.

    Letters and digits count; case, punctuation and everything outside ASCII (which an encoding may spell differently)
    do not.
    """
    ascii_only = table[list(columns)].map(lambda cell: normalised(cell.encode("ascii", "ignore").decode()))
    lines = ascii_only.agg("\t".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _compare_content(found: Found, table: pd.DataFrame, part: Part) -> None:
    if found.checked:
        return
    wanted = sources.source("crowd-envent", part)
    _require_columns(table, CONTENT_COLUMNS[part], found.label)
    if content_digest(table, CONTENT_COLUMNS[part]) != wanted.content_sha256:
        warnings.warn(
            f"{found.label} does not say the same as {wanted.file}, from which this project's numbers come: "
            f"{len(table)} rows, some different or in another order. Results will differ and carry its own sha256.",
            stacklevel=3,
        )

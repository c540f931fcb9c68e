"""Layouts and faults of the events table: what is read from each layout, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from emolib.texts import sources
from emolib.texts.corpus import APPRAISALS, EMOTIONS, load_corpus

Save = Callable[..., Path]


def general_table() -> pd.DataFrame:
    return pd.DataFrame({"emotion": ["joy", "fear", "joy"], "text": ["One.", "Two, two!", "Three"]})


@pytest.mark.parametrize(
    ("name", "encoding"), [("a.csv", "cp1252"), ("a.tsv", "cp1252"), ("a.tsv", "utf-8"), ("a.csv", "utf-8-sig")]
)
def test_the_crowd_envent_layout_in_its_encodings(
    tmp_path: Path, name: str, encoding: str, save: Save, crowd_table: pd.DataFrame
) -> None:
    table = crowd_table
    path = save(table, tmp_path / name, encoding)
    corpus = load_corpus(str(path))
    events = corpus.events
    assert list(events.columns) == ["text_id", "writer", "emotion", "text", *APPRAISALS]
    assert events["text"].tolist() == table["hidden_emo_text"].tolist()
    assert load_corpus(str(path), text="original").events["text"].tolist() == table["generated_text"].tolist()
    assert events["emotion"].tolist() == [EMOTIONS[i % 13] for i in range(26)]
    assert events["writer"].tolist() == [f"w{i // 2}" for i in range(26)]
    assert (events[list(APPRAISALS)].to_numpy() == table[list(APPRAISALS)].astype(int).to_numpy()).all()
    assert set(events[list(APPRAISALS)].dtypes.astype(str)) == {"int8"}
    assert (corpus.name, corpus.sha256) == ("a", sources.read_bytes(path).sha256)


def test_latin_1_repeats_the_released_reading(tmp_path: Path, save: Save, crowd_table: pd.DataFrame) -> None:
    path = save(crowd_table, tmp_path / "a.csv", "cp1252")
    text = load_corpus(str(path), encoding="latin-1", text="original").events["text"][0]
    assert text == "It\x92s café \x930\x94, £0 \x85 so glad, NA"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_general_file_with_only_what_is_required(tmp_path: Path, suffix: str, save: Save) -> None:
    path = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        general_table().to_parquet(path)
    else:
        save(general_table(), path)
    corpus = load_corpus(str(path))
    assert corpus.events.to_dict("list") == {
        "text_id": ["1", "2", "3"],
        "writer": ["1", "2", "3"],
        "emotion": ["joy", "fear", "joy"],
        "text": ["One.", "Two, two!", "Three"],
    }
    assert not corpus.rated
    assert "supplied by the user" in corpus.note
    with pytest.raises(ValueError, match="mine has no appraisal ratings"):
        _ = corpus.ratings


def test_a_general_parquet_file_with_numbers(tmp_path: Path) -> None:
    table = general_table().assign(text_id=[7, 8, 9], writer=["a", "b", "a"], **dict.fromkeys(APPRAISALS, [1.0, 5, 3]))
    table.to_parquet(tmp_path / "mine.parquet")
    corpus = load_corpus(str(tmp_path / "mine.parquet"))
    assert corpus.events["text_id"].tolist() == ["7", "8", "9"]
    assert corpus.events["writer"].tolist() == ["a", "b", "a"]
    assert corpus.ratings["effort"].tolist() == [1, 5, 3]


def test_words_that_look_like_missing_values_stay_words(tmp_path: Path, save: Save) -> None:
    path = save(general_table().assign(text=["N/A", "null", "nan"]), tmp_path / "mine.csv")
    assert load_corpus(str(path)).events["text"].tolist() == ["N/A", "null", "nan"]


def rated(**changed: object) -> pd.DataFrame:
    return general_table().assign(**{**dict.fromkeys(APPRAISALS, "3"), **changed})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (general_table().drop(columns="text"), r"mine.csv lacks the column text; it has emotion\."),
        (general_table().rename(columns={"emotion": "emotions"}), r"it has emotions, text\. 'emotion' may be"),
        (
            general_table().assign(emotion=["joy", "feer", "xx"]),
            r"unknown emotion \(row 2: 'feer', row 3: 'xx'\); expected one of anger.*'feer' may be 'fear'\.",
        ),
        (general_table().assign(emotion=["joy", "Feer", "joy"]), r"row 2: 'Feer'.*'Feer' may be 'fear'"),
        (general_table().assign(text=["a", " ", ""]), r"empty text \(row 2: ' ', row 3: ''\)"),
        (general_table().assign(text_id=["a", "b", "a"]), r"more than once \(row 1: 'a', row 3: 'a'\)"),
        (general_table().assign(text_id=["a", "", "c"]), r"empty text_id \(row 2: ''\)"),
        (general_table().assign(writer=["a", "b", " "]), r"empty writer \(row 3: ''\)"),
        (general_table().head(0), "a header but no rows"),
        (rated(effort=["1", "6", "3"]), r"effort outside 1\.\.5 or not an integer \(row 2: '6'\)"),
        (rated(effort=["0", "2.5", ""]), r"row 1: '0', row 2: '2.5', row 3: ''"),
        (rated(effort=["1", "high", "3"]), r"row 2: 'high'"),
        (rated().drop(columns="effort"), r"lacks the column effort \(ratings are optional, but all 21 or none\)"),
    ],
)
def test_faults_are_named_with_rows_and_values(tmp_path: Path, table: pd.DataFrame, message: str, save: Save) -> None:
    path = save(table, tmp_path / "mine.csv")
    with pytest.raises(ValueError, match=message):
        load_corpus(str(path))


def test_many_faulty_rows_are_counted_not_listed(tmp_path: Path, save: Save) -> None:
    path = save(pd.DataFrame({"emotion": ["jo"] * 9, "text": ["a"] * 9}), tmp_path / "mine.csv")
    with pytest.raises(ValueError, match=r"row 5: 'jo' and 4 more\)"):
        load_corpus(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a header"),
        (b'emotion,text\njoy,"a', r"row 1 \(line 2\): unexpected end of data"),
        (b"emotion,text\njoy,Hello, world\nfear,a, b\n", r"in double quotes"),
        (b"emotion,text\nfear,a\njoy,Hello, world\n", r"row 2 has 3 cells and the header 2.*in double quotes"),
        (b"emotion,text\njoy,\x81\n", r"byte 0x81 at 17, row 1 \(line 2\)"),
        (b'text,emotion\n"He said,joy\nI left",fear\n', "row 1 .* a quote is not closed"),
        (b'emotion,text\njoy,"I left\nfear,I went"\n', "row 1 .* a quote is not closed"),
        (b"emotion,text,\njoy,Hello, world\n", "row 1 has a cell under no name"),
        (b"text,emotion\n3, 2, 1,joy\nHello, world,fear\n", "row 1 has 4 cells"),
        (b"PK\x03\x04", "is a workbook"),
        (b"emotion,text\nfear,a\njoy\n", r"empty text \(row 2: ''\)"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_corpus(str(path))


def test_unknown_names_and_misplaced_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no corpus called 'crowd-event' \(did you mean 'crowd-envent'\?\)"):
        load_corpus("crowd-event")
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.csv"):
        load_corpus(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ValueError, match=r'write load_corpus\("mine.csv"\)'):
        load_corpus("situations", path="mine.csv")
    with pytest.raises(ValueError, match="unknown text 'hidden': expected one of masked, original"):
        load_corpus("situations", text="hidden")  # type: ignore[arg-type]

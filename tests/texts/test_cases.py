"""Every file of `cases.yml` is read as what it is, or refused; tables in any dialect come back equal or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from emolib.texts import encodings, reading
from emolib.texts.corpus import APPRAISALS, EMOTIONS, load_corpus
from emolib.texts.encodings import CorpusError

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "cases.yml").read_text(encoding="utf-8"))
EXAMPLES = int(os.environ.get("EMOLIB_EXAMPLES", "100"))  # of each property; 2000 shows more
READ, REFUSED = ([case for case in CASES if key in case] for key in ("rows", "refused"))


def name_of(case: dict[str, Any]) -> str:
    return str(case["file"])


def independent(case: dict[str, Any]) -> pd.DataFrame:
    """What the file says to pandas, or to json, told what it is."""
    path = HERE / "cases" / case["file"]
    if path.suffix == ".jsonl":
        return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    if path.suffix == ".parquet":
        return pd.read_parquet(path).reset_index(drop=True)
    return pd.read_csv(path, dtype=str, keep_default_na=False, **case["pandas"])


def content(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Labels, texts and ratings, row by row."""
    rated = [table[name].astype(float).tolist() for name in APPRAISALS if name in table]
    return list(zip(table["emotion"], table["text"], *rated, strict=True))


def test_the_table_has_every_file() -> None:
    assert [case["file"] for case in CASES] == sorted(path.name for path in (HERE / "cases").iterdir())
    assert len(READ) + len(REFUSED) == len(CASES) == 69


@pytest.mark.parametrize("case", READ, ids=name_of)
def test_what_is_read_is_what_the_file_says(case: dict[str, Any]) -> None:
    corpus = load_corpus(str(HERE / "cases" / case["file"]))
    expected = independent(next((other for other in CASES if other["file"] == case.get("like")), case))
    assert content(corpus.events) == content(expected)
    assert len(corpus.events) == case["rows"] and corpus.events.index.tolist() == list(range(case["rows"]))
    numbers = [str(number) for number in range(1, case["rows"] + 1)]
    assert corpus.events["text_id"].tolist() == expected.get("text_id", pd.Series(numbers)).tolist()
    assert corpus.reading is not None and corpus.reading.kept == case["rows"]
    assert re.search(case.get("said", ""), str(corpus.reading))


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_what_is_refused_says_what_is_wrong_and_where(case: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=case["refused"]) as caught:
        load_corpus(str(HERE / "cases" / case["file"]))
    assert case["file"] in str(caught.value)


@pytest.mark.parametrize(
    ("file", "encoding"), [("koi8.csv", "koi8-r"), ("excel_cp1251.csv", "cp1251"), ("excel_mac_roman.csv", "mac-roman")]
)
def test_an_encoding_is_stated_in_the_name_or_by_the_caller(tmp_path: Path, file: str, encoding: str) -> None:
    path = HERE / "cases" / file
    named = tmp_path / f"{path.stem}.{encoding}.csv"
    named.write_bytes(path.read_bytes())
    expected = content(pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding))
    loaded = load_corpus(str(named)), load_corpus(str(path), encoding=encoding)
    for corpus, how in zip(loaded, ("as its name says", "stated"), strict=True):
        assert content(corpus.events) == expected
        assert str(corpus.reading).startswith(f"{encoding}, {how}")
    with pytest.raises(CorpusError, match="is not in the encoding gb18030|unknown emotion|cannot be read"):
        load_corpus(str(path), encoding="gb18030")
    with pytest.raises(CorpusError, match="is not in the encoding cp1520: unknown encoding"):
        load_corpus(str(path), encoding="cp1520")


# Tables in many dialects

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
MARKS = st.sampled_from([*'",;\t\n\r\\ #', '""', "\r\n", "sep=;", "NA", "é", "😀", "\u2028"])
TEXTS = st.lists(st.one_of(MARKS, WORDS), min_size=1, max_size=8).map("".join).filter(reading.visible)
ROWS = st.lists(st.tuples(st.sampled_from(EMOTIONS), TEXTS), min_size=1, max_size=6)
DIALECTS = dict(
    sep=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    lineterminator=st.sampled_from(["\n", "\r\n"]),
    index=st.booleans(),
)
CHANGES = [str, str.title, str.upper, " {} ".format, "{}\u200b".format]


def written_as(table: pd.DataFrame, suffix: str, encoding: str, dialect: dict[str, Any]) -> bytes:
    if suffix == ".jsonl":
        return table.to_json(orient="records", lines=True, force_ascii=bool(dialect["index"])).encode()
    if suffix == ".parquet":
        into = io.BytesIO()
        table.set_axis(list("cabfed")[: len(table)]).to_parquet(into, index=dialect["index"])
        return into.getvalue()
    said = f"sep={dialect['sep']}\n" if dialect["quoting"] == csv.QUOTE_ALL else ""
    return (said + table.to_csv(**dialect)).encode(encoding)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    rows=ROWS,
    order=st.permutations(["emotion", "text", "effort", "note"]),
    suffix=st.sampled_from(reading.SUFFIXES),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    dialect=st.fixed_dictionaries(DIALECTS),
    changed=st.sampled_from(CHANGES),
)
def test_a_table_in_any_dialect_comes_back_as_it_was(
    rows: list[tuple[str, str]], order: list[str], suffix: str, encoding: str, dialect: dict[str, Any], changed: Any
) -> None:
    table = pd.DataFrame(rows, columns=["emotion", "text"]).assign(**dict.fromkeys(APPRAISALS, "3"), note="")
    table = table[[*order, *(name for name in table if name not in order)]].rename(columns={"text": changed("text")})
    table["emotion"] = table["emotion"].map(changed)
    bytes_ = written_as(table, suffix, encoding, dialect)
    try:
        found, how = reading.read_table(bytes_, suffix, f"mine{suffix}")
    except CorpusError as error:  # of these texts only one with a line that reads as a row may be refused
        assert "reads as another row" in str(error)
        return
    assert list(zip(found["emotion"].map(reading.plain), found["text"], strict=True)) == rows
    assert how.kept == how.rows == len(rows) and (found["effort"] == "3").all()


LANGUAGES = {
    "cp1252 mac-roman latin-1": "für schön Straße grüßte Ärger mère été où ça garçon niño mañana ¿qué? così ação",
    "cp1250 iso8859-2 mac-latin2 cp852": "zdarzyło się poczułem źle łódź żółw když příliš žluťoučký kůň őrült tűz",
    "cp1251 koi8-r mac-cyrillic cp866 iso8859-5": "Когда случилось событие я стоял и ждал ещё Ёлка чего-то",
    "cp1253 iso8859-7 mac-greek": "Όταν συνέβη το γεγονός ήμουν στο σπίτι",
    "cp1254 iso8859-9": "çok üzüldüm ağladım şaşırdım İstanbul ışık",
    "gb18030 big5 shift-jis euc-jp": "我 昨天 大 人",
    "cp1252 cp1250 mac-roman": "it’s “so” good… café naïve £5 20°C m²",
}


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(LANGUAGES)))
def test_an_old_encoding_is_read_right_or_refused(data: st.DataObject, kind: str) -> None:
    encoding = data.draw(st.sampled_from(kind.split()))
    words = data.draw(st.lists(st.sampled_from([*LANGUAGES[kind].split(), "and", "McDonald"]), min_size=1, max_size=40))
    text = " ".join(words)
    try:
        bytes_ = text.encode(encoding)
    except UnicodeEncodeError:
        return
    try:
        found, how = encodings.decoded(bytes_, "mine.csv")
    except CorpusError as error:
        assert "byte 0x" in str(error)
        return
    assert found == text or how == "utf-8"  # "Ёлка" alone in cp866 is one rare Chinese letter in UTF-8


def test_what_leaves_no_doubt_is_read() -> None:
    german = " ".join(LANGUAGES["cp1252 mac-roman latin-1"].split()[:5])
    polish = " ".join(LANGUAGES["cp1250 iso8859-2 mac-latin2 cp852"].split()[:6])
    for text, encoding in ((german, "cp1252"), (polish, "cp1250")):
        assert encodings.decoded((text + " „tak” –").encode(encoding), "mine.csv")[0] == text + " „tak” –"


DAMAGE = [b"", b'"', b"\n", b"\0", b"\xe9", b",", b"{"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(reading.SUFFIXES))
def test_a_damaged_table_is_read_or_refused_by_us(data: st.DataObject, suffix: str) -> None:
    table = pd.DataFrame({"text_id": list("abc"), "emotion": ["joy"] * 3, "text": ['"Ä", she said\n', "b", "c;,\t"]})
    dialect = dict(sep=data.draw(DIALECTS["sep"]), quoting=csv.QUOTE_MINIMAL, lineterminator="\n", index=False)
    bytes_ = bytearray(written_as(table, suffix, "utf-8", dialect))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bytes_) - 1))
        bytes_[at : at + data.draw(st.integers(0, 4))] = data.draw(st.sampled_from(DAMAGE))
    try:
        found, how = reading.read_table(bytes(bytes_), suffix, f"mine{suffix}")
    except CorpusError:
        return
    assert len(found) == how.kept <= how.rows

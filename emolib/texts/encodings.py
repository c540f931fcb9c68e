"""Bytes to text, exactly or not at all: what the file says of its encoding, or what leaves no doubt.

A byte order mark says it, so does text that is strict UTF-8, and so may the file's name: mine.cp1250.csv. Without any
of these an old encoding is taken only where every encoding in use that makes words of the bytes makes the same words;
statistics of letters are not asked, since they take short Polish texts for French ones. Loads no model library.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
EAST_ASIAN = ("gb18030", "gbk", "big5", "shift-jis", "euc-jp", "euc-kr")
# Encodings that texts are still stored in: each may be stated, and each may spoil the evidence for another. Those of
# East Asia only do this: nearly all bytes make words in them.
IN_USE = (
    *(f"cp{number}" for number in (1252, 1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258, 437, 850, 852, 866, 874)),
    *("latin-1", "koi8-r", "koi8-u", "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek"),
    *(f"iso8859-{number}" for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
    *EAST_ASIAN,
)
FEWEST = 3  # different bytes outside ASCII that evidence needs: one "café" proves nothing
SHOWN = 8  # encodings that a message names
ODD = 0.25  # an encoding is out when more of the words are odd: texts with "20°C" are still texts
INSIDE = "'’‘‐‑–—·…、。「」『』！（），：；？"  # punctuation that may stand between letters


class CorpusError(ValueError):
    """A corpus that cannot be read exactly, with what is wrong with it, where, and what to do."""


def decoded(content: bytes, label: str, *, stated: str | None = None, layout: str | None = None) -> tuple[str, str]:
    """The text of `content`, and its encoding with the evidence for it, as in "cp1250, stated".

    A byte order mark counts before strict UTF-8, this before the encoding `stated`, or else in the name `label`.
    `layout` is the encoding of files that look like this one: taken where it makes words. Raises CorpusError naming
    the first byte that cannot be read, its row, and how to state an encoding.
    """
    mark = next((bom for bom in BOMS if content.startswith(bom)), b"")
    named = stated or _in_name(label)
    try:
        if mark:
            return content.decode(BOMS[mark]), f"{BOMS[mark].removesuffix('-sig')}, by its mark"
        return content.decode(), "utf-8"
    except UnicodeDecodeError as error:
        if mark:
            raise CorpusError(f"{label} begins as {BOMS[mark]} and is not: {_place(content, error)}.") from error
        bad = error
    if named:
        try:
            return content.decode(named), f"{named}, {'stated' if stated else 'as its name says'}"
        except (UnicodeDecodeError, LookupError) as error:
            at = _place(content, error) if isinstance(error, UnicodeDecodeError) else str(error)
            raise CorpusError(f"{label} is not in the encoding {named}: {at}.") from error
    found = {} if _mostly_utf8(content) else _plausible(content, (layout,) if layout else IN_USE)
    texts = set(found.values())
    if layout and texts:
        return texts.pop(), f"{layout}, as in files of this layout"
    if len(texts) == 1 and not set(found) & set(EAST_ASIAN) and len({b for b in content if b > 127}) >= FEWEST:
        return texts.pop(), f"{'='.join(found)}, which alone makes words"
    may = f"it may be {', '.join(list(found)[:SHOWN])}" if found else "most of it is, or no other fits"
    raise CorpusError(
        f"{label} is not UTF-8: {_place(content, bad)}; {may}. Save it as UTF-8 (in Excel: CSV UTF-8), or state "
        f"the encoding in its name, as in {Path(label).stem}.cp1250{Path(label).suffix}."
    )


def row_at(before: str) -> str:
    """Where a character stands, "row 3 (line 4)", from the text `before` it: line ends in quotes begin no row."""
    end = "\n" if "\n" in before else "\r"
    row = re.sub(r'"[^"]*"?', "", before).count(end)
    return f"{f'row {row}' if row else 'the header'} (line {before.count(end) + 1})"


def _place(content: bytes, error: UnicodeDecodeError) -> str:
    bad = " ".join(f"0x{byte:02x}" for byte in content[error.start : error.start + 1])
    return f"byte {bad} at {error.start}, {row_at(content[: error.start].decode('latin-1'))}"


def _in_name(label: str) -> str | None:
    """The encoding that a name such as mine.cp1250.csv states, None where it states none."""
    words = Path(label).name.lower().replace("_", "-").split(".")
    return words[-2] if len(words) > 2 and words[-2] in IN_USE else None


def _mostly_utf8(content: bytes) -> bool:
    """Whether bytes that are not UTF-8 are the exception: then no other encoding is right for all of them."""
    readable = content.decode("utf-8", "ignore")
    return len(content) - len(readable.encode()) < sum(not char.isascii() for char in readable)


def _plausible(content: bytes, encodings: Sequence[str]) -> dict[str, str]:
    """The text in each of the encodings under which it has words, but for some."""
    found = {}
    for name in encodings:
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        words = set(re.findall(r"(?:[a-zA-Z]|[^\x00-\x7f\s])+", text))
        words = {word for word in words if not (word.isascii() or all(unicodedata.category(c)[0] == "P" for c in word))}
        if sum(map(_odd, words)) <= ODD * len(words):
            found[name] = text
    return found


def _odd(word: str) -> bool:
    """Whether no language has such a word: controls, two scripts, capitals or signs amid letters."""
    kinds = [unicodedata.category(char) for char in word]
    scripts = {_script(char) for char, kind in zip(word, kinds, strict=True) if kind[0] in "LM"} - {"COMBINING"}
    if len(scripts) > 1 or {"Cc", "Cn", "Co"} & set(kinds):
        return True
    for left, char, a, b, c in zip(word, word[1:], kinds, kinds[1:], [*kinds[2:], " "], strict=False):
        if char.isascii() or not left.isalpha():
            continue
        sign = c[0] == "L" and (b[0] in "SN" or b[0] == "P" and char not in INSIDE)
        if sign or (a, b) == ("Ll", "Lu"):
            return True
    return False


def _script(letter: str) -> str:
    """The script of a letter or mark, as its name begins; those of one East Asian text are one."""
    name = re.split("[- ]", unicodedata.name(letter, ""))[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA", "HALFWIDTH", "HANGUL", "BOPOMOFO") else name

"""Files a corpus is read from: addresses and checksums, local copies, checked download.

crowd-enVENT states no licence, so it is fetched and never redistributed. The CSV files distributed with the paper's
code are the first source: their sha256 is known and enforced. The corpus authors' own archive is the second: no
trustworthy checksum of it is known, so what it says is compared instead of how it is stored (`emolib.texts.corpus`).
Loads no model library.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pooch
import requests
import yaml

from emolib.engine.registry import cache_folder

Part = Literal["texts", "readings"]
DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One published file: its name, address, sha256 of its bytes, name inside the archive, and the digest
    of what it says (`emolib.texts.corpus.content_digest`)."""

    file: str
    url: str
    sha256: str
    member: str
    content_sha256: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The bytes of a local file (or of a member of a zip archive), with the name to show in messages.

    `checked` is true when the bytes are those of a published file whose sha256 is known.
    """

    label: str
    suffix: str
    content: bytes
    checked: bool = False

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@cache
def packaged(name: str) -> Any:
    """What a file in `emolib/data` says: a YAML file what stands in it, any other its text; read once."""
    text = (DATA / name).read_text(encoding="utf-8")
    return yaml.safe_load(text) if name.endswith(".yml") else text


def registry() -> dict[str, dict[str, Any]]:
    """The registered corpora by name, as written in `data/corpora.yml`."""
    return packaged("corpora.yml")


def source(name: str, part: Part) -> Source:
    """The published file of one part of a registered corpus."""
    return Source(**registry()[name][part])


def fetch(wanted: Source) -> Path:
    """The path of a published file in the cache, downloaded once and checked against its sha256.

    A download that fails or does not match leaves nothing behind. Raises ConnectionError when the file cannot be
    downloaded, ValueError when its bytes are not the published ones.
    """
    folder = cache_folder()
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(wanted.url, f"sha256:{wanted.sha256}", fname=wanted.file, path=folder))
    except requests.RequestException as error:
        raise ConnectionError(
            f"{wanted.file} is not in {folder} and could not be downloaded from {wanted.url} ({error})."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"what {wanted.url} sent is not {wanted.file}: {error} Nothing was kept. Try again; if it happens again, "
            "the file behind the address has changed."
        ) from error


def find(name: str, part: Part, path: str | os.PathLike[str] | None = None) -> Found:
    """The bytes of one part of a registered corpus, from the first of: `path`, its environment variable, the cache.

    `path` and the variable may name the CSV file, the official TSV file, the official zip archive, or a folder that
    holds one of them; for the readings the variable may also name the texts' file beside them. The cache is filled by
    download. Raises FileNotFoundError (saying where it looked and how to get the corpus), ValueError for a CSV file
    that is not the published one.
    """
    variable, wanted = registry()[name]["environment"], source(name, part)
    if path:
        return _local(wanted, Path(path).expanduser(), how_to_get(name, part))
    if os.environ.get(variable):
        named = Path(os.environ[variable]).expanduser()
        beside = part == "readings" and named.suffix.lower() in (".csv", ".tsv")
        return _local(wanted, named.parent if beside else named, how_to_get(name, part))
    try:
        return _checked(wanted, fetch(wanted))
    except ConnectionError as error:
        raise FileNotFoundError(
            f"{name} was not found. Looked at: the path argument (not given), ${variable} (not set), "
            f"{cache_folder()}. {error} {how_to_get(name, part)}"
        ) from error


def how_to_get(name: str, part: Part = "texts") -> str:
    """One paragraph that says how to get the files of a registered corpus by hand."""
    entry, wanted = registry()[name], source(name, part)
    return (
        f"To get it by hand, download {wanted.url} (or {entry['archive']['url']}) and pass the file or its folder as "
        f"path=... or in ${entry['environment']}."
    )


def _local(wanted: Source, path: Path, advice: str) -> Found:
    names = (wanted.file, wanted.member, f"corpus/{wanted.member}")
    inside = [*(path / name for name in names), *sorted(path.glob("crowd-enV*.zip"))]
    candidates = inside if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            suffix = candidate.suffix.lower()
            readers = {".zip": _member, ".csv": _checked}
            return readers[suffix](wanted, candidate) if suffix in readers else read_bytes(candidate)
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(f"no {wanted.file}: looked for {looked}. {advice}")


def _checked(wanted: Source, path: Path) -> Found:
    found = read_bytes(path)
    if found.sha256 != wanted.sha256:
        raise ValueError(
            f"{path} is not the published {wanted.file}: its sha256 is {found.sha256}, expected {wanted.sha256}. "
            "Download it again (an editor or a transfer in text mode may have changed it). "
            f'If it was changed on purpose, load it as a corpus of its own: load_corpus("{path}").'
        )
    return replace(found, checked=True)


def _member(wanted: Source, archive: Path) -> Found:
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        for name in names:
            if Path(name).name.lower() == wanted.member.lower():
                return Found(label=f"{archive}:{name}", suffix=".tsv", content=opened.read(name))
    raise FileNotFoundError(f"{archive} holds no {wanted.member}; it holds {', '.join(names)}.")


def read_bytes(path: Path) -> Found:
    """The bytes of a local file. Raises FileNotFoundError when there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}.")
    return Found(label=str(path), suffix=path.suffix.lower(), content=path.read_bytes())

"""Where corpora come from: places, checksums, the official archive, and downloads from a real local server."""

from __future__ import annotations

import hashlib
import http.server
import socket
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

from emolib.texts import sources
from emolib.texts.corpus import APPRAISALS, EMOTIONS, content_digest, load_corpus, load_readings

Save = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("no_settings_of_the_user")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, save: Save, crowd_table: pd.DataFrame) -> Path:
    """A folder with small stand-ins for the two published files, registered with their true checksums."""
    folder = tmp_path / "published"
    folder.mkdir()
    entry = dict(sources.registry()["crowd-envent"])
    for part, column in (("texts", "emotion"), ("readings", "annotator_emotion")):
        file = save(crowd_table, folder / entry[part]["file"], "cp1252")
        texts = ["generated_text", "hidden_emo_text"] if part == "texts" else []
        digest = content_digest(crowd_table, ["text_id", column, *texts, *APPRAISALS])
        sha256 = sources.read_bytes(file).sha256
        entry[part] = {**entry[part], "sha256": sha256, "content_sha256": digest, "url": "http://127.0.0.1:9/none"}
    monkeypatch.setattr(sources, "registry", lambda: {"crowd-envent": entry, "situations": {"file": "situations.csv"}})
    return folder


@pytest.mark.parametrize("way", ["file argument", "folder argument", "file variable", "folder variable"])
def test_places_of_the_published_files(published: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    place = published / "enVent_gen_Data.csv" if way.startswith("file") else published
    if way.endswith("variable"):
        monkeypatch.setenv("EMOLIB_CROWD_ENVENT", str(place))
        corpus, readings = load_corpus("crowd-envent"), load_readings()
    else:
        corpus = load_corpus("crowd-envent", path=place)
        readings = load_readings(published / "enVent_val_Data.csv" if way.startswith("file") else place)
    assert corpus.events["text"][0] == "It’s café “0”, £0 … so ..., NA"
    assert corpus.name == "crowd-envent" and "no licence is stated" in corpus.note
    assert readings["emotion"].tolist() == [EMOTIONS[i % 13] for i in range(26)]
    assert list(readings.columns) == ["reader", "text_id", "emotion", *APPRAISALS]


def test_a_changed_published_file_is_refused_unless_it_is_a_corpus_of_its_own(published: Path) -> None:
    path = published / "enVent_gen_Data.csv"
    expected = sources.read_bytes(path).sha256
    path.write_bytes(path.read_bytes().replace(b"glad", b"mad "))
    got = sources.read_bytes(path).sha256
    with pytest.raises(ValueError, match=rf"its sha256 is {got}, expected {expected}.*Download it again"):
        load_corpus("crowd-envent", path=published)
    assert load_corpus(str(path)).sha256 == got


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("packed", ["zip", "folder", "tsv"])
def test_the_official_archive_is_compared_by_content(
    published: Path, tmp_path: Path, encoding: str, packed: str, save: Save, crowd_table: pd.DataFrame
) -> None:
    folder = tmp_path / "official" / "corpus"
    folder.mkdir(parents=True)
    tsv = save(crowd_table, folder / "crowd-enVent_generation.tsv", encoding)
    place = {"tsv": tsv, "folder": folder.parent}.get(packed, tmp_path / "crowd-enVent2023.zip")
    with zipfile.ZipFile(tmp_path / "crowd-enVent2023.zip", "w") as archive:
        archive.write(tsv, "corpus/crowd-enVENT_generation.tsv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = load_corpus("crowd-envent", path=place)
    pd.testing.assert_frame_equal(official.events, load_corpus("crowd-envent", path=published).events)
    assert official.sha256 == sources.read_bytes(tsv).sha256


@pytest.mark.parametrize("change", ["row gone", "order", "label", "rating", "word"])
def test_an_archive_that_says_something_else_warns(
    published: Path, tmp_path: Path, change: str, save: Save, crowd_table: pd.DataFrame
) -> None:
    table = crowd_table
    table = {"row gone": table.head(25), "order": table.iloc[::-1]}.get(change, table)
    if change == "label":
        table.loc[0, "emotion"] = "trust"
    elif change == "rating":
        table.loc[3, "effort"] = str(1 + int(table["effort"][3]) % 5)
    elif change == "word":
        table["hidden_emo_text"] = table["hidden_emo_text"].str.replace("so ...", "so glad")
    path = save(table, tmp_path / "crowd-enVent_generation.tsv")
    with pytest.warns(UserWarning, match="does not say the same as enVent_gen_Data.csv"):
        load_corpus("crowd-envent", path=path)


def test_checked_bytes_need_no_comparison(published: Path) -> None:
    sources.registry()["crowd-envent"]["texts"]["content_sha256"] = "of other content"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_corpus("crowd-envent", path=published)


def test_nowhere_to_be_found_says_where_it_looked(published: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"looked for .*empty/enVent_gen_Data.csv.*To get it by hand, download"):
        load_corpus("crowd-envent", path=empty)
    with zipfile.ZipFile(tmp_path / "crowd-enVent2023.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(FileNotFoundError, match=r"holds no crowd-enVent_generation.tsv; it holds readme.txt"):
        load_corpus("crowd-envent", path=tmp_path / "crowd-enVent2023.zip")
    with pytest.raises(FileNotFoundError, match=r"\$EMOLIB_CROWD_ENVENT \(not set\).*cache.*could not be downloaded"):
        load_corpus("crowd-envent")


# Downloads

PAYLOAD = b"emotion,text\n" + b"joy,yes\n" * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /good, /wrong, /truncated, /interrupted and 404, and remembers what was asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in ("/good", "/wrong", "/truncated", "/interrupted"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        if self.path == "/good":
            self.wfile.write(PAYLOAD)
        elif self.path == "/wrong":
            self.wfile.write(PAYLOAD[::-1])
        else:
            self.wfile.write(PAYLOAD[: len(PAYLOAD) // 2])
            self.wfile.flush()
            if self.path == "/interrupted":  # a reset, not an orderly end
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *args: object) -> None:
        """Keep the report of the tests clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()  # looks for the end often
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def payload_at(url: str) -> sources.Source:
    sha256 = hashlib.sha256(PAYLOAD).hexdigest()
    return sources.Source(file="events.csv", url=url, sha256=sha256, member="events.tsv", content_sha256="")


def test_a_good_download_is_kept_and_not_repeated(server: str, tmp_path: Path) -> None:
    first = sources.fetch(payload_at(f"{server}/good"))
    assert (first.parent, first.read_bytes()) == (tmp_path / "cache", PAYLOAD)
    assert sources.fetch(payload_at(f"{server}/good")) == first
    assert Handler.asked == ["/good"]


def in_the_cache(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "events.csv").write_bytes(content)
    return tmp_path / "cache"


def test_a_damaged_file_in_the_cache_is_replaced(server: str, tmp_path: Path) -> None:
    in_the_cache(tmp_path, PAYLOAD[:100])
    assert sources.fetch(payload_at(f"{server}/good")).read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        ("wrong", ValueError, r"/wrong sent is not events.csv.*[0-9a-f]{64}.*Nothing was kept"),
        ("truncated", ConnectionError, "could not be downloaded from .*/truncated"),
        ("interrupted", ConnectionError, "could not be downloaded from .*/interrupted"),
        ("missing", ConnectionError, "could not be downloaded from .*/missing.*404"),
    ],
)
def test_a_failed_download_says_so_and_leaves_nothing(
    server: str, tmp_path: Path, page: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sources.fetch(payload_at(f"{server}/{page}"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_replacement_keeps_nothing_wrong(server: str, tmp_path: Path) -> None:
    folder = in_the_cache(tmp_path, b"older")
    with pytest.raises(ConnectionError):
        sources.fetch(payload_at(f"{server}/truncated"))
    assert [path.read_bytes() for path in folder.iterdir()] == [b"older"]


def test_no_server_at_all() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match="is not in .* and could not be downloaded"):
        sources.fetch(payload_at(f"http://127.0.0.1:{port}/good"))


def test_load_corpus_downloads_once(
    server: str, published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = sources.registry()["crowd-envent"]
    entry["texts"]["url"] = f"{server}/good"
    monkeypatch.setattr(f"{__name__}.PAYLOAD", (published / "enVent_gen_Data.csv").read_bytes())
    for _ in range(2):
        assert len(load_corpus("crowd-envent").events) == 26
    assert Handler.asked == ["/good"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["enVent_gen_Data.csv"]


def test_the_registry_names_what_is_published() -> None:
    texts, readings = (sources.source("crowd-envent", part) for part in ("texts", "readings"))
    assert texts.sha256 == "941683c991923cdecf2953c4c945227bbbd3678b96139564c7ed68cb432c5a2c"
    assert readings.sha256 == "395c940e4f4189ff170201ea71c9120935c8ab01307a99b707f09e75b60973f0"
    assert all(wanted.url.endswith(f"/data/{wanted.file}") for wanted in (texts, readings))

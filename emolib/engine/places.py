"""How folders and files of this machine are written about: by a name and a digest, never by their path.

A path names a user and a machine, and may hold characters that mean something to a page or a shell. Whoever starts a
notebook tells it where the files behind such names lie, through its environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

VARIABLE = "EMOLIB_PLACES"
UNATTENDED = "EMOLIB_UNATTENDED"
UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
LONGEST = 60  # characters; several names make one of a file, which may have 255


def plain(text: str) -> str:
    """The text in letters, digits, dots and hyphens, for names of folders and pages.

    Where something had to be replaced a digest of the text follows, so that two texts never become one.
    """
    return text if _kept(text) == text else marked(text, text.encode())


def marked(name: str, content: bytes) -> str:
    """The name in such characters, with the first six digits of the sha256 of `content` behind it."""
    return f"{_kept(name)}-{hashlib.sha256(content).hexdigest()[:6]}".lstrip("-")


def _kept(text: str) -> str:
    return UNSAFE.sub("-", text).strip(".-")[:LONGEST].rstrip(".-")


def tell(places: Mapping[str, str]) -> None:
    """Nothing; from now on this process and those it starts find the files of these names."""
    os.environ[VARIABLE] = json.dumps(dict(places))


def place(name: str) -> str:
    """Where the folder or file of that name lies; the name itself when it is none that was told of."""
    return json.loads(os.environ.get(VARIABLE) or "{}").get(name, name)


def attended() -> bool:
    """Whether somebody may sit before this notebook: no program draws it for the book, and says so by `UNATTENDED`."""
    return UNATTENDED not in os.environ


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of the one at `path` when all of it is written; where that fails, nothing is
    changed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as new:
        try:
            yield new
            new.flush()
            os.fsync(new.fileno())
            # Temporary files are private; what takes their place is meant to be shared as what was there.
            shutil.copymode(path, new.name) if path.exists() else os.chmod(new.name, 0o666 & ~umask())
            os.replace(new.name, path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def replace_text(path: Path, text: str) -> Path:
    """The path, after it holds the text: all of it or, where that fails, what it held before."""
    with replacing(path) as new:
        new.write(text.encode())
    return path


def umask() -> int:
    """The permissions that this process takes away from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""One address for the whole project, and the line of every notebook that names it, for Colab.

The address stands in pyproject.toml under [project.urls] as `Repository`; the environment variable EMOLIB_REPOSITORY
(`make book REPOSITORY=...`) overrides it for one rendering. Colab reads a notebook from GitHub, not from the book, so
the cell at its top has to name the address itself: `write_addresses` copies it from pyproject.toml into every notebook,
and `emolib book` calls it. Imports no model library.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from emolib.engine.places import replace_text

VARIABLE = "EMOLIB_REPOSITORY"
TAG = "colab"  # of that cell, which is the same in all notebooks but for this line
LINE = re.compile(r'\brepository = (\\?")[^"\\]*\1')  # in a script, or within the JSON of a notebook
ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?(?:/tree/([\w./-]+?))?/?")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where the project lies on GitHub; `branch` is what a reader's Colab opens and pip installs."""

    owner: str
    name: str
    branch: str = "main"

    @property
    def requirement(self) -> str:
        """The address as pip takes it."""
        return f"git+https://github.com/{self.owner}/{self.name}@{self.branch}"

    @property
    def page(self) -> str:
        """The address of the code for a reader."""
        return f"https://github.com/{self.owner}/{self.name}/tree/{self.branch}"

    def colab(self, notebook: str) -> str:
        """Return the address that opens the source of a chapter, such as "05_probing", in Colab."""
        base = "https://colab.research.google.com/github"
        return f"{base}/{self.owner}/{self.name}/blob/{self.branch}/notebooks/{notebook}.ipynb"


def parse(address: str) -> Repository:
    """Return the repository of an address such as https://github.com/owner/name or .../owner/name/tree/branch.

    Raises ValueError for anything else: Colab opens notebooks of other hosts only by upload.
    """
    found = ADDRESS.fullmatch(address.strip())
    if found is None:
        raise ValueError(
            f"the repository is {address!r}: expected https://github.com/owner/name, with /tree/branch behind it for a "
            "branch other than main"
        )
    owner, name, branch = found.groups()
    return Repository(owner=owner, name=name, branch=branch or "main")


def committed(root: Path) -> Repository | None:
    """Return the repository that pyproject.toml names, None when it names none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    return parse(address) if address else None


def repository(root: Path) -> Repository | None:
    """Return the repository to render the book for: $EMOLIB_REPOSITORY, else the one of pyproject.toml, else None."""
    given = os.environ.get(VARIABLE)
    return parse(given) if given else committed(root)


def addressed(notebook: str, place: Repository | None) -> str:
    """Return a notebook, as the text of its file, whose first cell names that repository."""
    address = place.requirement if place else ""
    return LINE.sub(lambda line: f"repository = {line[1]}{address}{line[1]}", notebook)


def write_addresses(root: Path) -> list[Path]:
    """Return the notebooks and scripts whose first cell named another address than pyproject.toml, and now names it.

    Raises ValueError for an address that is none.
    """
    place, changed = committed(root), []
    for path in [*(root / "notebooks").glob("*.ipynb"), *(root / "notebooks").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if addressed(text, place) != text:
            replace_text(path, addressed(text, place))
            changed.append(path)
    return changed

"""One address for the whole project, and the cell that installs it on Colab.

The address stands in pyproject.toml under [project.urls] as `Repository`; the environment variable EMOLIB_REPOSITORY
(`make book REPOSITORY=...`) overrides it for one rendering. Colab reads a notebook from GitHub, not from the book, so
the cell at its top has to name the address itself: `write_cells` copies it from pyproject.toml into every notebook,
and `emolib book` calls it. Imports no model library.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

VARIABLE = "EMOLIB_REPOSITORY"
TAG = "colab"
TAGS = (TAG, "remove-cell")
CELL_ID = "install-on-colab"
ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?(?:/tree/([\w./-]+?))?/?")
SOURCE = """\
# On Colab this installs the project and its embedded model. Anywhere else it does nothing.
import importlib.metadata
import importlib.util
import subprocess
import sys

repository = "{address}"
if "google.colab" in sys.modules:
    if importlib.util.find_spec("emolib") is None:
        if not repository:
            raise ValueError("set repository, above, to the address of the project: git+https://github.com/owner/name")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"emolib @ {{repository}}"], check=True)
    subprocess.run([sys.executable, "-m", "emolib.cli", "fetch", "smollm2-135m"], check=True)
    if "numpy" in sys.modules and sys.modules["numpy"].__version__ != importlib.metadata.version("numpy"):
        raise RuntimeError("packages were replaced: choose Runtime, Restart session, then run all; it starts at once")
""".rstrip()
# In a jupytext script: from the cell's marker to the next one.
SCRIPT_CELL = re.compile(r'^# %% tags=\["colab", "remove-cell"\]\n.*?(?=^# %%)', re.DOTALL | re.MULTILINE)
SCRIPT_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n\n")


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
    path = root / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"] if path.is_file() else {}
    address = project.get("urls", {}).get("Repository", "")
    return parse(address) if address else None


def repository(root: Path) -> Repository | None:
    """Return the repository to render the book for: $EMOLIB_REPOSITORY, else the one of pyproject.toml, else None."""
    given = os.environ.get(VARIABLE, "")
    return parse(given) if given else committed(root)


def cell(place: Repository | None) -> str:
    """Return the source of the first cell of every notebook."""
    return SOURCE.format(address=place.requirement if place else "")


def with_cell(document: nbformat.NotebookNode, place: Repository | None) -> nbformat.NotebookNode:
    """Return the notebook beginning with the cell for Colab, put in or brought up to date."""
    document = nbformat.from_dict(document)
    for old in document.cells:
        if TAG in old.metadata.get("tags", []):
            old.source = cell(place)
            return document
    first = new_code_cell(cell(place), metadata={"tags": list(TAGS)}, id=CELL_ID)
    if (document.nbformat, document.nbformat_minor) < (4, 5):
        first.pop("id")
    document.cells.insert(0, first)
    return document


def script_with_cell(text: str, place: Repository | None) -> str:
    """Return a notebook's jupytext script beginning with the cell for Colab, after the header."""
    block = f'# %% tags=["{TAGS[0]}", "{TAGS[1]}"]\n{cell(place)}\n\n'
    text = SCRIPT_CELL.sub("", text)
    header = SCRIPT_HEADER.match(text)
    cut = header.end() if header else 0
    return text[:cut] + block + text[cut:]


def write_cells(root: Path) -> list[Path]:
    """Return the notebooks and scripts whose cell for Colab was missing or named another address than pyproject.toml.

    Their time stamps stay, because what a notebook computes does not change with the cell, and nothing is to be
    computed again for it. Raises ValueError for an address that is none.
    """
    place, changed = committed(root), []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        document = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        cells = [(other.cell_type, other.source) for other in document.cells]
        new = with_cell(document, place)
        if [(other.cell_type, other.source) for other in new.cells] != cells:
            _replace(path, nbformat.writes(new) + "\n")
            changed.append(path)
    for path in sorted((root / "notebooks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        script = script_with_cell(text, place)
        if script != text:
            _replace(path, script)
            changed.append(path)
    return changed


def _replace(path: Path, text: str) -> None:
    before = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    print("\n".join(map(str, write_cells(Path.cwd()))) or "every notebook has its cell")

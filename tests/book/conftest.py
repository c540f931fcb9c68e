"""What is made once for many tests: a browser, of which Playwright allows one at a time in a thread, and the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emolib.book import browser
from helpers import ROOT


@pytest.fixture(scope="session")
def program() -> str:
    path = browser.install()
    if path is None:
        pytest.skip(f"no page was opened, because there is no Chromium and none could be downloaded: {browser.ADVICE}")
    return path


@pytest.fixture(scope="session")
def opened(program: str) -> Iterator[Any]:
    with browser.chromium(program) as chromium:
        yield chromium


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """emolib as a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "emolib", tree / "emolib", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, tree]
    subprocess.run([*pip, *command], check=True)
    (built,) = folder.glob("emolib-*.whl")
    return built

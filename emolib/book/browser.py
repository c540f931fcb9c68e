"""A Chromium to print the book and to test it with: the system's, or the one that Playwright downloads."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
ADVICE = "install one: apt-get install chromium, or .venv/bin/playwright install --with-deps chromium"


def find() -> str | None:
    """Return the path of a Chromium on this machine, None when there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found or not importlib.util.find_spec("playwright"):
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Return the path of a Chromium that is here, or that Playwright could download; None without one."""
    if find() is None and importlib.util.find_spec("playwright"):
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(command, capture_output=True, timeout=600)
    return find()


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Return a headless browser as a context, without the sandbox that containers and root lack."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as one, closing(one.chromium.launch(executable_path=path, args=ARGUMENTS)) as browser:
        yield browser

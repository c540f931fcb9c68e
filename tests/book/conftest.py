"""One browser for all tests that look at pages: Playwright allows one at a time in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emolib.book import browser


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

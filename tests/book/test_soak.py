"""A minute of disturbed runs, and the page that says what came of longer ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from helpers import ROOT
from soak import page

MINUTES = os.environ.get("SOAK_MINUTES", "0.5")  # and the trial that is under way then


@pytest.mark.workflow
def test_disturbed_runs_lose_nothing_and_are_never_wrong() -> None:
    command = [sys.executable, str(ROOT / "tests" / "soak"), "--minutes", MINUTES]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    tried, survived, lost, wrong = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1]))
    assert tried == survived >= 2 and lost == wrong == 0


def test_the_page_says_what_was_seen_and_nothing_was_lost() -> None:
    seen = json.loads(page.SEEN.read_text())
    assert page.PAGE.read_text() == page.page(seen), "python tests/soak/page.py"
    for counts in seen["soak"].values():
        assert counts["tried"] == counts["survived"]
    for counts in seen["properties"].values():
        assert counts["tried"] == counts["worked"] + counts["refused"]

"""A run that is told to end ends with all that it has started, and nobody else begins while a part of it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from checkout import made_up_checkout, write_notebook
from emolib.book.processes import one_at_a_time
from emolib.study.run import Run

WAITS = "import os, time\nPath('at_work').write_text(os.environ['OMP_NUM_THREADS'])\ntime.sleep(600)\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made_up_checkout(tmp_path)
    write_notebook(tmp_path, "01_first", last=WAITS)
    return tmp_path


@pytest.fixture
def called(tree: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`emolib run` with a kernel at work."""
    run = "cli.main(['run', '--cores', '1', '--only', '01_first'])"
    # Tests may themselves run where these are ignored, in the background or under nohup.
    heard = "signal.signal(signal.SIGHUP, signal.SIG_DFL); signal.signal(signal.SIGINT, signal.default_int_handler)"
    untried = "from emolib import cli; cli.preflight_status = lambda *given: 0"
    code = f"import signal; {heard}\n{untried}\nraise SystemExit({run})"
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "7"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tree, env=environment, start_new_session=True)
    until(lambda: (tree / "at_work").is_file() and (tree / "at_work").read_text(), 120)
    yield process
    for one in parts(tree):
        one.kill()
    process.kill()
    process.wait()


def until(holds: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def parts(tree: Path) -> list[psutil.Process]:
    """The processes that work in the checkout."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(tree) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_free(tree: Path) -> bool:
    try:
        with one_at_a_time(tree):
            return True
    except RuntimeError:
        return False


@pytest.mark.parametrize(
    ("number", "tell"),
    [(signal.SIGTERM, os.kill), (signal.SIGHUP, os.killpg), (signal.SIGINT, os.kill), (signal.SIGINT, os.killpg)],
)
def test_all_of_a_run_ends_when_it_is_told_to(
    number: int, tell: Callable[[int, int], None], tree: Path, called: subprocess.Popen[bytes]
) -> None:
    """One process is told, or, as by Ctrl-C and by a terminal that is closed, each of them at once."""
    commands = [" ".join(process.cmdline()) for process in parts(tree)]
    for part in ("snakemake", "emolib.book.run", "ipykernel"):
        assert any(part in command for command in commands), commands
    assert (tree / "at_work").read_text() == "1", "a notebook computes with the threads that Snakemake gives it"
    start = time.monotonic()
    tell(called.pid, number)
    assert called.wait(10) == 128 + number
    assert time.monotonic() - start < 10 and parts(tree) == []
    left = {path.name for path in (tree / "runs" / Run().slug).glob("*")}
    assert not {name for name in left if name.endswith("first.ipynb")}, "what was not finished does not look done"


def test_the_lock_is_held_while_a_part_lives(tree: Path, called: subprocess.Popen[bytes]) -> None:
    called.kill()  # which no process can answer
    called.wait()
    for part in ("snakemake", "emolib.book.run"):
        (process,) = [one for one in parts(tree) if part in " ".join(one.cmdline())]
        with pytest.raises(RuntimeError, match=rf"another run is under way .*\b{process.pid}\b"), one_at_a_time(tree):
            pass
        process.kill()
    until(lambda: parts(tree) == [] and is_free(tree), 10)  # a kernel ends when who asks it is gone

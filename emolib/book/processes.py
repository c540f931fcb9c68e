"""Processes that end together: who starts notebooks ends all of them when told to, and shares one lock with them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOCK = "EMOLIB_LOCK"  # the file descriptor of the lock, for the processes that inherit it
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 5.0  # seconds between being asked to end and being ended
PR_SET_CHILD_SUBREAPER = 36  # of Linux: whose parent is gone becomes our child, and is found


class Stopped(BaseException):
    """This process was told to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        self.number = number


def status_of(command: Sequence[str], cwd: Path) -> int:
    """Return the exit status of a command, or 128 and the signal's number when this process was told to end: then all
    that it has started is ended first, in any session or group, within ten seconds."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup stays one
    before = {number: signal.signal(number, _stop) for number in heard}
    try:
        return subprocess.Popen(command, cwd=cwd, pass_fds=held()).wait()
    except Stopped as told:
        end_all()
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 128 + told.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_all() -> None:
    """Return None when no process that this one has started is left."""
    me = psutil.Process()
    for process in me.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # Snakemake takes back jobs it has sent elsewhere when it is interrupted
            process.send_signal(signal.SIGINT if process.ppid() == me.pid else signal.SIGTERM)
    psutil.wait_procs(me.children(recursive=True), timeout=GRACE)
    while left := me.children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Return nothing while no other run writes in this checkout.

    Processes that `status_of` and `emolib.book.run.start` start hold the lock as well: it ends with the last of them.
    Raises RuntimeError when another run is under way.
    """
    path = root / ".snakemake" / "emolib.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another run is under way in this folder{_holders(path)}: wait for it, or end it"
            ) from None
        os.environ[LOCK] = str(lock.fileno())
        try:
            yield
        finally:
            del os.environ[LOCK]


def held() -> tuple[int, ...]:
    """Return the file descriptors that a process of a run passes on: that of the lock, where it has one."""
    number = os.environ.get(LOCK, "")
    try:
        os.fstat(int(number))
    except (ValueError, OSError):  # a job on another machine has the variable and not the file
        return ()
    return (int(number),)


def _holders(path: Path) -> str:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == str(path) for file in process.open_files()) and process.pid != os.getpid():
                found.append(str(process.pid))
    return f" (kill {' '.join(found)})" if found else ""


def _stop(number: int, frame: object) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # what follows is not stopped half-way
    raise Stopped(number)

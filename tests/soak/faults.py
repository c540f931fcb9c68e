"""The kinds of faults: how each disturbs a study in one process or a run of the workflow, and what comes of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from emolib.book.processes import one_at_a_time
from soak.world import FAILED, NOT_OURS, World, parts, unfinished, until

SECONDS = 10  # within which all of a run ends


@dataclass
class Came:
    """What came of a trial: survived, lost or wrong, and why."""

    outcome: str = "survived"
    why: str = ""


class Lost(Exception):
    """Something that was computed, or can be computed, is not there; or what does not belong there is."""


# One process: its folder is disturbed while it works, or when it is done.


def killed(world: World, folder: Path, random: Random) -> None:
    """Killed or told to end at any moment."""
    child = world.study(folder)
    until(lambda: False, random.uniform(0, 1.5))
    child.send_signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
    child.wait()
    whole(folder)


def two_at_once(world: World, folder: Path, random: Random) -> None:
    """Two processes measure the same in one folder, and one of them may be killed."""
    children = [world.study(folder)]
    until(lambda: False, random.uniform(0, 0.5))
    children.append(world.study(folder))
    if random.random() < 0.5:
        until(lambda: False, random.uniform(0, 0.5))
        children.pop(random.randrange(2)).send_signal(signal.SIGKILL)
    for child in children:
        expect(child.wait(), 0, folder)
    with suppress(ChildProcessError):
        os.wait()
    whole(folder)


def small_files(world: World, folder: Path, random: Random) -> None:
    """No file may grow beyond a size."""
    expect(world.study(folder, most=random.randrange(300_000)).wait(), FAILED, folder, or_else=0)
    whole(folder)


def full_disk(world: World, folder: Path, random: Random) -> None:
    """A disk that is full at some point, and has room again afterwards."""
    with own_disk(folder, random.randrange(16, 900)) as enlarge:
        expect(world.study(folder).wait(), FAILED, folder, or_else=0)
        whole(folder)
        enlarge()
        expect(world.study(folder).wait(), 0, folder)
        same(world, folder)


def changed_shards(world: World, folder: Path, random: Random) -> None:
    """What was kept of the passes is damaged, after the tables are lost as well."""
    finish(world, folder)
    shutil.rmtree(folder / "results")
    damage(sorted(folder.glob("cache/*/*.safetensors")), random)


def changed_tables(world: World, folder: Path, random: Random) -> None:
    """Tables are damaged."""
    finish(world, folder)
    damage(sorted(folder.glob("results/*/*.parquet")), random)


def lost_files(world: World, folder: Path, random: Random) -> None:
    """Any files and folders are deleted."""
    finish(world, folder)
    there = sorted(path for path in folder.rglob("*") if path.name != "said")
    for path in random.sample(there, random.randint(1, len(there))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def other_texts(world: World, folder: Path, random: Random) -> None:
    """The corpus is another one for a while, at any moment, and then the first again."""
    with edited(world, random) as edit:
        child = world.study(folder)
        until(lambda: False, random.uniform(0, 1.5))
        edit()
        expect(child.wait(), 0, folder)
        expect(world.study(folder).wait(), 0, folder)
        if world.corpora(folder) != {hashlib.sha256(world.corpus.read_bytes()).hexdigest()}:
            raise Lost("a table is of other texts than those that lie there")


# A run of the whole workflow.


def told_to_end(world: World, folder: Path, random: Random) -> None:
    """A run is told to end, at any moment."""
    number = random.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    command = world.command()
    beginning(world, random)
    command.send_signal(number)
    try:
        command.wait(SECONDS)
    except subprocess.TimeoutExpired:
        raise Lost(f"signal {number} did not end it within {SECONDS} s") from None
    if left := parts(folder):
        raise Lost(f"signal {number} left {[process.cmdline() for process in left]}")
    whole(folder)


def a_part_killed(world: World, folder: Path, random: Random) -> None:
    """Any process of a run is killed, the command itself included; what is left of it may work to its end."""
    command = world.command()
    beginning(world, random)
    if there := parts(folder):
        random.choice(there).kill()
    until(lambda: command.poll() is not None, 600)
    if not until(lambda: not parts(folder), 120):
        raise Lost(f"for two minutes {[process.cmdline() for process in parts(folder)]} went on")
    whole(folder)


def run_beside(world: World, folder: Path, random: Random) -> None:
    """A second run is called while the first is at work."""
    first = world.command()
    try:
        held = until(lambda: first.poll() is not None or locked(folder), 60)
        second = world.command()
        if held and (status := second.wait(120)) != 1:
            raise Lost(f"the second ended with {status}")
        expect(first.wait(600), 0, folder)
    finally:
        end(folder)
    whole(folder)


def texts_edited(world: World, folder: Path, random: Random) -> None:
    """The corpus is edited while a run is at work, and is the first again afterwards."""
    with edited(world, random) as edit:
        command = world.command()
        beginning(world, random)
        edit()
        status = command.wait(600)
        if len(world.corpora(folder)) > 1:
            raise Lost("one folder holds tables of two files")
        if status == 0 and len(world.tables(folder)) < len(world.expected):
            raise Lost("it ended well without its tables")
    whole(folder)


def disk_full_in_a_run(world: World, folder: Path, random: Random) -> None:
    """Results, notebooks or what is kept lie on a disk that is full."""
    name = random.choice(["results", "runs", "cache"])
    (folder / name).mkdir()
    with own_disk(folder / name, random.randrange(16, 200), sparse=True):
        if world.command().wait(600) == 0:
            raise Lost(f"it ended well with a full disk under {name}")
        said = (folder / "said").read_text()
        if str(folder / name) not in said and "No space left" not in said and "os error 28" not in said:
            raise Lost(f"a full disk under {name} was not named")
        whole(folder)


KINDS: dict[str, tuple[str, Callable[[World, Path, Random], None]]] = {
    "a process is killed": ("study", killed),
    "two processes measure the same, one may be killed": ("study", two_at_once),
    "files may not grow beyond a size": ("study", small_files),
    "the disk is full": ("study", full_disk),
    "what was kept of the passes is damaged": ("study", changed_shards),
    "tables are damaged or exchanged": ("study", changed_tables),
    "files and folders are deleted": ("study", lost_files),
    "the corpus is another for a while": ("study", other_texts),
    "a run is told to end": ("run", told_to_end),
    "a part of a run is killed": ("run", a_part_killed),
    "a second run is called beside the first": ("run", run_beside),
    "the corpus is edited while a run is at work": ("run", texts_edited),
    "the disk is full under a folder of a run": ("run", disk_full_in_a_run),
}


def trial(world: World, level: str, random: Random) -> tuple[str, Came]:
    """The name of a kind of fault of that level, drawn at random, and what came of it."""
    name = random.choice([name for name, (of, _) in KINDS.items() if of == level])
    disturb = KINDS[name][1]
    folder = world.checkout if level == "run" else world.folder / "trial"
    if level == "run":
        world.clear()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        disturb(world, folder, random)
        again = world.command().wait(900) if level == "run" else world.study(folder).wait()
        expect(again, 0, folder)
        same(world, folder)
        if left := (parts(folder) if level == "run" else []):
            raise Lost(f"{[process.cmdline() for process in left]} is still at work")
        if level == "run" and locked(folder):
            raise Lost("the lock is held by nobody")
    except Lost as error:
        return name, Came("lost", str(error))
    except AssertionError as error:
        return name, Came("wrong", str(error))
    finally:
        if level == "run":
            end(folder)
    return name, Came()


def finish(world: World, folder: Path) -> None:
    """The folder of a study that was not disturbed."""
    shutil.rmtree(folder)
    shutil.copytree(world.done, folder)


def expect(status: int, wanted: int, folder: Path, *, or_else: int | None = None) -> None:
    """Raises Lost for another exit status, with what was said last."""
    if status not in (wanted, or_else):
        said = (
            (folder / "said").read_text(errors="replace").strip().splitlines()[-4:]
            if (folder / "said").is_file()
            else []
        )
        ours = " (and no error of ours)" if status == NOT_OURS or status < 0 else ""
        raise Lost(f"exit status {status}{ours}: {' | '.join(said)}")


def same(world: World, folder: Path) -> None:
    """Raises AssertionError where a table is not that of the undisturbed run, Lost where it is not there."""
    found = world.tables(folder)
    if missing := set(world.expected) - set(found):
        raise Lost(f"no table {missing}")
    other = [name for name, digest in world.expected.items() if found[name] != digest]
    assert not other, f"{other} have other values than the undisturbed run"


def whole(folder: Path) -> None:
    """Raises Lost where a file under a final name is not."""
    if found := unfinished(folder):
        raise Lost(f"not whole: {found}")


def damage(paths: list[Path], random: Random) -> None:
    """One to three of the files are changed: bits, a stretch of zeros, their end, all of it, or two exchanged."""
    for path in random.sample(paths, random.randint(1, min(3, len(paths)))):
        content = bytearray(path.read_bytes())
        at = random.randrange(len(content))
        kind = random.choice(["bit", "bits", "zeros", "cut", "empty", "noise", "longer", "exchanged"])
        if kind in ("bit", "bits"):
            for _ in range(1 if kind == "bit" else random.randint(2, 200)):
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        elif kind == "zeros":
            content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        elif kind == "longer":
            content += random.randbytes(random.randint(1, 5000))
        elif kind == "exchanged":
            other = random.choice(paths)
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
            continue
        else:
            content = {"cut": content[:at], "empty": b"", "noise": random.randbytes(len(content))}[kind]
        path.write_bytes(content)


@contextmanager
def edited(world: World, random: Random) -> Iterator[Callable[[], None]]:
    """A function that adds a word to a text of the corpus; afterwards it is what it was."""
    before = world.corpus.read_text()
    lines = before.splitlines()
    row = random.randrange(1, len(lines))
    lines[row] = lines[row].replace(" ", " rain ", 1)
    try:
        yield lambda: replace(world.corpus, "\n".join(lines) + "\n", random)
    finally:
        world.corpus.write_text(before)


def replace(path: Path, text: str, random: Random) -> None:
    """Written in place, as some editors do, or renamed, as others do."""
    if random.random() < 0.5:
        path.write_text(text)
    else:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)


@contextmanager
def own_disk(folder: Path, kilobytes: int, *, sparse: bool = False) -> Iterator[Callable[[], None]]:
    """A small disk of its own under a folder, and a function that makes it large; without the rights to mount one it
    is a folder that nothing can be written in."""
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "emolib-soak", folder], capture_output=True
        ).returncode
    ):
        folder.chmod(0o500)
        try:
            yield lambda: folder.chmod(0o700)
        finally:
            folder.chmod(0o700)
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True) and None
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def beginning(world: World, random: Random) -> None:
    """Waits for any moment of a run: until a part of it is there, and then a while."""
    patterns = ["snakemake", "emolib.book.preflight", "emolib.book.run", "ipykernel"]
    wanted = random.choice(patterns)

    def there() -> bool:
        return any(wanted in " ".join(command(process)) for process in parts(world.checkout))

    until(there, 60)
    until(lambda: False, random.uniform(0, 6))


def command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def locked(folder: Path) -> bool:
    """Whether a run holds the lock of a checkout."""
    before = (folder / ".snakemake").is_dir()
    if not before:
        return False
    try:
        with one_at_a_time(folder):
            return False
    except RuntimeError:
        return True


def end(folder: Path) -> None:
    """Nothing that a trial has started is left."""
    for process in parts(folder):
        if process.pid != os.getpid():
            process.kill()
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass

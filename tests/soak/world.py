"""A small model, a corpus and a checkout; what an undisturbed run makes of them; and processes that run them again."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook
from safetensors import SafetensorError, safe_open

from checkout import KERNEL, parameters_cell
from emolib.engine.tiny import tiny_model
from emolib.experiments import ablation, geometry
from emolib.study import shards
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from helpers import ROOT, agreeing_table, tiny_table, word_tokenizer

# One reads what a clean pass keeps of the layers, the other its answers, and keeps those under edits.
EXPERIMENTS = {"08_geometry": geometry, "B_ablation": ablation}
TEXTS = 240  # four batches, of which so many are agreed that geometry has two labels in every fold
OURS = (ValueError, RuntimeError, OSError)  # and of the disk SafetensorError, whose words a run explains
FAILED, NOT_OURS = 2, 3
CELL = """from emolib.experiments import {name}
from emolib.study import freshness
from emolib.study import shards
from emolib.study.run import Run
table = freshness.measured(Run.of(globals()), {name})
len(table)
"""


class World:
    """Where everything lies: `model`, `corpus`, a `checkout` with two notebooks, and `done`, a study's finished folder;
    `expected` are the digests of its tables.

    The process that has it computes and reads nothing itself: libraries start threads then, and what is forked from
    such a process can wait for ever.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.checkout, self.done = folder, folder / "checkout", folder / "done"
        apart(_small_model, folder / "model")
        self.corpus = apart(_corpus, folder)
        self.run = Run(model=str(folder / "model"), corpus=str(self.corpus), device="cpu")
        self._check_out()
        assert self.study(self.done).wait() == 0, (self.done / "said").read_text()
        self.expected = self.tables(self.done)
        self.slug = self.run.slug

    def _check_out(self) -> None:
        self.checkout.mkdir()
        for name in ("Snakefile", "_toc.yml"):
            shutil.copy(ROOT / name, self.checkout)
        shutil.copytree(ROOT / "profiles", self.checkout / "profiles")
        (self.checkout / "emolib").symlink_to(ROOT / "emolib")
        (self.checkout / "notebooks").mkdir()
        for notebook, experiment in EXPERIMENTS.items():
            cells = [
                new_code_cell(parameters_cell(), metadata={"tags": ["parameters"]}),
                new_code_cell(CELL.format(name=experiment.__name__.rpartition(".")[2])),
            ]
            document = new_notebook(cells=cells, metadata=KERNEL)
            nbformat.write(document, self.checkout / "notebooks" / f"{notebook}.ipynb")

    def tables(self, folder: Path) -> dict[str, str]:
        """The digest of each table that is stored below a folder. Raises ValueError for one that cannot be read."""
        return apart(_tables, folder)

    def corpora(self, folder: Path) -> set[str]:
        """The sha256 of the corpora that the tables below a folder say they are of."""
        return apart(_corpora, folder)

    def study(self, folder: Path, *, most: int | None = None, run: Run | None = None) -> Forked:
        """A process that measures both experiments in a folder; it may write no file larger than `most` bytes."""
        folder.mkdir(exist_ok=True)
        pid = os.fork()
        if pid:
            return Forked(pid)
        status = NOT_OURS
        try:
            os.setsid()
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1)
            os.dup2(said, 2)
            if most is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            for experiment in EXPERIMENTS.values():
                Study(run or self.run, folder=folder).measure(experiment)
            status = 0
        except (*OURS, SafetensorError) as error:
            with suppress(OSError):  # it may be the disk that is full
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            status = FAILED
        except BaseException:
            with suppress(OSError):
                traceback.print_exc()
        finally:
            os._exit(status)

    def command(self, **environment: str) -> subprocess.Popen[bytes]:
        """`emolib run` in the checkout."""
        heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); " + (
            "signal.signal(signal.SIGINT, signal.default_int_handler)"
        )
        given = ["run", "--cores", "1", "--model", self.run.model, "--corpus", str(self.corpus), "--device", "cpu"]
        code = f"{heard}\nfrom emolib import cli\nraise SystemExit(cli.main({given!r}))"
        with (self.checkout / "said").open("a") as said:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=self.checkout,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def clear(self) -> None:
        """Nothing is left of earlier runs in the checkout."""
        for name in ("results", "runs", "cache", ".snakemake", "said"):
            path = self.checkout / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@dataclass
class Forked:
    """A child without exec: it has all libraries loaded, so that a trial takes a second and not ten."""

    pid: int

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def parts(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def until(holds: Callable[[], object], seconds: float) -> bool:
    """Whether it came to hold in that time."""
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(held)


def apart(work: Callable[[Path], Any], folder: Path) -> Any:
    """What `work` makes of a folder in a process of its own. Raises what it raises."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            came = work(folder)
        except Exception as error:
            came = error
        with os.fdopen(write, "wb") as out:
            pickle.dump(came, out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        came = pickle.load(source)
    os.waitpid(pid, 0)
    if isinstance(came, Exception):
        raise came
    return came


def _small_model(folder: Path) -> None:
    model = tiny_model("llama", tokenizer=word_tokenizer(), num_hidden_layers=3, hidden_size=16, intermediate_size=32)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def _corpus(folder: Path) -> Path:
    return agreeing_table(str(folder / "model"), folder, tiny_table(TEXTS))


def _tables(folder: Path) -> dict[str, str]:
    return {path.stem: results.digest(results.read(path)) for path in (folder / "results").glob("*/*.parquet")}


def _corpora(folder: Path) -> set[str]:
    paths = (folder / "results").glob("*/*.parquet")
    return {results.read(path).attrs["provenance"]["corpus_sha256"] for path in paths}


def unfinished(folder: Path) -> Sequence[str]:
    """Files under a final name below a folder that are not whole."""
    return apart(_unfinished, folder)


def _unfinished(folder: Path) -> list[str]:
    found = []
    for path in folder.glob("results/*/*.parquet"):
        try:
            results.read(path)
        except ValueError as error:
            found.append(str(error))
    for path in folder.glob("cache/*/*.safetensors"):
        try:
            with safe_open(path, "pt") as shard:
                names = list(shard.keys())
            for name in names:
                shards._load(path, name, ())
        except (shards.Damaged, SafetensorError) as error:
            found.append(f"{path.name} {error}")
    for path in folder.glob("runs/*/*.ipynb"):
        if not path.name.endswith((".partial.ipynb", ".failed.ipynb")):
            try:
                nbformat.read(path, as_version=4)
            except Exception as error:  # whatever it says of it
                found.append(f"{path.name} {error}")
    return found

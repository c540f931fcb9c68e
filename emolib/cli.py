"""emolib run | book | models | fetch | doctor.

argparse rather than a framework: the options of a run are the fields of `Run`, read from it, so that neither a name nor
a default stands in two places. Nothing here imports torch; `emolib --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emolib.study.run import Run

HELP = {
    "model": "name from `emolib models`, Hugging Face id, or local folder",
    "corpus": "crowd-envent (6,600 real texts), situations (embedded) or a file in the layout of crowd-enVENT",
    "prompt": "T1-2shot as in the paper, T1-0shot ... T1-12shot, T2-2shot ...",
    "calibration": "none, or batch: subtract each label's mean logit over the corpus",
    "scoring": "the token of a label that is scored: first_subtoken, or last_subtoken as the paper's code does",
    "text": "masked, as in the paper, or original: with or without the emotion words",
    "tap": "contribution: what is added to the residual stream; module: before a norm, as the paper's code reads it",
    "dtype": "float32, bfloat16 or float16",
    "device": "auto, cpu, cuda, cuda:1, mps",
    "seed": "of every random choice",
    "profile": "quick (minutes) or full",
    "corpus_path": "where the corpus file lies, if not downloaded",
}
RUN_EPILOG = """Everything is checked before anything expensive starts. What is up to date is not computed again, what
was interrupted is resumed. Arguments after -- go to Snakemake: emolib run --model NAME -- --executor slurm --jobs 10"""


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 failed on the way, 2 refused because of what was given."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    try:
        options, unknown = parser(given[0] if given else "").parse_known_args(given[:cut])
        if unknown:
            raise ValueError(unknown_option(unknown[0], options))
        return options.command(options, given[cut + 1 :])
    except (ValueError, OSError) as error:
        print(f"emolib: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"emolib: {error}", file=sys.stderr)
        return 1


def unknown_option(given: str, options: argparse.Namespace) -> str:
    """Return what to say of an argument that the command does not have, with the nearest that it has."""
    from emolib.engine.choices import did_you_mean

    known = [f"--{name.replace('_', '-')}" for name in vars(options) if name not in ("command", "what")]
    offered = f"choose from {', '.join(known)}" if known else "this command has no options"
    return f"unknown option {given!r}{did_you_mean(given.partition('=')[0], known)}: {offered}"


def parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; the options of `run` are added when that is the command, since Run is slow
    to import."""
    top = argparse.ArgumentParser(prog="emolib", description="Where and how a language model infers emotion.")
    commands = top.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Callable[[argparse.Namespace, list[str]], int], text: str, epilog: str | None = None):
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        sub.set_defaults(command=command)
        return sub

    run = add("run", run_command, "compute the notebooks of a run that are out of date", RUN_EPILOG)
    if command == "run":
        _add_fields(run)
    run.add_argument("--only", metavar="NOTEBOOK", help="one notebook, or several separated by commas (default: all)")
    run.add_argument("--cores", type=int, default=os.cpu_count(), help="processor cores to use (default: all)")
    run.add_argument("--reference", action="store_true", help="the committed run, and publish its chapters")
    add("book", book_command, "render the book, with your runs in it, to _build/html")
    add("models", models_command, "list the models known by name, with what they need")
    fetch = add("fetch", fetch_command, "download the corpus or the embedded model")
    fetch.add_argument("what", choices=["crowd-envent", "smollm2-135m"])
    add("doctor", doctor_command, "say what is installed, what was found, and how to get what is missing")
    return top


def _add_fields(run: argparse.ArgumentParser) -> None:
    from emolib.study.run import Run

    for field in fields(Run):
        default = f" (default: {field.default})" if field.default not in (None, "") else ""
        kind = type(field.default) if field.default is not None else str
        run.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=HELP[field.name] + default)


def run_command(options: argparse.Namespace, snakemake: list[str]) -> int:
    """Return Snakemake's status for the run described by the options, validated first."""
    from emolib.book.render import check_publishable, publish
    from emolib.book.run import measures, select_notebooks
    from emolib.study.run import REFERENCE, Run

    root = checkout()
    if options.cores < 1:
        raise ValueError(f"cores {options.cores}: expected a whole number from 1 on")
    if options.model == "" or (options.model or "").endswith("/") and not Path(options.model).is_dir():
        raise ValueError(f"model {options.model!r}: expected a name of `emolib models`, a Hugging Face id, or a folder")
    given = {field.name: value for field in fields(Run) if (value := getattr(options, field.name)) is not None}
    run = replace(REFERENCE, **given) if options.reference else Run(**given)
    notebooks = select_notebooks(options.only, root)
    if run.slug == REFERENCE.slug and not options.reference:
        print(f"{run.slug} is the committed reference run: its chapters are in the book, its results in results/.")
        print("To compute it again: make reference")
        return 0
    if options.reference and run.slug != REFERENCE.slug:
        raise ValueError(f"the reference run is {REFERENCE.slug}, not {run.slug}: change only where it is computed")
    if options.reference:
        check_publishable(run.corpus_path)
    run.load_corpus()  # refuses a corpus that is missing or damaged, before a model loads
    print(", ".join(f"{name} {value}" for name, value in asdict(run).items() if value is not None), flush=True)
    with one_at_a_time(root):
        status = snakemake_status(root, run, notebooks, options.cores, snakemake)
        summaries = [name for name in notebooks if not measures(name, root)]
        if status == 1 and summaries and len(summaries) < len(notebooks):
            print("Not every notebook ran (see above): those that sum up are made from what is there.", flush=True)
            snakemake_status(root, run, summaries, options.cores, snakemake)
    if status == 0 and options.reference:
        for path in publish(root, run, notebooks):
            print(path.relative_to(root))
    return status


def snakemake_status(root: Path, run: Run, notebooks: list[str], cores: int, extra: list[str]) -> int:
    """Return the exit status of Snakemake on the notebooks of one run."""
    from emolib.book.run import result_of, write_parameters

    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--rerun-incomplete", "--keep-going"]
    command += ["--nolock", "--quiet", "rules", "host", "reason"]  # the lock is one_at_a_time
    command += ["--configfile", str(write_parameters(run, root)), "--config", f"only={','.join(notebooks)}"]
    results = {name: result_of(name, run.slug, root) for name in notebooks}
    lost = [f"notebook_{name}" for name, result in results.items() if result is not None and not result.is_file()]
    command += [*(["--forcerun", *lost] if lost else []), *extra]
    with subprocess.Popen(command, cwd=root) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Snakemake was interrupted as well: let it end its jobs
            process.wait()
            print("Stopped. The same command goes on from here.", file=sys.stderr)
            return 130


def book_command(options: argparse.Namespace, extra: list[str]) -> int:
    """Return 0 after rendering the book and printing its address; 1 when notebooks that failed are missing in it."""
    from emolib.book.render import build

    root = checkout()
    page, rendered = build(root)
    print(f"{'The book' if rendered else 'The book, unchanged'}: {page.as_uri()}")
    failed = sorted(path.relative_to(root).as_posix() for path in (root / "runs").glob("*/*.failed.ipynb"))
    if failed:
        print(f"Not in it, because they failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def models_command(options: argparse.Namespace, extra: list[str]) -> int:
    """Return 0 after printing the registry."""
    from emolib.book.doctor import models_table

    print(models_table())
    return 0


def fetch_command(options: argparse.Namespace, extra: list[str]) -> int:
    """Return 0 once the corpus or the embedded model is on this machine."""
    from emolib.book.doctor import fetch

    print(fetch(options.what))
    return 0


def doctor_command(options: argparse.Namespace, extra: list[str]) -> int:
    """Return 0 when a run on the embedded model and corpus is possible, 1 when something it needs is missing."""
    from emolib.book.doctor import examine

    lines, well = examine(Path.cwd())
    print("\n".join(lines))
    return 0 if well else 1


def checkout() -> Path:
    """Return the folder of the repository: the current one or one above it, else where emolib is installed from.

    Raises FileNotFoundError when there is none, as with emolib installed from a wheel.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "Snakefile").is_file() and (folder / "_toc.yml").is_file():
            return folder
    raise FileNotFoundError(f"{here} is not in a checkout of the repository (no Snakefile): go there first")


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Return nothing while no other run writes in this checkout; unlike Snakemake's lock, it ends with its process.

    Raises RuntimeError when another run is under way.
    """
    import fcntl

    path = root / ".snakemake" / "emolib.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("another run is under way in this folder: wait for it, or stop it") from None
        yield


if __name__ == "__main__":
    sys.exit(main())

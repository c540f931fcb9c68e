"""emolib run | book | golden | verify | verdicts | answers | models | fetch | doctor.

The options of a run are the fields of `Run`, read from it, so that neither a name nor a default stands in two places.
Nothing here imports torch; `emolib --help` answers at once.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

if TYPE_CHECKING:
    from emolib.study.run import Run

HELP = {
    "model": "name from `emolib models`, Hugging Face id, folder or GGUF file; NAME@random:0 is its untrained twin",
    "corpus": "crowd-envent (6,600 real texts), situations or keyword-free (embedded) or a table with emotion and text",
    "prompt": "T1-2shot as in the paper, T1-0shot ..., T2-2shot ..., question, bare, any with -chat, a .yml file",
    "calibration": "none, or batch: subtract each label's mean logit over the corpus",
    "scoring": "the token of a label that is scored: first_subtoken, or last_subtoken as the paper's code does",
    "text": "masked, as in the paper, or original: with or without the emotion words",
    "tap": "contribution: what is added to the residual stream; module: before a norm, as the paper's code reads it",
    "dtype": "float32, bfloat16, float16, or mixed: weights in bfloat16, what is summed over layers in float32",
    "device": "auto, cpu, cuda, cuda:1, mps, balanced (all GPUs), or ndif, a service that has the weights",
    "seed": "of every random choice",
    "profile": "quick (minutes) or full",
    "corpus_path": "where the corpus file lies, if not downloaded",
}
USUAL = {"dtype": "float32, and mixed from 0.4 billion parameters on"}
TITLE = "Where and how a language model infers emotion."
Only = Annotated[str | None, typer.Option(metavar="NOTEBOOK", help="one notebook, or several separated by commas")]


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 failed on the way, 2 refused because of what was given."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    cut = given.index("--") if "--" in given else len(given)
    try:
        command = get_command(app(given[0], given[cut + 1 :]))
        return command.main(given[:cut], prog_name="emolib", standalone_mode=False) or 0
    except (TyperException, ValueError, OSError) as error:
        print(f"emolib: {error.format_message() if isinstance(error, TyperException) else error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"emolib: {error}", file=sys.stderr)
        return 1


def app(command: str, extra: list[str]) -> typer.Typer:
    """Return all commands; the options of `run` are added when that is the command, since Run is slow to import.

    `extra` is what was given after --, for Snakemake.
    """
    top = typer.Typer(add_completion=False, rich_markup_mode=None, help=TITLE)
    top.command("run", help=run.__doc__)(_with_fields(extra) if command == "run" else lambda: None)
    for function in (book, golden, verify, verdicts, answers, models, fetch, doctor):
        top.command()(function)
    return top


def _with_fields(extra: list[str]) -> Callable[..., int]:
    """The command `run` with an option for each field of Run."""
    from emolib.study.run import Run

    def command(
        only: Only, cores: int | None, reference: bool, remote: bool, dry_run: bool, show: bool, **given: Any
    ) -> int:
        given = {name: value for name, value in given.items() if value is not None}
        if remote and given.setdefault("device", "ndif") != "ndif":
            raise ValueError(f"device {given['device']!r} and --remote: give one of them")
        return run(given, extra, only=only, cores=cores, reference=reference, dry_run=dry_run, show=show)

    def option(name: str, kind: Any, default: Any, **about: Any) -> inspect.Parameter:
        kind = Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", **about)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

    options = []
    for field in fields(Run):
        default = USUAL.get(field.name, field.default)
        text = HELP[field.name] + (f" (default: {default})" if default not in (None, "") else "")
        options.append(option(field.name, (int if isinstance(field.default, int) else str) | None, None, help=text))
    options += [
        inspect.Parameter("only", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Only),
        option("cores", int | None, None, min=1, help="processor cores to use (default: all, or what a profile says)"),
        option("remote", bool, False, help="the weights stay at NDIF (ndif.us); the same as --device ndif"),
        option("reference", bool, False, help="the committed run, and publish its chapters"),
        option("dry_run", bool, False, help="say what it would take, and compute nothing"),
        option("show", bool, False, help="render the book as it is first, where there is none yet"),
    ]
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # Python allows it, typeshed not
    return command


def run(
    given: dict[str, Any],
    extra: list[str],
    *,
    only: str | None,
    cores: int | None,
    reference: bool,
    dry_run: bool,
    show: bool,
) -> int:
    """Compute the notebooks of a run that are out of date.

    Everything is checked before anything expensive starts. What is up to date is not computed again, what was
    interrupted is resumed. Arguments after -- go to Snakemake: emolib run --model NAME -- --profile profiles/slurm
    """
    from emolib.book.disk import require_folders, require_home
    from emolib.book.processes import one_at_a_time
    from emolib.book.render import publish
    from emolib.book.run import experiment_of, keep_left_out, measures, select_notebooks, unable, why_not_fresh
    from emolib.engine.registry import locate
    from emolib.study.freshness import corpus_sha256
    from emolib.study.needs import impossible
    from emolib.study.run import PLACED, REFERENCE, Run, absolute

    root, model = checkout(), given.get("model", Run.model)
    if model == "" or model.endswith("/") and not Path(model).is_dir():
        raise ValueError(f"model {model!r}: expected a name of `emolib models`, a Hugging Face id, or a folder")
    # The run takes place in the checkout: what is meant from here is said in full.
    given |= {name: absolute(name, given[name], root) for name in PLACED if given.get(name)}
    asked = replace(REFERENCE, **given) if reference else in_usual_dtype(given)
    notebooks = select_notebooks(only, root)
    if dry_run:
        from emolib.book.plan import plan

        return said((line, True) for line in plan(asked, notebooks, root, cores))
    if asked.slug == REFERENCE.slug and not reference:
        print(f"{asked.slug} is the committed reference run: its chapters are in the book, its results in results/.")
        print("To compute it again: make reference")
        return 0
    if reference and asked.slug != REFERENCE.slug:
        raise ValueError(f"the reference run is {REFERENCE.slug}, not {asked.slug}: change only where it is computed")
    if reference and asked.corpus_path:
        raise ValueError(
            "a chapter would show where the corpus lies on this machine: leave out --corpus-path (make: CORPUS_PATH), "
            "and set EMOLIB_CROWD_ENVENT or call emolib fetch crowd-envent instead"
        )
    if asked.device == "ndif":
        from emolib.engine.remote import check_service

        check_service(locate(asked.model))
    corpus = asked.load_corpus()  # refuses one that is missing or damaged, before a model loads
    print(f"{corpus.name}: {corpus.reading}", flush=True)
    lacking = {name: impossible(experiment_of(name), corpus) or "" for name in notebooks if measures(name, root)}
    wanted, notebooks = notebooks, possible(notebooks, lacking, corpus.name, root)
    require_home()
    require_folders(root, ("results", "runs", "cache", ".snakemake"))
    print(", ".join(f"{name} {value}" for name, value in asdict(asked).items() if value is not None), flush=True)
    with one_at_a_time(root), asked.begun(corpus.sha256):
        measured = [name for name in notebooks if measures(name, root)]
        needs_model = any(why_not_fresh(asked, name, root) for name in measured)
        if needs_model and (status := preflight_status(root, asked, extra)):
            return status
        lacking |= unable(asked, root)
        keep_left_out(asked, wanted, lacking, root)
        notebooks = possible(notebooks, unable(asked, root), asked.public["model"], root)
        if show and not (root / "_build" / "html" / "index.html").is_file():
            print("The book as it is comes first, the run is added when it is done.", flush=True)
            book()
        status = snakemake_status(root, asked, notebooks, cores, extra)
        asked.check_texts(corpus_sha256(asked))
        summaries = [name for name in notebooks if not measures(name, root)]
        if status == 1 and summaries and len(summaries) < len(notebooks):
            print("Not every notebook ran (see above): those that sum up are made from what is there.", flush=True)
            snakemake_status(root, asked, summaries, cores, extra)
    for path in publish(root, asked, notebooks) if status == 0 and reference else ():
        print(path.relative_to(root))
    return status


def in_usual_dtype(given: dict[str, Any]) -> Run:
    """Return the run with these parameters, in the dtype that suits its model's size unless one is given."""
    from emolib.engine.registry import usual_dtype
    from emolib.study.run import Run

    run = Run(**given)  # refuses what is unknown
    return run if "dtype" in given or run.remote else replace(run, dtype=usual_dtype(run.model))


def possible(notebooks: list[str], lacking: dict[str, str], what: str, root: Path) -> list[str]:
    """Return those of the notebooks that can be computed with `what`, a corpus or a model, after saying what the others
    are `lacking`.

    Raises ValueError when there is nothing to measure.
    """
    from emolib.book.run import measures

    lacking = {name: why for name, why in lacking.items() if why}
    if lacking and lacking.keys() >= {name for name in notebooks if measures(name, root)}:
        raise ValueError(f"nothing of this can be measured on {what}: {'; '.join(lacking.values())}")
    for name, why in lacking.items():
        print(f"Left out is {name}: {why}", flush=True)
    return [name for name in notebooks if name not in lacking]


def preflight_status(root: Path, asked: Run, extra: list[str]) -> int:
    """Return 0 when the run's model can be loaded, else the exit status after it was said why not."""
    from emolib.book.processes import status_of
    from emolib.book.run import write_parameters

    file = write_parameters(asked, root).relative_to(root)
    elsewhere = ["--elsewhere"] if any("profile" in part or "executor" in part for part in extra) else []
    return status_of([sys.executable, "-m", "emolib.book.preflight", str(file), *elsewhere], root)


def snakemake_status(root: Path, asked: Run, notebooks: list[str], cores: int | None, extra: list[str]) -> int:
    """Return the exit status of Snakemake on the notebooks of one run."""
    from emolib.book.processes import status_of
    from emolib.book.run import measures, result_of, write_parameters

    if cores is None and not any("profile" in part for part in extra):  # where jobs are sent away, it says how large
        cores = os.cpu_count() or 1
    command = [sys.executable, "-m", "snakemake", "--rerun-incomplete", "--keep-going"]
    command += ["--cores", str(cores), "--max-threads", str(cores)] if cores else []
    command += ["--nolock", "--quiet", "rules", "host", "reason"]  # the lock is one_at_a_time
    file = write_parameters(asked, root).relative_to(root)  # Snakemake is called there; above may be any name
    command += ["--configfile", file.as_posix(), "--config", f"only={','.join(notebooks)}"]
    measured = [name for name in notebooks if measures(name, root)]
    lost = [f"notebook_{name}" for name in measured if not result_of(name, asked.slug, root).is_file()]
    command += [*(["--forcerun", *lost] if lost else []), *extra]
    return status_of(command, root)


def book() -> int:
    """Render the book, with your runs in it, to _build/html."""
    root = checkout()  # first: where there is none, what a book needs may not be installed either
    from emolib.book.disk import require_folders
    from emolib.book.render import altered, build

    require_folders(root, ("_build", "book"))
    page, rendered = build(root)
    print(f"{'The book' if rendered else 'The book, unchanged'}: {page.as_uri()}")
    for name, reason in altered(root).items():
        print(f"The committed chapter {name} is {reason}: make reference", file=sys.stderr)
    failed = sorted(path.relative_to(root).as_posix() for path in (root / "runs").glob("*/*.failed.ipynb"))
    if failed:
        print(
            f"Not in it, or as they were before, because they failed (their pages say why): {', '.join(failed)}",
            file=sys.stderr,
        )
    return 0


def golden(
    only: Only = None,
    anew: Annotated[bool, typer.Option("--anew", help="measure from the weights, whatever is stored")] = False,
    update: Annotated[bool, typer.Option("--update", help="make what was measured the golden tables")] = False,
) -> int:
    """Compare the default run's tables with those committed; fails when numbers changed and no protocol did."""
    from emolib.book import golden

    return said(golden.golden(checkout(), only, anew=anew, update=update))


def verify(
    slug: Annotated[str, typer.Argument(metavar="RUN", help="a folder in results/")],
    cells: Annotated[int, typer.Option(min=1, help="of each table, at least")] = 100,
    only: Only = None,
) -> int:
    """Compute a random sample of a run's stored numbers anew from the weights, and compare."""
    from emolib.book.verify import verify

    return said(verify(checkout(), Path(slug).name, cells=cells, only=only))


def verdicts(slug: Annotated[str, typer.Argument(metavar="RUN", help="a folder in results/")]) -> int:
    """Write the verdicts on a run, with every check behind them, to one file that can be sent."""
    import json

    from emolib.book.run import stored_run
    from emolib.paper import claims

    root, name = checkout(), Path(slug).name
    stored_run(name, root)  # refuses a name without tables
    tables = claims.run_tables(root / "results" / name)
    path = root / "results" / "contributed" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(claims.document(tables), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.relative_to(root)}\n{claims.summary(tables)}")
    return 0


def answers(
    model: Annotated[str, typer.Option(help=HELP["model"])] = "smollm2-135m",
    dtype: Annotated[str | None, typer.Option(help="of a run")] = None,
    device: Annotated[str, typer.Option(help="of a run")] = "auto",
) -> int:
    """Compute what a model answers to each of our 520 events under many edits, for the page Ask the model yourself.

    Nearly half a million edits, a quarter of an hour on one core for the embedded model. What was interrupted goes on.
    """
    from emolib.book.answers import write
    from emolib.study.run import absolute
    from emolib.study.study import Study

    root = checkout()
    asked = in_usual_dtype(
        dict(model=absolute("model", model, root), device=device) | ({"dtype": dtype} if dtype else {})
    )
    path = write(Study(asked, folder=root), root)
    print(f"{path.relative_to(root)}: {path.stat().st_size / 1e6:.1f} MB; make book shows it")
    return 0


def said(found: Iterable[tuple[str, bool]]) -> int:
    """Return the exit status after printing each text as it comes: 0 when what it says is well every time."""
    well = True
    for text, one_well in found:
        print(text, flush=True)
        well &= one_well
    return int(not well)


def models() -> int:
    """List the models known by name, with what they need."""
    from emolib.book.doctor import models_table

    print(models_table())
    return 0


def fetch(
    what: Annotated[str, typer.Argument(metavar="NAME", help="crowd-envent, or a model: see `emolib models`")],
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="accept the terms of weights")] = False,
) -> int:
    """Download the corpus, or the weights of a model that needs no hub; what was interrupted is resumed."""
    from emolib.book.fetch import fetch

    def accept(terms: str) -> bool:
        ask = f"{what} comes under the terms at {terms}. Do you accept them?"
        return accept_licence or (sys.stdin.isatty() and typer.confirm(ask))

    print(fetch(what, accept=accept))
    return 0


def doctor(
    model: Annotated[str | None, typer.Argument(help="say all about this one instead: tokens, checks, answers")] = None,
    prompt: Annotated[str, typer.Option(help="of a run")] = "T1-2shot",
    dtype: Annotated[str | None, typer.Option(help="of a run")] = None,
    device: Annotated[str, typer.Option(help="of a run")] = "auto",
) -> int:
    """Say what is installed, what was found, which results are stale, and how to get what is missing; or, with a MODEL,
    what it makes of the prompt, how its answers are scored, and whether it passes the checks."""
    from emolib.book import doctor

    if model is None:
        return said(doctor.examine(Path.cwd()))
    from emolib.book.plan import plan
    from emolib.book.run import notebook_names

    options = dict(model=model, prompt=prompt, device=device) | ({"dtype": dtype} if dtype else {})
    asked, root = in_usual_dtype(options), Path.cwd()
    status = said(doctor.examine_model(asked))
    if names := notebook_names(root):
        said((line, True) for line in plan(asked, names, root))
    return status


def checkout() -> Path:
    """Return the folder of the repository: the current one or one above it, else where emolib is installed from.

    Raises FileNotFoundError when there is none, as with emolib installed from a wheel.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "Snakefile").is_file() and (folder / "_toc.yml").is_file():
            return folder
    raise FileNotFoundError(f"{here} is not in a checkout of the repository (no Snakefile): go there first")


if __name__ == "__main__":
    sys.exit(main())

"""Running the notebooks of a run: which there are, what they depend on, and papermill around one of them.

The Snakefile decides what is out of date and calls `python -m emolib.book.run PARAMETERS NOTEBOOK OUTPUT` for it.
Imports no model library.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pandas as pd

from emolib.book import colab, disk
from emolib.book.processes import held
from emolib.engine import places
from emolib.engine.choices import did_you_mean
from emolib.engine.places import replace_text
from emolib.engine.registry import EMBEDDED, registered_file
from emolib.study import freshness
from emolib.study.run import LADDER, Run
from emolib.tables import results
from emolib.tables.consistency import COUNTS, contradictions
from emolib.texts import sources

INJECTED = "injected-parameters"
INTERVENTION = "intervention"  # the tag of cells that edit a model before the reader's eyes
WIDGET = "application/vnd.jupyter.widget-view+json"  # needs Python behind the page: menus, and progress bars
SKIPPED = "skip-execution"  # the tag of cells that nbclient passes over
THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")]
RECORDS = "results/bench"  # of the benchmark
WHY = "emolib_failed"  # in a failed notebook's metadata: why it failed, for the page in its place
LEFT_OUT = (
    "left_out.json"  # beside a run's parameters: by notebook why it was not asked for, as the corpus has too little
)
UNABLE = "unable.json"  # beside a run's parameters: by experiment why its model does not allow it, once it was tried


def notebook_names(root: Path = Path()) -> list[str]:
    """Return the names of the notebooks, such as "05_probing", in the order of the book."""
    return sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))


def experiment_of(notebook: str) -> str:
    """Return the experiment's name in a notebook's: "05_probing" -> "probing"."""
    return notebook.partition("_")[2]


def measures(notebook: str, root: Path = Path()) -> bool:
    """Return whether a notebook has an experiment of its own; the others read what the experiments have stored."""
    return (root / "emolib" / "experiments" / experiment_of(notebook) / "measure.py").is_file()


def result_of(notebook: str, slug: str, root: Path = Path()) -> Path:
    """Return where a notebook that measures leaves its table, results/<slug>/probing.parquet."""
    return root / "results" / slug / f"{experiment_of(notebook)}.parquet"


def select_notebooks(only: str | Iterable[str] | None, root: Path = Path()) -> list[str]:
    """Return the notebooks asked for, all of them when `only` is None; several may be given, also comma-separated.

    Raises ValueError for a name that is not there.
    """
    names = notebook_names(root)
    if only is None:
        return names
    wanted = [part.strip() for part in (only.split(",") if isinstance(only, str) else only)]
    for name in wanted:
        if name not in names:
            raise ValueError(f"no notebook {name!r}{did_you_mean(name, names)}: choose from {', '.join(names)}")
    return wanted


def measuring(only: str | Iterable[str] | None = None, root: Path = Path()) -> list[str]:
    """Return those of the notebooks asked for (as in `select_notebooks`) that have an experiment of their own."""
    return [name for name in select_notebooks(only, root) if measures(name, root)]


def configured_runs(config: Mapping[str, Any]) -> list[Run]:
    """Return the validated runs of a Snakemake configuration: one run's fields, or `runs`, a list of such.

    Fields beside `runs` hold for each of them. Raises ValueError for a key that is no field of Run, and as Run does.
    """
    known = [field.name for field in fields(Run)]
    shared = {key: value for key, value in config.items() if key != "runs"}
    runs = [shared | values for values in config.get("runs") or [{}]]
    for key in {key for values in runs for key in values if key not in known}:
        raise ValueError(f"unknown parameter {key!r}{did_you_mean(key, known)}: choose from {', '.join(known)}")
    return [Run(**values) for values in runs]


def write_parameters(run: Run, root: Path = Path()) -> Path:
    """Return the file with the parameters of a run, runs/<slug>/run.json, written when it is new or different."""
    path = root / "runs" / run.slug / "run.json"
    text = json.dumps(asdict(run), indent=1, default=str) + "\n"
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    return path


def unable(run: Run, root: Path = Path()) -> dict[str, str]:
    """Return why each notebook that the run's model does not allow is so, by name, as far as the model was tried."""
    file = root / "runs" / run.slug / UNABLE
    known = json.loads(file.read_text()) if file.is_file() else {}
    return {name: known[experiment_of(name)] for name in notebook_names(root) if experiment_of(name) in known}


def keep_left_out(run: Run, notebooks: Iterable[str], reasons: Mapping[str, str], root: Path = Path()) -> None:
    """Return None after noting beside a run's parameters which of the notebooks asked for are left out, and why."""
    before = left_out(run.slug, root)
    now = {name: why for name, why in before.items() if name not in set(notebooks)}
    now |= {name: why for name, why in reasons.items() if why}
    if now != before:
        replace_text(write_parameters(run, root).with_name(LEFT_OUT), json.dumps(now))


def left_out(slug: str, root: Path = Path()) -> dict[str, str]:
    """Return why each notebook that was left out of a run was so, by name."""
    path = root / "runs" / slug / LEFT_OUT
    return json.loads(path.read_text()) if path.is_file() else {}


def page_sha256(run: Run, notebook: str, root: Path = Path()) -> str:
    """Return one hash over what a notebook of a run is drawn from: its cells, the key of its table, this library, the
    benchmark's records, and the committed tables that stand beside its own, of its experiment or, where it measures
    nothing, of all. Where only the drawing has changed, the stored table is read, and no model."""
    document = nbformat.read(root / "notebooks" / f"{notebook}.ipynb", as_version=4)
    cells = [[cell.cell_type, cell.source] for cell in document.cells if colab.TAG not in cell.metadata.get("tags", [])]
    key = freshness.key(run, experiment(notebook)) if measures(notebook, root) else None
    files = [path for path in (root / "emolib").rglob("*") if path.suffix != ".pyc"]
    table = f"{experiment_of(notebook) if key else '*'}.parquet"
    beside = [path for one in LADDER if one.slug != run.slug for path in (root / "results" / one.slug).glob(table)]
    return freshness.digest([cells, key, files_sha256(root, [*files, *(root / RECORDS).glob("*.json"), *beside])])


def files_sha256(root: Path, paths: Iterable[Path]) -> str:
    """Return one hash over the names and bytes of the files among `paths`, which are below `root`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in set(paths) if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def experiment(notebook: str) -> ModuleType:
    """Return the package of the experiment that a notebook is about."""
    return import_module(f"emolib.experiments.{experiment_of(notebook)}")


def stored_run(slug: str, root: Path = Path()) -> Run:
    """Return the run whose tables are in results/<slug>, from its run.json or, without one, from its tables.

    Raises ValueError when there are none, or when they are of files of which they do not say where they lie.
    """
    given = root / "runs" / slug / "run.json"
    tables = sorted((root / "results" / slug).glob("*.parquet"))
    if not tables:
        known = sorted({path.parent.name for path in (root / "results").glob("*/*.parquet")})
        raise ValueError(f"no tables in results/{slug}: choose from {', '.join(known)}")
    made = (
        json.loads(given.read_text()) if given.is_file() else results.read(tables[0]).attrs["provenance"]["parameters"]
    )
    try:
        run = Run(**made)
    except (ValueError, OSError):  # a file's place stands in no provenance, so what is left of it names nothing
        run = None
    if run is None or run.slug != slug:
        raise ValueError(f"the tables in results/{slug} do not say where their model or corpus lies, {given} would")
    return run


def why_stale(run: Run, notebook: str, table: pd.DataFrame) -> str | None:
    """Return why a notebook's table of a run is not what it would measure now, None when it is."""
    return freshness.why_stale(table.attrs["provenance"], freshness.key(run, experiment(notebook)))


def why_not_fresh(run: Run, notebook: str, root: Path = Path()) -> str | None:
    """Return why a notebook has no fresh table of a run, None when it has one."""
    found, reason = freshness.opened(result_of(notebook, run.slug, root))
    return reason if found is None else why_stale(run, notebook, found)


def stale_tables(run: Run, root: Path = Path()) -> dict[str, str]:
    """Return why each stored table of a run that is not fresh is so, by notebook."""
    found = {name: why_not_fresh(run, name, root) for name in measuring(None, root)}
    return {name: reason for name, reason in found.items() if reason and reason != freshness.MISSING}


def contradictory(slug: str, root: Path = Path()) -> dict[str, str]:
    """Return why each stored table of a run that says something else than the others does so, by notebook."""
    paths = {name: result_of(name, slug, root) for name in measuring(None, root)}
    tables = {name: freshness.opened(path)[0] for name, path in paths.items() if experiment_of(name) in COUNTS}
    found = contradictions({experiment_of(name): table for name, table in tables.items() if table is not None})
    return {name: found[experiment_of(name)] for name in tables if experiment_of(name) in found}


def side_by_side(run: Run) -> int:
    """Return how many notebooks of a run share a machine: a model fills it, but quick runs spend half their time
    starting and drawing."""
    return 1 if run.profile == "full" else 2


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Return None when the notebook's cell tagged "parameters" has exactly the given names.

    Raises ValueError otherwise: papermill alone would ignore a name the notebook does not have.
    """
    import papermill

    declared = set(papermill.inspect_notebook(str(notebook)))
    missing, unknown = sorted(set(parameters) - declared), sorted(declared - set(parameters))
    if missing or unknown:
        raise ValueError(
            f"the parameters cell of {notebook.name} must have the fields of emolib.study.run.Run: "
            f"missing {missing}, unknown {unknown}"
        )


def execute(parameters: Mapping[str, Any], notebook: Path, output: Path) -> None:
    """Return None after running a notebook with a run's parameters; `output` appears only when every cell ran.

    The working directory is the repository, and `output` is runs/<slug>/<notebook>.ipynb in it. The notebook is given
    public names; where the files behind them lie it finds in its environment. What was executed before an error is kept
    beside it as <name>.failed.ipynb. All of it reads one corpus file. Raises ValueError for parameters the notebook
    does not have, RuntimeError when a cell fails or no result is stored.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from emolib.book.kernel import OwnKernel

    check_parameters(notebook, parameters)
    run = Run(**parameters)
    places.tell(run.places)
    if run.corpus_path:  # the notebook is told where, without it standing there
        os.environ[sources.registry()["crowd-envent"]["environment"]] = run.corpus_path
    partial = output.with_suffix(".partial.ipynb")
    failed = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    # Settings of its own: the user's may run code of theirs, or not be writable.
    with tempfile.TemporaryDirectory() as settings, run.begun(freshness.corpus_sha256(run)):
        os.environ |= {"IPYTHONDIR": settings, "JUPYTER_RUNTIME_DIR": settings, places.UNATTENDED: "1"}
        try:
            nbformat.write(prepared(nbformat.read(notebook, as_version=4)), partial)
            papermill.execute_notebook(
                str(partial),
                str(partial),
                parameters=run.public,
                kernel_name="python3",
                kernel_manager_class=OwnKernel,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                extra_arguments=["--log-level=ERROR"],
            )
            result = result_of(notebook.stem, output.parent.name)
            if measures(notebook.stem) and not result.is_file():
                raise RuntimeError(
                    f"{notebook.name} ran, but did not store {result}: it must save its experiment's table"
                )
            document = with_earlier_outputs(nbformat.read(partial, as_version=4), notebook.stem)
            nbformat.write(cleaned(document), partial)
            os.replace(partial, output)
            failed.unlink(missing_ok=True)
        except (PapermillExecutionError, DeadKernelError) as error:
            died = "the kernel died, mostly for want of memory"
            reason = died if isinstance(error, DeadKernelError) else f"{error.ename}: {error.evalue}"
            reason += disk.hint(reason, Path())
            document = cleaned(nbformat.read(partial, as_version=4))
            document.metadata[WHY] = reason
            replace_text(failed, anonymous(nbformat.writes(document), run))
            raise RuntimeError(f"{notebook.name} failed: {reason}\nIts cells up to there: {failed}") from error
        finally:
            partial.unlink(missing_ok=True)


def prepared(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook as it is run here: where the embedded model is not installed, cells tagged "intervention",
    which need its weights, are passed over; all else in a chapter is drawn from its table."""
    if registered_file(EMBEDDED) is None:
        for cell in document.cells:
            if INTERVENTION in cell.metadata.get("tags", []):
                cell.metadata["tags"] = [*cell.metadata["tags"], SKIPPED]
    return document


def with_earlier_outputs(document: nbformat.NotebookNode, name: str, root: Path = Path()) -> nbformat.NotebookNode:
    """Return the executed notebook with the outputs that the committed chapter has for cells that were passed over.

    Raises RuntimeError where the chapter has no such cell, since its output would be missing.
    """
    chapter = root / "book" / "chapters" / f"{name}.ipynb"
    cells = nbformat.read(chapter, as_version=4).cells if chapter.is_file() else []
    known = {cell.source: cell.outputs for cell in cells if cell.cell_type == "code"}
    for cell in document.cells:
        if SKIPPED in cell.metadata.get("tags", []):
            if cell.source not in known:
                raise RuntimeError(
                    f"{name} intervenes on the embedded model, which is not here: emolib fetch smollm2-135m"
                )
            cell.metadata["tags"].remove(SKIPPED)
            cell.outputs = known[cell.source]
    return document


def cleaned(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the executed notebook without what belongs to the machine: timings, local paths, progress bars."""
    document = nbformat.from_dict(document)
    for key in ("papermill", "widgets"):
        document.metadata.pop(key, None)
    for cell in document.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if INJECTED in tags:
            cell.metadata["tags"] = [*tags, *({"hide-input"} - set(tags))]
        if cell.cell_type == "code":
            kept = [part for part in cell.outputs if part.get("name") != "stderr"]
            cell.outputs = [part for part in kept if WIDGET not in part.get("data", {})]
    return document


def anonymous(text: str, run: Run) -> str:
    """Return the text with the folders of this machine called by what they are."""
    known = {str(Path.cwd()): ".", sys.prefix: "(environment)", sys.base_prefix: "(python)", str(Path.home()): "~"}
    for folder, name in sorted((known | {path: name for name, path in run.places.items()}).items(), reverse=True):
        text = text.replace(folder, name)  # a folder before the one it lies in
    return text


def start(parameters: str, notebook: str, output: str, *, threads: int) -> None:
    """Return None after a process of its own has executed a notebook with so many threads. Raises RuntimeError when it
    did not.

    No shell comes between, so that no name is ever read as a command; Snakemake sets the threads of a shell alone, and
    two notebooks with all cores each would wait for one another.
    """
    command = [sys.executable, "-m", "emolib.book.run", parameters, notebook, output]
    limits = dict.fromkeys(THREADS, str(threads))
    if subprocess.run(command, pass_fds=held(), env=os.environ | limits).returncode:
        raise RuntimeError(f"{output} was not made, see above")


def main(arguments: list[str]) -> int:
    """Return the exit status of `python -m emolib.book.run PARAMETERS NOTEBOOK OUTPUT`."""
    parameters, notebook, output = map(Path, arguments)
    print(f"{notebook.stem}: {parameters.parent.name}", file=sys.stderr, flush=True)
    try:
        execute(json.loads(parameters.read_text()), notebook, output)
    except (ValueError, RuntimeError) as error:
        print(f"emolib: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"emolib: {output} could not be made ({error}){disk.hint(str(error), Path())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

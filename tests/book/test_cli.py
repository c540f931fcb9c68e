"""The command line, make's side of it, the Snakefile's idea of what is stale, and papermill around one notebook."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from checkout import KERNEL, made_up_checkout, parameters_cell, write_notebook
from emolib import cli
from emolib.book import processes
from emolib.book.processes import one_at_a_time
from emolib.book.run import (
    WHY,
    check_parameters,
    cleaned,
    configured_runs,
    execute,
    measures,
    page_sha256,
    select_notebooks,
)
from emolib.engine.places import UNATTENDED
from emolib.study.run import LADDER, REFERENCE, Run
from helpers import ROOT, tiny_table
from ndif import Ndif, serving

FIELDS = [field.name for field in fields(Run)]


def calling(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    # As somebody calls it, not as a part of the make that these tests may run under.
    outer = {"MAKEFLAGS", "MAKELEVEL"}
    settings = {name: value for name, value in os.environ.items() if name not in outer} | environment
    return subprocess.run(arguments, cwd=cwd, env=settings, capture_output=True, text=True)


@pytest.fixture
def never_computes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The calls that would have started Snakemake."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(cli, "preflight_status", lambda *arguments: 0)
    monkeypatch.setattr(cli, "snakemake_status", lambda *arguments: calls.append(arguments) or 0)
    monkeypatch.chdir(ROOT)
    return calls


def test_help_needs_less_than_a_second_and_no_heavy_library() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = calling(sys.executable, "-m", "emolib.cli", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0 and all(word in shown.stdout for word in ("run", "book", "models", "fetch", "doctor"))
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    heavy = "{'torch', 'transformers', 'nnsight', 'pandas'}"
    code = f"import sys, emolib.cli; emolib.cli.app('', []); print(sorted({heavy} & set(sys.modules)))"
    assert calling(sys.executable, "-c", code).stdout.strip() == "[]"


def test_options_are_the_fields_of_run_with_its_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cli.HELP) and set(cli.HELP) == set(FIELDS)
    assert cli.main(["run", "--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for field in fields(Run):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert field.default is None or f"(default: {cli.USUAL.get(field.name, field.default)})" in shown


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--profile", "fulll", "full"),
        ("--model", "smolm2-135m", "smollm2-135m"),
        ("--corpus", "situation", "situations"),
        ("--prompt", "T1-3shots", "T1-3shot"),
        ("--scoring", "last_token", "last_subtoken"),
        ("--text", "unmasked", "masked"),
        ("--tap", "modul", "module"),
        ("--calibration", "batched", "batch"),
        ("--dtype", "float23", "float32"),
        ("--device", "cudaa", "cuda"),
        ("--only", "05_probin", "05_probing"),
    ],
)
def test_a_typo_is_refused_with_what_was_meant_before_anything_runs(
    option: str, value: str, hint: str, never_computes: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", option, value]) == 2
    message = capsys.readouterr().err
    assert value in message and hint in message
    assert never_computes == []


def test_an_option_nobody_knows_is_an_error_and_not_an_abbreviation(capsys: pytest.CaptureFixture[str]) -> None:
    for given, hint in (("--prof", "--profile"), ("--modle=x", "--model"), ("--hue", "")):
        assert cli.main(["run", given]) == 2
        message = capsys.readouterr().err
        assert f"No such option: {given.partition('=')[0]}" in message and hint in message
    assert cli.main(["book", "--quick"]) == 2
    assert "No such option: --quick" in capsys.readouterr().err
    assert cli.main(["bok"]) == 2
    assert "Did you mean 'book'" in capsys.readouterr().err
    assert cli.main(["run", "05_probing"]) == 2  # no argument, which would be lost on the way to Snakemake
    assert cli.main([]) == 0


def test_what_is_no_value_is_refused_before_anything_runs(
    never_computes: list[object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = (
        ["--model", ""],
        ["--model", "nope/"],
        ["--cores", "0"],
        ["--cores", "-3"],
        ["--reference", "--corpus-path", str(tmp_path)],
    )
    for arguments in given:
        assert cli.main(["run", *arguments]) == 2
        message = capsys.readouterr().err
        assert (repr(arguments[1]) if "model" in arguments[0] else arguments[0].removeprefix("--")) in message or (
            "would show where the corpus lies" in message
        )
    assert never_computes == []


def test_after_a_failure_what_sums_up_is_still_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def fail(_root: Path, _run: Run, notebooks: list[str], _cores: int, _extra: list[str]) -> int:
        asked.append(notebooks)
        return 1 if len(asked) == 1 else 0

    monkeypatch.setattr(cli, "preflight_status", lambda *arguments: 0)
    monkeypatch.setattr(cli, "snakemake_status", fail)
    assert cli.main(["run"]) == 1
    assert "11_claims" in asked[1] and set(asked[1]) < set(asked[0]) and "05_probing" not in asked[1]
    asked.clear()
    assert cli.main(["run", "--only", "05_probing"]) == 1
    assert len(asked) == 1


def test_a_book_that_lacks_a_notebook_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "checkout", lambda: tmp_path)
    monkeypatch.setattr("emolib.book.render.build", lambda root: (root / "index.html", True))
    assert cli.main(["book"]) == 0
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "05_probing.failed.ipynb").touch()
    assert cli.main(["book"]) == 0, "of some earlier run: whether one failed now is what emolib run says"
    assert "runs/mine/05_probing.failed.ipynb" in capsys.readouterr().err


def test_before_a_long_run_there_is_a_book_to_read_once_it_is_known_that_it_can_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order in which it happens: the model is looked at, the book rendered, the notebooks run."""
    for name in ("notebooks", "emolib"):
        (tmp_path / name).symlink_to(ROOT / name)
    done: list[str] = []
    refused = 3

    def rendered(root: Path) -> tuple[Path, bool]:
        (page := root / "_build" / "html" / "index.html").parent.mkdir(parents=True)
        page.touch()
        done.append("book")
        return page, True

    monkeypatch.setattr(cli, "checkout", lambda: tmp_path)
    monkeypatch.setattr(cli, "preflight_status", lambda *arguments: done.append("model") or refused)
    monkeypatch.setattr(cli, "snakemake_status", lambda *arguments: done.append("notebooks") or 0)
    monkeypatch.setattr("emolib.book.render.build", rendered)
    assert cli.main(["run", "--show"]) == 3 and done == ["model"]
    refused = 0
    for arguments, expected in ([], []), (["--show"], ["book"]), (["--show"], []):
        done.clear()
        assert cli.main(["run", *arguments]) == 0
        assert done == ["model", *expected, "notebooks"]
    assert "The book: file://" in capsys.readouterr().out


def test_valid_options_reach_snakemake_as_one_run(
    never_computes: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--seed", "3", "--only", "05_probing", "--cores", "2", "--", "--jobs", "9"]) == 0
    assert never_computes == [(ROOT, Run(seed=3), ["05_probing"], 2, ["--jobs", "9"])]
    assert "situations: utf-8, 520 rows\n" in capsys.readouterr().out


def test_a_corpus_named_from_another_folder_is_the_one_there(
    never_computes: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    cases = ROOT / "tests" / "texts" / "cases"
    (tmp_path / "data" / "mine.cp1251.csv").write_bytes((cases / "excel_cp1251.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--corpus", "data/mine.cp1251.csv", "--only", "B_ablation"]) == 0
    ((root, asked, *_),) = never_computes
    assert (root, Path(asked.corpus)) == (ROOT, tmp_path / "data" / "mine.cp1251.csv")
    monkeypatch.chdir(ROOT)  # where the notebooks run
    assert asked.load_corpus().events["text"][0].startswith("Когда")


def test_what_a_corpus_does_not_allow_is_left_out_or_refused_before_anything_starts(
    never_computes: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[object, ...]] = []
    monkeypatch.setattr("emolib.book.run.keep_left_out", lambda run, *given: kept.append(given))
    cases = ROOT / "tests" / "texts" / "cases"
    for name, lack in {"one_text": r"50 texts \(here 1\)", "one_writer": r"5 writers \(here 1\)"}.items():
        assert cli.main(["run", "--corpus", str(cases / f"{name}.csv")]) == 2
        found = capsys.readouterr().err
        assert re.search(rf"nothing of this can be measured on {name}: .*probing needs {lack}", found)
    assert cli.main(["run", "--corpus", str(cases / "one_emotion.csv"), "--only", "05_probing"]) == 2
    assert never_computes == []
    assert cli.main(["run", "--corpus", str(cases / "one_emotion.csv"), "--only", "05_probing,B_ablation"]) == 0
    assert "Left out is 05_probing: probing needs 2 emotions of 25 or more texts (here 1)" in capsys.readouterr().out
    ((_, _, notebooks, *_),) = never_computes
    assert notebooks == ["B_ablation"]
    ((asked, reasons, _),) = kept
    assert asked == ["05_probing", "B_ablation"] and not reasons["B_ablation"]
    assert reasons["05_probing"] == "probing needs 2 emotions of 25 or more texts (here 1)"


@pytest.mark.parametrize(
    ("cores", "extra", "expected"),
    [(None, [], os.cpu_count()), (3, [], 3), (None, ["--profile", "profiles/slurm"], None), (3, ["--profile=x"], 3)],
)
def test_jobs_that_are_sent_away_do_not_take_their_size_from_this_machine(
    monkeypatch: pytest.MonkeyPatch, tree: Path, cores: int | None, extra: list[str], expected: int | None
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(processes, "status_of", lambda command, cwd: commands.append(command) or 0)
    assert cli.snakemake_status(tree, Run(), ["01_first"], cores, extra) == 0
    (command,) = commands
    given = dict(pairwise(command))
    assert (given.get("--cores"), given.get("--max-threads")) == ((str(expected),) * 2 if expected else (None, None))
    assert command[len(command) - len(extra) :] == extra


def test_the_profile_for_slurm_asks_for_what_a_notebook_needs(tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    assert settings.pop("executor") == "slurm" and settings.pop("slurm-status-command") == "squeue"  # need the plugin
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    profile = ["--profile", str(tmp_path), "--config", "device=cuda", "profile=full"]
    dry = calling(sys.executable, "-m", "snakemake", "-n", "--forceall", *profile)
    assert dry.returncode == 0, dry.stderr
    shown = re.findall(r"^rule notebook_(\w+):.*?threads: (\d+).*?resources: ([^\n]*)", dry.stdout, re.S | re.M)
    asked = {name: (threads, dict(part.split("=") for part in text.split(", "))) for name, threads, text in shown}
    assert set(asked) == set(select_notebooks(None, ROOT))
    assert {(threads, wants["gpu"]) for threads, wants in asked.values()} == {("8", "1")}
    wants = {name: (int(found["mem_mb"]), int(found["runtime"])) for name, (_, found) in asked.items()}
    assert wants["03_behaviour"] == (48000, 480) and wants["B_ablation"] == (64000, 1440)
    assert all((mb < 48000) == (not measures(name, ROOT)) for name, (mb, _) in wants.items())


def test_a_run_elsewhere_is_asked_for_by_one_option_and_refused_where_it_cannot_be(
    never_computes: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnsight.schema.config import CONFIG

    hub = "HuggingFaceTB/SmolLM2-135M"
    given = ["run", "--model", hub, "--only", "05_probing"]
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    assert cli.main([*given, "--remote"]) == cli.main([*given, "--device", "ndif"]) == 2
    assert capsys.readouterr().err.count("emolib: NDIF wants a key") == 2
    assert cli.main([*given, "--remote", "--device", "cpu"]) == 2
    assert "device 'cpu' and --remote: give one of them" in capsys.readouterr().err
    monkeypatch.setattr(CONFIG.API, "APIKEY", "a key")
    with serving(Ndif(None, hub)) as service:
        monkeypatch.setattr(CONFIG.API, "HOST", service.address)
        service.state = "DEPLOYING"
        assert cli.main([*given, "--remote"]) == 1
        assert f"NDIF does not have {hub} running now" in capsys.readouterr().err
        assert never_computes == []
        service.state = "RUNNING"
        assert cli.main([*given, "--remote"]) == 0
    assert [call[1] for call in never_computes] == [Run(model=hub, device="ndif")]


def test_the_reference_run_is_only_computed_on_request(never_computes: list[object], capsys) -> None:
    given = ["run", "--model", REFERENCE.model, "--corpus", REFERENCE.corpus, "--profile", REFERENCE.profile]
    assert cli.main(given) == 0
    assert never_computes == [] and "make reference" in capsys.readouterr().out
    assert cli.main(["run", "--reference", "--seed", "1"]) == 2
    assert never_computes == [] and REFERENCE.slug in capsys.readouterr().err


def test_outside_a_checkout_commands_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "emolib" / "cli.py"))
    with pytest.raises(FileNotFoundError, match="not in a checkout"):
        cli.checkout()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("Snakefile", "_toc.yml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert cli.checkout() == tmp_path


def test_two_runs_in_one_folder_are_refused_and_a_finished_one_is_not(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path), pytest.raises(RuntimeError, match="another run"), one_at_a_time(tmp_path):
        pass
    with one_at_a_time(tmp_path):
        pass


def test_doctor_and_models_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    assert "meta-llama/Llama-3.2-1B-Instruct" in capsys.readouterr().out
    assert cli.main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "torch 2." in report and "smollm2-135m: " in report and "cores" in report


# make


def makefile_parameters() -> list[str]:
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("PARAMETERS :=")]
    return line.split()[2:]


def test_make_knows_the_fields_of_run() -> None:
    assert [name.lower() for name in makefile_parameters()] == FIELDS


def test_make_clean_and_git_keep_the_reference_results(tmp_path: Path) -> None:
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    for slug in (REFERENCE.slug, Run().slug):
        (tmp_path / "results" / slug).mkdir(parents=True)
    assert calling("make", "clean", cwd=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == [REFERENCE.slug]


NASTY = 'it\'s $(touch PWNED) `touch PWNED` & touch PWNED | ;{x} "q" $$a$b ${HOME} #%n\\n'


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with this Makefile, and programs that say how they were called in place of the real ones."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("pyproject.toml", "requirements.lock", ".venv/.installed"):
        (tmp_path / name).touch()
    (programs / "emolib").write_text(
        '#!/bin/sh\nprintf \'%s\\n\' "$@" "<$EMOLIB_REPOSITORY>"; env | grep ^MODEL= && exit 3\nexit 0\n'
    )
    (programs / "emolib").chmod(0o755)
    return tmp_path


def test_make_passes_on_what_is_given_and_nothing_from_the_environment(made: Path) -> None:
    given = calling("make", "run", "MODEL=it's/a model", "SEED=3", "ONLY=05", cwd=made, DEVICE="cuda", PROMPT="%n$ ")
    assert given.stdout.splitlines() == ["run", "--model", "it's/a model", "--seed", "3", "--only", "05", "<>"]


def test_make_takes_any_name_as_text(made: Path) -> None:
    names = [name for name in makefile_parameters() if name != "CORES"] + ["ONLY"]
    for nasty in (NASTY, "$(shell touch PWNED)", "$(error no)", "$(MODEL)", "-rf", "*"):
        done = calling("make", "run", *(f"{name}={nasty}" for name in names), cwd=made)
        assert done.returncode == 0, done.stderr
        flags = [f"--{name.lower().replace('_', '-')}" for name in names]
        assert done.stdout.splitlines() == ["run", *(word for flag in flags for word in (flag, nasty)), "<>"]
        book = calling("make", "book", f"REPOSITORY={nasty}", cwd=made)
        assert book.stdout.splitlines() == ["run", "--show", f"<{nasty}>", "book", f"<{nasty}>", "golden", "<>"]
    for name in (*names, "REPOSITORY", "PYTHON", "VENV"):
        done = calling("make", "-i", "run", f"{name}=x'\ntouch PWNED\n'", cwd=made)
        assert done.returncode == 2 and f"{name} has more than one line" in done.stderr and done.stdout == ""
    for place in ("$(shell touch PWNED)", "a b", "x;touch PWNED"):
        done = calling("make", "setup", f"VENV={place}", cwd=made)
        assert done.returncode == 2 and "give a folder of letters" in done.stderr
    done = calling("make", "setup", "VENV=v", f"PYTHON={NASTY}", cwd=made)
    assert done.returncode == 2 and f"under the name {NASTY}: install one" in done.stderr
    assert not [path.name for path in made.rglob("*") if path.name == "PWNED"]


def test_make_refuses_a_variable_it_does_not_know() -> None:
    refused = calling("make", "-n", "book", "MODLE=x")
    assert refused.returncode == 2 and "MODLE" in refused.stderr and "MODEL" in refused.stderr
    spaced = calling("make", "-n", "book", "CORPUS_PATH=/a b=c/d.csv")
    assert spaced.returncode == 0 and "--corpus-path '/a b=c/d.csv'" in spaced.stdout


def test_make_refuses_an_unsuitable_python_before_it_creates_anything(tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), "no-such-python"):
        refused = calling("make", "setup", f"VENV={tmp_path}/venv", f"PYTHON={python}")
        assert refused.returncode and "no Python 3.11" in refused.stderr and python in refused.stderr
    assert not (tmp_path / "venv").exists()


# the notebooks of a run


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up checkout, in which no model is tried."""
    made_up_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "preflight_status", lambda *arguments: 0)
    return tmp_path


def stale(*arguments: str) -> set[str]:
    """The notebooks Snakemake would run in the current folder."""
    shown = calling(sys.executable, "-m", "snakemake", "-n", "--cores", "1", *arguments, cwd=Path.cwd())
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"^notebook_(\w+) ", shown.stdout + shown.stderr, re.MULTILINE))


def test_only_what_changed_is_computed_again(tree: Path) -> None:
    slug = Run().slug
    assert cli.main(["run", "--cores", "1"]) == 0
    outputs = {path.name for path in (tree / "runs" / slug).iterdir()}
    assert outputs == {".made", "01_first.ipynb", "02_second.ipynb", "run.json"}
    assert {path.name for path in (tree / "results" / slug).iterdir()} == {"first.parquet", "second.parquet"}
    (tree / "emolib" / "experiments" / "second" / "__init__.py").touch()
    (tree / "notebooks" / "02_second.ipynb").touch()
    assert stale("--config", "device=cpu") == set(), "neither a new date alone, as after git checkout, nor the device"
    done = (tree / "runs" / slug / "02_second.ipynb").stat().st_mtime_ns
    first = (tree / "runs" / slug / "01_first.ipynb").read_text()
    write_notebook(tree, "01_first", last="1 / 0")
    assert cli.main(["run", "--cores", "1"]) != 0
    left = {path.name for path in (tree / "runs" / slug).iterdir()}
    assert left == outputs | {"01_first.failed.ipynb"}
    assert (tree / "runs" / slug / "01_first.ipynb").read_text() == first, "what was made before is kept"
    assert (tree / "results" / slug / "first.parquet").read_text() == "measured", "its measurements are kept"
    assert (tree / "runs" / slug / "02_second.ipynb").stat().st_mtime_ns == done, "what did not change is not run"
    assert stale() == {"01_first"}, "what failed is computed again, what did not is not"
    (tree / "results" / slug / "second.parquet").unlink()
    assert cli.main(["run", "--only", "02_second", "--cores", "1"]) == 0
    assert (tree / "results" / slug / "second.parquet").is_file(), "a deleted result is computed again"
    (tree / "runs" / slug / "02_second.ipynb").unlink()
    assert stale() == {"01_first", "02_second"}, "what was deleted is made again"


def test_a_name_is_never_a_command_and_its_file_is_the_one_that_is_read(tree: Path) -> None:
    folder = tree / NASTY.replace("/", "-")
    folder.mkdir()
    corpus, prompt = folder / f"{NASTY}.csv", folder / f"{NASTY}.yml"
    tiny_table(20).to_csv(corpus, index=False)
    prompt.write_text("instruction: everyone laughed")
    write_notebook(tree, "01_first", last="print(run.load_corpus().sha256, run.load_prompt().instruction)")
    given = ["--corpus", str(corpus), "--prompt", str(prompt), "--only", "01_first", "--cores", "1"]
    assert cli.main(["run", *given]) == 0
    assert [path for path in tree.rglob("*") if path.name.startswith("PWNED")] == []
    run = Run(corpus=str(corpus), prompt=str(prompt))
    text = (tree / "runs" / run.slug / "01_first.ipynb").read_text()
    assert f"{hashlib.sha256(corpus.read_bytes()).hexdigest()} everyone laughed" in text
    assert "touch PWNED" not in text
    written = [path for name in ("runs", "results", "cache") for path in (tree / name).rglob("*") if path.is_file()]
    for path in written:  # run.json alone says where a run's files lie, so that it can be made again
        assert (str(tree) in path.read_text(errors="ignore")) == (path.name == "run.json"), path
    assert run.public["corpus"] in text and run.public["prompt"] in text


def test_a_committed_result_makes_nothing_stale_and_a_run_is_refused_by_name(tree: Path) -> None:
    (tree / "results" / REFERENCE.slug).mkdir(parents=True)
    (tree / "results" / REFERENCE.slug / "first.parquet").write_text("committed")
    assert stale("--config", "only=01_first") == {"01_first"}, "the default run, not the reference"
    assert not (tree / "runs" / REFERENCE.slug).exists()
    wrong = calling(sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", "profil=full", cwd=tree)
    assert wrong.returncode and "did you mean 'profile'" in wrong.stdout + wrong.stderr


def test_a_page_is_made_from_cells_code_records_and_what_decides_its_table(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = SimpleNamespace(__name__="emolib.experiments.first", PROTOCOL=1)
    monkeypatch.setattr("emolib.book.run.experiment", lambda notebook: experiment)
    own = tree / "mine.yml"
    own.write_text("instruction: everyone laughed\n")
    found = [page_sha256(Run(prompt=str(own)), "01_first", tree)]

    def changed() -> bool:
        found.append(page_sha256(Run(prompt=str(own)), "01_first", tree))
        return found[-1] != found[-2]

    assert not changed()
    (tree / "emolib" / "figures" / "new.py").write_text("# may draw something else\n")
    assert changed()
    experiment.PROTOCOL = 2
    assert changed()
    own.write_text("instruction: everyone laughed twice\n")
    assert changed()
    (tree / "results" / "bench").mkdir(parents=True)
    (tree / "results" / "bench" / "growth.json").write_text("{}")
    assert changed()
    for name, shown in {"first": True, "second": False}.items():  # what the chapter sets beside its own table
        (tree / "results" / LADDER[1].slug).mkdir(exist_ok=True)
        (tree / "results" / LADDER[1].slug / f"{name}.parquet").write_text("another model's")
        assert changed() == shown
    document = nbformat.read(tree / "notebooks" / "01_first.ipynb", as_version=4)
    document.cells.append(new_code_cell("repository = 'of Colab'", metadata={"tags": ["colab"]}))
    nbformat.write(document, tree / "notebooks" / "01_first.ipynb")
    assert not changed()
    document.cells[-1].metadata["tags"] = []
    nbformat.write(document, tree / "notebooks" / "01_first.ipynb")
    assert changed()


def test_an_executed_notebook_holds_nothing_of_the_machine_and_of_the_user(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "kernels" / "python3").mkdir(parents=True)
    other = {"argv": ["false"], "display_name": "another", "language": "python"}
    (theirs / "kernels" / "python3" / "kernel.json").write_text(json.dumps(other))
    (theirs / "profile_default" / "startup").mkdir(parents=True)
    (theirs / "profile_default" / "startup" / "00.py").write_text("print('code of the user')")
    monkeypatch.setenv("JUPYTER_PATH", str(theirs))
    monkeypatch.setenv("IPYTHONDIR", str(theirs))
    for name in ("HF_TOKEN", "NDIF_API_KEY", "USER", "HOSTNAME"):
        monkeypatch.setenv(name, f"planted {name}")
    (theirs / "somewhere").mkdir()
    (corpus := theirs / "somewhere" / "texts.csv").write_text("a corpus")
    given = dict(seed=5, corpus=str(corpus))
    output = tree / "runs" / Run(**given).slug / "01_first.ipynb"
    values = {field.name: field.default for field in fields(Run)} | given
    execute(values, tree / "notebooks" / "01_first.ipynb", output)
    document = nbformat.read(output, as_version=4)
    (printed,) = [part for cell in document.cells for part in cell.get("outputs", [])]
    assert printed["text"] == "shown 5\n"
    assert "papermill" not in document.metadata and not any("papermill" in cell.metadata for cell in document.cells)
    assert os.environ[UNATTENDED], "who draws it for the book says so"
    assert str(tree) not in output.read_text() and "somewhere" not in output.read_text()
    assert "planted" not in output.read_text()
    assert [path.name for path in output.parent.iterdir()] == ["01_first.ipynb"]


def test_what_needs_python_behind_the_page_is_not_kept() -> None:
    outputs = [
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "reading: 0%"}),
        new_output("display_data", data={"text/plain": "kept"}),
        new_output("stream", name="stderr", text="1.0 s"),
    ]
    document = new_notebook(cells=[new_code_cell("1", outputs=outputs)], metadata=KERNEL | {"widgets": {"state": {}}})
    found = cleaned(document)
    assert found.cells[0].outputs == [outputs[1]] and "widgets" not in found.metadata


def test_parameters_that_differ_from_run_are_refused(tmp_path: Path) -> None:
    def notebook(source: str) -> Path:
        cell = new_code_cell(source, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[cell], metadata=KERNEL), tmp_path / "n.ipynb")
        return tmp_path / "n.ipynb"

    values = {field.name: field.default for field in fields(Run)}
    check_parameters(notebook(parameters_cell()), values)
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['layers'\]"):
        execute(values, notebook(parameters_cell(layers=3)), tmp_path / "out" / "n.ipynb")
    with pytest.raises(ValueError, match=r"missing \['seed'\], unknown \['sead'\]"):
        check_parameters(notebook(parameters_cell().replace("seed", "sead")), values)


def test_a_failing_notebook_leaves_only_what_says_so(tree: Path) -> None:
    output = tree / "runs" / Run().slug / "01_first.ipynb"
    output.parent.mkdir(parents=True)
    source = write_notebook(tree, "01_first", last="raise ArithmeticError('planted', str(Path.cwd()), sys.prefix)")
    values = {field.name: field.default for field in fields(Run)}
    with pytest.raises(RuntimeError, match="ArithmeticError: .'planted'"):
        execute(values, source, output)
    assert [path.name for path in output.parent.iterdir()] == ["01_first.failed.ipynb"]
    failed = (output.parent / "01_first.failed.ipynb").read_text()
    assert "planted" in failed and str(tree) not in failed and sys.prefix not in failed
    assert nbformat.reads(failed, as_version=4).metadata[WHY] == "ArithmeticError: ('planted', '.', '(environment)')"
    with pytest.raises(RuntimeError, match="did not store"):
        execute(values, write_notebook(tree, "02_second", last="(folder / 'second.parquet').unlink()"), output)
    execute(values, write_notebook(tree, "01_first"), output)
    assert [path.name for path in output.parent.iterdir()] == ["01_first.ipynb"], "what failed is forgotten"


def test_configuration_is_one_run_or_a_list(tree: Path) -> None:
    assert configured_runs({}) == [Run()]
    assert configured_runs({"seed": 2}) == [Run(seed=2)]
    assert configured_runs({"runs": [{"seed": 1}, {"seed": 2}]}) == [Run(seed=1), Run(seed=2)]
    assert configured_runs({"runs": [{"seed": 1}, {}], "seed": 2}) == [Run(seed=1), Run(seed=2)]
    with pytest.raises(ValueError, match="did you mean 'profile'"):
        configured_runs({"runs": [{"seed": 1}], "profil": "full"})
    assert select_notebooks(None, tree) == ["01_first", "02_second"]
    assert select_notebooks("02_second, 01_first", tree) == ["02_second", "01_first"]
    with pytest.raises(ValueError, match="did you mean '01_first'"):
        select_notebooks("1_first", tree)

"""What comes from a user or out of a vocabulary is text wherever it goes; what cannot be done is said at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from checkout import made_up_checkout, write_notebook
from emolib import cli
from emolib.book import disk, preflight, processes
from emolib.engine.places import replace_text
from emolib.engine.tiny import tiny_model
from emolib.experiments.attention.views import top_tokens
from emolib.experiments.behaviour.views import free_words
from emolib.study.run import Run
from emolib.tables.results import tidy
from helpers import tiny_table, word_tokenizer

SCRIPT = "<script>alert('x')</script>&"
SHOWN = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;"


def test_words_and_tokens_of_a_model_are_shown_and_not_run() -> None:
    about = dict(model="m", prompt="p", seed=0, ci_low=float("nan"), ci_high=float("nan"))
    words = [dict(metric="word_count", label=word, value=2, n=5) for word in (SCRIPT, "joy", "others")]
    found = free_words(tidy(words, "behaviour", n_layers=2, **about))
    assert {SHOWN, "joy"} < set(found["word"]) and "fear" in set(found["word"]), "the paper's words, too"
    page = found.style.hide().to_html()
    assert SHOWN in page and "<script" not in page
    tokens = [dict(metric="top1_count", part="cue", token=token, value=2, n=5, layer=1) for token in (SCRIPT, "joy")]
    found = top_tokens(tidy(tokens, "attention", n_layers=2, **about), 5)
    assert set(found["token"]) == {SHOWN, "joy"} and "<script" not in found.style.to_html()


@pytest.mark.parametrize("name", disk.FOLDERS)
def test_a_folder_that_cannot_be_written_or_is_full_is_named_with_what_it_is_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purpose, least = disk.FOLDERS[name]
    disk.require_folders(tmp_path, [name])
    assert list((tmp_path / name).iterdir()) == []
    (tmp_path / name).rmdir()
    (tmp_path / name).touch()  # no mode or mount is needed for it not to be a folder
    with pytest.raises(OSError, match=rf"{tmp_path / name} cannot be written to \(File exists\): it is for {purpose}"):
        disk.require_folders(tmp_path, [name])
    (tmp_path / name).unlink()
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(0, 0, least - 1))
    with pytest.raises(
        OSError, match=rf"{tmp_path / name} has \d+ MB free and needs about {disk.size(least)}: it holds"
    ):
        disk.require_folders(tmp_path, [name])
    (tmp_path / name / "held").write_bytes(b"x")  # what is there already need not fit again
    disk.require_folders(tmp_path, [name])
    with pytest.raises(OSError, match="needs about 7.0 GB"):
        disk.require_space(tmp_path, name, 7e9)


Usage = namedtuple("Usage", ["total", "used", "free"])


def test_only_a_failure_of_the_disk_says_what_is_free(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    said = disk.hint("SafetensorError: I/O error: No space left on device (os error 28)", tmp_path)
    assert "cache " in said and "results" not in said
    assert disk.hint("ValueError: too few texts", tmp_path) == ""


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text("a good one")
    path.chmod(0o640)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from pathlib import Path; from emolib.engine.places import replace_text\n"
        "replace_text(Path(sys.argv[1]), 'x' * 2000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert path.read_text() == "a good one" and [one.name for one in tmp_path.iterdir()] == ["notebook.ipynb"]
    replace_text(path, "another\r\n")
    assert path.read_bytes() == b"another\r\n" and path.stat().st_mode & 0o777 == 0o640


def test_what_is_kept_for_others_can_be_read_by_them(tmp_path: Path) -> None:
    import torch

    from emolib.study.shards import Shard

    before = os.umask(0o027)
    try:
        Shard(tmp_path / "one.safetensors", lambda: {"a": torch.zeros(1)}).keep()
        replace_text(tmp_path / "two.json", "{}")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up checkout in which nothing is computed, seen from a folder in it."""
    made_up_checkout(tmp_path)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    return tmp_path


def test_a_path_is_meant_from_where_the_command_is_given(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Run] = []
    monkeypatch.setattr(cli, "preflight_status", lambda *arguments: 0)
    monkeypatch.setattr(cli, "snakemake_status", lambda root, run, *arguments: asked.append(run) or 0)
    for folder, n in ((tree, 40), (tree / "sub", 20)):
        tiny_table(n).to_csv(folder / "texts.csv", index=False)
        (folder / "mine.yml").write_text(f"instruction: of {n}")
        (folder / "model").mkdir()
    given = ["--corpus", "texts.csv", "--prompt", "./mine.yml", "--model", "model@random:1"]
    assert cli.main(["run", *given]) == 0
    (run,) = asked
    assert run.model == f"{tree}/sub/model@random:1" and run.corpus == f"{tree}/sub/texts.csv"
    monkeypatch.chdir(tree)  # as Snakemake, executors and kernels do
    assert len(run.load_corpus().events) == 20 and run.load_prompt().instruction == "of 20"
    monkeypatch.chdir(tree / "sub")
    (tree / "owner" / "name").mkdir(parents=True)  # where a name of the hub would be taken for a folder
    assert cli.main(["run", "--model", "owner/name"]) == 2
    assert f"model 'owner/name' is no folder here and one in {tree}" in capsys.readouterr().err
    assert len(asked) == 1


def test_a_model_that_cannot_be_had_stops_the_run_before_it_begins(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: object) -> int:
        raise AssertionError("Snakemake was called")

    def here(command: list[str], root: Path) -> int:
        monkeypatch.chdir(root)
        assert command[:3] == [sys.executable, "-m", "emolib.book.preflight"]
        return preflight.main(command[3:])

    monkeypatch.setattr(cli, "snakemake_status", never)
    monkeypatch.setattr(processes, "status_of", here)
    (tree / "bert").mkdir()
    (tree / "bert" / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    assert cli.main(["run", "--model", "../bert"]) == 2
    assert "emolib serves models that continue their prompt" in capfd.readouterr().err


def test_what_a_model_does_not_allow_is_left_out_and_said(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A state space has no attention to look at: the other notebooks are computed, and nothing has failed."""
    asked: list[list[str]] = []

    def here(command: list[str], root: Path) -> int:
        if "emolib.book.preflight" in command:
            monkeypatch.chdir(root)
            return preflight.main(command[3:])
        asked.append(command)
        return 0

    monkeypatch.setattr(processes, "status_of", here)
    model = tiny_model("mamba", tokenizer=word_tokenizer())
    for part in (model.hf, model.tokenizer):
        part.save_pretrained(tree / "mamba")
    for name in ("06_attention", "06_patching"):
        write_notebook(tree, name)
    given = ["run", "--model", str(tree / "mamba"), "--only"]
    assert cli.main([*given, "06_attention,06_patching"]) == 0, capfd.readouterr().err
    assert "Left out is 06_attention: " in capfd.readouterr().out and "only=06_patching" in asked[-1]
    assert cli.main([*given, "06_attention"]) == 2
    assert "does not give attention weights" in capfd.readouterr().err and len(asked) == 1


def test_what_is_tried_before_a_run(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    empty = tmp_path / "empty"
    empty.mkdir()

    def tried(*extra: str, **changes: object) -> tuple[int, str]:
        (tmp_path / "run.json").write_text(json.dumps(tiny_run.parameters() | changes))
        status = preflight.main(["run.json", *extra])
        return status, "".join(line for line in capsys.readouterr().err.splitlines() if line.startswith("emolib: "))

    assert tried() == (0, "")
    assert tried("--elsewhere", device="cuda:99") == (0, ""), "what is not here may be there"
    for changes, said in (
        (dict(device="cuda:99"), "device 'cuda:99' is not available"),
        (dict(model="owner/nothere"), "model 'owner/nothere' could not be loaded"),
        (dict(model=str(empty)), "its configuration cannot be read"),
        (dict(prompt="T1-2shot-chat"), "the tokenizer has no chat template"),
    ):
        status, message = tried(**changes)
        assert status == 2 and said in message
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10))
    status, message = tried()
    assert status == 2 and f"{tmp_path}/cache has 0 MB free" in message

"""Where a number comes from: what a provenance says, and what it must not say."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from emolib.tables import provenance


def facts(**changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "parameters": {"model": "tiny", "dtype": "float32", "seed": 3, "corpus_path": None},
        "corpus_sha256": "ab" * 32,
        "model_revision": "main",
        "protocol": 2,
        "device": "cpu",
        "seconds": 1.25,
    }
    return provenance.collect_provenance(**{**given, **changes})


def test_provenance_is_plain_and_private(tmp_path: Path) -> None:
    parameters = {
        "model": str(tmp_path / "llama"),
        "corpus_path": tmp_path / "events.csv",
        "hub": "org/name",
        "many": ["~/x/y.csv", "../up/z.csv", 3],
        "seed": 7,
        "dtype": "bfloat16",
    }
    about = facts(parameters=parameters)
    assert about["parameters"]["model"] == "llama"
    assert about["parameters"]["corpus_path"] == "events.csv"
    assert about["parameters"]["hub"] == "org/name"
    assert about["parameters"]["many"] == ["y.csv", "z.csv", 3]
    text = json.dumps(about)
    assert str(tmp_path) not in text and str(Path.home()) not in text and os.getcwd() not in text
    assert provenance.local_paths(about) == []
    for name in {getpass.getuser(), socket.gethostname()} - {"root"}:
        assert not re.search(rf"\b{re.escape(name)}\b", text)
    assert about["peak_memory_mb"] > 10 and about["threads"] >= 1 and about["packages"]["numpy"] == np.__version__


@pytest.mark.parametrize("text", ["/srv/a/b.csv", "~/a", "../a", "C:\\a", "read from /srv/a/b.csv", "file:///a"])
def test_local_paths_are_found(text: str) -> None:
    assert provenance.local_paths({"x": [text]}) == [text]


@pytest.mark.parametrize("text", ["meta-llama/Llama-3.2-1B", "1/2", "a / b", "https://arxiv.org/abs/2502.05489"])
def test_other_texts_are_not_paths(text: str) -> None:
    assert provenance.local_paths({"x": text}) == []


@pytest.mark.parametrize(
    ("revision", "shown"),
    [("a" * 40, "`aaaaaaaaaaaa`"), ("random:3 of sha256-b179c9523d0e", "`random:3 of sha256-b179c`"), (None, None)],
)
def test_a_footer_marks_the_weights_briefly(revision: str | None, shown: str | None) -> None:
    text = provenance.footer(facts(model_revision=revision))
    assert f"model revision {shown}." in text if shown else "model revision" not in text


def test_a_footer_says_what_the_model_lacks_and_how_it_is_edited() -> None:
    said = provenance.footer(facts(absent="no attn_out, because of that", full_passes="it keeps nothing"))
    assert "The model has no attn_out, because of that. Edits by full passes, because it keeps nothing." in said
    assert provenance.absent(facts()) == "" and "full passes" not in provenance.footer(facts())


def test_a_footer_says_how_the_corpus_was_read_where_the_table_knows() -> None:
    read = provenance.footer(facts(corpus_reading="cp1250, stated, 26 of 29 rows"))
    assert f"Corpus: `{'ab' * 5}`, cp1250, stated, 26 of 29 rows." in read
    assert f"Corpus: `{'ab' * 5}`." in provenance.footer(facts())


def test_git_state_follows_a_real_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "emolib"
    package.mkdir()
    (package / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == {"commit": None, "dirty": None}

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    assert provenance.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.parquet").write_text("a run writes here")
    assert provenance.git_state()["dirty"] is False
    (package / "new.py").write_text("x = 1")
    assert provenance.git_state()["dirty"] is True


def test_footer_names_code_corpus_and_cost() -> None:
    about = facts(seconds=754.0) | {"commit": "0123456789abcdef", "dirty": True}
    text = provenance.footer(about)
    for part in (
        "commit `0123456789` (modified)",
        "`abababab",
        "13 min",
        "protocol 2",
        "model tiny",
        "float32",
        "numpy ",
    ):
        assert part in text
    assert "corpus_path" not in text
    bench = {key: value for key, value in about.items() if key != "protocol"} | {"parameters": {"tokens": [1, 2]}}
    assert "(modified). Run: tokens 1 and 2" in provenance.footer(bench)
    assert "outside git" in provenance.footer(about | {"commit": None, "dirty": None})

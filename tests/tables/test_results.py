"""The result table: what it accepts and refuses, what is on disk after a failure, what provenance holds."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from emolib.tables import provenance, results

RUN = {"experiment": "patching", "model": "tiny", "metric": "transfer"}


def rows(n: int = 3) -> pd.DataFrame:
    layers = [
        {
            "component": "attn_out",
            "layer": i,
            "position": -1,
            "value": i / 10,
            "ci_low": i / 10 - 0.05,
            "ci_high": i / 10 + 0.05,
            "n": 200,
        }
        for i in range(n)
    ]
    return results.tidy(layers, **RUN)


def facts(**changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "parameters": {"model": "tiny", "dtype": "float32", "seed": 3, "corpus_path": None},
        "corpus_sha256": "ab" * 32,
        "model_revision": "main",
        "device": "cpu",
        "seconds": 1.25,
    }
    return results.collect_provenance(**{**given, **changes})


def test_tidy_fills_every_column_and_type() -> None:
    frame = results.tidy([{"layer": 4.0, "value": 1, "position": -2, "prompt": None}], **RUN)
    assert list(frame.columns) == list(results.COLUMNS)
    row = frame.iloc[0]
    assert (row["layer"], row["value"], row["position"], row["prompt"], row["component"]) == (4, 1.0, "-2", "", "")
    assert row[["span", "seed", "n", "coefficient", "ci_low"]].isna().all()
    assert {str(frame[c].dtype) for c in results.COUNTS} == {"Int64"}
    assert {str(frame[c].dtype) for c in results.NUMBERS} == {"float64"}


def test_tidy_is_the_same_from_rows_columns_and_frames() -> None:
    columns = {"layer": [0, 1], "value": [0.5, 0.25]}
    expected = results.tidy(columns, **RUN)
    for other in (pd.DataFrame(columns), [{"layer": 0, "value": 0.5}, {"layer": 1, "value": 0.25}]):
        pd.testing.assert_frame_equal(results.tidy(other, **RUN), expected)
    pd.testing.assert_frame_equal(results.tidy(expected), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "unknown columns.*colour"),
        ({"model": "other"}, "given both"),
        ({"layer": 1.5}, "column 'layer' does not convert"),
        ({"value": np.inf}, "value is not a finite number in 1 of 1 rows"),
        ({"value": np.nan}, "value is not a finite number"),
        ({"component": "mlp"}, "component is not one of .*attn_out"),
        ({"position": -6}, "position is not one of .*'-5', 'all'"),
        ({"layer": -1}, "layers are 0-based"),
        ({"ci_low": 0.1}, "only one end"),
        ({"ci_low": 0.6, "ci_high": 0.7}, "does not contain its value"),
        ({"ci_low": -np.inf, "ci_high": 1.0}, "infinite"),
    ],
)
def test_refusals_say_what_and_where(change: dict[str, object], message: str) -> None:
    row = {"value": 0.5, "model": "tiny"} | change
    with pytest.raises(ValueError, match=message):
        results.tidy([row], experiment="patching", metric="x", **({"model": "tiny"} if "model" in change else {}))


def test_validate_refuses_duplicates_missing_columns_and_wrong_types() -> None:
    frame = rows()
    with pytest.raises(ValueError, match="same key.*first in row 3.*'layer': 1.*tell them apart"):
        results.validate(pd.concat([frame, frame.iloc[[1]]], ignore_index=True))
    with pytest.raises(ValueError, match=r"columns \['span'\] are missing.*tidy"):
        results.validate(frame.drop(columns="span"))
    with pytest.raises(ValueError, match="'layer' has type float64, expected Int64"):
        results.validate(frame.astype({"layer": "float64"}))
    with pytest.raises(ValueError, match="experiment is empty"):
        results.validate(frame.assign(experiment=""))
    assert results.validate(frame) is frame


def test_rounding_of_an_interval_is_forgiven_and_no_more() -> None:
    frame = rows(1).assign(value=0.5, ci_low=0.5 + 1e-9, ci_high=0.6)
    results.validate(frame)
    with pytest.raises(ValueError, match="does not contain"):
        results.validate(frame.assign(ci_low=0.5 + 1e-4))


def test_write_and_read_give_the_same_table_and_provenance(tmp_path: Path) -> None:
    frame, about = rows(), facts()
    path = results.write(frame, tmp_path / "new" / "patching.parquet", about)
    back = results.read(path)
    assert back.attrs["provenance"] == about
    pd.testing.assert_frame_equal(back, frame)
    assert json.loads(pq.read_schema(path).metadata[results.METADATA_KEY]) == about
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = results.write(rows(), tmp_path / "patching.parquet", facts())
    before = path.read_bytes()

    def broken(table: object, file: object, **options: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(results.pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        results.write(rows(2), path, facts())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_refuses_bad_provenance_before_touching_the_disk(tmp_path: Path) -> None:
    target = tmp_path / "x.parquet"
    for about, message in (
        ({}, "empty"),
        ({"a": object()}, "not plain JSON"),
        ({"a": float("nan")}, "not plain JSON"),
        ({"p": {"q": ["/srv/data/x.csv"]}}, "local paths"),
    ):
        with pytest.raises(ValueError, match=message):
            results.write(rows(), target, about)
    assert not target.exists()


def test_read_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="emolib run"):
        results.read(tmp_path / "none.parquet")
    rows().to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(ValueError, match="no provenance"):
        results.read(tmp_path / "plain.parquet")


def test_select_is_strict() -> None:
    frame = rows()
    assert results.select(frame, layer=[0, 2], component="attn_out")["value"].tolist() == [0.0, 0.2]
    assert len(results.select(frame, span=None)) == 3
    with pytest.raises(ValueError, match="no column 'colour'"):
        results.select(frame, colour="red")
    with pytest.raises(ValueError, match=r"layer=\[7\] does not occur here: layer is one of \[0, 1, 2\]"):
        results.select(frame, layer=[0, 7])
    two = pd.concat([frame, frame.assign(model="big", layer=frame["layer"] + 5)])
    with pytest.raises(ValueError, match=r"layer is one of \[5, 6, 7\]"):
        results.select(two, model="big", layer=1)


def test_provenance_is_plain_and_private(tmp_path: Path) -> None:
    book = tmp_path / "06_patching.ipynb"
    book.write_text("{}")
    parameters = {
        "model": str(tmp_path / "llama"),
        "corpus_path": tmp_path / "events.csv",
        "hub": "org/name",
        "many": ["~/x/y.csv", "../up/z.csv", 3],
        "seed": 7,
        "dtype": "bfloat16",
    }
    about = facts(parameters=parameters, notebook=book)
    assert about["parameters"]["model"] == "llama"
    assert about["parameters"]["corpus_path"] == "events.csv"
    assert about["parameters"]["hub"] == "org/name"
    assert about["parameters"]["many"] == ["y.csv", "z.csv", 3]
    assert (about["seed"], about["dtype"], about["notebook"]) == (7, "bfloat16", book.name)
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


def test_library_hash_changes_with_any_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "data" / "b.yml").write_text("y: 1")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    first = provenance.library_sha256()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"1")
    assert provenance.library_sha256() == first
    (tmp_path / "data" / "b.yml").write_text("y: 2")
    assert provenance.library_sha256() != first


def test_footer_names_code_corpus_and_cost() -> None:
    about = facts(seconds=754.0) | {"commit": "0123456789abcdef", "dirty": True}
    text = results.footer(about)
    for part in ("commit `0123456789` (modified)", "`abababab", "13 min", "model tiny", "float32", "numpy "):
        assert part in text
    assert "corpus_path" not in text
    assert "outside git" in results.footer(about | {"commit": None, "dirty": None})

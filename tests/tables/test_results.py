"""A table of results: what is accepted and refused, what is on disk after a failure, what is noticed on reading."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emolib.tables import results, schemas

ABOUT = {"parameters": {"model": "tiny"}, "seconds": 1.5}
ROW = {"model": "tiny", "metric": "transfer", "value": 0.5}


def table(n: int = 3, **constants: Any) -> pd.DataFrame:
    """A patching table of n layers."""
    layers = [dict(layer=i, value=i / 10, ci_low=i / 10 - 0.05, ci_high=i / 10 + 0.05, n=200) for i in range(n)]
    keys = dict(model="tiny", metric="transfer", component="attn_out", span=3, source="other_label")
    return results.tidy(layers, "patching", n_layers=4, **keys | constants)


@pytest.mark.parametrize("experiment", schemas.EXPERIMENTS)
def test_tidy_fills_every_column_and_type_of_every_experiment(experiment: str) -> None:
    frame = results.tidy([ROW | {"prompt": None}], experiment)
    kinds = schemas.columns(experiment)
    assert list(frame) == list(kinds) and set(schemas.RESULT) <= set(frame)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        name: schemas.dtype(kind) for name, kind in kinds.items()
    }
    row = frame.iloc[0]
    assert row["prompt"] == row["component"] == "" and row["experiment"] == experiment
    assert row[["layer", "span", "seed", "n", "depth", "ci_low"]].isna().all()


def test_a_window_has_its_last_layer_and_its_depth() -> None:
    wide, single = table(), table(span=None)
    assert wide["last_layer"].tolist() == [1, 2, 3] and single["last_layer"].tolist() == [0, 1, 2]
    assert wide["depth"].tolist() == [0.25, 0.5, 0.75] and set(wide["n_layers"]) == {4}


def test_tidy_is_the_same_from_rows_columns_and_frames() -> None:
    columns, keys = {"layer": [0, 1], "value": [0.5, 0.25]}, dict(model="tiny", metric="transfer")
    expected = results.tidy(columns, "patching", **keys)
    for other in (pd.DataFrame(columns), [{"layer": 0, "value": 0.5}, {"layer": 1, "value": 0.25}]):
        pd.testing.assert_frame_equal(results.tidy(other, "patching", **keys), expected)
    pd.testing.assert_frame_equal(results.tidy(expected, "patching"), expected)


def test_a_constant_fills_the_rows_that_do_not_say() -> None:
    rows = [{"layer": 0, "value": 1.0}, {"layer": 1, "value": 1.0, "prompt": "T2-2shot"}]
    frame = results.tidy(rows, "patching", model="tiny", metric="transfer", prompt="T1-2shot")
    assert frame["prompt"].tolist() == ["T1-2shot", "T2-2shot"]


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ({"value": math.inf}, "value", "finite"),
        ({"value": math.nan}, "value", "not_nullable"),
        ({"component": "mlp"}, "component", "isin.*attn_out"),
        ({"position": "-6"}, "position", "isin.*all"),
        ({"source": "any"}, "source", "isin.*same_label"),
        ({"layer": -1}, "layer", "greater_than_or_equal_to"),
        ({"metric": ""}, "metric", "not_equal_to"),
        ({"ci_low": 0.1}, "the table", "only one end"),
        ({"ci_low": 0.6, "ci_high": 0.7}, "the table", "does not contain its value"),
        ({"ci_low": -math.inf, "ci_high": 1.0}, "ci_low", "finite"),
    ],
)
def test_refusals_say_column_rule_and_row(change: dict[str, Any], column: str, rule: str) -> None:
    rows = [ROW | {"layer": 0}, ROW | {"layer": 1} | change]
    shown = f"patching: {column} breaks the rule .*{rule}.* in 1 of 2 rows, first in row 1 .*'model': 'tiny'"
    with pytest.raises(ValueError, match=shown):
        results.tidy(rows, "patching")


def test_tidy_refuses_unknown_columns_experiments_and_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="patching: unknown columns.*colour.*the table has.*source"):
        results.tidy([ROW | {"colour": "red"}], "patching")
    with pytest.raises(ValueError, match="'patchin' is not an experiment: they are .*patching"):
        results.tidy([ROW], "patchin")
    for wrong in (1.5, "first", math.inf):
        with pytest.raises(ValueError, match="column 'layer'|could not convert|Unable to parse"):
            results.tidy([ROW | {"layer": wrong}], "patching")


def test_validate_refuses_missing_columns_and_wrong_types() -> None:
    frame = table()
    with pytest.raises(ValueError, match="patching: no column 'span'"):
        results.validate(frame.drop(columns="span"), "patching")
    with pytest.raises(ValueError, match="layer breaks the rule dtype"):
        results.validate(frame.astype({"layer": "float64"}), "patching")
    with pytest.raises(ValueError, match="patching.*expected one"):
        results.experiment_of(pd.concat([frame, frame.assign(experiment="probing")]))
    assert results.validate(frame, "patching") is frame


words = st.sampled_from(["", "other_label", "same_label"])
sites = st.fixed_dictionaries(
    {"layer": st.one_of(st.none(), st.integers(0, 3)), "span": st.one_of(st.none(), st.integers(1, 5)), "source": words}
)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(sites, min_size=1, max_size=6, unique_by=lambda site: (site["layer"], site["span"], site["source"])),
    st.data(),
)
def test_a_planted_duplicate_key_is_refused_wherever_it_stands(
    sites: list[dict[str, Any]], data: st.DataObject
) -> None:
    rows = [ROW | site for site in sites]
    frame = results.tidy(rows, "patching")
    again = data.draw(st.integers(0, len(rows) - 1))
    at = data.draw(st.integers(0, len(rows)))
    planted = [*rows[:at], rows[again] | {"value": 0.25, "n": 7}, *rows[at:]]
    assert len(frame) == len(rows)
    with pytest.raises(ValueError, match=f"the rule two rows have the same key in 2 of {len(planted)} rows"):
        results.tidy(planted, "patching")


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(schemas.EXPERIMENTS), st.text("abc_", min_size=1, max_size=6), st.data())
def test_a_word_that_a_column_does_not_know_is_refused(experiment: str, word: str, data: st.DataObject) -> None:
    worded = [name for name, kind in schemas.columns(experiment).items() if isinstance(kind, tuple)]
    name = data.draw(st.sampled_from([name for name in worded if name != "experiment"]))
    with pytest.raises(ValueError, match=f"{experiment}: {name} breaks the rule isin"):
        results.tidy([ROW | {name: word}], experiment)


def test_rounding_of_an_interval_is_forgiven_and_no_more() -> None:
    frame = table(1).assign(value=0.5, ci_low=0.5 + 1e-9, ci_high=0.6)
    results.validate(frame, "patching")
    with pytest.raises(ValueError, match="does not contain"):
        results.validate(frame.assign(ci_low=0.5 + 1e-4), "patching")


def test_write_and_read_give_the_same_table_and_provenance(tmp_path: Path) -> None:
    frame = table()
    path = results.write(frame, tmp_path / "new" / "patching.parquet", ABOUT)
    back = results.read(path)
    assert back.attrs["provenance"] == ABOUT
    pd.testing.assert_frame_equal(back, frame)
    assert json.loads(pq.read_schema(path).metadata[results.PROVENANCE]) == ABOUT
    assert list(path.parent.iterdir()) == [path]


def test_what_is_done_to_a_table_is_not_in_what_is_read_next(tmp_path: Path) -> None:
    path = results.write(table(), tmp_path / "patching.parquet", ABOUT)
    for _ in range(2):
        found = results.read(path)
        pd.testing.assert_frame_equal(found, table())
        assert found.attrs["provenance"] == ABOUT
        found.loc[:, "value"] = 0.0
        found.attrs["provenance"]["seed"] = -1


def test_an_altered_value_a_lost_row_and_another_order_are_noticed(tmp_path: Path) -> None:
    path = results.write(table(), tmp_path / "patching.parquet", ABOUT)
    stored = pq.read_table(path)
    frame = stored.to_pandas()
    altered = frame.assign(value=frame["value"].where(frame["layer"] != 1, np.nextafter(0.1, 1)))
    for other in (altered, frame.iloc[1:], frame.iloc[::-1], frame.assign(prompt="T2-2shot")):
        same = type(stored).from_pandas(other, preserve_index=False).replace_schema_metadata(stored.schema.metadata)
        pq.write_table(same, path)
        with pytest.raises(ValueError, match="patching.parquet was altered"):
            results.read(path)
    about = {**stored.schema.metadata, results.PROVENANCE: json.dumps(ABOUT | {"seconds": 1.6}).encode()}
    pq.write_table(stored.replace_schema_metadata(about), path)
    with pytest.raises(ValueError, match="was altered: its provenance is not what was written"):
        results.read(path)
    pq.write_table(stored, path)
    assert len(results.read(path)) == 3
    del about[results.ABOUT]  # as in tables written before it was kept
    pq.write_table(stored.replace_schema_metadata(about), path)
    assert results.read(path).attrs["provenance"]["seconds"] == 1.6


@pytest.mark.parametrize("name", [b"pandas", results.PROVENANCE])
@pytest.mark.parametrize("content", [b"{", b'{"columns": [\x82]}', b"[]"])
def test_metadata_that_cannot_be_read_are_damage(name: bytes, content: bytes, tmp_path: Path) -> None:
    path = results.write(table(), tmp_path / "patching.parquet", ABOUT)
    stored = pq.read_table(path)
    pq.write_table(stored.replace_schema_metadata({**stored.schema.metadata, name: content}), path)
    with pytest.raises(ValueError, match="patching.parquet (is damaged|was altered)"):
        results.read(path)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = results.write(table(), tmp_path / "patching.parquet", ABOUT)
    before = path.read_bytes()

    def broken(rows: object, file: Any, **options: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(results.pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        results.write(table(2), path, ABOUT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_refuses_bad_provenance_and_bad_rows_before_touching_the_disk(tmp_path: Path) -> None:
    target = tmp_path / "x.parquet"
    for about, message in (
        ({}, "empty"),
        ({"a": object()}, "not plain JSON"),
        ({"a": float("nan")}, "not plain JSON"),
        ({"p": {"q": ["/srv/data/x.csv"]}}, "local paths"),
    ):
        with pytest.raises(ValueError, match=message):
            results.write(table(), target, about)
    with pytest.raises(ValueError, match="same key"):
        results.write(table().assign(layer=pd.array([0, 0, 0], dtype="Int64")), target, ABOUT)
    assert not target.exists()


def test_read_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="emolib run"):
        results.read(tmp_path / "none.parquet")
    table().to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(ValueError, match="no provenance or no digest"):
        results.read(tmp_path / "plain.parquet")


def test_select_is_strict() -> None:
    frame = table()
    assert results.select(frame, layer=[0, 2], component="attn_out")["value"].tolist() == [0.0, 0.2]
    assert len(results.select(frame, seed=None)) == 3
    with pytest.raises(ValueError, match="no column 'colour'"):
        results.select(frame, colour="red")
    with pytest.raises(ValueError, match=r"layer=\[7\] does not occur here: layer is one of \[0, 1, 2\]"):
        results.select(frame, layer=[0, 7])
    two = pd.concat([frame, frame.assign(model="big", layer=frame["layer"] + 5)])
    with pytest.raises(ValueError, match=r"layer is one of \[5, 6, 7\]"):
        results.select(two, model="big", layer=1)


def test_a_planted_window_is_found_wherever_it_is() -> None:
    rows = [dict(span=1, last_layer=layer, value=layer / 10) for layer in range(6)]
    rows += [dict(span=3, last_layer=layer + 1, value=(layer + 1) / 10) for layer in range(1, 5)]
    both = pd.concat([pd.DataFrame(rows).assign(method=method) for method in ("zero", "mean")], ignore_index=True)
    assert results.last_of_window(both, "method")["apart"].tolist() == [0.0] * 8
    both.loc[7, "value"] += 0.25
    assert results.last_of_window(both, "method")["apart"].tolist() == pytest.approx([0, 0.25, *[0] * 6])


def test_a_digest_is_the_same_under_earlier_pandas_which_has_no_type_for_texts() -> None:
    table = results.tidy(
        [dict(model="m", metric="accuracy", value=0.5, layer=None), dict(model="n", metric="é", value=1)], "probing"
    )
    texts = {name: object for name, kind in table.dtypes.items() if str(kind) == "str"}
    assert texts and results.digest(table.astype(texts)) == results.digest(table)

"""Tables of one run agree with each other; a count forged in any of them, with a digest that fits, is found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from emolib.stats.sampling import ENOUGH
from emolib.study.run import REFERENCE
from emolib.tables import results
from emolib.tables.consistency import COUNTS, contradictions
from helpers import ROOT, committed

STORED = {"golden": ROOT / "tests" / "golden", "reference": ROOT / "results" / REFERENCE.slug}
CALIBRATED = dict(calibration="batch")


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: results.read(folder / f"{name}.parquet") for name in COUNTS}


@pytest.mark.parametrize("which", STORED)
def test_tables_of_one_run_agree_and_those_of_two_do_not(which: str) -> None:
    own = tables(STORED[which])
    assert contradictions(own) == {}
    (other,) = set(STORED) - {which}
    mixed = contradictions(own | {"ablation": tables(STORED[other])["ablation"]})
    assert "ablation" in mixed and mixed["ablation"].startswith("tables of one run disagree on the number of texts")


@pytest.mark.parametrize(
    ("name", "keys", "column"),
    [
        ("behaviour", dict(metric="agreed_count", **CALIBRATED), "value"),
        ("behaviour", dict(metric="accuracy", scoring="first_subtoken", **CALIBRATED), "value"),
        ("behaviour", dict(metric="recall", label="joy", **CALIBRATED), "value"),
        ("behaviour", dict(metric="confusion_count", label="joy", answer="fear", **CALIBRATED), "value"),
        ("behaviour", dict(metric="predicted_count", label="joy", **CALIBRATED), "value"),
        ("ablation", dict(metric="agreement", method="zero"), "n"),
        ("attention", dict(set="agreed"), "n"),
        ("probing", dict(setting="ours", metric="balanced_accuracy"), "n"),
        ("probing", dict(setting="as_released", metric="accuracy"), "n"),
        ("appraisals", dict(metric="mean_rating", set="agreed", emotion="joy"), "n"),
        ("appraisals", dict(metric="r2", setting="as_released"), "n"),
    ],
)
def test_a_forged_count_is_found_in_the_files(name: str, keys: dict[str, object], column: str, tmp_path: Path) -> None:
    for one, table in tables(STORED["golden"]).items():
        if one == name:
            forged = (table[list(keys)] == pd.Series(keys)).all(axis=1)
            assert forged.any()
            step = 0.001 if table.loc[forged, "value"].max() < 1 and column == "value" else 1
            table.loc[forged, column] += step
        results.write(table, tmp_path / f"{one}.parquet", table.attrs["provenance"])
    assert name in contradictions(tables(tmp_path))


def test_a_sample_of_the_texts_answered_right_contradicts_nothing() -> None:
    own, *_ = [each for each in map(tables, committed()) if (each["ablation"]["n"] == ENOUGH).any()]
    assert contradictions(own) == {}
    assert "ablation" in contradictions(own | {"ablation": own["ablation"].assign(n=ENOUGH - 1)})
    few = tables(STORED["golden"])
    found = contradictions(few | {"ablation": few["ablation"].assign(n=ENOUGH)})
    assert found["ablation"].endswith(f": 126 in appraisals and attention and behaviour, {ENOUGH} in ablation")

"""What is rounding between two tables, what a few flips, and what a change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emolib.tables import results, schemas
from emolib.tables.compare import compare


@pytest.fixture
def old() -> pd.DataFrame:
    """100 shares of 40 texts, a rate without texts, and a landmark without a layer."""
    rows = [dict(metric="agreement", layer=i, value=0.5, ci_low=0.4, ci_high=0.6, n=40) for i in range(100)]
    rows += [dict(metric="label_entropy", layer=3, value=300.0), dict(metric="constant_agreement", value=0.2, n=40)]
    return results.tidy(rows, "ablation", model="tiny", method="zero", n_layers=100)


def failures(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    return list(compare(old, new).failures())


def test_equal_tables_agree_in_any_order(old: pd.DataFrame) -> None:
    found = compare(old, old.sample(frac=1, random_state=0))
    assert str(found) == "ablation: 102 rows agree, 0 flipped" and not list(found.failures())


def test_rounding_is_relative_to_the_value_or_to_one(old: pd.DataFrame) -> None:
    near = old.assign(value=old["value"] + np.where(old["value"] > 1, 0.02, 0.00009))
    assert len(compare(old, near).flips) == 0
    beyond = old.assign(value=old["value"] + np.where(old["value"] > 1, 0.04, 0.0))
    assert compare(old, beyond).flips["metric"].tolist() == ["label_entropy"]


def test_a_few_flips_are_counted_and_allowed_more_are_not(old: pd.DataFrame) -> None:
    some, many = old.copy(), old.copy()
    some.loc[:4, "value"] += 1 / 40
    many.loc[:5, "value"] += 1 / 40
    assert str(compare(old, some)) == "ablation: 97 rows agree, 5 flipped (agreement 5, by 1.0 texts at most)"
    assert not failures(old, some)
    (failure,) = failures(old, many)
    assert failure.startswith("agreement: 6 of 100 rows differ (5 may), most metric agreement, layer")
    assert failure.endswith("0.5 and 0.525")


def test_intervals_count_as_values_do(old: pd.DataFrame) -> None:
    new = old.copy()
    new.loc[:9, "ci_low"] -= 0.01
    assert failures(old, new)[0].startswith("agreement: 10 of 100 rows differ")
    new = old.copy()
    new.loc[:9, ["ci_low", "ci_high"]] = np.nan
    assert failures(old, new)[0].startswith("agreement: 10 of 100 rows differ")


def test_two_rows_that_moved_far_are_no_flips(old: pd.DataFrame) -> None:
    new = old.copy()
    new.loc[:1, "value"] += 5 / 40
    assert failures(old, new) == [
        "2 rows moved by more than 4 texts, such as metric agreement, layer 0, method zero: 0.5 and 0.625"
    ]


def test_rows_that_are_lost_or_new_or_of_another_n_are_a_change(old: pd.DataFrame) -> None:
    assert failures(old, old.iloc[1:])[0].startswith("1 rows are no longer there, such as metric agreement")
    assert failures(old.iloc[1:], old)[0].startswith("1 rows are new")
    other = old.copy()
    other.loc[7, "n"] = 41
    assert len(failures(old, other)) == 2


def test_the_papers_probe_may_move_further() -> None:
    rows = [
        dict(metric="cosine", layer=i, vector=vector, value=0.5, ci_low=0.4, ci_high=0.6, n=40)
        for vector in ("probe", "whitened")
        for i in range(20)
    ]
    old = results.tidy(rows, "geometry", model="tiny", emotion="joy", appraisal="pleasantness", n_layers=20)
    new = old.assign(value=old["value"] + 0.01, ci_high=old["ci_high"] + 0.05)
    assert set(compare(old, new).flips["vector"]) == {"whitened"}


@pytest.mark.parametrize("experiment", schemas.EXPERIMENTS)
def test_what_a_comparison_adds_hides_no_key(experiment: str) -> None:
    keys = schemas.keys(experiment)
    table = results.tidy([dict(metric="any", value=0.5, n=2)], experiment, model="tiny")
    pairs = compare(table, table).pairs
    assert pairs[keys].astype(str).equals(table[keys].astype(str))

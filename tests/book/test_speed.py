"""What the chapter on speed says of records: goals, ratios, passes; and that nothing measured is nothing shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from emolib.book import speed
from emolib.tables import results
from helpers import ROOT


@pytest.fixture(scope="module")
def bench() -> dict:
    return speed.bench(ROOT)


def test_goals_are_reached_from_the_right_side(bench: dict) -> None:
    ratio = {"median": 70.0, "min": 60.0, "max": 80.0}
    slow, percent = {"ratio": ratio | {"median": 99.9}}, {"percent": ratio | {"median": 15.0}}
    found = {"editing": {"edits_90": {"ratio": ratio}, "edits_360": slow}, "overhead": percent}
    table = speed.ratios(found).set_index("goal")
    assert table["reached"].to_dict() == {60: "yes", 100: "no", 15: "yes"}
    shown = speed.times_faster(speed.ratios(found))
    assert shown["value"].tolist() == [70, 99.9, 60, 100] and shown["ci_low"].notna().sum() == 2
    assert set(bench) == set(speed.PARTS)
    assert len(speed.ratios(bench)) == 7


def test_what_was_not_measured_is_not_there() -> None:
    assert speed.ratios({}).empty and speed.times_faster(speed.ratios({})).empty
    assert speed.exponents({}).empty and speed.points({}, "texts").empty and speed.provenance({}) is None
    assert speed.longer({}) == 1 and speed.costs({}, {}).empty


def test_rates_and_growth_are_those_of_the_records(bench: dict) -> None:
    rates = speed.rates(bench["machine"]).set_index("what")
    assert rates.loc["replay", "value"] == pytest.approx(bench["machine"]["replay"]["median"] / 1e9)
    assert (rates["ci_low"] <= rates["value"]).all() and (rates["value"] <= rates["ci_high"]).all()
    exponent = bench["growth"]["exponents"]["texts"]["seconds"]["value"]
    assert speed.exponents(bench).loc["texts"].iloc[0].startswith(f"{exponent:.2f} (")
    figure = speed.growth(bench)
    assert isinstance(figure, Figure) and len(figure.axes) == len(speed.QUANTITIES)
    assert figure.axes[0].lines[0].get_xdata()[0] == 1


def test_a_pass_counts_once_whatever_is_read_from_it() -> None:
    site = dict(component="attn_out", span=1, position="-1", method="zero", n=100, value=0.5)
    rows = [site | dict(layer=layer, metric=metric) for layer in (0, 1) for metric in ("agreement", "label_entropy")]
    rows += [
        site | dict(layer=0, metric="agreement", method="mean"),
        site | dict(layer=0, metric="agreement", label="joy"),
    ]
    table = results.tidy(rows, "ablation", model="m", n_layers=2)
    table.attrs["provenance"] = {"seconds": 1800}
    editing = {"edits_90": {"plain": {"median": 36.0}, "tokens": {"padded": 50}}, "reference_tokens": {"padded": 100}}
    found = speed.costs({"ablation": table}, {"editing": editing}).iloc[0]
    assert (found["measured"], found["passes"], found["plain"]) == (0.5, 300, 300 * 2 * 36 / 3600)
    assert np.isnan(speed.costs({"ablation": table}, {})["plain"].item())


def test_probing_is_compared_by_its_sums() -> None:
    plain = [{"labels": 2.0, "ratings": 9.0}, {"labels": 4.0, "ratings": 1.0}]
    record = {"parts": {"plain": plain, "ours": [{"labels": 0.5, "ratings": 2.0}]}}
    assert speed.probe_speedups(record) == {"labels": 12, "ratings": 5}
    assert pd.DataFrame(speed.probing({})).empty

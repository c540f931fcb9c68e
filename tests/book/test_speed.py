"""What the chapter on speed says of the committed records: goals, ratios, rates and growth."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from emolib.book import speed
from helpers import ROOT


@pytest.fixture(scope="module")
def bench() -> dict:
    return speed.bench(ROOT)


def test_goals_are_reached_from_the_right_side(bench: dict) -> None:
    assert set(bench) == set(speed.PARTS)
    bench = bench | {"editing": dict(bench["editing"]), "overhead": dict(bench["overhead"])}
    bench["editing"]["edits_90"] = {"ratio": dict(median=60.0, min=50.0, max=80.0)}
    bench["editing"]["edits_360"] = {"ratio": dict(median=99.9, min=50.0, max=180.0)}
    bench["overhead"]["percent"] = dict(median=15.1, min=1.0, max=20.0)
    table = speed.ratios(bench)
    assert len(table) == 7
    found = {row.figure: (row.value, row.ci_low, row.ci_high, row.reached) for row in table.itertuples()}
    assert found["editing, 90 edits a text"] == (60.0, 50.0, 80.0, "yes")
    assert found["editing, 360 edits a text"] == (99.9, 50.0, 180.0, "no")
    assert found["nnsight, at most"] == (15.1, 1.0, 20.0, "no")


def test_rates_and_growth_are_those_of_the_records(bench: dict) -> None:
    rates = speed.rates(bench["machine"]).set_index("figure")
    assert rates.loc["replay", "value"] == pytest.approx(bench["machine"]["replay"]["median"] / 1e9)
    assert (rates["ci_low"] <= rates["value"]).all() and (rates["value"] <= rates["ci_high"]).all()
    exponent = bench["growth"]["exponents"]["texts"]["seconds"]["value"]
    assert speed.exponents(bench).loc["texts"].iloc[0].startswith(f"{exponent:.2f} (")
    figure = speed.growth(bench)
    assert isinstance(figure, Figure) and len(figure.axes) == len(speed.QUANTITIES)
    first = speed.points(bench, "texts")
    time = figure.axes[0].lines[0]
    assert time.get_xdata()[0] == time.get_ydata()[0] == 1
    assert time.get_ydata()[-1] == pytest.approx(first["seconds"].iloc[-1] / first["seconds"].iloc[0])

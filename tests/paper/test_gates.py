"""No claim is seen in nothing: verdicts on tables without the effect, many times drawn, and on untrained twins.

A null takes tables in which all claims hold (the planted run) or some (the reference run), and takes effects out. A
claim is then reproduced in none of its readings more often than one time in twenty, with 95% confidence (Clopper and
Pearson, one-sided): in none of 60 drawn tables, or else in at most 1 of 100, 4 of 200 or 12 of 400. That claims are
reproduced where effects are is tested in `test_claims`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, chi2

from emolib import stats
from emolib.paper import claims
from emolib.paper.claims import evidence
from emolib.paper.claims.tests import CHANCE
from emolib.tables import results
from helpers import ROOT

pytestmark = pytest.mark.model  # none computes, but together they take as long
NAMES = [*claims.claims()]
LOOKS = (60, 100, 200, 400)  # after so many draws, those claims that were reproduced too often for them go on
DRAWS = LOOKS[-1]
Tables = Mapping[str, pd.DataFrame]
Null = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]
# What a number is where there is no effect; others are the mean of what was measured.
NOTHING = {
    **dict.fromkeys(("cosine", "theory_score", "promotion_score", "rating_difference", "r2", "partial_r2"), 0.0),
    "direction_r2": 0.0,
    **dict.fromkeys(("span_gain", "mid_minus_early", "selectivity"), 0.0),
    **dict.fromkeys(("enrichment", "fade"), 1.0),
}
SIGNED = ("cosine", "theory_score", "promotion_score", "rating_difference")
READ_OFF = r".*_(?:depth|layer|shift)"  # from curves, and here from those that are drawn
GATED = {"behaviour", "probing", "patching"}  # what gates are read off
# C1 is about the answers, which these nulls leave as they are; C19 is about a spread, in which they put no excess.
OTHERS = [name for name in NAMES if name not in ("C1", "C19")]


def rare(count: int, draws: int = DRAWS, share: float = 0.05) -> bool:
    """Whether so many of so many draws are less than that share with 95% confidence."""
    return bool(beta.ppf(0.95, count + 1, draws - count) < share)


def test_how_many_draws_are_few() -> None:
    assert rare(12) and rare(4, 200) and rare(1, 100) and rare(0, 60) and not rare(13) and not rare(5, 200)


def only_read(tables: Tables) -> dict[str, pd.DataFrame]:
    """The tables with those rows alone that claims look at, of random directions those of the claims' depth."""
    tables = dict(tables)  # of a run it is known what the tests found
    seen: dict[str, set[int]] = {}
    plain = evidence._places

    def watched(table: pd.DataFrame, keys: Mapping[str, object]) -> np.ndarray:
        found = plain(table, keys)
        seen.setdefault(table["experiment"].iloc[0], set()).update(table.index[found])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "_places", watched)
        for name in NAMES:
            claims.tested(name, tables)
        for gate in claims.GATES.values():
            gate(evidence.Evidence(tables), None)
    found = {name: tables[name].loc[sorted(rows)] for name, rows in seen.items() if rows}
    random = found["modulation"]
    far = (random["metric"] == "theory_score_null") & ((random["depth"] - 0.5625).abs() > 0.03)
    return found | {"modulation": random[~far]}


def redraw(table: pd.DataFrame, centre: pd.Series, random: np.random.Generator) -> pd.DataFrame:
    """The table with each number drawn about the centre, as far off as its interval says, or by a twentieth."""
    low, high = table["value"] - table["ci_low"], table["ci_high"] - table["value"]
    error = ((low + high) / 3.92).fillna(0.05)
    value = centre + error * random.normal(size=len(table))
    return table.assign(value=value, ci_low=value - low, ci_high=value + high)


def groups(table: pd.DataFrame, *more: str) -> list[pd.Series]:
    """What tells quantities apart: the metric and, of robustness, its question."""
    return [table[name] for name in ("metric", "check", *more) if name in table]


def flat(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """No effect of anything: each number about the one that its metric has without any."""
    mean = table["value"].groupby(groups(table), dropna=False).transform("mean")
    return redraw(table, table["metric"].map(NOTHING).fillna(mean), random)


def permuted(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """What was measured, each number with its interval at another place, and with any sign where signs matter."""
    numbers, kinds = (
        table[[*evidence.NUMBER]].to_numpy(float, copy=True),
        table.groupby(groups(table), dropna=False).ngroup(),
    )
    order = random.random(len(table))
    numbers[np.argsort(kinds, kind="stable")] = numbers[np.lexsort((order, kinds))]
    turned = table["metric"].isin(SIGNED).to_numpy() & (random.random(len(table)) < 0.5)
    numbers[turned] = -numbers[turned][:, [0, 2, 1]]
    return table.assign(**dict(zip(evidence.NUMBER, numbers.T, strict=True)))


def constant(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The same number everywhere, without any doubt: what a model gives that nothing can move."""
    mean = table["value"].groupby(groups(table), dropna=False).transform("mean")
    value = table["metric"].map(NOTHING).fillna(mean)
    return table.assign(value=value, ci_low=value, ci_high=value)


def without(column: str) -> Null:
    """No effect of a column: each number about the mean over its values, layer by layer."""
    rest = {"component", "position", "span", "layer", "method", "check", "metric"} - {column}

    def exchanged(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
        by = [table[name] for name in sorted(rest) if name in table]
        return redraw(table, table["value"].groupby(by, dropna=False).transform("mean"), random)

    return exchanged


def drawn(tables: Tables, null: Null, draws: Iterable[int]) -> Iterator[dict[str, pd.DataFrame]]:
    """Tables with all but the answers drawn from a null; landmarks of curves are read off anew."""
    # plain columns, which are quicker to look into
    plain = {"str": object, "Int64": float}
    bare = {
        name: table[~table["metric"].str.fullmatch(READ_OFF)]
        .astype({column: plain[str(kind)] for column, kind in table.dtypes.items() if str(kind) in plain})
        .copy()  # in few blocks of memory
        for name, table in tables.items()
    }
    for draw in draws:  # each table by itself: a row or a table more draws no other
        yield {
            name: table if name == "behaviour" else null(table, np.random.default_rng([draw, *name.encode()]))
            for name, table in bare.items()
        }


def too_often(
    tables: Tables, null: Null, names: Sequence[str], looks: Sequence[int] = LOOKS
) -> dict[str, tuple[int, int]]:
    """By claim and reading in how many of how many drawn tables it is reproduced, of those that stay above."""
    places: dict[str, np.ndarray] = {}
    plain = evidence._places

    def remembered(table: pd.DataFrame, keys: Mapping[str, object]) -> np.ndarray:
        """Where the rows are, which is the same in all draws."""
        key = f"{table['experiment'].iloc[0]} {sorted(keys.items())}"
        if key not in places:
            places[key] = plain(table, keys)
        return places[key]

    found: Counter[tuple[str, str]] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "_places", remembered)
        for before, draws in pairwise([0, *looks]):
            asked = {table for name in names for table in claims.claims()[name].tables} | GATED
            for one in drawn({name: tables[name] for name in asked & {*tables}}, null, range(before, draws)):
                for name in names:
                    each = claims.readings_of(name, one).items()
                    found.update((name, reading) for reading, own in each if own.outcome == "reproduced")
            often = {each: count for each, count in found.items() if each[0] in names and not rare(count, draws)}
            if not (names := [*dict.fromkeys(name for name, _ in often)]):
                break
    return {" ".join(each): (count, draws) for each, count in often.items()}


@pytest.mark.parametrize(("base", "null"), [("planted", flat), ("planted", permuted), ("reference_tables", permuted)])
def test_without_any_effect_no_claim_is_reproduced(base: str, null: Null, request: pytest.FixtureRequest) -> None:
    assert too_often(only_read(request.getfixturevalue(base)), null, OTHERS) == {}


def test_where_nothing_moves_anything_no_claim_is_reproduced(planted: dict[str, pd.DataFrame]) -> None:
    assert too_often(only_read(planted), constant, OTHERS, looks=[1]) == {}


@pytest.mark.parametrize(
    ("column", "names"), [("component", ["C3", "C6", "C7"]), ("position", ["C4"]), ("span", ["C8"])]
)
def test_without_an_effect_of_what_a_claim_compares_it_is_not_reproduced(
    column: str, names: list[str], planted: dict[str, pd.DataFrame]
) -> None:
    # One of these is so one time in thirty, which fewer draws do not tell from one in twenty.
    assert too_often(only_read(planted), without(column), names, looks=[*LOOKS, 2 * DRAWS]) == {}


def test_a_spread_twice_as_large_as_sampling_alone_gives_is_not_stable(planted: dict[str, pd.DataFrame]) -> None:
    """Ten splits, all layers on the same ones: the SD of all is off by one factor."""
    table = planted["robustness"].query("check == 'splits'")
    spread, random, found = table["metric"] == "accuracy_sd", np.random.default_rng(0), 0
    low, high = np.sqrt(9 / chi2.ppf([0.975, 0.025], 9))
    for _ in range(1000):
        sd = 2 * 0.02 * np.sqrt(random.chisquare(9) / 9)
        drawn_ = table.copy()
        drawn_.loc[spread, [*evidence.NUMBER]] = [sd, sd * low, sd * high]
        found += claims.tested("C19", {"robustness": drawn_})["robust"].outcome == "reproduced"
    assert found > 0 and rare(found, 1000), found


# Ability, and the untrained twin


@pytest.fixture(scope="module")
def twin() -> claims.RunTables:
    """What claims read of the quick run of smollm2-135m@random:0; three experiments refuse its few right answers."""
    return claims.run_tables(Path(__file__).parent / "twin")


def test_an_untrained_twin_has_no_claim(twin: claims.RunTables) -> None:
    assert twin["behaviour"].attrs["provenance"]["parameters"]["model"] == "smollm2-135m@random:0"
    found = claims.verdicts(twin)
    assert found.loc[found["claim"] == "C1", "outcome"].eq("not").all()
    assert found.loc[found["claim"] != "C1", "outcome"].eq("not testable").all()


def answering(planted: dict[str, pd.DataFrame], share: float, n: int = 520) -> dict[str, pd.DataFrame]:
    """The planted run of a model that gets such a share of n texts right."""
    table = planted["behaviour"].copy()
    ends = stats.wilson(round(share * n), n)
    table.loc[:, [*evidence.NUMBER]] = [float(ends.value), float(ends.ci_low), float(ends.ci_high)]
    return planted | {"behaviour": table}


def test_of_a_model_that_answers_by_chance_no_claim_but_the_first_is_tested(planted: dict[str, pd.DataFrame]) -> None:
    found = claims.verdicts(answering(planted, CHANCE)).set_index("claim")
    assert set(found.loc["C1", "outcome"]) == {"not"} and set(found.loc[NAMES[1:], "outcome"]) == {"not testable"}
    why = "this model names the writer's emotion no better than chance: 7.7 (5.7 to 10.3)%, chance 7.7%"
    assert set(found.loc[NAMES[1:], "numbers"]) == {why}


def test_chance_opens_the_gate_one_time_in_forty(planted: dict[str, pd.DataFrame]) -> None:
    right = np.random.default_rng(0).binomial(520, CHANCE, size=1000)
    seen = sum(not claims.closed("ability", answering(planted, hits / 520)) for hits in right)
    assert seen > 0 and rare(seen, 1000)
    assert not claims.closed("ability", answering(planted, 0.12))


@pytest.mark.parametrize(
    ("gate", "experiment", "rows"),
    [
        ("probe", "probing", dict(component="resid_post", position="-1", metric="accuracy")),
        ("transfer", "patching", dict(component="attn_out")),
    ],
)
def test_a_claim_whose_gate_is_closed_is_not_testable(
    gate: str, experiment: str, rows: dict[str, str], planted: dict[str, pd.DataFrame]
) -> None:
    table = planted[experiment].copy()
    chosen = np.logical_and.reduce([table[name] == value for name, value in rows.items()])
    table.loc[chosen, [*evidence.NUMBER]] = [CHANCE, CHANCE - 0.02, CHANCE + 0.02]
    for name, about in claims.claims().items():
        found = claims.verdict(name, planted | {experiment: table})
        assert (gate in about.gates) == (claims.data()["gates"][gate] in found.reason), name


def test_what_an_untrained_twin_shows_as_well_is_not_reproduced(planted: dict[str, pd.DataFrame]) -> None:
    run = claims.RunTables(answering(planted, 0.5))
    assert set(claims.verdicts(run)["outcome"]) == {"reproduced"}
    run.twins = (answering(planted, CHANCE),)
    found = {name: claims.verdict(name, run) for name in NAMES}
    assert found.pop("C1").outcome == "reproduced"
    assert {one.outcome for one in found.values()} == {"not testable"}
    assert "its untrained twin passes the same test" in found["C14"].reason
    assert "no better than its untrained twin: 90.0 (88.0 to 92.0)%, twin 90.0 (88.0 to 92.0)%" in found["C2"].reason
    run.twins = ({"behaviour": answering(planted, CHANCE)["behaviour"]},)  # that was asked nothing else
    assert set(claims.verdicts(run)["outcome"]) == {"reproduced"}


def test_what_a_twin_does_in_another_layer_takes_nothing_from_where_a_model_does_it(
    planted: dict[str, pd.DataFrame],
) -> None:
    table = planted["patching"]
    layers, attention = int(table["n_layers"].max()), table["component"] == "attn_out"
    early = table.assign(layer=table["layer"].where(~attention, (table["layer"] + layers // 2) % layers))
    early["depth"] = table["depth"].where(~attention, (early["layer"] + 1) / layers)
    run = claims.RunTables(answering(planted, 0.5))
    for patching, expected in ((early, "reproduced"), (table, "not testable")):
        run.twins = ({"patching": patching, "behaviour": answering(planted, CHANCE)["behaviour"]},)
        assert claims.verdict("C6", run).outcome == expected
    assert (
        "at the best layer, carries over the answer of another text no better than" in claims.verdict("C6", run).reason
    )


def test_a_check_that_an_untrained_twin_passes_is_named(planted: dict[str, pd.DataFrame]) -> None:
    run = claims.RunTables(answering(planted, 0.5))
    alone = claims.checks(run)
    assert set(alone["untrained"]) == {""} and not alone["in_twin"].any()
    run.twins = ({"geometry": planted["geometry"], "behaviour": answering(planted, CHANCE)["behaviour"]},)
    found = claims.checks(run)
    asked = found[found["untrained"] != ""]
    assert set(asked["claim"]) == {"C1", "C13"}, "it was asked nothing else"
    same = found[found["claim"] == "C13"]
    assert (same["shown"] == same["untrained"]).all() and (same["outcome"] == "holds").all() and same["in_twin"].all()
    assert not found.loc[found["claim"] == "C1", "in_twin"].any()
    said = claims.shown(found).set_index("claim")["outcome"]
    assert set(said["C13"]) == {"holds, in its untrained twin as well"} and set(said["C2"]) == {"holds"}
    run.twins = ({"behaviour": answering(planted, 0.5)["behaviour"]}, *run.twins)
    first = claims.checks(run).query("claim == 'C1'").iloc[0]
    assert first["untrained"].count("; ") == 1 and first["in_twin"], "one of two passes it"


def test_a_run_s_twins_lie_beside_it_and_differ_in_the_model_alone(
    planted: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    names = ["m_c_T1", "m-random-0_c_T1", "m-random-7_c_T1", "m-random-0_c_T2", "n-random-0_c_T1"]
    for name in names:
        results.write(planted["behaviour"], tmp_path / name / "behaviour.parquet", {"seed": 0})
    assert [len(claims.run_tables(tmp_path / name).twins) for name in names] == [2, 0, 0, 0, 0]
    own = claims.run_tables(ROOT / "results" / claims.REFERENCE.slug)
    made = [twin["behaviour"].attrs["provenance"]["parameters"]["model"] for twin in own.twins]
    assert made == [f"{claims.REFERENCE.model}@random:0"]

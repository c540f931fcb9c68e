"""Landmarks of the paper's models against readings made by hand, and of a planted run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from emolib.experiments import probing
from emolib.paper import claims, ladder
from emolib.paper import overview as models_overview
from emolib.paper.ladder import run_name
from emolib.paper.overview import against_size, overview, trends
from emolib.study import freshness
from emolib.study.run import LADDER, REFERENCE, Run
from emolib.tables import paper, results
from emolib.tables.results import select
from helpers import ROOT

# model: layers of saturation, onset (last overwritten block) and dip, agreement without attention and feed-forward,
# best transfer of attention; read from the figures before this code was written.
BY_HAND = {
    "Llama 3.2 1B": (10, 10, 10, 0.11, 0.27, 0.85),
    "Gemma 2 2B": (17, 17, 15, 0.54, 0.75, 0.87),
    "Llama 3.1 8B": (15, 17, 15, 0.75, 0.76, 0.78),
    "Phi 3.5 mini": (18, 18, 19, 0.78, 0.83, 0.81),
    "OLMo 2 7B": (18, 18, 17, 0.65, 0.84, 0.85),
    "Ministral 8B": (17, 18, 17, 0.89, 0.79, 0.72),
    "Phi 3 medium": (23, 22, 22, 0.87, 0.86, 0.77),
    "Mistral Nemo 12B": (18, 19, 22, 0.90, 0.82, 0.73),
    "OLMo 2 13B": (18, 19, 18, 0.85, 0.85, 0.67),
    "Gemma 2 9B": (24, 26, 27, 0.92, 0.83, 0.39),
}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return overview({})


@pytest.mark.parametrize("model", paper.PAPER_MODELS, ids=lambda model: model.name)
def test_landmarks_of_the_paper_s_models(model: paper.PaperModel, published: pd.DataFrame) -> None:
    rows = select(published, model=model.name).set_index("metric")
    saturation, onset, dip, attention, forward, peak = BY_HAND[model.name]
    layers = {"probe saturation": saturation, "patching onset": onset, "ablation dip": dip}
    assert {name: round(rows.loc[name, "value"] * model.layers) for name in layers} == layers
    for name, value in {
        "agreement without attention": attention,
        "agreement without feed-forward": forward,
        "attention transfer": peak,
        "accuracy": model.accuracy,
    }.items():
        assert rows.loc[name, "value"] == pytest.approx(value, abs=0.006), name
    assert (rows["layers"] == model.layers).all() and (rows["source"] == "paper").all()
    assert rows.loc["accuracy", "ci_low"] < model.accuracy < rows.loc["accuracy", "ci_high"]


@pytest.fixture
def run() -> dict[str, pd.DataFrame]:
    """A ten-layer run: the probe saturates at layer 6, three layers of attention are missed most around layer 5."""
    provenance = {
        "parameters": {"model": "smollm2-135m", "corpus": "situations", "profile": "quick", "calibration": "batch"}
    }
    probe = dict(metric="accuracy", setting="as_released", probe="linear", component="resid_post", position="-1")
    curve = [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8]
    removed = dict(metric="agreement", method="zero", span=3, position="-1")
    rows = {
        "probing": [dict(layer=i, value=v, **probe) for i, v in enumerate(curve)],
        "ablation": [
            dict(component=name, layer=i, value=depth if i == 4 else 0.9, **removed)
            for name, depth in (("attn_out", 0.2), ("mlp_out", 0.6))
            for i in range(1, 9)
        ],
        "behaviour": [
            dict(metric="accuracy", scoring="first_subtoken", calibration=kind, value=value)
            for kind, value in (("none", 0.1), ("batch", 0.3))
        ],
    }
    tables = {name: results.tidy(part, name, model="m", n_layers=10) for name, part in rows.items()}
    for table in tables.values():
        table.attrs["provenance"] = provenance
    return tables


def test_landmarks_of_a_planted_run_and_what_it_lacks(run: dict[str, pd.DataFrame]) -> None:
    rows = overview({"slug": run})
    mine = rows[rows["source"] == "ours"].set_index("metric")
    assert set(mine.index) == {
        "accuracy",
        "probe saturation",
        "agreement without attention",
        "agreement without feed-forward",
        "ablation dip",
    }
    assert mine.loc["probe saturation", "value"] == pytest.approx(0.6)
    assert mine.loc["ablation dip", "value"] == pytest.approx(0.5)
    assert mine.loc["agreement without attention", "value"] == 0.2
    assert mine.loc["accuracy", "value"] == 0.3, "the run's calibration"
    assert mine["parameters"].unique().tolist() == [134515008.0]
    assert mine["model"].unique().tolist() == ["SmolLM2 135M (situations, quick)"]


def test_a_full_run_on_the_paper_s_corpus_has_a_short_name(run: dict[str, pd.DataFrame]) -> None:
    for table in run.values():
        table.attrs["provenance"]["parameters"] |= {"corpus": "crowd-envent", "profile": "full"}
    assert run_name(run, "slug") == "SmolLM2 135M"
    assert run_name({}, "a-slug") == "a-slug"
    for table in run.values():
        table.attrs["provenance"]["parameters"]["model"] = paper.PAPER_MODELS[0].id
    assert run_name(run, "slug") == "Llama 3.2 1B (run here)", "not the paper's column"


@pytest.mark.parametrize(
    ("model", "dtype", "said"),
    [
        ("smollm2-135m", "mixed", "SmolLM2 135M (mixed)"),
        ("qwen2.5-coder-1.5b", "mixed", "Qwen 2.5 Coder 1.5B"),
        ("qwen2.5-coder-1.5b", "float32", "Qwen 2.5 Coder 1.5B (float32)"),
        ("somebody/unknown", "float32", "unknown"),
        ("somebody/unknown", "bfloat16", "unknown (bfloat16)"),
    ],
)
def test_a_name_says_the_precision_where_it_is_not_the_usual_one(
    run: dict[str, pd.DataFrame], model: str, dtype: str, said: str
) -> None:
    for table in run.values():
        asked = {"corpus": "crowd-envent", "profile": "full", "model": model, "dtype": dtype}
        table.attrs["provenance"]["parameters"] |= asked
    assert run_name(run, "slug") == said


def test_all_committed_runs_and_this_one_stand_side_by_side_the_smallest_first(tmp_path: Path) -> None:
    own = Run(model="somebody/unknown", corpus="crowd-envent", profile="full")
    for one in (own, *reversed(LADDER)):
        model = one.model
        rows = [
            dict(model=model, metric="accuracy", component="resid_post", layer=0, value=0.5, ci_low=0.4, ci_high=0.6)
        ]
        about = {"parameters": one.public, "seed": 0}
        path = freshness.table_path(one, probing, tmp_path)
        results.write(results.tidy(rows, "probing", n_layers=2), path, about)
    found = ladder.model_by_model(own, probing, lambda table: table.head(1), tmp_path)
    assert found["run"].tolist() == ["SmolLM2 135M", "Gemma 3 270M", "Qwen 2.5 Coder 1.5B", "unknown"]
    assert ladder.listed(found.head(2)) == (
        "**0.50 (0.40 to 0.60)** in SmolLM2 135M and **0.50 (0.40 to 0.60)** in Gemma 3 270M"
    )
    assert len(ladder.behind(found[["value"]].head(1), found)) == 4
    lacking = ladder.model_by_model(own, probing, lambda table: select(table, model=own.model), tmp_path)
    assert lacking["run"].tolist() == ["unknown"], "a table without these rows is passed over"
    none = ladder.model_by_model(own, probing, lambda table: select(table, model="another's"), tmp_path)
    assert none.empty and {"run", "value", "depth"} <= {*none} and ladder.listed(none) == "(not measured)"
    seen = ladder.untrained(own, probing, lambda table: table.head(1), tmp_path)
    assert seen.empty and {"run", "twin", "value", "depth"} <= {*seen} and ladder.in_untrained(seen) == ""
    for seed in (0, 7):
        path = freshness.table_path(replace(REFERENCE, model=f"{REFERENCE.model}@random:{seed}"), probing, tmp_path)
        rows = [
            dict(model="twin", metric="accuracy", component="resid_post", layer=0, value=0.1, ci_low=0.05, ci_high=0.2)
        ]
        results.write(results.tidy(rows, "probing", n_layers=2), path, {"seed": 0})
    seen = ladder.untrained(own, probing, lambda table: table.head(1), tmp_path)
    assert seen[["run", "twin"]].to_numpy().tolist() == [["Qwen 2.5 Coder 1.5B", 0], ["Qwen 2.5 Coder 1.5B", 1]]
    assert seen["value"].dtype == float
    text = "**0.10 (0.05 to 0.20)** in Qwen 2.5 Coder 1.5B"
    assert ladder.in_untrained(seen).endswith(f", {text} and {text}")
    assert ladder.in_untrained(seen.head(1).assign(shown="3 of 12")).endswith(", **3 of 12** in Qwen 2.5 Coder 1.5B")
    with pytest.raises(ValueError, match="no run has a table of probing"):
        ladder.model_by_model(own, probing, lambda table: table, tmp_path / "none")


def test_an_abstract_has_each_part_of_the_study_beside_the_others(run: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    for slug, model in (("mine", "somebody/unknown"), (REFERENCE.slug, REFERENCE.model)):
        for name, table in run.items():
            about = {"parameters": run["probing"].attrs["provenance"]["parameters"] | {"model": model}}
            results.write(table, tmp_path / "results" / slug / f"{name}.parquet", about)
    said = models_overview.abstract("mine", tmp_path)
    head, *rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", said, re.DOTALL)
    ]
    found = pd.DataFrame(rows, columns=head)
    own, other = "unknown (situations, quick)", "Qwen 2.5 Coder 1.5B (situations, quick)"
    assert list(found) == ["what is measured", own, other, "the study's models"]
    assert found[own].tolist() == found[other].tolist() and len(found) == len(models_overview.PARTS)
    cells = found.set_index(
        pd.Index([about.get("landmark", about.get("check")) for *_, about in models_overview.PARTS])
    )
    measured = {"accuracy": "0.30", "probe saturation": "0.60", "agreement without attention": "0.20"}
    assert cells[own].to_dict() == dict.fromkeys(cells.index, "(not measured)") | measured
    accuracies = [model.accuracy for model in paper.PAPER_MODELS]
    assert cells.loc["accuracy"].iloc[-1] == f"{min(accuracies):.2f} to {max(accuracies):.2f}"
    assert 'href="B_ablation.html"' in said and "nineteen claims, with all controls: 0 seen" in said
    assert list(ladder.beside("mine", root=tmp_path)) == [other, own], "of unknown size last"
    assert models_overview.abstract("none", tmp_path) == "Nothing of this run has been measured."


def test_views_put_the_smallest_model_first(published: pd.DataFrame, run: dict[str, pd.DataFrame]) -> None:
    found = overview({"slug": run})
    order = models_overview.by_size(found)
    assert order[:2] == ["SmolLM2 135M (situations, quick)", "Llama 3.2 1B"] and len(order) == 11
    shown = models_overview.depths(found)
    assert shown["model"].drop_duplicates().tolist() == order
    assert shown["metric"].head(3).tolist() == ["probe saturation", "ablation dip", "probe saturation"]
    assert models_overview.numbers(found)["model"].tolist() == order
    curves = models_overview.paper_curves(order)
    assert curves["name"].drop_duplicates().tolist() == order[1:] and curves["panel"].nunique() == 3
    assert models_overview.onset_minus_saturation(found).index.tolist() == sorted(order[1:])
    assert list(models_overview.answers({}, order)) == order[1:]


def test_trend_is_spearman_over_the_paper_s_models(published: pd.DataFrame) -> None:
    found = trends(published, "paper").set_index("landmark").loc["agreement without attention"]
    ranks = select(published, metric="agreement without attention")[["parameters", "value"]].rank()
    assert found["correlation"] == pytest.approx(np.corrcoef(ranks["parameters"], ranks["value"])[0, 1])
    assert found["n"] == 10 and found["p"] == pytest.approx(spearmanr(ranks).pvalue, abs=0.01)


@pytest.mark.parametrize(
    ("values", "correlation", "orders"),
    [([1, 2, 3], 1, 2 / 6), ([1, 2, 4, 3], 0.8, 8 / 24), ([5, 4, 3, 2, 1], -1, 2 / 120), ([2, 2, 2], 0, 1)],
)
def test_few_models_are_as_likely_as_their_orders(values: list[int], correlation: float, orders: float) -> None:
    """A formula for many calls three models in order certain, by chance one time in three."""
    models = dict(metric="accuracy", source="ours", parameters=np.arange(len(values)) + 1e8, value=values)
    found = trends(pd.DataFrame(models), "ours").iloc[0]
    assert found[["correlation", "p"]].tolist() == pytest.approx([correlation, orders])


def test_panels_show_every_model_once(published: pd.DataFrame, run: dict[str, pd.DataFrame]) -> None:
    figure = against_size(overview({"slug": run}), models_overview.SIZES)
    assert isinstance(figure, Figure)
    titles = [ax.get_title() for ax in figure.axes]
    here = ["accuracy", "attention transfer", "agreement without attention", "agreement without feed-forward"]
    assert titles == [models_overview.SIZES[name] for name in (*here, "steering as released")], "what has a row"
    points = {ax.get_title(): [len(line.get_xdata()) for line in ax.lines] for ax in figure.axes}
    assert points["accuracy"] == [10, 1] and points["best transfer of attention"] == [10, 0]
    with pytest.raises(ValueError, match="no landmark"):
        against_size(published[published["metric"] == "ablation dip"], models_overview.SIZES)


def test_a_pattern_says_how_verdicts_go_with_size() -> None:
    sizes = {"a": 1e8, "b": 1e9, "c": 8e9, "d": np.nan}
    outcomes = {
        "C1": ("not", "reproduced", "reproduced"),
        "C2": ("reproduced", "partly", "reproduced"),
        "C3": ("reproduced", "not testable", "reproduced", "reproduced"),
        "C4": ("not", "partly", "not testable", "not"),
        "C5": ("not testable", "reproduced", "not"),
        "C6": ("not testable",) * 3,
        "C7": ("not testable", "partly", "reproduced", "not"),
    }
    rows = [
        dict(
            claim=claim,
            model=model,
            outcome=outcome,
            reason=claims.TWIN_PASSES if (claim, outcome) == ("C3", "not testable") else "",
            parameters=sizes[model],
            source="paper" if model == "c" else "ours",
        )
        for claim, each in outcomes.items()
        for model, outcome in zip(sizes, each, strict=False)
    ]
    found = models_overview.patterns(
        pd.DataFrame(rows).sample(frac=1, random_state=0).sort_values("claim", kind="stable")
    )
    patterns = ["from a size on", "in some", "in all", "in none", "in few", "in few", "in the study's"]
    assert found["pattern"].tolist() == patterns
    assert found["holds"].tolist() == [("b", "c"), ("a", "c"), ("a", "c", "d"), (), ("b",), (), ("c",)]
    assert found["partly"].tolist() == [(), ("b",), (), ("b",), (), (), ("b",)]
    assert found["tested"].tolist() == [3, 3, 3, 3, 2, 0, 3]
    assert found["smallest"].tolist()[:2] == [1e9, 1e8]
    assert found["unlearnt"].tolist() == [(), (), ("b",), (), (), (), ()]
    words = models_overview.told(found)
    assert "In 3 of 3. Not counted: b, whose untrained twin passes as well." in words
    assert "2 of 3, from 1.0 billion parameters on." in words and words.count("\n- C") == 7
    assert "1 of 2: b." in words and "1 of 3: c. In part in 1: b." in words and "0 of 3. In part in 1: b." in words, (
        "none of those of C4 is the study's"
    )
    none = models_overview.told(found.query("claim == 'C4'").assign(study=[("c",)]))
    assert "0 of 3, the study's own values of c among them." in none


def test_what_the_method_decides_is_found_by_comparing_readings() -> None:
    rows = [
        dict(claim=claim, model="m", reading=reading, outcome=outcome, said=f"{outcome} seen")
        for claim, each in {"C10": ("partly", "not"), "C2": ("not", "not"), "C7": ("not", "not testable")}.items()
        for reading, outcome in zip(("as released", "robust"), each, strict=True)
    ]
    assert models_overview.by_method(pd.DataFrame(rows)).to_dict("records") == [
        {
            "claim": f"C10 {claims.claims()['C10'].sentence}",
            "model": "m",
            "as released": "partly seen",
            "robust": "not seen",
        }
    ]


def test_a_check_is_quoted_for_each_run_that_has_it(run: dict[str, pd.DataFrame]) -> None:
    found = ladder.checked({"one": run, "two": {}})
    assert ladder.quoted(found, "C1", "accuracy") == "**0.30** in SmolLM2 135M (situations, quick)"
    assert ladder.quoted(found, "C14", "mean theory score") == "(not measured)"
    assert ladder.measured(found, "C1", "accuracy") == {"SmolLM2 135M (situations, quick)": "0.30"}
    assert ladder.measured(found, "C14", "mean theory score") == {}
    assert ladder.measured(found, "C1", "accuracy", untrained=True) == {}
    twins = found.assign(untrained="0.10; 0.20")
    assert ladder.measured(twins, "C1", "accuracy", untrained=True) == {
        "SmolLM2 135M (situations, quick)": "0.10; 0.20"
    }
    theirs = ladder.of_paper()
    assert set(theirs["run"]) == {"Llama 3.2 1B (paper)"}
    assert ladder.measured(theirs, "C5", "depth at") == {"Llama 3.2 1B (paper)": "0.62"}  # layer 10 of 16


def test_of_models_without_an_untrained_twin_it_is_said(
    planted: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "No untrained twin of A and B was asked: "
    tables = {name: table.copy() for name, table in planted.items()}
    for table in tables.values():
        table.attrs["provenance"] = {"parameters": {"model": "m"}}
    own, twinned = claims.RunTables(tables), claims.RunTables(tables, [tables])
    for names, there in ((("A", "B"), True), ((), False)):
        judged = {name: (own if name in names else twinned, claims.ROBUST) for name in "ABC"}
        monkeypatch.setattr(ladder, "beside", lambda *slugs, judged=judged, **keys: judged)
        for shown in (ladder.badges(Run(), "05_probing"), ladder.claims_in_short()):
            assert (told in shown.to_html()) == there and ("untrained twin" in shown.to_html()) == there
    judged["A"] = claims.RunTables(tables, [{"behaviour": tables["behaviour"]}]), claims.ROBUST
    assert "No untrained twin of A was asked" in ladder.badges(Run(), "05_probing").to_html()


def test_numbers_stand_side_by_side_and_are_counted_where_their_interval_is_above_zero() -> None:
    rows = [("a", 0.3, 0.1), ("b", 0.3, -0.1), ("c", np.nan, np.nan), ("d", 0.4, np.nan)]
    found = pd.DataFrame(rows, columns=["run", "number", "ci_low"]).assign(claim="C1", check="one", ci_high=0.5)
    assert ladder.positive(found, "C1", "one") == "**1 of 3** models"
    assert ladder.positive(found, "C1", "two") == "(not measured)"
    told = found.assign(outcome=["holds", "fails", "no number", "holds"])
    assert ladder.how_many(told, "C1", "one") == "**2 of 3** models"
    assert ladder.how_many(told, "C1", "one", "fails") == "**1 of 3** models"
    drawn = models_overview.checked_numbers(found, {"words": ("C1", "one"), "none": ("C1", "two")})
    assert drawn["run"].tolist() == ["a", "b", "d"] and set(drawn["what"]) == {"words"}
    with pytest.raises(ValueError, match="no run has a number for none"):
        models_overview.checked_numbers(found, {"none": ("C1", "two")})
    shown = ladder.side_by_side({"x": {"b": "1 (0 to 2)"}, "y": {"a": "3"}, "z": {}}, ["a", "b", "c"])
    assert shown.data.to_numpy().tolist() == [["x", "–", "1 (0\xa0to 2)"], ["y", "3", "–"], ["z", "–", "–"]]
    assert list(shown.data) == ["what is measured", "a", "b"], "c has none of them"


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ((0.7, 0.8), "later than in any"),
        ((0.1, 0.2), "earlier than in any"),
        ((0.5, 0.4), "about where"),
        ((0.5, 0.8), "not always where"),
        ((), "(not measured)"),
    ],
)
def test_a_depth_is_set_against_the_studys(ours: tuple[float, ...], words: str) -> None:
    rows = [("paper", 0.4), ("paper", 0.6), *(("ours", value) for value in ours)]
    found = pd.DataFrame(rows, columns=["source", "value"]).assign(metric="patching onset")
    assert models_overview.against_study(found, "patching onset").startswith(words)
    spans = models_overview.spans(found, "patching onset")
    own = f"{min(ours):.2f} to {max(ours):.2f}" if ours else "(not measured)"
    assert spans == f"{own} in our models and 0.40 to 0.60 in the study's"


def test_families_of_two_sizes(published: pd.DataFrame) -> None:
    found = models_overview.families(published).set_index("landmark")
    assert found.loc["accuracy", ["families", "grows"]].tolist() == [5, 5]
    onsets = select(published, metric="patching onset").set_index("model")["value"]
    pairs = [("Llama 3.2 1B", "Llama 3.1 8B"), ("Gemma 2 2B", "Gemma 2 9B"), ("Phi 3.5 mini", "Phi 3 medium")]
    pairs += [("OLMo 2 7B", "OLMo 2 13B"), ("Ministral 8B", "Mistral Nemo 12B")]
    assert found.loc["patching onset"].tolist() == [5, sum(onsets[big] > onsets[small] for small, big in pairs)]


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return ladder.checked(claims.shown_runs(REFERENCE.slug, ROOT))


def test_the_discussion_says_what_the_committed_runs_show(committed: pd.DataFrame) -> None:
    assert models_overview.written_for(committed) == ""
    for unmeasured in (ladder.checked({}), committed.assign(outcome="no number")):
        assert models_overview.written_for(unmeasured).startswith("**No run shown here has measured")
    for one in claims.data()["written_for"]:
        turned = committed.copy()
        hit = (turned["claim"] == one["claim"]) & turned["check"].str.startswith(one["check"])
        assert hit.any(), one
        other = next(mark for mark in ("holds", "fails") if mark not in one["outcomes"])
        turned.loc[hit, "outcome"] = other
        assert f"that {one['says']} ({one['claim']}), not in Qwen 2.5 Coder 1.5B" in models_overview.written_for(turned)


def test_every_doubt_has_a_check_of_the_reference_run(committed: pd.DataFrame) -> None:
    found = models_overview.doubts(committed)
    assert len(found) == len(claims.data()["doubts"]) and list(found)[3:6] == [
        "SmolLM2 135M",
        "Gemma 3 270M",
        "Qwen 2.5 Coder 1.5B",
    ]
    assert set(found["Qwen 2.5 Coder 1.5B"]) <= {"holds", "open", "fails"}, "each is measured"
    code = (ROOT / "notebooks" / "10_discussion.py").read_text(encoding="utf-8")
    for claim, check in re.findall(r"""of\(['"](C\d+)['"], ['"]([^'"]+)['"]""", code):
        assert ladder.quoted(committed, claim, check) != "(not measured)", (claim, check)


def test_what_a_table_took_is_what_its_provenance_says(reference_tables: dict[str, pd.DataFrame]) -> None:
    found = ladder.took({"run": reference_tables}).set_index("experiment")
    assert list(found) == ["Qwen 2.5 Coder 1.5B (mixed, 6,600 events)"] and set(found.index) == set(reference_tables)
    made = reference_tables["patching"].attrs["provenance"]
    minutes, memory = re.findall(r"[\d.]+", found.loc["patching"].item())
    assert abs(float(minutes) * 60 - made["seconds"]) <= 30 and abs(float(memory) * 1024 - made["peak_memory_mb"]) < 52
    assert ladder.took({}).empty


def test_without_a_stored_run_pages_have_the_paper_alone(published: pd.DataFrame) -> None:
    found = ladder.checked({})
    assert found.empty and ladder.quoted(found, "C1", "accuracy") == "(not measured)"
    assert len(models_overview.doubts(found)) == len(claims.data()["doubts"])
    assert models_overview.by_method(claims.verdicts_by({})).empty
    assert models_overview.where(published, "patching onset").startswith("(not measured) (in the paper's models 0.")


def test_a_twin_that_shows_as_much_is_told_apart_from_one_that_does_not(planted: dict[str, pd.DataFrame]) -> None:
    def moved(by: float) -> dict[str, pd.DataFrame]:
        table = planted["behaviour"].copy()
        table[["value", "ci_low", "ci_high"]] -= by
        return planted | {"behaviour": table}

    run = claims.RunTables(planted)
    assert models_overview.beside_twins({"run": run}).empty
    for twins, apart in (((moved(0),), "no"), ((moved(0.5),), "yes"), ((moved(0.5), moved(0)), "no")):
        run.twins = twins
        found = models_overview.beside_twins({"run": run}).set_index("what is measured")
        assert found.loc["accuracy", "apart"] == apart
        assert found.loc["accuracy", "untrained"].count("; ") == len(twins) - 1
        assert (found.drop(index="accuracy")["apart"] == "no").all() and len(found) > 3
    run.twins = ({"behaviour": planted["behaviour"]},)  # that was asked nothing else
    assert models_overview.beside_twins({"run": run})["what is measured"].tolist() == ["accuracy"]
    without = planted["behaviour"].assign(ci_low=np.nan, ci_high=np.nan)
    run.twins = ({"behaviour": without},)
    assert models_overview.beside_twins({"run": run})["apart"].tolist() == ["no"], "nothing is known of its interval"

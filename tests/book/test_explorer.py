"""What the explorer draws is what is stored: every row comes back out of the packed data, in our words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emolib.book import explorer
from emolib.figures.palette import CYCLE
from emolib.study.run import REFERENCE
from emolib.tables import paper, results
from emolib.texts.appraisals import Setting
from helpers import ROOT

PARAMETERS = {"model": "tiny", "corpus": "situations", "profile": "quick", "prompt": "T1-2shot", "calibration": "none"}
SLUG = "tiny_situations"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with two stored tables: of cosines, with an overall value, and of labels under three directions."""
    folder = tmp_path_factory.mktemp("checkout")
    cosine = dict(component="resid_post", position="-1", vector="probe", set="agreed", emotion="joy", metric="cosine")
    geometry = [
        {**cosine, "layer": 0, "value": 0.123456789, "ci_low": 0.1, "ci_high": 0.2, "n": 7},
        {**cosine, "layer": 4, "value": -0.5},
        {**cosine, "layer": None, "value": 0.9},
    ]
    score = dict(component="resid_post", position="-1", span=3, layer=1, dose=1, unit="norm", metric="theory_score")
    signs = Setting(pleasantness=1, other_responsblt=-1).columns()
    modulation = [
        {**score, **signs, "vector": "raw", "value": 0.6},
        {**score, "settings": "printed", "vector": "raw", "value": 0.5},
        {**score, **signs, "metric": "theory_score_null", "vector": "random", "draw": 3, "value": 0.3},
    ]
    for experiment, rows in (("geometry", geometry), ("modulation", modulation)):
        table = results.tidy(rows, experiment, n_layers=5, model="tiny", seed=0, prompt="T1-2shot")
        results.write(table, folder / "results" / SLUG / f"{experiment}.parquet", {"parameters": PARAMETERS})
    return folder


@pytest.fixture(scope="module")
def payload(root: Path) -> dict[str, Any]:
    """What the page is given of it."""
    return json.loads(json.dumps(explorer.payload(root), allow_nan=False))


def unpacked(payload: dict, experiment: str, metric: str) -> pd.DataFrame:
    """A measure's table as explorer.js reads it."""
    table = payload["tables"][experiment][metric]
    texts = {
        name: [coded["values"][coded["codes"][number]] for number in table["series"]]
        for name, coded in table["texts"].items()
    }
    return pd.DataFrame({**texts, **table["numbers"]})


def test_packed_data_holds_the_stored_values_and_where_they_are(payload: dict[str, Any]) -> None:
    frame = unpacked(payload, "geometry", "cosine")
    ours = frame[frame["who"] == "tiny (situations, none, quick)"]
    assert ours[["layer", "n_layers", "value"]].to_numpy().tolist() == [[0, 5, 0.12346], [4, 5, -0.5]]
    assert ours["ci_low"].tolist()[0] == 0.1 and np.isnan(ours["ci_low"].tolist()[1])
    assert ours["n"].tolist()[0] == 7 and set(ours["where"]) == {f"results/{SLUG}/geometry.parquet"}


def test_choices_are_the_columns_with_several_values_and_draws_are_left_out(payload: dict[str, Any]) -> None:
    tables = payload["tables"]
    # the paper has the cosines of six emotions with two appraisals, ours here has none with any
    assert tables["geometry"]["cosine"]["choices"] == ["emotion", "appraisal"]
    # what a score is compared with is a choice; the only such row here is a single draw
    assert set(tables["modulation"]["theory_score"]["choices"]) == {"unit", "dose", "setting"}
    frame = unpacked(payload, "modulation", "theory_score")
    ours = frame[frame["who"].str.startswith("tiny")].set_index("setting")
    assert ours["value"].to_dict() == {"pleasantness ↑, other-agency ↓": 0.6, "mean of the printed settings": 0.5}
    assert "random" not in set(frame.get("vector", []))


@pytest.fixture(scope="module")
def everything() -> pd.DataFrame:
    return explorer.measurements(ROOT)


def test_every_value_of_the_paper_over_layers_is_there(everything: pd.DataFrame) -> None:
    theirs = everything[everything["kind"] == "paper"]
    assert set(theirs["who"]) == {f"{model.name} (paper)" for model in paper.PAPER_MODELS}
    stored = paper.load_values()
    stored = stored[stored["layer"].notna() & stored["draw"].isna()]
    # Attention is joined over the demonstrations.
    single = stored[stored["experiment"] != "attention"]
    shown = {site: rows.to_numpy() for site, rows in theirs.groupby(["who", "layer"])["value"]}
    who = single["model"].map(paper.model_name) + " (paper)"
    missing = [row for row in single.assign(who=who).itertuples() if row.value not in shown[row.who, row.layer]]
    assert len(single) > 3000 and not missing


def test_a_choice_of_each_column_leaves_one_value_a_layer_and_model(everything: pd.DataFrame) -> None:
    for (experiment, metric), rows in everything.groupby(["experiment", "metric"]):
        chosen = explorer.choices(experiment, rows)
        assert not rows.duplicated([*chosen, "who", "layer"]).any(), (experiment, metric)


def test_what_a_measure_is_compared_with_is_a_choice_of_it(everything: pd.DataFrame) -> None:
    stored = results.read(ROOT / "results" / REFERENCE.slug / "geometry.parquet")
    null = results.select(stored, metric="alignment_null", vector="probe", set="agreed").sort_values("layer")
    assert len(null) == 28 and not everything["metric"].str.contains("_null").any()
    keys = dict(experiment="geometry", metric="alignment", comparison="null", vector="probe", set="agreed")
    shown = results.select(everything, who="Qwen 2.5 Coder 1.5B", **keys).sort_values("layer")
    assert shown["value"].tolist() == null["value"].tolist()


def questions() -> list[tuple[str, dict[str, Any]]]:
    return [(name, about) for part in explorer.questions()["parts"].values() for name, about in part.items()]


@pytest.mark.parametrize(("name", "about"), questions(), ids=[name for name, _ in questions()])
def test_each_question_shows_a_committed_run_and_leaves_little_open(
    name: str, about: dict[str, Any], everything: pd.DataFrame
) -> None:
    view = {key: value for key, value in about["view"].items() if key not in ("by", "over")}
    rows = results.select(everything, experiment=about["experiment"], **view)
    ours = rows[rows["where"].str.contains(REFERENCE.slug)]
    spread = [about["view"][key] for key in ("by", "over") if about["view"].get(key, "who") != "who"]
    assert len(ours) > 1 and all(rows[column].nunique() > 1 for column in spread)
    assert len(set(explorer.choices(about["experiment"], rows)) - {*spread}) <= 3
    assert about["question"].endswith("?")


def test_every_figure_that_has_a_question_is_in_a_chapter_and_leads_to_one() -> None:
    known = [figure for _, about in questions() for figure in about.get("figures", [])]
    assert len(known) == len(set(known)) > 60 and len({name for name, _ in questions()}) == len(questions())
    texts = " ".join(path.read_text() for path in (ROOT / "notebooks").glob("*.py"))
    written = [re.sub(r"-[1-9]$", "-{", figure) for figure in known]
    assert not [one for one in written if f'"{one}"' not in texts and f'f"{one}' not in texts]
    assert explorer.question_of("fig-probing-depth") == ("read", "Where can a probe read the emotion?")
    assert explorer.question_of("my-run-fig-probing-depth") == explorer.question_of("fig-probing-depth")
    assert explorer.question_of("fig-speed-growth") is None


def test_menus_and_words_are_of_columns_and_measures_that_there_are(everything: pd.DataFrame) -> None:
    about = explorer.questions()
    columns = {*explorer.CHOICES, "comparison", "setting", "experiment", "layer", "by", "over"}
    assert {name for menu in about["menus"].values() for name in menu} <= columns
    assert not {*about["words"]} - columns
    for experiment, known in about["levels"].items():
        assert set(known) <= set(everything.loc[everything["experiment"] == experiment, "metric"]), experiment


def test_chance_is_one_of_the_labels(payload: dict[str, Any]) -> None:
    assert payload["levels"]["probing"]["accuracy"] == {"chance": 1 / 13}


def test_pages_load_a_measure_when_it_is_looked_at(payload: dict[str, Any], root: Path) -> None:
    scripts = dict(explorer.scripts(root))
    measures = [(name, metric) for name, known in payload["tables"].items() for metric in known]
    assert set(scripts) == {"explorer-data.js", *(f"explorer/{name}-{metric}.js" for name, metric in measures)}
    assert len(scripts["explorer-data.js"]) < 40_000
    text = scripts["explorer/geometry-cosine.js"].removeprefix('window.emolibExplorer.add("geometry","cosine",')
    assert json.loads(text.removesuffix(");\n")) == payload["tables"]["geometry"]["cosine"]


def test_one_choice_shows_the_paper_s_values_and_ours_of_the_same_thing(everything: pd.DataFrame) -> None:
    frame = everything[everything["kind"].eq("paper") | everything["where"].str.contains(REFERENCE.slug)]
    for experiment, rows in frame.groupby("experiment"):
        columns = ["metric", *explorer.choices(str(experiment), rows)]
        shared = rows.groupby(columns)["kind"].nunique().eq(2)
        assert shared.any() == (experiment != "wording"), experiment  # the paper has no such control
    stored = {path.stem for path in (ROOT / "results" / REFERENCE.slug).glob("*.parquet")}
    assert set(frame["experiment"]) == stored
    keys = {"component": "attn_out", "position": "-1", "layer": 4, "prompt": "T1-2shot"}
    theirs = paper.values("zero_ablation", model="Llama 3.2 1B", span=1, **keys)
    rows = results.select(frame, who="Llama 3.2 1B (paper)", experiment="ablation", method="zero", span="1", **keys)
    assert rows["value"].tolist() == theirs["value"].tolist()
    assert rows["where"].str.startswith("Figure 14").all()


def test_runs_come_first_and_a_model_keeps_its_colour(payload: dict[str, Any], everything: pd.DataFrame) -> None:
    shown = payload["models"]
    assert [model["kind"] for model in shown] == ["run", *["paper"] * 10]
    assert [model["who"] for model in shown[1:]] == [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    assert len({model["colour"] for model in shown[1:]}) == 10
    committed = {model["who"]: model["colour"] for model in explorer.models(everything)}
    assert {model["who"]: model["colour"] for model in shown[1:]}.items() <= committed.items()
    assert committed["Qwen 2.5 Coder 1.5B"] == CYCLE[0] != committed["Llama 3.2 1B (paper)"]


def test_without_any_run_the_paper_is_there(tmp_path: Path) -> None:
    payload = explorer.payload(tmp_path)
    assert {model["kind"] for model in payload["models"]} == {"paper"} and "modulation" in payload["tables"]


def test_reference_run_is_stored_under_a_readable_name() -> None:
    frame = explorer.stored(ROOT / "results" / REFERENCE.slug / "ablation.parquet", ROOT)
    assert set(frame["who"]) == {"Qwen 2.5 Coder 1.5B"} and frame["layer"].notna().all()


PAGE = """<!doctype html><meta charset="utf-8"><title>explorer</title>
<div id="emolib-explorer" class="emolib-explorer"></div>
<script src="emolib.js"></script>
<script>window.emolibSortable = () => {};</script>
<script src="vega.js"></script><script src="explorer-data.js"></script><script src="explorer.js"></script>"""


def test_the_page_works_from_a_file_and_shows_only_the_choices_of_the_experiment(root: Path, opened: Any) -> None:
    (root / "vega.js").write_text(explorer.vega(), encoding="utf-8")
    for name, text in explorer.scripts(root):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in ("emolib.js", "explorer.js"):
        (root / name).write_bytes((ROOT / "book" / "_static" / name).read_bytes())
    (root / "page.html").write_text(PAGE, encoding="utf-8")
    page = opened.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((root / "page.html").as_uri() + "#angles")
    page.wait_for_selector("[data-rows]")
    assert page.input_value("[name=question]") == "angles"
    page.click(".emolib-own summary")
    page.select_option("[name=experiment]", "modulation")
    page.wait_for_selector("[data-rows]")
    names = page.eval_on_selector_all("select", "all => all.map((one) => one.name)")
    assert names[:3] == ["question", "experiment", "metric"] and "emotion" not in names
    page.select_option("[name=metric]", "theory_score")
    page.wait_for_selector("[data-rows]")
    page.select_option("[name=unit]", "norm")
    page.wait_for_selector("[data-rows]")
    assert page.eval_on_selector_all("[name=setting] option", "all => all.map((one) => one.textContent)") == [
        "mean of the printed settings",
        "pleasantness ↑, other-agency ↓",
    ]
    page.select_option("[name=setting]", "pleasantness ↑, other-agency ↓")
    page.wait_for_selector("[data-rows='1']")
    page.click(".emolib-explorer > details:last-child summary")
    listed = page.inner_text(".emolib-rows tbody").split("\t")
    assert listed[:3] == ["tiny (situations, none, quick)", "2 of 5", "0.6"]
    # The address restores the view, in another tab too.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("[data-rows='1']")
    assert page.input_value("[name=question]") == "" and page.url == address
    assert page.input_value("[name=setting]") == "pleasantness ↑, other-agency ↓"
    # Which emotions point towards pleasantness: the paper has six of them in sixteen layers.
    page.select_option("[name=question]", "angles")
    page.wait_for_selector("[data-rows='96']")
    assert page.url.endswith("#angles") and not failed


def test_scripts_keep_their_names_to_themselves() -> None:
    script = explorer.vega()
    assert "window.vegaEmbed=" in script and script.startswith("(() => {") and script.endswith("})();\n")

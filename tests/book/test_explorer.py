"""What the explorer draws is what is stored: every row comes back out of the packed data, in our words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emolib.book import explorer
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


def unpacked(payload: dict, experiment: str) -> pd.DataFrame:
    """The table as explorer.js reads it."""
    table = payload["tables"][experiment]
    texts = {
        name: [coded["values"][coded["codes"][number]] for number in table["series"]]
        for name, coded in table["texts"].items()
    }
    return pd.DataFrame({**texts, **table["numbers"]})


def test_packed_data_holds_the_stored_values_and_where_they_are(payload: dict[str, Any]) -> None:
    frame = unpacked(payload, "geometry")
    ours = frame[frame["who"] == "tiny (situations, none, quick)"]
    assert ours[["layer", "n_layers", "value"]].to_numpy().tolist() == [[0, 5, 0.12346], [4, 5, -0.5]]
    assert ours["ci_low"].tolist()[0] == 0.1 and np.isnan(ours["ci_low"].tolist()[1])
    assert ours["n"].tolist()[0] == 7 and set(ours["where"]) == {f"results/{SLUG}/geometry.parquet"}


def test_choices_are_the_columns_with_several_values_and_draws_are_left_out(payload: dict[str, Any]) -> None:
    tables = payload["tables"]
    # the paper has the cosines of six emotions with two appraisals, ours here has none with any
    assert tables["geometry"]["choices"] == ["metric", "emotion", "appraisal"]
    assert set(tables["modulation"]["choices"]) == {"metric", "unit", "dose", "label", "setting"}
    frame = unpacked(payload, "modulation")
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
    shown = {site: rows.to_numpy() for site, rows in theirs.groupby(["model", "layer"])["value"]}
    missing = [row for row in single.itertuples() if row.value not in shown[row.model, row.layer]]
    assert len(single) > 3000 and not missing


def test_a_choice_of_each_column_leaves_one_value_a_layer_and_model(everything: pd.DataFrame) -> None:
    for experiment, rows in everything.groupby("experiment"):
        chosen = explorer.choices(str(experiment), rows)
        assert not rows.duplicated([*chosen, "who", "layer"]).any(), experiment


def test_one_choice_shows_the_paper_s_values_and_ours_of_the_same_thing(everything: pd.DataFrame) -> None:
    frame = everything[everything["kind"].eq("paper") | everything["where"].str.contains(REFERENCE.slug)]
    for experiment, rows in frame.groupby("experiment"):
        shared = rows.groupby(explorer.choices(str(experiment), rows))["kind"].nunique().eq(2)
        assert shared.any() == (experiment != "wording"), experiment  # the paper has no such control
    # Behaviour has no layers.
    stored = {path.stem for path in (ROOT / "results" / REFERENCE.slug).glob("*.parquet")}
    assert set(frame["experiment"]) == stored - {"behaviour"}
    keys = {"component": "attn_out", "position": "-1", "layer": 4, "prompt": "T1-2shot"}
    theirs = paper.values("zero_ablation", model="Llama 3.2 1B", span=1, **keys)
    rows = results.select(frame, who="Llama 3.2 1B (paper)", experiment="ablation", method="zero", span="1", **keys)
    assert rows["value"].tolist() == theirs["value"].tolist()
    assert rows["where"].str.startswith("Figure 14").all()


def test_runs_come_first_and_differ_in_colour_from_the_paper_s_detailed_model(payload: dict[str, Any]) -> None:
    models = payload["models"]
    assert [model["kind"] for model in models] == ["run", *["paper"] * 10]
    assert [model["who"] for model in models[1:]] == [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    assert len({model["colour"] for model in models[:10]}) == 10


def test_without_any_run_the_paper_is_there(tmp_path: Path) -> None:
    payload = explorer.payload(tmp_path)
    assert {model["kind"] for model in payload["models"]} == {"paper"} and "modulation" in payload["tables"]


def test_reference_run_is_stored_under_a_readable_name() -> None:
    frame = explorer.stored(ROOT / "results" / REFERENCE.slug / "ablation.parquet", ROOT)
    assert set(frame["who"]) == {"SmolLM2 135M"} and frame["layer"].notna().all()


PAGE = """<!doctype html><meta charset="utf-8"><title>explorer</title><div id="emolib-explorer"></div>
<script>window.emolibSortable = () => {};</script>
<script src="vega.js"></script><script src="data.js"></script><script src="explorer.js"></script>"""


def test_the_page_works_from_a_file_and_shows_only_the_choices_of_the_experiment(
    root: Path, payload: dict[str, Any], opened: Any
) -> None:
    (root / "vega.js").write_text(explorer.vega(), encoding="utf-8")
    (root / "data.js").write_text(f"window.emolibExplorer = {json.dumps(payload)};", encoding="utf-8")
    (root / "explorer.js").write_bytes((ROOT / "book" / "_static" / "explorer.js").read_bytes())
    (root / "page.html").write_text(PAGE, encoding="utf-8")
    page = opened.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((root / "page.html").as_uri())
    page.wait_for_selector("[data-rows]")
    page.select_option("[name=experiment]", "modulation")
    page.wait_for_selector("[data-rows]")
    names = page.eval_on_selector_all("select", "all => all.map((one) => one.name)")
    assert names[:2] == ["experiment", "metric"] and "emotion" not in names
    page.select_option("[name=metric]", "theory_score")
    page.select_option("[name=unit]", "norm")
    page.wait_for_selector("[data-rows]")
    assert page.eval_on_selector_all("[name=setting] option", "all => all.map((one) => one.textContent)") == [
        "mean of the printed settings",
        "pleasantness ↑, other-agency ↓",
    ]
    page.select_option("[name=setting]", "pleasantness ↑, other-agency ↓")
    page.wait_for_selector("[data-rows='1']")
    page.click("summary")
    assert page.inner_text(".emolib-rows tbody").split("\t")[:3] == ["tiny (situations, none, quick)", "2 of 5", "0.6"]
    page.select_option("[name=experiment]", "geometry")
    page.wait_for_selector("[data-rows='2']")
    assert not failed


def test_scripts_keep_their_names_to_themselves() -> None:
    script = explorer.vega()
    assert "window.vegaEmbed=" in script and script.startswith("(() => {") and script.endswith("})();\n")

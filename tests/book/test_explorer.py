"""What the explorer draws is what is stored: every row comes back out of the packed data, in our words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emolib.book import explorer
from emolib.study.run import REFERENCE
from emolib.tables import paper, results
from helpers import ROOT

PARAMETERS = {"model": "tiny", "corpus": "situations", "profile": "quick", "prompt": "T1-2shot", "calibration": "none"}
SLUG = "tiny_situations"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one stored table: two layers of one condition, an overall value, a numbered random direction."""
    row = {"component": "resid_post", "position": "-1", "condition": "vector:probe", "label": "joy", "metric": "cosine"}
    table = results.tidy(
        [
            {**row, "layer": 0, "value": 0.123456789, "ci_low": 0.1, "ci_high": 0.2, "n": 7},
            {**row, "layer": 4, "value": -0.5},
            {**row, "layer": None, "value": 0.9},
            {**row, "layer": 1, "condition": "random:3", "value": 0.3},
            {**row, "layer": 1, "condition": "vector:random", "value": 0.4},
        ],
        experiment="geometry",
        model="tiny",
        seed=0,
    )
    results.write(table, tmp_path / "results" / SLUG / "geometry.parquet", {"parameters": PARAMETERS})
    return tmp_path


def unpacked(payload: dict) -> pd.DataFrame:
    """The table as explorer.js reads it."""
    texts = {
        name: [coded["values"][coded["codes"][number]] for number in payload["series"]]
        for name, coded in payload["texts"].items()
    }
    return pd.DataFrame({**texts, **payload["numbers"]})


def test_packed_data_holds_the_stored_values_and_where_they_are(root: Path) -> None:
    payload = json.loads(json.dumps(explorer.payload(root), allow_nan=False))
    frame = unpacked(payload)
    ours = frame[frame["source"] == "tiny on situations, quick, none"]
    assert ours[["layer", "layers", "value"]].to_numpy().tolist() == [[0, 5, 0.12346], [4, 5, -0.5], [1, 5, 0.4]]
    assert ours["ci_low"].tolist()[0] == 0.1 and np.isnan(ours["ci_low"].tolist()[1])
    assert ours["n"].tolist()[0] == 7 and set(ours["where"]) == {f"results/{SLUG}/geometry.parquet"}
    assert not frame["condition"].str.contains("random:3").any() and "vector:random" in set(ours["condition"])


def test_every_value_of_the_paper_over_layers_is_there(root: Path) -> None:
    frame = unpacked(explorer.payload(root))
    theirs = frame[frame["source"].str.endswith(" (paper)")]
    assert set(theirs["source"]) == {f"{model.name} (paper)" for model in paper.PAPER_MODELS}
    assert not theirs.duplicated([*explorer.CHOICES, "source", "layer"]).any()
    stored = paper.load_values()
    stored = stored[stored["layer"].notna() & ~stored["condition"].str.contains("random:")]
    # Attention is joined over the demonstrations, and what an overwritten window does is one value, the last layer's.
    joined = stored["experiment"].eq("attention") | stored["component"].eq("resid_post") & stored["span"].gt(1)
    single = stored[~joined].assign(source=stored["model"].map(paper.model_name) + " (paper)")
    shown = {site: rows.to_numpy() for site, rows in theirs.groupby(["source", "layer"])["value"]}
    nearest = [
        min(shown[row.source, row.layer], key=lambda value, row=row: abs(value - row.value))
        for row in single.itertuples()
    ]
    assert len(single) > 3000 and nearest == pytest.approx(single["value"].tolist(), rel=1e-4, abs=1e-4)


def test_one_choice_shows_the_paper_s_values_and_ours_of_the_same_thing() -> None:
    frame = explorer.measurements(ROOT)
    frame = frame[frame["kind"].eq("paper") | frame["where"].str.contains(REFERENCE.slug)]
    shared = frame.groupby(list(explorer.CHOICES))["kind"].nunique().eq(2)
    reference = {path.stem for path in (ROOT / "results" / REFERENCE.slug).glob("*.parquet")}
    # Behaviour has no layers.
    assert set(shared[shared].index.get_level_values("experiment")) == reference - {"behaviour"}
    theirs = paper.values(
        "zero_ablation", model="Llama 3.2 1B", component="attn_out", span=1, position="-1", layer=4, prompt="T1-2shot"
    )
    rows = frame[(frame["source"] == "Llama 3.2 1B (paper)") & (frame["condition"] == "edit:zero")]
    keys = {"component": "attn_out", "span": "1", "position": "-1", "layer": 4, "prompt": "T1-2shot"}
    found = results.select(rows, **keys)
    assert found["value"].tolist() == theirs["value"].tolist()
    assert found["where"].str.startswith("Figure 14").all()


def test_runs_come_first_and_differ_in_colour_from_the_paper_s_detailed_model(root: Path) -> None:
    sources = explorer.payload(root)["sources"]
    assert [source["kind"] for source in sources] == ["run", *["paper"] * 10]
    assert [source["source"] for source in sources[1:]] == [f"{model.name} (paper)" for model in paper.PAPER_MODELS]
    assert len({source["colour"] for source in sources[:10]}) == 10


def test_reference_run_is_stored_under_a_readable_name() -> None:
    frame = explorer.stored(ROOT / "results" / REFERENCE.slug / "ablation.parquet", ROOT)
    assert set(frame["source"]) == {"smollm2-135m on crowd-envent, full"} and frame["layer"].notna().all()


def test_scripts_keep_their_names_to_themselves() -> None:
    script = explorer.vega()
    assert "window.vegaEmbed=" in script and script.startswith("(() => {") and script.endswith("})();\n")

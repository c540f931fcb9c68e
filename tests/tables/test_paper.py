"""The paper's values: the packed file gives the csv back to the byte; known numbers; strict selection."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from emolib.paper import tables as paper_tables
from emolib.tables import paper, results, schemas
from emolib.texts.appraisals import APPRAISALS, EMOTIONS, NAMED

CSV_SHA256 = "799fb86f06077325e4d8cef3e9c7634533c957d3ef0c9269eb327ebb6101d92f"
LLAMA = "Llama 3.2 1B"
DEFAULT = {"prompt": "T1-2shot", "position": "-1"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "build_paper_values.py"
    spec = importlib.util.spec_from_file_location("build_paper_values", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_packed_file_is_the_csv(tool: ModuleType) -> None:
    table = pq.read_table(paper.PACKED)
    text = tool.csv_text(table.to_pandas()).encode()
    assert hashlib.sha256(text).hexdigest() == CSV_SHA256
    assert table.schema.metadata[b"sha256_of_csv"].decode() == CSV_SHA256
    assert paper.PACKED.stat().st_size < 200_000
    given = os.environ.get("EMOLIB_PAPER_VALUES")
    if given:
        assert Path(given).read_bytes() == text


def test_packing_gives_the_file_back_and_refuses_another_spelling(tool: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / "v.csv", tmp_path / "v.parquet"
    row = "Fig 2,patching,m,T1-2shot,attn_out,3,4,16,3,-1,200,,,a:b;c:d,joy,transfer,0.005,0,vector\n"
    source.write_text(",".join(tool.ORDER) + "\n" + row)
    assert tool.pack(source, target) == hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_text(source.read_text().replace("0.005", "0.0050"))
    with pytest.raises(ValueError, match="another form"):
        tool.pack(source, target)
    source.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected"):
        tool.pack(source, target)


def test_layers_are_counted_from_zero_and_depth_from_one() -> None:
    frame = paper.load_values()
    assert len(frame) == 16_756
    layered = frame.dropna(subset=["layer", "n_layers"])
    assert layered["layer"].min() == 0
    assert (layered["layer"] < layered["n_layers"]).all()
    np.testing.assert_allclose(layered["depth"], (layered["layer"] + 1) / layered["n_layers"])
    edits = frame.dropna(subset=["last_layer"])
    assert (edits["last_layer"] == edits["layer"] + edits["span"] // 2).all()
    probes = frame[frame["experiment"] == "emotion_probe"]
    assert (probes.groupby("model")["depth"].max() == 1).all()


def test_packed_texts_have_columns() -> None:
    frame = paper.load_values()
    assert not frame.duplicated([name for name in frame if name not in ("value", "tolerance", "how", "figure")]).any()
    moved = results.select(frame, experiment="modulation", pleasantness=1, other_responsblt=-1)
    assert set(moved["predict_event"]) == {0} and moved["draw"].isna().all() and len(moved) == 14 * 3 * 13
    random = results.select(frame, experiment="modulation", vector="random")
    assert set(random["draw"]) == {42, 43, 44} and random["pleasantness"].isna().all()
    cosine = results.select(frame, experiment="geometry", emotion="pride", appraisal="pleasantness", layer=0)
    assert cosine["value"].item() == pytest.approx(0.76, abs=0.01)
    missed = results.select(frame, experiment="misclassified", metric="mean_rating", set="missed", emotion="sadness")
    assert missed.set_index("appraisal")["value"].to_dict() == {"pleasantness": 1.6, "other_responsblt": 3.2}
    assert results.select(frame, part="demo_1", token="joy")["metric"].unique().tolist() == ["top1_count"]


# Table of the brief, section 7.2, read from the paper's vector figures.
PROBE = {
    "attn_out": ".245 .307 .327 .496 .564 .524 .677 .712 .819 .870 .854 .870 .836 .905 .901 .903",
    "mlp_out": ".248 .361 .409 .527 .584 .591 .651 .701 .786 .880 .912 .925 .923 .934 .936 .932",
    "resid_post": ".254 .363 .422 .507 .557 .571 .670 .708 .792 .900 .916 .938 .940 .942 .943 .942",
}
TRANSFER = ".005 .005 .010 .000 .010 .015 .120 .560 .705 .485 .095 .125 .125 .115"


@pytest.mark.parametrize("component", PROBE)
def test_known_probe_accuracies(component: str) -> None:
    rows = paper.values("emotion_probe", model=LLAMA, component=component, **DEFAULT).sort_values("layer")
    assert rows["layer"].tolist() == list(range(16))
    np.testing.assert_allclose(rows["value"], np.array(PROBE[component].split(), float), atol=0.004)


def test_known_transfer_and_confusion() -> None:
    keys = {"model": LLAMA, "component": "attn_out", "span": 3, "metric": "transfer", **DEFAULT}
    rows = paper.values("patching", **keys).sort_values("layer")
    assert rows["layer"].tolist() == list(range(1, 15))
    np.testing.assert_allclose(rows["value"], np.array(TRANSFER.split(), float), atol=1e-9)
    counts = paper.values("behaviour", model=LLAMA, metric="confusion_count")
    table = counts.pivot(index="label", columns="answer", values="value").loc[[*EMOTIONS], [*EMOTIONS]]
    assert table.sum(axis=None) == 6600 and np.trace(table) == 2740
    assert table.loc["anger"].sum() == 550 and table.loc["anger", "anger"] == 459


def test_span_of_resid_post_is_vacuous_by_last_layer() -> None:
    keys = {"model": LLAMA, "component": "resid_post", "metric": "agreement", **DEFAULT}
    one, three = (paper.values("zero_ablation", span=span, **keys).set_index("last_layer")["value"] for span in (1, 3))
    both = pd.concat([one, three], axis=1, keys=["one", "three"]).dropna()
    assert len(both) == 14
    assert (both["one"] - both["three"]).abs().max() < 0.002


def test_models_agree_with_the_values() -> None:
    accuracy = paper.values("behaviour", metric="accuracy", prompt="T1-2shot").drop_duplicates("model")
    known = accuracy.set_index("model")["value"]
    layers = paper.load_values().dropna(subset="n_layers").groupby("model")["n_layers"].first()
    assert [m.layers for m in paper.PAPER_MODELS] == sorted(m.layers for m in paper.PAPER_MODELS)
    assert len(paper.PAPER_MODELS) == 10
    for model in paper.PAPER_MODELS:
        assert model.layers == layers[model.id]
        assert model.accuracy == pytest.approx(known[model.id], abs=1e-4)
        assert paper.model_id(model.name) == paper.model_id(model.id) == model.id
        assert paper.model_name(model.id) == model.name
    assert paper.model_name("org/other-7b") == "other-7b"


def test_appraisals_carry_the_corpus_names() -> None:
    rows = paper.values("appraisal_probe")
    assert set(rows["appraisal"]) == set(NAMED) < set(APPRAISALS)


def test_selection_is_strict() -> None:
    with pytest.raises(ValueError, match="experiment is one of.*'zero_ablation'"):
        paper.values("probing")
    with pytest.raises(ValueError, match=r"span is one of \[1, 3, 5\]"):
        paper.values("patching", model=LLAMA, span=7)
    with pytest.raises(ValueError, match="has no model 'gpt2'.*Llama 3.2 1B"):
        paper.values("patching", model="gpt2")
    both = paper.values("patching", model=[LLAMA, "google/gemma-2-2b-it"], span=5, component="mlp_out")
    assert both["model"].nunique() == 2


def test_our_tables_are_made_of_the_papers_experiments() -> None:
    there = set(paper.load_values()["experiment"])
    used = {source for parts in paper_tables.MADE_OF.values() for source, _, _ in parts}
    assert set(paper_tables.MADE_OF) == set(schemas.EXPERIMENTS)
    assert used == there - {"open_vocabulary"}
    assert set(paper_tables.paper_tables(LLAMA)) == set(schemas.EXPERIMENTS) - {"wording"}
    assert set(paper_tables.paper_tables("Gemma 2 2B")) == {
        "behaviour",
        "probing",
        "patching",
        "ablation",
        "robustness",
    }
    with pytest.raises(ValueError, match="has no model"):
        paper_tables.paper_tables("gpt2")


def test_a_table_keeps_each_value_and_its_site() -> None:
    theirs = paper.values("zero_ablation", model=LLAMA, span=3, **DEFAULT)
    ours = results.select(paper_tables.paper_tables(LLAMA)["ablation"], method="zero", span=3, position="-1")
    keys = ["component", "layer", "last_layer", "depth", "n", "value"]
    sort = [frame[keys].sort_values(keys[:2], ignore_index=True) for frame in (theirs, ours)]
    pd.testing.assert_frame_equal(*sort, check_dtype=False)
    assert (ours["ci_low"] < ours["value"]).all() and (ours["value"] <= ours["ci_high"]).all()


def test_theory_scores_are_those_of_a_rank_correlation() -> None:
    """By hand, with scipy: pleasantness up, layer 9, coefficient 2."""
    tables, means = paper_tables.paper_tables(LLAMA), paper_tables.label_means(paper.load_values())
    counts = results.select(tables["modulation"], metric="count")
    before = counts[counts["vector"] == ""].set_index("label")["value"]
    keys = dict(pleasantness=1, other_responsblt=0, predict_event=0, layer=8, dose=2.0)
    after = results.select(counts, **keys).set_index("label")["value"]
    moved = np.log((after + 0.5) / (before + 0.5)).loc[[*EMOTIONS]]
    expected = spearmanr(means["pleasantness"], moved).statistic
    score = results.select(tables["modulation"], metric="theory_score", **keys)
    assert score["value"].item() == pytest.approx(expected)
    drawn = results.select(tables["modulation"], metric="theory_score_null", draw=42, **keys)
    moved = results.select(counts, draw=42, layer=8, dose=2.0).set_index("label")["value"]
    moved = np.log((moved + 0.5) / (before + 0.5)).loc[[*EMOTIONS]]
    assert drawn["value"].item() == pytest.approx(spearmanr(means["pleasantness"], moved).statistic)


def test_fewer_texts_lower_the_papers_theory_scores_and_as_many_hardly_change_them() -> None:
    table = paper_tables.paper_tables(paper.DETAILED.id)["modulation"]
    full = table[(table["metric"] == "theory_score") & (table["layer"] == 8) & (table["dose"] == 2)]
    many, few, fewest = (paper_tables.thinned_scores(n, layer=8, dose=2, draws=100) for n in (2740, 195, 30))
    assert len(full) == 14 and abs(many.mean() - full["value"].mean()) < 0.02
    assert fewest.mean() < few.mean() - 0.03 < many.mean() - 0.03
    assert many.std() < few.std() < fewest.std()
    # the order of labels that only noise moves says nothing: at a layer without effect the score stays near zero
    assert abs(paper_tables.thinned_scores(195, layer=2, dose=2, draws=100).mean()) < 0.15

"""What a run would take: the account of the engine against counting by hand, estimates against what was measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from emolib import cli
from emolib.book import plan
from emolib.book.run import result_of
from emolib.engine import registry, weights
from emolib.engine.edits import Edit, Zero
from emolib.engine.engine import Engine
from emolib.engine.loading import load
from emolib.engine.tiny import tiny_config, tiny_model
from emolib.engine.work import done
from emolib.study.run import LADDER, Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.provenance import cost, duration

(SMALL,) = [run for run in LADDER if run.model == Run().model]  # costs.yml is of it


def test_the_engine_counts_passes_and_tokens():
    model = tiny_model("llama")
    engine = Engine(model, ["one two", "one three"], torch.tensor([5, 6]), keep=2)
    before = done()
    encoding = engine.encode([0, 1])
    read = done(before)["reading"]
    shared, longest = len("_one t"), max(map(len, engine.ids))
    assert len(engine.prefix) == shared
    # The prefix once, then what follows it, padded to the longer of both.
    assert (read["passes"], read["tokens"]) == (2, model.n_layers * (shared + 2 * (longest - shared)))
    before = done()
    engine.replay(encoding, [Edit(component="attn_out", layers=(layer,), operation=Zero()) for layer in range(4)])
    replayed = done(before)
    assert list(replayed) == ["replaying"] and replayed["replaying"]["passes"] == 8
    assert replayed["replaying"]["tokens"] == 2 * (4 + 3 + 2 + 1), "an edit runs the layers from its own on"
    assert replayed["replaying"]["seconds"] > 0


def test_full_passes_are_counted_as_such():
    engine = Engine(tiny_model("lfm2"), ["one two", "one three"], torch.tensor([5, 6]))
    encoding = engine.encode([0, 1])
    before = done()
    engine.replay(encoding, [Edit(component="resid_post", layers=(1,), operation=Zero())] * 3)
    assert done(before)["full"]["passes"] == 6


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_what_was_measured_is_its_own_estimate(profile):
    run = Run(profile=profile, corpus="situations" if profile == "quick" else "crowd-envent")
    base = plan.measured(run)
    shape = shape_as_measured(base)
    texts = plan.Texts(base["texts"], base["own"], 34, "")
    rates = plan.Rates(**base["rates"])
    given = dict(agreed=base["agreed"] / base["texts"], rates=rates, usual=rates)
    for name, row in base["experiments"].items():
        once = plan.estimate(name, run, shape, texts, **given)
        (reads, _, read), (replays, _, replayed), (passes, _, passed) = (row[kind] for kind in plan.KINDS)
        assert (once.reads, once.edits) == (reads, replays + passes)
        assert math.isclose(once.seconds, read + replayed + passed + row["other"], rel_tol=1e-6)
        assert math.isclose(once.memory, row["memory"], rel_tol=1e-6)
        deeper = plan.estimate(name, run, shape._replace(layers=2 * shape.layers), texts, **given)
        grown = 2 if plan.EDITS.get(name, 1) else 1
        expected = 2 * read + 2 * 2 ** plan.EDITS.get(name, 1) * (replayed + passed)
        expected += row["other"] + (grown - 1) * (row["other"] - min(plan.LOADING, row["other"]))
        assert math.isclose(deeper.seconds, expected, rel_tol=1e-6), "what is replayed grows with the square"


def test_a_quick_run_takes_less_beside_the_model_than_a_full_one() -> None:
    quick, full = (plan.measured(Run(profile=profile))["experiments"] for profile in ("quick", "full"))
    assert {name: quick[name]["other"] < full[name]["other"] for name in full} == dict.fromkeys(quick, True)


@pytest.mark.parametrize(
    ("name", "narrow", "wide"), [("probing", 3.33, 15.22), ("appraisals", 1.61, 13.63), ("geometry", 8.45, 30.32)]
)
def test_fits_grow_with_the_width_as_they_were_measured(name: str, narrow: float, wide: float) -> None:
    """Seconds of processor of one site of 6,600 texts of Qwen 2.5 Coder 1.5B: 576 of its 1,536 numbers, and all."""
    run = Run(profile="full", corpus="crowd-envent")
    base = plan.measured(run)
    shape, rates = shape_as_measured(base), plan.Rates(**base["rates"])
    texts = plan.Texts(base["texts"], base["own"], 34, "")
    given = dict(agreed=base["agreed"] / base["texts"], rates=rates, usual=rates)
    once, wider = (
        plan.estimate(name, run, shape._replace(width=width), texts, **given).seconds - plan.LOADING
        for width in (base["width"], base["width"] * 1536 // 576)
    )
    assert wider / once == pytest.approx(wide / narrow, rel=0.1)


@pytest.mark.parametrize(("name", "times"), [*plan.UNTRAINED.items(), ("patching", 1.0)])
def test_fits_take_longer_of_a_twin_of_which_there_is_nothing_to_learn(name: str, times: float) -> None:
    base = plan.measured(Run())
    given = dict(
        agreed=base["agreed"] / base["texts"], rates=plan.Rates(**base["rates"]), usual=plan.Rates(**base["rates"])
    )
    texts = plan.Texts(base["texts"], base["own"], 34, "")
    own, twin = (
        plan.estimate(name, Run(model=model), shape_as_measured(base), texts, **given).seconds
        for model in ("smollm2-135m", "smollm2-135m@random:0")
    )
    fits = base["experiments"][name]["other"] - plan.LOADING
    assert twin - own == pytest.approx((times - 1) * fits)


def shape_as_measured(base: dict) -> plan.Shape:
    return plan.Shape(None, base["layers"], base["width"], 3, 0, base["bytes"], None, "")


@pytest.mark.parametrize("family", ["gemma3_text", "llama", "lfm2", "gpt2"])
def test_few_layers_of_a_configuration_make_a_model(family):
    config = tiny_config(family, 500, **{"n_layer" if family == "gpt2" else "num_hidden_layers": 4})
    hf = weights.untrained(plan.few(config, 2), 0, "float32")
    assert hf.config.get_text_config(decoder=True).num_hidden_layers == 2
    assert hf.get_input_embeddings().weight.shape[0] == 258


def test_a_model_that_is_not_here_is_taken_for_a_llama_of_its_size():
    for name, entry in registry.registry().items():
        empty = weights.skeleton(plan._like(entry), "float32")
        count = sum(weight.numel() for weight in empty.parameters())
        assert math.isclose(count, entry["parameters"], rel_tol=0.15), name


def test_parameters_are_counted_without_loading(tiny_folder: Path):
    assert registry.parameters(str(tiny_folder)) == load(str(tiny_folder)).hf.num_parameters()
    assert registry.parameters(f"{tiny_folder}@random:1") == registry.parameters(str(tiny_folder))
    file = registry.locate(registry.EMBEDDED)
    assert math.isclose(registry.parameters(file), registry.parameters(registry.EMBEDDED), rel_tol=1e-3)
    assert registry.usual_dtype(str(tiny_folder)) == registry.usual_dtype("smollm2-135m") == "float32"
    assert registry.usual_dtype("qwen2.5-coder-0.5b") == registry.usual_dtype("owner/somewhere") == "mixed"


def test_the_cache_takes_the_space_that_is_told(tiny_folder: Path, tiny_corpus: Path, tmp_path: Path):
    run = Run(model=str(tiny_folder), corpus=str(tiny_corpus))
    study = Study(run, folder=tmp_path)
    assert study.clean.words
    written = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.safetensors"))
    [(what, _, told)] = plan.space(run, plan.shape_of(run), plan.texts_of(run), tmp_path)
    assert what == "cache" and written / 1.2 < told < written


def test_a_dry_run_tells_and_computes_nothing(tiny_folder: Path, tiny_corpus: Path, monkeypatch, tmp_path, capsys):
    root = Path(__file__).resolve().parents[2]
    for name in ("Snakefile", "_toc.yml", "notebooks", "emolib"):
        (tmp_path / name).symlink_to(root / name)
    monkeypatch.chdir(tmp_path)
    given = ["--model", str(tiny_folder), "--corpus", str(tiny_corpus)]
    assert cli.main(["run", "--dry-run", *given]) == 0
    told = capsys.readouterr().out
    assert "5 layers of width 32" in told and "replay of the last tokens" in told
    for name in ("behaviour", "robustness", "time", "memory", "disk, cache"):
        assert f"\n{name}" in told
    assert {path.name for path in tmp_path.iterdir()} == {"Snakefile", "_toc.yml", "notebooks", "emolib"}


def test_what_is_there_is_told_beside_what_it_took(monkeypatch):
    root, base = Path(__file__).resolve().parents[2], plan.measured(SMALL)
    for name, known in {
        "calibrate": plan.Rates(**base["rates"]),
        "texts_of": plan.Texts(base["texts"], base["own"], 34, ""),
        "agreed_share": (base["agreed"] / base["texts"], ""),
    }.items():
        monkeypatch.setattr(plan, name, lambda *_, known=known: known)
    monkeypatch.setattr(plan.book, "why_not_fresh", lambda *_: None)  # the corpus may not be here
    notebooks = ["03_behaviour", "B_ablation", "11_claims"]
    lines = list(plan.plan(SMALL, notebooks, root, 2))
    for name, notebook in (("behaviour", "03_behaviour"), ("ablation", "B_ablation")):
        [line] = [line for line in lines if line.startswith(name)]
        about = results.read(result_of(notebook, SMALL.slug, root)).attrs["provenance"]
        # Rates as on the machine of costs.yml: what is told is what was measured there.
        seconds = sum(base["experiments"][name][kind][2] for kind in plan.KINDS) + base["experiments"][name]["other"]
        assert line.split()[3:5] == duration(seconds).split()
        assert line.endswith(f"there already: took {cost(about)} on {about['processor']}")
    [total] = [line for line in lines if line.startswith("time")]
    undrawn = sum(not (root / "runs" / SMALL.slug / f"{notebook}.ipynb").is_file() for notebook in notebooks)
    assert f"about {duration(undrawn * base['drawing'])}," in total, "what is there takes no time again, its pages do"


@pytest.mark.fast
@pytest.mark.parametrize(("shallow", "deep", "seconds"), [(1.0, 1.5, 0.25), (1.5, 1.2, 0.4), (1.2, 1.2, 0.4)])
def test_a_layer_takes_time_however_busy_the_machine_was(shallow: float, deep: float, seconds: float) -> None:
    assert plan.of_a_layer(shallow, deep) == pytest.approx(seconds)

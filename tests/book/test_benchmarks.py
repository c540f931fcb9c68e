"""The benchmark: both sides compute the same, the helpers are right, and edits stay far faster than the plain way."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import probing
from benchmarks.__main__ import FIGURES
from benchmarks.comparisons import Size
from benchmarks.growth import POINTS, exponent
from benchmarks.hooked import HookEngine, unwrapped
from benchmarks.ours import OurSide, linear_flop, make_edits, read
from benchmarks.plain import PlainModel, PlainSide
from benchmarks.sides import Side, alternate, ratios, spread
from benchmarks.workload import KINDS, PLAIN_BATCH, edit_sites, first_tokens, plain_sample, prompts
from emolib.engine.edits import Edit, Noise
from emolib.engine.engine import Engine
from emolib.engine.labels import label_tokens
from emolib.engine.loading import load
from emolib.engine.sites import COMPONENTS
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT

TEXTS, SLOWEST = 13, 25  # the guard: texts, and how many times faster edits must at least be


@pytest.fixture(scope="module")
def plain(tiny_folder) -> PlainSide:
    """The plain way on the weights of a small model."""
    return PlainSide(str(tiny_folder))


def test_plain_way_and_emolib_give_the_same_logits(tiny_folder, plain):
    ours = OurSide(load(str(tiny_folder)))
    ours.edit(n_texts=13, n_kinds=4)
    sites = edit_sites(KINDS, ours.layers())
    chosen = [
        sites.index((kind, component, layer))
        for kind in ("zero", "mean", "resample")
        for component, layer in (("attn_out", 0), ("mlp_out", 2), ("resid_post", 3))
    ]
    sample = [(2 * (place % 2), edit) for place, edit in enumerate(chosen)]
    plain.prepare(n_texts=13)
    theirs, mine = (torch.tensor(s) for s in (plain.edit(13, 4, sample), ours.answers(sample)))
    assert theirs.shape == (len(sample), PLAIN_BATCH, len(EMOTIONS))
    assert (theirs - mine).abs().max() < 1e-4
    for index, (batch, _) in enumerate(sample):
        clean = ours.clean[batch * PLAIN_BATCH : (batch + 1) * PLAIN_BATCH]
        assert (mine[index] - clean).abs().max() > 0.02, "the edit does nothing: the test is blind"


def test_plain_random_directions_keep_the_norm_and_nothing_else():
    from benchmarks.plain import random_direction

    old = torch.randn(5, 400, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 6.0)[:, None]
    new = random_direction(old)
    assert torch.allclose(new.norm(dim=1), old.norm(dim=1))
    assert torch.cosine_similarity(new, old).abs().max() < 0.3


def test_plain_reading_and_emolib_read_the_same_activations(tiny_folder, plain):
    texts, model = prompts(13)[:PLAIN_BATCH], load(str(tiny_folder))
    mine, _ = read(Engine(model, texts, torch.tensor(first_tokens(model.tokenizer))))
    theirs = plain.model.read(texts)
    for component in COMPONENTS:
        expected = torch.stack(theirs[component])
        assert (mine[component][:, :, -1] - expected).abs().max() < 1e-3 * expected.abs().max()
    states = torch.stack(plain.model.hidden_states(texts))
    assert torch.equal(states[1:-1], torch.stack(theirs["resid_post"])[:-1])


def test_hooks_in_place_of_nnsight_change_nothing(tiny_folder):
    lm = load(str(tiny_folder))
    hooks = unwrapped(AutoModelForCausalLM.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder))
    labels, texts = torch.tensor([5, 6, 9]), prompts(13)
    edits = [
        Edit(component=component, layers=layers, operation=Noise(1), position=position)
        for component in COMPONENTS
        for layers in ((0,), (1, 2), (3,))
        for position in (-1, -2)
    ]
    one, two = Engine(lm, texts, labels, keep=2), HookEngine(hooks, texts, labels, keep=2)
    first, second = (engine.encode([0, 3, 5], read=COMPONENTS) for engine in (one, two))
    assert torch.equal(first.resid_pre, second.resid_pre) and torch.equal(first.logits, second.logits)
    assert all(torch.equal(first.activations[c], second.activations[c]) for c in COMPONENTS)
    expected = one.replay(first, edits)
    assert torch.equal(two.replay(second, edits), expected)
    assert (expected - first.logits[:, None]).abs().amax((0, 2)).min() > 1e-3
    assert all("forward" not in vars(block) and not block._forward_hooks for block in hooks.modules("resid_post"))


def test_a_side_answers_counts_its_time_and_says_when_it_died(tiny_folder, tmp_path):
    with Side("hooked", str(tiny_folder)) as side:
        assert side("layers") == 5
        # Llama: queries and outputs 32 x 32, keys and values 32 x 16, three of the feed-forward 32 x 64.
        assert side("flop") == 2 * 5 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
        assert 0 < side.seconds < 5
    missing = str(tmp_path / "missing.pt")
    with Side("probing", "ours", missing, "520") as side, pytest.raises(RuntimeError, match="'probe'"):
        side("probe")


def test_flop_leave_out_the_unembedding(embedded_model):
    counted = sum(p.numel() for name, p in embedded_model.hf.named_parameters() if "proj" in name)
    assert linear_flop(embedded_model) == 2 * counted


def test_probes_of_both_sides_agree():
    random = np.random.default_rng(0)
    labels, folds = random.integers(0, 4, 300), np.arange(300) % 5
    centres = random.normal(size=(4, 20))
    features = torch.tensor(centres[labels] + random.normal(size=(300, 20)), dtype=torch.float32)
    one, two = (f(features, labels[None], folds)[0] for f in (probing.ours_labels, probing.plain_labels))
    assert (one == labels).mean() > 0.8 and (one == two).mean() > 0.995
    ratings = features.double().numpy() @ random.normal(size=(20, 2)) + random.normal(size=(300, 2))
    mine, theirs = (f(features, ratings, folds) for f in (probing.ours_ratings, probing.plain_ratings))
    assert np.abs(mine - theirs).max() < 1e-4 < np.abs(theirs - ratings).max()


def test_the_sample_of_the_plain_way_covers_edits_and_texts_evenly():
    sample = plain_sample(256, 90, passes=45, seed=3)
    batches, edits = zip(*sample, strict=True)
    assert len(set(batches)) == 45 and max(batches) < 64
    assert set(np.diff(edits)) == {2} and max(edits) < 90
    sites = edit_sites(KINDS, 30)
    assert len(set(sites)) == 360 and {sites[edit][1] for edit in edits} == set(COMPONENTS)
    assert sample != plain_sample(256, 90, passes=45, seed=4)
    assert len(plain_sample(16, 4, passes=9, seed=0)) == 9


def test_label_tokens_of_both_sides_are_the_same(embedded_model):
    expected = label_tokens(embedded_model.tokenizer, EMOTIONS).ids("first_subtoken").tolist()
    assert first_tokens(embedded_model.tokenizer) == expected


def test_rounds_alternate_and_ratios_are_within_rounds():
    order: list[str] = []

    def run(name: str, seconds: float):
        return lambda index: order.append(name) or seconds * (index + 1)

    found = alternate(2, {"slow": run("slow", 6.0), "fast": run("fast", 2.0)})
    assert order == ["slow", "fast", "fast", "slow"] and found == {"slow": [6, 12], "fast": [2, 4]}
    assert ratios(found["slow"], found["fast"]) == spread([3.0, 3.0])
    assert spread([3.0, 1.0, 8.0]) == dict(median=3.0, min=1.0, max=8.0, runs=[3.0, 1.0, 8.0])


def test_exponents_are_slopes_with_intervals():
    x = [1, 2, 4, 8]
    exact = exponent(x, [3 * v**1.5 for v in x])
    assert exact["value"] == pytest.approx(1.5) and exact["ci_high"] - exact["ci_low"] < 1e-6
    noisy = exponent(x, [1.0, 2.2, 3.7, 8.1])
    assert noisy["ci_low"] < 1 < noisy["ci_high"]


@pytest.mark.parametrize("figure", FIGURES)
def test_committed_records_were_measured_with_the_sizes_of_the_code(figure: str) -> None:
    record = json.loads((ROOT / "results" / "bench" / f"{figure}.json").read_text())
    given = record["provenance"]["parameters"]
    assert {name: given[name] for name in asdict(Size())} == json.loads(json.dumps(asdict(Size()))), "make bench"
    if figure == "growth":
        points = [(point["quantity"], point["value"]) for point in record["points"]]
        assert points == [(quantity, value) for quantity, values in POINTS.items() for value in values], "make bench"


def test_edits_stay_far_faster_than_the_plain_way(embedded_model):
    side, model = OurSide(embedded_model), PlainModel(embedded_model.hf.name_or_path)
    batch, labels = prompts(TEXTS)[:PLAIN_BATCH], torch.tensor(first_tokens(model.tokenizer))
    n_edits = len(make_edits(KINDS[:1], {}, TEXTS, side.layers()))

    def plain_way(run: int) -> float:
        start = time.perf_counter()
        for layer in (5 + run, 15 + run):
            model.edited(batch, labels, "mlp_out", layer, torch.zeros_like)
        return (time.perf_counter() - start) / 2 / PLAIN_BATCH

    plain_way(0)  # the first pass of a process is slower
    seconds = alternate(2, {"plain": plain_way, "ours": lambda _: side.edit(TEXTS, 1)["total"] / TEXTS / n_edits})
    found = ratios(seconds["plain"], seconds["ours"])
    assert found["median"] > SLOWEST, f"edits are {found} times as fast as plain forward passes, expected {SLOWEST}"

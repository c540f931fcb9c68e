"""Promotion against the closed form of the last layer, a planted world, and the score worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from experiments.test_modulation import layered, planted
from torch.nn.functional import layer_norm

from emolib.engine.engine import Engine
from emolib.engine.tiny import tiny_model
from emolib.experiments.promotion import measure as promotion
from emolib.experiments.promotion import views
from emolib.interventions import steering
from emolib.interventions.steering import Cell, Dose
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.paper import values
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS
from helpers import ROOT

PROMPTS = ["Name it. Context: We won! Answer:", "Name it. Context: The bus left early and it rained. Answer:"]
LABELS = torch.arange(60, 73)


def final_norm(model: Any, stream: torch.Tensor) -> torch.Tensor:
    """The final norm of the stream [..., d], from its formula and the weights alone."""
    inner = model.hf.transformer if hasattr(model.hf, "transformer") else model.hf.model
    if hasattr(inner, "ln_f"):
        return layer_norm(stream, stream.shape[-1:], inner.ln_f.weight, inner.ln_f.bias, inner.ln_f.eps)
    norm = inner.norm
    size = stream.pow(2).mean(-1, keepdim=True)
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
    weight = norm.weight + 1 if "gemma" in model.name else norm.weight
    return stream / (size + eps).sqrt() * weight


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2", "gpt2", "qwen3"])
@torch.no_grad()
def test_pushing_an_unembedding_row_in_the_last_layer_has_the_closed_form(family: str) -> None:
    model = tiny_model(family)
    rows = model.hf.get_output_embeddings().weight[LABELS].float()
    last = model.n_layers - 1
    pushed = {("row", label): row.expand(model.n_layers, -1) / row.norm() for label, row in enumerate(rows)}
    vectors = steering.in_both_units(pushed, torch.full((model.n_layers,), 10.0))
    cells = [Cell("row", 1, dose, last, range(13)) for dose in (Dose(2.0), Dose(4.0), Dose(0.5, "norm"))]
    engine = Engine(model, PROMPTS, LABELS)
    found = engine.replay(engine.encode([0, 1]), steering.edits(cells, vectors, model.n_layers))
    for row, prompt in enumerate(PROMPTS):
        states: list[torch.Tensor] = []
        layers = model.modules("resid_post", view=model.hf)
        handle = layers[last].register_forward_hook(
            lambda _m, _i, output, states=states: states.append(output if torch.is_tensor(output) else output[0])
        )
        model.hf(torch.tensor([model.tokenizer(prompt)["input_ids"]]))
        handle.remove()
        moved = torch.cat(
            [states[0][0, -1] + length * rows / rows.norm(dim=-1, keepdim=True) for length in (2.0, 4.0, 5.0)]
        )
        expected = final_norm(model, moved) @ rows.T
        if family == "gemma2":
            expected = 3.0 * torch.tanh(expected / 3.0)
        assert torch.allclose(found[row], expected, atol=2e-4)
        clean = final_norm(model, states[0][0, -1]) @ rows.T
        assert (expected[:13] - clean).abs().max() > 0.05, "the push does nothing: the test is blind"


# The score.


def test_the_score_is_one_zero_and_minus_one_where_the_paper_says_so() -> None:
    assert promotion.promotion_score(1.0, 0.2) == 1
    assert promotion.promotion_score(0.2, 0.2) == 0
    assert promotion.promotion_score(0.0, 0.2) == -1
    assert promotion.promotion_score(0.6, 0.2) == pytest.approx(0.5)
    assert promotion.promotion_score(0.15, 0.2) == pytest.approx(-0.25)
    # nothing is possible: a label nobody has cannot be lost, one that all have cannot be gained
    assert promotion.promotion_score(np.array([0.0, 1.0]), np.array([0.0, 1.0])).tolist() == [0, 0]


def test_intervals_recount_both_shares_in_every_resample() -> None:
    random = np.random.default_rng(0)
    clean, ids = random.integers(0, 4, 60), random.integers(0, 4, (60, 2))
    weights = random.integers(0, 3, (5, 60)).astype(float)
    found = promotion.score_statistic([1, 3], ids, clean)(weights)
    for r in range(5):
        drawn = np.repeat(np.arange(60), weights[r].astype(int))
        for column, target in enumerate((1, 3)):
            new, base = np.mean(ids[drawn, column] == target), np.mean(clean[drawn] == target)
            by_hand = (new - base) / (1 - base if new >= base else base)
            assert found[r, column] == pytest.approx(by_hand)


def test_the_reference_model_stays_within_its_budget_and_the_papers_doses_are_run() -> None:
    for design, most in ((promotion.FULL, 700_000), (promotion.QUICK, 32_000)):
        cells = steering.plan(design, layered(30), lambda kind, draws: range(draws) if draws else EMOTIONS)
        spent = design.texts * sum(len(cell.pushed) for cell in cells)
        assert 0.8 * most < spent <= most
        sizes = {cell.dose.size for cell in cells if cell.vector == "probe"}
        assert set(values("promotion")["dose"]) < sizes
        # the control has every dose and centre of what it controls
        run = {
            kind: {(cell.dose, cell.centre) for cell in cells if cell.vector == kind} for kind in ("probe", "random")
        }
        assert run["random"] == run["probe"]


# A planted world, in which labels are read off the stream along the directions of the appraisals.


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return results.tidy(promotion.run(planted(theory_holds=True)), "promotion", model="planted", n_layers=3)


def test_every_emotion_is_promoted_by_its_own_vector_and_not_by_random_ones(table: pd.DataFrame) -> None:
    scores = select(table, metric="promotion_score", dose=4.0).set_index(["vector", "label"])
    for kind in ("probe", "random"):
        assert set(scores.loc[kind].index) == set(EMOTIONS)
    own, random = scores.loc["probe"], scores.loc["random"]
    assert own["value"].min() > 0.8
    assert own["value"].mean() > random["value"].mean() + 0.7
    assert (own["ci_low"] > random["value"]).all()
    assert set(random["n"]) == {20}
    means = select(table, metric="promotion_score", vector="mean_difference", dose=2.0)
    assert means["value"].mean() > 0.5


def test_scores_are_those_of_the_stored_shares(table: pd.DataFrame) -> None:
    base = select(table, metric="baseline_share").set_index("label")["value"]
    assert base.sum() == pytest.approx(1)
    keys = dict(vector="probe", unit="norm", dose=0.1)
    scores = select(table, metric="promotion_score", **keys).set_index("label")
    shares = select(table, metric="promoted_share", **keys).set_index("label")
    for emotion in EMOTIONS:
        new, old = shares.loc[emotion, "value"], base[emotion]
        by_hand = (new - old) / (1 - old if new >= old else old)
        assert scores.loc[emotion, "value"] == pytest.approx(by_hand)
        assert shares.loc[emotion, "ci_low"] <= new <= shares.loc[emotion, "ci_high"]


def test_emotions_without_a_text_to_fit_on_are_left_out() -> None:
    world = planted(theory_holds=True, profile="quick")
    world.agreed = world.agreed[world.truth[world.agreed] != EMOTIONS.index("shame")]
    found = results.tidy(promotion.run(world), "promotion", model="planted", n_layers=3)
    probe = select(found, metric="promotion_score", vector="probe")
    assert set(probe["label"]) == set(EMOTIONS) - {"shame"}


def test_a_model_gives_a_whole_table(tiny_run: Run, tiny_study: Study, tmp_path: Any) -> None:
    given = dict(model=tiny_study.model, folder=tmp_path)
    opened = Study(tiny_run, agreed=np.arange(1, len(tiny_study.truth), 2), **given)
    found = results.tidy(promotion.run(opened), "promotion", model="tiny", n_layers=5)
    scores = select(found, metric="promotion_score")
    assert scores["value"].between(-1, 1).all()
    assert set(scores["layer"]) == {1}
    norms = select(found, metric="residual_norm").set_index("layer")["value"]
    assert len(norms) == 5
    with pytest.raises(ValueError, match="answers 3 of 150 texts right, and steering needs 10 on either"):
        promotion.run(Study(tiny_run, agreed=np.arange(3), **given))


def test_of_two_layers_as_near_to_the_papers_depth_the_earlier_one_is_shown() -> None:
    rows = pd.DataFrame({"layer": [17, 16, 20, 16, 17], "vector": "probe", "unit": "norm", "dose": 0.1, "label": "joy"})
    shown = views.at_paper_depth(rows.assign(depth=(rows["layer"] + 1) / 28))  # 17.5 of 28 is the paper's depth
    assert shown["layer"].tolist() == [16, 16]


def test_an_emotion_is_beyond_random_with_its_whole_interval() -> None:
    ends = {"joy": (0.2, 0.5), "fear": (0.4, 0.9), "anger": (-0.1, 1.0)}
    rows = [dict(label=name, vector="probe", ci_low=low, ci_high=high) for name, (low, high) in ends.items()]
    rows += [dict(label=name, vector="random", ci_low=-0.3, ci_high=0.3) for name in ends]
    assert views.beyond_random(pd.DataFrame(rows)) == (1, 3)


def test_half_of_what_was_possible_somewhere_counts_as_promoted() -> None:
    best = {"joy": (0.1, 0.5), "fear": (0.49, 0.0), "anger": (0.9, 0.2)}
    rows = [dict(vector="probe", push="a", label=name, value=one) for name, each in best.items() for one in each]
    rows += [dict(vector="random", push="a", label="fear", value=1.0)]
    assert views.promoted(pd.DataFrame(rows)).to_dict("records") == [dict(push="a", emotions=2, of=3)]


def test_random_directions_are_compared_where_probes_promote_most() -> None:
    table = results.read(ROOT / "tests" / "golden" / "promotion.parquet")
    mean = views.by_model(table).set_index(["vector", "layer"])["value"]
    best = views.at_their_best(table).set_index("vector")
    assert best.loc["probe", "value"] == mean["probe"].max() and best["layer"].nunique() == 1
    assert best.loc["random", "value"] == mean["random", best.loc["probe", "layer"]]

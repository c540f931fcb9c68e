"""Modulation against plain passes, a planted world in which appraisal theory holds, and counts made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import PathPatch, Rectangle
from scipy.stats import spearmanr

from emolib import stats
from emolib.engine.edits import Add
from emolib.engine.engine import Engine
from emolib.engine.layouts import unwrap
from emolib.engine.tiny import tiny_model
from emolib.experiments import modulation
from emolib.figures import flows as flow_plots
from emolib.interventions import steering, theory
from emolib.interventions.steering import Cell, Dose
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.paper import values
from emolib.tables.results import select
from emolib.texts.corpus import APPRAISALS, EMOTIONS

UP, DOWN = "pleasantness:+1;vector:raw;unit:norm", "pleasantness:-1;vector:raw;unit:norm"


# What is run.


def evaluations(design: steering.Design, n_layers: int) -> int:
    """Edits times texts, with decisive centres that coincide least with the grid."""
    grid = design.grid(n_layers)
    decisive = [grid[0], next(centre for centre in range(2, n_layers) if centre not in grid or design.step == 1)]
    cells = steering.plan(design, n_layers, modulation.pushed_names, decisive=decisive)
    chosen = len(grid) * len(theory.settings()) * design.choosing
    return design.texts * sum(len(cell.names) for cell in cells) + chosen


def test_the_reference_model_stays_within_its_budget() -> None:
    assert 1_800_000 < evaluations(modulation.FULL, 30) <= 2_400_000
    assert 60_000 < evaluations(modulation.QUICK, 30) <= 100_000


def test_random_draws_are_a_hundred_where_it_matters_and_twenty_elsewhere() -> None:
    for design in (modulation.FULL, modulation.QUICK):
        cells = steering.plan(design, 12, modulation.pushed_names, decisive=[5])
        random = [cell for cell in cells if cell.kind == "random"]
        main = [cell for cell in random if cell.span == 3 and cell.dose in steering.MAIN]
        assert {len(cell.names) for cell in main if cell.centre == 5} == {100}
        assert {len(cell.names) for cell in random if cell not in main or cell.centre != 5} <= {20, 100}
        # no window, dose or centre of the raw vectors goes without random directions
        run = {
            kind: {(cell.span, cell.dose, cell.centre) for cell in cells if cell.kind == kind}
            for kind in ("raw", "random")
        }
        assert run["raw"] == run["random"]


def test_the_papers_doses_and_settings_are_among_ours() -> None:
    printed = values("modulation", span=3)
    assert set(printed["coefficient"]) == {dose.size for dose in steering.BETAS}
    steered = {name for name in printed["condition"] if "random" not in name}
    assert steered == set(theory.printed()) < set(modulation.SETTINGS)
    assert len(modulation.SETTINGS) == 22


def test_decisive_centres_are_the_best_and_the_papers() -> None:
    scores = {centre: np.array([0.1, 0.2]) for centre in range(1, 29)}
    assert modulation.decisive_centres(scores | {20: np.array([0.9, 0.1])}, 30) == [20, 16]  # layer 17 of 30 = .57
    paper = {centre: np.array([0.0]) for centre in range(1, 15)} | {8: np.array([1.0])}
    assert modulation.decisive_centres(paper, 16) == [8]  # the paper's layer 9 of 16


# Pushes against plain passes.


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2", "gpt2"])
def test_a_push_adds_the_vector_of_each_layer_of_the_window(family: str) -> None:
    model = tiny_model(family)
    prompts = ["Name it. Context: We won! Answer:", "Name it. Context: The bus left early and it rained. Answer:"]
    ids = torch.arange(60, 73)
    unit_vectors = {("raw", "x"): torch.randn(model.n_layers, model.width, generator=torch.Generator().manual_seed(0))}
    norms = torch.tensor([0.5, 1.0, 2.0, 3.0])
    vectors = steering.in_both_units(unit_vectors, norms)
    cells = [
        Cell("raw", span, Dose(size, unit), centre, ["x"])
        for span in (1, 3)
        for size, unit in ((2.0, ""), (0.5, "norm"))
        for centre in (1, 2)
    ]
    engine = Engine(model, prompts, ids)
    found = engine.replay(engine.encode([0, 1]), steering.edits(cells, vectors, model.n_layers))
    stream = model.modules("resid_post", view=model.hf)
    for column, cell in enumerate(cells):
        half = cell.span // 2

        def push(layer: int, cell: Cell = cell) -> Any:
            scale = cell.dose.size * (float(norms[layer]) if cell.dose.unit else 1.0)

            def hook(_module: object, _inputs: object, output: Any) -> None:
                unwrap(output)[:, -1] += scale * unit_vectors["raw", "x"][layer]

            return hook

        window = range(cell.centre - half, cell.centre + half + 1)
        handles = [stream[layer].register_forward_hook(push(layer)) for layer in window]
        for row, prompt in enumerate(prompts):
            with torch.no_grad():
                plain = model.hf(torch.tensor([model.tokenizer(prompt)["input_ids"]])).logits[0, -1, ids]
            assert torch.allclose(found[row, column], plain, atol=2e-4), cell
        for handle in handles:
            handle.remove()
    assert len({tuple(row) for row in found[0].round(decimals=3).tolist()}) == len(cells)


# A planted world: three layers, a stream that carries ratings, and labels that are read off as theory says.


def planted(*, theory_holds: bool, profile: str = "full", seed: int = 0) -> Any:
    """A study whose label logits are linear in the last stream: in the appraisals' own directions, or in others."""
    random, width, n, n_layers = np.random.default_rng(seed), 48, 520, 3
    means = random.normal(size=(13, len(APPRAISALS)))  # what each emotion's events are like
    truth = np.arange(n) % 13
    ratings = np.clip(np.round(3 + means[truth] + 0.7 * random.normal(size=(n, len(APPRAISALS)))), 1, 5)
    events = pd.DataFrame(ratings, columns=list(APPRAISALS)).assign(emotion=np.array(EMOTIONS)[truth])
    carriers = np.linalg.qr(random.normal(size=(width, width)))[0][: len(APPRAISALS)]
    stream = torch.tensor(ratings @ carriers + 0.02 * random.normal(size=(n, width)), dtype=torch.float32)
    standard = (means - means.mean(0)) / means.std(0)
    elsewhere = np.linalg.qr(random.normal(size=(width, width)))[0][: len(APPRAISALS)]
    reading = torch.tensor(standard @ (carriers if theory_holds else elsewhere), dtype=torch.float32)
    clean = 4 * torch.nn.functional.one_hot(torch.tensor(truth), 13) + 0.4 * torch.randn(
        n, 13, generator=torch.Generator().manual_seed(seed)
    )

    def intervene(edits: list[Any], rows: np.ndarray, *, name: str) -> torch.Tensor:
        assert name
        moves = [
            sum(edit.operation.coefficient * edit.operation.vectors[layer] for layer in edit.layers) for edit in edits
        ]
        assert all(isinstance(edit.operation, Add) for edit in edits)
        return clean[rows][:, None] + (torch.stack(moves) @ reading.T)[None]

    return SimpleNamespace(
        run=SimpleNamespace(profile=profile, seed=seed),
        events=events,
        truth=truth,
        groups=np.arange(n) // 4,
        corpus=SimpleNamespace(ratings=events[list(APPRAISALS)]),
        predicted=clean.argmax(-1).numpy(),
        agreed=np.flatnonzero(clean.argmax(-1).numpy() == truth),
        model=SimpleNamespace(n_layers=n_layers),
        stacked=lambda component: stream.expand(n_layers, -1, -1),
        decide=lambda logits: logits.argmax(-1).numpy(),
        intervene=intervene,
    )


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modulation, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return results.tidy(modulation.run(planted(theory_holds=True)), experiment="modulation", model="planted")


@pytest.fixture(scope="module")
def other_world() -> pd.DataFrame:
    found = modulation.run(planted(theory_holds=False, profile="quick"))
    return results.tidy(found, experiment="modulation", model="planted")


def value(table: pd.DataFrame, **keys: Any) -> float:
    return select(table, **keys)["value"].item()


def test_where_theory_holds_the_settings_beat_their_null(world: pd.DataFrame) -> None:
    scores = select(world, metric="theory_score", span=3, coefficient=0.05)
    null = theory.null_bands(select(world, metric="theory_score_null", coefficient=0.05, span=3))
    limit = null.set_index("condition")["limit"]
    raw = select(scores, condition=[f"{setting};vector:raw;unit:norm" for setting in modulation.SETTINGS])
    assert len(raw) == 22
    assert (raw["ci_low"] > 0.3).sum() >= 20
    assert (raw["value"].to_numpy() > limit.loc[raw["condition"]].to_numpy()).sum() >= 20
    mean = select(scores, condition="settings:printed;vector:raw;unit:norm").iloc[0]
    assert mean["ci_low"] > 0.8
    sets = select(world, metric="theory_score_null", coefficient=0.1, condition=mean["condition"], span=3)["value"]
    assert len(sets) == 30 and sets.max() < 0.8
    # the push is so strong at four times the dose that one label takes all and the order of the others is lost
    strong = value(world, metric="theory_score", condition=mean["condition"], span=3, coefficient=0.2)
    assert strong < mean["value"] - 0.2


def test_where_labels_are_read_elsewhere_the_score_is_that_of_random_directions(other_world: pd.DataFrame) -> None:
    null = select(other_world, metric="theory_score_null", coefficient=0.1)
    for setting, n_draws in (("settings:printed", 10), ("pleasantness:+1", 100), ("other_responsblt:-1", 100)):
        condition = f"{setting};vector:raw;unit:norm"
        draws = select(null, condition=condition, span=3)["value"]
        assert len(draws) == n_draws
        assert draws.std() > 0.03
        found = value(other_world, metric="theory_score", condition=condition, coefficient=0.1, span=3)
        band = stats.null_band(draws.to_numpy(dtype=float), level=0.99)
        assert band.ci_low < found < band.ci_high


def test_scores_are_correlations_of_expected_and_counted_shifts(world: pd.DataFrame) -> None:
    events = planted(theory_holds=True).events
    means = events.groupby("emotion").mean().loc[list(EMOTIONS)]
    z = (means - means.mean()) / means.std(ddof=0)
    base = select(world, condition="baseline").set_index("label")["value"].loc[list(EMOTIONS)]
    for setting, expected in {
        "pleasantness:+1": z["pleasantness"],
        "pleasantness:-1;other_responsblt:+1": z["other_responsblt"] - z["pleasantness"],
        "self_responsblt:-1": -z["self_responsblt"],
    }.items():
        for vector, span, dose, unit in (("raw", 3, 0.1, ";unit:norm"), ("fixall", 3, 4.0, ""), ("raw", 1, 2.0, "")):
            keys = dict(condition=f"{setting};vector:{vector}{unit}", coefficient=dose, span=span, layer=1)
            counts = select(world, metric="count", **keys).set_index("label")["value"].loc[list(EMOTIONS)]
            by_hand = spearmanr(expected, np.log((counts + 0.5) / (base + 0.5))).statistic
            assert value(world, metric="theory_score", **keys) == pytest.approx(0 if np.isnan(by_hand) else by_hand)
            moved = (counts - base).abs().sum() / 2 / base.sum()
            assert value(world, metric="total_variation", **keys) == pytest.approx(moved)


def test_opposite_settings_have_opposite_nulls(world: pd.DataFrame) -> None:
    null = select(world, metric="theory_score_null", coefficient=0.1, span=3)
    up, down = (select(null, condition=name).sort_values("label")["value"].to_numpy() for name in (UP, DOWN))
    assert len(up) == 100
    assert np.allclose(up, -down)


def test_pushing_harder_moves_more_and_flows_add_up_to_the_counts(world: pd.DataFrame) -> None:
    moved = [value(world, metric="total_variation", condition=UP, span=3, coefficient=c) for c in (0.05, 0.1, 0.2)]
    assert moved[0] < moved[1] < moved[2]
    flow = select(world, metric="flow", condition=UP, coefficient=0.2)
    pairs = flow["label"].str.split("=>", expand=True)
    after = flow.groupby(pairs[1])["value"].sum()
    before = flow.groupby(pairs[0])["value"].sum()
    counts = select(world, metric="count", condition=UP, coefficient=0.2, span=3).set_index("label")["value"]
    base = select(world, condition="baseline").set_index("label")["value"]
    assert after.reindex(EMOTIONS, fill_value=0).tolist() == counts.loc[list(EMOTIONS)].tolist()
    assert before.reindex(EMOTIONS, fill_value=0).tolist() == base.loc[list(EMOTIONS)].tolist()


def test_lengths_of_windows_and_what_projection_leaves(world: pd.DataFrame) -> None:
    lengths = select(world, metric="accumulated_norm").set_index("condition")["value"]
    assert lengths["vector:random"] == pytest.approx(3, abs=1e-5)
    assert 1 < lengths["vector:random_per_layer"] < 2.5
    assert lengths["pleasantness:+1;vector:raw"] == pytest.approx(3, abs=1e-5)  # the planted layers are alike
    shares = select(world, metric="kept_share")
    fix3, fixall = (shares[shares["condition"].str.endswith(kind)]["value"].to_numpy() for kind in ("fix3", "fixall"))
    assert ((fix3 >= fixall - 1e-9) & (fix3 <= 1 + 1e-9) & (fixall > 0)).all()


def test_judged_texts_share_no_writer_with_those_fitted_on_and_a_second_run_is_the_same(
    monkeypatch: pytest.MonkeyPatch, other_world: pd.DataFrame
) -> None:
    seen: dict[str, np.ndarray] = {}
    world = planted(theory_holds=False, profile="quick")
    inner = world.intervene

    def watch(edits: list[Any], rows: np.ndarray, *, name: str) -> torch.Tensor:
        seen[name] = np.asarray(rows)
        return inner(edits, rows, name=name)

    class Watched(modulation.SteeringVectors):
        def __init__(self, features: torch.Tensor, ratings: pd.DataFrame) -> None:
            seen["fitted"] = ratings.index.to_numpy()
            super().__init__(features, ratings)

    world.intervene = watch
    monkeypatch.setattr(modulation, "SteeringVectors", Watched)
    again = results.tidy(modulation.run(world), experiment="modulation", model="planted")
    pd.testing.assert_frame_equal(again, other_world)
    judged, choosing, fitted = seen["modulation"], seen["modulation, choice of layer"], seen["fitted"]
    assert len(judged) == modulation.QUICK.texts
    assert set(choosing) <= set(fitted) <= set(world.agreed)
    assert set(judged) <= set(world.agreed)
    assert not set(world.groups[judged]) & set(world.groups[fitted])
    assert np.bincount(world.truth[judged], minlength=13).min() >= 3


# The figure of flows.


def test_blocks_and_ribbons_of_flows_have_the_height_of_their_share() -> None:
    rows = {"joy=>joy": 6, "joy=>fear": 2, "anger=>joy": 1, "neutral=>fear": 1}
    frame = pd.DataFrame(dict(label=[*rows], value=[*rows.values()]))
    table = flow_plots.flow_shares(frame, "x")
    assert table.loc["joy", "fear"] == pytest.approx(0.2)
    assert table.to_numpy().sum() == pytest.approx(1)
    fig = flow_plots.label_flows({"pleasantness:+1": frame, "again": frame})
    assert [ax.get_title() for ax in fig.axes] == ["pleasantness \u2191", "again"]
    blocks = [patch for patch in fig.axes[0].patches if isinstance(patch, Rectangle)]
    heights = sorted(round(block.get_height() / flow_plots.SCALE, 6) for block in blocks)
    assert heights == [0.1, 0.1, 0.3, 0.7, 0.8]
    for ribbon in (patch for patch in fig.axes[0].patches if isinstance(patch, PathPatch)):
        points = ribbon.get_path().vertices
        left, right = points[0, 1] - points[7, 1], points[3, 1] - points[4, 1]
        assert left == pytest.approx(right)
        for x, low, top in ((0.0, points[7, 1], points[0, 1]), (1 - flow_plots.BLOCK, points[4, 1], points[3, 1])):
            spans = [(b.get_y(), b.get_y() + b.get_height()) for b in blocks if b.get_x() == x]
            assert any(foot - 1e-9 <= low and top <= head + 1e-9 for foot, head in spans)
    with pytest.raises(ValueError, match="x: labels read 'joy': select counts of pairs 'before=>after'"):
        flow_plots.flow_shares(pd.DataFrame(dict(label=["joy"], value=[1])), "x")


def test_names_beside_blocks_keep_their_distance_and_stay_where_there_is_room() -> None:
    free = np.array([0.9, 0.6, 0.2])
    assert np.allclose(flow_plots.spread(free, 0.05), free)
    close = np.array([0.5, 0.49, 0.48, 0.1])
    moved = flow_plots.spread(close, 0.05)
    assert np.allclose(np.diff(moved)[:2], -0.05)
    assert moved[:3].mean() == pytest.approx(close[:3].mean())  # least squares: the group moves about its mean
    assert moved[3] == pytest.approx(0.1)
    low = flow_plots.spread(np.array([0.02, 0.01]), 0.05)
    assert low.min() == pytest.approx(0.025)
    assert -np.diff(low) == pytest.approx(0.05)


# A real, tiny model.


@pytest.fixture(scope="module")
def study(tiny_run: Run, tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Every other text counts as answered right: what a random model gets right is too few."""
    opened = Study(replace(tiny_run), folder=tmp_path_factory.mktemp("modulation"))
    opened.__dict__["model"] = tiny_study.model
    opened.__dict__["agreed"] = np.arange(1, len(opened.truth), 2)
    return opened


def test_a_model_gives_a_whole_table(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    families = [family._replace(draws=tuple(min(n, 10) for n in family.draws)) for family in modulation.QUICK.families]
    monkeypatch.setattr(modulation, "QUICK", modulation.QUICK._replace(texts=24, choosing=12, families=families))
    table = results.tidy(modulation.run(study), experiment="modulation", model="tiny")
    judged = int(select(table, condition="baseline")["n"].iloc[0])
    sums = select(table, metric="count").groupby(["condition", "layer", "span", "coefficient"], dropna=False)["value"]
    assert set(sums.sum()) == {judged}
    scores = select(table, metric="theory_score")
    assert (scores["ci_low"] <= scores["value"]).all()
    assert (scores["ci_low"] < scores["ci_high"]).mean() > 0.9
    assert set(select(table, metric="decisive")["layer"]) <= {1, 2}


@pytest.mark.parametrize("right", [0, 15])
def test_too_few_right_answers_are_refused_before_any_edit(study: Study, right: int, tmp_path: Any) -> None:
    opened = Study(study.run, folder=tmp_path)
    opened.__dict__.update(model=None, agreed=np.arange(right))
    with pytest.raises(ValueError, match=f"answers {right} of 150 texts right, and steering needs 10 on either side"):
        modulation.run(opened)

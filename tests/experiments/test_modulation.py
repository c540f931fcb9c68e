"""Modulation against plain passes, a planted world in which appraisal theory holds, and counts made by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.patches import PathPatch, Rectangle
from scipy.stats import spearmanr

from emolib import stats
from emolib.engine.edits import Add, Edit
from emolib.engine.engine import Engine
from emolib.engine.oracle import plain
from emolib.engine.tiny import tiny_model
from emolib.experiments.modulation import measure as modulation
from emolib.experiments.modulation import views
from emolib.figures import flows as flow_plots
from emolib.interventions import steering, theory
from emolib.interventions.steering import Cell, Dose
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.paper import values
from emolib.tables.results import select
from emolib.texts.appraisals import ACTING, APPRAISALS, EMOTIONS, PRINTED, PUSHED, SETTINGS, Setting, expected_shifts
from emolib.texts.sources import packaged
from helpers import ROOT

UP, DOWN = Setting(pleasantness=1).columns(), Setting(pleasantness=-1).columns()


# What is run.


def layered(n_layers: int) -> Any:
    """What a plan asks of a study."""
    return SimpleNamespace(model=SimpleNamespace(n_layers=n_layers), layers=lambda: range(n_layers))


def evaluations(design: steering.Design, n_layers: int) -> int:
    """Edits times texts, with decisive centres that coincide least with the grid."""
    grid = design.grid(n_layers)
    decisive = [grid[0], next(centre for centre in range(2, n_layers) if centre not in grid or design.step == 1)]
    cells = steering.plan(design, layered(n_layers), modulation.pushes, decisive=lambda vector: decisive)
    chosen = 2 * len(grid) * len(SETTINGS) * design.choosing
    return design.texts * sum(len(cell.pushed) for cell in cells) + chosen


def test_the_reference_model_stays_within_its_budget() -> None:
    assert 2_200_000 < evaluations(modulation.FULL, 30) <= 2_600_000
    assert 60_000 < evaluations(modulation.QUICK, 30) <= 110_000


def test_random_draws_are_a_hundred_where_it_matters_and_twenty_elsewhere() -> None:
    for design in (modulation.FULL, modulation.QUICK):
        cells = steering.plan(design, layered(12), modulation.pushes, decisive=lambda vector: [5])
        random = [cell for cell in cells if cell.vector == "random"]
        main = [cell for cell in random if cell.span == 3 and cell.dose in steering.MAIN]
        assert {len(cell.pushed) for cell in main if cell.centre == 5} == {100}
        assert {len(cell.pushed) for cell in random if cell not in main or cell.centre != 5} <= {20, 100}
        # no window, dose or centre at which raw vectors are shown goes without random directions
        run = {
            kind: {
                (cell.span, cell.dose, cell.centre)
                for cell in cells
                if cell.vector == kind and (cell.dose in steering.MAIN or cell.centre == 5)
            }
            for kind in ("raw", "random")
        }
        assert run["raw"] == run["random"]
    sets = {
        cell.vector: len(cell.pushed)
        for cell in steering.plan(modulation.FULL, layered(12), modulation.pushes, decisive=lambda vector: [5])
        if cell.vector in modulation.FAIR
    }
    assert sets == dict.fromkeys(modulation.FAIR, 100 * 14)


def test_the_papers_doses_and_settings_are_among_ours() -> None:
    steered = values("modulation", span=3, vector="")
    assert set(steered["dose"]) == {dose.size for dose in steering.BETAS}
    rows = steered[list(PUSHED)].drop_duplicates().to_dict("records")
    assert {Setting.from_columns(row) for row in rows} == set(PRINTED) < set(modulation.PUSHES)
    assert len(modulation.PUSHES) == 22


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
        for size, unit in ((2.0, "absolute"), (0.5, "norm"))
        for centre in (1, 2)
    ]
    engine = Engine(model, prompts, ids)
    found = engine.replay(engine.encode([0, 1]), steering.edits(cells, vectors, model.n_layers))
    for column, cell in enumerate(cells):
        scale = cell.dose.size * (norms if cell.dose.unit == "norm" else torch.ones(model.n_layers))
        vector = scale[:, None] * unit_vectors["raw", "x"]
        edit = Edit(
            component="resid_post",
            layers=tuple(range(cell.centre - cell.span // 2, cell.centre + cell.span // 2 + 1)),
            operation=lambda activation, where, vector=vector: activation + vector[where.layer],
        )
        for row, prompt in enumerate(prompts):
            assert torch.allclose(found[row, column], plain(model, prompt, edit, ids), atol=2e-4), cell
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

    def moves(edits: list[Any], last: int = n_layers) -> torch.Tensor:
        assert all(isinstance(edit.operation, Add) for edit in edits)
        parts = [[edit.operation.vectors[layer] for layer in edit.layers if layer <= last] for edit in edits]
        return torch.stack([edit.operation.coefficient * sum(part) for edit, part in zip(edits, parts, strict=True)])

    def intervene(edits: list[Any], rows: np.ndarray, *, name: str) -> torch.Tensor:
        assert name
        return clean[rows][:, None] + (moves(edits) @ reading.T)[None]

    def read_under(edits: list[Any], rows: np.ndarray, component: str, layer: int) -> torch.Tensor:
        assert component == "resid_post"
        return stream[rows][:, None] + moves(edits, layer)

    def answers_to(notes: list[str], rows: np.ndarray, *, name: str) -> np.ndarray:
        assert name
        return np.stack([answer_to(note, rows) for note in notes], axis=1)

    def answer_to(note: str, rows: np.ndarray) -> np.ndarray:
        """Sentences are believed, each by as much as a push; and any sentence makes anger likelier."""
        assert note.startswith(" ") and note.endswith(".")
        logits = clean[rows].clone()
        logits[:, EMOTIONS.index("anger")] += 2.0 * note.count(".")
        for name, pair in packaged("said.yml")["sentences"].items():
            for sign, sentence in zip((1, -1), pair, strict=True):
                if sentence in note.lstrip().replace(". ", ".|").split("|"):
                    carrier = torch.tensor(carriers[APPRAISALS.index(name)], dtype=torch.float32)
                    logits += 2.0 * sign * carrier @ reading.T
        return logits.argmax(-1).numpy()

    return SimpleNamespace(
        run=SimpleNamespace(profile=profile, seed=seed),
        events=events,
        truth=truth,
        groups=np.arange(n) // 4,
        corpus=SimpleNamespace(ratings=events[list(APPRAISALS)]),
        predicted=clean.argmax(-1).numpy(),
        agreed=np.flatnonzero(clean.argmax(-1).numpy() == truth),
        model=SimpleNamespace(n_layers=n_layers),
        layers=lambda: list(range(n_layers)),
        interval=lambda statistic, rows, **options: stats.bootstrap(
            statistic, (np.arange(n) // 4)[rows], seed=seed, **options
        ),
        stacked=lambda component: stream.expand(n_layers, -1, -1),
        decide=lambda logits: logits.argmax(-1).numpy(),
        intervene=intervene,
        read_under=read_under,
        answers_to=answers_to,
    )


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modulation, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return results.tidy(modulation.run(planted(theory_holds=True)), "modulation", model="planted", n_layers=3)


@pytest.fixture(scope="module")
def other_world() -> pd.DataFrame:
    found = modulation.run(planted(theory_holds=False, profile="quick"))
    return results.tidy(found, "modulation", model="planted", n_layers=3)


def value(table: pd.DataFrame, **keys: Any) -> float:
    return select(table, **keys)["value"].item()


def test_where_theory_holds_the_settings_beat_their_null(world: pd.DataFrame) -> None:
    here = dict(unit="norm", dose=0.05)
    named = views.named(world)
    raw = select(named, metric="theory_score", vector="raw", span=3, **here)
    limit = views.null_bands(named, span=3, **here).set_index("setting")["limit"]
    raw = raw[raw["setting"] != views.MEAN]
    assert len(raw) == 22
    assert (raw["ci_low"] > 0.3).sum() >= 20
    assert (raw["value"].to_numpy() > limit.loc[raw["setting"]].to_numpy()).sum() >= 20
    printed = dict(settings="printed", unit="norm", span=3)
    mean = select(world, metric="theory_score", vector="raw", dose=0.05, **printed).iloc[0]
    assert mean["ci_low"] > 0.8
    sets = select(world, metric="theory_score_null", vector="random_sets", dose=0.1, **printed)["value"]
    assert len(sets) == 30 and sets.max() < 0.8
    # the push is so strong at four times the dose that one label takes all and the order of the others is lost
    strong = value(world, metric="theory_score", vector="raw", dose=0.2, **printed)
    assert strong < mean["value"] - 0.2


def test_where_labels_are_read_elsewhere_the_score_is_that_of_random_directions(other_world: pd.DataFrame) -> None:
    cases = (
        (dict(settings="printed"), "random_sets", 10),
        (UP, "random", 100),
        (Setting(other_responsblt=-1).columns(), "random", 100),
    )
    here = dict(dose=0.1, unit="norm", span=3)
    for setting, vector, n_draws in cases:
        draws = select(other_world, metric="theory_score_null", vector=vector, **here, **setting)["value"]
        assert len(draws) == n_draws
        assert draws.std() > 0.03
        found = value(other_world, metric="theory_score", vector="raw", **here, **setting)
        band = stats.null_band(draws.to_numpy(dtype=float), level=0.99)
        assert band.ci_low < found < band.ci_high


def test_scores_are_correlations_of_expected_and_counted_shifts(world: pd.DataFrame) -> None:
    events = planted(theory_holds=True).events
    means = events.groupby("emotion").mean().loc[list(EMOTIONS)]
    z = (means - means.mean()) / means.std(ddof=0)
    base = views.baseline(world).set_index("label")["value"].loc[list(EMOTIONS)]
    for setting, expected in {
        Setting(pleasantness=1): z["pleasantness"],
        Setting(pleasantness=-1, other_responsblt=1): z["other_responsblt"] - z["pleasantness"],
        Setting(self_responsblt=-1): -z["self_responsblt"],
    }.items():
        for vector, span, dose, unit in (
            ("raw", 3, 0.1, "norm"),
            ("fixall", 3, 4.0, "absolute"),
            ("raw", 1, 2.0, "absolute"),
        ):
            keys = dict(vector=vector, unit=unit, dose=dose, span=span, layer=1) | setting.columns()
            counts = select(world, metric="count", **keys).set_index("label")["value"].loc[list(EMOTIONS)]
            by_hand = spearmanr(expected, np.log((counts + 0.5) / (base + 0.5))).statistic
            assert value(world, metric="theory_score", **keys) == pytest.approx(0 if np.isnan(by_hand) else by_hand)
            moved = (counts - base).abs().sum() / 2 / base.sum()
            assert value(world, metric="total_variation", **keys) == pytest.approx(moved)


def test_opposite_settings_have_opposite_nulls(world: pd.DataFrame) -> None:
    null = select(world, metric="theory_score_null", vector="random", dose=0.1, unit="norm", span=3)
    up, down = (select(null, **setting).sort_values("draw")["value"].to_numpy() for setting in (UP, DOWN))
    assert len(up) == 100
    assert np.allclose(up, -down)


def test_pushing_harder_moves_more_and_flows_add_up_to_the_counts(world: pd.DataFrame) -> None:
    here = dict(vector="raw", unit="norm", span=3) | UP
    moved = [value(world, metric="total_variation", dose=dose, **here) for dose in (0.05, 0.1, 0.2)]
    assert moved[0] < moved[1] < moved[2]
    flow = select(world, metric="flow", dose=0.2, **here)
    counts = select(world, metric="count", dose=0.2, **here).set_index("label")["value"]
    base = views.baseline(world).set_index("label")["value"]
    for column, told in (("answer", counts), ("label", base)):
        added = flow.groupby(column)["value"].sum()
        assert added.reindex(EMOTIONS, fill_value=0).tolist() == told.loc[list(EMOTIONS)].tolist()


def test_lengths_of_windows_and_what_projection_leaves(world: pd.DataFrame) -> None:
    lengths = select(world, metric="accumulated_norm")
    assert value(lengths, vector="random") == pytest.approx(3, abs=1e-5)
    assert 1 < value(lengths, vector="random_per_layer") < 2.5
    assert value(lengths, vector="raw", **UP) == pytest.approx(3, abs=1e-5)  # the planted layers are alike
    shares = select(world, metric="kept_share")
    fix3, fixall = (select(shares, vector=vector)["value"].to_numpy() for vector in ("fix3", "fixall"))
    assert ((fix3 >= fixall - 1e-9) & (fix3 <= 1 + 1e-9) & (fixall > 0)).all()


# Appraisals that are said, what pushes move beside, and expectations from elsewhere.


def test_what_is_said_names_appraisals_and_no_emotion() -> None:
    said = packaged("said.yml")
    shown = {name for setting in modulation.SAID for name in setting}
    assert set(said["sentences"]) == shown == set(PUSHED) - {"chance_control"}
    both = modulation.said(Setting(pleasantness=-1, other_responsblt=1))
    assert both == "The event was unpleasant. Someone else was responsible for the event."
    sentences = [*(one for pair in said["sentences"].values() for one in pair), *said["neutral"]]
    assert len({*sentences}) == len(sentences) and all(one.endswith(".") and one.count(".") == 1 for one in sentences)
    words = {word.strip(".").lower() for one in sentences for word in one.split()}
    lexicon = yaml.safe_load((ROOT / "tests/texts/affect_words.yml").read_text(encoding="utf-8"))
    barred = {word for word in words if any(re.fullmatch(p, word) for p in " ".join(lexicon.values()).split())}
    assert barred <= {"pleasant", "unpleasant"}  # which are the appraisal itself
    of_appraisals = {"pleasant", "unpleasant", "responsible", "predictable", "unpredictable", "someone", "nobody", "i"}
    assert not {w.strip(".").lower() for one in said["neutral"] for w in one.split()} & of_appraisals


def counted(table: pd.DataFrame, **keys: Any) -> np.ndarray:
    found = select(table, metric="count", **keys).set_index("label")["value"]
    return found.loc[list(EMOTIONS)].to_numpy(dtype=float)


def test_what_is_said_is_scored_against_nothing_said_and_against_sentences_that_say_nothing(
    world: pd.DataFrame,
) -> None:
    events = planted(theory_holds=True).events
    expected = expected_shifts(events.groupby("emotion").mean().loc[list(EMOTIONS)], modulation.SAID)
    clean = views.baseline(world).set_index("label")["value"].loc[list(EMOTIONS)].to_numpy(dtype=float)
    scores = {"prompted": [], "prompted_beyond_neutral": []}
    for setting, profile in zip(modulation.SAID, expected, strict=True):
        counts = counted(world, vector="prompted", **setting.columns())
        bases = [clean, counted(world, vector="prompted_neutral", draw=len(setting) - 1)]
        for vector, base in zip(scores, bases, strict=True):
            by_hand = spearmanr(profile, np.log((counts + 0.5) / (base + 0.5))).statistic
            keys = dict(vector=vector, **setting.columns())
            assert value(world, metric="theory_score", **keys) == pytest.approx(by_hand)
            moved = np.abs(counts - base).sum() / 2 / base.sum()
            assert value(world, metric="total_variation", **keys) == pytest.approx(moved)
            if setting in PRINTED:
                scores[vector].append(by_hand)
    for vector, each in scores.items():
        mean = select(world, metric="theory_score", vector=vector, settings="printed").iloc[0]
        assert mean["value"] == pytest.approx(np.mean(each)) and mean["ci_low"] < mean["value"] < mean["ci_high"]
    # in this world sentences are believed, and any sentence promotes anger, which the second baseline has taken out
    assert min(np.mean(each) for each in scores.values()) > 0.8
    assert not np.allclose(*scores.values())
    neutral = select(world, metric="total_variation", vector="prompted_neutral").set_index("draw")["value"]
    assert 0 <= neutral[0] < neutral[1]
    assert set(select(world, vector="prompted")["layer"].isna()) == {True}  # it is no place in the model


def test_a_push_is_read_as_what_was_pushed_and_as_nothing_else(world: pd.DataFrame) -> None:
    study = planted(theory_holds=True)
    outside = steering.outside_judged(study)
    spread = study.events.loc[outside, list(APPRAISALS)].std(ddof=0)
    fitting, _ = steering.fitted_and_judged(study, modulation.FULL.texts)
    norm = float(study.stacked("resid_post")[0, fitting].norm(dim=-1).mean())
    at = dict(vector="tuned", unit="norm", dose=0.1, span=3)
    for setting in PRINTED:
        keys = at | setting.columns()
        read = select(world, metric="read_shift", **keys).set_index("label")["value"]
        assert len(read) == 20
        # carriers are orthogonal, so that a push of unit length shares itself among the appraisals of the setting
        for name in read.index:
            by_hand = 3 * 0.1 * norm * setting.get(name, 0) / np.sqrt(len(setting)) / spread[name]
            assert read[name] == pytest.approx(by_hand, rel=0.05, abs=0.15)
        on, off = (value(world, metric=metric, **keys) for metric in ("on_target", "off_target"))
        assert on == pytest.approx(np.mean([sign * read[name] for name, sign in setting.items()]))
        assert off == pytest.approx(read.drop(list(setting)).abs().mean()) and off < 0.05 * on
    shown = select(world, metric="on_target", **at)
    assert value(shown, settings="printed") == pytest.approx(shown.loc[shown["settings"] == "", "value"].mean())
    assert value(world, metric="read_layer") == 2  # the last of three
    together = select(world, metric="rating_correlation", label="unpleasantness", **UP)["value"].item()
    ratings = study.events[outside]
    assert together == pytest.approx(ratings["pleasantness"].corr(ratings["unpleasantness"]))


def test_a_meta_analysis_scores_the_emotions_that_it_knows(world: pd.DataFrame) -> None:
    known = theory.meta_analysis()
    assert list(known.index) == list(EMOTIONS) and known.notna().sum().to_dict() == {
        "pleasantness": 11,
        "other_responsblt": 11,
        "predict_event": 8,
        "self_responsblt": 10,
    }
    z = (known - known.mean()) / known.std(ddof=0)
    base = views.baseline(world).set_index("label")["value"].loc[list(EMOTIONS)].to_numpy(dtype=float)
    at = dict(vector="tuned", unit="norm", dose=0.1, span=3, layer=1)
    for keys, wanted in ((at, "tuned"), (dict(vector="prompted"), "prompted")):
        for setting, profile in {
            Setting(other_responsblt=-1): -z["other_responsblt"],
            Setting(pleasantness=1, predict_event=-1): z["pleasantness"] - z["predict_event"],
        }.items():
            moved = np.log((counted(world, **keys, **setting.columns()) + 0.5) / (base + 0.5))
            some = profile.notna().to_numpy()
            by_hand = spearmanr(profile[some], moved[some]).statistic
            found = value(world, metric="meta_analysis_score", **keys, **setting.columns())
            assert found == pytest.approx(by_hand), wanted
    agreement = select(world, metric="meta_analysis_agreement")
    assert len(agreement) == len(modulation.SAID)
    assert set(select(agreement, predict_event=1, pleasantness=0)["n"]) == {8}
    nulls = select(world, metric="meta_analysis_score", vector="matched_sets", settings="printed")["value"]
    assert len(nulls) == 100 and nulls.abs().max() < 1


def test_the_chapter_in_short_is_the_table(world: pd.DataFrame) -> None:
    short, there = views.in_short(world), views.place(world).there
    scores = dict(metric="theory_score", settings="printed", unit="norm", dose=views.place(world).dose, span=3)
    for vector, words in views.READ.items():
        own = select(short, direction=words).set_index("what")["value"]
        centres = select(world, vector=vector, **scores).set_index("layer")["value"]
        assert own[views.DEPTH] == centres[there] and own[views.LAST] == centres[centres.index.max()]
        read = select(world, metric="direction_r2", layer=there, pleasantness=1, vector=vector)["value"].item()
        assert own["R² of pleasantness, unseen writers"] == read
    named = ("directions as released", "directions that predict", "differences of means")
    assert views.in_how_many(short, views.DEPTH).split(", ") == [f"**1 of 1** with *{kind}*" for kind in named]
    table = views.short_table(short.assign(run="planted"))
    assert table.columns[:2].tolist() == ["model", "direction"] and table["direction"].tolist() == [
        *views.READ.values()
    ]
    lacking = views.short_table(short.iloc[:-1].assign(run="planted"))
    assert (lacking != table).to_numpy().sum() == 1 and (lacking == "–").to_numpy().sum() == 1
    curves = views.by_kind(world).assign(run="planted")
    assert f"{curves['value'].max():.2f} (planted, " in views.highest(curves)


def test_how_far_chance_reaches_is_told_at_the_paper_s_depth(world: pd.DataFrame) -> None:
    named, there = views.named(world), views.place(world).there
    keys = dict(layer=there, unit="norm", dose=views.place(world, "tuned").dose, span=3, settings="printed")
    sets = select(world, metric="theory_score_null", vector="matched_sets", **keys)["value"]
    low, high = (views.plain(end, ".2f") for end in (sets.min(), sets.max()))
    assert len(sets) > 1 and views.chance_reaches(named) == f"from {low} to {high}"
    where = views.place(world)._replace(centre=there)
    keys |= dict(dose=where.dose, metric="theory_score", vector="raw")
    assert f"and {views.spoken(select(world, **keys).iloc[0])} at the paper's depth" in views.centres_in_words(
        named, where
    )


def test_scores_are_above_the_range_of_their_own_random_directions(world: pd.DataFrame) -> None:
    named, where = views.named(world), views.place(world)
    above, bands = views.above_random(views.by_depth(named, where)), views.null_bands(named, **where.at)
    key = (views.SINGLE[0], where.centre)
    top = select(bands, setting=key[0])["ci_high"].item()
    score = select(named, metric="theory_score", vector="raw", setting=key[0], **where.at)["value"].item()
    assert above[key] == (score > top) and above.any()
    assert views.MEAN not in above.index.get_level_values("setting")


def test_labels_that_a_push_adds_to() -> None:
    def bar(**counts: int) -> pd.DataFrame:
        return pd.DataFrame({"label": [*counts], "value": [*counts.values()]})

    bars = {"no push": bar(joy=5, anger=5)} | dict.fromkeys(views.SINGLE, bar(joy=6, anger=4))
    assert views.gains(bars).startswith("joy (more pleasant), joy (less pleasant), ")
    counts = pd.DataFrame({"guilt": [3, 4, 3], "anger": [3, 2, 5]}, index=["no push", *views.AGENCY])
    assert views.as_in_the_example(counts) == [True, True, False, True]


def test_views_show_what_is_said_beside_what_is_pushed(world: pd.DataFrame) -> None:
    named, where = views.named(world), views.place(world, "tuned")
    shown = views.pushed_and_said(named, where)
    assert list(shown["way"].unique()) == [views.SAID[way] for way in ("tuned", "prompted", "prompted_beyond_neutral")]
    assert set(shown.groupby("way").size()) == {14 + 1 + 2}
    table = views.instead(named, where).set_index("")
    assert len(table) == 4 + 2 + 2
    own = select(world, metric="meta_analysis_score", vector="prompted", settings="printed").iloc[0]
    assert table.loc["said", "by the meta-analysis"] == views.spoken(own)
    pair = [
        select(world, metric="theory_score", settings="printed", vector="tuned", **where.at)["value"].item(),
        select(world, metric="theory_score", settings="printed", vector="prompted")["value"].item(),
    ]
    gain = views.beyond_saying(named, where)
    assert gain["value"] == pytest.approx(pair[0] - pair[1]) and gain["ci_low"] <= gain["value"] <= gain["ci_high"]
    behind = views.on_and_off(named, where)
    assert behind["read"].nunique() == 2 and set(behind.groupby("read").size()) == {15}
    beside = views.moved_beside(named, where)
    assert len(beside) == 6 and all(row.count(";") == 2 for row in beside.iloc[:, 2])
    assert beside.iloc[0, 1].startswith("pleasantness +")
    assert beside.iloc[1, 1].startswith(f"pleasantness {views.plain(-1.0, '+.0f')[0]}")
    assert views.read_layer(world) == 2 and 0 < views.in_people(world) < 1 and -1 <= views.agreement(named) <= 1


# Random directions as a null: in a world without theory it must reject as often as it says.

WIDTH, TEXTS, DRAWS = 24, 300, 230


def drawn(vector: str, draws: int, seed: int = 0) -> dict[tuple[str, Any], torch.Tensor]:
    design = steering.Design(1, 1, 1, (steering.Family(vector, 3, (), (), (0, draws)),))
    fitted = SimpleNamespace(ridge=torch.empty(2, 1, WIDTH))
    return modulation.unit_vectors(fitted, design, seed=seed)


def read(vectors: dict[tuple[str, Any], torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Answers [texts, pushed] after pushes, and before, of a model that reads labels along random directions."""
    random = np.random.default_rng(3)
    clean, reading = random.normal(size=(TEXTS, 13)), random.normal(size=(13, WIDTH))
    pushes = np.stack([vector[0].numpy() for vector in vectors.values()])
    return (clean[:, None] + 0.7 * pushes @ reading.T).argmax(-1), clean.argmax(-1)


@pytest.fixture(scope="module")
def expected() -> dict[Setting, np.ndarray]:
    """Expected shifts from ratings of which pleasantness and other-agency go together, as in the corpus."""
    ratings = np.random.default_rng(4).normal(size=(13, len(ACTING)))
    means = pd.DataFrame(ratings, index=list(EMOTIONS), columns=list(ACTING))
    means["other_responsblt"] -= 0.5 * means["pleasantness"]
    return dict(zip(SETTINGS, expected_shifts(means, SETTINGS), strict=True))


def null(vector: str, vectors: dict[tuple[str, Any], torch.Tensor], expected: Any) -> tuple[pd.DataFrame, Any, Any]:
    ids, clean = read(vectors)
    cell = Cell(vector, 3, Dose(1.0), 1, [pushed for _, pushed in vectors])
    return pd.DataFrame(modulation._null(cell, ids, clean, expected, {})), ids, clean


def test_a_mean_over_settings_is_beyond_its_null_as_often_as_it_should_be(expected: dict[Setting, np.ndarray]) -> None:
    rows, _, _ = null("random_sets", drawn("random_sets", DRAWS), expected)
    means = rows["value"].to_numpy()
    assert len(means) == DRAWS and set(rows["settings"]) == {"printed"}
    # the first 30 sets are the null, and the other 200 worlds in which fitted vectors are no better than random ones
    band = stats.null_band(means[:30])
    assert ((means[30:] < band.ci_low) | (means[30:] > band.ci_high)).mean() < 0.11
    # the positive control: a null whose settings have nothing to do with one another is too narrow
    ids, clean = read(drawn("random", DRAWS, seed=5))
    counts, base = theory.label_counts(ids)[0], theory.label_counts(clean[:, None])[0, 0]
    scores = np.stack([theory.theory_score(expected[setting], counts, base) for setting in PRINTED])
    apart = np.array([scores[:, draw * 14 : draw * 14 + 14].diagonal().mean() for draw in range(DRAWS // 14)])
    narrow = stats.null_band(apart)
    assert ((means < narrow.ci_low) | (means > narrow.ci_high)).mean() > 0.15


def test_sets_are_put_together_as_fitted_settings_are() -> None:
    vectors = drawn("random_sets", 3)
    assert len(vectors) == 3 * 14
    for draw in range(3):
        own = {setting: vectors["random_sets", (draw, setting)] for setting in PRINTED}
        pleasant, others = own[Setting(pleasantness=1)], own[Setting(other_responsblt=1)]
        assert torch.equal(own[Setting(pleasantness=-1)], -pleasant)
        both = own[Setting(pleasantness=1, other_responsblt=-1)]
        assert torch.allclose(both, modulation.unit(pleasant - others), atol=1e-6)
        assert torch.equal(both[0], both[1])  # the same in all layers, so that windows add up
    first, second = (vectors["random_sets", (draw, Setting(pleasantness=1))] for draw in (0, 1))
    assert not torch.allclose(first, second, atol=0.1)
    assert all(torch.equal(vectors[key], vector) for key, vector in drawn("random_sets", 2).items())


def test_single_directions_are_scored_against_every_setting(expected: dict[Setting, np.ndarray]) -> None:
    rows, ids, clean = null("random_per_layer", drawn("random_per_layer", 5), expected)
    scores = rows[rows["metric"] == "theory_score_null"]
    assert len(scores) == 5 * 20
    base = np.bincount(clean, minlength=13)
    for row in scores.to_dict("records"):
        counts = np.bincount(ids[:, int(row["draw"])], minlength=13)
        by_hand = theory.theory_score(expected[Setting.from_columns(row)], counts, base)
        assert row["value"] == pytest.approx(by_hand)
    assert set(rows.loc[rows["metric"] == "count", "draw"]) == {0, 1, 2}


# Who judges whom.


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
        def __init__(self, features: torch.Tensor, ratings: pd.DataFrame, **options: Any) -> None:
            seen["tuned" if options else "fitted"] = ratings.index.to_numpy()
            super().__init__(features, ratings, **options)

    world.intervene = watch
    monkeypatch.setattr(modulation, "SteeringVectors", Watched)
    again = results.tidy(modulation.run(world), "modulation", model="planted", n_layers=3)
    pd.testing.assert_frame_equal(again, other_world)
    judged, choosing, fitted = seen["modulation"], seen["modulation, choice of layer"], seen["fitted"]
    assert len(judged) == modulation.QUICK.texts
    assert set(choosing) <= set(fitted) <= set(world.agreed)
    assert set(judged) <= set(world.agreed)
    assert not set(world.groups[judged]) & set(world.groups[fitted])
    assert set(seen["tuned"]) >= set(fitted)
    assert not set(world.groups[judged]) & set(world.groups[seen["tuned"]])
    assert np.bincount(world.truth[judged], minlength=13).min() >= modulation.QUICK.texts // 13


# What directions read, and nulls that are fair.


def test_tuned_vectors_read_what_they_are_called_and_beat_their_nulls(world: pd.DataFrame) -> None:
    read = select(world, metric="direction_r2")
    assert set(read["vector"]) == {"raw", "tuned", "mean_difference"} and (read[[*PUSHED]].sum(axis=1) == 1).all()
    assert (select(read, vector="tuned")["ci_low"] > 0.95).all()  # the planted stream carries ratings all but exactly
    at = dict(settings="printed", unit="norm", dose=0.1, span=3)
    own = value(world, metric="theory_score", vector="tuned", **at)
    for vector in modulation.FAIR:
        null = select(world, metric="theory_score_null", vector=vector, **at)["value"]
        assert len(null) == 100
        assert null.max() < own - 0.1 and abs(null.mean()) < 0.25
    against = select(world, metric="against_theory", vector="tuned", **at).iloc[0]
    assert against["ci_low"] <= against["value"] <= against["ci_high"] < 0.2
    random = select(world, metric="against_theory", vector="matched_sets", **at)["value"]
    assert against["value"] < random.quantile(0.05)


@pytest.mark.parametrize("vector", modulation.FAIR)
def test_fair_sets_are_as_long_as_tuned_settings_where_layers_differ(vector: str) -> None:
    random = np.random.default_rng(0)
    ratings = pd.DataFrame(random.integers(1, 6, (60, len(ACTING))), columns=list(ACTING))
    features = torch.tensor(random.normal(size=(4, 60, 12)), dtype=torch.float32)
    data = modulation.Texts(features, ratings, np.arange(60) // 2)
    tuned = modulation.SteeringVectors(features, ratings, groups=data.groups)
    lengths = []
    for draws in (2, 3):
        cell = Cell(vector, 3, Dose(0.1, "norm"), 2, modulation.pushes(vector, draws))
        found = modulation.fair_sets(cell, tuned, data, seed=0)
        assert len(found) == draws * 14
        for (_, setting, centre), window in found.items():
            assert centre == 2 and list(window) == [1, 2, 3]
            own = tuned.combine(setting, "raw")[1:4].sum(0).norm()
            lengths.append(float(own))
            assert float(sum(window.values()).norm()) == pytest.approx(float(own), rel=1e-5)
        first = {setting: torch.stack([*window.values()]) for (draw, setting, _), window in found.items() if draw == 0}
        up, down = (first[Setting(pleasantness=sign)] for sign in (1, -1))
        assert torch.allclose(up, -down)
        # each stands in with the length of the weights it stands for
        weights = tuned.ridge[1:4].norm(dim=-1)
        parts = [modulation.unit(first[Setting(**{name: 1})]).double() for name in ("pleasantness", "other_responsblt")]
        total = sum(part * weights[:, [tuned.names.index(name)]] for part, name in zip(parts, ACTING, strict=False))
        both = modulation.unit(first[Setting(pleasantness=1, other_responsblt=1)]).double()
        assert torch.allclose(both, modulation.unit(total), atol=1e-5)
    assert max(lengths) > 1.1 * min(lengths)


def test_fair_sets_add_up_to_what_tuned_settings_do(world: pd.DataFrame) -> None:
    lengths = views.named(select(world, metric="accumulated_norm"))
    tuned = select(lengths, vector="tuned").set_index("setting")["value"]
    for vector in modulation.FAIR:
        found = select(lengths, vector=vector).set_index("setting")["value"]
        assert len(found) == 14
        assert found.to_numpy() == pytest.approx(tuned[found.index].to_numpy(), abs=1e-5)


def test_the_score_of_a_set_is_the_mean_over_its_settings(world: pd.DataFrame) -> None:
    for vector in modulation.FAIR:
        null = select(world, metric="theory_score_null", vector=vector)
        single, means = null[null["settings"] == ""], null[null["settings"] == "printed"]
        assert len(single) == 14 * len(means)
        assert single.groupby("draw")["value"].mean().to_numpy() == pytest.approx(means["value"].to_numpy())


def test_outside_are_all_texts_of_writers_of_whom_nothing_is_judged() -> None:
    groups, agreed = np.arange(60) // 3, np.arange(0, 54, 2)  # the last two writers are never right
    study: Any = SimpleNamespace(agreed=agreed, groups=groups, truth=np.arange(60) % 13, run=SimpleNamespace(seed=1))
    fitting, judged = steering.fitted_and_judged(study, 60)
    outside = np.flatnonzero(steering.outside_judged(study))
    assert set(outside) == set(np.flatnonzero(np.isin(groups, [*set(groups[fitting]), 18, 19])))
    assert set(fitting) < set(outside) and not set(groups[outside]) & set(groups[judged])


def test_draws_are_most_at_the_last_of_the_decisive_centres() -> None:
    three, two = (steering.Family("x", 3, (), (), draws) for draws in ((1, 5, 9), (1, 9)))
    assert [three.drawn(centre, [7, 4]) for centre in (7, 4, 2)] == [5, 9, 1]
    assert [three.drawn(4, [4]), two.drawn(7, [7, 4]), two.drawn(4, [7, 4]), two.drawn(4, [4])] == [9, 9, 9, 9]


# The figure of flows.


def test_blocks_and_ribbons_of_flows_have_the_height_of_their_share() -> None:
    rows = [("joy", "joy", 6), ("joy", "fear", 2), ("anger", "joy", 1), ("neutral", "fear", 1)]
    frame = pd.DataFrame(rows, columns=["label", "answer", "value"])
    table = flow_plots.flow_shares(frame, "x")
    assert table.loc["joy", "fear"] == pytest.approx(0.2)
    assert table.to_numpy().sum() == pytest.approx(1)
    fig = flow_plots.label_flows({"more pleasant": frame, "again": frame})
    assert [ax.get_title() for ax in fig.axes] == ["more pleasant", "again"]
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
    with pytest.raises(ValueError, match="x: labels read 'bliss': select counts of emotions before and after"):
        flow_plots.flow_shares(pd.DataFrame(dict(label=["bliss"], answer=["joy"], value=[1])), "x")


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
    agreed, folder = np.arange(1, len(tiny_study.truth), 2), tmp_path_factory.mktemp("modulation")
    return Study(tiny_run, model=tiny_study.model, folder=folder, agreed=agreed)


def test_a_model_gives_a_whole_table(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    families = [family._replace(draws=tuple(min(n, 10) for n in family.draws)) for family in modulation.QUICK.families]
    monkeypatch.setattr(modulation, "QUICK", modulation.QUICK._replace(texts=24, choosing=12, families=families))
    table = results.tidy(modulation.run(study), "modulation", model="tiny", n_layers=5)
    judged = int(views.baseline(table)["n"].iloc[0])
    site = ["vector", *PUSHED, "draw", "layer", "span", "unit", "dose"]
    sums = select(table, metric="count").groupby(site, dropna=False)["value"]
    assert set(sums.sum()) == {judged}
    scores = select(table, metric="theory_score")
    assert (scores["ci_low"] <= scores["value"]).all()
    assert (scores["ci_low"] < scores["ci_high"]).mean() > 0.9
    assert set(select(table, metric="decisive")["layer"]) <= {1, 2}


@pytest.mark.parametrize("right", [0, 15])
def test_too_few_right_answers_are_refused_before_any_edit(study: Study, right: int, tmp_path: Any) -> None:
    opened = Study(study.run, model=study.model, folder=tmp_path, agreed=np.arange(right))
    with pytest.raises(ValueError, match=f"answers {right} of 150 texts right, and steering needs 10 on either side"):
        modulation.run(opened)


def test_null_bands_are_quantiles_of_the_draws_of_each_site() -> None:
    random = np.random.default_rng(0)
    draws = {(layer, dose): random.normal(layer, dose, 200) for layer in (3, 4) for dose in (1.0, 2.0)}
    null = pd.DataFrame(
        [
            UP | dict(metric="theory_score_null", vector="random", layer=layer, span=3, dose=dose, value=value)
            for (layer, dose), values in draws.items()
            for value in values
        ]
    ).assign(settings="", unit="norm", draw=0, n_layers=9)
    sets = null.head(2).assign(vector="random_sets", settings="printed", layer=9)
    table = views.named(pd.concat([null.sample(frac=1, random_state=0), sets]))
    found = views.null_bands(table, span=3).set_index(["layer", "dose"])
    for site, values_there in draws.items():
        row = found.loc[site]
        assert row["value"] == pytest.approx(values_there.mean())
        ends = np.quantile(values_there, [0.025, 0.975, 0.99])
        assert row[["ci_low", "ci_high", "limit"]].astype(float).tolist() == pytest.approx(ends)
        assert row["n"] == 200

"""Robustness where the answer is known: planted profiles, planted ratings, plain passes with hooks, counts by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from emolib import stats
from emolib.engine.edits import Edit, Zero
from emolib.engine.sweeps import sweep
from emolib.experiments import ablation
from emolib.experiments.robustness import checks, profile, views
from emolib.experiments.robustness import measure as robustness
from emolib.experiments.robustness.profile import ATTENTION, STREAM, Profile, Scale
from emolib.interventions import interchange
from emolib.stats.sampling import balanced_rows
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results, schemas
from emolib.tables.results import select
from emolib.texts import control_tasks
from emolib.texts.corpus import EMOTIONS
from emolib.texts.prompts import PAPER_PROMPTS, Prompt, get_prompt
from helpers import TINY_WORDS, plain_answers, task_tokenizer, tiny_table

N, LAYERS = 260, 12  # texts and layers of planted profiles
SMALL = Scale(texts=120, controls=80, patched=24, rounds=1, folds=2, step=2, tokens=6)


def tidy(rows: Any) -> pd.DataFrame:
    return results.tidy(rows, "robustness", n_layers=LAYERS, model="m")


def reader(truth: np.ndarray, **more: Any) -> Any:
    """What experiments ask of a study, with answers that are known and two texts by each writer."""
    groups = np.arange(len(truth)) // 2

    def interval(statistic: Any, rows: Any = slice(None), **options: Any) -> stats.Interval:
        return stats.bootstrap(statistic, groups[rows], seed=0, **options)

    own = dict(truth=truth, groups=groups, run=SimpleNamespace(seed=0), words=EMOTIONS, interval=interval)
    return SimpleNamespace(**own | more)


def test_every_prompt_is_asked_and_a_chat_where_there_is_a_template() -> None:
    names = [prompt.name for prompt in robustness.emotion_prompts(task_tokenizer(), PAPER_PROMPTS)]
    assert names == [*PAPER_PROMPTS, "T1-0shot"]
    assert [p.name for p in robustness.emotion_prompts(task_tokenizer(chat=True), PAPER_PROMPTS)] == [
        *names,
        "T1-2shot-chat",
    ]


# Profiles with planted curves.


def planted(probe_from: int, dip: int, peak: int, onset: int, *, noise: float = 0.1, seed: int = 0) -> Profile:
    """A profile whose probe, dip, peak and onset are where they are said to be, 80% of the texts being agreed."""
    random = np.random.default_rng(seed)
    truth = np.arange(N) % 13
    predicted = np.where(np.arange(N) % 5 == 0, (truth + 1) % 13, truth)
    agreed = np.flatnonzero(predicted == truth)
    layers = np.arange(LAYERS)
    right = random.random((N, LAYERS)) < np.where(layers >= probe_from, 1 - noise / 10, 0.3)
    kept = random.random((len(agreed), LAYERS)) < np.where(layers == dip, 0.2, 1 - noise)
    kept[:, [0, 1, 2, -3, -2, -1]] = False  # the ends do not count
    model = SimpleNamespace(n_layers=LAYERS, name="planted")  # of which only the layers are asked
    sites = pd.concat(
        [sweep(Zero(), model, **window._asdict()).frame for window in (ATTENTION, STREAM)], ignore_index=True
    )
    attention, late = sites["component"] == "attn_out", sites["layer"] >= onset
    shares = np.where(attention, np.where(sites["layer"] == peak, 0.8, noise), np.where(late, 0.9, 0.1))
    pool, base, source = agreed[:100], np.arange(100), np.roll(np.arange(100), 1)
    hit, labels = random.random((100, len(sites))) < shares, truth[pool]
    outcome = interchange.Outcome(
        sites=sites,
        base=base,
        source=source,
        patched=torch.zeros(100, len(sites), 13),
        labels=labels,
        answers=np.where(hit, labels[source][:, None], labels[base][:, None]),
        clean=torch.zeros(100, 13),
        writers=pool // 2,
        rows=pool,
    )
    logits = torch.nn.functional.one_hot(torch.as_tensor(predicted), 13).float()
    study = reader(
        truth,
        predicted=predicted,
        agreed=agreed,
        events=pd.DataFrame({"text_id": np.arange(N).astype(str)}),
        model=model,
        layers=lambda: range(LAYERS),
        clean=SimpleNamespace(logits=logits),
    )
    return Profile(
        key=dict(prompt="p", check="prompts"),
        study=study,
        weights=np.ones(N),
        probed=layers.tolist(),
        guesses={"all": np.where(right, truth[:, None], -1)},
        kept=kept,
        patched=outcome,
    )


def test_curves_turn_where_they_were_made_to() -> None:
    table = tidy(profile.rows(planted(3, 4, 2, 5)))
    wanted = {"saturation_depth": 3, "dip_depth": 4, "peak_depth": 2, "onset_depth": 5}
    for metric, layer in wanted.items():
        row = select(table, metric=metric).iloc[0]
        assert row["value"] == (layer + 1) / LAYERS, metric
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
    never = tidy(profile.rows(planted(3, 4, 2, 99)))
    assert select(never, metric="onset_depth")["value"].item() == (LAYERS + 1) / LAYERS


def test_contrasts_find_the_shift_and_no_other() -> None:
    default, moved = planted(3, 4, 2, 5), planted(3, 6, 5, 3, seed=1)
    table = tidy(profile.contrasts(moved, default))
    shifts = {
        metric: select(table, metric=f"{metric}_shift").iloc[0] for metric in ("dip", "peak", "onset", "saturation")
    }
    assert {name: row["value"] for name, row in shifts.items()} == {"dip": 2, "peak": 3, "onset": -2, "saturation": 0}
    assert shifts["dip"]["ci_low"] > 0
    assert shifts["onset"]["ci_high"] < 0
    patch = select(table, metric="transfer_change", component="attn_out").set_index("layer")
    assert patch.loc[5, "ci_low"] > 0.5
    assert patch.loc[2, "ci_high"] < -0.5
    assert patch.loc[1, "ci_low"] <= 0 <= patch.loc[1, "ci_high"]


def test_a_profile_does_not_differ_from_itself_in_any_resample() -> None:
    table = tidy(profile.contrasts(planted(3, 4, 2, 5), planted(3, 4, 2, 5)))
    assert len(table) > 3 * LAYERS
    assert (table[["value", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_profiles_of_other_texts_are_not_compared() -> None:
    other = planted(3, 4, 2, 5)
    other.study.events = other.study.events.assign(text_id="x")
    with pytest.raises(ValueError, match="different texts"):
        list(profile.contrasts(other, planted(3, 4, 2, 5)))


def test_accuracy_counts_texts_by_their_weight() -> None:
    mine = planted(3, 4, 2, 5)
    weights = np.where(np.arange(N) % 5 == 0, 10.0, 1.0)
    table = tidy(profile.rows(replace(mine, weights=weights)))
    found = select(table, metric="accuracy", calibration="none")["value"].item()
    assert found == pytest.approx(np.average(mine.right, weights=weights))
    assert found != pytest.approx(mine.right.mean())


# Misclassified texts with planted ratings.


@pytest.fixture(scope="module")
def rated() -> Any:
    """1,040 texts of four emotions, a third missed as the next emotion; features are what the model makes of them.

    Ratings: pleasantness is 1 + the emotion's id for every text, other-agency 4 in missed texts and 2 in correct ones.
    Features hold the pleasantness of the *answer* and the true other-agency, in noise.
    """
    random, n = np.random.default_rng(0), 1040
    truth = np.arange(n) % 4
    missed = random.random(n) < 1 / 3
    predicted = np.where(missed, (truth + 1) % 4, truth)
    table = pd.DataFrame({name: random.integers(1, 6, n) for name in checks.APPRAISALS})
    table["pleasantness"], table["other_responsblt"] = 1 + truth, np.where(missed, 4, 2)
    features = torch.as_tensor(random.normal(size=(n, 10)))
    features[:, 0] += torch.as_tensor(8.0 * predicted)
    features[:, 1] += torch.as_tensor(8.0 * table["other_responsblt"].to_numpy())
    layers = {0: torch.as_tensor(random.normal(size=(n, 10))), 1: features}
    return reader(
        truth,
        predicted=predicted,
        events=table,
        corpus=SimpleNamespace(rated=True),
        activations=lambda component, layer: layers[layer],
        missed=missed,
    )


@pytest.fixture(scope="module")
def differences(rated: Any) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "MISSED_RESAMPLES", 200)
        patch.setattr(checks, "TABLE", (("anger", "pleasantness"),))
        return tidy(checks.missed(rated, [0, 1]))


def difference(table: pd.DataFrame, emotion: str, appraisal: str, source: str, **keys: Any) -> pd.Series:
    cell = dict(emotion=emotion, appraisal=appraisal, source=source)
    return select(table, metric="rating_difference", **cell, **keys).iloc[0]


def test_the_layer_that_reads_appraisals_is_the_one_reported(differences: pd.DataFrame) -> None:
    assert set(select(differences, metric="mean_rating")["layer"]) == {1}
    quality = select(differences, metric="r2").set_index("appraisal")["value"]
    assert quality["other_responsblt"] > 0.9
    assert quality["suddenness"] < 0.05  # noise is not read
    early = difference(differences, "anger", "pleasantness", "probe", layer=0)
    assert early["ci_low"] < 0 < early["ci_high"]


def test_a_difference_that_is_in_the_texts_goes_beyond_the_answer(differences: pd.DataFrame) -> None:
    probe = difference(differences, "anger", "other_responsblt", "probe")
    beyond = difference(differences, "anger", "other_responsblt", "beyond_label")
    writer = difference(differences, "anger", "other_responsblt", "writer")
    assert writer["value"] == 2.0
    assert pd.isna(writer["layer"])
    for row in (probe, beyond):
        assert row["value"] == pytest.approx(2.0, abs=0.1)
        assert row["ci_low"] > 1.8


def test_a_difference_that_only_follows_the_answer_is_found_out(differences: pd.DataFrame, rated: Any) -> None:
    # The features hold the answer, not the text: the probe sees missed anger as the next emotion, writers do not.
    probe, label, beyond, writer = (
        difference(differences, "anger", "pleasantness", source)
        for source in ("probe", "label", "beyond_label", "writer")
    )
    assert probe["ci_low"] > 0.3
    assert label["value"] == pytest.approx(probe["value"], abs=0.05)
    assert beyond["ci_low"] < 0.05
    assert abs(beyond["value"]) < 0.05
    assert writer["value"] == 0
    assert probe["n"] == (rated.truth == 0).sum()


def test_means_and_spread_of_the_sets_by_hand(differences: pd.DataFrame, rated: Any) -> None:
    members = {"missed": rated.missed, "correct": ~rated.missed}
    for name, chosen in members.items():
        cell = dict(emotion="boredom", appraisal="suddenness", set=name)
        row = select(differences, metric="writer_rating", **cell).iloc[0]
        mine = rated.events["suddenness"][chosen & (rated.truth == 1)]
        assert (row["value"], row["n"]) == (pytest.approx(mine.mean()), len(mine))
        assert 0 < select(differences, metric="sd_rating", **cell)["value"].item() < 1
    for name, rating in {"missed": 4, "correct": 2}.items():
        cell = dict(emotion="anger", appraisal="other_responsblt", set=name)
        probed = select(differences, metric="mean_rating", **cell)["value"].item()
        assert probed == pytest.approx(rating, abs=0.1)


def test_what_the_answer_says_leaves_the_text_itself_out() -> None:
    readings, predicted = np.array([[1.0], [2.0], [6.0], [9.0], [5.0]]), np.array([0, 0, 0, 0, 1])
    correct = np.array([True, True, True, False, True])
    found = checks.answered(readings, predicted, correct).ravel()
    assert found[:4].tolist() == [4.0, 3.5, 1.5, 3.0]
    assert np.isnan(found[4])  # no other text rightly given that answer


def test_without_ratings_or_misses_there_is_nothing_to_compare(rated: Any) -> None:
    bare = SimpleNamespace(**vars(rated) | dict(corpus=SimpleNamespace(rated=False)))
    never = SimpleNamespace(**vars(rated) | dict(predicted=rated.truth))
    assert [*checks.missed(bare, [1]), *checks.missed(never, [1])] == []


# Single questions.


def test_leaked_demonstrations_by_hand() -> None:
    # The last three rows are demonstrations, each hidden by one prompt; shown ones are answered right, others not.
    truth, sample = np.append(np.tile([0, 1], 20), [0, 1, 0]), np.arange(40)
    right = np.tile([True, False, False, True], 10)
    shown = {"one": np.array([40]), "two": np.array([41, 42]), "none": np.array([], dtype=int)}

    def answered(name: str) -> Any:
        study = SimpleNamespace(truth=truth[:40], prompt=name, decide=lambda logits: logits)
        return SimpleNamespace(study=study, weights=np.tile([3.0, 1, 1, 1], 10), right=right & (name != "none"))

    def variant(*, rows: np.ndarray, prompt: str) -> Any:
        return SimpleNamespace(clean=SimpleNamespace(logits=np.where(np.isin(rows, shown[prompt]), truth[rows], 9)))

    study = reader(truth, variant=variant)
    profiles = {name: answered(name) for name in shown}
    table = tidy(checks.leaked(study, profiles, shown, sample))
    change = select(table, metric="accuracy_change", prompt=["one", "two"]).set_index("prompt")["value"]
    assert change.to_dict() == pytest.approx({"one": 41 / 61 - 4 / 6, "two": 42 / 62 - 4 / 6})
    assert "none" not in set(table["prompt"])
    pooled = select(table, prompt="all")
    # Of either class half are right under the prompts that show demonstrations, and none under the third.
    assert pooled["value"].tolist() == [1, 0, 1, 1 - (0.5 - 0.25)]
    assert set(pooled["n"]) == {3}


def test_the_mask_alone_tells_what_it_was_made_to_tell() -> None:
    truth = np.arange(1300) % 13
    texts = ["so ... " * (2 if label == 3 else 0) + "it was" for label in truth]
    leaky = reader(truth, events=pd.DataFrame({"text": texts}))
    found = {row["baseline"]: row for row in checks.mask_baseline(leaky, n_folds=5)}
    mask, control = found["mask_count"], found["shuffled"]
    assert mask["value"] == pytest.approx(2 / 13, abs=0.01)  # that label, and one guess for all others
    assert mask["ci_low"] > control["ci_high"]
    bare = reader(truth, events=pd.DataFrame({"text": ["it was"] * 1300}))
    assert list(checks.mask_baseline(bare, n_folds=5)) == []


def test_masked_and_original_apart_by_hand() -> None:
    truth = np.zeros(8, dtype=int)
    answers = {"masked": [0, 0, 1, 1, 0, 0, 0, 1], "original": [0, 0, 0, 1, 0, 0, 0, 1]}
    texts = {"masked": ["..."] * 4 + ["a"] * 4, "original": ["glad"] * 4 + ["a"] * 4}
    pair = [
        SimpleNamespace(study=reader(truth, events=pd.DataFrame({"text": texts[k]})), right=np.array(answers[k]) == 0)
        for k in ("masked", "original")
    ]
    value = tidy(checks.masked_apart(*pair)).set_index(["text", "set"])["value"]
    assert value.to_dict() == {
        ("masked", "changed"): 0.5,
        ("original", "changed"): 0.75,
        ("original_minus_masked", "changed"): 0.25,
        ("masked", "unchanged"): 0.75,
        ("original", "unchanged"): 0.75,
        ("original_minus_masked", "unchanged"): 0.0,
    }


def test_splits_vary_as_much_as_chance_would_have_it() -> None:
    truth, random = np.arange(1300) % 13, torch.Generator().manual_seed(0)
    noise = torch.randn(1300, 20, generator=random)
    clear = noise + 20 * torch.nn.functional.one_hot(torch.as_tensor(truth), 20)
    half = noise + 2.5 * torch.nn.functional.one_hot(torch.as_tensor(truth), 20)
    study = reader(truth, agreed=np.arange(1300), activations=lambda component, layer: [clear, half][layer])
    table = tidy(checks.over_splits(study, [0, 1]))
    sd = select(table, metric="accuracy_sd").set_index("layer")
    assert sd.loc[0, "value"] == 0
    chance = select(table, metric="sampling_sd", layer=1)["value"].item()
    mean = select(table, metric="accuracy", layer=1)["value"].item()
    assert chance == pytest.approx(np.sqrt(mean * (1 - mean) / 260))
    assert 0.4 < sd.loc[1, "value"] / chance < 2
    assert sd.loc[1, "ci_low"] < chance < sd.loc[1, "ci_high"]
    study.agreed = np.arange(40)
    assert list(checks.over_splits(study, [0])) == []


@pytest.mark.parametrize(("position", "at"), [("-1", -1), ("-3", -3), ("all", "all")])
def test_tokens_are_ablated_as_in_plain_passes(tiny_run: Run, tiny_study: Study, position: str, at: Any) -> None:
    study = Study(tiny_run, model=tiny_study.model, folder=tiny_study.folder, agreed=np.arange(0, 40))
    table = tidy(checks.by_token(study, [1, 3], 8))
    rows = balanced_rows(study.truth, study.agreed, 8, seed=0)
    for component, layer in (("attn_out", 1), ("mlp_out", 3)):
        keys = dict(component=component, layer=layer, position=position, check="positions", method="zero")
        found = select(table, metric="agreement", **keys)
        edit = Edit(component=component, layers=(layer,), operation=Zero(), position=at)  # type: ignore
        expected = (plain_answers(study, rows, edit) == study.truth[rows]).mean()
        assert (found["value"].item(), found["n"].item()) == (pytest.approx(expected), 8)


# Everything together, on a tiny model and a table with masked and original texts.


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from emolib.engine.tiny import tiny_model

    folder = tmp_path_factory.mktemp("robustness")
    model = tiny_model("llama", tokenizer=task_tokenizer(chat=True), num_hidden_layers=4, hidden_size=32)
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    table, random = tiny_table(182, writers=60), np.random.default_rng(0)
    topical = ("sister", "teacher", "dog", "boss", "train")
    plain = [word for word in TINY_WORDS if word not in topical]
    middle = [" ".join(random.choice(plain, 4)) for _ in range(len(table))]
    table["text"] = [f"{('I', 'My', 'The')[i % 3]} {words} {topical[i % 5]} cake" for i, words in enumerate(middle)]
    table.loc[[5, 18], "text"] = ["My first child was born", "my first child was born."]  # joy: demonstrations
    masked = table["text"].str.replace("cake", "...")
    own = dict(generated_text=table["text"], hidden_emo_text=masked, prolific_id=table["writer"])
    table.drop(columns=["text", "writer"]).assign(**own).to_csv(folder / "corpus.csv", index=False)
    return Run(model=str(folder / "model"), corpus=str(folder / "corpus.csv"), device="cpu")


@pytest.fixture(scope="module")
def study(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(small_run, folder=tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return measured(study)


def measured(study: Study) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "SCALES", {"quick": SMALL})
        patch.setattr(robustness, "PROMPTS", {"quick": ("T1-2shot", "T1-3shot")})
        patch.setattr(robustness, "PAPER_PROMPTS", ("T1-2shot", "T1-3shot"))
        patch.setattr(profile, "RESAMPLES", 40)  # the intervals are tested with emolib.stats.intervals
        frame = robustness.run(study)
    return tidy(frame.assign(prompt=frame["prompt"].fillna("T1-2shot")))


def test_every_check_has_its_rows(table: pd.DataFrame) -> None:
    assert set(table["check"]) >= {"prompts", "text", "topic", "first_word", "matched", "demonstrations", "positions"}
    prompts = set(select(table, check="prompts")["prompt"])
    assert prompts == {"T1-2shot", "T1-3shot", "T1-0shot", "T1-2shot-chat"}
    shares = table["metric"].isin(["accuracy", "agreement", "transfer", "balanced_accuracy"])
    assert table.loc[shares, "ci_low"].notna().all()


def test_a_study_of_one_layer_measures_what_the_whole_one_does_there(
    small_run: Run, study: Study, table: pd.DataFrame, tmp_path: Path
) -> None:
    layer = [3]  # the last: windows of three layers do not fit around it
    part = Study(small_run, model=study.model, corpus=study.corpus, folder=tmp_path, only_layers=layer)
    whole, keys = select(table, layer=layer), schemas.keys("robustness")
    both = measured(part).dropna(subset="layer").merge(whole, on=keys, suffixes=("", "_whole"))
    assert len(both) > 40 and np.allclose(both["value"], both["value_whole"], atol=1e-6)


def test_demonstrations_are_in_no_sample(study: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = robustness.shown_rows(study.events)
    assert shown["T1-2shot"].tolist() == [5, 18]
    assert select(table, prompt="T1-2shot", check="demonstrations")["n"].item() == 2
    seen: list[set[int]] = []

    def watch(other: Study, *, rows: np.ndarray, **_keys: object) -> Study:
        seen.append(set(np.asarray(rows).tolist()))
        raise StopIteration

    monkeypatch.setattr(Study, "variant", watch)
    scale = SMALL._replace(controls=len(study.truth))
    for check, make in robustness.CONTROLS.items():
        task = make(study.events["text"], scale.controls, seed=0, shown=[5, 18])
        with pytest.raises(StopIteration):
            robustness._control(study, scale, task, check)
    with pytest.raises(StopIteration):
        robustness.run(study)
    assert len(seen) == 3 and all(len(rows) > 20 for rows in seen)
    assert not set.union(*seen) & {5, 18}
    # without the exclusion they would be asked
    makers = control_tasks.first_word_task, control_tasks.topic_task
    everything = [make(study.events["text"], 200, seed=0) for make in makers]
    assert any({5, 18} & set(task.rows.tolist()) for task in everything)


def test_zeroing_attention_agrees_with_the_chapter_on_ablation(study: Study, table: pd.DataFrame) -> None:
    sample = balanced_rows(study.truth, np.setdiff1d(np.arange(182), [5, 18]), SMALL.texts, seed=0)
    default = study.variant(rows=sample, prompt=get_prompt("T1-2shot"))
    other = results.tidy(ablation.run(default), "ablation", model="m")
    keys = dict(metric="agreement", component="attn_out", span=1)
    theirs = select(other, method="zero", **keys).set_index("layer")
    mine = select(table, check="prompts", method="zero", prompt="T1-2shot", **keys).set_index("layer")
    assert mine.loc[theirs.index, "value"].to_dict() == pytest.approx(theirs["value"].to_dict())
    assert len(mine) == 4 and list(theirs.index) == [1, 3]  # a quick run of ablation takes every second layer


def test_the_topic_and_the_emotion_are_asked_of_the_same_texts(table: pd.DataFrame) -> None:
    topic = select(table, check="topic", metric="agreed_count")["n"].item()
    matched = select(table, check="matched", texts="topic", metric="agreed_count")["n"].item()
    assert topic == matched == SMALL.controls
    chance = select(table, check="topic", metric="majority_share")["value"].item()
    assert chance == 0.2  # five topics in equal numbers
    assert select(table, check="first_word", metric="majority_share")["value"].item() > 0.3


def test_the_probe_sees_the_original_where_it_is_another_text(study: Study, table: pd.DataFrame) -> None:
    found = select(table, check="text", text="original", calibration="batch", metric="accuracy")
    original = study.variant(text="original")
    assert not original.events["text"].equals(study.events["text"])
    assert found["n"].item() == SMALL.texts
    assert "unchanged" not in set(table["set"])  # every text but the demonstrations was masked


def test_a_prompt_whose_answers_share_a_token_is_not_asked(study: Study) -> None:
    assert robustness.askable(study, get_prompt("first_word"))
    clash = Prompt(name="x", instruction="", labels=("unseen", "unknown"))
    assert not robustness.askable(study, clash)


# What the chapter makes of the table.


def test_rows_are_picked_by_any_columns(table: pd.DataFrame) -> None:
    zero = views.pick(table, method="zero", check="prompts", prompt="T1-0shot")
    assert set(zero["metric"]) == {"agreement"} and len(zero) == 4
    assert views.pick(table, check=["nothing"]).empty


def test_accuracy_is_the_answers_also_where_probes_of_agreed_texts_have_one(table: pd.DataFrame) -> None:
    curves = views.pick(table, check="prompts", metric="balanced_accuracy", component="resid_post")
    probes = curves.assign(metric="accuracy", set="agreed")
    (alone, _), (beside, _) = views.accuracy(table), views.accuracy(pd.concat([table, probes]))
    pd.testing.assert_frame_equal(alone, beside)
    assert not probes.empty and not alone.duplicated(["prompt", "calibration"]).any()


def test_the_paper_beside_the_chapter() -> None:
    missed = views.paper_missed().set_index("cell")["value"].round(1).to_dict()
    assert missed == {
        "sadness, pleasantness": 0.3,
        "joy, pleasantness": -0.3,
        "guilt, pleasantness": -0.3,
        "sadness, other-agency": 1.0,
        "joy, other-agency": -0.4,
        "guilt, other-agency": 0.5,
    }
    prompts = views.paper_by_prompt().reset_index(drop=True)
    moved, left = (prompts[prompts["metric"] == metric] for metric in ("transfer", "agreement"))
    # the paper's claim C11: layer 10 of its 16, under each of the nine prompts
    assert prompts.loc[moved.groupby("prompt")["value"].idxmax(), "layer"].tolist() == [9] * 9
    assert prompts.loc[left.groupby("prompt")["value"].idxmin(), "layer"].tolist() == [9] * 9
    curve = views.paper_by_task()
    stream = curve[curve["panel"] == "stream, first word"].set_index("layer")["value"]
    assert (stream[stream >= 0.5].index[0], round(stream[10], 3)) == (10, 0.545)  # block 11: centre 10 of a window of 3


def test_the_table_of_tasks_is_read_from_the_rows(table: pd.DataFrame) -> None:
    shown = views.tasks(table)
    assert shown.index.tolist() == ["topic", "emotion on topic texts", "first word", "emotion on first word texts"]
    assert shown.loc["topic", "majority share"] == 0.2 and shown["agreed count"].dtype == "Int64"
    agreed = select(table, check="first_word", metric="agreed_count")["value"].item()
    assert shown.loc["first word", "agreed count"] == agreed
    assert set(views.by_task(table, "transfer")["task"]) <= {"topic", "first word", "emotion"}


def test_differences_of_shares_are_points() -> None:
    ends = dict(value=0.18, ci_low=-0.09, ci_high=0.43)
    rows = [dict(set="shown_minus_hidden", what="a difference of", **ends), dict(set="shown", what="shown", **ends)]
    assert views.answered(pd.DataFrame(rows)) == ["shown 18% (−9% to 43%)", "a difference of 18 (−9 to 43) points"]
    assert views.answered(pd.DataFrame(rows).iloc[:0]) == []


def test_demonstrations_and_tokens_are_shown_in_words(table: pd.DataFrame) -> None:
    changes, pooled = views.leaked(table)
    assert set(changes["metric"]) == {"accuracy_change"} and set(pooled["what"]) <= set(views.LEAKED.values())
    lowest = views.lowest_by_token(table)
    single = views.pick(lowest, component="attn_out")
    first, second, *_ = single[single["position"] != "all"].sort_values("value").to_dict("records")
    apart = first | dict(ci_high=0.2), second | dict(ci_low=0.3)
    assert views.costliest_token(pd.DataFrame(apart)).endswith(
        f" {first['token']}, more, for certain, than {second['token']}."
    )
    close = first | dict(ci_high=0.3), second | dict(ci_low=0.3)
    assert views.costliest_token(pd.DataFrame(close)).endswith(f"too few to tell it from {second['token']}.")
    assert views.costliest_token(single).split(" at ")[1].startswith(first["token"])
    assert views.costliest_token(lowest.iloc[:0]) == "No tokens were zeroed one by one in this run."
    keys = dict(check="positions", component="mlp_out", method="zero", position="all")
    row = views.pick(lowest, part="feed-forward output", token="all tokens").iloc[0]
    assert row["value"] == select(table, **keys)["value"].min()
    shown = views.by_token(lowest).set_index("token")
    assert shown.loc["all tokens", "feed-forward output"] == views.spoken(row) and not shown.isna().any(axis=None)
    assert views.lowest_by_token(views.pick(table, check="text")).empty


def test_places_that_move_are_counted() -> None:
    ends = dict(ci_low=[-1.0, 2.0, -4.0, 0.0], ci_high=[1.0, 4.0, -1.0, 2.0], value=[0.0, 3.0, -2.0, 1.0])
    kinds = dict(metric=["peak_shift", "peak_shift", "dip_shift", "dip_shift"], prompt="T1-2shot")
    rows = pd.DataFrame(kinds | ends).assign(check=["text", "topic", "topic", "prompts"])
    shown = views.shifts(rows)
    assert list(shown["change"]) == ["T1-2shot", "asked for the topic", "asked for the topic", "text as written"]
    assert list(shown["value"]) == [1.0, 3.0, -2.0, 0.0] and list(shown["kind"])[:2] == [*views.KINDS.values()][::-1]
    assert views.elsewhere(shown) == "dip of ablation 1 of 2, peak of patching 1 of 2"
    assert views.elsewhere(shown.iloc[:0]) == ""


def test_masking_is_a_row_for_events_it_changes_and_one_for_others() -> None:
    ends = dict(check="text", n=[163, 163, 163], ci_low=[0.1, 0.7, 0.5], ci_high=[0.3, 0.9, 0.7])
    texts = dict(set="changed", text=[*views.TEXTS], value=[0.2, 0.8, 0.6])
    (row,) = views.masking(pd.DataFrame(ends | texts)).to_dict("records")
    assert row == {
        "events": "changed by masking (163)",
        "masked": "20% (10% to 30%)",
        "as written": "80% (70% to 90%)",
        "difference, points": "+60 (+50 to +70)",
    }
    assert views.masking(pd.DataFrame(ends | texts).iloc[:0]).empty

"""Robustness where the answer is known: planted profiles, planted ratings, plain passes with hooks, counts by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from emolib.engine.layouts import unwrap
from emolib.experiments import ablation, robustness
from emolib.experiments.robustness import misclassified, spot_checks, task_profile, task_rows
from emolib.experiments.robustness import views as views
from emolib.experiments.robustness.task_profile import Scale, TaskProfile
from emolib.interventions import interchange
from emolib.stats import scores
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts import control_tasks
from emolib.texts.corpus import EMOTIONS, Corpus
from emolib.texts.prompts import PAPER_PROMPTS, Prompt, get_prompt
from helpers import TINY_WORDS, tiny_table, word_tokenizer

ONES = np.ones((1, 1))
TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}[{{ m['role'] }}] {{ m['content'] | trim }} [end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SMALL = Scale(texts=120, controls=80, patched=24, rounds=1, folds=2, step=2, tokens=6)
WORDS = [
    "The",
    "the",
    "My",
    "my",
    "I",
    "inferred",
    "topics",
    "first",
    "word",
    "contexts",
    "in",
    "What",
    "are",
    "is",
    "family",
    "work",
    "school",
    "animals",
    "travel",
]


def small_tokenizer(*, chat: bool = False) -> Any:
    """The word tokenizer of the other tests with the words of the control tasks, and a chat template if asked for."""
    content = json.loads(word_tokenizer().backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for word in (*WORDS, *get_prompt("first_word").labels):
        vocabulary.setdefault(word, len(vocabulary))
    special = dict(pad_token="<pad>", bos_token="<s>", eos_token="<s>", unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **special)
    tokenizer.chat_template = TEMPLATE if chat else None
    return tokenizer


# The control tasks and the chat.


def test_a_topic_is_the_only_one_whose_words_a_text_has() -> None:
    texts = ["My SISTER laughed.", "The boss saw my sister.", "Rain.", "A dog's dinner", "The carpet caught fire"]
    assert control_tasks.topics(pd.Series(texts)).tolist() == ["family", "", "", "animals", ""]


def test_topics_agree_with_those_the_authors_of_the_situations_had_in_mind() -> None:
    own = pd.read_csv(Path(control_tasks.__file__).parent / "data" / "situations.csv")
    found = control_tasks.topics(own["text"])
    named = own["topic"][found == "family"]
    assert (named == "family").mean() > 3 * (own["topic"] == "family").mean()


def test_the_topic_task_is_balanced_and_right() -> None:
    texts = pd.Series(["my dog"] * 9 + ["my sister"] * 30 + ["my boss"] * 20 + ["the bus"] * 7 + ["rain"] * 10)
    task = control_tasks.topic_task(texts, 26, seed=0)
    assert task.prompt.labels == ("family", "work", "animals")  # seven texts on travel are too few
    assert np.bincount(task.truth).tolist() == [8, 8, 8]
    assert (np.diff(task.rows) > 0).all()
    assert [task.prompt.labels[t] for t in task.truth] == control_tasks.topics(texts.iloc[task.rows]).tolist()
    assert len(control_tasks.topic_task(texts, 1000, seed=0).rows) == 27  # the smallest topic decides
    assert control_tasks.topic_task(texts[9:39], 26, seed=0) is None
    default = get_prompt("T1-2shot")
    assert task.prompt.prefix.split(".")[0].split("?")[1] == default.prefix.split(".")[0].split("?")[1]


def test_the_first_word_task_by_hand() -> None:
    texts = pd.Series(["My cat", "my cat", "I saw", "Cats", " When I", "I", ""] * 9)
    task = control_tasks.first_word_task(texts, 1000, seed=0)
    assert task.rows.tolist() == [i for i in range(63) if i % 7 not in (3, 6)]
    words = [texts[row].split()[0] for row in task.rows]
    assert [task.prompt.labels[t] for t in task.truth] == words
    assert len(control_tasks.first_word_task(texts, 10, seed=0).rows) == 10
    assert control_tasks.first_word_task(texts[texts.str.startswith("I")], 10, seed=0) is None


def test_the_first_word_task_keeps_the_texts_of_the_paper(crowd_envent: Corpus) -> None:
    task = control_tasks.first_word_task(crowd_envent.events["text"], 10_000, seed=0)
    counts = dict(zip(task.prompt.labels, np.bincount(task.truth).tolist(), strict=True))
    assert len(task.rows) == 5832
    assert (counts["I"], counts["My"], counts["my"], counts["we"]) == (3551, 438, 421, 18)


def test_a_chat_is_what_the_template_makes_of_the_whole_prompt_and_the_answer_begun() -> None:
    tokenizer, plain = small_tokenizer(chat=True), get_prompt("T3-2shot")  # begins with a blank, which is trimmed
    chat = control_tasks.chat_prompt(plain, tokenizer)
    turn = {"role": "user", "content": plain.render("My dog ran.").removesuffix(" Answer:")}
    whole = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    assert chat.render("My dog ran.") == whole.removeprefix("<s>") + "Answer:"
    tokens = tokenizer(chat.render("My dog ran."))["input_ids"]
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert chat.labels == EMOTIONS
    assert chat.name == "T3-2shot-chat"


def test_a_tokenizer_that_adds_no_start_leaves_it_to_the_template() -> None:
    tokenizer = small_tokenizer(chat=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    assert control_tasks.chat_prompt(get_prompt("T1-2shot"), tokenizer).render("x").startswith("<s>[user]")


def test_without_a_template_there_is_no_chat() -> None:
    assert control_tasks.chat_prompt(get_prompt("T1-2shot"), small_tokenizer()) is None
    names = [prompt.name for prompt in robustness.emotion_prompts(small_tokenizer())]
    assert names == [*PAPER_PROMPTS, "T1-0shot"]
    assert [p.name for p in robustness.emotion_prompts(small_tokenizer(chat=True))] == [*names, "T1-2shot-chat"]


# Profiles with planted curves.

N, LAYERS = 260, 12


def planted(probe_from: int, dip: int, peak: int, onset: int, *, noise: float = 0.1, seed: int = 0) -> TaskProfile:
    """A profile whose probe, dip, peak and onset are where they are said to be, 80 % of the texts being agreed."""
    random = np.random.default_rng(seed)
    truth = np.arange(N) % 13
    predicted = np.where(np.arange(N) % 5 == 0, (truth + 1) % 13, truth)
    agreed = np.flatnonzero(predicted == truth)
    layers = np.arange(LAYERS)
    right = random.random((N, LAYERS)) < np.where(layers >= probe_from, 1 - noise / 10, 0.3)
    kept = random.random((len(agreed), LAYERS)) < np.where(layers == dip, 0.2, 1 - noise)
    kept[:, [0, 1, 2, -3, -2, -1]] = False  # the ends do not count
    sites = [
        site
        for site in interchange.sites(LAYERS, (1, 3))
        if (site.component, site.span) in {("attn_out", 3), ("resid_post", 1)}
    ]
    pool = agreed[:100]
    base, source = np.arange(100), np.roll(np.arange(100), 1)
    shares = [
        (0.8 if s.centre == peak else noise) if s.component == "attn_out" else (0.9 if s.centre >= onset else 0.1)
        for s in sites
    ]
    hit = random.random((100, len(sites))) < np.array(shares)
    labels = truth[pool]
    outcome = interchange.Outcome(
        sites=sites,
        base=base,
        source=source,
        patched=torch.zeros(100, len(sites), 13),
        labels=labels,
        answers=np.where(hit, labels[source][:, None], labels[base][:, None]),
        clean=torch.zeros(100, 13),
        writers=pool // 2,
    )
    logits = torch.nn.functional.one_hot(torch.as_tensor(predicted), 13).float()
    study = SimpleNamespace(
        truth=truth,
        predicted=predicted,
        agreed=agreed,
        groups=np.arange(N) // 2,
        words=EMOTIONS,
        events=pd.DataFrame({"text_id": np.arange(N).astype(str)}),
        model=SimpleNamespace(n_layers=LAYERS),
        run=SimpleNamespace(seed=0),
        clean=SimpleNamespace(logits=logits),
    )
    return TaskProfile(
        key=dict(prompt="p", condition="check:prompts"),
        study=study,
        weights=np.ones(N),
        probed=layers,
        guesses={"all": np.where(right, truth[:, None], -1)},
        kept=kept,
        patched=outcome,
        pool=pool,
    )


def test_curves_turn_where_they_were_made_to() -> None:
    table = results.tidy(task_rows.rows(planted(3, 4, 2, 5)), experiment="robustness", model="m")
    wanted = {"saturation_depth": 3, "dip_depth": 4, "peak_depth": 2, "onset_depth": 5}
    for metric, layer in wanted.items():
        row = select(table, metric=metric).iloc[0]
        assert row["value"] == (layer + 1) / LAYERS, metric
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
    never = results.tidy(task_rows.rows(planted(3, 4, 2, 99)), experiment="robustness", model="m")
    assert select(never, metric="onset_depth")["value"].item() == (LAYERS + 1) / LAYERS


def test_contrasts_find_the_shift_and_no_other() -> None:
    default, moved = planted(3, 4, 2, 5), planted(3, 6, 5, 3, seed=1)
    table = results.tidy(task_rows.contrasts(moved, default), experiment="robustness", model="m")
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
    table = results.tidy(
        task_rows.contrasts(planted(3, 4, 2, 5), planted(3, 4, 2, 5)), experiment="robustness", model="m"
    )
    assert len(table) > 3 * LAYERS
    assert (table[["value", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_profiles_of_other_texts_are_not_compared() -> None:
    other = planted(3, 4, 2, 5)
    other.study.events = other.study.events.assign(text_id="x")
    with pytest.raises(ValueError, match="different texts"):
        list(task_rows.contrasts(other, planted(3, 4, 2, 5)))


def test_accuracy_counts_texts_by_their_weight() -> None:
    profile = planted(3, 4, 2, 5)
    weights = np.where(np.arange(N) % 5 == 0, 10.0, 1.0)
    table = results.tidy(task_rows.rows(replace(profile, weights=weights)), experiment="robustness", model="m")
    right = profile.study.predicted == profile.study.truth
    found = select(table, metric="accuracy", condition="check:prompts;calibration:none")["value"].item()
    assert found == pytest.approx(np.average(right, weights=weights))
    assert found != pytest.approx(right.mean())


def test_part_of_the_texts_as_a_statistic_of_all() -> None:
    values, places = np.array([1.0, 5.0]), np.array([2, 0])
    statistic = task_profile.over(scores.mean(values), places)
    assert statistic(np.array([[1.0, 9, 3], [0, 9, 0]])).ravel().tolist() == [(3 * 1 + 1 * 5) / 4, 3.0]


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
    table = pd.DataFrame({name: random.integers(1, 6, n) for name in misclassified.APPRAISALS})
    table["pleasantness"], table["other_responsblt"] = 1 + truth, np.where(missed, 4, 2)
    features = torch.as_tensor(random.normal(size=(n, 10)))
    features[:, 0] += torch.as_tensor(8.0 * predicted)
    features[:, 1] += torch.as_tensor(8.0 * table["other_responsblt"].to_numpy())
    layers = {0: torch.as_tensor(random.normal(size=(n, 10))), 1: features}
    return SimpleNamespace(
        truth=truth,
        predicted=predicted,
        groups=np.arange(n) // 2,
        events=table,
        corpus=SimpleNamespace(rated=True),
        run=SimpleNamespace(seed=0),
        activations=lambda component, layer: layers[layer],
        missed=missed,
    )


@pytest.fixture(scope="module")
def differences(rated: Any) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(misclassified, "RESAMPLES", 200)
        patch.setattr(misclassified, "TABLE", (("anger", "pleasantness"),))
        return results.tidy(misclassified.rows(rated, [0, 1]), experiment="robustness", model="m")


def difference(table: pd.DataFrame, emotion: str, appraisal: str, source: str, **keys: Any) -> pd.Series:
    condition = f"check:misclassified;emotion:{emotion};appraisal:{appraisal};source:{source}"
    return select(table, metric="rating_difference", condition=condition, **keys).iloc[0]


def test_the_layer_that_reads_appraisals_is_the_one_reported(differences: pd.DataFrame) -> None:
    assert set(select(differences, metric="mean_rating")["layer"]) == {1}
    quality = select(differences, metric="r2").set_index("label")["value"]
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
        condition = f"check:misclassified;emotion:boredom;appraisal:suddenness;set:{name}"
        row = select(differences, metric="writer_rating", condition=condition).iloc[0]
        mine = rated.events["suddenness"][chosen & (rated.truth == 1)]
        assert (row["value"], row["n"]) == (pytest.approx(mine.mean()), len(mine))
        assert 0 < select(differences, metric="sd_rating", condition=condition)["value"].item() < 1
    for name, rating in {"missed": 4, "correct": 2}.items():
        condition = f"check:misclassified;emotion:anger;appraisal:other_responsblt;set:{name}"
        probed = select(differences, metric="mean_rating", condition=condition)["value"].item()
        assert probed == pytest.approx(rating, abs=0.1)


def test_what_the_answer_says_leaves_the_text_itself_out() -> None:
    readings, predicted = np.array([[1.0], [2.0], [6.0], [9.0], [5.0]]), np.array([0, 0, 0, 0, 1])
    correct = np.array([True, True, True, False, True])
    found = misclassified.answered(readings, predicted, correct).ravel()
    assert found[:4].tolist() == [4.0, 3.5, 1.5, 3.0]
    assert np.isnan(found[4])  # no other text rightly given that answer


def test_without_ratings_or_misses_there_is_nothing_to_compare(rated: Any) -> None:
    bare = SimpleNamespace(**vars(rated) | dict(corpus=SimpleNamespace(rated=False)))
    never = SimpleNamespace(**vars(rated) | dict(predicted=rated.truth))
    assert [*misclassified.rows(bare, [1]), *misclassified.rows(never, [1])] == []


# Spot checks.


def reader(truth: np.ndarray, **more: Any) -> Any:
    own = dict(truth=truth, groups=np.arange(len(truth)) // 2, run=SimpleNamespace(seed=0), words=EMOTIONS)
    return SimpleNamespace(**own | more)


def test_leaked_demonstrations_by_hand() -> None:
    # The last three rows are demonstrations, each hidden by one prompt; shown ones are answered right, others not.
    truth, sample = np.append(np.tile([0, 1], 20), [0, 1, 0]), np.arange(40)
    right = np.tile([True, False, False, True], 10)
    shown = {"one": np.array([40]), "two": np.array([41, 42]), "none": np.array([], dtype=int)}

    def profile(name: str) -> Any:
        study = SimpleNamespace(
            predicted=np.where(right & (name != "none"), truth[:40], 9),
            truth=truth[:40],
            prompt=name,
            decide=lambda logits: logits,
        )
        return SimpleNamespace(study=study, weights=np.tile([3.0, 1, 1, 1], 10))

    def variant(*, rows: np.ndarray, prompt: str) -> Any:
        return SimpleNamespace(clean=SimpleNamespace(logits=np.where(np.isin(rows, shown[prompt]), truth[rows], 9)))

    study = reader(truth, variant=variant)
    profiles = {name: profile(name) for name in shown}
    table = results.tidy(spot_checks.leaked(study, profiles, shown, sample), experiment="robustness", model="m")
    change = select(table, metric="accuracy_change", prompt=["one", "two"]).set_index("prompt")["value"]
    assert change.to_dict() == pytest.approx({"one": 41 / 61 - 4 / 6, "two": 42 / 62 - 4 / 6})
    assert "none" not in set(table["prompt"])
    pooled = select(table, prompt="all").set_index("condition")
    # Of either class half are right under the prompts that show demonstrations, and none under the third.
    assert pooled["value"].tolist() == [1, 0, 1, 1 - (0.5 - 0.25)]
    assert set(pooled["n"]) == {3}


def test_the_mask_alone_tells_what_it_was_made_to_tell() -> None:
    truth = np.arange(1300) % 13
    texts = ["so ... " * (2 if label == 3 else 0) + "it was" for label in truth]
    leaky = reader(truth, events=pd.DataFrame({"text": texts}))
    found = {row["condition"]: row for row in spot_checks.mask_baseline(leaky, n_folds=5)}
    mask, control = (found[f"check:text;baseline:{name}"] for name in ("mask_count", "shuffled"))
    assert mask["value"] == pytest.approx(2 / 13, abs=0.01)  # that label, and one guess for all others
    assert mask["ci_low"] > control["ci_high"]
    bare = reader(truth, events=pd.DataFrame({"text": ["it was"] * 1300}))
    assert list(spot_checks.mask_baseline(bare, n_folds=5)) == []


def test_masked_and_original_apart_by_hand() -> None:
    truth = np.zeros(8, dtype=int)
    answers = {"masked": [0, 0, 1, 1, 0, 0, 0, 1], "original": [0, 0, 0, 1, 0, 0, 0, 1]}
    texts = {"masked": ["..."] * 4 + ["a"] * 4, "original": ["glad"] * 4 + ["a"] * 4}
    pair = [
        SimpleNamespace(study=reader(truth, predicted=np.array(answers[k]), events=pd.DataFrame({"text": texts[k]})))
        for k in ("masked", "original")
    ]
    table = results.tidy(spot_checks.masked_apart(*pair), experiment="robustness", model="m").set_index("condition")
    value = {key.removeprefix("check:text;text:"): row for key, row in table["value"].items()}
    assert value == {
        "masked;set:changed": 0.5,
        "original;set:changed": 0.75,
        "original_minus_masked;set:changed": 0.25,
        "masked;set:unchanged": 0.75,
        "original;set:unchanged": 0.75,
        "original_minus_masked;set:unchanged": 0.0,
    }


def test_splits_vary_as_much_as_chance_would_have_it() -> None:
    truth, random = np.arange(1300) % 13, torch.Generator().manual_seed(0)
    noise = torch.randn(1300, 20, generator=random)
    clear = noise + 20 * torch.nn.functional.one_hot(torch.as_tensor(truth), 20)
    half = noise + 2.5 * torch.nn.functional.one_hot(torch.as_tensor(truth), 20)
    study = reader(truth, agreed=np.arange(1300), activations=lambda component, layer: [clear, half][layer])
    table = results.tidy(spot_checks.over_splits(study, [0, 1]), experiment="robustness", model="m")
    sd = select(table, metric="accuracy_sd").set_index("layer")
    assert sd.loc[0, "value"] == 0
    chance = select(table, metric="sampling_sd", layer=1)["value"].item()
    mean = select(table, metric="accuracy", layer=1)["value"].item()
    assert chance == pytest.approx(np.sqrt(mean * (1 - mean) / 260))
    assert 0.4 < sd.loc[1, "value"] / chance < 2
    assert sd.loc[1, "ci_low"] < chance < sd.loc[1, "ci_high"]
    study.agreed = np.arange(40)
    assert list(spot_checks.over_splits(study, [0])) == []


def hooked(study: Study, rows: np.ndarray, component: str, layer: int, at: Any) -> np.ndarray:
    """Answers when a component's output is zeroed at some tokens, by a hook in plain passes."""
    module, ids = study.model.modules(component, view=study.model.hf)[layer], study.labels.ids("first_subtoken")  # type: ignore
    found = []
    for row in rows:
        tokens = study.model.tokenizer(study.prompt.render(study.events["text"][row]), return_tensors="pt")["input_ids"]

        def zero(_module: object, _inputs: object, output: object) -> None:
            unwrap(output)[0, at] = 0

        handle = module.register_forward_hook(zero)
        with torch.no_grad():
            logits = study.model.hf(tokens).logits[0, -1, ids]
        handle.remove()
        found.append(int((logits - study.offsets).argmax()))
    return np.array(found)


@pytest.mark.parametrize(("position", "at"), [("-1", -1), ("-3", -3), ("all", slice(None))])
def test_tokens_are_ablated_as_in_plain_passes(tiny_run: Run, tiny_study: Study, position: str, at: Any) -> None:
    study = Study(tiny_run, folder=tiny_study.folder)
    study.__dict__.update(model=tiny_study.model, agreed=np.arange(0, 40))
    table = results.tidy(spot_checks.by_token(study, [1, 3], 8), experiment="robustness", model="m")
    rows = spot_checks.balanced_rows(study.truth, study.agreed, 8, seed=0)
    for component, layer in (("attn_out", 1), ("mlp_out", 3)):
        keys = dict(component=component, layer=layer, position=position, condition="check:positions;edit:zero")
        found = select(table, metric="agreement", **keys)
        expected = (hooked(study, rows, component, layer, at) == study.truth[rows]).mean()
        assert (found["value"].item(), found["n"].item()) == (pytest.approx(expected), 8)


# Everything together, on a tiny model and a table with masked and original texts.


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from emolib.engine.tiny import tiny_model

    folder = tmp_path_factory.mktemp("robustness")
    model = tiny_model("llama", tokenizer=small_tokenizer(chat=True), num_hidden_layers=4, hidden_size=32)
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "SCALES", {"quick": SMALL})
        patch.setattr(robustness, "PAPER_PROMPTS", ("T1-2shot", "T1-3shot"))
        patch.setattr(task_rows, "RESAMPLES", 40)  # the intervals are tested with emolib.stats.intervals
        frame = robustness.run(study)
    return results.tidy(frame.assign(prompt=frame["prompt"].fillna("T1-2shot")), experiment="robustness", model="m")


def checks(table: pd.DataFrame) -> pd.Series:
    return table["condition"].str.extract(r"check:(\w+)")[0]


def test_every_check_has_its_rows(table: pd.DataFrame) -> None:
    assert set(checks(table)) >= {"prompts", "text", "topic", "first_word", "matched", "demonstrations", "positions"}
    prompts = set(table["prompt"][checks(table) == "prompts"])
    assert prompts == {"T1-2shot", "T1-3shot", "T1-0shot", "T1-2shot-chat"}
    shares = table["metric"].isin(["accuracy", "agreement", "transfer", "balanced_accuracy"])
    assert table.loc[shares, "ci_low"].notna().all()


def test_demonstrations_are_in_no_sample(study: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = robustness.shown_rows(study.events)
    assert shown["T1-2shot"].tolist() == [5, 18]
    assert select(table, prompt="T1-2shot", condition="check:demonstrations")["n"].item() == 2
    seen: list[set[int]] = []

    def watch(other: Study, *, rows: np.ndarray, **_keys: object) -> Study:
        seen.append(set(np.asarray(rows).tolist()))
        raise StopIteration

    monkeypatch.setattr(Study, "variant", watch)
    scale = robustness.Scale(**{**SMALL._asdict(), "controls": len(study.truth)})
    for task, _ in robustness._controls(study, scale, np.array([5, 18])):
        with pytest.raises(StopIteration):
            robustness._profile(study, scale, task.prompt, "x", task.rows, truth=task.truth)
    with pytest.raises(StopIteration):
        robustness.run(study)
    assert len(seen) == 3 and all(len(rows) > 20 for rows in seen)
    assert not set.union(*seen) & {5, 18}
    # without the exclusion they would be asked
    makers = control_tasks.first_word_task, control_tasks.topic_task
    everything = [make(study.events["text"], 200, seed=0) for make in makers]
    assert any({5, 18} & set(task.rows.tolist()) for task in everything)


def test_zeroing_attention_agrees_with_the_chapter_on_ablation(study: Study, table: pd.DataFrame) -> None:
    sample = robustness.balanced_rows(study.truth, np.setdiff1d(np.arange(182), [5, 18]), SMALL.texts, seed=0)
    default = study.variant(rows=sample, prompt=get_prompt("T1-2shot"))
    other = results.tidy(ablation.run(default), experiment="ablation", model="m")
    keys = dict(metric="agreement", component="attn_out", span=1)
    theirs = select(other, condition="edit:zero", **keys).set_index("layer")
    mine = select(table, condition="check:prompts;edit:zero", prompt="T1-2shot", **keys).set_index("layer")
    assert mine["value"].to_dict() == pytest.approx(theirs["value"].to_dict())
    assert len(mine) == 4


def test_the_topic_and_the_emotion_are_asked_of_the_same_texts(table: pd.DataFrame) -> None:
    topic = select(table, condition="check:topic", metric="agreed_count")["n"].item()
    matched = select(table, condition="check:matched;texts:topic", metric="agreed_count")["n"].item()
    assert topic == matched == SMALL.controls
    chance = select(table, condition="check:topic", metric="majority_share")["value"].item()
    assert chance == 0.2  # five topics in equal numbers
    assert select(table, condition="check:first_word", metric="majority_share")["value"].item() > 0.3


def test_the_probe_sees_the_original_where_it_is_another_text(study: Study, table: pd.DataFrame) -> None:
    found = select(table, condition="check:text;text:original;calibration:batch", metric="accuracy")
    original = study.variant(text="original")
    assert not original.events["text"].equals(study.events["text"])
    assert found["n"].item() == SMALL.texts
    apart = table[table["condition"].str.contains("set:unchanged")]
    assert apart["n"].tolist() == []  # every text but the demonstrations was masked


def test_a_prompt_whose_answers_share_a_token_is_not_asked(study: Study) -> None:
    assert robustness._askable(study, get_prompt("first_word"))
    clash = Prompt(name="x", instruction="", labels=("unseen", "unknown"))
    assert not robustness._askable(study, clash)


# What the chapter makes of the table.


def test_rows_are_picked_by_pairs_of_their_condition(table: pd.DataFrame) -> None:
    zero = views.pick(table, "edit:zero;check:prompts", prompt="T1-0shot")
    assert set(zero["condition"]) == {"check:prompts;edit:zero"}
    assert len(zero) == 4
    assert views.pick(table, "check:nothing").empty
    assert views.pairs_of(zero)["edit"].tolist() == ["zero"] * 4


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
    prompts = views.paper_by_prompt(list(PAPER_PROMPTS)).reset_index(drop=True)
    moved, left = (prompts[prompts["metric"] == metric] for metric in ("transfer", "agreement"))
    # the paper's claim C11: layer 10 of its 16, under each of the nine prompts
    assert prompts.loc[moved.groupby("prompt")["value"].idxmax(), "layer"].tolist() == [9] * 9
    assert prompts.loc[left.groupby("prompt")["value"].idxmin(), "layer"].tolist() == [9] * 9
    curve = views.paper_by_task()
    stream = curve[curve["panel"] == "stream, first word"].set_index("layer")["value"]
    assert (stream[stream >= 0.5].index[0], round(stream[10], 3)) == (10, 0.545)  # block 11: centre 10 of a window of 3


def test_signs_are_counted_only_with_their_whole_interval() -> None:
    cells = views.paper_missed()[["cell"]].assign(source="probe", value=0.2, ci_low=0.1, ci_high=0.3)
    assert views.with_paper_sign(cells, "probe") == (3, 6)
    assert views.with_paper_sign(cells.assign(ci_low=-0.1), "probe") == (0, 6)
    assert views.with_paper_sign(cells, "writer") == (0, 0)


def test_the_table_of_tasks_is_read_from_the_rows(table: pd.DataFrame) -> None:
    shown = views.tasks(table)
    assert shown.index.tolist() == ["topic", "emotion on topic texts", "first word", "emotion on first word texts"]
    assert shown.loc["topic", "majority share"] == 0.2
    agreed = select(table, condition="check:first_word", metric="agreed_count")["value"].item()
    assert shown.loc["first word", "agreed count"] == agreed
    assert set(views.by_task(table)["task"]) <= {"topic", "first word", "emotion"}

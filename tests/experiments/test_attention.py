"""Attention against plain passes in which all weights are computed, planted looks, and words with known weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import DynamicCache, PreTrainedTokenizerFast

from emolib.engine.model import Model
from emolib.engine.remote import as_elsewhere
from emolib.engine.tiny import byte_tokenizer, tiny_model
from emolib.experiments.attention import measure, views, words
from emolib.experiments.attention.reading import (
    FIRST,
    SEGMENTS,
    TEXT,
    check_readable,
    eager,
    last_token_attention,
    look,
    most_attended,
    pieces,
    segment_mass,
    tokenize,
    value_weighted,
)
from emolib.figures import spoken
from emolib.stats import bootstrap
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.prompts import get_prompt
from helpers import ROOT, task_tokenizer, tiny_table, word_tokenizer

PROMPT = get_prompt("T1-2shot")
TEXTS = ("The boss lost my letter, twice.", "Rain.", "The boss lost my ladder, twice.", "I felt ... today. “Café”!")


FAMILIES = (
    "llama",
    "mistral",
    "ministral",
    "gemma2",
    "phi3",
    "olmo2",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gpt2",
    "gpt_neox",
    "gptj",
)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    """A tiny model of a family; sliding windows of 24 tokens are far shorter than the prompts."""
    return tiny_model(request.param)


def last_tokens(model: Model, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and value norms [L, H, T] of the last token, by one pass of all tokens and all their weights."""
    cache = DynamicCache()
    with eager(model), torch.no_grad():
        tokens = torch.tensor([ids], device=model.device)
        found = model.hf(tokens, output_attentions=True, past_key_values=cache)
    weights = torch.stack([layer[0, :, -1].cpu() for layer in found.attentions])
    heads = weights.shape[1]
    values = [layer.values[0].cpu().repeat_interleave(heads // layer.values.shape[1], 0) for layer in cache.layers]
    return weights, torch.stack([value.norm(dim=-1) for value in values])


def softmax_of_queries_and_keys(model: Model, ids: list[int]) -> torch.Tensor:
    """Weights [H, T] of the last token in the first layer of a Llama, from its projections by hand."""
    hf, config = model.hf, model.hf.config
    layer, heads, size = hf.model.layers[0], config.num_attention_heads, config.hidden_size // 4
    stream = layer.input_layernorm(hf.model.embed_tokens(torch.tensor(ids)))
    position = torch.arange(len(ids))[:, None]
    angle = position / config.rope_parameters["rope_theta"] ** (torch.arange(0, size, 2) / size)
    angle = torch.cat([angle, angle], -1)[:, None]

    def turned(states: torch.Tensor) -> torch.Tensor:
        states = states.reshape(len(ids), -1, size)
        crossed = torch.cat([-states[..., size // 2 :], states[..., : size // 2]], -1)
        return states * angle.cos() + crossed * angle.sin()

    query = turned(layer.self_attn.q_proj(stream))[-1]
    key = turned(layer.self_attn.k_proj(stream)).repeat_interleave(heads // 2, 1)
    return (torch.einsum("hd,thd->ht", query, key) / size**0.5).softmax(-1)


# Reading.


@pytest.mark.parametrize("asked", [lambda model: model, as_elsewhere], ids=["here", "elsewhere"])
def test_weights_and_norms_are_those_of_a_plain_pass(model: Model, asked: Callable[[Model], Model]) -> None:
    ids = model.tokenizer([PROMPT.render(text) for text in TEXTS])["input_ids"]
    before, read = model.hf.config._attn_implementation, []
    if asked is as_elsewhere and "GPTJ" in type(model.hf).__name__:  # its attention calls nothing that could be asked
        with pytest.raises(ValueError, match="does not give attention weights where it runs"):
            list(last_token_attention(asked(model), ids))
        return
    for rows, weights, norms in last_token_attention(asked(model), ids):
        read += rows
        for column, row in enumerate(rows):
            plain_weights, plain_norms = last_tokens(model, ids[row])
            assert torch.allclose(weights[:, column], plain_weights, atol=1e-5)
            assert torch.allclose(norms[:, column], plain_norms, rtol=1e-4)
    assert sorted(read) == list(range(len(TEXTS)))
    assert model.hf.config._attn_implementation == before


def test_weights_are_the_softmax_of_queries_and_keys() -> None:
    model = tiny_model("llama")
    ids = model.tokenizer(PROMPT.render(TEXTS[0]))["input_ids"]
    ((_, weights, _),) = last_token_attention(model, [ids])
    assert torch.allclose(weights[0, 0], softmax_of_queries_and_keys(model, ids), atol=1e-5)


def test_masses_sum_to_one_and_sliding_windows_do_not_see_the_beginning(model: Model) -> None:
    looks = look(model, PROMPT, TEXTS)
    for mass in (looks.mass, looks.value_mass):
        assert np.allclose(mass.sum(-1), 1, atol=1e-5) and (mass >= 0).all()
    assert np.allclose(looks.token_share.sum(-1), 1)
    seen = looks.mass[..., FIRST] > 0
    assert seen.tolist() == [[window is None for window in model.anatomy.windows]] * len(TEXTS)


def test_texts_read_together_or_alone_get_the_same(model: Model) -> None:
    together = look(model, PROMPT, TEXTS)
    for row, text in enumerate(TEXTS):
        alone = look(model, PROMPT, [text])
        assert np.allclose(alone.mass[0], together.mass[row], atol=1e-5)
        assert np.allclose(alone.value_mass[0], together.value_mass[row], atol=1e-5)
        assert np.array_equal(alone.top[0], together.top[row])


def test_attention_is_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    before = model.hf.config._attn_implementation
    with pytest.raises(RuntimeError, match="interrupted"), eager(model):
        assert model.hf.config._attn_implementation == "eager"
        raise RuntimeError("interrupted")
    assert model.hf.config._attn_implementation == before
    with pytest.raises(ValueError, match="fewer than two tokens"):
        list(last_token_attention(model, [[1, 2, 3], [1]]))
    monkeypatch.setattr(type(model), "n_layers", 9)
    with pytest.raises(ValueError, match="does not give attention weights"):
        list(last_token_attention(model, [[1, 2, 3]]))


@pytest.mark.parametrize("family", ["mamba", "qwen3_next", "recurrent_gemma", "openai-gpt", "longcat_flash"])
def test_a_model_without_weights_everywhere_is_refused_before_a_text_is_read(family: str) -> None:
    study = SimpleNamespace(model=tiny_model(family))  # which has no texts to read
    with pytest.raises(ValueError, match=f"tiny-{family} .* does not give attention weights for every token in every"):
        measure.run(study)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["gemma4_text", "mimo_v2_flash"])  # the stream alone; other heads in other layers
def test_layers_of_several_kinds_are_read(family: str) -> None:
    model = tiny_model(family)
    check_readable(model)
    ids = model.tokenizer(PROMPT.render(TEXTS[0]))["input_ids"]
    ((_, weights, norms),) = last_token_attention(model, [ids])
    for found, expected in zip((weights, norms), last_tokens(model, ids), strict=True):
        assert torch.allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


# Segments.


def test_every_token_belongs_where_its_characters_are() -> None:
    prompt = replace(PROMPT, separator=";")
    tokens = tokenize(byte_tokenizer(), prompt, "He ... é.")
    expected = [FIRST] + [SEGMENTS.index("instruction")] * len(prompt.instruction)
    for shown, label in prompt.demonstrations:
        for characters, segment in (
            (" Context:", "format"),
            (f" {shown}", "demonstration"),
            (" Answer:", "format"),
            (f" {label}", "demonstration_label"),
            (";", "format"),
        ):
            expected += [SEGMENTS.index(segment)] * len(characters)
    # "é" is two bytes; the blank before a piece of text is its own byte here, and belongs to "Context: "
    expected += [SEGMENTS.index("format")] * 10 + [TEXT] * 10 + [SEGMENTS.index("format")] * 8
    blanks = [i for i, byte in enumerate(tokens.ids) if byte_tokenizer().decode([byte]) == " "]
    differ = [i for i, (a, b) in enumerate(zip(tokens.segments, expected, strict=True)) if a != b]
    assert set(differ) <= set(blanks)
    assert tokens.starts[tokens.starts >= 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    names = [token for part, token in tokens.places if part == "evaluated_text"]
    assert names == [*[""] * 3, *["mask"] * 3, *[""] * 4]


@pytest.mark.parametrize("name", ["T3-2shot-chat", "T1-2shot-chat", "T1-0shot-chat", "question", "bare"])
def test_every_frame_is_made_of_its_pieces(name: str) -> None:
    prompt, tokenizer = get_prompt(name), task_tokenizer(chat=True)
    prompt = prompt.in_template(tokenizer) if prompt.chat else prompt
    tokens = tokenize(tokenizer, prompt, "My dog ran.")
    assert tokens.ids == tokenizer(prompt.render("My dog ran."))["input_ids"]
    found = pieces(prompt, "My dog ran.")
    assert [text for text, segment, _ in found if segment == "text"] == ["My dog ran."]
    assert sum(segment == "demonstration" for _, segment, _ in found) == len(prompt.demonstrations)


@pytest.mark.parametrize("bos", [True, False])
def test_words_of_the_prompt_have_names_and_words_of_the_text_have_none(bos: bool) -> None:
    tokenizer = word_tokenizer()
    if not bos:
        tokenizer._tokenizer.post_processor = None
    tokens = tokenize(tokenizer, PROMPT, "My dog laughed")
    names = [place for place, segment in zip(tokens.places, tokens.segments, strict=True) if segment == TEXT]
    assert names == [("evaluated_text", "")] * 3
    assert tokens.places[0] == ("first_token", "") and tokens.segments[0] == FIRST
    assert (tokens.places[1] == ("instruction", "What")) is bos
    assert tokens.places[-2:] == [("final_cue", "Answer"), ("final_cue", "colon")]
    labels = [
        place
        for place, segment in zip(tokens.places, tokens.segments, strict=True)
        if SEGMENTS[segment] == "demonstration_label"
    ]
    assert labels == [("demo_1", "joy"), ("demo_2", "sadness")]


def test_a_blank_in_front_does_not_pull_a_word_into_the_part_before_it() -> None:
    # the way of most byte-level tokenizers: " My" is one token, its blank the last character of "Context: "
    inner = Tokenizer(models.WordLevel(vocab={"<unk>": 0}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]+"), "isolated")
    tokens = tokenize(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"), PROMPT, "My dog ... laughed")
    assert tokens.places[-6:-2] == [("evaluated_text", token) for token in ("", "", "mask", "")]
    assert tokens.starts[-6:].tolist() == [0, 3, 7, 11, -1, -1]
    assert tokens.places.count(("demo_2", "sadness")) == 1
    assert (tokens.segments == SEGMENTS.index("demonstration_label")).sum() == 2


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ValueError, match="Slow gives no character offsets"):
        tokenize(slow, PROMPT, "Rain.")


# Sums of planted weights.


def test_mass_values_and_top_tokens_of_planted_weights() -> None:
    weights = torch.tensor([[[[0.7, 0.1, 0.2, 0.0], [0.4, 0.0, 0.25, 0.35]]]])  # one layer, one text, two heads
    norms = torch.tensor([[[[0.0, 1.0, 2.0, 5.0], [0.0, 9.0, 2.0, 1.0]]]])
    segments = torch.tensor([[FIRST, 1, TEXT, 5]])
    mass = segment_mass(weights.mean(2), segments)[0, 0]
    assert mass.tolist() == pytest.approx([0.55, 0.05, 0, 0, 0.225, 0.175])
    taken = np.array([0, 0.1, 0.4 + 0.5, 0.35])
    assert value_weighted(weights, norms)[0, 0].tolist() == pytest.approx((taken / taken.sum()).tolist())
    assert most_attended(weights, segments)[0, 0].tolist() == [3, 2, 1]


# Words.


def test_masked_words_are_found_and_ellipses_of_the_writer_are_not() -> None:
    original = "Well... I was very happy (so happy!) then."
    masked = "Well... I was very ... (so ...!) then."
    assert [original[a:b] for a, b in words.masked_spans(masked, original)] == ["happy", "happy"]
    assert words.masked_spans("Another ... text", original) == []
    assert words.masked_spans(original, original) == []


def planted(seed: int, factor: float, n: int = 120) -> tuple[words.Compared, np.ndarray]:
    """Tokens whose weight falls with the cell, times `factor` for targets, which prefer the cells of high weight."""
    random = np.random.default_rng(seed)
    text, cell = np.repeat(np.arange(n), 40), random.integers(0, 5, n * 40)
    target = random.random(len(text)) < np.where(cell == 0, 0.5, 0.05)
    weight = (5.0 - cell) * np.where(target, factor, 1) * random.uniform(0.5, 1.5, len(text)) * random.random(n)[text]
    weight = np.stack([weight, (5.0 - cell) * random.uniform(0.5, 1.5, len(text))], axis=1)
    return words.Compared(weight=weight, target=target, cell=cell, text=text), np.arange(n) // 2


def test_enrichment_finds_the_planted_factor_and_nothing_where_there_is_none() -> None:
    tokens, groups = planted(0, 2.0)
    found = bootstrap(words.enrichment(tokens, len(groups)), groups)
    assert found.value[0] == pytest.approx(2.0, abs=0.1)
    assert found.ci_low[1] < 1 < found.ci_high[1] and found.ci_high[1] - found.ci_low[1] < 0.1
    # without cells, position alone would look like a preference
    blind = bootstrap(words.enrichment(replace(tokens, cell=np.zeros_like(tokens.cell)), len(groups)), groups)
    assert blind.ci_low[1] > 1.2


# The experiment.


@pytest.fixture(scope="module")
def opened(tiny_run: Run, tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study on a corpus with a masked column, every third text counted as answered right."""
    folder = tmp_path_factory.mktemp("attention")
    rows = tiny_table(90)
    original = rows["text"].str.replace("lost", "happy").str.replace("cake", "joy")
    crowd = rows.rename(columns={"writer": "prolific_id", "text": "generated_text"}).assign(generated_text=original)
    crowd["hidden_emo_text"] = original.str.replace("happy|joy", "...", regex=True)
    crowd.to_csv(folder / "masked.csv", index=False)
    run = replace(tiny_run, corpus=str(folder / "masked.csv"))
    return Study(run, model=tiny_study.model, agreed=range(0, len(rows), 3), folder=folder)


@pytest.fixture(scope="module")
def table(opened: Study) -> pd.DataFrame:
    return results.tidy(measure.run(opened), "attention", n_layers=5, model="tiny", prompt="T1-2shot", seed=0)


def given(table: pd.DataFrame, metric: str, **keys: object) -> pd.DataFrame:
    return select(table, metric=metric, demonstrations="given", **keys)


def test_masses_of_the_sample_are_averages_of_plain_passes(opened: Study, table: pd.DataFrame) -> None:
    rows = measure.balanced_rows(opened.truth, np.arange(len(opened.truth)), measure.SAMPLE["quick"], seed=0)
    total = []
    for row in rows:
        tokens = tokenize(opened.model.tokenizer, PROMPT, opened.events["text"][row])
        weights, _ = last_tokens(opened.model, tokens.ids)
        member = torch.from_numpy(tokens.segments[:, None] == np.arange(6)).float()
        total.append((weights.mean(1) @ member).numpy())
    for layer in range(5):
        for segment, label in enumerate(SEGMENTS):
            value = given(table, "mass", layer=layer, segment=label)["value"].item()
            assert value == pytest.approx(np.mean(total, axis=0)[layer, segment], abs=1e-5)
    early, middle = np.array(total)[:, :2, TEXT].mean(), np.array(total)[:, 2:3, TEXT].mean()
    turn = given(table, "mid_minus_early", measure="mass", segment="text")
    assert turn["value"].item() == pytest.approx(middle - early, abs=1e-5)


@pytest.mark.parametrize("metric", ["mass", "value_mass", "mass_beyond_first", "top1_share", "top3_share"])
def test_shares_of_a_layer_sum_to_one_in_every_condition(table: pd.DataFrame, metric: str) -> None:
    found = select(table, metric=metric)
    sums = found.groupby(["demonstrations", "layer"])["value"].sum()
    assert np.allclose(sums, 1, atol=1e-5)
    assert set(found["demonstrations"]) == {"given", "shuffled", "relabelled", "removed"}
    removed = select(found, demonstrations="removed")
    assert not removed["segment"].str.startswith("demonstration").any()


@pytest.mark.parametrize("most", [1, 3])
def test_counts_are_of_the_agreed_texts_and_name_no_token_of_a_text(
    opened: Study, table: pd.DataFrame, most: int
) -> None:
    found = select(table, metric=f"top{most}_count")
    assert set(found["demonstrations"]) == {"given"} and set(found["set"]) == {"agreed"} and set(found["n"]) == {30}
    total = select(found, token="").groupby("layer")["value"].sum().round(6)
    assert (total == 30).all() if most == 1 else (total > 30).any()
    assert set(select(found, part="evaluated_text")["token"]) <= {"", "mask"}
    places = found.set_index(["layer", "part", "token"])["value"]
    for row in opened.agreed:
        tokens = tokenize(opened.model.tokenizer, PROMPT, opened.events["text"][row])
        top = last_tokens(opened.model, tokens.ids)[0][:, :, 1:].amax(1).topk(most).indices + 1
        for layer, own in enumerate(top.tolist()):
            assert all(tokens.segments[token] != FIRST for token in own)
            named = {tokens.places[token] for token in own}
            for part, token in named | {(part, "") for part, _ in named}:
                places[layer, part, token] -= 1
    assert np.allclose(places, 0, atol=1e-6)


def test_emotion_words_are_those_the_mask_stands_for(opened: Study, table: pd.DataFrame) -> None:
    kinds = ("content_word", "mask", "mask_against_punctuation", "emotion_word", "emotion_word_not_label")
    found = given(table, "enrichment")
    assert set(found["words"]) == set(kinds) and len(found) == (5 + 2) * len(kinds)
    # only one layer of five is in the middle
    only, middle = (select(found, **keys)["value"].tolist() for keys in (dict(layer=2), dict(band="middle")))
    assert middle == pytest.approx(only)
    text = "my joy today suddenly happy dog joy"
    looks = look(opened.model, PROMPT, [text])
    spans = words.masked_spans("my ... today suddenly ... dog ...", text)
    compared = measure.compare_words(looks, [text], [spans], kind="emotion_word", bins={"dog": 3})
    names = [word for word, _ in words.words_of(text) if words.is_content(word)]
    assert names == ["joy", "today", "suddenly", "happy", "dog", "joy"]
    assert compared.target.tolist() == [name in ("joy", "happy") for name in names]
    assert compared.cell.tolist() == [0, 1, 2, 2, 3 + 5 * 3, 4]
    weights = looks.weights[0][:, looks.tokens[0].starts >= 0]
    assert np.array_equal(compared.weight, weights[:, 1:].T)
    others = measure.compare_words(looks, [text], [spans], kind="emotion_word", without=("joy",))
    assert others.target.tolist() == [False, False, True, False]


def test_masks_are_compared_with_all_tokens_or_with_marks(opened: Study) -> None:
    text = "my ... today , dog !"
    looks = look(tiny_model("llama"), PROMPT, [text])
    spans = [[found.span() for found in words.MASK.finditer(text)]]
    found = measure.compare_words(looks, [text], spans, kind="mask")
    assert found.target.tolist() == [3 <= start < 6 for start in range(len(text))]
    marks = measure.compare_words(looks, [text], spans, kind="mask_against_punctuation")
    assert marks.target.sum() == 3
    assert len(marks.target) == sum(not character.isalpha() for character in text)


def test_variants_change_what_they_say_and_nothing_else() -> None:
    found = measure.variants(PROMPT, seed=0)
    assert list(found) == ["given", "shuffled", "relabelled", "removed"]
    shown = PROMPT.demonstrations
    assert found["shuffled"].demonstrations == shown[::-1]
    assert found["relabelled"].demonstrations == ((shown[0][0], "sadness"), (shown[1][0], "joy"))
    assert found["removed"].prefix == get_prompt("T1-0shot").prefix
    assert list(measure.variants(get_prompt("T1-1shot"), seed=0)) == ["given", "removed"]
    assert list(measure.variants(get_prompt("T1-0shot"), seed=0)) == ["given"]
    for seed in range(20):
        many = measure.variants(get_prompt("T1-12shot"), seed=seed)["shuffled"].demonstrations
        assert many != get_prompt("T1-12shot").demonstrations
        assert sorted(many) == sorted(get_prompt("T1-12shot").demonstrations)


@pytest.mark.parametrize(("n", "early", "middle"), [(16, 8, [8, 9, 10]), (30, 15, list(range(15, 21))), (4, 2, [2])])
def test_bands_are_the_papers_layers(n: int, early: int, middle: list[int]) -> None:
    found = measure.bands(n)
    assert found[0].tolist() == list(range(early)) and found[1].tolist() == middle


# What the chapter shows.


def golden() -> pd.DataFrame:
    return results.read(ROOT / "tests/golden/attention.parquet")


def test_views_are_the_table() -> None:
    data = golden()
    shares, uniform = views.masses(data)
    assert np.allclose(shares.groupby(["metric", "layer"])["value"].sum(), 1, atol=1e-5) and 0.1 < uniform < 0.6
    top = views.largest(data)
    assert top["segment"].is_unique and top["value"].is_monotonic_decreasing
    most = select(data, metric="value_mass", demonstrations="given")["value"].max()
    assert top["value"].iloc[0] == most and top["where"].between(1, 30).all()
    counts = views.counts(data)
    row = select(counts, part="final_cue", metric="the most attended", layer=4).iloc[0]
    raw = select(data, part="final_cue", token="", metric="top1_count", layer=4).iloc[0]
    assert row["value"] == raw["value"] / raw["n"] and row["ci_low"] <= row["value"] <= row["ci_high"]
    later = views.later_share(data).loc["given"]
    text = select(data, metric="mass_beyond_first", segment="text", demonstrations="given", layer=range(15, 30))
    assert later["share"] == pytest.approx(text["value"].mean()) and later["uniform"] > uniform
    turn = views.turn(data).set_index("demonstrations")
    assert list(turn.index) == ["given", "shuffled", "relabelled", "removed"]
    change = views.text_change(data).iloc[0]
    assert turn.loc["given", "attention"] == spoken(change, "+.2f") and change["segment"] == "text"
    most = views.most_in_the_text(data)
    text = select(data, part="evaluated_text", token="", metric="top1_count")
    assert most["value"] == (text["value"] / text["n"]).max() and most["part"] == "text"
    assert text.loc[text["layer"] == most["where"] - 1, "value"].item() == text["value"].max()


def test_emotion_words_are_those_that_are_no_answer_in_the_middle_layers() -> None:
    data = golden()
    if not (data["words"] == views.EMOTION_WORD).any():
        with pytest.raises(results.Absent):
            views.emotion_words(data)
        data.loc[data["words"] == "content_word", "words"] = views.EMOTION_WORD
    row = views.emotion_words(data).iloc[0]
    assert row["band"] == "middle" and views.in_the_middle(data)[views.EMOTION_WORD] == row["value"]


def test_the_papers_top_tokens_and_turn_are_those_of_its_counts() -> None:
    tokens = views.top_tokens(views.published(), 4).set_index("token")
    assert tokens.loc["sadness", ["part", "most", "there", "n"]].tolist() == ["demo 2", 8, 2668, 2740]
    assert views.published_turn() == pytest.approx(0.049, abs=1e-3)

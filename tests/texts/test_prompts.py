"""Prompts against literal strings of the paper and of its released code, and everything a prompt file can get wrong."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from emolib.engine.tiny import byte_tokenizer
from emolib.texts import prompts
from emolib.texts.control_tasks import first_words
from emolib.texts.corpus import EMOTIONS, Corpus
from emolib.texts.prompts import PAPER_PROMPTS, Prompt, get_prompt, prompt_names
from emolib.texts.sources import packaged
from helpers import task_tokenizer

DEMONSTRATIONS = packaged("prompts.yml")["demonstrations"]
JOY_SADNESS = " Context: My first child was born. Answer: joy Context: My dog died last week. Answer: sadness"
QUESTION = "What are the inferred emotions in the following contexts?"
LIST = (
    "Consider this list of emotions: anger, boredom, disgust, fear, guilt, joy, pride, relief, sadness, shame, "
    "surprise, trust, neutral. "
)


def test_the_default_is_the_papers_to_the_character() -> None:
    assert get_prompt("T1-2shot").render("I lost my keys.") == (
        "What are the inferred emotions in the following contexts? Context: My first child was born. Answer: joy "
        "Context: My dog died last week. Answer: sadness Context: I lost my keys. Answer:"
    )


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("T1-2shot", QUESTION),
        ("T2-2shot", LIST + QUESTION),
        ("T3-2shot", ""),
        ("T4-2shot", "Guess the emotion."),
        ("T5-2shot", "Decipher the emotion from the following statements: "),
        ("T6-2shot", "Decipher the label for the following statements: "),
        ("T7-2shot", "What is the label, for the statement? "),
        ("T8-2shot", "What is the label, given the context? "),
    ],
)
def test_instruction_and_assembly(name: str, opening: str) -> None:
    prompt = get_prompt(name)
    assert prompt.render("X") == opening + JOY_SADNESS + " Context: X Answer:"
    assert prompt.prefix + "X" + prompt.suffix == prompt.render("X")


def test_an_empty_instruction_starts_with_one_blank() -> None:
    assert get_prompt("T3-2shot").prefix.startswith(" Context: My first")


@pytest.mark.parametrize("index", range(8))
def test_two_blanks_after_the_instructions_that_end_in_one(index: int) -> None:
    prefix = get_prompt(f"T{index + 1}-2shot").prefix
    assert ("  Context: My first" in prefix) == (index >= 4)
    assert prefix.count("  ") == (index >= 4)


def test_zero_shot_is_instruction_and_text() -> None:
    assert get_prompt("T1-0shot").render("X") == f"{QUESTION} Context: X Answer:"


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("T1-1shot", "anger"),
        ("T1-3shot", "anger boredom disgust"),
        ("T1-6shot", "anger boredom disgust fear guilt joy"),
        ("T1-9shot", "anger boredom disgust fear guilt joy neutral pride relief"),
        ("T1-12shot", "anger boredom disgust fear guilt joy neutral pride relief sadness shame surprise"),
    ],
)
def test_shots_in_order(name: str, labels: str) -> None:
    shown = "".join(f" Context: {DEMONSTRATIONS[label]} Answer: {label}" for label in labels.split())
    assert get_prompt(name).render("X") == f"{QUESTION}{shown} Context: X Answer:"


def test_demonstrations_keep_the_papers_slips() -> None:
    assert tuple(DEMONSTRATIONS) == EMOTIONS
    assert DEMONSTRATIONS["boredom"] == "At work, my job is far to mind numbing and it does not challenge me."
    assert DEMONSTRATIONS["anger"].endswith("his phone was on silent AGAIN!")
    assert DEMONSTRATIONS["guilt"].startswith("I booked a night away with friends and my children were upset")
    assert not [name for name in PAPER_PROMPTS if "trust" in dict(map(reversed, get_prompt(name).demonstrations))]


def test_first_word_control_as_released_and_as_printed() -> None:
    assert get_prompt("first_word").render("X") == (
        "What is the first word in the following contexts? Context: My dog died last week. Answer: My "
        "Context: I saw mouldy food. Answer: I Context: X Answer:"
    )
    assert get_prompt("first_word_printed").render("X") == (
        "What is the first word in the following contexts? Context: My dog died last week. Answer: My; "
        "Context: I saw moldy food. Answer: I; Context: X Answer:"
    )
    words = ("I", "My", "my", "When", "when", "i", "A", "a", "The", "the", "someone", "Someone", "we")
    assert get_prompt("first_word").labels == get_prompt("first_word_printed").labels == words


def test_first_words_is_case_sensitive_and_leaves_others_empty() -> None:
    texts = pd.Series(["My dog", "my dog", "MY dog", " I ran", "Someone's dog", "we", "...", ""])
    assert first_words(texts, get_prompt("first_word")).tolist() == ["My", "my", "", "I", "", "we", "", ""]


def test_first_words_of_the_real_corpus(crowd_envent: Corpus) -> None:
    counts = first_words(crowd_envent.events["text"], get_prompt("first_word")).value_counts().drop("")
    assert counts.to_dict() == {
        "I": 3551,
        "My": 438,
        "my": 421,
        "When": 418,
        "when": 344,
        "i": 326,
        "A": 96,
        "a": 69,
        "The": 40,
        "the": 38,
        "someone": 37,
        "Someone": 36,
        "we": 18,
    }
    assert counts.sum() == 5832


def test_names_are_the_papers_and_load() -> None:
    assert prompt_names()[:9] == PAPER_PROMPTS
    assert [get_prompt(name).name for name in prompt_names()] == list(prompt_names())


def test_an_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match=r"no prompt called 'T1-2shots' \(did you mean 'T1-2shot'"):
        get_prompt("T1-2shots")
    with pytest.raises(ValueError, match=r"no prompt called 'zzz'; known are T1-2shot, T2-2shot"):
        get_prompt("zzz")


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    text = 'instruction: "How does it feel?"\ndemonstrations:\n  - {text: "Café shut.", label: anger}\n'
    assert get_prompt(write(tmp_path, text)) == Prompt(
        name="mine", instruction="How does it feel?", demonstrations=(("Café shut.", "anger"),)
    )
    assert get_prompt(write(tmp_path, 'instruction: ""\nname: bare\n')).render("X") == " Context: X Answer:"
    own = get_prompt(write(tmp_path, 'instruction: "Q"\nlabels: [good, bad]\nseparator: ";"\n'))
    assert (own.labels, own.separator) == (("good", "bad"), ";")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demonstrations: []\n", "instruction: Field required, given .*; expected instruction .text in quotes"),
        ('instruction: ""\nshots: 2\n', "shots: Extra inputs are not permitted, given 2; expected .*demonstrations"),
        ("instruction: 3\n", "instruction: .*, given 3; expected instruction .text in quotes"),
        ("instruction: Q\nseparator: [1]\n", r"separator: .*, given \[1\]; "),
        ("instruction: Q\ndemonstrations: joy\n", "demonstrations: .*, given 'joy'; expected .*a list of {text: "),
        ("instruction: Q\ndemonstrations: [{text: A}]\n", "demonstrations 1 label: .*, given {'text': 'A'};"),
        ("instruction: Q\ndemonstrations: [{text: ' ', label: joy}]\n", "demonstrations 1 text: .*, given ' '"),
        (
            "instruction: Q\ndemonstrations: [{text: A, label: joy}, {text: B, label: sadnes}]\n",
            r"demonstrations 2 label: given 'sadnes' \(did you mean 'sadness'\?\); expected one of anger",
        ),
        ("instruction: Q\nlabels: [good, yes]\n", "labels 2: .*, given True; .*in quotes where YAML needs them"),
        ("instruction: Q\nlabels: [one]\n", r"labels: .*, given \['one'\]; .*at least two words"),
        ("instruction: Q\nlabels: [one, one]\n", r"labels: one stands twice, given \['one', 'one'\]; .*each once"),
        ("- a list\n", "holds list; expected keys"),
        ("instruction: 'Q\n", "not readable YAML"),
    ],
)
def test_a_faulty_prompt_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_prompt(write(tmp_path, text))


def test_a_missing_prompt_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prompt file .*nowhere.yml"):
        get_prompt(str(tmp_path / "nowhere.yml"))


def test_a_chat_is_what_the_template_makes_of_the_whole_prompt_and_the_answer_begun() -> None:
    tokenizer, plain = task_tokenizer(chat=True), get_prompt("T3-2shot")  # begins with a blank, which is trimmed
    chat = plain.in_template(tokenizer)
    turn = {"role": "user", "content": plain.render("My dog ran.").removesuffix(" Answer:")}
    whole = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    assert chat.render("My dog ran.") == whole.removeprefix("<s>") + "Answer:"
    tokens = tokenizer(chat.render("My dog ran."))["input_ids"]
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert chat.labels == EMOTIONS
    assert chat.name == "T3-2shot-chat" == get_prompt("T3-2shot-chat").name
    assert get_prompt("T3-2shot-chat").in_template(tokenizer) == chat


def test_a_tokenizer_that_adds_no_start_leaves_it_to_the_template() -> None:
    tokenizer = task_tokenizer(chat=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    assert get_prompt("T1-2shot").in_template(tokenizer).render("x").startswith("<s>[user]")


def test_without_a_template_there_is_no_chat() -> None:
    with pytest.raises(ValueError, match="no chat template.*choose T1-2shot$"):
        get_prompt("T1-2shot-chat").in_template(task_tokenizer())


FAILING = {
    "{{ raise_exception('only the system speaks') }}": r"template fails \(only the system speaks\)",
    "{{ messages[0].content + 1 }}": r"template fails \(can only concatenate str",
    "{% for m in messages": r"template fails \(.*unexpected",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "fails .it has not ended",
    "{{ 10 ** (10 ** 9) }}": "fails .it has not ended",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "template fails .*recursion",
    "[user] hello [assistant]": "template changes what it is given",
    "{{ messages[0].content | upper }}": "template changes what it is given",
    "{{ messages[0].content }}{{ messages[0].content }}": "template changes what it is given",
}


@pytest.mark.parametrize("template", FAILING)
def test_a_template_that_is_no_use_is_refused_in_one_sentence(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "SECONDS", 0.5)
    tokenizer = task_tokenizer(chat=True)
    tokenizer.chat_template = template
    with pytest.raises(
        ValueError, match=f"prompt T1-2shot-chat: .*{FAILING[template]}.*choose T1-2shot, or mend"
    ) as said:
        get_prompt("T1-2shot-chat").in_template(tokenizer)
    assert "\n" not in str(said.value)
    assert not multiprocessing.active_children(), "what does not end is ended"


def spelled(characters: str) -> list[int]:
    """Its bytes, one token each, as the tokenizer without merges has them."""
    return byte_tokenizer()(characters, split_special_tokens=True, add_special_tokens=False)["input_ids"]


ODD = "He said <s> and <pad><pad> twice."


@pytest.mark.parametrize("name", ["T1-2shot", "bare"])
def test_a_text_that_names_control_tokens_is_read_as_characters(name: str) -> None:
    prompt, tokenizer = get_prompt(name), byte_tokenizer()
    assert len(spelled("<s>")) == 3
    assert prompt.read(tokenizer, ODD) == [1, *spelled(prompt.render(ODD))]
    assert prompt.encode(tokenizer, ODD)["input_ids"] == prompt.read(tokenizer, ODD)
    for text in ("My dog ran.", "< s >"):  # nothing is split that need not be
        assert prompt.read(tokenizer, text) == prompt.render(text)
        assert prompt.encode(tokenizer, text)["input_ids"] == tokenizer(prompt.render(text))["input_ids"]


def test_control_tokens_of_the_template_stay_and_those_in_the_text_are_characters() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<s>[{{ m.role }}] {{ m.content }}<pad>{% endfor %}<s>[ai]"
    prompt = get_prompt("T1-0shot").in_template(tokenizer)
    asked = get_prompt("T1-0shot").render(ODD).removesuffix(" Answer:")
    expected = [1, *spelled(f"[user] {asked}"), 0, 1, *spelled("[ai]Answer:")]
    assert prompt.read(tokenizer, ODD) == expected
    assert tokenizer(prompt.render("My dog."))["input_ids"] == [
        1, *spelled(f"[user] {asked.replace(ODD, 'My dog.')}"), 0, 1, *spelled("[ai]Answer:")
    ]  # fmt: skip
    found = prompt.encode(tokenizer, ODD, return_offsets_mapping=True)
    shown = prompt.render(ODD)
    assert [shown[a:b] for a, b in found["offset_mapping"][-11:]] == ["<s>", *"[ai]Answer:"][-11:]
    assert "".join(shown[a:b] for a, b in found["offset_mapping"]) == shown


def test_a_tokenizer_that_swallows_blanks_or_begins_every_piece_is_exact_or_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<end>", rstrip=True, special=True)]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<end>\n  {% endfor %}<s>[ai]"
    prompt = get_prompt("T1-0shot").in_template(tokenizer)
    asked = get_prompt("T1-0shot").render(ODD).removesuffix(" Answer:")
    assert prompt.read(tokenizer, ODD) == [1, *spelled(asked), 258, 1, *spelled("[ai]Answer:")]
    # As Llama 2: a blank before the first characters alone, so that a piece of a text is read otherwise than all of it.
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["model"]["vocab"]["\N{LOWER ONE EIGHTH BLOCK}"] = 259
    content["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\N{LOWER ONE EIGHTH BLOCK}", "split": False}
    content["pre_tokenizer"]["prepend_scheme"] = "first"
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), bos_token="<s>")
    assert get_prompt("T1-0shot").read(other, ODD)[:3] == [1, 259, *spelled("W")]
    with pytest.raises(ValueError, match="a text has '<s>', which is a control token.* cannot read that as characters"):
        prompt.read(other, ODD)


def test_a_question_stands_behind_the_text_and_a_bare_text_alone() -> None:
    assert get_prompt("question").render("It rained.") == "It rained. What emotion does the person feel? Answer:"
    assert get_prompt("bare").render("It rained.") == "It rained."
    assert get_prompt("bare").labels == EMOTIONS

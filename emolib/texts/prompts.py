"""Prompts, exact to the character: the nine of the paper, its control task, zero-shot, and anybody's own.

A prompt is one line: instruction, then ` Context: <text> Answer: <label>` for each demonstration, then
` Context: <text> Answer:`. No chat template and no trailing blank; the tokenizer adds what it adds. The blank before
"Context" is part of the assembly, so a prompt without an instruction starts with a blank and an instruction that ends
in a blank is followed by two. Two of ours have other frames: `question` asks behind the text, `bare` is the text alone.
Any name with `-chat` behind it is that prompt as the user's turn of the tokenizer's chat template. The
paper's stimuli are in `data/prompts.yml`. Loads no model library.
"""

from __future__ import annotations

import multiprocessing
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from emolib.engine import places
from emolib.engine.choices import did_you_mean
from emolib.texts.appraisals import EMOTIONS
from emolib.texts.sources import packaged

# Four instructions with two demonstrations, then the first of them with other numbers.
PAPER_PROMPTS = (*(f"T{i}-2shot" for i in (1, 2, 3, 4)), *(f"T1-{n}shot" for n in (1, 3, 6, 9, 12)))
# Ours: a question behind the text instead of an instruction before it, and the text alone.
FRAMES: dict[str, dict[str, Any]] = {
    "question": dict(opening="", cue=" What emotion does the person feel? Answer:"),
    "bare": dict(opening="", cue=""),
}
CHAT = "-chat"
MARK = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for the text while a chat template is applied
DATE = "26 Jul 2024"  # what that template falls back on
SECONDS = 5.0  # that a chat template may take, which is a program


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt: `prefix + text + suffix` is what the model reads, and its next token answers with one of `labels`.

    `demonstrations` are (text, label) pairs in order; `opening` stands before each text, `cue` behind it, `separator`
    behind the label of each; `note` is said right behind the text itself, not behind demonstrations.
    `chat` asks for the chat template of a tokenizer: `before` and `turn` are what that puts before everything and
    between text and cue (`in_template`).
    """

    name: str
    instruction: str
    demonstrations: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = EMOTIONS
    separator: str = ""
    opening: str = " Context: "
    cue: str = " Answer:"
    note: str = ""
    chat: bool = False
    before: str = ""
    turn: str = ""

    @property
    def prefix(self) -> str:
        """Everything before the text: the same for all texts, so that a model needs to read it once."""
        shown = (f"{self.opening}{text}{self.cue} {label}{self.separator}" for text, label in self.demonstrations)
        own = f"{self.instruction}{''.join(shown)}{self.opening}"
        return self.before + (own.lstrip() if self.turn else own)

    @property
    def suffix(self) -> str:
        """Everything after the text."""
        return self.note + self.turn + (self.cue.strip() if self.turn else self.cue)

    def in_template(self, tokenizer: Any) -> Prompt:
        """The prompt as the user's turn of the tokenizer's chat template, the assistant's turn begun with the cue.

        Instruction, demonstrations and text are one turn, without a blank at its beginning, and the label is the next
        token. The start token is left to
        the tokenizer where it adds one itself. Raises ValueError for a tokenizer without a template, and for a
        template that fails, does not end, or changes what the user says.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"prompt {self.name}: the tokenizer has no chat template, as base models have none: "
                f"choose {self.name.removesuffix(CHAT)}"
            )
        asked = self.prefix.lstrip()  # many templates strip it, and some do not
        turns = [{"role": "user", "content": asked + MARK}]
        # Llama 3 writes today's date into its template unless told another: the prompt must be the same every day.
        options = dict(tokenize=False, add_generation_prompt=True, date_string=DATE)
        advice = f"choose {self.name.removesuffix(CHAT)}, or mend the template"
        try:
            chat = _templated(tokenizer, turns, **options)
        except (RuntimeError, TimeoutError) as error:
            raise ValueError(f"prompt {self.name}: the model's chat template fails ({error}): {advice}") from error
        said, _, turn = chat.partition(MARK)
        if chat.count(MARK) != 1 or not said.endswith(asked):
            raise ValueError(f"prompt {self.name}: the model's chat template changes what it is given: {advice}")
        before = said.removesuffix(asked)
        start = tokenizer.bos_token
        if start and before.startswith(start) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
            before = before.removeprefix(start)
        return replace(self, name=self.name.removesuffix(CHAT) + CHAT, chat=True, before=before, turn=turn)

    def render(self, text: str) -> str:
        """The whole prompt for one text."""
        return self.prefix + text + self.suffix

    def read(self, tokenizer: Any, text: str) -> str | list[int]:
        """What a model reads for one text: the whole prompt, or the token ids of `encode` where these are others."""
        names = _control(tokenizer, len(tokenizer)).search(text)
        return list(self.encode(tokenizer, text)["input_ids"]) if names else self.render(text)

    def encode(self, tokenizer: Any, text: str, **options: Any) -> Mapping[str, list[Any]]:
        """What a tokenizer makes of the prompt for one text: `input_ids`, and what the `options` ask it for.

        The name of a control token, such as "<s>", is one where instruction and template have it, and mere characters
        in the text. Raises ValueError where a tokenizer cannot do that.
        """
        name = _control(tokenizer, len(tokenizer)).search(text)
        if name is None:
            return tokenizer(self.render(text), **options)
        plain = "It rained."
        if self._in_pieces(tokenizer, plain)["input_ids"] != tokenizer(self.render(plain))["input_ids"]:
            raise ValueError(
                f"a text has {name[0]!r}, which is a control token of the model, and its tokenizer cannot read that as "
                f"characters in prompt {self.name}: take it out of the text, or choose a prompt without control tokens"
            )
        return self._in_pieces(tokenizer, text, **options)

    def _in_pieces(self, tokenizer: Any, text: str, **options: Any) -> dict[str, list[Any]]:
        """The prompt read piece by piece: its own control tokens, and between them characters alone."""
        names, behind = _control(tokenizer, len(tokenizer)), len(self.prefix) + len(text)
        whole, read = self.render(text), dict[str, list[Any]]()
        edges = [edge for name in names.finditer(self.prefix) for edge in name.span()]
        edges += [behind + edge for name in names.finditer(self.suffix) for edge in name.span()]
        for number, (start, end) in enumerate(pairwise([0, *edges, len(whole)])):
            own = dict(add_special_tokens=not number, split_special_tokens=not number % 2)
            for key, values in tokenizer(whole[start:end], **own, **options).items():
                offsets = key == "offset_mapping"
                read.setdefault(key, []).extend((v[0] + start, v[1] + start) if offsets else v for v in values)
        return read


@lru_cache(maxsize=4)
def _control(tokenizer: Any, _size: int) -> re.Pattern[str]:
    """The names of a tokenizer's control tokens, with the blanks they swallow; of another size it is another one."""
    known = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
    longest_first = sorted(known, key=lambda token: -len(token.content))
    names = [r"\s*" * t.lstrip + re.escape(t.content) + r"\s*" * t.rstrip for t in longest_first]
    return re.compile("|".join(names) or "(?!)")


def _templated(tokenizer: Any, turns: list[dict[str, str]], **options: Any) -> str:
    """What the chat template of a tokenizer makes of the turns.

    In a process of its own: a single operation of a template can last for ever, and then nothing but a kill ends it.
    Raises TimeoutError after `SECONDS`, and RuntimeError with the reason of a template that fails.
    """
    fork = multiprocessing.get_context("fork")  # the child has the tokenizer at once
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_send_templated, args=(theirs, tokenizer, turns, options), daemon=True)
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # that the parent has threads
        child.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            raise TimeoutError(f"it has not ended after {SECONDS:.0f} seconds")
        chat, reason = ours.recv()
    except EOFError:
        raise RuntimeError("it ended the process that it ran in") from None
    finally:
        child.kill()
        child.join()
    if reason:
        raise RuntimeError(reason)
    return chat


def _send_templated(pipe: Connection, tokenizer: Any, turns: list[dict[str, str]], options: Mapping[str, Any]) -> None:
    try:
        found = tokenizer.apply_chat_template(turns, **options), ""
    except Exception as error:  # a template is a program, and raises what it likes
        found = "", next(iter(str(error).strip().splitlines()), type(error).__name__)
    pipe.send(found)


def prompt_names() -> tuple[str, ...]:
    """The names `get_prompt` knows: the paper's nine, zero-shot, code-only instructions, ours, control tasks."""
    stimuli = packaged("prompts.yml")
    return (*stimuli["emotion_prompts"], *FRAMES, *stimuli["control_prompts"])


def get_prompt(name: str) -> Prompt:
    """The prompt called `name` (`T1-2shot` is the paper's default), or read from a .yml file of one's own.

    Such a file has `instruction` and optionally `name` (default: the file's), `demonstrations` (a list of
    `{text: ..., label: ...}`), `labels` (default: the 13 emotions) and `separator`. With `-chat` behind a name it wants
    a chat template. Raises ValueError for an unknown name or a file that does not say this, FileNotFoundError for a
    missing file.
    """
    stimuli = packaged("prompts.yml")
    if name.endswith(CHAT):
        return replace(get_prompt(name.removesuffix(CHAT)), name=name, chat=True)
    if name in FRAMES:
        return Prompt(name=name, instruction="", **FRAMES[name])
    if name in stimuli["emotion_prompts"]:
        index, shown = stimuli["emotion_prompts"][name]
        pairs = tuple((stimuli["demonstrations"][label], label) for label in shown)
        return Prompt(name=name, instruction=stimuli["instructions"][index], demonstrations=pairs)
    if name in stimuli["control_prompts"]:
        return _from_fields(stimuli["control_prompts"][name], name, where=name)
    if Path(name).suffix.lower() in (".yml", ".yaml"):
        return _from_file(Path(name).expanduser())
    raise ValueError(
        f"there is no prompt called {name!r}{did_you_mean(name, prompt_names())}; known are "
        f"{', '.join(prompt_names())}, or give the path of a .yml file with an instruction."
    )


class _Shown(BaseModel, extra="forbid", strict=True):
    text: str = Field(pattern=r"\S")
    label: str


class _File(BaseModel, extra="forbid", strict=True):
    instruction: str
    name: str = Field("", pattern=r"^[\w .()-]{0,60}$")  # pages and figures show it
    demonstrations: list[_Shown] = []
    labels: list[Annotated[str, Field(min_length=1)]] = Field(list(EMOTIONS), min_length=2)
    separator: str = ""


EXPECTED = (
    'instruction (text in quotes, "" for a prompt without one) and, if wanted, name, separator, demonstrations (a list '
    "of {text: ..., label: ...}), labels (at least two words, each once, in quotes where YAML needs them)"
)


def _from_file(path: Path) -> Prompt:
    if not path.is_file():
        raise FileNotFoundError(f"there is no prompt file {path.absolute()}.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(fields, Mapping):
        raise ValueError(f"{path} holds {type(fields).__name__}; expected keys such as instruction, demonstrations.")
    return _from_fields(fields, places.plain(path.stem), where=str(path))


def _from_fields(fields: Mapping[str, Any], name: str, *, where: str) -> Prompt:
    try:
        said = _File.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = " ".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
        message = f"{where}: {place}: {first['msg']}, given {first['input']!r}; expected {EXPECTED}."
        raise ValueError(message) from None
    if len(set(said.labels)) < len(said.labels):
        raise ValueError(f"{where}: labels: one stands twice, given {said.labels}; expected {EXPECTED}.")
    for number, shown in enumerate(said.demonstrations, start=1):
        if shown.label not in said.labels:
            given = f"given {shown.label!r}{did_you_mean(shown.label, said.labels)}"
            known = ", ".join(said.labels)
            raise ValueError(f"{where}: demonstrations {number} label: {given}; expected one of {known}.")
    return Prompt(
        name=said.name or name,
        instruction=said.instruction,
        demonstrations=tuple((shown.text, shown.label) for shown in said.demonstrations),
        labels=tuple(said.labels),
        separator=said.separator,
    )

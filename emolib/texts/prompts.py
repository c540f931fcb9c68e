"""Prompts, exact to the character: the nine of the paper, its control task, zero-shot, and anybody's own.

A prompt is one line: instruction, then ` Context: <text> Answer: <label>` for each demonstration, then
` Context: <text> Answer:`. No chat template and no trailing blank; the tokenizer adds what it adds. The blank before
"Context" is part of the assembly, so a prompt without an instruction starts with a blank and an instruction that ends
in a blank is followed by two. Stimuli: `data/prompts.yml`. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from emolib.engine.choices import did_you_mean
from emolib.texts.appraisals import EMOTIONS

PAPER_PROMPTS: tuple[str, ...] = (
    "T1-2shot",
    "T2-2shot",
    "T3-2shot",
    "T4-2shot",
    "T1-1shot",
    "T1-3shot",
    "T1-6shot",
    "T1-9shot",
    "T1-12shot",
)
_FIELDS = {"name", "instruction", "demonstrations", "labels", "separator"}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt: `prefix + text + suffix` is what the model reads, and its next token answers with one of `labels`.

    `demonstrations` are (text, label) pairs in order; `separator` follows the label of each.
    """

    name: str
    instruction: str
    demonstrations: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = EMOTIONS
    separator: str = ""

    @property
    def prefix(self) -> str:
        """Everything before the text: the same for all texts, so that a model needs to read it once."""
        shown = (f" Context: {text}{self.suffix} {label}{self.separator}" for text, label in self.demonstrations)
        return f"{self.instruction}{''.join(shown)} Context: "

    @property
    def suffix(self) -> str:
        """Everything after the text."""
        return " Answer:"

    def render(self, text: str) -> str:
        """The whole prompt for one text."""
        return self.prefix + text + self.suffix


def prompt_names() -> tuple[str, ...]:
    """The names `get_prompt` knows: the paper's nine first, then zero-shot, code-only instructions, control tasks."""
    return (*_stimuli()["emotion_prompts"], *_stimuli()["control_prompts"])


def get_prompt(name: str) -> Prompt:
    """The prompt called `name` (`T1-2shot` is the paper's default), or read from a .yml file of one's own.

    Such a file has `instruction` and optionally `name` (default: the file's), `demonstrations` (a list of
    `{text: ..., label: ...}`), `labels` (default: the 13 emotions) and `separator`. Raises ValueError for an unknown
    name or a file that does not say this, FileNotFoundError for a missing file.
    """
    stimuli = _stimuli()
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


def released_instructions() -> tuple[str, ...]:
    """The eight instructions by released index (0 to 7), trailing blanks included."""
    return tuple(_stimuli()["instructions"])


def paper_demonstrations() -> dict[str, str]:
    """The paper's demonstration of each of the 13 emotions, by label; that of trust is in none of its prompts."""
    return dict(_stimuli()["demonstrations"])


def first_words(texts: pd.Series, prompt: Prompt) -> pd.Series:
    """The first blank-separated word of each text where it is a label of the control prompt, else "".

    Case counts, as in the released code: "My" and "my" are two labels (appendix C.4).
    """
    return texts.map(lambda text: word[0] if (word := text.split(maxsplit=1)) and word[0] in prompt.labels else "")


@cache
def _stimuli() -> dict[str, Any]:
    return yaml.safe_load(files("emolib").joinpath("data/prompts.yml").read_text(encoding="utf-8"))


def _from_file(path: Path) -> Prompt:
    if not path.is_file():
        raise FileNotFoundError(f"there is no prompt file {path.absolute()}.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(fields, Mapping):
        raise ValueError(f"{path} holds {type(fields).__name__}; expected keys such as instruction, demonstrations.")
    return _from_fields(fields, path.stem, where=str(path))


def _from_fields(fields: Mapping[str, Any], name: str, *, where: str) -> Prompt:
    unknown = [str(key) for key in fields if key not in _FIELDS]
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}; expected {', '.join(sorted(_FIELDS))}.")
    if "instruction" not in fields:
        raise ValueError(f'{where}: instruction is missing; write instruction: "" for a prompt without one.')
    for key in ("name", "instruction", "separator"):
        if not isinstance(fields.get(key, ""), str):
            raise ValueError(f"{where}: {key} is {fields[key]!r}; expected text in quotes.")
    labels = fields.get("labels", list(EMOTIONS))
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"{where}: labels is {labels!r}; expected a list of words, in quotes where YAML needs them.")
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise ValueError(f"{where}: labels is {labels!r}; expected at least two, each once.")
    return Prompt(
        name=fields.get("name", name),
        instruction=fields["instruction"],
        demonstrations=_pairs(fields.get("demonstrations", []), labels, where),
        labels=tuple(labels),
        separator=fields.get("separator", ""),
    )


def _pairs(items: Any, labels: list[str], where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(items, list):
        raise ValueError(f"{where}: demonstrations is {items!r}; expected a list of {{text: ..., label: ...}}.")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, Mapping) or set(item) != {"text", "label"}:
            raise ValueError(f"{where}: demonstration {number} is {item!r}; expected {{text: ..., label: ...}}.")
        if not isinstance(item["text"], str) or not item["text"].strip():
            raise ValueError(f"{where}: the text of demonstration {number} is {item['text']!r}; expected some words.")
        if item["label"] not in labels:
            hint = did_you_mean(item["label"], labels)
            raise ValueError(
                f"{where}: the label of demonstration {number} is {item['label']!r}{hint}; expected one of "
                f"{', '.join(labels)}."
            )
    return tuple((item["text"], item["label"]) for item in items)

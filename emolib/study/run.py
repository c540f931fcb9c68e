"""A run: which model, on which corpus, asked how; its slug names the folder of its results. Loads no model library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from emolib.engine.choices import Calibration, DType, Scoring, Tap, check_choice
from emolib.engine.registry import locate, parse, registry
from emolib.texts.corpus import Corpus, TextColumn, check_corpus_name, load_corpus
from emolib.texts.prompts import Prompt, get_prompt

Profile = Literal["quick", "full"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. All fields are checked on construction, the existence of model, corpus and prompt included.

    `corpus_path` is where the corpus file lies if it is not downloaded; `profile` "quick" takes minutes, "full" is what
    the book reports; `scoring`, `text` and `tap` are explained in `labels`, `corpus` and `models`. The device "ndif" is
    a service that has the weights, "ndif-local" this machine asked as the service would be.
    Raises ValueError with the nearest known value for anything unknown.
    """

    model: str = "smollm2-135m"
    corpus: str = "situations"
    prompt: str = "T1-2shot"
    calibration: Calibration = "batch"
    scoring: Scoring = "first_subtoken"
    text: TextColumn = "masked"
    tap: Tap = "contribution"
    dtype: DType = "float32"
    device: str = "auto"
    seed: int = 0
    profile: Profile = "quick"
    corpus_path: str | None = None

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if getattr(kind, "__origin__", None) is Literal:
                check_choice(name, getattr(self, name), kind)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed {self.seed!r}: expected a whole number from 0 on")
        if not re.fullmatch(r"auto|cpu|mps|balanced|cuda(:\d+)?|ndif(-local)?", self.device):
            raise ValueError(
                f"unknown device {self.device!r}: expected auto, cpu, mps, cuda, cuda:<number>, balanced or ndif"
            )
        # An empty path is what a notebook's parameter cell says for "none".
        object.__setattr__(self, "corpus_path", self.corpus_path or None)
        if parse(self.model).base not in registry():  # a registered model need not be installed to be named
            locate(self.model)
        check_corpus_name(self.corpus)
        get_prompt(self.prompt)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Run:
        """The run whose fields are among `values`, as in `Run.of(globals())` below a notebook's cell of parameters.

        Raises ValueError when one is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            raise ValueError(f"the parameters {missing} are missing: the cell needs {', '.join(names)}")
        return cls(**{name: values[name] for name in names})

    @property
    def slug(self) -> str:
        """The run's folder name: what decides its numbers, with other defaults left out, and of devices only NDIF."""
        parts = [_short(self.model), _short(self.corpus), _short(self.prompt), self.calibration]
        for field in fields(self):
            if field.name in OPTIONAL and getattr(self, field.name) != field.default:
                parts.append(str(getattr(self, field.name)))
        parts += [self.device] if self.remote else []
        return "_".join([*parts, self.dtype, f"s{self.seed}", self.profile])

    @property
    def remote(self) -> bool:
        """Whether the model runs elsewhere."""
        return self.device.startswith("ndif")

    def load_corpus(self) -> Corpus:
        """The checked corpus of the run; raises what `emolib.texts.corpus.load_corpus` raises."""
        return load_corpus(self.corpus, path=self.corpus_path, text=self.text)

    def load_prompt(self) -> Prompt:
        """The prompt of the run."""
        return get_prompt(self.prompt)

    def parameters(self) -> dict[str, Any]:
        """All fields, for provenance."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


# In the slug only where they differ from the default.
OPTIONAL = ("scoring", "text", "tap")


def _short(name: str) -> str:
    """A name as part of a folder name; a path becomes its last part and a mark that tells equal names apart."""
    base, at, rest = (name, "", "") if Path(name).exists() else name.partition("@")
    path = Path(base)
    if path.exists() or path.is_absolute() or base.startswith("."):
        base = f"{path.stem}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]}"
    return re.sub(r"[^A-Za-z0-9.-]+", "-", base + at + rest)


REFERENCE = Run(model="smollm2-135m", corpus="crowd-envent", profile="full")

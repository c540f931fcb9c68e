"""A run: which model, on which corpus, asked how; its slug names the folder of its results. Loads no model library."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from emolib.engine import places
from emolib.engine.choices import Calibration, DType, Scoring, Tap, check_choice
from emolib.engine.registry import MAX_SEED, TWIN, is_local, locate, parse, registry, revision
from emolib.tables.provenance import local_paths
from emolib.texts import sources
from emolib.texts.corpus import Corpus, TextColumn, check_corpus_name, load_corpus
from emolib.texts.prompts import CHAT, Prompt, get_prompt

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
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed {self.seed!r}: expected a whole number from 0 to {MAX_SEED}")
        if not re.fullmatch(r"auto|cpu|mps|balanced|cuda(:\d+)?|ndif(-local)?", self.device):
            raise ValueError(
                f"unknown device {self.device!r}: expected auto, cpu, mps, cuda, cuda:<number>, balanced or ndif"
            )
        # An empty path is what a notebook's parameter cell says for "none".
        object.__setattr__(self, "corpus_path", self.corpus_path or None)
        for name in PLACED:
            given = getattr(self, name) or ""
            if not isinstance(given, str):
                raise ValueError(f"{name} {given!r}: expected a name or a path")
            if hidden := [letter for letter in given if unicodedata.category(letter) in HIDDEN]:
                code = f"U+{ord(hidden[0]):04X}"
                raise ValueError(f"{name} {given!r} holds {code}, which is not to be seen: give a name without it")
        if parse(self.model).base not in registry():  # a registered model need not be installed to be named
            locate(self.model)
        check_corpus_name(places.place(self.corpus))
        if local_paths(self.load_prompt().render("")):  # tables hold the prompt, and no path
            raise ValueError(f"prompt {self.prompt!r} reads like a path on this machine: write it without slashes")

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
        parts = [*(_short(name, getattr(self, name)) for name in ("model", "corpus", "prompt")), self.calibration]
        for field in fields(self):
            if field.name in OPTIONAL and getattr(self, field.name) != field.default:
                parts.append(str(getattr(self, field.name)))
        parts += [self.device] if self.remote else []
        return "_".join([*parts, self.dtype, f"s{self.seed}", self.profile])

    @property
    def remote(self) -> bool:
        """Whether the model runs elsewhere."""
        return self.device.startswith("ndif")

    @property
    def public(self) -> dict[str, Any]:
        """All fields as they are written about: files and folders by a name and a digest of what they hold."""
        return public(self.parameters())

    @property
    def local(self) -> tuple[str, ...]:
        """Which of model, corpus and prompt are folders or files here: what these hold decides, not names."""
        names = ("model", "corpus", "prompt")
        return tuple(name for name in names if _local(name, places.place(_base(name, getattr(self, name)))))

    @property
    def places(self) -> dict[str, str]:
        """Where the folders and files lie that have other names in `public`, for `emolib.engine.places.tell`."""
        shown = self.public
        return {_base(name, shown[name]): places.place(_base(name, getattr(self, name))) for name in self.local}

    def load_corpus(self) -> Corpus:
        """The checked corpus of the run; raises what `emolib.texts.corpus.load_corpus` raises, and `check_texts`."""
        corpus = load_corpus(places.place(self.corpus), path=self.corpus_path, text=self.text)
        self.check_texts(corpus.sha256)
        return corpus

    def check_texts(self, sha256: str | None) -> None:
        """Nothing when the run's texts are those that the command at work has begun with, or there is none, or they
        are not on this machine. Raises RuntimeError otherwise."""
        begun = json.loads(os.environ.get(BEGUN) or "{}").get(places.place(self.corpus))
        if begun and sha256 and sha256 != begun:
            raise RuntimeError(CHANGED.format(self.public["corpus"]))

    @contextmanager
    def begun(self, sha256: str | None) -> Iterator[None]:
        """What this process and those it starts read of the run's corpus meanwhile has this sha256, or is refused."""
        before = os.environ.get(BEGUN)
        os.environ[BEGUN] = json.dumps({places.place(self.corpus): sha256} | json.loads(before or "{}"))
        try:
            yield
        finally:
            os.environ.pop(BEGUN) if before is None else os.environ.update({BEGUN: before})

    def load_prompt(self) -> Prompt:
        """The prompt of the run."""
        base = _base("prompt", self.prompt)
        return get_prompt(places.place(base) + self.prompt.removeprefix(base))

    def parameters(self) -> dict[str, Any]:
        """All fields as they were given."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


# The sha256 of the texts that a command has begun with, by where they lie, for the processes it starts.
BEGUN = "EMOLIB_BEGUN"
CHANGED = (
    "the texts of {} were changed while a run was at work with them, and two files would be mixed: call it again, and "
    "all is computed with the texts as they are now"
)
# In the slug only where they differ from the default.
OPTIONAL = ("scoring", "text", "tap")
# What may be a folder or file of this machine.
PLACED = ("model", "corpus", "prompt", "corpus_path")
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # kinds of characters: control, format, unpaired, line and paragraph


def public(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a run as they are written about, without a path; the files need not be there any more."""
    return {**parameters, **{name: _shown(name, parameters[name]) for name in PLACED if parameters.get(name)}}


def absolute(field: str, name: str, root: Path) -> str:
    """The name of a model, corpus or prompt with a path made absolute from the current folder, once and for all.

    Raises ValueError for a name that is none here and would be one of a folder in `root`, where the run takes place.
    """
    base = _base(field, name)
    place = str(Path(base).expanduser())
    if field == "corpus_path" or _local(field, place):
        return str(Path(place).absolute()) + name.removeprefix(base)
    if field == "model" and base not in registry() and (root / base.partition("@")[0]).exists():
        raise ValueError(f"model {name!r} is no folder here and one in {root}: give its whole path, or move it")
    return name


def _shown(field: str, name: str) -> str | None:
    if field == "corpus_path":  # of a corpus whose content is known
        return None
    base = _base(field, name)
    if not _local(field, places.place(base)):
        return name
    path = Path(places.place(base)).expanduser()
    if path.is_dir():
        content = str(revision(str(path))).encode()
    else:
        content = path.read_bytes() if path.is_file() else str(path).encode()
    return places.marked(_title(path), content) + name.removeprefix(base)


def _short(field: str, name: str) -> str:
    """A name as part of a folder name; a path becomes its last part and a mark that tells equal names apart."""
    base = _base(field, name)
    place, rest = places.place(base), name.removeprefix(base)
    if _local(field, place):
        path = Path(place).expanduser()
        short = places.marked(_title(path), str(path.resolve()).encode())
    else:
        short = places.plain(place)
    return short + re.sub(r"[@:]", "-", rest)


def _title(path: Path) -> str:
    """The name of a folder, or that of a file without its suffix."""
    return path.name if path.is_dir() else path.stem


def _base(field: str, name: str) -> str:
    """A name without what makes it a twin, or a chat."""
    return name.partition(TWIN)[0] if field == "model" else name.removesuffix(CHAT)


def _local(field: str, place: str) -> bool:
    """Whether a name is that of a folder or file, be it there or not; a known name never is."""
    if field == "model":
        return is_local(place) or Path(place).is_absolute()
    known = place in sources.registry() if field == "corpus" else Path(place).suffix.lower() not in (".yml", ".yaml")
    return not known


REFERENCE = Run(model="qwen2.5-coder-1.5b", corpus="crowd-envent", dtype="mixed", profile="full")
# The committed runs: models of several sizes on the same texts. Of all but the first, tables may still be missing.
LADDER = (REFERENCE, *(replace(REFERENCE, model=model, dtype="float32") for model in ("smollm2-135m", "gemma-3-270m")))

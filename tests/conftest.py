"""Shared fixtures. Tests that read the real crowd-enVENT corpus need a copy of it, which is never committed.

They look at $EMOLIB_CROWD_ENVENT (the CSV file or its folder), then, by convention, at a folder `shared/data` beside
the checkout. Where neither has the file those tests are deselected and the end of the report says how to run them.
"""

from __future__ import annotations

import os

# Before anything reads it: tensors of tests are small, and threads of several processes would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from _pytest.mark.expression import Expression

from emolib.study.run import Run
from emolib.texts.corpus import APPRAISALS, EMOTIONS, Corpus, load_corpus
from helpers import DEVICE, tiny_table, word_tokenizer

if TYPE_CHECKING:
    from emolib.engine.model import Model
    from emolib.study.study import Study

VARIABLE = "EMOLIB_CROWD_ENVENT"
FILE = "enVent_gen_Data.csv"
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def _crowd_envent() -> Path | None:
    given = os.environ.get(VARIABLE)
    places = [Path(given).expanduser()] if given else [BESIDE]
    for place in places:
        folder = place if place.is_dir() else place.parent
        if (folder / FILE).is_file():
            return folder
    return None


# Tests that start programs: notebooks, Snakemake, environments, a server. Single ones carry the mark themselves.
WORKFLOWS = ("test_book", "test_cli", "test_colab", "test_fetch", "test_golden", "test_packaging", "test_stopping")
BROWSERS = ("test_browser", "test_pdf", "test_explorer")
# Tests of these, folders and files, compute with a model, a small random one if nothing else.
MODELS = ("engine", "experiments", "test_study", "test_benchmarks", "test_doctor", "test_plan")


def _shared_marker(path: Path) -> str | None:
    """What all tests of a file need; None where they differ."""
    names = {"browser": BROWSERS, "workflow": WORKFLOWS, "model": MODELS}
    return next((mark for mark, known in names.items() if {path.stem, path.parent.name} & set(known)), None)


def _marker(item: pytest.Item) -> str:
    """What a test needs; `fast` are those that need nothing."""
    known = {"embedded_model", "crowd_envent_path", "tiny_folder", "published", "from_paper"}
    needs_model = known & set(getattr(item, "fixturenames", ()))
    return _shared_marker(item.path) or ("model" if needs_model else "fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which `-m` takes no test are not even imported: that takes as long as many of the fast tests."""
    mark, wanted = _shared_marker(collection_path), config.option.markexpr
    if mark and wanted and collection_path.suffix == ".py":
        return None if Expression.compile(wanted).evaluate(lambda name, **_: name == mark) else True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not {mark.name for mark in item.iter_markers()} & {"model", "browser", "workflow"}:
            item.add_marker(_marker(item))
    if _crowd_envent() is not None:
        return
    needing = [item for item in items if "crowd_envent_path" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in needing]
    config.hook.pytest_deselected(items=needing)
    config.stash[_DESELECTED] = len(needing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(_DESELECTED, 0)
    if count:
        terminalreporter.write_line(
            f"{count} tests that read the real corpus were left out: no {FILE} in ${VARIABLE} or {BESIDE}. "
            "Run `emolib fetch crowd-envent` and set the variable to the folder it names, or put the file there.",
            yellow=True,
        )


_DESELECTED = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def crowd_envent_path() -> Path:
    """The folder that holds the real corpus (`enVent_gen_Data.csv`, `enVent_val_Data.csv`)."""
    folder = _crowd_envent()
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def crowd_envent(crowd_envent_path: Path) -> Corpus:
    """The real corpus with masked texts, as the paper uses it."""
    return load_corpus("crowd-envent", path=crowd_envent_path)


@pytest.fixture
def crowd_table() -> pd.DataFrame:
    """26 made-up rows in the layout of crowd-enVENT, with typographic marks in their texts."""
    n = 26
    labels = ["no-emotion" if label == "neutral" else label for label in EMOTIONS]
    table = pd.DataFrame({"text_id": [str(100 + i) for i in range(n)]})
    table["emotion"] = [labels[i % 13] for i in range(n)]
    table["prolific_id"] = [f"{i // 2:032x}" for i in range(n)]
    table["generated_text"] = [f"It’s café “{i}”, £{i} … so glad, NA" for i in range(n)]
    table["hidden_emo_text"] = table["generated_text"].str.replace("glad", "...")
    for shift, column in enumerate(APPRAISALS):
        table[column] = [str(1 + (i + shift) % 5) for i in range(n)]
    return table.assign(annotator_emotion=table["emotion"], age="30")


@pytest.fixture
def save() -> Callable[..., Path]:
    """A function that writes a table as .csv or .tsv in an encoding and returns the path."""

    def write(table: pd.DataFrame, path: Path, encoding: str = "utf-8") -> Path:
        separator = "\t" if path.suffix == ".tsv" else ","
        path.write_bytes(table.to_csv(index=False, sep=separator, lineterminator="\n").encode(encoding))
        return path

    return write


@pytest.fixture
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the user's corpus nor the user's cache: the variable is unset and the cache is a temporary folder."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights and the word tokenizer of a random five-layer Llama, as a model of one's own."""
    from emolib.engine.tiny import tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model = tiny_model("llama", tokenizer=word_tokenizer(), num_hidden_layers=5, hidden_size=32, intermediate_size=64)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv file with the rows of `tiny_table`."""
    path = tmp_path_factory.mktemp("corpora") / "tiny.csv"
    tiny_table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_folder: Path, tiny_corpus: Path) -> Run:
    """A run of the tiny model on the tiny corpus."""
    return Run(model=str(tiny_folder), corpus=str(tiny_corpus), device=DEVICE)


@pytest.fixture(scope="session")
def tiny_study(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of that run in a folder of its own; tests that change files make another one."""
    from emolib.study.study import Study

    return Study(tiny_run, folder=tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def plain_llama(tiny_folder: Path) -> Any:
    """The tiny model and its tokenizer as plain transformers loads them: the oracle of what emolib makes of them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def embedded_model() -> Model:
    """The model that comes as a Python package, loaded as every chapter loads it."""
    from emolib.engine.loading import load

    return load("smollm2-135m", device="cpu")

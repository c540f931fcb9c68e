"""What a corpus must have for an experiment: the least that is said to do does, and less than that fails when tried."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from emolib.engine.model import Model
from emolib.study.needs import NEEDS, Needs, impossible
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS, Corpus
from helpers import all_right, tiny_table


def least(needs: Needs) -> Corpus:
    """A corpus that has what is needed and nothing more; what its texts lack in number, other emotions fill up."""
    each = max(needs.each, needs.writers_each)
    wanted = [EMOTIONS[i] for i in range(needs.emotions) for _ in range(each)]
    others = [emotion for emotion in EMOTIONS if emotion not in wanted]
    rest = [others[i % len(others)] for i in range(needs.texts - len(wanted))]
    table = tiny_table(len(wanted) + len(rest)).assign(emotion=[*wanted, *rest])
    table["writer"] = [f"w{i % needs.writers}" for i in range(len(table))]
    return Corpus(name="least", events=table, sha256="", note="")


CUT = {
    "texts": lambda events: events.iloc[:-1],
    "emotions": lambda events: events.assign(emotion="joy"),
    "rated": lambda events: events[["text_id", "writer", "emotion", "text"]],
}
ONE = dict(texts=1, writers=1, emotions=1, each=1, writers_each=1, rated=False)  # what every corpus has
LESS = [(name, less) for name, needs in NEEDS.items() for less in asdict(needs) if getattr(needs, less) > ONE[less]]


@pytest.fixture(scope="module")
def tiny(tiny_run: Run) -> Model:
    from emolib.engine.loading import load

    return load(tiny_run.model, device="cpu")


def attempt(name: str, corpus: Corpus, run: Run, model: Model, folder: Path) -> pd.DataFrame:
    """The experiment's table as if the model answered every text right, so that only the corpus can be at fault."""
    corpus.events.to_csv(folder / "least.csv", index=False)
    run = replace(run, corpus=str(folder / "least.csv"), calibration="none")
    study = Study(run, model=model, folder=folder, **all_right(corpus.events))
    return study.table(import_module(f"emolib.experiments.{name}"))


@pytest.mark.parametrize("name", NEEDS)
def test_the_least_that_is_needed_is_enough(name: str, tiny_run: Run, tiny: Model, tmp_path: Path) -> None:
    assert impossible(name, least(NEEDS[name])) is None
    # Directions are fitted on the texts of half the writers, here half of the texts.
    corpus = least(replace(NEEDS[name], texts=42) if name == "modulation" else NEEDS[name])
    assert len(attempt(name, corpus, tiny_run, tiny, tmp_path))


@pytest.mark.parametrize(("name", "less"), LESS)
def test_less_is_said_to_be_too_little_and_is(name: str, less: str, tiny_run: Run, tiny: Model, tmp_path: Path) -> None:
    needs = NEEDS[name]
    corpus = least(needs if less in CUT else replace(needs, **{less: getattr(needs, less) - 1}))
    corpus = replace(corpus, events=CUT[less](corpus.events)) if less in CUT else corpus
    said = impossible(name, corpus)
    assert said is not None and said.startswith(f"{name} needs ")
    with pytest.raises(ValueError):
        attempt(name, corpus, tiny_run, tiny, tmp_path)


def test_every_experiment_has_needs() -> None:
    import emolib.experiments

    folder = Path(emolib.experiments.__file__).parent
    assert sorted(path.parent.name for path in folder.glob("*/measure.py")) == sorted(NEEDS)

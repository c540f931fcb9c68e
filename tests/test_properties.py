"""Whatever is given works exactly, or ends in one of our errors, and writes nothing that was not asked for.

Our errors are ValueError, RuntimeError and OSError with a message; of the command line the exit statuses 1 and 2.
EMOLIB_EXAMPLES=2000 tries as many of each kind. Corpora have tests of the same kind in texts/test_cases.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkout import made_up_checkout
from emolib import cli
from emolib.engine.edits import Add, Noise, Zero
from emolib.engine.engine import Engine
from emolib.engine.labels import SCORINGS, label_tokens
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS
from emolib.engine.sweeps import sweep
from emolib.study.run import Run
from emolib.tables import results, schemas
from emolib.texts.corpus import EMOTIONS
from emolib.texts.prompts import get_prompt
from helpers import TINY_WORDS, word_tokenizer

EXAMPLES = int(os.environ.get("EMOLIB_EXAMPLES", "40"))
OURS = (ValueError, RuntimeError, OSError)
SEEN: dict[str, Counter[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def kept() -> Iterator[None]:
    """$EMOLIB_SEEN is a file that keeps what was tried, for the page on faults."""
    yield
    if name := os.environ.get("EMOLIB_SEEN"):
        path = Path(name)
        before = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(before | SEEN, indent=1) + "\n")


def trying(kind: str, call: Callable[[], Any]) -> Any:
    """What the call gives; None after an error of ours, which says something."""
    counts = SEEN.setdefault(kind, Counter())
    try:
        found = call()
    except OURS as error:
        assert len(str(error)) > 10, f"{error!r} says nothing"
        assert type(error) not in (json.JSONDecodeError, UnicodeDecodeError, RecursionError), repr(error)
        counts.update(["tried", "refused"])
        return None
    counts.update(["tried", "worked"])
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def properly(examples: int = EXAMPLES) -> Callable[[Any], Any]:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=quiet)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    WORDS,
    st.just([]),
    st.dates(),
    st.lists(st.one_of(WORDS, st.integers(0, 3)), max_size=3),
    st.dictionaries(WORDS, WORDS, max_size=2),
)

# Prompts

LABELS = st.lists(st.one_of(st.sampled_from(EMOTIONS), WORDS), min_size=1, max_size=4)
SHOWN = st.fixed_dictionaries({"text": WORDS, "label": st.sampled_from(EMOTIONS[:3])})
PROMPTS = st.fixed_dictionaries(
    {"instruction": st.one_of(WORDS, WORDS, ODD)},
    optional=dict(
        name=st.one_of(st.just("my prompt"), ODD),
        demonstrations=st.one_of(st.lists(SHOWN, max_size=3), ODD),
        labels=st.one_of(LABELS, st.just(list(EMOTIONS)), ODD),
        separator=st.one_of(WORDS, ODD),
        another=ODD,
    ),
)


@properly()
@given(said=PROMPTS, damage=st.one_of(st.none(), st.none(), st.binary(max_size=4)), at=st.integers(0, 200))
def test_a_prompt_file_says_what_it_says_or_is_refused(
    said: dict[str, Any], damage: bytes | None, at: int, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yml"
    content = yaml.safe_dump(said).encode()  # with escapes: a raw U+0085 is the end of a line to YAML
    path.write_bytes(content if damage is None else content[:at] + damage + content[at:])
    prompt = trying("prompts", lambda: get_prompt(str(path)))
    assert files(tmp_path).keys() == {"mine.yml"}
    if prompt is not None and damage is None:
        shown = "".join(
            f"{prompt.opening}{pair['text']}{prompt.cue} {pair['label']}{said.get('separator', '')}"
            for pair in said.get("demonstrations", [])
        )
        assert prompt.render("TEXT") == f"{said['instruction']}{shown}{prompt.opening}TEXT{prompt.cue}"
        assert list(prompt.labels) == said.get("labels", list(EMOTIONS))


# Labels and answers


@properly()
@given(labels=st.lists(st.one_of(st.sampled_from([*EMOTIONS, *TINY_WORDS]), WORDS), max_size=6), scoring=WORDS)
def test_labels_have_tokens_of_their_own_or_are_refused(labels: list[str], scoring: str) -> None:
    tokenizer = word_tokenizer()
    for rule in (*SCORINGS, scoring):
        ids = trying("labels", lambda rule=rule: label_tokens(tokenizer, labels).ids(rule))
        if ids is not None:
            place = 0 if rule == "first_subtoken" else -1
            assert ids.tolist() == [tokenizer.encode(label, add_special_tokens=False)[place] for label in labels]
            assert len(set(ids.tolist())) == len(labels)


# Sites and edits

SPOTS = dict(
    components=st.lists(st.one_of(st.sampled_from(COMPONENTS), WORDS), max_size=2),
    span=st.one_of(st.sampled_from([1, 3, 5]), st.integers(-2, 9)),
    layers=st.one_of(st.none(), st.lists(st.one_of(st.integers(0, 4), st.integers(-9, 99)), max_size=3)),
    position=st.one_of(st.integers(-5, -1), st.just("all"), st.integers(-600, 3), WORDS),
)


@pytest.fixture(scope="module")
def engine(tiny_study: Any) -> Engine:
    prompts = [tiny_study.prompt.render(text) for text in tiny_study.events["text"][:3]]
    return Engine(tiny_study.model, prompts, list(EMOTIONS), keep=5)


@properly()
@given(data=st.data(), **{name: st.one_of(spot, spot, spot) for name, spot in SPOTS.items()})
def test_an_edit_anywhere_equals_plain_transformers_or_is_refused(
    engine: Engine, data: st.DataObject, components: list[Any], span: int, layers: Any, position: Any
) -> None:
    vectors = torch.randn(5, engine.model.width, generator=torch.Generator().manual_seed(0))
    operation = data.draw(st.sampled_from([Zero(), Noise(3), Add(vectors, 4.0)]))

    def found() -> Any:
        given = dict(components=components or None, span=span, layers=layers, position=position)
        edits = sweep(operation, engine.model, **given)
        edit = edits[data.draw(st.integers(0, len(edits) - 1))]
        logits = engine.forward([0, 1, 2], [edit]) if position == "all" else engine.replay(engine.encode(), [edit])
        return edit, logits[:, 0]

    if (came := trying("sites and edits", found)) is not None:
        edit, logits = came
        expected = torch.stack(
            [plain(engine.model, ids, edit, engine.answers, row=row) for row, ids in enumerate(engine.ids)]
        )
        assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


# Tables

CELLS = st.one_of(st.floats(), st.integers(-2, 10**18), st.none(), WORDS, st.sampled_from(["mlp_out", "-1", "zero"]))


@properly()
@given(data=st.data(), experiment=st.one_of(st.sampled_from(schemas.EXPERIMENTS), WORDS), n=st.integers(0, 4))
def test_a_table_comes_back_as_it_was_or_is_refused(
    data: st.DataObject, experiment: str, n: int, tmp_path: Path
) -> None:
    known = [*schemas.OWN.get(experiment, ()), "component", "layer", "span", "position", "n", "ci_low", "ci_high"]
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    rows = [
        dict(model="m", metric=f"m{i}", value=data.draw(st.one_of(st.floats(allow_nan=False), CELLS)))
        | {name: data.draw(CELLS) for name in chosen if data.draw(st.booleans())}
        for i in range(n)
    ]
    path = tmp_path / "one.parquet"
    path.unlink(missing_ok=True)
    about = data.draw(st.one_of(st.just({"a": 1}), st.dictionaries(WORDS, ODD, max_size=2)))
    frame = trying("tables", lambda: results.tidy(rows, experiment, n_layers=data.draw(st.integers(1, 9))))
    written = None if frame is None else trying("tables", lambda: results.write(frame, path, about))
    assert files(tmp_path).keys() == ({"one.parquet"} if written else set())
    if written:
        pd.testing.assert_frame_equal(results.read(path), frame)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    rows = [dict(layer=i, value=i / 7, metric="agreement", method="zero", model="m", n=9) for i in range(40)]
    path = tmp_path_factory.mktemp("table") / "ablation.parquet"
    return results.write(results.tidy(rows, "ablation", n_layers=40), path, {"a": 1}).read_bytes()


@properly()
@given(data=st.data())
def test_a_table_with_other_bytes_is_the_same_or_is_refused(data: st.DataObject, stored: bytes, tmp_path: Path) -> None:
    content, path = bytearray(stored), tmp_path / "ablation.parquet"
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    path.write_bytes(content)
    frame = trying("tables with other bytes", lambda: results.read(path))
    path.write_bytes(stored)
    if frame is not None:
        pd.testing.assert_frame_equal(frame, results.read(path))
        assert frame.attrs == results.read(path).attrs


# The parameters of a run

KNOWN = dict(
    model=["smollm2-135m", "smollm2-135m@random:3", "."],
    corpus=["situations", "mine.csv"],
    prompt=["T1-2shot", "question", "bare-chat"],
    calibration=["none", "batch"],
    scoring=["first_subtoken", "last_subtoken"],
    text=["masked", "original"],
    tap=["contribution", "module"],
    dtype=["float32", "mixed"],
    device=["cpu", "auto", "cuda:7", "ndif"],
    seed=["0", "7", str(2**32 - 1), str(2**53 + 1)],
    profile=["quick", "full"],
    corpus_path=["", "mine.csv", "nowhere"],
    only=["01_first", "02_second,01_first"],
    cores=["1", "0"],
)
ARGUMENTS = st.lists(
    st.sampled_from(sorted(KNOWN)).flatmap(
        lambda name: st.tuples(
            st.just(name), st.one_of(st.sampled_from(KNOWN[name]), st.sampled_from(KNOWN[name]), WORDS)
        )
    ),
    max_size=4,
    unique_by=lambda pair: pair[0],
)


@properly()
@given(arguments=ARGUMENTS, dry=st.booleans())
def test_a_command_is_the_run_that_was_asked_for_or_is_refused(
    arguments: list[tuple[str, str]],
    dry: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Run] = []
    if not (tmp_path / "Snakefile").is_file():
        made_up_checkout(tmp_path)
        (tmp_path / "mine.csv").write_text("emotion,text\njoy,a\njoy,b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "preflight_status", lambda *given: 0)
    monkeypatch.setattr(cli, "snakemake_status", lambda root, run, *given: asked.append(run) or 0)
    before = files(tmp_path)
    words = [word for name, value in arguments for word in (f"--{name.replace('_', '-')}", value)]
    status = cli.main(["run", *words])
    counts = SEEN.setdefault("parameters of a run", Counter())
    counts += Counter({"tried": 1, "refused" if status else "worked": 1})
    said = capsys.readouterr()
    assert status in (0, 1, 2) and ("emolib: " in said.err) == bool(status), said
    made = {name for name in files(tmp_path) if name not in before}
    assert made <= {".snakemake/emolib.lock"}, "nothing is written before Snakemake is called"
    if status == 0 and asked:
        values = {name: getattr(asked[-1], name) for name, _ in arguments if name in KNOWN and hasattr(asked[-1], name)}
        for name, value in arguments:
            if name in ("calibration", "scoring", "text", "tap", "dtype", "device", "seed", "profile"):
                assert str(values[name]) == value.strip()


# Folders of models

NAMES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "generation_config.json"]
NUMBERS = st.one_of(st.integers(-2, 70), st.integers(0, 10**6), st.floats(0, 2), ODD)


@pytest.fixture(scope="module")
def weights(tiny_folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(tiny_folder / "model.safetensors")


@properly(EXAMPLES if "EMOLIB_EXAMPLES" in os.environ else 10)  # each loads a model
@given(data=st.data())
def test_a_folder_of_a_model_is_loaded_as_it_is_or_refused(
    data: st.DataObject, tiny_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from emolib.engine.loading import load

    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tiny_folder, folder)
    if data.draw(st.booleans()):
        config = json.loads((folder / "config.json").read_text())
        for name in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=2)):
            config[name] = data.draw(NUMBERS.filter(lambda value: not isinstance(value, date)))
        (folder / "config.json").write_text(json.dumps(config))
    else:
        path = folder / data.draw(st.sampled_from([name for name in NAMES if (folder / name).is_file()]))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["missing", "cut", "changed"]))
        if kind == "missing":
            path.unlink()
        elif kind == "cut":
            path.write_bytes(content[:at])
        else:
            content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
            path.write_bytes(content)
    before = files(folder)
    model = trying("folders of models", lambda: load(str(folder), device="cpu"))
    assert files(folder) == before
    if model is not None and before["model.safetensors"] == (tiny_folder / "model.safetensors").read_bytes():
        state = model.hf.state_dict()
        assert all(torch.equal(state[name], value) for name, value in weights.items())

"""A run refuses what it does not know, and its slug tells apart what decides its numbers and nothing else."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emolib.engine import places
from emolib.study.run import OPTIONAL, REFERENCE, Run, public


@pytest.mark.parametrize(
    ("field", "given", "expected", "near"),
    [
        ("profile", "ful", "quick, full", "full"),
        ("dtype", "float23", "float32, bfloat16, float16", "float32"),
        ("dtype", "bf16", "float32, bfloat16, float16", "bfloat16"),
        ("calibration", "bach", "none, batch", "batch"),
        ("scoring", "last_token", "first_subtoken, last_subtoken", "last_subtoken"),
        ("text", "orginal", "masked, original", "original"),
        ("tap", "contributions", "contribution, module", "contribution"),
    ],
)
def test_a_misspelt_choice_is_refused_with_all_choices_and_the_nearest(
    field: str, given: str, expected: str, near: str
) -> None:
    message = rf"unknown {field} '{given}' \(did you mean '{near}'\?\): expected one of {expected}"
    with pytest.raises(ValueError, match=message):
        Run(**{field: given})


@pytest.mark.parametrize("given", [None, 3, "", ["full"]])
def test_a_choice_of_another_type_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="unknown profile .*: expected one of quick, full"):
        Run(profile=given)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True, 2**32, 2**53 + 1])
def test_a_seed_that_is_no_natural_number_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=rf"seed {seed!r}: expected a whole number from 0 to 4294967295"):
        Run(seed=seed)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:0 ", "ndif-"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(
        ValueError, match=f"unknown device '{device}': expected auto, cpu, mps, cuda, cuda:<number>, balanced or ndif"
    ):
        Run(device=device)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12", "ndif"])
def test_a_device_need_not_be_there_to_be_named(device: str) -> None:
    assert Run(device=device).device == device


def test_a_misspelt_prompt_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="T1-2sho.*T1-2shot"):
        Run(prompt="T1-2sho")


def test_a_model_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a Hugging Face id .owner/name., an existing folder"):
        Run(model=str(tmp_path / "nothing"))
    assert Run(model=str(tmp_path)).model == str(tmp_path)
    assert Run(model="owner/name").model == "owner/name"


def test_a_registered_model_need_not_be_installed_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert Run(model="smollm2-135m").model == "smollm2-135m"


def test_positional_arguments_and_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        Run("smollm2-135m")  # type: ignore[misc]
    with pytest.raises(TypeError, match="modle"):
        Run(modle="smollm2-135m")  # type: ignore[call-arg]


def test_a_run_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Run().seed = 1  # type: ignore[misc]


def test_the_empty_corpus_path_of_a_parameter_cell_means_none() -> None:
    assert Run(corpus_path="").corpus_path is None
    assert Run(corpus_path="") == Run()


def test_the_slug_is_the_one_that_results_are_committed_under() -> None:
    assert Run().slug == "smollm2-135m_situations_T1-2shot_batch_float32_s0_quick"
    assert REFERENCE.slug == "qwen2.5-coder-1.5b_crowd-envent_T1-2shot_batch_mixed_s0_full"
    odd = Run(scoring="last_subtoken", text="original", tap="module", dtype="bfloat16", seed=7, calibration="none")
    assert odd.slug == "smollm2-135m_situations_T1-2shot_none_last_subtoken_original_module_bfloat16_s7_quick"


CHANGES = dict(
    model="owner/name",
    corpus="crowd-envent",
    prompt="T2-2shot",
    calibration="none",
    scoring="last_subtoken",
    text="original",
    tap="module",
    dtype="bfloat16",
    seed=1,
    profile="full",
)


def test_every_field_that_decides_numbers_is_in_the_slug() -> None:
    slugs = {Run().slug, *(Run(**{field: value}).slug for field, value in CHANGES.items())}
    assert len(slugs) == 1 + len(CHANGES)


def test_every_field_is_either_in_the_slug_or_known_not_to_decide() -> None:
    # A field added to Run must be added to the slug, or here with a reason.
    not_deciding = {"device", "corpus_path"}  # where it is computed, and where the same corpus lies
    assert set(CHANGES) | not_deciding == {field.name for field in fields(Run)}
    assert set(OPTIONAL) <= set(CHANGES)
    assert Run(device="cuda").slug == Run(device="cpu").slug == Run().slug
    assert Run(device="ndif").slug != Run().slug  # its weights may be of another revision


def test_equal_file_names_in_different_folders_have_different_slugs(tmp_path: Path, save: Callable[..., Path]) -> None:
    slugs = []
    for name in ("one", "two"):
        (tmp_path / name / "model").mkdir(parents=True)
        file = save(pd.DataFrame({"emotion": ["joy"], "text": ["I won."]}), tmp_path / name / "events.csv")
        slugs.append((Run(model=str(tmp_path / name / "model")).slug, Run(corpus=str(file)).slug))
    (first_model, first_corpus), (second_model, second_corpus) = slugs
    assert first_model != second_model
    assert first_corpus != second_corpus
    assert first_model.startswith("model-")
    assert first_corpus.split("_")[1].startswith("events-")


def test_a_relative_and_an_absolute_path_to_one_file_have_one_slug(
    tmp_path: Path, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(pd.DataFrame({"emotion": ["joy"], "text": ["I won."]}), tmp_path / "events.csv")
    monkeypatch.chdir(tmp_path)
    assert Run(corpus="events.csv").slug == Run(corpus="./events.csv").slug == Run(corpus=str(file)).slug


def test_a_twin_and_a_revision_are_runs_of_their_own(tmp_path: Path) -> None:
    assert Run(model="smollm2-135m@random:3").slug == Run().slug.replace("135m", "135m-random-3")
    names = ["smollm2-135m", "owner/name", str(tmp_path)]
    runs = [*names, *(f"{name}@random:{seed}" for name in names for seed in (0, 1)), "owner/name@v2"]
    assert len({Run(model=name).slug for name in runs}) == len(runs)
    with pytest.raises(ValueError, match="expected a whole number behind @random:"):
        Run(model="smollm2-135m@random:x")


NASTY = (
    "x$(touch PWNED)",
    "x`touch PWNED`",
    'it\'s "quoted"',
    "a & b | c; d > e",
    "{braces} {0} {{x}}",
    "%s %(x)s ${HOME}",
    "-rf --help",
    ".hidden",
    "<script>alert(1)</script>".replace("/", "\N{FRACTION SLASH}"),
    "*?[a-z]~#!\\",
    "blank  at end ",
    "Ünïcode 模型",
    "n" * 200,
)


@pytest.mark.parametrize("name", NASTY)
def test_any_name_makes_a_slug_of_safe_characters_and_a_public_name_that_says_no_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.VARIABLE, "")
    for field, file in (("model", name), ("corpus", f"{name}.csv"), ("prompt", f"{name}.yml")):
        path = tmp_path / file
        path.mkdir() if field == "model" else path.write_text("instruction: say it")
        run = Run(**{field: str(path)}, seed=3)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}", run.slug)
        shown = run.public
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*-[0-9a-f]{6}|[0-9a-f]{6}", shown[field])
        assert "tmp" not in str(shown) and run.places == {shown[field]: str(path)}
        assert shown | {field: None} == run.parameters() | {field: None}
        places.tell(run.places)  # as whoever starts a notebook does
        inside = Run(**shown)
        assert inside.slug == run.slug and inside.load_prompt().instruction == run.load_prompt().instruction
        assert inside.public == shown and inside.places == run.places


def test_a_public_name_follows_what_a_file_holds_and_not_where_it_lies(tmp_path: Path) -> None:
    names = []
    for folder, content in (("one", "a"), ("two", "a"), ("three", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.csv").write_text(content)
        names.append(Run(corpus=str(tmp_path / folder / "my.csv")).public["corpus"])
    assert names[0] == names[1] != names[2] and names[0] == f"my-{hashlib.sha256(b'a').hexdigest()[:6]}"
    (tmp_path / "three" / "my.csv").unlink()
    gone = public(Run(corpus=str(tmp_path / "three" / "my.csv")).parameters())["corpus"]
    assert gone.startswith("my-") and len(gone) == len(names[0])


def test_two_ids_never_share_a_slug_and_what_must_not_be_a_name_is_refused(tmp_path: Path) -> None:
    alike = ["a/b-c", "a-b/c", "a/b_c", "a/b.c", "a_b/c", "a/b-c@v1", "a/b-c@random:1", "a/b-c-random-1"]
    assert len({Run(model=name).slug for name in alike}) == len(alike)
    wrong = ["a/b c", "a/b\n", "a/\N{RIGHT-TO-LEFT OVERRIDE}b", "a/b\0", "a/b\N{ZERO WIDTH SPACE}", "a/$(b)", "a/b@v 1",
             "a/b@$(x)", "-a/b", "a/b/c", "../b", "a/" + "b" * 97, "a/b@random:4294967296", "a/b@random:٣"]  # fmt: skip
    for name in wrong:
        with pytest.raises(ValueError, match="model"):
            Run(model=name)
    for field in ("corpus", "prompt", "corpus_path"):
        with pytest.raises(ValueError, match=rf"{field} .* holds U\+202E"):
            Run(**{field: "x\N{RIGHT-TO-LEFT OVERRIDE}.csv"})
        with pytest.raises(ValueError, match=f"{field} 3: expected a name"):
            Run(**{field: 3})


def test_a_known_name_stays_itself_where_a_folder_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Run().slug
    monkeypatch.chdir(tmp_path)
    for name in ("smollm2-135m", "situations", "T1-2shot"):
        (tmp_path / name).mkdir()
    assert Run().slug == usual and Run().public == Run().parameters()


def test_an_instruction_that_reads_like_a_path_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for said in ("/r/AskReddit/ says:", "~/mine", "see /data/mine/x"):
        (tmp_path / "mine.yml").write_text(f"instruction: {said!r}")
        with pytest.raises(ValueError, match="reads like a path"):
            Run(prompt=str(tmp_path / "mine.yml"))


@pytest.mark.workflow
def test_a_slug_does_not_depend_on_the_process_or_its_folder(tmp_path: Path) -> None:
    code = "from emolib.study.run import Run; print(Run(model='owner/name', seed=3).slug)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Run(model="owner/name", seed=3).slug


def test_parameters_make_the_same_run_again(tiny_run: Run) -> None:
    assert Run(**tiny_run.parameters()) == tiny_run
    assert replace(tiny_run, seed=4).parameters() == tiny_run.parameters() | {"seed": 4}


def test_a_run_gives_its_corpus_and_prompt(tiny_run: Run) -> None:
    assert len(tiny_run.load_corpus().events) == 150
    assert tiny_run.load_prompt().name == "T1-2shot"


def test_a_corpus_that_cannot_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no corpus called 'situatons' \(did you mean 'situations'\?\)"):
        Run(corpus="situatons")
    assert Run(corpus="my.csv").corpus == "my.csv"  # its absence is found when it is read, before any model is


def test_a_name_with_a_dot_is_no_file(tmp_path: Path) -> None:
    assert re.match(
        r"meta-llama-Llama-3\.2-1B-Instruct-[0-9a-f]{6}_", Run(model="meta-llama/Llama-3.2-1B-Instruct").slug
    )
    (tmp_path / "Llama-3.2-1B").mkdir()
    assert Run(model=str(tmp_path / "Llama-3.2-1B")).slug.startswith("Llama-3.2-1B-")

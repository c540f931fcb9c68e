"""A study against plain transformers; what an interrupted pass leaves; which stored tables are used again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from emolib import stats
from emolib.engine.edits import Add, Edit, Noise, Zero
from emolib.engine.engine import Engine
from emolib.engine.layouts import unwrap
from emolib.engine.oracle import plain
from emolib.engine.registry import locate
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model
from emolib.engine.weights import described
from emolib.experiments.attention.reading import tokenize
from emolib.stats import sampling, scores
from emolib.study import freshness, shards, study
from emolib.study.clean import KEEP, WORD_TOKENS, Clean
from emolib.study.run import REFERENCE, Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.provenance import local_paths
from emolib.texts import sources
from emolib.texts.corpus import EMOTIONS
from emolib.texts.prompts import get_prompt
from helpers import TINY_TEXTS, TINY_WRITERS, word_tokenizer

Fresh = Callable[..., Study]


@pytest.fixture
def fresh(tiny_run: Run, tiny_study: Study, tmp_path: Path) -> Fresh:
    """A function that opens the run anew in a folder of the test, with the model that is already loaded."""

    def open_study(folder: Path = tmp_path, **changes: Any) -> Study:
        model = changes.pop("weights", tiny_study.model)
        return Study(replace(tiny_run, **changes), model=model, folder=folder)

    return open_study


@pytest.fixture(scope="module")
def plain_logits(tiny_study: Study, plain_llama: Any) -> torch.Tensor:
    """Next-token logits [N, vocabulary] of each prompt, one unpadded pass of plain transformers each."""
    model, tokenizer = plain_llama
    prompts = [tiny_study.prompt.render(text) for text in tiny_study.events["text"]]
    with torch.no_grad():
        return torch.stack([model(tokenizer(p, return_tensors="pt")["input_ids"]).logits[0, -1] for p in prompts])


@pytest.fixture
def encoded(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that any engine encodes from now on, the model's own checks being done."""
    assert tiny_study.model
    sizes, encode = [], Engine.encode

    def counting(self: Engine, rows: list[int], **settings: Any) -> Any:
        sizes.append(len(rows))
        return encode(self, rows, **settings)

    monkeypatch.setattr(Engine, "encode", counting)
    return sizes


# The clean pass.


def test_opening_a_study_loads_no_model(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load", None)
    opened = Study(tiny_run, folder=tmp_path)
    assert opened.truth.tolist() == [i % len(EMOTIONS) for i in range(TINY_TEXTS)]
    assert opened.groups.tolist() == [i % TINY_WRITERS for i in range(TINY_TEXTS)]
    assert not any(tmp_path.iterdir())


def test_labels_that_share_a_token_are_refused_before_any_weight_is_loaded(
    tiny_folder: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    words = (folder / "tokenizer.json").read_text()
    for label in ("shame", "trust"):  # both become the unknown word
        words = words.replace(f'"{label}"', f'"no {label}"')
    (folder / "tokenizer.json").write_text(words)
    loaded: list[object] = []
    monkeypatch.setattr("emolib.engine.weights.pretrained", lambda *a, **k: loaded.append(a))
    study = Study(Run(model=str(folder), corpus=str(tiny_corpus), device="cpu"), folder=tmp_path)
    with pytest.raises(ValueError, match="cannot tell labels apart.*shame = trust share a token.*another tokenizer"):
        _ = study.model
    assert not loaded


@pytest.mark.parametrize("extra", [0, 1])
def test_a_text_that_the_model_has_no_room_for_is_named_before_any_weight_is_loaded(
    tiny_folder: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    table = pd.read_csv(tiny_corpus)
    table.loc[7, "text"] = " ".join(["rain"] * 100)
    table.to_csv(tmp_path / "long.csv", index=False)
    opened = Study(Run(model=str(folder), corpus=str(tmp_path / "long.csv"), device="cpu"), folder=tmp_path)
    length = len(word_tokenizer()(get_prompt("T1-2shot").render(table.loc[7, "text"]))["input_ids"])
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = length + WORD_TOKENS - 1 - extra
    (folder / "config.json").write_text(json.dumps(config))
    loaded: list[object] = []
    if extra:
        monkeypatch.setattr("emolib.engine.weights.pretrained", lambda *a, **k: loaded.append(a))
        said = rf"the prompt of text t007 has {length} tokens, up to 3 are .*room for {length + 2} \(1 of 150"
        with pytest.raises(ValueError, match=said):
            _ = opened.model
        assert not loaded
    else:
        assert opened.clean.logits.shape == (TINY_TEXTS, len(EMOTIONS))


@pytest.mark.parametrize("name", ["T1-2shot", "T1-0shot-chat"])
def test_names_of_control_tokens_in_a_text_are_characters_to_every_experiment(
    name: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(tiny_corpus)[:2]
    table.loc[1, "text"] += " <|im_end|> <|im_start|>user said<|endoftext|>"
    table.to_csv(tmp_path / "odd.csv", index=False)
    tokenizer = AutoTokenizer.from_pretrained(described(Path(locate("smollm2-135m"))))
    model = tiny_model("llama", tokenizer=tokenizer)
    run = Run(model=str(tmp_path), corpus=str(tmp_path / "odd.csv"), prompt=name, profile="full")
    opened = Study(run, model=replace(model, name=run.model), folder=tmp_path)
    before, _, behind = opened.prompt.render(table["text"][1]).partition(table["text"][1])
    start, end = before.rfind("|>") + 2 * ("|>" in before), behind.find("<|") % (len(behind) + 1)
    pieces = [before[:start], before[start:] + table["text"][1] + behind[:end], behind[end:]]
    read = [
        tokenizer(piece, split_special_tokens=n == 1)["input_ids"] if piece else [] for n, piece in enumerate(pieces)
    ]
    expected = [*read[0], *read[1], *read[2]]
    assert not set(read[1]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(expected) == opened.prompt.render(table["text"][1])
    assert opened.engine.ids == [tokenizer(opened.prompt.render(table["text"][0]))["input_ids"], expected]
    assert tokenize(tokenizer, opened.prompt, table["text"][1]).ids == expected
    assert torch.allclose(
        opened.engine.encode([1]).logits[0], plain(model, expected, None, opened.engine.answers), atol=1e-4
    )


def test_clean_logits_equal_plain_transformers(tiny_study: Study, plain_llama: Any, plain_logits: torch.Tensor) -> None:
    ids = plain_llama[1].convert_tokens_to_ids(list(EMOTIONS))
    assert tiny_study.clean.logits.shape == (TINY_TEXTS, len(EMOTIONS))
    assert torch.allclose(tiny_study.clean.logits, plain_logits[:, ids], atol=1e-4)
    assert torch.allclose(tiny_study.clean.sums, plain_logits.log_softmax(-1)[:, ids], atol=1e-4)


def test_words_are_the_first_greedy_word(tiny_study: Study, plain_llama: Any, plain_logits: torch.Tensor) -> None:
    # Tokens are words here; a special token or a mark of punctuation gives way to what follows it.
    words = [plain_llama[1].decode(token) for token in plain_logits.argmax(-1)]
    plain = [(word.lower(), found) for word, found in zip(words, tiny_study.clean.words, strict=True) if word.isalpha()]
    assert len(plain) > TINY_TEXTS // 2
    assert all(word == found for word, found in plain)


def test_predicted_and_agreed_by_hand(tiny_study: Study, plain_llama: Any, plain_logits: torch.Tensor) -> None:
    logits = plain_logits[:, plain_llama[1].convert_tokens_to_ids(list(EMOTIONS))].numpy()
    predicted = [int(np.argmax(row - logits.mean(axis=0))) for row in logits]
    assert tiny_study.predicted.tolist() == predicted
    agreed = [i for i, label in enumerate(tiny_study.events["emotion"]) if EMOTIONS[predicted[i]] == label]
    assert tiny_study.agreed.tolist() == agreed
    assert 0 < len(agreed) < TINY_TEXTS


def test_without_calibration_the_highest_logit_answers(fresh: Fresh) -> None:
    opened = fresh(calibration="none")
    assert opened.predicted.tolist() == opened.clean.logits.argmax(-1).tolist()
    assert not opened.offsets.any()


def test_activations_equal_hooks_at_every_site(tiny_study: Study) -> None:
    model = tiny_study.model
    found = {
        (component, layer, position): tiny_study.activations(component, layer, position)
        for component in COMPONENTS
        for layer in range(model.n_layers)
        for position in range(-KEEP, 0)
    }
    for row in (0, 7, 99, TINY_TEXTS - 1):
        ids = model.tokenizer(tiny_study.prompt.render(tiny_study.events["text"][row]), return_tensors="pt")
        for component in COMPONENTS:
            for layer, module in enumerate(model.modules(component, view=model.hf)):
                seen: list[torch.Tensor] = []
                handle = module.register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(unwrap(output)[0]))
                with torch.no_grad():
                    model.hf(ids["input_ids"])
                handle.remove()
                for position in range(-KEEP, 0):
                    here = found[component, layer, position][row]
                    assert torch.allclose(here, seen[0][position], atol=1e-4), (component, layer, position)


def test_stacked_is_every_layer_of_the_last_token(tiny_study: Study) -> None:
    stacked = tiny_study.stacked("mlp_out")
    assert stacked.shape == (5, TINY_TEXTS, 32)
    for layer in range(5):
        assert torch.equal(stacked[layer], tiny_study.activations("mlp_out", layer))


# Shards.


def test_a_second_study_reads_what_the_first_left(fresh: Fresh, encoded: list[int]) -> None:
    first = fresh().clean
    assert sum(encoded) == TINY_TEXTS
    assert len(encoded) == 3  # 64 texts at most in each
    encoded.clear()
    second = fresh().clean
    assert encoded == []
    assert torch.equal(first.logits, second.logits) and first.words == second.words


def test_a_lost_shard_is_computed_again_and_no_other(fresh: Fresh, encoded: list[int]) -> None:
    first = fresh()
    logits, site = first.clean.logits, first.activations("attn_out", 2, -3)
    others = {shard.path: shard.path.stat().st_mtime_ns for shard in first.clean_pass.shards}
    lost = first.clean_pass.shards[1].path
    lost.unlink()
    del others[lost]
    encoded.clear()
    second = fresh()
    assert torch.equal(second.clean.logits, logits)
    assert torch.equal(second.activations("attn_out", 2, -3), site)
    assert encoded == [64]
    assert all(file.stat().st_mtime_ns == time for file, time in others.items())


@pytest.mark.parametrize(
    "fault",
    [
        "a bit",
        "numbers",
        "the end",
        "the head",
        "another shard",
        "all of another",
        "nothing in it",
        "checksums",
        "names",
    ],
)
def test_a_damaged_shard_is_never_used(
    fresh: Fresh, encoded: list[int], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both passes: it is named, computed anew, and what is read is what was read before."""
    first = fresh()
    edits = some_edits(first.model)
    logits, site = first.clean.logits, first.activations("mlp_out", 1, -2)
    answers = first.intervene(edits, range(TINY_TEXTS), name="edits")
    damaged = [first.clean_pass.shards[1].path, max(first.folder.glob("cache/edits-*/*.safetensors"))]
    for path in damaged:
        _damage(path, fault)
    capsys.readouterr()
    second = fresh()
    assert torch.equal(second.activations("mlp_out", 1, -2), site) and torch.equal(second.clean.logits, logits)
    assert torch.allclose(second.intervene(edits, range(TINY_TEXTS), name="edits"), answers, atol=1e-5)
    assert capsys.readouterr().err.count("it is computed anew") == 2
    third = fresh()
    assert torch.equal(third.clean.logits, logits) and "anew" not in capsys.readouterr().err


def _damage(path: Path, fault: str) -> None:
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    if fault in ("a bit", "numbers"):
        # In every tensor, so in the one that is read first as well.
        width = 1 if fault == "a bit" else 4
        places = range(head, len(whole), 64)
        changed = bytearray(whole)
        for place in places:
            changed[place : place + width] = bytes([changed[place] ^ 16]) if width == 1 else b"\0\0\xc0\x7f"
        path.write_bytes(bytes(changed[: len(whole)]))
    elif fault in ("another shard", "all of another"):
        other = next(file for file in sorted(path.parent.glob("*.safetensors")) if file != path)
        path.write_bytes(other.read_bytes()[:head] + whole[head:] if fault == "another shard" else other.read_bytes())
    elif fault in ("checksums", "names"):  # of the same length, so that the head can be read
        old, new = {"checksums": (b'{\\"', b'(\\"'), "names": (b"logits", b"logitz")}[fault]
        path.write_bytes(whole[:head].replace(old, new) + whole[head:])
    else:
        path.write_bytes({"the end": whole[:-40], "the head": whole[20:], "nothing in it": b""}[fault])


def test_what_was_read_in_other_batches_is_read_anew(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when an interrupted pass goes on with another version, which puts other texts together."""
    first = fresh()
    logits = first.clean.logits
    first.clean_pass.shards[0].path.unlink()
    capsys.readouterr()
    monkeypatch.setattr(study, "Engine", partial(Engine, max_texts=40))
    second = fresh()
    assert [len(batch) for batch in second.engine.batches()] == [40, 40, 40, 30]
    assert torch.allclose(second.clean.logits, logits, atol=1e-5)
    assert capsys.readouterr().err.count("is of other texts: it is computed anew") == 2


def test_values_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    shard = shards.Shard(tmp_path / "one.safetensors", lambda: {"logits": torch.tensor([[1.0, torch.nan]])})
    with pytest.raises(RuntimeError, match="gives logits that are no numbers"):
        shard.keep()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["a value", "another experiment", "another seed", "another profile", "cut", "empty"])
def test_a_table_that_is_not_the_runs_is_measured_anew(fresh: Fresh, fault: str) -> None:
    opened = fresh()
    opened.measure(Experiment(0.5))
    path = stored(opened)
    table = pq.read_table(path)
    if fault == "a value":
        changed = table.set_column(table.column_names.index("value"), "value", [[0.75] * len(table)])
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    elif fault in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: -100 if fault == "cut" else 0])
    else:
        other = fresh(**{"another seed": dict(seed=1), "another profile": dict(profile="full")}.get(fault, {}))
        other.measure(Experiment(0.75))
        path.write_bytes(stored(other).read_bytes())
        if fault == "another experiment":
            frame = results.tidy([dict(metric="transfer", value=0.75)], experiment="patching", model="other")
            results.write(frame, path, results.read(path).attrs["provenance"])
    assert fresh().measure(Experiment(0.25))["value"][0] == 0.25


def test_an_interrupted_pass_goes_on_where_it_stopped(
    fresh: Fresh, encoded: list[int], tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = shards.save_file, []

    def stop(tensors: Any, path: Path, **settings: Any) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        save(tensors, path, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            fresh().clean  # noqa: B018
    assert len(saved) == 2
    encoded.clear()
    assert torch.equal(fresh().clean.logits, tiny_study.clean.logits)
    assert encoded == [TINY_TEXTS - 2 * 64]


def test_a_shard_that_was_not_finished_does_not_count(
    fresh: Fresh, encoded: list[int], tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_tensors: Any, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "save_file", full_disk)
        with pytest.raises(OSError, match="no space left"):
            fresh().clean  # noqa: B018
    assert not [file for file in fresh().folder.rglob("*") if file.is_file()]
    encoded.clear()
    found = fresh().clean
    assert sum(encoded) == TINY_TEXTS
    assert torch.equal(found.logits, tiny_study.clean.logits)


BEGINS = """
import sys, time
from pathlib import Path
import torch
from emolib.study import shards

save = shards.save_file

def slow(tensors, path, **options):
    save(tensors, path, **options)
    print("begun", flush=True)
    time.sleep(600)

shards.save_file = slow
shards.Shard(Path(sys.argv[1]), lambda: {"rows": torch.arange(3)}).keep()
"""


def test_what_a_killed_process_had_begun_is_gone_a_day_later(fresh: Fresh, tmp_path: Path, tiny_study: Study) -> None:
    folder = tmp_path / "cache" / "clean-of-another-run"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", BEGINS, folder / "0.safetensors"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout and writer.stdout.readline() == b"begun\n"
        writer.kill()
    (begun,) = folder.iterdir()
    for hours, left in ((23, [begun]), (25, [])):
        os.utime(begun, (time.time() - 3600 * hours,) * 2)
        assert torch.equal(fresh().clean.logits, tiny_study.clean.logits)
        assert [*folder.iterdir()] == left


def test_runs_that_differ_share_no_shard(fresh: Fresh, encoded: list[int]) -> None:
    fresh().clean  # noqa: B018
    encoded.clear()
    other = fresh(prompt="T2-2shot")
    assert not torch.equal(other.clean.logits, fresh().clean.logits)
    assert sum(encoded) == TINY_TEXTS
    assert not set(other.clean_pass.shards) & set(fresh().clean_pass.shards)


def test_another_protocol_of_the_engine_reads_anew(
    fresh: Fresh, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh().clean  # noqa: B018
    encoded.clear()
    monkeypatch.setattr(freshness, "ENGINE_PROTOCOL", 2)
    fresh().clean  # noqa: B018
    assert sum(encoded) == TINY_TEXTS


def test_a_changed_corpus_file_reads_anew(fresh: Fresh, encoded: list[int], tiny_corpus: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    table = pd.read_csv(tiny_corpus)
    table.to_csv(mine, index=False)
    before = fresh(corpus=str(mine)).clean.logits
    table.loc[0, "text"] = "everyone laughed twice before rain"
    table.to_csv(mine, index=False)
    encoded.clear()
    after = fresh(corpus=str(mine)).clean.logits
    assert sum(encoded) == TINY_TEXTS
    assert (before != after).any(dim=1)[0]
    assert torch.allclose(before[1:], after[1:], atol=1e-4)


def test_a_study_never_mixes_two_files(fresh: Fresh, crowd_table: pd.DataFrame, tmp_path: Path) -> None:
    """A run with another column of the text reads its corpus again; a command begins with one, and so do its parts."""
    mine = tmp_path / "mine.csv"
    table = crowd_table.assign(generated_text="everyone laughed twice", hidden_emo_text="everyone laughed")
    table.to_csv(mine, index=False)
    opened = fresh(corpus=str(mine))
    with opened.run.begun(opened.corpus.sha256):
        assert len(opened.variant(text="original").events) == len(table)
        before = opened.measure(Experiment())
        table.assign(emotion="joy").to_csv(mine, index=False)
        for refused in (
            lambda: opened.variant(text="original"),
            lambda: fresh(corpus=str(mine)),
            lambda: freshness.measured(opened.run, Experiment(), folder=opened.folder),
        ):
            with pytest.raises(RuntimeError, match="^the texts of mine.* were changed while a run was at work"):
                refused()
    with pytest.raises(RuntimeError, match="two files would be mixed"):
        opened.variant(text="original")
    assert set(fresh(corpus=str(mine)).events["emotion"]) == {"joy"}, "what begins now has the texts as they are"
    assert before.attrs["provenance"]["corpus_sha256"] == opened.corpus.sha256


# Interventions.


def some_edits(model: Any) -> list[Edit]:
    vectors = torch.randn(model.n_layers, model.width, generator=torch.Generator().manual_seed(0))
    return [
        Edit(component="resid_post", layers=(1,), operation=Noise(0)),
        Edit(component="mlp_out", layers=(1, 2, 3), operation=Zero()),
        Edit(component="attn_out", layers=(0,), operation=Add(vectors, 5.0), position=-2),
        Edit(component="resid_post", layers=(4,), operation=Add(vectors, 3.0)),
    ]


def test_interventions_equal_the_engine_text_by_text(fresh: Fresh) -> None:
    opened = fresh()
    edits, rows = some_edits(opened.model), [149, 3, 77, 20, 4, 111]
    found = opened.intervene(edits, rows, name="edits")
    assert found.shape == (len(rows), len(edits), len(EMOTIONS))
    for index, row in enumerate(rows):
        logits = opened.engine.replay(opened.engine.encode([row]), edits)[0]
        assert torch.allclose(found[index], logits, atol=1e-4)
        assert opened.decide(found[index]).tolist() == (logits - opened.offsets).argmax(-1).tolist()
    assert (opened.decide(found) != opened.predicted[rows][:, None]).any(axis=0).all()


def test_an_edit_that_changes_nothing_leaves_the_clean_answers(fresh: Fresh) -> None:
    opened = fresh()
    nothing = Add(torch.zeros(opened.model.n_layers, opened.model.width))
    edits = [Edit(component="mlp_out", layers=(2,), operation=nothing)]
    found = opened.intervene(edits, range(TINY_TEXTS), name="edits")
    assert torch.allclose(found[:, 0], opened.clean.logits, atol=1e-4)
    assert np.array_equal(opened.decide(found)[:, 0], opened.predicted)


def test_interrupted_interventions_go_on_where_they_stopped(
    fresh: Fresh, encoded: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = list(range(TINY_TEXTS))
    whole = fresh(tmp_path / "whole")
    expected = whole.intervene(some_edits(whole.model), rows, name="edits")
    opened = fresh(tmp_path / "broken")
    edits = some_edits(opened.model)
    opened.offsets  # noqa: B018 - the clean pass is another matter
    encoded.clear()
    replay = Engine.replay

    def fail_at_the_third(self: Engine, *arguments: Any) -> torch.Tensor:
        if len(encoded) == 3:
            raise RuntimeError("interrupted")
        return replay(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "replay", fail_at_the_third)
        with pytest.raises(RuntimeError, match="interrupted"):
            opened.intervene(edits, rows, name="edits")
    encoded.clear()
    again = fresh(tmp_path / "broken")
    assert torch.equal(again.intervene(edits, rows, name="edits"), expected)
    assert encoded == [TINY_TEXTS - 2 * 64]
    encoded.clear()
    assert torch.equal(again.intervene(edits, rows, name="edits"), expected)
    assert encoded == []


def test_answers_of_other_texts_or_edits_are_not_taken(fresh: Fresh, encoded: list[int]) -> None:
    opened = fresh()
    edits, others = some_edits(opened.model), some_edits(opened.model)
    others[0] = replace(others[0], operation=Noise(1))
    found = opened.intervene(edits, [0, 1, 2], name="edits")
    for rows, changed in (([0, 1, 3], edits), ([0, 1, 2], edits[:2]), ([0, 1, 2], others)):
        encoded.clear()
        opened.intervene(changed, rows, name="edits")
        assert encoded == [3]
    encoded.clear()
    assert torch.equal(fresh().intervene(some_edits(opened.model), [0, 1, 2], name="another name"), found)
    assert encoded == []


def test_many_edits_are_kept_in_several_shards(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fresh()
    edits, rows = some_edits(opened.model), [5, 1, 9]
    expected = opened.intervene(edits, rows, name="edits")
    monkeypatch.setattr(study, "EDITS_AT_ONCE", 2)
    apart = fresh(opened.folder / "apart")
    assert torch.allclose(apart.intervene(edits, rows, name="edits"), expected, atol=1e-5)
    assert len(list((opened.folder / "apart" / "cache").glob("edits-*/*.safetensors"))) == 2


def test_repeated_rows_are_refused(fresh: Fresh) -> None:
    opened = fresh()
    with pytest.raises(ValueError, match="rows repeat"):
        opened.intervene(some_edits(opened.model), [1, 2, 1], name="edits")


# Other tasks on the same model.


def test_a_variant_is_the_study_of_its_own_texts_and_prompt(fresh: Fresh) -> None:
    opened, rows = fresh(), [4, 77, 3, 140]
    assert torch.allclose(opened.variant(rows=rows).clean.logits, opened.clean.logits[rows], atol=1e-4)
    other = opened.variant(rows=rows, prompt=get_prompt("T2-2shot"))
    assert other.model is opened.model
    assert torch.allclose(other.clean.logits, fresh(prompt="T2-2shot").clean.logits[rows], atol=1e-4)
    assert other.truth.tolist() == opened.truth[rows].tolist()
    assert torch.allclose(other.variant(rows=[2]).clean.logits, other.clean.logits[[2]], atol=1e-4)
    # Calibration is the variant's own: fitted on its texts.
    assert torch.allclose(other.offsets, other.clean.logits.mean(0))


def test_answers_to_what_is_said_behind_texts_are_those_of_plain_transformers(fresh: Fresh, plain_llama: Any) -> None:
    opened, rows = fresh(calibration="batch"), [77, 4, 140, 3]
    notes = [
        " The rain was loud.",
        " Rain.",
        " Everyone waited outside before dinner, and nobody laughed quietly twice.",
    ]
    hf, tokenizer = plain_llama
    ids = [tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in EMOTIONS]
    for some in (notes, notes[:1]):
        found, expected = opened.answers_to(some, rows, name="said"), np.empty((len(rows), len(some)), dtype=int)
        for index, row in enumerate(rows):
            for column, note in enumerate(some):
                text = opened.prompt.prefix + opened.events["text"][row] + note + " Answer:"
                with torch.no_grad():
                    logits = hf(**tokenizer(text, return_tensors="pt")).logits[0, -1]
                expected[index, column] = (logits[ids] - opened.offsets).argmax()
        assert found.tolist() == expected.tolist()
        assert (found != opened.predicted[rows][:, None]).any()  # else the note was not read
    again = opened.answers_to(notes[:1], rows, name="said")
    assert again.tolist() == found.tolist()


def test_what_is_read_under_edits_is_in_the_order_of_the_rows(fresh: Fresh) -> None:
    opened, rows = fresh(), [77, 4, 140, 3]
    push = Add(torch.ones(opened.model.n_layers, opened.model.width), 0.5)
    edits = [Edit(component="resid_post", layers=(1, layer), operation=push) for layer in (1, 2)]
    found = opened.read_under(edits, rows, "resid_post", 2)
    for index, row in enumerate(rows):
        alone = opened.engine.read_under(opened.engine.encode([row]), edits, "resid_post", 2)[0]
        assert torch.allclose(found[index], alone, atol=1e-4)
    clean = opened.activations("resid_post", 2)[rows].float()
    assert not torch.allclose(found[:, 0], clean, atol=1e-2)


def test_a_task_with_other_answers_needs_the_right_ones(fresh: Fresh) -> None:
    opened = fresh()
    control = replace(opened.prompt, name="control", labels=("joy", "fear"))
    with pytest.raises(ValueError, match="prompt 'control' asks for joy, fear, not for emotions"):
        opened.variant(rows=[0, 1], prompt=control)
    asked = opened.variant(rows=[3, 8], prompt=control, truth=np.array([1, 0]))
    ids = [EMOTIONS.index(word) for word in asked.words]
    assert torch.allclose(asked.clean.logits, opened.clean.logits[[3, 8]][:, ids], atol=1e-4)
    assert asked.truth.tolist() == [1, 0]
    with pytest.raises(ValueError, match="an experiment on emotions needs another prompt"):
        fresh(prompt="first_word")


# What experiments are given.


def test_layers_end_with_the_last_and_keep_to_those_wanted(fresh: Fresh) -> None:
    opened = fresh()
    assert (opened.layers(), opened.layers(2), opened.layers(3)) == ([0, 1, 2, 3, 4], [0, 2, 4], [1, 4])
    few = Study(opened.run, model=opened.model, folder=opened.folder, only_layers=[3, 4])
    assert (few.layers(), few.layers(2), few.variant(rows=[0, 1]).layers()) == ([3, 4], [4], [3, 4])


def test_an_interval_resamples_the_writers_of_its_texts_with_the_seed_of_the_run(fresh: Fresh) -> None:
    opened, rows = fresh(seed=7), np.arange(40, 90)
    right = scores.mean((opened.predicted == opened.truth)[rows].astype(float)[:, None])
    expected = stats.bootstrap(right, opened.groups[rows], seed=7, n_resamples=100)
    found = opened.interval(right, rows, n_resamples=100)
    assert (found.value, found.ci_low, found.ci_high) == (expected.value, expected.ci_low, expected.ci_high)


def test_a_model_that_is_not_the_runs_is_refused(fresh: Fresh, tiny_run: Run) -> None:
    model = fresh().model
    for change in (dict(dtype="bfloat16"), dict(tap="module"), dict(model="smollm2-135m")):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f"has {name} .*the run says '{value}'.*give a run with {name}="):
            Study(replace(tiny_run, **change), model=model)


def test_texts_and_answers_can_be_given(fresh: Fresh, tiny_run: Run, encoded: list[int], tmp_path: Path) -> None:
    corpus = replace(tiny_run.load_corpus(), events=tiny_run.load_corpus().events.head(20))
    logits = torch.randn(20, 13, generator=torch.Generator().manual_seed(1))
    clean = Clean(logits=logits, sums=logits, words=["joy"] * 20)
    opened = Study(tiny_run, corpus=corpus, clean=clean, agreed=[2, 5], folder=tmp_path)
    assert opened.predicted.tolist() == (logits - logits.mean(0)).argmax(-1).tolist()
    assert opened.agreed.tolist() == [2, 5] and len(opened.truth) == 20 and encoded == []
    with pytest.raises(ValueError, match="part of a run.*would stand for the whole"):
        opened.measure(Experiment())


# Tables.


class Experiment(SimpleNamespace):
    """Stands for a package of experiments; `run` counts its calls."""

    def __init__(self, value: float = 0.5, protocol: int = 1, **settings: Any) -> None:
        super().__init__(__name__="emolib.experiments.ablation", PROTOCOL=protocol, calls=0, value=value, **settings)

    def run(self, opened: Study) -> pd.DataFrame:
        self.calls += 1
        if np.isnan(self.value):
            raise RuntimeError("the experiment failed")
        return pd.DataFrame(
            [
                dict(metric="agreement", component="mlp_out", layer=2, value=self.value, n=10),
                dict(metric="accuracy", model="human", value=0.25, n=3),
            ]
        )


def stored(opened: Study) -> Path:
    return opened.folder / "results" / opened.run.slug / "ablation.parquet"


def test_a_table_is_stored_with_keys_and_provenance(fresh: Fresh) -> None:
    opened, experiment = fresh(seed=3), Experiment()
    frame = opened.measure(experiment)
    assert stored(opened).is_file()
    assert list(frame["model"]) == [opened.run.public["model"], "human"]
    assert set(frame["experiment"]) == {"ablation"}
    assert set(frame["prompt"]) == {"T1-2shot"} and set(frame["seed"]) == {3}
    provenance = frame.attrs["provenance"]
    assert (provenance["protocol"], provenance["engine_protocol"], provenance["inputs"]) == (1, 1, {})
    assert provenance["corpus_sha256"] == opened.corpus.sha256
    assert provenance["corpus_reading"] == "utf-8, 150 rows"
    assert provenance["parameters"]["profile"] == "quick"
    assert provenance["model_revision"].startswith("local-") and provenance["device"] == "cpu"
    assert not local_paths(provenance)
    tokenizer, prompt = opened.tokenizer, get_prompt("T1-2shot")
    first = tokenizer(prompt.render(opened.events["text"][0]))["input_ids"]
    assert provenance["first_prompt"] == {
        "tokens": tokenizer(prompt.render(""))["input_ids"],  # from the others a text could be read
        "sha256": hashlib.sha256(str(first).encode()).hexdigest(),
    }


def test_of_our_own_texts_the_first_prompt_is_kept_whole(tiny_study: Study) -> None:
    ours = Study(replace(tiny_study.run, corpus="situations"), model=tiny_study.model)
    first = tiny_study.tokenizer(ours.prompt.render(ours.events["text"][0]))["input_ids"]
    assert ours.first_prompt["tokens"] == first


def test_a_fresh_table_is_used_again(fresh: Fresh) -> None:
    first = fresh().measure(Experiment(0.5))
    later = Experiment(0.9)
    pd.testing.assert_frame_equal(fresh().measure(later), first)
    assert later.calls == 0


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (Experiment(0.9, protocol=2), "measures something else .protocol 1, now 2"),
        (Experiment(0.9, INPUTS=("topics.yml",)), "a data file says something else"),
    ],
)
def test_a_table_of_another_protocol_or_data_file_is_measured_anew(
    fresh: Fresh, later: Experiment, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh().measure(Experiment(0.5))
    capsys.readouterr()
    found = fresh().measure(later)
    assert later.calls == 1 and found["value"][0] == 0.9
    assert re.search(f"ablation is measured anew: .*{reason}", capsys.readouterr().err)
    assert found.attrs["provenance"]["protocol"] == later.PROTOCOL


def test_a_table_of_another_engine_is_measured_anew(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh().measure(Experiment(0.5))
    monkeypatch.setattr(freshness, "ENGINE_PROTOCOL", 2)
    assert fresh().measure(Experiment(0.9))["value"][0] == 0.9


def test_layout_and_comments_of_a_data_file_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "DATA", tmp_path)
    found = []
    for number, text in enumerate(("a: [1, 2]", "# new\na:\n  - 1\n  - 2\n", "a: [1, 3]")):
        (tmp_path / f"x{number}.yml").write_text(text)
        found.append(freshness.digest(sources.packaged(f"x{number}.yml")))
    assert found[0] == found[1] != found[2]


def test_what_this_machine_cannot_tell_makes_no_table_stale() -> None:
    made = dict(protocol=1, model_revision="a", corpus_sha256="b")
    assert freshness.why_stale(made, dict(protocol=1, model_revision=None, corpus_sha256="b")) is None
    assert freshness.why_stale(made, dict(protocol=1, model_revision="c")) == "the weights are others"
    assert freshness.why_stale({}, dict(protocol=1)).startswith("the experiment measures something else")


def test_a_fresh_table_is_read_without_a_model_library(tmp_path: Path) -> None:
    # As a chapter does it. The model need not even be installed: what its weights are is known from the registry.
    code = """
import importlib, sys
from pathlib import Path
from emolib import figures
for views in (Path(figures.__file__).parents[1] / "experiments").glob("*/views.py"):
    importlib.import_module(f"emolib.experiments.{views.parent.name}.views")
from emolib.experiments import ablation
from emolib.paper import claims
from emolib.study import freshness
from emolib.study.run import Run
from emolib.tables import results
from emolib.tables.provenance import collect_provenance
run = Run.of(Run().parameters() | {"other": 1})
frame = results.tidy([dict(metric="agreement", value=0.5)], experiment="ablation", model=run.model)
about = collect_provenance(parameters=run.parameters(), device="cpu", seconds=0, **freshness.key(run, ablation))
results.write(frame, freshness.table_path(run, ablation), about)
found = freshness.measured(run, ablation)
print(found["value"].tolist(), freshness.reference_table(run, ablation),
      {"torch", "transformers", "nnsight"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[0.5] None set()", done.stderr


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_experiment_that_fails_leaves_the_earlier_table(fresh: Fresh, value: float) -> None:
    opened = fresh()
    opened.measure(Experiment(0.5))
    before = stored(opened).read_bytes()
    # It raises itself, or gives a table that is refused.
    with pytest.raises((RuntimeError, ValueError), match="the experiment failed|breaks the rule not finite"):
        fresh().measure(Experiment(value, protocol=2))
    assert stored(opened).read_bytes() == before
    assert [file.name for file in stored(opened).parent.iterdir()] == ["ablation.parquet"]


@pytest.mark.parametrize("changed", ["corpus", "prompt", "weights"])
def test_a_table_of_other_inputs_is_measured_anew(
    fresh: Fresh, changed: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    mine, asked = tmp_path / "mine.csv", tmp_path / "mine.yml"
    mine.write_bytes(tiny_corpus.read_bytes())
    asked.write_text("instruction: everyone laughed\n")
    settings = dict(corpus=str(mine), prompt=str(asked))
    fresh(**settings).measure(Experiment(0.5))
    assert fresh(**settings).measure(Experiment(0.9))["value"][0] == 0.5
    opened = fresh(**settings)
    if changed == "corpus":
        mine.write_bytes(tiny_corpus.read_bytes() + b"\n")
        opened = fresh(**settings)
    elif changed == "prompt":
        asked.write_text("instruction: everyone laughed twice\n")
        opened = fresh(**settings)
    else:
        opened = fresh(**settings, weights=replace(opened.model, revision="local-other"))
    assert opened.measure(Experiment(0.9))["value"][0] == 0.9


def test_reused_interventions_count_in_the_time_of_the_experiment(fresh: Fresh) -> None:
    opened = fresh()

    class Intervening(Experiment):
        def run(self, study: Study) -> pd.DataFrame:
            study.intervene(some_edits(study.model), range(TINY_TEXTS), name="edits")
            return super().run(study)

    first = opened.measure(Intervening())
    (file,) = {file.parent for file in opened.folder.glob("cache/edits-*/*")}
    spent = 0.0
    for shard in file.iterdir():
        with safe_open(shard, "pt") as tensors:
            spent += float(tensors.metadata()["seconds"])
    (opened.folder / "results" / opened.run.slug / "ablation.parquet").unlink()
    again = fresh().measure(Intervening())
    assert 0 < spent <= first.attrs["provenance"]["seconds"]
    assert again.attrs["provenance"]["seconds"] >= spent


def test_runs_keep_their_tables_apart(fresh: Fresh) -> None:
    fresh().measure(Experiment(0.5))
    assert fresh(seed=1).measure(Experiment(0.9))["value"][0] == 0.9
    assert fresh().measure(Experiment(0.1))["value"][0] == 0.5


def test_the_reference_is_drawn_behind_other_runs_only(fresh: Fresh) -> None:
    opened, experiment = fresh(), Experiment(0.5)
    assert freshness.reference_table(opened.run, experiment, folder=opened.folder) is None
    opened.measure(experiment)
    target = opened.folder / "results" / REFERENCE.slug / "ablation.parquet"
    target.parent.mkdir()
    target.write_bytes(stored(opened).read_bytes())
    behind = freshness.reference_table(opened.run, experiment, folder=opened.folder)
    pd.testing.assert_frame_equal(behind, results.read(target))
    assert freshness.reference_table(REFERENCE, experiment, folder=opened.folder) is None


def test_progress_gives_every_item_and_counts_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shards.progress(["a", "b"], "reading", [64, 22])) == ["a", "b"]
    assert "86/86" in capsys.readouterr().err
    with pytest.raises(ValueError, match="zip"):
        list(shards.progress(["a", "b"], "reading", [64]))


def test_a_twin_looks_at_a_sample_of_a_large_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, twin = (Study(Run(model=name)) for name in ("smollm2-135m", "smollm2-135m@random:0"))
    assert twin.events.equals(trained.events), "520 texts are not too many"
    monkeypatch.setattr(sampling, "ENOUGH", 100)
    twin, other = (Study(Run(model="smollm2-135m@random:0", seed=seed)) for seed in (0, 1))
    assert len(twin.events) == len(twin.groups) == len(twin.truth) == 100 and twin.whole
    assert twin.events["text_id"].is_monotonic_increasing and set(twin.events["text_id"]) != set(
        other.events["text_id"]
    )
    right = trained.events.set_index("text_id")["emotion"]
    assert twin.events["emotion"].tolist() == right[twin.events["text_id"]].tolist()
    assert len(Study(Run()).events) == 520

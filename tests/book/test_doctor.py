"""What doctor says of a model, against its tokenizer, plain transformers, and a model whose sum does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from emolib import cli
from emolib.engine import checks
from emolib.engine.loading import load
from emolib.engine.oracle import plain
from emolib.texts.corpus import load_corpus
from emolib.texts.prompts import get_prompt


def test_a_model_is_told_with_its_tokens_its_checks_and_its_answers(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", str(tiny_folder)]) == 0
    said = capsys.readouterr().out
    assert cli.main(["doctor", str(tiny_folder), "--dtype", "mixed"]) == 0, "any dtype of a run"
    assert "GB in mixed" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "asking leaves nothing behind"
    model, prompt, event = load(str(tiny_folder)), get_prompt("T1-2shot"), load_corpus("situations").events.iloc[0]
    ids = model.tokenizer(prompt.render(event["text"]))["input_ids"]
    assert f"T1-2shot, {len(ids)} tokens, begins with the start token: " in said
    assert said.count("rounding allows") == 3
    logits = plain(model, prompt.render(event["text"]), answers=prompt.labels)
    best = ", ".join(prompt.labels[index] for index in logits.argsort(descending=True)[:3])
    assert f"{event['text']!r} ({event['emotion']}): {best}" in said


def test_what_does_not_hold_is_said(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    off = checks.Comparison(ours="left", theirs="right", difference=2.0, allowed=1.0)
    monkeypatch.setattr(checks, "sums", lambda model: off)
    assert cli.main(["doctor", str(tiny_folder)]) == 0, "the model has resid_post alone, and needs no sum"
    assert "sites        resid_post; edits by replay" in capsys.readouterr().out
    assert cli.main(["doctor", str(tiny_folder / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err

"""The public face: the five lines against the oracle, sweeps and their frame, nothing imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import emolib as el
from emolib.engine import labels
from emolib.engine.sweeps import joined
from helpers import ROOT, word_tokenizer

WORDS = ["joy", "sadness"]
PROMPTS = [f"Context: {text}. Answer:" for text in ("my dog laughed", "nobody waited outside today, finally", "cake")]


@pytest.fixture(scope="module")
def model() -> el.Model:
    return el.tiny_model("llama", tokenizer=word_tokenizer())


def test_the_five_lines_equal_plain_passes_in_the_order_of_the_texts(model: el.Model) -> None:
    engine = el.Engine(model, PROMPTS, answers=WORDS, max_texts=2)  # two batches, shortest first
    sweep = el.sweep(el.Zero(), model, components=["attn_out"], span=3)
    logits = engine.replay(engine.encode(), sweep)
    assert logits.shape == (3, 2, 2)
    for row, prompt in enumerate(PROMPTS):
        for column, edit in enumerate(sweep):
            assert torch.allclose(logits[row, column], el.plain(model, prompt, edit, WORDS, row=row), atol=1e-4)
    assert (logits - torch.stack([el.plain(model, prompt, None, WORDS) for prompt in PROMPTS])[:, None]).abs().max() > 1


def test_encodings_of_all_texts_are_read_in_their_order(model: el.Model) -> None:
    engine = el.Engine(model, PROMPTS, answers=WORDS, keep=2, max_texts=1)
    together, alone = engine.encode(read=["mlp_out"]), [engine.encode([row], read=["mlp_out"]) for row in range(3)]
    assert [encoding.rows.tolist() for encoding in together] == [[2], [0], [1]]
    assert torch.equal(together.logits, torch.cat([one.logits for one in alone]))
    sweep = el.sweep(el.Noise(1), model)
    assert torch.equal(engine.replay(together, sweep), engine.replay(alone, sweep))
    assert torch.equal(together.activations["mlp_out"], torch.cat([one.activations["mlp_out"] for one in alone], 1))


def test_answers_are_words_or_token_ids(model: el.Model) -> None:
    ids = labels.label_tokens(model.tokenizer, WORDS).ids()
    named, given = (el.Engine(model, PROMPTS, answers=answers) for answers in (WORDS, ids))
    assert named.answers.tolist() == model.tokenizer.convert_tokens_to_ids(WORDS)
    assert torch.equal(named.encode().logits, given.encode().logits)
    whole = el.plain(model, PROMPTS[0])
    assert torch.equal(whole[ids], el.plain(model, PROMPTS[0], answers=WORDS)) and len(whole) == len(model.tokenizer)
    with pytest.raises(ValueError, match="joy = sadness share a token"):
        el.Engine(el.tiny_model("llama"), PROMPTS, answers=WORDS)


def test_a_sweep_by_hand(model: el.Model) -> None:
    sweep = el.sweep(el.Zero(), model, components=["mlp_out", "resid_post"], span=3, position=-2)
    assert [(edit.component, edit.layers, edit.position) for edit in sweep] == [
        ("mlp_out", (0, 1, 2), -2),
        ("mlp_out", (1, 2, 3), -2),
        ("resid_post", (0, 1, 2), -2),
        ("resid_post", (1, 2, 3), -2),
    ]
    assert sweep.frame.to_dict("list") == dict(
        component=["mlp_out"] * 2 + ["resid_post"] * 2,
        layer=[1, 2, 1, 2],
        span=[3] * 4,
        last_layer=[2, 3, 2, 3],
        position=["-2"] * 4,
    )
    part = sweep[1:3]
    assert (
        list(part) == list(sweep)[1:3] and part.frame["layer"].tolist() == [2, 1] and list(part.frame.index) == [0, 1]
    )
    both = joined([part.assign(method="zero"), sweep[:1].assign(method="other")])
    assert [*both] == [*part, sweep[0]] and both.frame["method"].tolist() == ["zero", "zero", "other"]
    assert both.frame["layer"].tolist() == [2, 1, 1] and list(both.frame.index) == [0, 1, 2]
    assert [edit.layers for edit in el.sweep(el.Zero(), model, components=["attn_out"], layers=[3, 0])] == [(3,), (0,)]
    assert len(el.sweep(el.Zero(), model, position="all")) == 3 * model.n_layers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(components=["mlp"]), r"unknown component 'mlp' \(did you mean 'mlp_out'\?\)"),
        (dict(span=2), "span 2: expected an odd number"),
        (dict(span=5), "a span of 5 does not fit into 4 layers"),
        (dict(span=3, layers=[3]), "layer 4 is outside the model"),
        (dict(position=0), "position 0: expected -1"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(model: el.Model, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        el.sweep(el.Zero(), model, **settings)


def fresh(code: str) -> str:
    """What a new process prints that sees this checkout alone."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_sites_and_choices_come_without_torch() -> None:
    code = "import sys, emolib.engine.sites, emolib.engine.registry, emolib.engine.choices, emolib; "
    code += "emolib.COMPONENTS, emolib.layer_number(0), dir(emolib); "
    assert fresh(code + "print({'torch', 'transformers', 'nnsight', 'pandas'} & set(sys.modules))") == "set()"


def test_every_name_of_the_face_is_there_and_nothing_else_of_ours_is_imported() -> None:
    code = "import sys, emolib, emolib.engine; [getattr(place, name) for place in (emolib, emolib.engine) "
    code += "for name in place.__all__]; print(*sorted(name for name in sys.modules if name.startswith('emolib')))"
    files = sorted((ROOT / "emolib" / "engine").glob("*.py"))
    modules = {"emolib", "emolib.engine"} | {f"emolib.engine.{file.stem}" for file in files if file.stem != "__init__"}
    assert set(fresh(code).split()) == modules


def test_the_two_faces_offer_the_same() -> None:
    faces = [(ROOT / "emolib" / place / "__init__.pyi").read_text() for place in ("", "engine")]
    names = [{line.rpartition(" ")[2] for line in face.splitlines() if line.startswith("from")} for face in faces]
    assert names[0] == names[1] == set(el.engine.__all__)


def test_a_model_of_one_s_own_is_loaded_from_its_folder(tiny_folder: Path) -> None:
    model = el.load(str(tiny_folder), device="cpu")
    assert isinstance(model, el.Model) and model.n_layers == 5

"""The playground: its answers are those of plain transformers with a hook, and its push is the planted direction."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from emolib.engine.engine import Engine
from emolib.engine.loading import load
from emolib.engine.places import UNATTENDED
from emolib.interventions.playground import OFFERED, Playground, beyond, controls, told, top
from emolib.texts.appraisals import APPRAISALS, EMOTIONS
from emolib.texts.prompts import get_prompt
from helpers import ROOT, tiny_table

ASK = get_prompt("T1-2shot")
EVENT, OTHER = "my dog found the cake", "rain again and nobody waited"


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return tiny_table(26)


@pytest.fixture(scope="module")
def playground(tiny_folder: Any, events: pd.DataFrame) -> Playground:
    model = load(str(tiny_folder), device="cpu")
    engine = Engine(model, [ASK.render(text) for text in events["text"]], answers=EMOTIONS)
    encoded = engine.encode(read=["resid_post"])
    return Playground(model, ASK, events, encoded.activations["resid_post"][:, :, -1], encoded.logits, draws=4)


def plain_shares(plain: Any, text: str, offsets: Any = 0.0, hooks: Any = ()) -> Any:
    """The shares of the labels by transformers alone; `hooks` are (module, change of its output at the last token)."""
    hf, tokenizer = plain
    undo = []
    for module, change in hooks:

        def hook(_module: Any, _inputs: Any, output: Any, change: Any = change) -> Any:
            new = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            new[:, -1] = change(new[:, -1])
            return new if isinstance(output, torch.Tensor) else (new, *output[1:])

        undo.append(module.register_forward_hook(hook))
    with torch.no_grad():
        logits = hf(**tokenizer(ASK.render(text), return_tensors="pt")).logits[0, -1]
    for one in undo:
        one.remove()
    ids = [tokenizer(f"Answer: {label}", add_special_tokens=False)["input_ids"][-1] for label in EMOTIONS]
    return logits[ids] if isinstance(offsets, float) else (logits[ids] - offsets).softmax(-1).numpy()


@pytest.fixture(scope="module")
def offsets(plain_llama: Any, events: pd.DataFrame) -> Any:
    """What calibration subtracts, by transformers alone."""
    return torch.stack([plain_shares(plain_llama, text) for text in events["text"]]).mean(0)


def states(moved: pd.DataFrame, state: str) -> np.ndarray:
    rows = moved[moved["state"] == state]
    assert list(rows["label"]) == list(EMOTIONS) * (len(rows) // 13)
    return rows["value"].to_numpy().reshape(-1, 13)


def test_zero_patch_and_push_are_those_of_plain_transformers(
    playground: Playground, plain_llama: Any, offsets: Any
) -> None:
    blocks = plain_llama[0].model.layers
    seen: dict[str, Any] = {}
    plain_shares(plain_llama, OTHER, hooks=[(blocks[2].mlp, lambda old: seen.setdefault("mlp", old))])
    vector = playground.vector({"pleasantness": 0.2, "suddenness": -0.1})
    pushes = [(blocks[layer], lambda old, layer=layer: old + vector[layer]) for layer in (1, 2, 3)]
    zeros = [(blocks[layer].self_attn, torch.zeros_like) for layer in (1, 2, 3)]
    cases: list[tuple[dict[str, Any], Any]] = [
        (dict(edit="zero", component="attn_out", layer=2, span=3), zeros),
        (dict(edit="patch", component="mlp_out", layer=2, other=OTHER), [(blocks[2].mlp, lambda old: seen["mlp"])]),
        (dict(edit="push", layer=2, span=3, doses={"pleasantness": 0.2, "suddenness": -0.1}), pushes),
    ]
    clean = plain_shares(plain_llama, EVENT, offsets)
    for asked, hooks in cases:
        moved = playground.answer(EVENT, **asked)
        np.testing.assert_allclose(states(moved, "before"), [clean], atol=1e-5)
        expected = plain_shares(plain_llama, EVENT, offsets, hooks)
        np.testing.assert_allclose(states(moved, "after"), [expected], atol=1e-5)
        assert np.abs(expected - clean).max() > 1e-4, "the edit does something"
        assert len(states(moved, "random")) == (4 if asked["edit"] == "push" else 0)
    for draw, values in enumerate(states(moved, "random")):  # as long as the push, in every layer
        other = playground.random[draw] * vector.norm(dim=-1, keepdim=True)
        hooks = [(blocks[layer], lambda old, layer=layer, other=other: old + other[layer]) for layer in (1, 2, 3)]
        np.testing.assert_allclose(values, plain_shares(plain_llama, EVENT, offsets, hooks), atol=1e-5)
    step, low, high = beyond(moved, "joy")
    drawn = states(moved, "random")[:, EMOTIONS.index("joy")] - states(moved, "before")[0, EMOTIONS.index("joy")]
    assert (low, high) == pytest.approx((drawn.min(), drawn.max()))
    assert step == pytest.approx((expected - clean)[EMOTIONS.index("joy")], abs=1e-5)
    assert top(moved, "after") == EMOTIONS[int(np.argmax(expected))]
    planted = pd.DataFrame({"state": ["before", "after", "random", "random"], "value": [0.2, 0.5, 0.1, 0.3]})
    chance = "the range of random directions (−10 to +10)"
    assert told(planted.assign(label="joy"), "joy") == f"+30 points, outside {chance}"
    planted.loc[1, "value"] = 0.15
    assert told(planted.assign(label="joy"), "joy") == f"−5 points, within {chance}"


def test_a_push_is_along_the_planted_direction_and_as_long_as_its_dose(playground: Playground) -> None:
    table = tiny_table(400, seed=3)
    stream = torch.randn(5, len(table), 32, generator=torch.manual_seed(0))
    planted = torch.nn.functional.normalize(torch.randn(5, 32, generator=torch.manual_seed(1)), dim=-1)
    high = torch.tensor((table["attention"] > table["attention"].mean()).to_numpy(), dtype=torch.float32)
    stream += 40 * high[None, :, None] * planted[:, None]
    found = Playground(playground.model, ASK, table, stream, torch.zeros(len(table), 13), draws=3)
    length = stream.norm(dim=-1).mean(1)
    for dose in (0.3, -0.1):
        vector = found.vector({"attention": dose, "effort": 0.0})
        torch.testing.assert_close(vector.norm(dim=-1), abs(dose) * length)
        assert (torch.cosine_similarity(vector, planted, dim=-1) * np.sign(dose) > 0.99).all()
    torch.testing.assert_close(found.random.norm(dim=-1), torch.ones(3, 5))


@pytest.mark.parametrize(
    ("event", "asked", "message"),
    [
        (" ", dict(edit="zero", layer=1), "the event is empty"),
        (EVENT, dict(edit="patch", layer=1), "the other event is empty"),
        (EVENT, dict(edit="push", layer=1, doses={"pleasantness": 0.0}), "a push without a dose"),
        (EVENT, dict(edit="push", layer=1, doses={"pleasant": 0.1}), "pleasantness"),
        (EVENT, dict(edit="pull", layer=1), "push"),
        (EVENT, dict(edit="zero", layer=5), "layer 5 is outside"),
        (EVENT, dict(edit="zero", layer=0, span=3), "layer -1 is outside"),
        (EVENT, dict(edit="zero", layer=1, component="mlp"), "mlp_out"),
    ],
)
def test_what_cannot_be_done_is_said(playground: Playground, event: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        playground.answer(event, **asked)


def test_the_button_draws_what_the_menus_say(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(UNATTENDED, raising=False)
    asked: list[dict[str, Any]] = []
    answer = playground.answer
    monkeypatch.setattr(playground, "answer", lambda **given: asked.append(given) or answer(**given))
    box = controls(playground, EVENT, OTHER)
    parts = {getattr(part, "description", ""): part for part in box.children}
    parts["event"].value, parts["edit"].value, parts["component"].value = "my cake", "push", "mlp_out"
    parts["layer"].value, parts["layers at once"].value, parts["self-agency"].value = 2, 3, -0.2
    parts["Ask the model"].click()
    same = dict(event="my cake", other=OTHER, edit="push", component="mlp_out", layer=1, span=3)
    assert asked == [same | {"doses": {"self_responsblt": -0.2}}]
    assert "image/png" in capsys.readouterr().out
    assert len(box.children) == 6 + len(OFFERED) + 2 and {*OFFERED} <= {*APPRAISALS}
    parts["layer"].value = 1
    parts["Ask the model"].click()
    assert "layer -1 is outside" in capsys.readouterr().out, "an error is said where the answer would be"


def test_a_page_of_the_book_has_no_controls(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNATTENDED, "1")
    assert controls(playground, EVENT, OTHER) is None
    chapter = json.loads((ROOT / "book" / "chapters" / "00_tour.ipynb").read_text(encoding="utf-8"))
    kinds = {kind for cell in chapter["cells"] for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert not [kind for kind in kinds if "widget" in kind] and "widgets" not in chapter["metadata"]

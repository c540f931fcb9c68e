"""Small random models of every family, for tests and for measuring growth. They know nothing; they obey the same rules.

Norm weights are perturbed so that a norm that is missed or applied twice changes the answer.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any

import torch
import yaml
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from emolib.engine.choices import Tap
from emolib.engine.model import Model, wrap_model

_DATA = yaml.safe_load(files("emolib.engine").joinpath("tiny.yml").read_text(encoding="utf-8"))
FAMILIES: dict[str, dict[str, Any]] = _DATA["families"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges (vocabulary 258): every text of any alphabet, one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1} | {letter: index for index, letter in enumerate(alphabet, start=2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="<s>")


def tiny_model(
    family: str,
    *,
    tap: Tap = "contribution",
    tokenizer: Any = None,
    seed: int = 0,
    device: str = "cpu",
    **overrides: Any,
) -> Model:
    """A random model of a family, as transformers calls it, float32; `overrides` change its configuration.

    Raises KeyError for an unknown family, ValueError for one that emolib does not serve.
    """
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    torch.manual_seed(seed)
    hf = AutoModelForCausalLM.from_config(tiny_config(family, len(tokenizer), **overrides))
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            own = ".".join(name.split(".")[-2:])  # not that of a block, such as DBRX's norm_attn_norm
            spread = 0.3 if "norm" in own or "ln_" in own else 0.0
            weight.add_(torch.randn_like(weight) * spread)
            if weight.ndim > 1:
                if not weight.any():
                    weight.normal_(std=0.02)  # some families begin with layers that do nothing
                weight.mul_(10)  # the default initialisation is so small that edits would hardly move the logits
    return wrap_model(hf.to(device), tokenizer, name=f"tiny-{family}", tap=tap)


def tiny_config(family: str, vocabulary: int = 258, **overrides: Any) -> Any:
    """The configuration of a small model of a family, of its text part too; raises KeyError for an unknown family."""
    kind = CONFIG_MAPPING[family]
    return kind(**_small(kind, vocabulary) | FAMILIES.get(family, {}) | overrides)


def _small(kind: Any, vocabulary: int) -> dict[str, Any]:
    names, given = {field.name for field in fields(kind)}, _DATA["small"] | {"vocab_size": vocabulary}
    # Some configurations know a setting by a name of their own.
    found = {own: given[name] for name in given for own in {name, kind.attribute_map.get(name, name)} & names}
    if "kv_lora_rank" in names:
        found["num_key_value_heads"] = found["num_attention_heads"]
    part = kind.sub_configs.get("text_config")
    return found | ({"text_config": _small(part, vocabulary)} if is_dataclass(part) else {})

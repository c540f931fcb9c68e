"""Small random models of every family, for tests and for measuring growth. They know nothing; they obey the same rules.

Norm weights are perturbed so that a norm that is missed or applied twice changes the answer.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from emolib.engine.choices import Tap
from emolib.engine.model import Model, wrap_model

_COMMON = dict(
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=1,
)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 1e4},
    "mistral": {"sliding_window": 24},
    "ministral": {
        "sliding_window": 24,
        "head_dim": 12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24, "final_logit_softcapping": 3.0},
    "phi3": {"sliding_window": None},
    "olmo2": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt2": {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_inner": 96, "n_positions": 1024},
    "gpt_neox": {},
    "gptj": {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_inner": 96, "n_positions": 1024, "rotary_dim": 8},
}


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
    family: str, *, tap: Tap = "contribution", tokenizer: Any = None, seed: int = 0, **overrides: Any
) -> Model:
    """A random model of a family in FAMILIES, float32 on the CPU; `overrides` change its configuration.

    Raises KeyError for an unknown family.
    """
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    settings = _COMMON | {"vocab_size": len(tokenizer)} | FAMILIES[family] | overrides
    if family.startswith("gpt"):
        del settings["num_key_value_heads"]
    torch.manual_seed(seed)
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            spread = 0.3 if "norm" in name or "ln_" in name else 0.0
            weight.add_(torch.randn_like(weight) * spread)
            if weight.ndim > 1:
                weight.mul_(10)  # the default initialisation is so small that edits would hardly move the logits
    return wrap_model(hf, tokenizer, name=f"tiny-{family}", tap=tap)

"""What both sides are given: texts, label tokens' names, sites, and the sample of the plain way. No model library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emolib.engine.sites import COMPONENTS, Component
from emolib.texts.corpus import EMOTIONS, Corpus, load_corpus, subset
from emolib.texts.prompts import get_prompt

MODEL, CORPUS, PROMPT = "smollm2-135m", "situations", "T1-2shot"
KINDS = ("zero", "random", "mean", "resample")
PLAIN_BATCH = 4  # the released code's
Site = tuple[str, Component, int]


def corpus(n_texts: int) -> Corpus:
    """`n_texts` of the embedded corpus, in proportion to its emotions, in file order."""
    return subset(load_corpus(CORPUS), n_texts, seed=0)


def prompts(n_texts: int, prompt: str = PROMPT) -> list[str]:
    """The rendered prompts of `corpus(n_texts)`."""
    render = get_prompt(prompt).render
    return [render(text) for text in corpus(n_texts).events["text"]]


def first_tokens(tokenizer: object) -> list[int]:
    """The first sub-token of each label as the answer, found without emolib's own code."""
    return [tokenizer(f" {label}", add_special_tokens=False)["input_ids"][0] for label in EMOTIONS]


def edit_sites(kinds: Sequence[str], n_layers: int) -> list[Site]:
    """(kind, component, layer) of each edit, in the order both sides count edits: span 1, all layers and components."""
    return [(kind, component, layer) for kind in kinds for component in COMPONENTS for layer in range(n_layers)]


def donors(n_texts: int) -> list[int]:
    """For each text the row of another one, whose activation resample ablation puts in."""
    return np.roll(np.arange(n_texts), 1).tolist()


def plain_sample(n_texts: int, n_edits: int, *, passes: int, seed: int) -> list[tuple[int, int]]:
    """(batch, edit) of `passes` plain passes: edits evenly spaced over their list, batches without repetition.

    Batches are four texts in file order, as in the released code, so that padding is what it would be.
    """
    random = np.random.default_rng(seed)
    n_batches = n_texts // PLAIN_BATCH
    batches = np.concatenate([random.permutation(n_batches) for _ in range(-(-passes // n_batches))])[:passes]
    start = random.uniform(0, n_edits / passes)
    edits = np.floor(start + np.arange(passes) * n_edits / passes).astype(int)
    return [(int(batch), int(edit)) for batch, edit in zip(batches, edits, strict=True)]

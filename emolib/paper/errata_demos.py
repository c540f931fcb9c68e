"""Errata shown by doing: projections, windows, pieces of words, pushes (the cases: `emolib.paper.errata`).

On random vectors and networks, where what holds does so by construction, and on a run's own directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.engine.checks import PROBES
from emolib.engine.edits import Edit, Zero
from emolib.engine.engine import Engine
from emolib.engine.labels import label_tokens
from emolib.engine.tiny import tiny_model
from emolib.paper.errata import Finding
from emolib.probes.directions import project_out
from emolib.texts.appraisals import ACTING, EMOTIONS

# How the vocabulary shared by Llama 2 and Phi 3 ends the labels it splits; the other labels are one piece there.
LLAMA_2 = {"boredom": ("bored", "om"), "disgust": ("disg", "ust"), "guilt": ("gu", "ilt"), "sadness": ("sad", "ness")}


def from_demos() -> list[Finding]:
    """Return the findings that need neither corpus nor run."""
    return [random_projection(), pieces(), random_pushes(), window()]


def random_projection(*, width: int = 2048, shared: float = 0.45, seed: int = 0) -> Finding:
    """Return D1 on random vectors of mutual cosine about `shared`: the one injected, and the one that was computed."""
    generator = torch.Generator().manual_seed(seed)
    common, own = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (1, len(ACTING)))
    vectors = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    target, held = vectors[0], vectors[1:]
    return projection("random vectors", target, project_out(target, held), held)


def projection(name: str, injected: Tensor, projected: Tensor, held: Tensor) -> Finding:
    """Return D1: the largest cosine of the vector computed, and of the one injected, with a direction held fixed."""
    cosine = torch.nn.functional.cosine_similarity
    computed, used = (cosine(x.double()[None], held.double(), dim=-1).abs().max().item() for x in (projected, injected))
    text = f"largest cosine with a fixed appraisal: vector computed, and injected ({name})"
    return Finding("D1", text, computed, used, "executed")


def llama_2_like() -> Any:
    """Return a tokenizer in the manner of Llama 2: pieces that begin a word carry a mark, and four labels are split."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = [piece for first, last in LLAMA_2.values() for piece in (f"▁{first}", last)]
    whole = [f"▁{label}" for label in EMOTIONS if label not in LLAMA_2]
    scores = {"<unk>": -20.0, **dict.fromkeys(["▁Answer", ":", *whole, *split], -1.0)}
    scores |= {letter: -15.0 for letter in "▁abcdefghijklmnopqrstuvwxyzA" if letter not in scores}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def label_pieces(tokenizer: Any) -> pd.DataFrame:
    """Return how a tokenizer splits each label: label, pieces, and the piece that either rule scores (first, last)."""
    found = label_tokens(tokenizer, EMOTIONS)
    names = [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found.tokens]
    shown = [[name.lstrip("▁Ġ") for name in parts] for parts in names]
    rows = [(label, " + ".join(parts), parts[0], parts[-1]) for label, parts in zip(found.labels, shown, strict=True)]
    return pd.DataFrame(rows, columns=["label", "pieces", "first", "last"])


def pieces() -> Finding:
    """Return D6: how many labels are scored on a fragment that is not the beginning of the word."""
    found = label_pieces(llama_2_like())
    text = "labels scored on their last fragment, vocabulary like Phi's"
    return Finding("D6", text, np.nan, float((found["last"] != found["label"]).sum()), "executed")


def random_pushes(*, width: int = 2048, draws: int = 1000, seed: int = 0) -> Finding:
    """Return M6: the length of three unit pushes in a window, drawn anew per layer (the control) and aligned."""
    drawn = np.random.default_rng(seed).standard_normal((draws, 3, width))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    length = np.linalg.norm(drawn.sum(axis=1), axis=-1).mean()
    aligned = np.linalg.norm(3 * drawn[:, 0], axis=-1).mean()
    return Finding(
        "M6", "accumulated length of three unit pushes: random control, and aligned", length, aligned, "executed"
    )


def window() -> Finding:
    """Return M1: the logits of a window of three on h minus those of its centre, and of its last layer alone."""
    engine = Engine(tiny_model("llama"), PROBES, torch.arange(50))
    encoding = engine.encode([0, 1], read=())
    edits = [Edit(component="resid_post", layers=layers, operation=Zero()) for layers in ((1, 2, 3), (3,), (2,))]
    wide, last, centre = engine.replay(encoding, edits).float().unbind(1)
    text = "logits of a random network: window minus its centre, and minus its last layer"
    return Finding("M1", text, (wide - centre).abs().max().item(), (wide - last).abs().max().item(), "executed")

"""Errata that are shown by doing: projections, windows, norms, label pieces, random pushes (cases: `emolib.errata`).

Synthetic where a property of mathematics is at stake, and on the run's own activations where size matters.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.corpus import EMOTIONS
from emolib.directions import SteeringVectors, project_out
from emolib.edits import Edit, Zero
from emolib.engine import Engine
from emolib.errata import Finding, finding
from emolib.labels import label_tokens
from emolib.sites import COMPONENTS, layer_number
from emolib.study import Study
from emolib.theory import ACTING
from emolib.tiny import tiny_model

# How the vocabulary shared by Llama 2 and Phi 3 ends the labels it splits; the other labels are one piece there.
LLAMA_2 = {"boredom": ("bored", "om"), "disgust": ("disg", "ust"), "guilt": ("gu", "ilt"), "sadness": ("sad", "ness")}
PROBES = ("Context: The bus left early. Answer:", "Context: My neighbour returned the ladder after a year. Answer:")


def from_demos() -> list[Finding]:
    """Return the findings that need neither corpus nor run."""
    return [*unused_projection(), *tiny_window(), *tiny_taps(), *pieces(), *random_pushes()]


def from_study(study: Study) -> list[Finding]:
    """Return the findings on a run's own activations; none for a corpus without ratings."""
    return [*norms(study), *(real_projection(study) if study.corpus.rated else [])]


def unused_projection(*, width: int = 2048, shared: float = 0.45, seed: int = 0) -> list[Finding]:
    """Return D1 on random vectors of mutual cosine about `shared`: the one injected, and the one that was computed."""
    generator = torch.Generator().manual_seed(seed)
    common, own = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (1, len(ACTING)))
    vectors = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    target, held = vectors[0], vectors[1:]
    return _projection("random vectors", target, project_out(target, held), held)


def real_projection(study: Study) -> list[Finding]:
    """Return D1 and M7 on the appraisal directions of the run, at the layer nearest to depth 9/16, agreed events."""
    layer = max(0, round(study.model.n_layers * 9 / 16) - 1)
    rows = study.agreed
    features = study.activations("resid_post", layer)[rows].float()[None]
    vectors = SteeringVectors(features, study.events[list(ACTING)].iloc[rows])
    raw, fixed = (vectors.combine({ACTING[0]: 1}, kind)[0] for kind in ("raw", "fix3"))
    held = vectors.ridge[0, 1:]
    lengths = vectors.ridge[0].norm(dim=-1)
    name = f"directions of this run, layer {layer_number(layer)}"
    ratio = float(lengths.max() / lengths.min())
    return [
        *_projection(name, raw, fixed, held),
        finding("M7", f"length of the longest over the shortest summed vector, {name}", 1, ratio, "this run"),
    ]


def _projection(name: str, injected: Tensor, projected: Tensor, held: Tensor) -> list[Finding]:
    worst = [_cosines(vector, held).abs().max().item() for vector in (injected, projected)]
    text = f"largest cosine with a fixed appraisal: vector computed, and injected ({name})"
    return [finding("D1", text, worst[1], worst[0], "executed")]


def _cosines(vector: Tensor, others: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(vector.double()[None], others.double(), dim=-1)


def tiny_window() -> list[Finding]:
    """Return M1 on a random network: the logits of a window of three on h minus those of its last layer alone."""
    model = tiny_model("llama")
    engine = Engine(model, PROBES, torch.arange(50))
    encoding = engine.encode([0, 1], read=())
    edits = [Edit(component="resid_post", layers=layers, operation=Zero()) for layers in ((1, 2, 3), (3,), (2,))]
    wide, last, centre = engine.replay(encoding, edits).float().unbind(1)
    return [
        finding("M1", "logits of a random network: window minus its centre, and minus its last layer",
                (wide - centre).abs().max().item(), (wide - last).abs().max().item(), "executed"),
    ]  # fmt: skip


def tiny_taps() -> list[Finding]:
    """Return M15 on a random Gemma 2: by how much a layer's parts miss the residual stream, relative to its size."""
    gaps = []
    for tap in ("module", "contribution"):
        model = tiny_model("gemma2", tap=tap)
        encoding = Engine(model, PROBES, torch.arange(50)).encode([0, 1], read=COMPONENTS)
        attention, forward, stream = (encoding.activations[name].float() for name in COMPONENTS)
        step = stream - encoding.resid_pre.float()
        gaps.append(((attention + forward - step).norm() / step.norm()).item())
    text = "what a layer adds minus its two parts, relative: as released, and after the norm (random Gemma 2)"
    return [finding("M15", text, *gaps, "executed")]


def llama_2_like() -> object:
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


def label_pieces(tokenizer: object) -> pd.DataFrame:
    """Return how a tokenizer splits each label: label, pieces, and the piece that either rule scores (first, last)."""
    found = label_tokens(tokenizer, EMOTIONS)
    names = [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found.tokens]  # type: ignore[attr-defined]
    shown = [[name.lstrip("▁Ġ") for name in parts] for parts in names]
    return pd.DataFrame(
        dict(label=found.labels, pieces=[" + ".join(parts) for parts in shown], first=[p[0] for p in shown],
             last=[p[-1] for p in shown])
    )  # fmt: skip


def pieces() -> list[Finding]:
    """Return D6: how many labels are scored on a fragment that is not the beginning of the word."""
    table = label_pieces(llama_2_like())
    fragments = (table["last"] != table["label"]).sum()
    return [finding("D6", "labels scored on their last fragment, vocabulary like Phi's", np.nan, fragments, "executed")]


def random_pushes(*, width: int = 2048, draws: int = 1000, seed: int = 0) -> list[Finding]:
    """Return M6: the length of three unit pushes in a window, drawn anew per layer (the control) and aligned."""
    drawn = np.random.default_rng(seed).standard_normal((draws, 3, width))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    length = np.linalg.norm(drawn.sum(axis=1), axis=-1).mean()
    aligned = np.linalg.norm(np.repeat(drawn[:, :1], 3, axis=1).sum(axis=1), axis=-1).mean()
    text = "accumulated length of three unit pushes: random control, and aligned"
    return [
        finding("M6", text, length, aligned, "executed"),
        finding("P10", "largest total push at strength 1, window of three", 1, aligned, "executed"),
    ]


def norms(study: Study) -> list[Finding]:
    """Return M8: the length of the last token's residual stream after the first layer, and after the last but one."""
    ends = [study.activations("resid_post", layer).float().norm(dim=-1).mean().item()
            for layer in (0, max(1, study.model.n_layers - 2))]  # fmt: skip
    text = "mean length of the residual stream: after the first layer, after the last but one"
    return [finding("M8", text, *ends, "this run")]

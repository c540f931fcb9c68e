"""The plain way: transformers and PyTorch hooks, as the paper's released code works. Nothing of emolib's engine.

One full forward pass per edit over a batch of four texts in file order, padded on the left, scaled-dot-product
attention, logits of the whole vocabulary at all tokens (what `model(**inputs)` computes), one hook for the edit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.workload import KINDS, PLAIN_BATCH, donors, edit_sites, first_tokens, prompts
from emolib.engine.sites import COMPONENTS, Component

Replace = Callable[[Tensor], Tensor]


class PlainModel:
    """A transformers model of the Llama layout and the three things one does with it."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.layers = self.hf.model.layers

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Left-padded inputs."""
        return self.tokenizer(list(texts), return_tensors="pt", padding=True)

    def edited(self, texts: Sequence[str], labels: Tensor, component: Component, layer: int, new: Replace) -> Tensor:
        """Label logits [B, n_labels] when `component` of `layer` at the last token, [B, d], becomes `new` of it."""

        def hook(_module: Any, _arguments: Any, output: Any) -> None:
            stream = output if isinstance(output, Tensor) else output[0]
            stream[:, -1] = new(stream[:, -1])

        with torch.no_grad(), hooked([(self._module(component, layer), hook)]):
            return self.hf(**self.tokens(texts)).logits[:, -1, labels]

    def read(self, texts: Sequence[str]) -> dict[Component, list[Tensor]]:
        """The last token's activation [B, d] of each layer, by component."""
        found: dict[Component, list[Tensor]] = {component: [] for component in COMPONENTS}

        def reader(component: Component) -> Callable[..., None]:
            def hook(_module: Any, _arguments: Any, output: Any) -> None:
                stream = output if isinstance(output, Tensor) else output[0]
                found[component].append(stream[:, -1].clone())

            return hook

        places = [(self._module(c, layer), reader(c)) for layer in range(len(self.layers)) for c in COMPONENTS]
        with torch.no_grad(), hooked(places):
            self.hf(**self.tokens(texts))
        return found

    def hidden_states(self, texts: Sequence[str]) -> list[Tensor]:
        """The last token's residual stream before each layer and after the final norm, by `output_hidden_states`."""
        with torch.no_grad():
            states = self.hf(**self.tokens(texts), output_hidden_states=True).hidden_states
        return [state[:, -1].clone() for state in states]

    def _module(self, component: Component, layer: int) -> torch.nn.Module:
        block = self.layers[layer]
        return {"attn_out": block.self_attn, "mlp_out": block.mlp, "resid_post": block}[component]


@contextmanager
def hooked(places: Sequence[tuple[torch.nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """The hooks are there inside and gone after."""
    handles = [module.register_forward_hook(hook) for module, hook in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class PlainSide:
    """The tasks of the plain process."""

    def __init__(self, folder: str) -> None:
        self.model = PlainModel(folder)
        self.labels = torch.tensor(first_tokens(self.model.tokenizer))
        self.activations: dict[Component, Tensor] = {}

    def prepare(self, n_texts: int) -> None:
        """Read what mean and resample ablation put in; not counted, in the plain way's favour."""
        parts = [self.model.read(batch) for batch in batches(n_texts)]
        self.activations = {
            c: torch.stack([torch.cat([part[c][layer] for part in parts]) for layer in range(len(self.model.layers))])
            for c in COMPONENTS
        }

    def edit(self, n_texts: int, n_kinds: int, sample: Sequence[tuple[int, int]]) -> list[Any]:
        """Label logits [n_passes, 4, n_labels] of the sampled (batch, edit) pairs."""
        texts, sites = batches(n_texts), edit_sites(KINDS[:n_kinds], len(self.model.layers))
        found = []
        for batch, edit in sample:
            kind, component, layer = sites[edit]
            rows = np.arange(batch * PLAIN_BATCH, (batch + 1) * PLAIN_BATCH)
            replace = self._replace(kind, component, layer, rows, n_texts)
            found.append(self.model.edited(texts[batch], self.labels, component, layer, replace).tolist())
        return found

    def read(self, n_texts: int, sample: Sequence[int]) -> None:
        """Read all sites of the sampled batches."""
        texts = batches(n_texts)
        for batch in sample:
            self.model.read(texts[batch])

    def hidden_states(self, n_texts: int, sample: Sequence[int]) -> None:
        """Read the residual stream of the sampled batches, all tokens, as transformers offers it."""
        texts = batches(n_texts)
        for batch in sample:
            self.model.hidden_states(texts[batch])

    def tokens(self, n_texts: int) -> dict[str, float]:
        """Mean number of tokens a text, without and with the padding of its batch of four."""
        padded = [self.model.tokens(batch) for batch in batches(n_texts)]
        own = sum(int(part["attention_mask"].sum()) for part in padded)
        return dict(own=own / n_texts, padded=sum(part["input_ids"].numel() for part in padded) / n_texts)

    def _replace(self, kind: str, component: Component, layer: int, rows: np.ndarray, n_texts: int) -> Replace:
        if kind == "zero":
            return torch.zeros_like
        if kind == "random":
            return random_direction
        values = self.activations[component][layer]
        if kind == "mean":
            return lambda old: values.mean(0).expand_as(old)
        return lambda old: values[np.asarray(donors(n_texts))[rows]]


def random_direction(old: Tensor) -> Tensor:
    """Gaussian directions with the norms of `old` [B, d]."""
    random = torch.randn_like(old)
    return random * (old.norm(dim=-1, keepdim=True) / random.norm(dim=-1, keepdim=True))


def batches(n_texts: int) -> list[list[str]]:
    """The prompts, four by four in file order."""
    texts = prompts(n_texts)
    return [texts[start : start + PLAIN_BATCH] for start in range(0, len(texts), PLAIN_BATCH)]


if __name__ == "__main__":
    from benchmarks.sides import serve

    serve(PlainSide(sys.argv[1]))

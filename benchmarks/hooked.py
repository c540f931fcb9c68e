"""emolib's engine with PyTorch hooks in place of nnsight: what the convenience costs.

The model is loaded by transformers alone, because a model that nnsight has seen keeps nnsight's own calls around every
module. Everything but `_trace` is the engine's own code.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from emolib.engine.anatomy import dissect
from emolib.engine.edits import edit_in_place
from emolib.engine.engine import Engine, Plan
from emolib.engine.layouts import find_layout, resolve, unwrap
from emolib.engine.model import Model
from emolib.engine.sites import COMPONENTS, Component


def unwrapped(hf: torch.nn.Module, tokenizer: Any) -> Model:
    """A Model of the Llama layout around a transformers model that nnsight has not touched."""
    hf.eval().requires_grad_(False).set_attn_implementation("sdpa")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    layout = find_layout(hf)
    anatomy = dissect(hf, [resolve(hf, path) for path in layout.paths["resid_post"]])
    settings = dict(name="hooked", revision="local", tap="contribution")
    return Model(hf=hf, lm=hf, tokenizer=tokenizer, layout=layout, anatomy=anatomy, **settings)


class HookEngine(Engine):
    """The engine with hooks: the same passes, the same edits, the same reading."""

    def _trace(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        positions: Tensor,
        plan: Plan,
        rows: Sequence[int],
        *,
        first: int = 0,
        stream: Tensor | None = None,
        read: Collection[str] = (),
        only: int | None = None,
        tail: int | None = None,
        passes: int | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        model, index, keep = self.model, torch.tensor(rows), tail or self.keep
        modules = {component: model.modules(component) for component in COMPONENTS}
        found: dict[str, list[Tensor]] = {name: [] for name in read}

        def keep_input(_module: Any, arguments: tuple[Tensor, ...]) -> None:
            found["resid_pre"].append(arguments[0][:, -keep:].clone())

        def change(layer: int, component: Component) -> Any:
            def hook(_module: Any, _arguments: Any, output: Any) -> None:
                activation = unwrap(output)
                edit_in_place(activation, plan.get((layer, component), ()), (layer, component), index, positions)
                if component in found and only in (None, layer):
                    found[component].append(activation[:, -keep:].clone())

            return hook

        blocks = modules["resid_post"]
        with torch.no_grad(), ExitStack() as undo:
            for block in blocks[:first]:
                block.forward = lambda *_, **__: stream
                undo.callback(delattr, block, "forward")
            for layer in range(first, len(blocks)):
                if "resid_pre" in found:
                    undo.callback(blocks[layer].register_forward_pre_hook(keep_input).remove)
                for component in COMPONENTS:
                    if component in found or (layer, component) in plan:
                        handle = modules[component][layer].register_forward_hook(change(layer, component))
                        undo.callback(handle.remove)
            hidden = model.hf.base_model(**inputs).last_hidden_state
        return {name: torch.stack(values) for name, values in found.items()}, hidden


if __name__ == "__main__":
    from benchmarks.ours import OurSide
    from benchmarks.sides import serve

    (folder,) = sys.argv[1:]
    transformers_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    serve(OurSide(unwrapped(transformers_model, AutoTokenizer.from_pretrained(folder)), HookEngine))

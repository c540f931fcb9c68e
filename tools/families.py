"""The table of causal families: which emolib serves, how, and how far it is from plain transformers under edits.

`python tools/families.py` builds every type of transformers' causal mapping small and random, where its configuration
allows, and writes book/families.md, which the tests hold to. With names of families it prints their rows and writes
nothing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from emolib.engine.checks import TOLERANCE, check_model
from emolib.engine.edits import Edit, Noise
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_config, tiny_model

PAGE = Path(__file__).parents[1] / "book" / "families.md"
MOST = 20_000_000  # parameters of a model that counts as small
PROMPTS = [f"My dog ran: joy. {text} Answer:" for text in ("Ok so", "The bus left.")]
LABELS = torch.tensor([70, 71, 75, 90, 100])
INTRODUCTION = """\
# Families of models

Every type of causal language model in transformers {version}, small and random, loaded and edited by emolib: each
component that it has, in the first, a middle and the last layers, at each of the last three tokens and at all of them,
on prompts longer than its attention windows. The difference is the largest between a logit and that of plain
transformers with a hook, as a share of the largest logit, in float32. *Replay* reads a text once and runs the edited
tokens alone; *full passes* run it anew for each edit, as exact and slower, and emolib says so when it loads the model.
*resid_post* alone means that a layer is not a sum of one attention and one feed-forward.

{counts}

{alike}

All others:

| family | served | components | difference | reason |
|---|---|---|---|---|
"""
ALIKE = "**Served by replay, with all three components**, at a difference of at most "


class Row(NamedTuple):
    """What the table says of a family; `served` is replay, full passes, refused, not built or wrong."""

    served: str
    components: str = ""
    difference: str = ""
    reason: str = ""


def table() -> dict[str, Row]:
    """The rows of the page, by family, in transformers' order; of those that are alike without their difference."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" |")] for line in lines if line.startswith("| ")][1:]
    alike = next(line for line in lines if line.startswith(ALIKE)).partition(": ")[2].rstrip(".").split(", ")
    rows = {family: Row(*rest) for family, *rest in cells}
    rows |= {family: Row("replay", ", ".join(COMPONENTS)) for family in alike}
    return {family: rows.pop(family) for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if family in rows} | rows


def page(found: Mapping[str, Row]) -> str:
    """The page: what is served alike as one list, all others as a table."""
    served = [row.served for row in found.values()]
    counts = ", ".join(f"{name}: {served.count(name)}" for name in dict.fromkeys(served))
    same = {name: row for name, row in found.items() if row[:2] == ("replay", ", ".join(COMPONENTS))}
    alike = f"{ALIKE}{max((row.difference for row in same.values()), key=float)}: {', '.join(same)}."
    text = INTRODUCTION.format(version=transformers.__version__, counts=f"{len(served)} types. {counts}.", alike=alike)
    return text + "".join(f"| {name} | {' | '.join(row)} |\n" for name, row in found.items() if name not in same)


def sites(model: Model) -> list[Edit]:
    """Every component in the first layer, in the second, and over the last three, at three tokens."""
    n = model.n_layers
    places = [((0,), -3), ((1,), -2), ((n - 3, n - 2, n - 1), -1)]
    return [Edit(component=c, layers=at, operation=Noise(1), position=p) for c in model.components for at, p in places]


def difference(model: Model, edits: Sequence[Edit]) -> float:
    """The largest difference from plain transformers, clean and under each edit, as a share of the largest logit.

    The first edit is made at all tokens as well. Raises AssertionError for an edit that does nothing, and for one that
    a later clean pass shows traces of.
    """
    everywhere = Edit(component=edits[0].component, layers=edits[0].layers, operation=Noise(1), position="all")
    asked = (None, *edits, everywhere)
    rows = [[plain(model, text, edit, LABELS, row=row) for edit in asked] for row, text in enumerate(PROMPTS)]
    expected = torch.stack([torch.stack(row) for row in rows])
    engine = Engine(model, PROMPTS, LABELS, keep=3)
    encoding = engine.encode([1, 0])
    parts = encoding.logits[:, None], engine.replay(encoding, edits), engine.forward([1, 0], [everywhere])
    found = torch.cat(parts, 1)[[1, 0]]
    effect = (expected[:, 1:] - expected[:, :1]).abs().amax((0, 2))
    assert effect.min() > 1e-6 * expected.abs().max(), f"{asked[1 + int(effect.argmin())]} does nothing"
    assert torch.equal(engine.encode([1, 0]).logits, encoding.logits), "an edit leaves traces"
    return ((found - expected).abs().max() / expected.abs().max()).item()


def row(family: str) -> Row:
    """What is found of a family now."""
    try:
        with torch.device("meta"):
            size = transformers.AutoModelForCausalLM.from_config(tiny_config(family)).num_parameters()
    except Exception as error:  # whatever a configuration objects to
        return Row("not built", reason=_short(f"{type(error).__name__}: {error}"))
    if size > MOST:
        return Row("not built", reason=f"{size / 1e6:.0f} million parameters at the least")
    try:
        model = check_model(tiny_model(family))
        largest = difference(model, sites(model))
    except Exception as error:  # a crash is a row as well, and one that fails its test
        return Row("refused" if isinstance(error, ValueError) else "wrong", reason=_short(str(error)))
    if largest > TOLERANCE[torch.float32]:
        return Row("wrong", difference=f"{largest:.0e}")
    served = "full passes" if model.obstacle else "replay"
    return Row(served, ", ".join(model.components), f"{largest:.0e}", _short(model.obstacle))


def _short(text: str) -> str:
    """One line without marks of tables, of at most 150 letters."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= 150 else f"{line[:149]}…"


def main(families: Sequence[str]) -> None:
    """Print the rows, and write the page when all families are asked for."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    found = {}
    for family in families or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        found[family] = row(family)
        print(f"| {family} | {' | '.join(found[family])} |", flush=True)
    if not families:
        PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

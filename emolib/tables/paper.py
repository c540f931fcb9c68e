"""The paper's own numbers (arXiv 2502.05489), read from its figures and from the authors' stored outputs.

One row is one measurement. The columns are those of `tables.schemas`, so that a figure takes the paper's rows like
ours, and beside them `last_depth`, `figure`, `tolerance` (absolute reading error; 0 is exact) and `how` (printed,
vector, raster, computed_from_data). Experiments keep the names of the value table. Overwriting
`resid_post` over a span equals overwriting its last block alone, so compare such rows
by `last_layer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emolib.engine.registry import registry
from emolib.tables.results import select
from emolib.texts.appraisals import PUSHED

PACKED = Path(__file__).parents[1] / "data" / "paper_values.parquet"
EXTRA = ("depth", "last_layer", "last_depth", "n_layers", "figure", "tolerance", "how")


@dataclass(frozen=True)
class PaperModel:
    """A model of the paper: `n` is the size of its agreed set."""

    name: str
    id: str
    layers: int
    width: int
    n: int

    @property
    def accuracy(self) -> float:
        """The share of the 6,600 texts that it labels as their writers do, one label of 13."""
        return self.n / 6600


# In the order of the paper's Table 1.
PAPER_MODELS = tuple(
    PaperModel(one["title"].removesuffix(" Instruct"), one["hub"], one["layers"], one["width"], one["agreed"])
    for one in registry().values()
    if "paper" in one
)
DETAILED = PAPER_MODELS[0]  # the one model with spans, tokens, prompts, appraisals and steering


@cache
def load_values() -> pd.DataFrame:
    """All 16,756 values of the paper, `layer` and `last_layer` 0-based, `depth` = 1-based layer / n_layers.

    What the packed file says in one text (`emotion:joy;appraisal:pleasantness`, `true=>answer`) has columns here: a
    modulation setting those of `texts.appraisals.PUSHED` (+1, -1, 0), a random direction its `draw`.
    """
    frame = pd.read_parquet(PACKED)
    frame = frame.astype(dict.fromkeys(("layer", "last_layer", "n_layers", "span", "seed", "n"), "Int64"))
    named = pd.DataFrame([_named(*case) for case in frame[["condition", "label"]].itertuples(index=False)])
    texts = [name for name in named if name not in (*PUSHED, "draw")]
    named = named.fillna(dict.fromkeys(texts, "")).astype(dict.fromkeys((*PUSHED, "draw"), "Int64"))
    frame = frame.drop(columns=["condition", "label"]).rename(columns={"coefficient": "dose"}).join(named)
    # the file counts layers from 1, as the paper does; everything else in emolib counts from 0
    frame = frame.assign(layer=frame["layer"] - 1, last_layer=frame["last_layer"] - 1, ci_low=np.nan, ci_high=np.nan)
    for name, layer in {"depth": "layer", "last_depth": "last_layer"}.items():
        frame[name] = ((frame[layer] + 1) / frame["n_layers"]).astype(float)
    return frame


def _named(condition: str, label: str) -> dict[str, Any]:
    """The columns that a packed condition and label stand for."""
    found: dict[str, Any] = {"label": label}
    if "=>" in label:
        found["label"], found["answer"] = label.split("=>")
    for part in condition.split(";") if condition else ():
        key, _, value = part.partition(":")
        if key in PUSHED:
            found = dict.fromkeys(PUSHED, 0) | found | {key: int(value)}
        elif key == "random":
            found |= {"vector": "random", "draw": int(value)}
        else:
            found[{"segment": "part"}.get(key, key)] = value or key
    return found


def values(experiment: str, **keys: Any) -> pd.DataFrame:
    """Return the paper's values of one experiment in which the other columns have the given values (or one of a list).

    Any column may be a key: model, component, span, position, prompt, metric, emotion, appraisal, label, dose, ...; a
    model goes by its name in `PAPER_MODELS` or its id.

    Raises:
        ValueError: a column that does not exist or a value that does not occur; the message lists those that do.
    """
    if "model" in keys:
        wanted = keys["model"]
        keys["model"] = [model_id(name) for name in ([wanted] if isinstance(wanted, str) else wanted)]
    return select(load_values(), experiment=experiment, **keys)


def model_id(name: str) -> str:
    """Return the model's id for its short name; an id, "human" or "data" is returned as it is."""
    ids = {model.name: model.id for model in PAPER_MODELS}
    known = {*ids.values(), "human", "data"}
    if name not in known and name not in ids:
        raise ValueError(f"the paper has no model {name!r}: it has {list(ids)}, and rows of 'human' and 'data'")
    return ids.get(name, name)


def model_name(model: str) -> str:
    """Return the model's short name for its id; the id of a model outside the paper loses its organisation."""
    names = {known.id: known.name for known in PAPER_MODELS}
    return names.get(model, model.rsplit("/", 1)[-1])

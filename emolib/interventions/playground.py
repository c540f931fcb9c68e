"""A playground: an event of your own, one edit, and the thirteen labels before and after it.

`Playground.answer` is all of it, without a browser; `controls` puts it behind menus, sliders and a button (ipywidgets),
for Jupyter and Colab. A label's score is its share: the softmax, over the thirteen labels alone, of their calibrated
logits. A push is set beside pushes of the same length in directions that stand for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.engine.choices import check_choice, did_you_mean
from emolib.engine.edits import Add, Edit, Operation, Patch, Zero
from emolib.engine.engine import Encoding, Engine
from emolib.engine.labels import calibration_offsets
from emolib.engine.model import Model
from emolib.engine.places import attended
from emolib.engine.sites import COMPONENTS, Component, layer_number, span_layers
from emolib.figures.display import bundle
from emolib.figures.labels import label_shares
from emolib.figures.panels import readable
from emolib.probes.directions import SteeringVectors, contrasts, unit
from emolib.texts.appraisals import APPRAISALS, EMOTIONS, NAMED, PUSHED
from emolib.texts.prompts import Prompt

Kind = Literal["zero", "patch", "push"]
OFFERED = tuple(dict.fromkeys([*PUSHED, *NAMED]))  # the appraisals that have a slider; `answer` takes any
WORDS: Mapping[Kind, str] = {
    "zero": "silence: zeros in its place",
    "patch": "patch: from the other event",
    "push": "push: along the appraisals below",
}


class Playground:
    """One model, asked in one way, for edits of its answers to single events.

    `events` are what the model was asked before, with their ratings; of these are `stream` [L, n, d], the residual
    streams after each layer at the last token, and `logits` [n, 13], the labels' in the order of `EMOTIONS`. They give
    what calibration subtracts, the direction of each appraisal (mean stream of events rated above the appraisal's mean
    less that of the others, at unit length), the length of the stream at each layer, and `draws` random directions:
    sums of the events' streams with random weights, which vary as the streams do and mean nothing. Raises ValueError
    for an appraisal that is rated the same in all events.
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        events: pd.DataFrame,
        stream: Tensor,
        logits: Tensor,
        *,
        draws: int = 20,
        seed: int = 0,
    ) -> None:
        self.model, self.prompt = model, prompt
        self.offsets = calibration_offsets(logits, "batch")
        wide = stream.float()
        self.norms = wide.norm(dim=-1).mean(1)
        self.directions = unit(SteeringVectors(wide, events[[*APPRAISALS]]).difference).float()
        self.random = unit(contrasts(wide, draws, seed=seed)).float()
        self._read: tuple[tuple[str, str], Engine, Encoding] | None = None

    def vector(self, doses: Mapping[str, float]) -> Tensor:
        """Return what is added at each layer [L, d] when appraisals are pushed, each by its dose, a share of the mean
        length of the stream there; a negative dose pushes the other way. Raises ValueError for no dose but zeros, and
        for an unknown appraisal."""
        for name in doses:
            if name not in APPRAISALS:
                near = did_you_mean(name, APPRAISALS)
                raise ValueError(f"unknown appraisal {name!r}{near}: expected some of {', '.join(APPRAISALS)}")
        if not any(doses.values()):
            raise ValueError("a push without a dose: give an appraisal one other than zero, such as pleasantness 0.1")
        each = [dose * self.directions[:, APPRAISALS.index(name)] for name, dose in doses.items()]
        return self.norms[:, None] * torch.stack(each).sum(0)

    def answer(
        self,
        event: str,
        *,
        edit: Kind,
        component: Component = "resid_post",
        layer: int,
        span: int = 1,
        other: str = "",
        doses: Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Return the share of each label without and with an edit at the last token, a row each.

        Columns: label, state ("before", "after", and of a push "random"), draw (number of the random direction, else
        -1), value (0 to 1, thirteen add up to 1). The edit acts on `span` layers around `layer`, which counts from 0.
        `other` is the event that a patch takes the activation from, `doses` what a push is made of (`vector`). Raises
        ValueError for an empty event, for a site that the model does not have, for a push without a dose.
        """
        check_choice("edit", edit, Kind)
        operations = self._operations(edit, event, other, doses or {})
        layers = span_layers(layer, span, self.model.n_layers)
        self.model.check(component)
        engine, encoding = self._ask(event, other if edit == "patch" else "")
        if edit == "patch":
            taken = {name: table[:, :, -1] for name, table in encoding.activations.items()}
            operations = [Patch(taken, donors=torch.tensor([1, 1]))]
        edits = [Edit(component=component, layers=layers, operation=one) for one in operations]
        found = torch.cat([encoding.logits[:1, None], engine.replay(encoding, edits)[:1]], dim=1)[0]
        shares = (found - self.offsets).softmax(-1).cpu().numpy()
        states = ["before", "after", *["random"] * (len(shares) - 2)]
        rows = [
            {"label": label, "state": state, "draw": draw if state == "random" else -1, "value": float(value)}
            for draw, (state, row) in enumerate(zip(states, shares, strict=True), start=-2)
            for label, value in zip(EMOTIONS, row, strict=True)
        ]
        return pd.DataFrame(rows)

    def _operations(self, edit: Kind, event: str, other: str, doses: Mapping[str, float]) -> Sequence[Operation]:
        """The operations of an edit, the one asked for first; a patch has its own, once both events are read."""
        for name, text in [("event", event), *([("other event", other)] if edit == "patch" else [])]:
            if not text.strip():
                raise ValueError(f"the {name} is empty: write one or two sentences about what happened")
        if edit != "push":
            return [Zero()] if edit == "zero" else []
        vector = self.vector(doses)
        return [Add(vector), *(Add(vector.norm(dim=-1, keepdim=True) * drawn) for drawn in self.random)]

    def _ask(self, event: str, other: str) -> tuple[Engine, Encoding]:
        """The engine and what it has read of the event and, if there is one, the other; the last ones are kept."""
        if self._read is None or self._read[0] != (event, other):
            texts = [self.prompt.read(self.model.tokenizer, text) for text in (event, other) if text]
            engine = Engine(self.model, texts, answers=EMOTIONS)
            self._read = (event, other), engine, engine.encode([*range(len(texts))], read=self.model.components)
        return self._read[1], self._read[2]


def beyond(moved: pd.DataFrame, label: str) -> tuple[float, float, float]:
    """Return by how much a push moves a label's share, and the least and the most that random directions move it.

    `moved` is what `Playground.answer` returns for a push; all three are differences to the share before, -1 to 1.
    """
    value = moved[moved["label"] == label].set_index("state")["value"]
    drawn = value.loc[["random"]] - value["before"]
    return float(value["after"] - value["before"]), float(drawn.min()), float(drawn.max())


def told(moved: pd.DataFrame, label: str) -> str:
    """Return by how much a push moves a label's share and whether random directions do as well, in words: "+3 points,
    within the range of random directions (−10 to +11)"."""
    step, low, high = beyond(moved, label)
    within = "within" if low <= step <= high else "outside"
    words = f"{100 * step:+.0f} points, {within} the range of random directions ({100 * low:+.0f} to {100 * high:+.0f})"
    return words.replace("-", "\N{MINUS SIGN}")


def top(moved: pd.DataFrame, state: str) -> str:
    """Return the label with the largest share before or after an edit."""
    rows = moved[moved["state"] == state]
    return str(rows["label"].iloc[int(np.argmax(rows["value"]))])


def controls(playground: Playground, event: str, other: str) -> Any:
    """Return the playground's menus, sliders and button, which draw the answer below them; None where a program draws
    the notebook for the book, whose pages have no Python behind them.

    Raises ModuleNotFoundError without ipywidgets.
    """
    if not attended():
        return None
    import ipywidgets as widgets
    from IPython.display import display

    model, wide = playground.model, {"description_width": "11em"}
    look = {"style": wide, "layout": widgets.Layout(width="min(100%, 38em)")}
    given = {
        "event": widgets.Textarea(event, description="event", **look),
        "other": widgets.Textarea(other, description="other event", **look),
        "edit": widgets.Dropdown(options=[(WORDS[kind], kind) for kind in get_args(Kind)], description="edit", **look),
        "component": widgets.Dropdown(
            options=[(readable(name), name) for name in COMPONENTS if name in model.components],
            description="component",
            **look,
        ),
        "layer": widgets.IntSlider(
            layer_number(model.n_layers // 2), layer_number(0), model.n_layers, description="layer", **look
        ),
        "span": widgets.Dropdown(options=[1, 3, 5], description="layers at once", **look),
    }
    doses = {
        name: widgets.FloatSlider(0.0, min=-0.3, max=0.3, step=0.05, description=readable(name), **look)
        for name in OFFERED
    }
    button, out = widgets.Button(description="Ask the model", button_style="primary"), widgets.Output()

    def ask(_: object) -> None:
        chosen = {name: one.value for name, one in given.items()} | {"layer": given["layer"].value - layer_number(0)}
        pushed = {name: one.value for name, one in doses.items() if one.value}
        out.clear_output(wait=True)
        with out:
            try:
                display(picture(playground.answer(**chosen, doses=pushed)), raw=True)
            except ValueError as error:
                print(error)

    button.on_click(ask)
    return widgets.VBox([*given.values(), *doses.values(), button, out])


def picture(moved: pd.DataFrame) -> dict[str, Any]:
    """Return the notebook output of a figure of what `Playground.answer` returns, with a computed caption."""
    return bundle(
        label_shares(moved),
        name="playground-answer",
        title=f"{top(moved, 'before').capitalize()} before, {top(moved, 'after')} after",
        caption="Shares of the thirteen labels, before the edit (rings) and after it (bars).",
        alt="Share of each of thirteen labels before the edit and after it.",
    )

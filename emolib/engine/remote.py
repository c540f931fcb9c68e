"""Models that run elsewhere: every pass is a request to NDIF (ndif.us), which has the weights; here is their shape.

A server keeps nothing between two requests, so these models are run by full passes: equally right, and slower. Nothing
but `Model.lm` and the unembedding differs from a model that is here, so everything that is written for one serves.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Literal

import httpx
import nnsight
import torch
from nnsight import ndif
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.config import CONFIG
from safetensors.torch import load_file, save_file
from torch import Tensor

from emolib.engine import registry
from emolib.engine.anatomy import Anatomy
from emolib.engine.choices import DType, Tap
from emolib.engine.edits import Edit, Operation, Patch, Where, onto
from emolib.engine.layouts import find_layout
from emolib.engine.model import Model
from emolib.engine.places import replacing

Place = Literal["ndif", "local"]
OBSTACLE = "it runs elsewhere"
LIMIT, PAUSE = 1800.0, 1.0  # seconds until an answer is given up, and between two questions for it
KEPT = "what is finished is kept, and the same command goes on from there"


@dataclass(frozen=True, kw_only=True)
class RemoteModel(Model):
    """A model whose passes are requests; `hf` has its shape, and at place "ndif" no weights."""

    @property
    def device(self) -> torch.device:
        """Where inputs are made."""
        return torch.device("cpu")

    def head(self, *, view: Any = None) -> Any:
        """The unembedding; its weights come here once, since every answer is read with them."""
        return self._fetched if view is self.hf and self.hf.device.type == "meta" else super().head(view=view)

    @cached_property
    def _fetched(self) -> Any:
        name = f"{self.name}@{self.revision}@{self.dtype}".encode()
        file = registry.cache_folder() / "heads" / f"{hashlib.sha256(name).hexdigest()[:16]}.safetensors"
        if not file.is_file():
            head = self.head()
            with torch.no_grad(), self.lm.trace(input_ids=torch.zeros(1, 1, dtype=torch.long)) as tracer:
                weights = nnsight.save({name: value.detach().clone() for name, value in head.named_parameters()})
                tracer.stop()
            if weights["weight"].dtype != self.dtype:
                own, there = (str(kind).removeprefix("torch.") for kind in (self.dtype, weights["weight"].dtype))
                raise ValueError(f"NDIF runs {self.name} in {there} and the run says {own}: give --dtype {there}")
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as new:  # each of several jobs writes its own
                save_file(weights, new.name)
        return SimpleNamespace(**{"bias": None, **load_file(file)})


class Sender:
    """The view of a model that makes a request of each pass traced on it; else it is `view`."""

    def __init__(self, view: Any, place: Place) -> None:
        self._view, self._place = view, place
        nnsight.register("emolib")  # a request carries this code: the server does not have it

    def trace(self, *inputs: Any, **options: Any) -> Any:
        """A tracer whose block runs elsewhere, or is packed for it and runs here."""
        if self._place == "local":
            return self._view.trace(*inputs, remote="local", **options)
        return self._view.trace(*inputs, backend=Request(self._view.to_model_key()), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


class Request(RemoteBackend):
    """Sends a block and asks for its result, with an end to the waiting. Raises RuntimeError where there is none."""

    def __call__(self, tracer: Any = None) -> Any:
        """The saved values."""
        begin = time.monotonic()
        try:
            self.submit(tracer)
            while (found := self.poll(tracer)) is None:
                if time.monotonic() - begin > LIMIT:
                    raise RuntimeError(f"NDIF has not answered within {LIMIT:.0f} s ({self.status}): {KEPT}")
                time.sleep(PAUSE)
        except (RemoteError, httpx.HTTPError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise RuntimeError(f"NDIF did not do what was asked ({reason}): {KEPT}") from error
        self._push(found, tracer)
        return found


def check_service(repository: str) -> None:
    """Nothing, once NDIF can be asked for a model of the hub.

    Raises ValueError without a key, RuntimeError when the service does not answer, speaks another version of nnsight,
    or does not have the model running.
    """
    if not CONFIG.API.APIKEY:
        raise ValueError("NDIF wants a key: get one at https://login.ndif.us, set NDIF_API_KEY, or leave out --remote")
    try:
        theirs = ndif.get_remote_env(force_refresh=True)["packages"].get("nnsight", "of no version")
        deployed = ndif.status(raw=True).get("deployments", {}).values()
    except httpx.HTTPError as error:
        raise RuntimeError(f"NDIF at {CONFIG.API.HOST} does not answer ({error}): try again later") from error
    ours = importlib.metadata.version("nnsight")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise RuntimeError(
            f"NDIF runs nnsight {theirs}, which does not understand {ours}, that is here: install theirs"
        )
    running = sorted({one["repo_id"] for one in deployed if one.get("application_state") == "RUNNING"})
    if repository not in running:
        raise RuntimeError(
            f"NDIF does not have {repository} running now, but {', '.join(running) or 'nothing'}: "
            "choose one of these, or ask for it at https://ndif.us and try again later"
        )


def elsewhere(repository: str, tokenizer: Any, *, name: str, revision: str | None, dtype: DType, tap: Tap) -> Model:
    """The model of the hub as NDIF has it, unchecked. Raises what `check_service` raises, before it asks for more."""
    check_service(repository)
    options = dict(task="text-generation", tokenizer=tokenizer, dtype=getattr(torch, dtype))
    view = nnsight.TransformersModel(repository, revision=revision, **options)
    hf = view._module
    layout = find_layout(hf, tap)
    n_layers = len(layout.paths["resid_post"])
    return RemoteModel(
        name=name,
        revision=getattr(hf.config, "_commit_hash", None) or "unknown",
        hf=hf,
        lm=Sender(view, "ndif"),
        tokenizer=tokenizer,
        layout=layout,
        anatomy=Anatomy(rules={"": None}, kinds=("",) * n_layers, keys=(), returned=0, devices=(), obstacle=OBSTACLE),
        tap=tap,
        obstacle=OBSTACLE,
    )


def as_elsewhere(model: Model) -> Model:
    """The model of this machine with its passes packed as requests, and unpacked and run here: what NDIF would do."""
    # Without a device it would be moved to a GPU, where there is one.
    options = dict(tokenizer=model.tokenizer, task="text-generation", device=model.hf.device)
    view = nnsight.TransformersModel(model.hf, **options)
    own = {field.name: getattr(model, field.name) for field in fields(model)}
    return RemoteModel(**own | dict(lm=Sender(view, "local"), obstacle=OBSTACLE))


@dataclass(frozen=True, eq=False)
class Received:
    """What a Patch puts into `rows` (texts, in order), by layer [row, d]: what a request needs of its table."""

    values: Mapping[int, Tensor]
    rows: Tensor

    def __call__(self, activation: Tensor, where: Where) -> Tensor:
        return onto(self.values[where.layer][torch.searchsorted(self.rows, where.rows)], activation)


def lighter(edit: Edit, rows: Tensor) -> Edit:
    """The same edit of the texts `rows`, without what it holds for others, which would travel with every request."""
    if not isinstance(edit.operation, Patch):
        return edit
    table, rows = edit.operation.activations[edit.component], rows.sort().values
    donors = edit.operation.donors[rows]
    operation: Operation = Received({layer: table[layer, donors] for layer in edit.layers}, rows)
    return replace(edit, operation=operation)

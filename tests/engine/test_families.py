"""Every family against plain transformers, under edits, on prompts longer than its windows, and the table of them."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from emolib.engine.checks import TOLERANCE, check_model
from emolib.engine.edits import Edit
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model
from helpers import DEVICE, mixed
from tools.families import ALIKE, LABELS, PAGE, PROMPTS, difference, page, sites, table

TABLE = table()
ALLOWED = TOLERANCE[torch.float32] / (5 if DEVICE == "cpu" else 1)  # what a GPU sums first depends on the shape
FLOAT32 = {"inkling2_text"}  # what transformers itself runs in float32 alone, without kernels for a GPU


@pytest.mark.parametrize("family", [family for family, row in TABLE.items() if row.served != "not built"])
def test_a_family_is_served_as_the_table_says_and_as_plain_transformers_is(family: str) -> None:
    row = TABLE[family]
    if row.served == "refused":
        with pytest.raises(ValueError, match=re.escape(row.reason.removesuffix("…"))):
            check_model(tiny_model(family, device=DEVICE))
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = check_model(tiny_model(family, device=DEVICE))
    assert "full passes" * bool(model.obstacle) == row.served.removeprefix("replay"), model.obstacle
    assert row.components == ", ".join(model.components)
    assert sum("run by full passes" in str(one.message) for one in said) == bool(model.obstacle)
    edits = sites(model)
    assert difference(model, edits) < ALLOWED
    if model.components == COMPONENTS:
        read = Engine(model, PROMPTS, LABELS, keep=3).encode([0, 1], read=COMPONENTS)
        step, stream = read.activations["attn_out"] + read.activations["mlp_out"], read.activations["resid_post"]
        assert (read.resid_pre + step - stream).abs().max() <= 1e-5 * stream.abs().max()
    # Neither the other attention nor another dtype depends on the site: one edit shows what they do.
    some = edits[len(edits) // 2]
    assert off(replace(mixed(model), obstacle=model.obstacle), some) < TOLERANCE["mixed"]
    if model.hf._supports_sdpa:
        model.hf.set_attn_implementation("eager")
        assert off(model, some) < ALLOWED
    model.hf.to(torch.bfloat16)
    if family in FLOAT32:
        with pytest.raises(RuntimeError, match="same dtype"):
            plain(model, PROMPTS[0])
    else:
        assert off(model, some) < TOLERANCE[torch.bfloat16]


def off(model: Model, edit: Edit) -> float:
    """How far one replayed edit is from plain transformers, as a share of the largest logit."""
    expected = torch.stack([plain(model, text, edit, LABELS, row=row) for row, text in enumerate(PROMPTS)])
    engine = Engine(model, PROMPTS, LABELS, keep=3)
    found = engine.replay(engine.encode([1, 0]), [edit])[[1, 0], 0]
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_the_table_has_every_type_of_the_installed_transformers() -> None:
    assert list(TABLE) == list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert f"transformers {transformers.__version__}," in PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_is_written_of_its_rows() -> None:
    text = PAGE.read_text(encoding="utf-8")
    most = text.partition(ALIKE)[2].partition(":")[0]
    rows = {
        name: row if row.difference or row.served != "replay" else row._replace(difference=most)
        for name, row in TABLE.items()
    }
    assert page(rows) == text

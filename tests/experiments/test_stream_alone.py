"""A run of a model that is no sum of attention and feed-forward and has no attention either: a small Mamba.

The notebooks that ask for these are drawn, but for the cells that edit the embedded model. Each edit is a pass.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from emolib.book.run import result_of
from emolib.engine.tiny import tiny_model
from emolib.study.run import Run
from emolib.tables import results
from emolib.tables.provenance import absent
from helpers import agreeing_table, said_by, task_tokenizer, tiny_table

TEXTS = 260
NOTEBOOKS = ["06_attention", "06_patching", "B_ablation", "C_robustness"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stream")
    model = tiny_model("mamba", tokenizer=task_tokenizer(), num_hidden_layers=4, tie_word_embeddings=False)
    likely = model.tokenizer.convert_tokens_to_ids(["joy", "sadness"])
    with torch.no_grad():
        model.hf.get_output_embeddings().weight[likely] *= 50  # the answers, so that they are many of each
        for name, weight in model.hf.named_parameters():
            if "mixer" in name and weight.ndim > 1:
                weight.mul_(0.1)  # as they are drawn: ten times that and the stream has numbers of twelve digits
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    table = tiny_table(TEXTS, writers=64)
    table["text"] = [" ".join(text.split()[:6]) for text in table["text"]]  # of one length, so that they share passes
    corpus = agreeing_table(str(folder / "model"), folder, table)
    return Run(model=str(folder / "model"), corpus=str(corpus), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def said(run: Run, folder: Path) -> dict[str, str]:
    return said_by(NOTEBOOKS, run, folder)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_chapter_is_drawn_and_says_what_it_lacks(name: str, said: dict[str, str], run: Run, folder: Path) -> None:
    if name == "06_attention":  # of which nothing is left
        assert said[name].strip() == (
            f"{run.model} (MambaForCausalLM) does not give attention weights for every token in every layer: what its "
            "last token looks at cannot be measured"
        )
        return
    sentence = "The model has no attn_out and no mlp_out, because attention and feed-forward do not add up."
    *before, footer = said[name].strip().split("**Provenance.**")
    assert sentence in footer and "by full passes, because it keeps no cache" in footer
    assert sentence in "".join(before)
    table = results.read(result_of(name, run.slug, folder))
    assert sentence == absent(table.attrs["provenance"])
    assert "component" not in table or set(table["component"]) <= {"", "resid_post"}


def test_what_can_be_asked_of_the_stream_is_asked(said: dict[str, str], run: Run, folder: Path) -> None:
    table = results.read(result_of("C_robustness", run.slug, folder))
    assert set(table["check"]) >= {"prompts", "topic", "matched", "positions", "splits", "misclassified"}
    assert {"saturation_depth", "onset_depth", "transfer", "agreement"} <= set(table["metric"])
    assert not {"peak_depth", "dip_depth", "constant_agreement"} & set(table["metric"])

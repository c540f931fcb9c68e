"""Label tokens on tokenizers built for the purpose, and calibration by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emolib.engine.labels import CALIBRATIONS, LABEL_SCORES, SCORINGS, LabelTokens, calibration_offsets, label_tokens
from emolib.engine.tiny import byte_tokenizer
from emolib.texts.corpus import EMOTIONS
from helpers import word_tokenizer


def piece_tokenizer(*words: str) -> Any:
    """A tokenizer that splits words into the given pieces, the longest first; "##" marks what is not a start."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {name: index for index, name in enumerate(("<unk>", "Answer", ":", *words))}
    tokenizer = Tokenizer(models.WordPiece(vocab=names, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")


def test_a_byte_tokenizer_spells_each_label_after_a_blank() -> None:
    tokenizer = byte_tokenizer()
    found = label_tokens(tokenizer, EMOTIONS)
    assert found.labels == EMOTIONS
    for label, pieces in zip(EMOTIONS, found.tokens, strict=True):
        assert len(pieces) == 1 + len(label)
        assert tokenizer.decode(pieces) == f" {label}"


def test_a_word_tokenizer_has_one_token_a_label_and_the_rules_agree() -> None:
    tokenizer = word_tokenizer()
    found = label_tokens(tokenizer, EMOTIONS)
    assert found.tokens == tuple((tokenizer.convert_tokens_to_ids(label),) for label in EMOTIONS)
    assert tokenizer.unk_token_id not in found.ids("first_subtoken")
    assert torch.equal(found.ids("first_subtoken"), found.ids("last_subtoken"))


def test_on_the_embedded_model_every_label_is_one_token_with_its_blank(embedded_model: Any) -> None:
    tokenizer = embedded_model.tokenizer
    found = label_tokens(tokenizer, EMOTIONS)
    assert [tokenizer.decode(pieces) for pieces in found.tokens] == [f" {label}" for label in EMOTIONS]
    assert {len(pieces) for pieces in found.tokens} == {1}
    # In the place where they are used: what follows the real prompt is the same token.
    prompt = "What? Context: I saw mouldy food. Answer:"
    ids = tokenizer(prompt)["input_ids"]
    for label, pieces in zip(EMOTIONS, found.tokens, strict=True):
        assert tokenizer(f"{prompt} {label}")["input_ids"] == [*ids, *pieces]


def test_first_and_last_piece_of_a_label_that_is_split() -> None:
    tokenizer = piece_tokenizer("joy", "dis", "##gust")
    found = label_tokens(tokenizer, ("joy", "disgust"))
    names = tokenizer.get_vocab()
    assert found.tokens == ((names["joy"],), (names["dis"], names["##gust"]))
    assert found.ids("first_subtoken").tolist() == [names["joy"], names["dis"]]
    assert found.ids("last_subtoken").tolist() == [names["joy"], names["##gust"]]


def test_labels_that_share_the_scored_piece_are_named_and_the_other_rule_offered() -> None:
    found = label_tokens(piece_tokenizer("joy", "dis", "##gust", "##may", "##trust"), ("disgust", "joy", "dismay"))
    with pytest.raises(ValueError, match=r"disgust = dismay share a token.*use scoring='last_subtoken'"):
        found.ids("first_subtoken")
    assert len(set(found.ids("last_subtoken").tolist())) == 3


def test_every_group_of_labels_that_clash_is_named_and_no_other() -> None:
    found = LabelTokens(("a", "b", "c", "d", "e"), ((1, 5), (2, 6), (3, 5), (4, 6), (5, 7)))
    assert found.ids("first_subtoken").tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"\(a = c; b = d share a token\): use scoring='first_subtoken'"):
        found.ids("last_subtoken")


def test_bytes_cannot_tell_labels_apart_by_their_blank() -> None:
    with pytest.raises(ValueError, match=" = ".join(EMOTIONS)):
        label_tokens(byte_tokenizer(), EMOTIONS).ids("first_subtoken")


def test_a_rule_without_a_single_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'log_probability' has no single token: expected one of first_subtoken"):
        LabelTokens(("joy",), ((1,),)).ids("log_probability")  # type: ignore[arg-type]


def test_a_label_merged_with_what_is_before_it_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    whole = models.WordLevel(vocab={"<unk>": 0, "Answer:": 1, "Answer: joy": 2}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(whole), unk_token="<unk>")
    with pytest.raises(ValueError, match=r"merges label 'joy' into \"Answer:\""):
        label_tokens(tokenizer, ("joy",))


def test_the_rules_by_name() -> None:
    assert SCORINGS == ("first_subtoken", "last_subtoken")
    assert list(LABEL_SCORES) == [*SCORINGS, "log_probability", "mean_log_probability"]
    assert CALIBRATIONS == ("none", "batch")


def test_batch_calibration_makes_the_mean_of_every_label_zero() -> None:
    scores = torch.randn(40, 13, generator=torch.Generator().manual_seed(0)) * 3 + torch.arange(13.0)
    offsets = calibration_offsets(scores, "batch")
    assert offsets.shape == (13,)
    assert torch.allclose((scores - offsets).mean(0), torch.zeros(13), atol=1e-5)
    assert calibration_offsets(torch.tensor([[1.0, 4.0], [3.0, 0.0]]), "batch").tolist() == [2.0, 2.0]


def test_no_calibration_changes_nothing() -> None:
    scores = torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    assert torch.equal(scores - calibration_offsets(scores, "none"), scores)


def test_an_unknown_calibration_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"unknown calibration 'bach' \(did you mean 'batch'\?\): expected one of none, batch"
    ):
        calibration_offsets(torch.zeros(2, 13), "bach")  # type: ignore[arg-type]

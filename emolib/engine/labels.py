"""The answer: label tokens, scoring rules and calibration (brief §4.2, paper A.3).

A label is scored by the next-token logit of one of its sub-tokens, so that every intervention needs a single row of the
unembedding per label, or by the log-probability of the whole label. On Llama 3 all labels are one token and the rules
agree; on the Llama 2 and Tekken vocabularies the released rule (last sub-token) scores "disgust" on "ust".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emolib.engine.choices import Calibration, Scoring, check_choice

LabelScore = Literal[Scoring, "log_probability", "mean_log_probability"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)
LABEL_SCORES: tuple[LabelScore, ...] = get_args(LabelScore)
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


@dataclass(frozen=True)
class LabelTokens:
    """The sub-tokens of each label as the answer to the prompt, in label order."""

    labels: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]

    def ids(self, scoring: Scoring = "first_subtoken") -> Int[Tensor, " label"]:
        """Token id that scores each label under a single-token rule.

        Raises ValueError when two labels share that token: the rule cannot tell them apart.
        """
        if scoring not in SCORINGS:
            raise ValueError(f"scoring {scoring!r} has no single token: expected one of {', '.join(SCORINGS)}")
        chosen = [pieces[0 if scoring == "first_subtoken" else -1] for pieces in self.tokens]
        shared = defaultdict(list)
        for label, token in zip(self.labels, chosen, strict=True):
            shared[token].append(label)
        clashes = [" = ".join(labels) for labels in shared.values() if len(labels) > 1]
        if clashes:
            other = next(rule for rule in SCORINGS if rule != scoring)
            raise ValueError(
                f"scoring={scoring!r} cannot tell labels apart on this tokenizer ({'; '.join(clashes)} share a token): "
                f"use scoring={other!r} or a model with another tokenizer"
            )
        return torch.tensor(chosen)


def label_tokens(tokenizer: Any, labels: Sequence[str]) -> LabelTokens:
    """The sub-tokens of " label" as they follow "Answer:", for any tokenizer.

    Raises ValueError when a label has no token of its own in that place.
    """
    stem = tokenizer("Answer:", add_special_tokens=False)["input_ids"]
    pieces = []
    for label in labels:
        whole = tokenizer(f"Answer: {label}", add_special_tokens=False)["input_ids"]
        if whole[: len(stem)] != stem or len(whole) == len(stem):
            raise ValueError(f'the tokenizer merges label {label!r} into "Answer:": this model cannot be scored')
        pieces.append(tuple(whole[len(stem) :]))
    return LabelTokens(tuple(labels), tuple(pieces))


def answer_ids(tokenizer: Any, answers: Sequence[str] | Int[Tensor, " answer"]) -> Int[Tensor, " answer"]:
    """The token ids of words that may answer, each by its first sub-token; token ids are returned as they are.

    Raises ValueError when two words share that token; give token ids then, such as `LabelTokens.ids("last_subtoken")`.
    """
    return answers if isinstance(answers, Tensor) else label_tokens(tokenizer, answers).ids()


def calibration_offsets(scores: Float[Tensor, "text label"], calibration: Calibration) -> Float[Tensor, " label"]:
    """What is subtracted from the scores of each label: zeros, or the label's mean over the texts.

    "batch" is batch calibration (Zhou et al. 2023). It is fitted on the clean run and used unchanged under every edit.
    """
    check_choice("calibration", calibration, Calibration)
    return torch.zeros_like(scores[0]) if calibration == "none" else scores.mean(dim=0)

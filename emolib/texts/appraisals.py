"""The words of the study, 13 emotions and 21 appraisals, and what appraisal theory says of them (E10; Figs 7, 30-36).

The theory comes from ratings alone: an emotion whose writers found their events pleasant should gain when
pleasantness is promoted. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EMOTIONS: tuple[str, ...] = (
    "anger",
    "boredom",
    "disgust",
    "fear",
    "guilt",
    "joy",
    "neutral",
    "pride",
    "relief",
    "sadness",
    "shame",
    "surprise",
    "trust",
)
APPRAISALS: tuple[str, ...] = (
    "suddenness",
    "familiarity",
    "predict_event",
    "pleasantness",
    "unpleasantness",
    "goal_relevance",
    "chance_responsblt",
    "self_responsblt",
    "other_responsblt",
    "predict_conseq",
    "goal_support",
    "urgency",
    "self_control",
    "other_control",
    "chance_control",
    "accept_conseq",
    "standards",
    "social_norms",
    "attention",
    "not_consider",
    "effort",
)
# The six of the paper's figures 5 and 29, in the order of its radar.
NAMED = ("predict_event", "pleasantness", "other_responsblt", "suddenness", "unpleasantness", "self_responsblt")
# The appraisals that the paper's code lets act or holds fixed; the paper's other-agency is other_responsblt, its
# predictability predict_event, its situational control chance_control.
ACTING = ("pleasantness", "other_responsblt", "predict_event", "chance_control")
# Those that are pushed here, the acting ones and self-agency, with what an event is then taken to be, up and down.
PUSHED = {
    "pleasantness": ("more pleasant", "less pleasant"),
    "other_responsblt": ("others more responsible", "others less responsible"),
    "predict_event": ("more predictable", "less predictable"),
    "chance_control": ("circumstances more in control", "circumstances less in control"),
    "self_responsblt": ("self more responsible", "self less responsible"),
}


class Setting(Mapping[str, int]):
    """Appraisals that are pushed together, each up (+1) or down (-1): an ordered mapping that can be a key.

    Settings are equal whatever their order. Raises ValueError for an appraisal that is never pushed or another sign.
    """

    def __init__(self, **signs: int) -> None:
        if not signs or not set(signs) <= set(PUSHED) or not set(signs.values()) <= {1, -1}:
            raise ValueError(f"a setting of {signs}: expected at least one of {', '.join(PUSHED)}, each 1 or -1")
        self._signs = signs

    @classmethod
    def from_columns(cls, row: Mapping[str, int]) -> Setting:
        """Return the setting of a table's row, from its `columns`."""
        return cls(**{name: int(row[name]) for name in PUSHED if row[name]})

    def columns(self) -> dict[str, int]:
        """Return the sign of each appraisal that is ever pushed, 0 where it is not, for the columns of a table."""
        return {name: self.get(name, 0) for name in PUSHED}

    def __getitem__(self, name: str) -> int:
        return self._signs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signs)

    def __len__(self) -> int:
        return len(self._signs)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"Setting({', '.join(f'{name}={sign:+d}' for name, sign in self.items())})"

    def __str__(self) -> str:
        """In words: "more pleasant, others less responsible"."""
        return ", ".join(PUSHED[name][sign < 0] for name, sign in self.items())


# The 20 of the paper's code: 4 appraisals up and down, and pleasantness with each of the other three, signs in all
# combinations. Its figures show the 14 without situational control.
SETTINGS = (
    *(Setting(**{name: sign}) for name in ACTING for sign in (1, -1)),
    *(Setting(**{ACTING[0]: a, other: b}) for other in ACTING[1:] for a, b in product((1, -1), repeat=2)),
)
PRINTED = tuple(setting for setting in SETTINGS if "chance_control" not in setting)


def label_means(ratings: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Return the mean of each rating [13 emotions, appraisals] over the texts of each emotion; NaN if it has none."""
    return ratings.astype(float).groupby(np.asarray(labels)).mean().reindex(list(EMOTIONS))


def expected_shifts(means: pd.DataFrame, settings: Sequence[Mapping[str, int]]) -> NDArray[np.float64]:
    """Return the expected shift [settings, 13] of each emotion: the sum of sign times standardised mean rating.

    `means` are the `label_means`; each appraisal is standardised over the emotions. Emotions without texts are NaN.
    Raises ValueError for an appraisal that is not rated.
    """
    z = (means - means.mean()) / means.std(ddof=0)
    unknown = sorted({name for setting in settings for name in setting} - set(z.columns))
    if unknown:
        raise ValueError(f"no ratings of {unknown}: the table of means has {list(z.columns)}")
    return np.array([sum(sign * z[name].to_numpy() for name, sign in setting.items()) for setting in settings])

"""Colours, markers and order of everything drawn in the book: one per component and per emotion, defined here only."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import colors

from emolib.engine.sites import COMPONENTS
from emolib.tables.schemas import POSITIONS

# Text, axes and grid; a colour used for nothing else, because display replaces it by the page's text colour.
INK = "#3b3c3d"
# What stands alone, and what stands behind.
PRIMARY = "#0072b2"
GREY = "#8a8a8a"

# Okabe and Ito (2008): distinct in all common forms of colour blindness.
COMPONENT_COLOURS: dict[str, str] = dict(zip(COMPONENTS, ("#0072b2", "#d55e00", "#009e73"), strict=True))
COMPONENT_LABELS: dict[str, str] = dict(
    zip(COMPONENTS, ("attention output", "feed-forward output", "residual stream"), strict=True)
)

# The paper's names where it has any; the rest of the corpus's short column names written out.
APPRAISAL_LABELS = {
    "other_responsblt": "other-agency",
    "self_responsblt": "self-agency",
    "chance_responsblt": "circumstances' agency",
    "predict_event": "predictability",
    "chance_control": "situational control",
    "predict_conseq": "predictable outcome",
    "accept_conseq": "accepted outcome",
    "goal_support": "goal support",
    "not_consider": "not considered",
}

# The paper's stacking order, pleasant to unpleasant. All have a contrast of 3 to the light and to the dark page;
# neighbours stay apart in all common forms of colour blindness.
EMOTION_COLOURS = {
    "joy": "#bc8c00",
    "pride": "#a34d05",
    "surprise": "#889d01",
    "trust": "#2c8536",
    "relief": "#19a2b6",
    "neutral": "#8a8a8a",
    "boredom": "#736348",
    "sadness": "#5d98cf",
    "fear": "#5460a7",
    "guilt": "#a87ede",
    "shame": "#8645bc",
    "disgust": "#d07e6a",
    "anger": "#c61f26",
}
EMOTION_ORDER: tuple[str, ...] = tuple(EMOTION_COLOURS)

# Parts of the prompt, from the foot: the text first, so that its height can be read; the first token, which is little
# else, last.
SEGMENT_COLOURS = {
    "text": "#d55e00",
    "demonstration_label": "#8647b9",
    "demonstration": "#cc79a7",
    "instruction": "#00a0cd",
    "format": "#0072b2",
    "first_token": "#949494",
}

# For what has no colour of its own (models, prompts, conditions).
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#00a0cd", "#8647b9", "#8a8a8a", "#a6611a", "#c61f26")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*", "p", "d")
# What is compared in many chapters looks alike in all of them: a component, what chance gives, what the label gives.
_SHUFFLED = ("#cc79a7", "D")
ROLES: dict[str, tuple[str, str]] = {
    **{COMPONENT_LABELS[name]: (COMPONENT_COLOURS[name], mark) for name, mark in zip(COMPONENTS, "os^", strict=True)},
    **dict.fromkeys(("shuffled", "shuffled labels", "labels shuffled", "both shuffled"), _SHUFFLED),
    "ratings shuffled": ("#a6611a", ">"),
    "label only": ("#b58900", "v"),
    "mean difference": ("#00a0cd", "P"),
    "random": ("#8a8a8a", "<"),
}


def palette(names: list[str]) -> dict[str, tuple[str, str]]:
    """Return (colour, marker) for each name: fixed for emotions and for what has a role, in turn for anything else.

    Raises ValueError for more names than colours.
    """
    if names and set(names) <= set(EMOTION_COLOURS):
        return {name: (EMOTION_COLOURS[name], MARKERS[EMOTION_ORDER.index(name)]) for name in names}
    if len(names) > len(CYCLE):
        raise ValueError(f"{len(names)} curves share {len(CYCLE)} colours: select fewer, or split them into panels")
    look: dict[str, tuple[str, str]] = {}
    for name in names:
        role = ROLES.get(COMPONENT_LABELS.get(name, name.replace("_", " ")))
        if role and role not in look.values():  # of two names of one role the first
            look[name] = role
    taken = {part for role in look.values() for part in role}
    cycle, components = list(CYCLE), COMPONENT_COLOURS.values()
    if taken & {*components}:  # what stands beside a component does not look like another one
        roles = {colour for colour, _ in ROLES.values()}
        cycle.sort(key=lambda one: (one in components, one in roles))
    free = zip(*([one for one in of if one not in taken] for of in (cycle, MARKERS)), strict=False)
    return {name: look.get(name) or next(free) for name in names}


def ordered(names: list[str]) -> list[str]:
    """Return the distinct names in the book's order: components, emotions as stacked, tokens, numbers, else as seen."""
    distinct = list(dict.fromkeys(names))
    for order in (tuple(COMPONENTS), EMOTION_ORDER, (*POSITIONS, "")):
        if set(distinct) <= set(order):
            return sorted(distinct, key=order.index)
    return sorted(distinct, key=int) if all(name.isdigit() for name in distinct) else distinct


def text_on(colour: str) -> str:
    """Return black or white, whichever has the higher contrast (WCAG) on the colour."""
    return "black" if luminance(colour) > 0.179 else "white"


def luminance(colour: str | tuple[float, float, float]) -> float:
    """Return the relative luminance of a colour, 0 black to 1 white (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def style() -> mpl.RcParams:
    """Return the settings of the book's figure style, over matplotlib's defaults."""
    chosen = mpl.rc_params_from_file(Path(__file__).with_name("emolib.mplstyle"), use_default_template=True)
    # the backend is the session's business, not the style's
    return mpl.RcParams({name: value for name, value in chosen.items() if not name.startswith("backend")})

"""What the chapter on probing shows of its table: rows selected and named for figures and sentences."""

from __future__ import annotations

import pandas as pd

from emolib.stats import landmarks
from emolib.tables import paper
from emolib.tables.results import select

RELEASED = dict(metric="accuracy", setting="as_released", probe="linear")
TARGETS = {"model": "model's answer", "writer": "writer's label", "shuffled": "shuffled labels"}


def has_released(table: pd.DataFrame) -> bool:
    """Whether the paper's probes were fitted: not where the model answers too few texts right."""
    return bool((table["setting"] == RELEASED["setting"]).any())


def released(table: pd.DataFrame) -> pd.DataFrame:
    """Held-out accuracy of the paper's linear probe at the last token."""
    return select(table, **RELEASED, position="-1")


def paper_released(**keys: object) -> pd.DataFrame:
    """The same of the paper's model, at every token that it was read at."""
    return paper.values("emotion_probe", model=paper.DETAILED.id, prompt="T1-2shot", **keys)


def best(table: pd.DataFrame, **keys: object) -> pd.Series:
    """The row of the residual stream's last token with the largest value."""
    rows = select(table, component="resid_post", position="-1", **keys)
    return landmarks.row("peak", rows.sort_values("layer"))


def best_released(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the best of the paper's linear probes over all components, layers and tokens."""
    return select(table, **RELEASED).nlargest(1, "value")


def by_target(table: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy at the last token on all events, `target` in words: whose labels are read."""
    return select(table, metric="balanced_accuracy", position="-1").replace({"target": TARGETS})


def saturation(table: pd.DataFrame) -> pd.DataFrame:
    """The row that says at which depth these probes of the residual stream first have 95% of their maximum."""
    return select(table, metric="saturation_depth", setting="as_released", component="resid_post")


def paper_saturations() -> pd.Series:
    """The same depth of each of the paper's models by name, rising."""
    curves = paper.values("emotion_probe", prompt="T1-2shot", position="-1", component="resid_post")
    rows = landmarks.rows("saturation", curves, "model")
    return pd.Series(dict(zip(rows["model"].map(paper.model_name), rows["depth"], strict=True))).sort_values()


def by_token(table: pd.DataFrame) -> pd.DataFrame:
    """Held-out accuracy of the paper's linear probe at every token that was read."""
    return select(table, **RELEASED)


def nonlinear(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Accuracy at the last token of the linear and the non-linear probe, the paper's non-linear one, and by component
    how much better the non-linear probe is, averaged over layers."""
    both = select(table, metric="accuracy", setting="as_released", position="-1").replace(
        {"probe": {"mlp": "non-linear"}}
    )
    pair = both.pivot_table(index=["component", "layer"], columns="probe", values="value")
    gain = (pair["non-linear"] - pair["linear"]).groupby("component").mean()
    return both, paper.values("emotion_probe_mlp").assign(probe="non-linear"), gain

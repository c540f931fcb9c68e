"""Landmarks of curves drawn by hand, found by a loop in every resample, and planted ones with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emolib import stats
from emolib.stats import landmarks, scores

RISE = [0.1, 0.2, 0.5, 0.94, 0.96, 1.0, 1.0, 0.3]
FALL = [0.0, 0.9, 0.8, 0.7, 0.2, 0.6, 0.2, 0.9, 0.8, 0.1]
NEVER = [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("landmark", "curve", "place"),
    [
        ("saturation", RISE, 4),
        ("onset", RISE, 2),
        ("peak", RISE, 5),  # the first of two
        ("onset", NEVER, 3),  # one past the last
        ("saturation", NEVER, 2),
        ("dip", FALL, 4),  # the first of two, and neither end
        ("dip", FALL[:6], 0),  # too short to leave the ends out
    ],
)
def test_landmarks_by_hand(landmark: landmarks.Landmark, curve: list[float], place: int) -> None:
    assert landmarks.FIND[landmark](np.array([curve, curve])).tolist() == [place, place]
    stored = pd.DataFrame({"layer": np.arange(len(curve)) * 3, "value": curve})
    row = landmarks.row(landmark, stored)
    assert (len(curve) if row is None else row["layer"] / 3) == place


def test_each_stored_curve_has_its_row_if_it_gets_there() -> None:
    curves = {"late": RISE, "never": NEVER, "early": FALL}
    rows = [
        dict(name=name, layer=layer, value=value) for name, curve in curves.items() for layer, value in enumerate(curve)
    ]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = landmarks.rows("onset", shuffled, "name")
    assert found[["name", "layer", "value"]].to_numpy().tolist() == [["early", 1, 0.9], ["late", 2, 0.5]]


@pytest.mark.parametrize("landmark", landmarks.FIND)
def test_a_landmark_is_found_anew_in_every_resample(landmark: landmarks.Landmark) -> None:
    random = np.random.default_rng(2)
    table, groups = random.normal(0.4, 0.3, size=(60, 9)), random.integers(0, 14, 60)
    layers = [0, 3, 6, 9, 12, 15, 18, 21, 23]
    statistic = landmarks.of(landmark, scores.mean(table), layers)
    _, fast = stats.resample(statistic, groups, n_resamples=300, seed=5)
    weights = stats.bootstrap_weights(groups, 300, 5).astype(int)
    curves = [np.repeat(table, times, axis=0).mean(axis=0) for times in weights]
    assert fast[:, 0].tolist() == [[*layers, 24][int(landmarks.FIND[landmark](curve))] for curve in curves]
    assert len(set(fast[:, 0])) > 1


def test_planted_landmarks_have_narrow_intervals() -> None:
    layers = np.arange(12)
    chance = np.clip(0.1 + 0.8 / (1 + np.exp(-2.0 * (layers - 5.5))), 0, 1) - 0.2 * (layers > 9)
    hits = (np.random.default_rng(20).random((1500, 12)) < chance).astype(float)
    groups = np.repeat(np.arange(500), 3)
    found = {
        name: stats.bootstrap(landmarks.of(name, scores.mean(hits)), groups, n_resamples=400) for name in landmarks.FIND
    }
    assert found["onset"].value == [6] and found["onset"].ci_low >= 5 and found["onset"].ci_high <= 6
    assert found["saturation"].value[0] in (7, 8)
    assert 7 <= found["peak"].ci_low[0] <= found["peak"].value[0] <= found["peak"].ci_high[0] <= 9
    assert found["dip"].value == [3]  # the lowest is one of the outermost, which do not count
    never = stats.bootstrap(landmarks.of("onset", scores.mean(hits / 4)), groups, n_resamples=50)
    assert never.value == never.ci_low == never.ci_high == 12

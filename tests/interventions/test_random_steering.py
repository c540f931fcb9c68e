"""Random directions as a null: in a world without theory it must reject as often as it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from emolib import stats
from emolib.interventions import theory
from emolib.interventions.random_steering import (
    RANDOM,
    RANDOM_SETS,
    RELEASED_RANDOM,
    null_rows,
    random_names,
    random_vectors,
)
from emolib.interventions.steering import Cell, Dose
from emolib.probes.directions import unit
from emolib.texts.corpus import EMOTIONS

WIDTH, TEXTS, DRAWS = 24, 300, 230


def answers(kind: str, names: list[str], vectors: dict[tuple[str, str], torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Answers [texts, names] after pushes, and before, of a model that reads labels along random directions."""
    random = np.random.default_rng(3)
    clean, read = random.normal(size=(TEXTS, 13)), random.normal(size=(13, WIDTH))
    pushes = np.stack([vectors[kind, name][0].numpy() for name in names])
    return (clean[:, None] + 0.7 * pushes @ read.T).argmax(-1), clean.argmax(-1)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Expected shifts from ratings of which pleasantness and other-agency go together, as in the corpus."""
    random = np.random.default_rng(4)
    ratings = random.normal(size=(13, len(theory.ACTING)))
    means = pd.DataFrame(ratings, index=list(EMOTIONS), columns=list(theory.ACTING))
    means["other_responsblt"] -= 0.5 * means["pleasantness"]
    return dict(zip(theory.settings(), theory.expected_shifts(means, theory.settings()), strict=True))


def test_a_mean_over_settings_is_beyond_its_null_as_often_as_it_should_be(expected: dict[str, np.ndarray]) -> None:
    vectors = random_vectors(RANDOM_SETS, DRAWS, 2, WIDTH, seed=0)
    names = random_names(RANDOM_SETS, DRAWS)
    ids, clean = answers(RANDOM_SETS, names, vectors)
    rows = null_rows(Cell(RANDOM_SETS, 3, Dose(1.0), 1, names), ids, clean, expected)
    means = rows["value"].to_numpy()
    assert len(means) == DRAWS and set(rows["condition"]) == {"settings:printed;vector:raw"}
    # the first 30 sets are the null, and the other 200 worlds in which fitted vectors are no better than random ones
    band = stats.null_band(means[:30])
    beyond = ((means[30:] < band.ci_low) | (means[30:] > band.ci_high)).mean()
    assert beyond < 0.11
    # the positive control: a null whose settings have nothing to do with one another is too narrow
    single = random_vectors(RANDOM, DRAWS, 2, WIDTH, seed=5)
    ids, clean = answers(RANDOM, random_names(RANDOM, DRAWS), single)
    counts, base = theory.label_counts(ids)[0], theory.counted(clean)
    scores = np.stack([theory.theory_score(expected[name], counts, base) for name in theory.printed()])
    apart = np.array([scores[:, draw * 14 : draw * 14 + 14].diagonal().mean() for draw in range(DRAWS // 14)])
    narrow = stats.null_band(apart)
    assert ((means < narrow.ci_low) | (means > narrow.ci_high)).mean() > 0.15


def test_sets_are_put_together_as_fitted_settings_are() -> None:
    vectors = random_vectors(RANDOM_SETS, 3, 2, WIDTH, seed=0)
    assert len(vectors) == 3 * 14
    for draw in range(3):
        own = {name: vectors[RANDOM_SETS, f"{draw};{name}"] for name in theory.printed()}
        pleasant, others = own["pleasantness:+1"], own["other_responsblt:+1"]
        assert torch.equal(own["pleasantness:-1"], -pleasant)
        both = own["pleasantness:+1;other_responsblt:-1"]
        assert torch.allclose(both, unit(pleasant - others), atol=1e-6)
        assert torch.equal(both[0], both[1])  # the same in all layers, so that windows add up
    first = vectors[RANDOM_SETS, "0;pleasantness:+1"]
    assert not torch.allclose(first, vectors[RANDOM_SETS, "1;pleasantness:+1"], atol=0.1)
    again = random_vectors(RANDOM_SETS, 2, 2, WIDTH, seed=0)
    assert all(torch.equal(vectors[key], value) for key, value in again.items())


def test_single_directions_are_scored_against_every_setting(expected: dict[str, np.ndarray]) -> None:
    names = random_names(RELEASED_RANDOM, 5)
    ids, clean = answers(RELEASED_RANDOM, names, random_vectors(RELEASED_RANDOM, 5, 2, WIDTH, seed=0))
    rows = null_rows(Cell(RELEASED_RANDOM, 3, Dose(1.0), 1, names), ids, clean, expected)
    scores = rows[rows["metric"] == "theory_score_null_per_layer"]
    assert len(scores) == 5 * 20
    base = np.bincount(clean, minlength=13)
    for row in scores.itertuples():
        counts = np.bincount(ids[:, int(row.label.removeprefix("draw:"))], minlength=13)
        by_hand = theory.theory_score(expected[row.condition.removesuffix(";vector:raw")], counts, base)
        assert row.value == pytest.approx(by_hand)
    assert set(rows.loc[rows["metric"] == "count", "condition"]) == {f"random:{k};over:layer" for k in range(3)}

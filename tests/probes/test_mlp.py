"""The non-linear probe: it learns what no linear probe can, and as well as scikit-learn's; sites stay apart."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from emolib.probes.mlp import predict_mlp


def xor(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, 12)).astype(np.float32)
    return features, ((features[:, 0] > 0) ^ (features[:, 1] > 0)).astype(int)


def test_it_learns_what_a_line_cannot_and_as_well_as_scikit_learn() -> None:
    train, labels = xor(800, 0)
    test, truth = xor(400, 1)
    guess = predict_mlp(torch.tensor(train)[None], labels, torch.tensor(test)[None], n_classes=2, seed=0)[0]
    theirs = MLPClassifier((32,), max_iter=200, random_state=0).fit(train, labels).score(test, truth)
    assert LogisticRegression().fit(train, labels).score(test, truth) < 0.6
    assert abs((guess == truth).mean() - theirs) < 0.05
    assert (guess == truth).mean() > 0.85


def test_a_site_does_not_depend_on_its_neighbours() -> None:
    train, labels = xor(150, 2)
    test, _ = xor(50, 3)
    noise = np.random.default_rng(4).normal(size=train.shape).astype(np.float32)
    alone = predict_mlp(torch.tensor(train)[None], labels, torch.tensor(test)[None], n_classes=3, seed=1)
    pair = predict_mlp(
        torch.tensor(np.stack([noise, train])), labels, torch.tensor(np.stack([test, test])), n_classes=3, seed=1
    )
    assert (alone[0] == pair[1]).all()


def test_shuffled_labels_stay_at_chance() -> None:
    train, labels = xor(400, 5)
    test, truth = xor(400, 6)
    shuffled = np.random.default_rng(0).permutation(labels)
    guess = predict_mlp(torch.tensor(train)[None], shuffled, torch.tensor(test)[None], n_classes=2, seed=0)[0]
    assert abs((guess == truth).mean() - 0.5) < 0.1

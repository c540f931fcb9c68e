"""The paper's non-linear probe (E2, Fig 13 bottom), trained at many sites at once: one hidden layer of 32 ReLU units.

Settings are those of scikit-learn's MLPClassifier, which the paper used: Adam at 0.001, batches of 200, weight decay
1e-4, Glorot-uniform start, 200 epochs. Sites share the start and the order of the batches. Unlike in scikit-learn,
training does not stop early and features are standardised on the training part.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

HIDDEN, EPOCHS, BATCH, RATE, DECAY = 32, 200, 200, 1e-3, 1e-4


def predict_mlp(train: Tensor, labels: np.ndarray, test: Tensor, *, n_classes: int, seed: int) -> np.ndarray:
    """Predicted label ids [S, m] of `test` [S, m, d], a network for each of S sites trained on `train` [S, n, d].

    `labels` [n] are ids below `n_classes`. The result for a site does not depend on which others are trained with it.
    """
    mean, scale = train.mean(1, keepdim=True), train.std(1, unbiased=False, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    x, y = (train - mean) / scale, torch.as_tensor(labels, device=train.device)
    generator = torch.Generator().manual_seed(seed)
    sites, n, width = x.shape
    hidden, out = (width, HIDDEN), (HIDDEN, n_classes)
    parameters = [_glorot(shape, fans, generator, x) for fans in (hidden, out) for shape in (fans, (1, fans[1]))]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    for _ in range(EPOCHS):
        order = torch.randperm(n, generator=generator)
        for batch in order.split(min(BATCH, n)):
            scores = _forward(x.index_select(1, batch.to(x.device)), parameters)
            target = y[batch].expand(sites, -1)
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="sum") / len(
                batch
            )
            decay = sum((weight**2).sum() for weight in parameters[::2]) * DECAY / 2 / len(batch)
            optimiser.zero_grad()
            (loss + decay).backward()
            optimiser.step()
    with torch.no_grad():
        return _forward((test - mean) / scale, parameters).argmax(-1).cpu().numpy()


def _forward(x: Tensor, parameters: list[Tensor]) -> Tensor:
    first, first_bias, second, second_bias = parameters
    return torch.relu(x @ first + first_bias) @ second + second_bias


def _glorot(shape: tuple[int, int], fans: tuple[int, int], generator: torch.Generator, x: Tensor) -> Tensor:
    # Every site starts from the same draw, so that adding a site changes no other.
    start = (torch.rand(shape, generator=generator) * 2 - 1) * (6 / sum(fans)) ** 0.5
    return start.to(x).expand(len(x), *shape).clone().requires_grad_()

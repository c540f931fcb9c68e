"""Steering vectors: appraisals (E6, E8-E10), emotions (E11), and random directions that accumulate as they do.

A vector of several appraisals is the signed sum of theirs, from which the directions of held-fixed appraisals may be
projected out. The paper describes the projection (`fixall`), its code prepares a smaller one (`fix3`) and then injects
the sum itself (`raw`); see the errata, D1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib.probes.linear import fit_released, shuffled_labels
from emolib.probes.ridge import cross_validate_ridge, fit_ridge
from emolib.texts.appraisals import ACTING, APPRAISALS

# The paper's code rates 20 of the 21 appraisals; this one it leaves out.
USED = tuple(name for name in APPRAISALS if name != "chance_responsblt")
Kind = Literal["raw", "fix3", "fixall", "unit", "mean_difference"]
Reading = Literal["ridge", "mean_difference"]
ALPHA = 5.0  # the ridge penalty of the paper's code
# Penalties to choose from, in mean eigenvalues of the scatter of the features, which no model and layer shares.
SHARES = tuple(10.0**power for power in range(-6, 2))
FOLDS = 5  # at most: as many as there are writers


class SteeringVectors:
    """Vectors of each appraisal at every layer, and their combinations.

    `features` [L, n, d] are activations of the texts to fit on, `ratings` their ratings (n rows, a column an
    appraisal). The penalty of the ridge regressions is the paper's or, given `groups` [n], the writers, the one of each
    layer and appraisal that predicts best the ratings by writers left out, in cross-validation among these texts.
    Appraisals differ in how well they can be read, so one penalty for all would leave some mostly noise; choosing costs
    no more for each, since they share the factor of every penalty.

    Raises ValueError when an appraisal is rated the same in all texts, or when `groups` has a single writer.
    """

    def __init__(
        self, features: Tensor, ratings: pd.DataFrame, *, groups: np.ndarray | None = None, seed: int = 0
    ) -> None:
        self.names = tuple(ratings.columns)
        constant = [name for name in self.names if ratings[name].nunique() < 2]
        if constant:
            raise ValueError(f"{constant} are rated the same in all {len(ratings)} texts: fit on more texts")
        targets = torch.tensor(ratings.to_numpy(dtype=float))
        train = torch.ones(1, len(ratings), dtype=torch.bool)
        folds = None if groups is None else writer_folds(groups, seed=seed)
        high = targets > targets.mean(0)
        share = (high / high.sum(0) - ~high / (~high).sum(0)).T
        found = []
        for x in features:
            alphas = np.full(len(self.names), ALPHA) if folds is None else best_alphas(x, targets, folds)
            grid, index = np.unique(alphas, return_inverse=True)
            weights, bias = fit_ridge(x, targets, train, alphas=[*grid], standardise="none")
            each = torch.as_tensor(index), torch.arange(len(index))
            difference = share.to(x.device, torch.float64) @ x.double()
            line = _line(x.double() @ difference.T, targets.to(x.device))
            found.append((torch.as_tensor(alphas), weights[0][each], bias[0][each], difference, *line))
        self.alphas, self.ridge, self._bias, self.difference, self._slope, self._offset = (
            torch.stack(parts) for parts in zip(*found, strict=True)
        )

    def predict(self, features: Tensor, kind: Reading) -> np.ndarray:
        """The ratings [L, n, T] that each direction reads in `features` [L, n, d].

        `ridge`: the regression's own prediction. `mean_difference`: the projection on it, put on the scale of ratings
        by a line fitted on the texts that the vectors are fitted on.
        """
        source = self.ridge if kind == "ridge" else self._slope[..., None] * self.difference
        offset = self._bias if kind == "ridge" else self._offset
        layers = zip(features, source, offset, strict=True)
        return np.stack([(x.double() @ weights.T + bias).cpu().numpy() for x, weights, bias in layers])

    def combine(self, signs: Mapping[str, int], kind: Kind) -> Tensor:
        """The unit vectors [L, d] of a setting, all layers.

        `raw`: sum of sign times ridge weights. `fix3`: without its part in the span of the other appraisals that act
        in the paper's code; `fixall`: of all others. `unit`: ridge weights brought to unit length before they are
        summed. `mean_difference`: mean activation of texts rated above average minus that of the others.
        """
        source = self.difference if kind == "mean_difference" else self.ridge
        each = torch.stack([sign * source[:, self.names.index(name)] for name, sign in signs.items()])
        total = (unit(each) if kind == "unit" else each).sum(0)
        others = {"fix3": ACTING, "fixall": self.names}.get(kind, ())
        held = [self.names.index(name) for name in others if name not in signs]
        return unit(project_out(total, self.ridge[:, held]) if held else total)

    def kept(self, signs: Mapping[str, int], kind: Kind) -> np.ndarray:
        """The share [L] of the raw vector's squared length that a projection leaves, 0 to 1."""
        return (self.combine(signs, "raw") * self.combine(signs, kind)).sum(-1).square().cpu().numpy()


def writer_folds(groups: np.ndarray, *, seed: int) -> np.ndarray:
    """Fold number [n] of every text; no writer is in two folds. Raises ValueError for a single writer."""
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("texts of one writer cannot be split into folds: fit on those of two or more")
    return (np.random.default_rng(seed).permutation(len(names)) % min(FOLDS, len(names)))[codes]


def best_alphas(features: Tensor, targets: Tensor, folds: np.ndarray) -> np.ndarray:
    """The penalty [T] with which ridge regressions of `targets` [n, T] on raw `features` [n, d] predict best.

    The squared error is that of texts in the folds left out.
    """
    centred = features.double() - features.double().mean(0)
    alphas = np.array(SHARES) * float(centred.square().sum()) / features.shape[1]
    guess = cross_validate_ridge(features, targets, folds, alphas=[*alphas], standardise="none")
    return alphas[((guess - targets.numpy()) ** 2).sum(axis=1).argmin(axis=0)]


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept [T] of the regression of each column of `y` [n, T] on that of `x` [n, T]."""
    centred = x - x.mean(0)
    slope = (centred * (y - y.mean(0))).sum(0) / centred.square().sum(0)
    return slope, y.mean(0) - slope * x.mean(0)


def contrasts(features: Tensor, n: int, *, seed: int) -> Tensor:
    """Random directions [n, L, d] with the covariance of the activations `features` [L, m, d], not of unit length.

    Each is a sum of the texts' activations, about their mean, with Gaussian weights. The same weights serve all layers,
    so that neighbouring layers agree in direction as far as what they carry does. The first do not depend on `n`.
    """
    weights = np.random.default_rng(seed).normal(size=(n, features.shape[1]))
    drawn = torch.as_tensor(weights, device=features.device)
    return torch.stack([drawn @ (x.double() - x.double().mean(0)) for x in features], dim=1)


def shuffled_vectors(
    features: Tensor, ratings: pd.DataFrame, groups: np.ndarray, alphas: Tensor, n: int, *, seed: int
) -> Tensor:
    """Ridge weights [n, T, L, d] of ratings that were handed, whole writers at once, to other writers, n times.

    `alphas` [L, T] are the penalties, those of the ratings in their place: so only what is read is another.
    """
    values = ratings.to_numpy(dtype=float)
    drawn = np.stack([shuffled_labels(values, groups, seed=seed + draw) for draw in range(n)], axis=1)  # [m, n, T]
    train = torch.ones(1, len(values), dtype=torch.bool)
    found = []
    for x, penalties in zip(features, alphas.tolist(), strict=True):
        fits = [
            fit_ridge(x, torch.as_tensor(drawn[:, :, target]), train, alphas=[alpha], standardise="none")[0][0, 0]
            for target, alpha in enumerate(penalties)
        ]
        found.append(torch.stack(fits, dim=1))
    return torch.stack(found, dim=2)


def emotion_vectors(
    features: Tensor, labels: np.ndarray, *, n_classes: int, kind: Literal["probe", "mean_difference"]
) -> Tensor:
    """Unit vectors [L, C, d] of each emotion at every layer; NaN for emotions without a text among `labels` [n].

    `probe`: weights of the paper's logistic probe (E2 `as_released`); `mean_difference`: class mean minus grand mean.
    """
    if kind == "probe":
        return unit(torch.stack([fit_released(x, labels, n_classes=n_classes).weights[0] for x in features]))
    ids = torch.as_tensor(labels)
    return unit(torch.stack([class_directions(x, ids, n_classes=n_classes) for x in features]))


def class_directions(features: Tensor, labels: Tensor, *, n_classes: int) -> Tensor:
    """Directions [C, d], raw units, NaN for absent classes: class mean minus grand mean."""
    x, labels = features.double(), torch.as_tensor(labels, device=features.device).long()
    onehot = torch.nn.functional.one_hot(labels, n_classes).to(x)
    return ((onehot.T @ x) / onehot.sum(0)[:, None] - x.mean(0)).to(features.dtype)


def project_out(vector: Tensor, directions: Tensor) -> Tensor:
    """The vector [..., d] without its part in the span of `directions` [..., k, d] (E8: I - V(V'V)^-1 V').

    Raises ValueError where nothing is left of it.
    """
    basis = torch.linalg.svd(unit(directions.double()), full_matrices=False)
    independent = basis.S / basis.S.amax(-1, keepdim=True) > 1e-10
    inside = basis.Vh * independent[..., None]
    rest = vector.double()
    for _ in range(2):  # the second pass removes what rounding leaves of the first
        rest = rest - torch.einsum("...kd,...k->...d", inside, torch.einsum("...kd,...d->...k", inside, rest))
    if (rest.norm(dim=-1) < 1e-8 * vector.norm(dim=-1)).any():
        raise ValueError(
            f"nothing is left of a vector of width {vector.shape[-1]} without {directions.shape[-2]} "
            "directions: hold fewer appraisals fixed"
        )
    return rest


def random_directions(n: int, n_layers: int, width: int, *, seed: int, over: Literal["window", "layer"]) -> Tensor:
    """Gaussian directions of unit length [n, n_layers, width].

    `window`: one direction serves all layers, so that over a window of three it adds up to three times its length, as
    fitted vectors of neighbouring layers nearly do. `layer`: drawn anew for each layer, which adds up to about the
    square root of three (the paper's control). The first draws do not depend on `n`.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(n_layers if over == "layer" else 1, width, generator=generator) for _ in range(n)]
    return unit(torch.stack(draws)).expand(n, n_layers, width)


def accumulated_norm(vectors: Tensor, layers: Sequence[int]) -> float:
    """The length of the sum of `vectors` [L, d] over a window: what adding them with coefficient 1 amounts to."""
    return float(vectors[list(layers)].sum(0).norm())


def unit(vectors: Tensor) -> Tensor:
    """The vectors [..., d] at unit length."""
    return vectors / vectors.norm(dim=-1, keepdim=True)

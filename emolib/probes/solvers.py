"""Batched solvers behind the probes: K regressions on the same features at the price of one pass over them.

Cross-validation folds and targets differ only in labels and 0/1 weights, so one product ``X @ W`` serves all of them.

Multinomial logistic regression minimises, for each problem k, scikit-learn's objective

    C_k * sum_i w_ki * cross_entropy(W_k x_i + b_k, y_ki) + 1/2 ||W_k||^2       (intercept b_k not penalised)

by L-BFGS, preconditioned with the Hessian that would hold if class probabilities and features were independent:
``(mean of diag(p) - p p^T) (x) X^T X + I``. It is diagonal in the product of two small eigenbases and, unlike
Boehning's bound, follows the class frequencies. Line searches move along stored logits: no pass over the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Standardise = Literal["train", "none"]
MEMORY = 10
CURVATURE_UPDATES = 20
CHECK_EVERY = 4


@dataclass
class _State:
    """What L-BFGS knows about the problems still running; every tensor starts with the axis of problems."""

    index: Tensor
    labels: Tensor
    weights: Tensor
    penalty: Tensor
    theta: Tensor
    logits: Tensor
    loss: Tensor
    grad: Tensor
    curvature: tuple[Tensor, Tensor]
    history: list[tuple[Tensor, Tensor, Tensor]]

    def keep(self, mask: Tensor) -> _State:
        """The same state restricted to the problems in `mask`."""
        kept = {k: v[mask] for k, v in vars(self).items() if isinstance(v, Tensor)}
        curvature = (self.curvature[0][mask], self.curvature[1][mask])
        return _State(
            **kept, curvature=curvature, history=[(s[mask], y[mask], rho[mask]) for s, y, rho in self.history]
        )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1, dtype=torch.float64)


def _scale(factor: Tensor, values: Tensor) -> Tensor:
    return factor.to(values.dtype)[:, None, None] * values


def _objective(logits: Tensor, theta: Tensor, state: _State) -> tuple[Tensor, Tensor]:
    """Log-probabilities [K, C, n] and objective [K] (float64: its last digits decide the line search)."""
    log_p = torch.log_softmax(logits, dim=1)
    return log_p, 0.5 * _dot(theta * state.penalty, theta) - _dot(state.weights, log_p.gather(1, state.labels))


def _gradient(x: Tensor, probabilities: Tensor, theta: Tensor, state: _State) -> Tensor:
    residual = (probabilities * state.weights).scatter_add_(1, state.labels, -state.weights)
    return (residual.flatten(0, 1) @ x).view_as(theta) + state.penalty * theta


def _curvature(probabilities: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [K, C] and vectors [K, C, C] of sum_i w_i (diag(p_i) - p_i p_i^T)."""
    weighted = probabilities * weights
    fisher = torch.diag_embed(weighted.sum(2)) - weighted @ probabilities.transpose(1, 2)
    values, vectors = torch.linalg.eigh(fisher)
    return values.clamp_min(0), vectors


def _precondition(grad: Tensor, spectrum: tuple[Tensor, Tensor], curvature: tuple[Tensor, Tensor]) -> Tensor:
    """Approximate inverse Hessian times `grad` [K, C, d + 1]; the last column is the intercept."""
    (eigenvalues, basis), (classes, mixing) = spectrum, curvature
    rotated = mixing.transpose(1, 2) @ grad
    shape = rotated[..., :-1].shape
    slopes = (rotated[..., :-1].flatten(0, 1) @ basis).view(shape) / (classes[..., None] * eigenvalues + 1)
    intercept = rotated[..., -1:] / classes[..., None].clamp_min(1e-3)
    back = (slopes.flatten(0, 1) @ basis.T).view(shape)
    return mixing @ torch.cat([back, intercept], dim=2)


def _direction(state: _State, spectrum: tuple[Tensor, Tensor]) -> Tensor:
    """Descent direction [K, C, d + 1]: the two-loop recursion of L-BFGS."""
    q, steps = state.grad.clone(), []
    for s, y, rho in reversed(state.history):
        steps.append(rho * _dot(s, q))
        q -= _scale(steps[-1], y)
    r = _precondition(q, spectrum, state.curvature)
    if state.history:
        s, y, rho = state.history[-1]
        size = _dot(s, y) / _dot(y, _precondition(y, spectrum, state.curvature)).clamp_min(1e-30)
        r = _scale(torch.where(rho > 0, size.clamp(0.1, 10), torch.ones_like(size)), r)
    for (s, y, rho), step in zip(state.history, reversed(steps), strict=True):
        r += _scale(step - rho * _dot(y, r), s)
    return -r


def _advance(x: Tensor, state: _State, spectrum: tuple[Tensor, Tensor], *, update_curvature: bool) -> None:
    """One iteration in place: direction, backtracking along stored logits, gradient, curvature pair."""
    direction = _direction(state, spectrum)
    slope = _dot(direction, state.grad)
    along = (direction.flatten(0, 1) @ x.T).view_as(state.logits)
    t = torch.ones_like(slope)
    for _ in range(20):
        theta = state.theta + _scale(t, direction)
        logits = state.logits + _scale(t, along)
        log_p, loss = _objective(logits, theta, state)
        # The slack is the rounding error of the loss: without it float32 stalls just before the optimum.
        accepted = loss <= state.loss + 1e-4 * t * slope + 1e-8 * state.loss.abs()
        if accepted.all():
            break
        t = torch.where(accepted, t, t / 2)
    probabilities = log_p.exp_()
    grad = _gradient(x, probabilities, theta, state)
    s, y = theta - state.theta, grad - state.grad
    product = _dot(s, y)
    rho = torch.where(product > 0, 1 / product, torch.zeros_like(product))
    state.history = [*state.history, (s, y, rho)][-MEMORY:]
    state.theta, state.logits, state.loss, state.grad = theta, logits, loss, grad
    if update_curvature:
        state.curvature = _curvature(probabilities, state.weights)


def _start(x: Tensor, labels: Tensor, weights: Tensor, penalty: Tensor, n_classes: int) -> _State:
    mass = weights.new_zeros(len(labels), n_classes).scatter_add_(1, labels, weights)
    # Classes without a training text get logit -inf in effect: no probability, no gradient, weights stay 0.
    logits = weights.new_zeros(*mass.shape, len(x)).masked_fill_((mass == 0)[..., None], -1e30)
    theta = x.new_zeros(len(labels), n_classes, x.shape[1])
    state = _State(
        index=torch.arange(len(labels), device=x.device),
        labels=labels[:, None],
        weights=weights[:, None],
        penalty=F.pad(penalty, (0, 1))[:, None],
        theta=theta,
        logits=logits,
        loss=theta[:, 0, 0],
        grad=theta,
        curvature=(theta, theta),
        history=[],
    )
    log_p, state.loss = _objective(logits, theta, state)
    probabilities = log_p.exp_()
    state.grad = _gradient(x, probabilities, theta, state)
    state.curvature = _curvature(probabilities, state.weights)
    return state


def minimise_softmax(
    x: Tensor, labels: Tensor, weights: Tensor, *, penalty: Tensor, n_classes: int, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights [K, C, d], bias [K, C], error [K] and iterations [K] of K multinomial problems on the same `x` [n, d].

    The columns of `x` are of similar size and roughly centred, and the results are in their coordinates.

    `labels` [K, n] int64, `weights` [K, n] >= 0 (times C already), `penalty` [K, d] near 1 (per-problem squared scale).
    A problem is finished when ``sqrt(g^T P g) <= tol * max(||W||, 1)``, P the approximate inverse Hessian: because the
    penalty makes the objective 1-strongly convex, the left side estimates the distance of W from the unique optimum.
    The error is that ratio.
    """
    eigenvalues, basis = torch.linalg.eigh((x.T @ x).double() / len(x))
    spectrum = (eigenvalues.clamp_min(0).to(x.dtype), basis.to(x.dtype))
    x = F.pad(x, (0, 1), value=1.0)
    state = _start(x, labels, weights.to(x.dtype), penalty.to(x.dtype), n_classes)
    theta = torch.zeros_like(state.theta)
    error = x.new_full((len(labels),), torch.inf)
    iterations = torch.zeros_like(state.index)
    for step in range(max_iter + 1):
        if step % CHECK_EVERY == 0 or step == max_iter:
            decrement = _dot(state.grad, _precondition(state.grad, spectrum, state.curvature)).clamp_min(0).sqrt()
            size = state.theta[..., :-1].flatten(1).norm(dim=1).clamp_min(1)
            theta[state.index], iterations[state.index] = state.theta, step
            error[state.index] = (decrement / size).to(x.dtype)
            running = error[state.index] > tol
            if step == max_iter or not running.any():
                break
            if not running.all():
                state = state.keep(running)
        _advance(x, state, spectrum, update_curvature=step < CURVATURE_UPDATES)
    present = torch.zeros_like(theta[..., -1]).scatter_add_(1, labels, weights.to(theta)) > 0
    # The loss ignores a shift common to all intercepts; scikit-learn's solution has mean zero.
    bias = theta[..., -1].masked_fill(~present, torch.nan)
    bias -= bias.nanmean(1, keepdim=True)
    slopes = theta[..., :-1].masked_fill(~present[..., None], torch.nan)
    return slopes, bias, error, iterations


def shared_coordinates(x: Tensor, weights: Tensor, standardise: Standardise) -> tuple[Tensor, Tensor, Tensor]:
    """Centre [d] and scale [d] (float64) of coordinates shared by K problems, and their penalty factors [K, d] there.

    Penalising the weights of standardised features equals penalising s_kj^2 W_kj^2 in raw units (the mean goes into
    the free intercept), so each problem keeps its own training statistics while all share one matrix.
    """
    centre, share = x.double().mean(0), weights.double() / weights.double().sum(1, keepdim=True)
    shifted = x.double() - centre
    if standardise == "none":
        return centre, torch.ones_like(centre), x.new_ones(len(weights), x.shape[1])
    scale = shifted.pow(2).mean(0).sqrt()
    scale = torch.where(scale > 1e-7 * centre.abs(), scale, torch.ones_like(scale))
    shifted /= scale
    variance = share @ shifted.pow(2) - (share @ shifted).pow(2)
    # A feature constant in a training part keeps its unit, as in scikit-learn's StandardScaler.
    return centre, scale, torch.where(variance > 1e-10, variance, scale.pow(-2)).to(x.dtype)


def check_shapes(features: Tensor, per_problem: Tensor, name: str) -> None:
    """Nothing; raises ValueError, naming `name`, unless `features` are [n, d] and what belongs to K problems [K, n]."""
    if features.ndim != 2 or per_problem.ndim != 2 or per_problem.shape[1] != len(features):
        raise ValueError(
            f"features {tuple(features.shape)} and {name} {tuple(per_problem.shape)} do not fit: expected "
            "[n, d] and [K, n]; a single problem is labels[None]"
        )

"""Ridge regression from streamed sufficient statistics: activations are seen once and never kept.

XᵀX, XᵀY, YᵀY and the sums, per fold of images, hold all that least squares needs. Statistics of images add, so a
fold's training data are the total less the fold, and the penalty is chosen by grouped cross-validation without a
second look at any activation. One eigendecomposition of XᵀX = V E Vᵀ solves every penalty: the weights for
penalty α are V (E + α)⁻¹ Vᵀ XᵀY (Hastie, Tibshirani and Friedman 2009, eq. 3.47).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RELATIVE_RANK = 1e-12  # eigenvalues below this share of the largest are rounding: those channels do not vary


@dataclass
class Statistics:
    """Moments of features X and targets Y, one set for each of G groups of images, float64.

    Features are counted from ``origin``, which changes no answer: around it, sums lose no digits to a large mean.
    """

    origin: Tensor  # [C]
    count: Tensor  # [G], rows
    x: Tensor  # [G, C], sums
    y: Tensor  # [G, K], sums
    xx: Tensor  # [G, C, C], XᵀX
    xy: Tensor  # [G, C, K], XᵀY
    yy: Tensor  # [G, K], the diagonal of YᵀY

    @classmethod
    def empty(cls, origin: Tensor, groups: int, targets: int) -> "Statistics":
        """No rows yet; ``origin`` [C] should be near the mean of the features."""
        c = len(origin)
        shapes = ((groups,), (groups, c), (groups, targets), (groups, c, c), (groups, c, targets), (groups, targets))
        return cls(origin, *(torch.zeros(s, dtype=torch.float64, device=origin.device) for s in shapes))

    def add(self, features: Tensor, targets: Tensor, member: Tensor) -> None:
        """Add images: features [N, T, C], targets [N, T, K], and which groups each belongs to, bool [N, G].

        In float64 throughout: activations are so nearly collinear that with float32 products the predictions of a
        weakly penalised ridge are off in the fourth digit.
        """
        # Images that belong to the same groups are multiplied as one, and the product added to each of the groups.
        patterns, pattern = member.unique(dim=0, return_inverse=True)
        for number, groups in enumerate(patterns):
            at = groups.nonzero()[:, 0]
            if not len(at):
                continue
            inside = pattern == number
            x = features[inside].flatten(0, 1).double().sub_(self.origin)
            y = targets[inside].flatten(0, 1).double()
            self.count[at] += len(x)
            self.x[at] += x.sum(0)
            self.y[at] += y.sum(0)
            self.yy[at] += y.square().sum(0)
            if len(at) == 1:  # straight into its place
                self.xx[at[0]].addmm_(x.T, x)
            else:
                self.xx[at] += x.T @ x
            self.xy[at] += x.T @ y

    def select(self, groups: slice) -> "Statistics":
        """The statistics of some of the groups."""
        return Statistics(self.origin, *(value[groups] for value in list(vars(self).values())[1:]))

    def without(self) -> "Statistics":
        """G + 1 sets: all groups but the first, all but the second, …, and all of them."""

        def rest(value: Tensor) -> Tensor:
            total = value.sum(0, keepdim=True)
            return torch.cat([total - value, total])

        return Statistics(self.origin, *(rest(value) for value in list(vars(self).values())[1:]))


@dataclass(frozen=True)
class Solution:
    """Ridge coefficients [C, K], intercepts [K], and the penalty of each target [K]."""

    weight: Tensor
    intercept: Tensor
    penalty: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """Predictions [..., K], float32, for features [..., C]."""
        return x.float() @ self.weight.float() + self.intercept.float()


def solve(statistics: Statistics, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge with an unpenalised intercept: weights [G, P, C, K] and intercepts [G, P, K], for each of P penalties.

    Directions in which the features do not vary, such as constant or copied channels, take no part.
    """
    s = statistics
    mean_x, mean_y = s.x / s.count[:, None], s.y / s.count[:, None]
    xx = s.xx - s.x[:, :, None] * mean_x[:, None]
    xy = s.xy - s.x[:, :, None] * mean_y[:, None]
    values, vectors = torch.linalg.eigh(xx)
    kept = values > values[:, -1:].clamp(min=torch.finfo(values.dtype).tiny) * RELATIVE_RANK
    shrunk = torch.where(kept[:, None], 1 / (values[:, None] + penalties[:, None]), 0)
    weights = torch.einsum("gce,gpe,gek->gpck", vectors, shrunk, vectors.mT @ xy)
    offsets = mean_y[:, None] - torch.einsum("gc,gpck->gpk", mean_x + s.origin, weights)
    return weights, offsets


def squared_error(statistics: Statistics, weights: Tensor, intercepts: Tensor) -> Tensor:
    """The mean squared error [G, P, K] on each group of the ``solve`` solutions of the same place."""
    s = statistics
    b = intercepts + torch.einsum("c,gpck->gpk", s.origin, weights)  # about the origin
    quadratic = torch.einsum("gpck,gpck->gpk", weights, torch.einsum("gcd,gpdk->gpck", s.xx, weights))
    crossed = torch.einsum("gpck,gck->gpk", weights, s.xy)
    along = torch.einsum("gpck,gc->gpk", weights, s.x)
    y, yy, n = s.y[:, None], s.yy[:, None], s.count[:, None, None]
    return (yy - 2 * crossed - 2 * b * y + quadratic + 2 * b * along + n * b * b) / n


def cross_validate(folds: Statistics, penalties: list[float]) -> Solution:
    """Choose each target's penalty by the squared error on held-out folds, and solve with it on all of them.

    The error is the mean over folds of each fold's mean, as in scikit-learn's ``GridSearchCV`` with ``GroupKFold``.
    """
    choices = torch.tensor(penalties, dtype=torch.float64, device=folds.x.device)
    weights, intercepts = solve(folds.without(), choices)
    best = squared_error(folds, weights[:-1], intercepts[:-1]).mean(0).argmin(0)
    target = torch.arange(len(best), device=best.device)
    return Solution(weights[-1, best, :, target].mT, intercepts[-1, best, target], choices[best])

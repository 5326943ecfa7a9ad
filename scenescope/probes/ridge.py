"""Ridge regression from streamed sufficient statistics: the data are seen once and never kept.

XᵀX, XᵀY, YᵀY and the sums, in float64 and per fold of images, hold all that least squares needs.
Statistics add and subtract, so a fold's training data are the total less the fold, and the penalty is
chosen by grouped cross-validation without a second look at any activation. The problem that is left,
channels × channels, goes to scikit-learn's ``Ridge``, and the answer is that of the whole data.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from sklearn.linear_model import Ridge


@dataclass
class Statistics:
    """Moments of features X [n, C] and targets Y [n, K], all float64."""

    count: float
    x_sum: np.ndarray  # [C]
    y_sum: np.ndarray  # [K]
    xx: np.ndarray  # [C, C]
    xy: np.ndarray  # [C, K]
    yy: np.ndarray  # [K], the diagonal of YᵀY

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Statistics":
        """The statistics of features [n, C] and targets [n, K]."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y * y).sum(0))

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: "Statistics") -> "Statistics":
        return Statistics(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def centred(self) -> tuple[np.ndarray, np.ndarray]:
        """XᵀX and XᵀY of the data less their means."""
        mean = self.x_sum / self.count
        return self.xx - np.outer(mean, self.x_sum), self.xy - np.outer(mean, self.y_sum)


@dataclass(frozen=True)
class Solution:
    """Ridge coefficients [C, K], intercepts [K], and the penalty chosen for each target [K]."""

    weight: np.ndarray
    intercept: np.ndarray
    penalty: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions [..., K] for features [..., C]."""
        return x.astype(np.float64) @ self.weight + self.intercept


def solve(statistics: Statistics, penalty: np.ndarray) -> Solution:
    """Ridge with an unpenalised intercept, as scikit-learn's on the whole data; one penalty per target [K].

    With XᵀX = V E Vᵀ, the data R = E^½ Vᵀ and R⁻ᵀ(XᵀY) have the statistics of the whole set. Directions in
    which the data do not vary, such as constant or copied channels, take no part, as in the whole set.
    """
    xx, xy = statistics.centred()
    values, vectors = eigh(xx)
    kept = values > max(values[-1], np.finfo(float).tiny) * 1e-14 * len(values)
    scale = np.sqrt(np.where(kept, values, 0))[:, None]
    root, rotated = scale * vectors.T, vectors.T @ xy
    data = np.divide(rotated, scale, out=np.zeros_like(rotated), where=kept[:, None])
    # scikit-learn drops the axis of a single target.
    weight = np.atleast_2d(Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(root, data).coef_).T
    intercept = (statistics.y_sum - statistics.x_sum @ weight) / statistics.count
    return Solution(weight, intercept, penalty)


def squared_error(statistics: Statistics, solution: Solution) -> np.ndarray:
    """The sum of squared errors [K] that a solution makes on the data of ``statistics``."""
    s, w, b = statistics, solution.weight, solution.intercept
    fit = (w * (s.xx @ w)).sum(0) + 2 * b * (s.x_sum @ w) + s.count * b**2
    return s.yy - 2 * (w * s.xy).sum(0) - 2 * b * s.y_sum + fit


def cross_validate(folds: list[Statistics], penalties: list[float]) -> Solution:
    """Choose each target's penalty by the mean squared error over held-out folds, and solve on all of them.

    The mean is over folds, as in scikit-learn's ``GridSearchCV`` with ``GroupKFold``.
    """
    total = folds[0]
    for fold in folds[1:]:
        total = total + fold
    targets = len(total.y_sum)
    errors = np.stack(
        [
            np.mean(
                [squared_error(f, solve(total - f, np.full(targets, penalty))) / f.count for f in folds],
                axis=0,
            )
            for penalty in penalties
        ]
    )
    return solve(total, np.asarray(penalties, np.float64)[errors.argmin(0)])

"""How many directions of the activations a target takes: least squares on the first r principal components.

A probe with one output is of rank 1 whatever its target, and a direction chosen for a target always carries all
that is linear in it. What can be counted is how many of the activations' own directions a probe must be given,
those with the largest variance first. They are chosen without a label, so they are the same for every target, a
number of them means the same for each, and nothing is selected that scores would have to be corrected for.
Principal component regression: Hastie, Tibshirani and Friedman 2009, section 3.5.1.
"""

from dataclasses import dataclass

import numpy as np

RELATIVE_RANK = 1e-12  # eigenvalues below this share of the largest are rounding: those directions do not vary


@dataclass(frozen=True)
class Moments:
    """All that least squares needs of features X and targets Y, float64: means, and products of what is left."""

    x_mean: np.ndarray  # [C]
    y_mean: np.ndarray  # [K]
    xx: np.ndarray  # [C, C], centred XᵀX
    xy: np.ndarray  # [C, K], centred XᵀY

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray) -> "Moments":
        """Moments of features [N, T, C] and targets [N, T, K], image by image, so that few are ever in float64."""
        x_mean = features.mean((0, 1), dtype=np.float64)
        y_mean = targets.mean((0, 1), dtype=np.float64)
        xx, xy = np.zeros((len(x_mean), len(x_mean))), np.zeros((len(x_mean), len(y_mean)))
        for x, y in zip(features, targets, strict=True):
            centred = x - x_mean
            xx += centred.T @ centred
            xy += centred.T @ (y - y_mean)
        return cls(x_mean, y_mean, xx, xy)


def ranks(channels: int) -> list[int]:
    """1, 2, 4, … and the number of channels."""
    return [2**k for k in range((channels - 1).bit_length())] + [channels]


def restricted(moments: Moments, ranks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Least squares on the first r principal components, for R ranks: weights [R, C, K] and intercepts [R, K].

    With every component it is least squares itself. Directions without variance take no part, at any rank.
    """
    values, vectors = np.linalg.eigh(moments.xx)
    values, vectors = values[::-1, None], vectors[:, ::-1]
    varies = values > max(values[0, 0], np.finfo(float).tiny) * RELATIVE_RANK
    along = np.divide(vectors.T @ moments.xy, values, out=np.zeros_like(moments.xy), where=varies)
    weights = np.stack([vectors[:, :rank] @ along[:rank] for rank in ranks])
    return weights, moments.y_mean - moments.x_mean @ weights

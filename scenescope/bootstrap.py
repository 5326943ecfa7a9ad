"""Intervals over images, and over differences between what was measured on the same images."""

import numpy as np


class Resamples:
    """Bootstrap resamples of N images (Efron 1979), the same for all that is measured on them.

    So the interval of a difference is paired: what is hard in an image is hard for both.
    """

    def __init__(self, count: int, resamples: int, seed: int):
        drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
        self.times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)

    def means(self, values: np.ndarray) -> np.ndarray:
        """The mean [..., R] of values [..., N] in every resample, over the images where they are defined."""
        defined = ~np.isnan(values)
        counted = defined @ self.times.T
        return np.divide(
            np.where(defined, values, 0) @ self.times.T, counted, out=np.full(counted.shape, np.nan), where=counted > 0
        )

    def interval(self, values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
        """Mean of values [N], and the ends of its percentile interval."""
        return summary(np.nanmean(values) if not np.isnan(values).all() else np.nan, self.means(values), level)


def summary(value: float, resampled: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """A measurement, and the percentile interval of its ``resampled`` values [R]."""
    if np.isnan(resampled).all():
        return float(value), np.nan, np.nan
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(value), float(low), float(high)

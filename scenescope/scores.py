"""How well a prediction agrees with a label: Dice, Pearson, Spearman, RMSE, and intervals over images.

A probe predicts on its layer's grid, and its prediction reaches image size by nearest-neighbour
upsampling. Every score at image size then depends on the label through its block sums and means
alone, so ``Reference`` reduces the labels once and nothing is ever upsampled. With n pixels, b = n / g²
pixels a block, prediction p (grid) and label y (pixels):

- overlap of p's mask with y: the sum over p's blocks of y's block sums;
- sum p·y = b · sum of p · (block mean of y), and the variance of p is that on the grid;
- the rank of p at image size is b · r - b / 2 + 1/2, a linear function of its rank r on the grid,
  ties averaged, so that rank correlation is the correlation of r with block means of y's ranks.

Undefined scores (a constant map has no correlation) are NaN, for the caller to count and report.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


def block_means(maps: np.ndarray, grid: int) -> np.ndarray:
    """Means over square blocks: [..., H, H] to [..., grid, grid], in float64."""
    *lead, size, _ = maps.shape
    if size % grid:
        raise ValueError(f"a map of {size} pixels does not divide into a grid of {grid}")
    block = size // grid
    return maps.reshape(*lead, grid, block, grid, block).mean((-3, -1), dtype=np.float64)


def image_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks from 1 within each map, ties averaged: [N, H, H] to float64 [N, H, H]."""
    return rankdata(maps.reshape(len(maps), -1), axis=1).reshape(maps.shape)


@dataclass(frozen=True)
class Reference:
    """Labels reduced to what scores on a grid need: values [N, g, g] and the moments they lose [N]."""

    values: np.ndarray  # block means of the labels
    ranks: np.ndarray  # block means of the labels' ranks
    mean: np.ndarray
    variance: np.ndarray
    within: np.ndarray  # mean square of labels less their block's mean
    rank_variance: np.ndarray

    @classmethod
    def from_maps(cls, maps: np.ndarray, grid: int) -> "Reference":
        """Reduce labels [N, H, H] (bool or float) to a grid."""
        values, ranks = block_means(maps, grid), image_ranks(maps)
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        block = maps.shape[-1] // grid
        return cls(
            values=values,
            ranks=block_means(ranks, grid),
            mean=flat.mean(1),
            variance=_variance(flat),
            within=flat.reshape(-1, grid, block, grid, block).var((2, 4)).mean((1, 2)),
            rank_variance=_variance(ranks.reshape(len(maps), -1)),
        )


def dice(reference: Reference, predicted: np.ndarray) -> np.ndarray:
    """Dice of predicted masks (bool [N, g, g]) with masks; 1 where both are empty. Dice 1945."""
    overlap = (predicted * reference.values).mean((1, 2))
    total = predicted.mean((1, 2)) + reference.mean
    return np.where(total == 0, 1.0, 2 * overlap / np.where(total == 0, 1, total))


def pearson(reference: Reference, predicted: np.ndarray) -> np.ndarray:
    """Linear correlation over the pixels of each image: predicted [N, g, g] to [N]."""
    return _correlation(predicted, reference.values, reference.variance)


def spearman(reference: Reference, predicted: np.ndarray) -> np.ndarray:
    """Rank correlation over the pixels of each image, ties averaged: predicted [N, g, g] to [N]."""
    return _correlation(image_ranks(predicted), reference.ranks, reference.rank_variance)


def rmse(reference: Reference, predicted: np.ndarray) -> np.ndarray:
    """Root mean squared error over the pixels of each image: predicted [N, g, g] to [N]."""
    return np.sqrt(((predicted - reference.values) ** 2).mean((1, 2)) + reference.within)


def _variance(flat: np.ndarray) -> np.ndarray:
    """Variance of every row; exactly 0 where a row is constant, which rounding of its mean would hide."""
    return np.where(np.ptp(flat, axis=1) == 0, 0.0, flat.var(1))


def _correlation(predicted: np.ndarray, values: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Correlation [N] of grid maps with pixels of which block means and the variance are known."""
    p = predicted.reshape(len(predicted), -1).astype(np.float64)
    y = values.reshape(len(values), -1)
    spread = _variance(p) * variance
    defined = spread > 0
    covariance = ((p - p.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))).mean(1)
    return np.where(defined, covariance / np.sqrt(np.where(defined, spread, 1)), np.nan)


def score(target: str, reference: Reference, predicted: np.ndarray, threshold: float = 0.5) -> dict[str, np.ndarray]:
    """Every score of a target, each [N]: Dice for saliency, and Spearman, Pearson and RMSE for the rest."""
    if target == "saliency":
        return {"dice": dice(reference, predicted > threshold)}
    return {
        "spearman": spearman(reference, predicted),
        "pearson": pearson(reference, predicted),
        "rmse": rmse(reference, predicted),
    }


def best_threshold(reference: Reference, predicted: np.ndarray) -> float:
    """The threshold on predicted [N, g, g] with the highest mean Dice, among 99 quantiles of it."""
    candidates = np.unique(np.quantile(predicted, np.linspace(0.01, 0.99, 99)))
    return float(max(candidates, key=lambda t: dice(reference, predicted > t).mean()))


def interval(values: np.ndarray, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> dict[str, float]:
    """Mean over images with a percentile bootstrap interval (Efron 1979), and the number left undefined.

    Keys: value, low, high, undefined. All NaN input gives NaN values.
    """
    kept = values[~np.isnan(values)]
    undefined = int(len(values) - len(kept))
    if not len(kept):
        return {"value": np.nan, "low": np.nan, "high": np.nan, "undefined": undefined}
    rng = np.random.default_rng(seed)
    means = kept[rng.integers(len(kept), size=(resamples, len(kept)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return {"value": float(kept.mean()), "low": float(low), "high": float(high), "undefined": undefined}


def intervals(scored: dict[str, np.ndarray], resamples: int, seed: int) -> dict[str, float]:
    """``interval`` of every score [N] in one flat row: dice, dice_low, dice_high, dice_undefined, …."""
    row = {}
    for name, values in scored.items():
        found = interval(values, seed, resamples)
        row[name] = found.pop("value")
        row.update({f"{name}_{key}": value for key, value in found.items()})
    return row

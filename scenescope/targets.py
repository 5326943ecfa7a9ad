"""Labels as probes learn them, and the control that needs no activations."""

from dataclasses import dataclass

import numpy as np

from scenescope import scores


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation that standardise a target's labels; a mask keeps its own scale."""

    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        return ((labels.astype(np.float32) - self.mean) / self.deviation).astype(np.float32)


def scale_of(target: str, training_labels: np.ndarray) -> Scale:
    """The scale of labels [N, H, H], from all pixels of the training images."""
    if target == "saliency":
        return Scale()
    values = training_labels.astype(np.float64)
    return Scale(float(values.mean()), float(values.std()) or 1.0)


def mean_map(
    target: str, train: np.ndarray, validation: np.ndarray, test: np.ndarray, grid: int
) -> dict[str, np.ndarray]:
    """Scores [N] on test labels of the mean training label, shown for every image: what position alone gives away.

    A mask's threshold is chosen on the validation labels.
    """
    guess = scores.block_means(train, grid).mean(0)
    checked, tested = (scores.Reference.from_maps(labels, grid) for labels in (validation, test))
    guesses = {len(labels): np.repeat(guess[None], len(labels), 0) for labels in (validation, test)}
    threshold = scores.best_threshold(checked, guesses[len(validation)]) if target == "saliency" else 0
    return scores.score(target, tested, guesses[len(test)], threshold)

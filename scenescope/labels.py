"""Labels as the map needs them: reduced once, image by image, to every grid that a layer has.

Only what scores and statistics need of a label is kept, a few numbers a token, so labels of any number and size
of images are read in passing.
"""

from collections.abc import Iterable
from dataclasses import fields

import numpy as np

from scenescope.scores import Reference
from scenescope.targets import Scale


def streamed_scale(target: str, parts: Iterable[np.ndarray]) -> Scale:
    """``targets.scale_of`` for labels that come in parts [n, H, H]."""
    if target == "saliency":
        return Scale()
    count = total = square = 0.0
    for part in parts:
        values = part.astype(np.float64)
        count, total, square = count + values.size, total + values.sum(), square + (values**2).sum()
    mean = total / count
    return Scale(mean, float(np.sqrt(max(square / count - mean**2, 0.0))) or 1.0)


def references(parts: Iterable[np.ndarray], scale: Scale, grids: Iterable[int]) -> dict[int, Reference]:
    """References on every grid, of labels that come in parts [n, H, H]."""
    reduced: dict[int, list[Reference]] = {grid: [] for grid in grids}
    for part in parts:
        labels = scale(part)
        for grid, known in reduced.items():
            known.append(Reference.from_maps(labels, grid))
    return {
        grid: Reference(*(np.concatenate([getattr(r, f.name) for r in known]) for f in fields(Reference)))
        for grid, known in reduced.items()
    }


def taken(reference: Reference, rows: np.ndarray) -> Reference:
    """The reference of some of the images."""
    return Reference(*(getattr(reference, field.name)[rows] for field in fields(Reference)))

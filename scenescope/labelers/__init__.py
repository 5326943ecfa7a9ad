"""Label models, one module each, behind one protocol.

A module has ``load(target, folder, device)``, which opens the label model for a target ("saliency",
"depth" or "shading") of the model in ``folder`` and returns a ``Labeler``.
"""

from typing import Protocol

import numpy as np


class Labeler(Protocol):
    """Labels uint8 images [N, H, W, 3] with maps [N, H, W]: bool for saliency, float32 for the others."""

    def __call__(self, images: np.ndarray) -> np.ndarray: ...

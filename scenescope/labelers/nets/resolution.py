"""The resolution at which a network sees an image best, and the resizing that takes an image there.

After Miangoleh et al. 2021, "Boosting Monocular Depth Estimation Models to High-Resolution via Content-Adaptive
Multi-Resolution Merging", section 5. A network makes sense of a pixel from the edges inside its receptive field.
R_0 is the highest resolution at which every pixel still has one.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

CELL = 32  # pixels: the strides of the networks, and the grain of the search for R_0
LONGEST = 1500  # pixels on the longer side, whatever R_0 says


def working_size(image: np.ndarray, field: int) -> tuple[int, int]:
    """The (height, width) to work at for float32 sRGB [H, W, 3] in [0, 1] and a receptive field of ``field`` pixels.

    R_0 on the longer side, but no less than the image has, and no more than LONGEST.
    """
    height, width = image.shape[:2]
    return fitted_size((height, width), min(max(contextual_size(image, field), height, width), LONGEST))


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """``size`` scaled until its longer side is ``longest``, then rounded up to multiples of CELL."""
    scale = longest / max(size)  # rounding errors included: 384.0000001 becomes 416 there, so it has to here
    return CELL * math.ceil(size[0] * scale / CELL), CELL * math.ceil(size[1] * scale / CELL)


def contextual_size(image: np.ndarray, field: int) -> int:
    """R_0 in pixels for float32 sRGB [H, W, 3] in [0, 1]: at least ``field``, at most 3000 and 3 × the longer side."""
    edges = edge_map(image)
    reach = field // CELL
    best = reach
    for cells in range(reach, min(3000, 3 * max(image.shape[:2])) // CELL, reach // 2):
        if not covered(edges, cells, reach):
            break
        best = cells
    return best * CELL


def edge_map(image: np.ndarray) -> Tensor:
    """Where the gradient is strong: float64 zeros and ones [1, 1, S, S], S the shorter side, for sRGB [H, W, 3]."""
    grey = image @ np.array([0.2989, 0.5870, 0.1140])
    gradient = sum(np.abs(ndimage.sobel(grey, axis, mode="mirror")) for axis in (0, 1))
    square = _linear(torch.from_numpy(gradient)[None, None], min(grey.shape))
    low, high = square.min(), square.max()
    return (square >= low + 0.4 * (high - low)).double()


def covered(edges: Tensor, cells: int, reach: int) -> bool:
    """Whether no cell of a grid of ``cells`` × ``cells`` is farther from an edge than ``reach`` cells see."""
    pooled = F.max_pool2d(edges, max(edges.shape[-1] // cells, 1), ceil_mode=True)
    present = (_linear(pooled, cells) >= 0.5).double()
    # An even window reaches one cell farther up and left than down and right; the row and column too many go.
    near = F.max_pool2d(present, reach, stride=1, padding=reach // 2)[..., :cells, :cells]
    return bool(near.all())


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Floats [H, W] or [H, W, C] at another ``size`` (height, width): linear, mirrored about the border pixels.

    Axes that shrink are blurred first, by a Gaussian of σ = (factor − 1) / 2.
    """
    channels = values.shape[2:]
    factors = np.divide(values.shape, (*size, *channels))
    smooth = ndimage.gaussian_filter(values, np.maximum(0, (factors - 1) / 2), mode="mirror")
    return ndimage.zoom(smooth, 1 / factors, order=1, mode="mirror", grid_mode=True)


def _linear(maps: Tensor, side: int) -> Tensor:
    """Linear, unblurred even where a map shrinks: the original asks for means of areas, by a flag out of its place."""
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)

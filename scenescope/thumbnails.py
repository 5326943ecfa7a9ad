"""Pictures made smaller, for where they are only looked at."""

import numpy as np

SMALL = 128  # pixels of a side at most, of the half-denoised pictures that are kept


def reduced(images: np.ndarray, most: int = SMALL) -> np.ndarray:
    """Images [S, H, H, C] of at most ``most`` pixels a side, by means over square blocks."""
    count, size, _, channels = images.shape
    side = reduced_side(size, most)
    if side == size:
        return images
    block = size // side
    means = images.reshape(count, side, block, side, block, channels).mean((2, 4), dtype=np.float32)
    return means.round().astype(images.dtype) if images.dtype == np.uint8 else means


def reduced_side(size: int, most: int = SMALL) -> int:
    """Pixels of a side of what ``reduced`` makes of images of ``size`` pixels."""
    return next(size // block for block in range(-(-size // most), size + 1) if size % block == 0)

"""Weights for parity tests: the same random numbers on every machine, key by key, with no weight downloaded.

A tensor is drawn from a NumPy generator that is seeded with its key, so neither order nor company matters.
Sizes are chosen so that signals neither die nor explode on their way: weights that multiply have a variance
of ``gain`` over their fan-in, scales of normalisations lie around 1. Default initialisations would hide an
error (a wrong padding then moves the output by 1e-5), larger weights would turn rounding into noise.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor


def seeded_state(shapes: dict[str, tuple[int, ...]], gain: float = 1.0) -> dict[str, Tensor]:
    """A float32 state dict with the given keys and shapes; counters are int64 zeros."""
    return {key: seeded_tensor(key, tuple(shape), gain) for key, shape in shapes.items()}


def seeded_tensor(key: str, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """The tensor of one key."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32))
    if key.endswith("running_var"):
        values = rng.uniform(0.8, 1.2, shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
    elif key.endswith("weight"):  # of a normalisation
        values = rng.uniform(0.8, 1.2, shape)
    else:  # biases and running means
        values = rng.standard_normal(shape) * 0.1
    return torch.from_numpy(np.asarray(values, np.float32))


def seeded_image(name: str, height: int, width: int) -> np.ndarray:
    """A uint8 image [H, W, 3] with smooth and sharp parts, from its name."""
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    waves = sum(
        rng.uniform(0.1, 0.3) * np.sin(2 * np.pi * (rng.uniform(0.5, 6, 3) * x + rng.uniform(0.5, 6, 3) * y))
        for _ in range(4)
    )
    disc = ((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < 0.05) * rng.uniform(-0.4, 0.4, 3)
    noise = 0.04 * rng.standard_normal((height, width, 3))
    return np.clip(255 * (0.5 + waves + disc + noise), 0, 255).astype(np.uint8)


def read_keys(path) -> dict[str, tuple[int, ...]]:
    """A committed key-and-shape list, a tensor a line: ``key 64,3,7,7``; a scalar has ``-`` for a shape."""
    lines = (line.rsplit(" ", 1) for line in path.read_text().splitlines())
    return {key: () if shape == "-" else tuple(int(n) for n in shape.split(",")) for key, shape in lines}

"""Grey shading by ordinal shading (Careaga and Aksoy 2023), version 1, as the study takes it from its images.

The ordinal network judges, at a low and at a high resolution, which of two points is lit more; the dense network
turns both judgements and the image into shading. The weights are their authors' and for academic use only.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scenescope.errors import UserError
from scenescope.labelers import Labeler
from scenescope.labelers.nets.intrinsic import dense_network, ordinal_network
from scenescope.labelers.nets.resolution import fitted_size, resize, working_size
from scenescope.weights import fetch, fill, read

TARGETS = ("shading",)
URL = "https://github.com/compphoto/Intrinsic/releases/download/v1.0/final_weights.pt"
NOTICE = "Intrinsic: its weights are for academic use only; see https://github.com/compphoto/Intrinsic"
FIELD = 384  # pixels: the receptive field of the ordinal network, and its low resolution
GAMMA = 2.2


def load(target: str, folder: Path, device: str, source: str | None = None) -> Labeler:
    """The labeler of shading: how much light falls on a surface, relative, linear, from 0 to 999, grey.

    ``source`` is a file of weights; None is the authors' release. Raises UserError where it is no such file.
    """
    print(NOTICE, file=sys.stderr)
    file = Path(source) if source else fetch(URL)
    weights, networks = read(file), []
    for key, build in (("ord_state_dict", ordinal_network), ("iid_state_dict", dense_network)):
        if not isinstance(weights, dict) or key not in weights:
            raise UserError(f"{file}: no {key} in it; expected final_weights.pt of Intrinsic v1.0")
        with torch.device("meta"):  # all of it is filled, so there is no need of random numbers first
            network = build()
        network.to_empty(device=device)
        fill(network, weights[key], file)
        networks.append(network.eval())

    def label(images: np.ndarray) -> np.ndarray:
        # One by one: each has its own working size, and a batch would gain nothing on such large maps.
        return np.stack([uninverted(inverse_shading(image, *networks)) for image in images])

    return label


def inverse_shading(image: np.ndarray, ordinal: nn.Module, dense: nn.Module) -> np.ndarray:
    """1 / (shading + 1), float32 [H, W], of a uint8 sRGB image [H, W, 3]."""
    pixels = image.astype(np.float32) / 255
    linear = resize(pixels, working_size(pixels, FIELD)) ** GAMMA
    size = linear.shape[:2]
    base = resize(_run(ordinal, resize(linear, fitted_size(size, FIELD))), size)
    full = matched(_run(ordinal, linear), base, linear)
    return resize(_run(dense, np.dstack([linear, base, full])), image.shape[:2])


def matched(full: np.ndarray, base: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """``full`` with its shading scaled to that of ``base``; both are inverse shading [H, W], ``linear`` is [H, W, 3].

    The scale is the least-squares fit of one albedo, brightness over shading, to the other. It is fitted on a
    random half of the pixels, as by the original, but always on the same half.
    """
    brightness = 0.3 * linear[..., 0] + 0.59 * linear[..., 1] + 0.11 * linear[..., 2]
    albedos = [brightness / np.maximum(1 / np.maximum(inverse, 1e-5) - 1, 1e-5) for inverse in (full, base)]
    chosen = np.random.RandomState(0).randn(*brightness.shape) > 0
    x, y = (albedo[chosen].astype(np.float64) for albedo in albedos)
    scale = np.float32(x @ y / max(x @ x, np.finfo(float).tiny))  # all black: 0
    return 1 / (1 + brightness / np.maximum(scale * albedos[0], 1e-5))


def uninverted(inverse: np.ndarray) -> np.ndarray:
    """Shading from inverse shading, of any shape."""
    return 1 / np.clip(inverse, 0.001, 1) - 1


@torch.no_grad()
def _run(network: nn.Module, maps: np.ndarray) -> np.ndarray:
    """What a network makes of float32 maps [H, W, C]: one map [H, W]."""
    device = next(network.parameters()).device
    batch = torch.from_numpy(maps).to(device).permute(2, 0, 1)[None]
    return network(batch)[0, 0].cpu().numpy()

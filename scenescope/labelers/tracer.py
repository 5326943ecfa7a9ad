"""TRACER: saliency by the release of its authors (Lee, Shin and Han 2022; code and weights Apache-2.0).

The network is in ``nets/tracer.py``. This opens it, and surrounds it as the release's own inference does.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scenescope.errors import UserError
from scenescope.labelers import Labeler
from scenescope.labelers.nets.tracer import VARIANTS, Tracer, recognised, renamed
from scenescope.weights import fetch, fill, read

TARGETS = ("saliency",)
VARIANT = "te5"  # the study's: trained at 512, the side of Stable Diffusion's images
RELEASE = "https://github.com/Karel911/TRACER/releases/download/v1.0/TRACER-Efficient-{}.pth"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


def prepare(images: Tensor, side: int) -> Tensor:
    """What the network takes, float32 [N, 3, side, side], from uint8 RGB images [N, H, W, 3]."""
    mean, deviation = (255 * torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, DEVIATION))
    return (resized(images.permute(0, 3, 1, 2), side) - mean) / deviation


def resized(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] of whole numbers 0–255 as such images [N, C, side, side].

    Bit for bit OpenCV's ``resize`` of uint8 with INTER_LINEAR (compared with 4.10 and 5.0), which weights pixels
    in 2048ths. Bilinear interpolation in floating point, rounded, is 1 off in a tenth of the pixels.
    """
    x = images.int()
    left, right, near, far = _neighbours(x.shape[3], side, x.device)
    x = x[..., left] * near + x[..., right] * far
    upper, lower, near, far = _neighbours(x.shape[2], side, x.device)
    x = x >> 4  # makes room in 32 bits for the second factor
    near, far = near[:, None], far[:, None]
    return ((x[..., upper, :] * near >> 16) + (x[..., lower, :] * far >> 16) + 2) >> 2


def _neighbours(length: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two old pixels [side] between which each new one lies, and their weights in 2048ths."""
    at = ((torch.arange(side, dtype=torch.float64) + 0.5) / (side / length) - 0.5).float()
    first = at.floor()
    pixels = [(first + step).clamp(0, length - 1) for step in (0, 1)]
    weights = [(2048 * weight).round() for weight in (1 - (at - first), at - first)]
    return tuple(values.int().to(device) for values in pixels + weights)


def foreground(probability: Tensor, height: int, width: int) -> Tensor:
    """Masks, bool [N, height, width], from probabilities [N, 1, S, S]: whatever is not black in the 8-bit map."""
    maps = F.interpolate(probability, (height, width), mode="bilinear", align_corners=False)[:, 0]
    # The release cuts off, it does not round: a pixel is black below 1/255, not below half of that.
    return (255 * maps).to(torch.uint8) > 0


def open_network(file: Path, device: str) -> Tracer:
    """The network of any of the release's files, whose variant is read from the weights, ready for use.

    Raises UserError where there is no such file, or it holds anything else.
    """
    state = read(file)
    if isinstance(state, dict):  # with or without the prefix that training on many devices leaves
        state = {str(key).removeprefix("module."): value for key, value in state.items()}
    variant = recognised(state) if isinstance(state, dict) else None
    if variant is None:
        raise UserError(f"{file}: not weights of TRACER ({', '.join(VARIANTS)})")
    network = Tracer(variant).to(device)
    fill(network, renamed(state, network), file)
    return network.eval()


def load(target: str, folder: Path, device: str, source: str | None = None) -> Labeler:
    """The labeler of saliency with TE5's weights, another variant's (``te0`` to ``te7``), or those of a file.

    Its masks are true where the probability of a salient object is at least 1/255. Raises UserError where the
    weights cannot be had or are not TRACER's.
    """
    source = source or VARIANT
    network = open_network(fetch(RELEASE.format(source[-1])) if source in VARIANTS else Path(source), device)

    @torch.inference_mode()
    def label(images: np.ndarray) -> np.ndarray:
        probability = network(prepare(torch.from_numpy(images).to(device), network.side))
        return foreground(probability, *images.shape[1:3]).cpu().numpy()

    return label

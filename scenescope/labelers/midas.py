"""MiDaS: depth by DPT-Large (Ranftl, Bochkovskiy and Koltun 2021, arXiv:2103.13413).

The network is Transformers' with Intel's published weights. What surrounds it follows MiDaS instead, because
Transformers prepares images in another way.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import DPTConfig, DPTForDepthEstimation

from scenescope.errors import UserError
from scenescope.labelers import Labeler
from scenescope.weights import fill, snapshot

TARGETS = ("depth",)
REPOSITORY, REVISION = "Intel/dpt-large", "bc15f29aa3a80d532f2ed650b5e16ac48d8958f9"
SIDE, MULTIPLE = 384, 32  # the side it was trained at; two tokens of 16 pixels, as the coarsest features take both
MEAN, DEVIATION = 0.5, 0.5  # of every channel, for images in [0, 1]
EPSILON = 1e-6  # of the layer normalisations it was trained with, whatever config.json says
# The first fusion has nothing coarser to add to. These weights are never used, and Intel's file lacks them.
UNUSED = "neck.fusion_stage.layers.0.residual_layer1."


def network_size(height: int, width: int) -> tuple[int, int]:
    """The height and the width that an image has in the network.

    The side that changes less on its way to ``SIDE`` goes there, the other keeps the aspect; both are rounded
    to multiples of 32 (MiDaS' resize method "minimal").
    """
    scale = min(SIDE / height, SIDE / width, key=lambda scale: abs(1 - scale))
    return MULTIPLE * round(scale * height / MULTIPLE), MULTIPLE * round(scale * width / MULTIPLE)


def prepare(images: Tensor) -> Tensor:
    """What the network takes, float32 [N, 3, h, w] in about [-1, 1], from images [N, 3, H, W] of 0–255."""
    # As OpenCV resizes: it does not blur before it shrinks, so neither may this.
    resized = F.interpolate(
        images.float() / 255, network_size(*images.shape[-2:]), mode="bicubic", align_corners=False, antialias=False
    )
    return (resized - MEAN) / DEVIATION


def infer(network: DPTForDepthEstimation, pixels: Tensor) -> Tensor:
    """Inverse depth [N, h, w] from ``pixels`` [N, 3, h, w], whose sides are multiples of 32."""
    # The network's own forward takes every image for a square one.
    rows, columns = (side // network.config.patch_size for side in pixels.shape[-2:])
    states = network.dpt(pixels, output_hidden_states=True).hidden_states[1:]  # without the embeddings
    taps = [states[layer] for layer in network.config.backbone_out_indices]
    return network.head(network.neck(taps, rows, columns))


def restore(depth: Tensor, height: int, width: int) -> Tensor:
    """Maps [N, h, w] at the images' size, [N, H, W]."""
    return F.interpolate(depth[:, None], (height, width), mode="bicubic", align_corners=False)[:, 0]


def open_network(folder: Path, device: str) -> DPTForDepthEstimation:
    """The network from a folder with ``config.json`` and ``model.safetensors``, in float32 and ready for use.

    Raises UserError where they cannot be read, are another kind of DPT, or lack a tensor or have one too many.
    """
    file = folder / "model.safetensors"
    try:
        config = DPTConfig.from_json_file(folder / "config.json")
        state = load_file(file)
    except (OSError, ValueError, SafetensorError):
        raise UserError(f"{folder}: needs a config.json and a model.safetensors that can be read") from None
    if config.is_hybrid or config.backbone_config is not None:
        raise UserError(f"{folder}: a DPT with another backbone; MiDaS takes one with a plain ViT, as {REPOSITORY}")
    config.layer_norm_eps = EPSILON
    with torch.device("meta"):  # random numbers for 340 million parameters would take longer than reading them
        network = DPTForDepthEstimation(config)
    del network.neck.fusion_stage.layers[0].residual_layer1
    network.to_empty(device=device)
    fill(network, {key: value for key, value in state.items() if not key.startswith(UNUSED)}, file)
    return network.eval()


def load(target: str, folder: Path, device: str, source: str | None = None) -> Labeler:
    """The labeler of depth, with Intel's weights or those of a folder in Transformers' format.

    Its maps are relative inverse depth: larger is nearer, scale and shift are unknown and differ from image to
    image. Raises UserError where the weights cannot be had or are not of such a network.
    """
    weights = Path(source) if source else snapshot(REPOSITORY, REVISION, ["config.json", "model.safetensors"])
    network = open_network(weights, device)

    @torch.no_grad()
    def label(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        return restore(infer(network, prepare(batch)), *images.shape[1:3]).cpu().numpy()

    return label

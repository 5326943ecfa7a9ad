"""What probes are fitted on instead of activations, to tell what the activations add.

Each control answers a doubt. *Position*: is it the place in the image that decides? *Latent*, *prediction* and
*pixels*: is it in the picture already? *Random* and *shuffled* weights: would any network of this shape do?
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from scenescope.cpu import prepare
from scenescope.diffusion import Model


def position(grid: int, degree: int = 3) -> Tensor:
    """Polynomials of row and column up to ``degree``, without the constant: [grid², F], both from -1 to 1."""
    axis = torch.linspace(-1, 1, grid, dtype=torch.float64) if grid > 1 else torch.zeros(1, dtype=torch.float64)
    row, column = axis.repeat_interleave(grid), axis.repeat(grid)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i) if i + j]
    return torch.stack([row**i * column**j for i, j in powers], 1)


def latent_tokens(latents: Tensor) -> Tensor:
    """Latents [N, C, s, s] as tokens [N, s², C]."""
    return latents.flatten(2).mT


def pixel_tokens(images: np.ndarray, grid: int) -> Tensor:
    """uint8 images [N, H, H, 3] as tokens [N, grid², 3 (H / grid)²] in [-1, 1]: a token is all pixels below it."""
    count, size, _, _ = images.shape
    block = size // grid
    tokens = images.reshape(count, grid, block, grid, block, 3).swapaxes(2, 3).reshape(count, grid * grid, -1)
    return torch.from_numpy(np.ascontiguousarray(tokens)).float() / 127.5 - 1


def with_random_weights(model: Model, seed: int) -> Model:
    """The model with a U-Net that has not been trained, initialised anew."""
    torch.manual_seed(seed)
    return _with_unet(model, UNet2DConditionModel.from_config(model.unet.config))


def with_shuffled_weights(model: Model, seed: int) -> Model:
    """The model with the entries of every tensor of the U-Net in random order, the control of Chen et al. 2023."""
    generator = torch.Generator().manual_seed(seed)
    unet = copy.deepcopy(model.unet)
    for parameter in unet.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.data = parameter.data.flatten()[order].reshape(parameter.shape)
    return _with_unet(model, unet)


def _with_unet(model: Model, unet: nn.Module) -> Model:
    unet = nn.Module.to(unet, model.device, model.unet.dtype).eval()  # Diffusers' own warns of every change of dtype
    prepare(unet)
    parts = {**model.pipeline.components, "unet": unet}
    return replace(model, pipeline=StableDiffusionPipeline(**parts, requires_safety_checker=False))

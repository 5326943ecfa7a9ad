"""Tabletop's autoencoder: 64 × 64 pixels to 4 channels of 16 × 16, as small a copy of SD's as works."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from scenescope.tabletop.training import fit, in_bfloat16, to_unit


def new_autoencoder(channels: list[int], size: int) -> AutoencoderKL:
    """An untrained AutoencoderKL with one halving of the image fewer than it has levels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=size,
    )


def autoencoder_loss(model: AutoencoderKL, images: Tensor, kl_weight: float) -> Tensor:
    """Absolute error of pixels and of their differences, and the KL term. Images [N, 3, S, S] in [-1, 1].

    The differences keep edges sharp where the absolute error alone would let them blur.
    """
    posterior = model.encode(images).latent_dist
    decoded = model.decode(posterior.sample()).sample.float()
    loss = (decoded - images).abs().mean() + (decoded - images).square().mean()
    for axis in (-1, -2):
        loss = loss + (decoded.diff(dim=axis) - images.diff(dim=axis)).abs().mean()
    return loss + kl_weight * posterior.kl().mean() / posterior.mean[0].numel()


def train_autoencoder(images: np.ndarray, params: dict, seed: int, scratch: Path, curve: Path) -> AutoencoderKL:
    """Train on uint8 images [N, S, S, 3] and set ``scaling_factor`` so that latents have unit variance."""
    torch.manual_seed(seed)
    model = new_autoencoder(params["channels"], images.shape[1])

    def loss_of(model: AutoencoderKL, step: int) -> Tensor:
        rows = torch.randint(len(images), (params["batch_size"],)).numpy()
        batch = to_unit(torch.from_numpy(images[rows]))
        batch = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(-1), batch)
        return autoencoder_loss(model, batch, params["kl_weight"])

    model = fit(
        model,
        loss_of,
        steps=params["steps"],
        learning_rate=params["learning_rate"],
        seed=seed,
        checkpoint=scratch / "autoencoder.pt",
        curve=curve,
    )
    # The weights are kept as fp16: what is measured and used from here on is what they round to.
    model = model.half().float()
    sample = torch.cat([mean for mean, _ in encode(model, images[:1024])])
    model.register_to_config(scaling_factor=round(1 / sample.std().item(), 6))
    return model


@torch.no_grad()
def encode(model: AutoencoderKL, images: np.ndarray, batch_size: int = 64):
    """Yield the posterior's mean and standard deviation [N, 4, s, s] of uint8 images, batch by batch."""
    for start in range(0, len(images), batch_size):
        with in_bfloat16():
            posterior = model.encode(
                to_unit(torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])))
            ).latent_dist
        yield posterior.mean.float(), posterior.std.float()


@torch.no_grad()
def reconstruction_error(model: AutoencoderKL, images: np.ndarray) -> float:
    """Mean squared error on [-1, 1] of decoding the posterior's mean of uint8 images [N, S, S, 3]."""
    errors = []
    for start in range(0, len(images), 64):
        batch = to_unit(torch.from_numpy(images[start : start + 64]))
        errors.append((model.decode(model.encode(batch).latent_dist.mode()).sample - batch).square().mean((1, 2, 3)))
    return torch.cat(errors).mean().item()

"""The paper's probe: one linear layer a token, per denoising step, fitted with Adam.

The paper upsamples predictions to image size (nearest) and takes the loss there. On the layer's own grid
the same numbers come for less: a token's prediction meets its block of pixels without being copied.

- Cross-entropy is linear in the label, so the mean over a block equals the cross-entropy against the
  block's mean, exactly.
- Huber's loss is not, so each prediction is compared with every pixel of its block.

Probes of different steps share nothing; they are fitted side by side, as one batched product.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scenescope.scores import block_means

OUTPUTS = {"saliency": 2, "depth": 1, "shading": 1}


@dataclass(frozen=True)
class Fitted:
    """Probes of S steps: the weights of the epoch with the lowest validation loss, and the curves."""

    weight: Tensor  # [S, channels, outputs]
    bias: Tensor  # [S, 1, outputs]; zero for saliency, whose probe has none
    train_loss: np.ndarray  # [epochs, S]
    validation_loss: np.ndarray  # [epochs, S]


def pixel_blocks(labels: np.ndarray, grid: int) -> np.ndarray:
    """The pixels below every token: [N, H, H] to float32 [N, grid², (H / grid)²]."""
    count, size, _ = labels.shape
    block = size // grid
    blocks = labels.reshape(count, grid, block, grid, block).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(blocks.reshape(count, grid * grid, block * block), np.float32)


def token_labels(target: str, labels: np.ndarray, grid: int) -> Tensor:
    """What a target's loss needs of labels [N, H, H]: block means [N, T, 1], or all pixels [N, T, P] for Huber."""
    if target == "saliency":
        return torch.from_numpy(block_means(labels, grid).reshape(len(labels), -1, 1).astype(np.float32))
    return torch.from_numpy(pixel_blocks(labels, grid))


def loss(target: str, predicted: Tensor, truth: Tensor) -> Tensor:
    """Loss of every step [S]: predicted [S, B, T, outputs] against ``token_labels`` [B, T, …]."""
    if target == "saliency":
        background, foreground = predicted.log_softmax(-1).unbind(-1)
        share = truth[..., 0]
        return -(share * foreground + (1 - share) * background).mean((1, 2))
    predicted, truth = torch.broadcast_tensors(predicted, truth)
    return F.huber_loss(predicted, truth, reduction="none").mean((1, 2, 3))


def fit(
    target: str,
    activations: Tensor,
    truth: Tensor,
    held_out: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Fitted:
    """Fit one probe per step on activations [S, N, T, C] and ``token_labels`` [N, T, …].

    ``held_out`` are activations and labels of validation images; they choose the epoch, step by step.
    Initialisation and the order of images come from ``seed`` alone, so a step's probe is the same
    whichever steps are fitted beside it.
    """
    steps, count, _, channels = activations.shape
    device = activations.device
    generator = torch.Generator().manual_seed(seed)
    bound = channels**-0.5  # torch.nn.Linear's own initialisation
    start = (2 * torch.rand(channels + 1, OUTPUTS[target], generator=generator) - 1) * bound
    weight = start[:-1].repeat(steps, 1, 1).to(device).requires_grad_()
    bias = start[-1:].repeat(steps, 1, 1).to(device) * (target != "saliency")
    bias.requires_grad_(target != "saliency")
    optimizer = torch.optim.Adam([p for p in (weight, bias) if p.requires_grad], lr=learning_rate)
    best = torch.full((steps,), torch.inf, device=device)
    kept = weight.detach().clone(), bias.detach().clone()
    curves: tuple[list, list] = ([], [])
    for _ in range(epochs):
        order = torch.randperm(count, generator=generator)
        total = torch.zeros(steps, device=device)
        for rows in order.split(batch_size):
            losses = loss(target, predict(activations[:, rows], weight, bias), truth[rows])
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            total += losses.detach() * len(rows)
        with torch.no_grad():
            checked = loss(target, predict(held_out[0], weight, bias), held_out[1])
            better = checked < best
            best = torch.where(better, checked, best)
            for keep, now in zip(kept, (weight, bias), strict=True):
                keep[better] = now[better]
        curves[0].append((total / count).cpu().numpy())
        curves[1].append(checked.cpu().numpy())
    return Fitted(*kept, np.stack(curves[0]), np.stack(curves[1]))


def predict(activations: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Outputs [S, N, T, outputs] for activations [S, N, T, C] of any float dtype."""
    steps, count, tokens, channels = activations.shape
    flat = activations.reshape(steps, count * tokens, channels).to(weight.dtype)
    return torch.baddbmm(bias, flat, weight).reshape(steps, count, tokens, -1)


def to_maps(target: str, outputs: Tensor) -> np.ndarray:
    """Outputs [S, N, T, outputs] as maps [S, N, g, g]: the foreground's probability, or the value."""
    maps = outputs.softmax(-1)[..., 1] if target == "saliency" else outputs[..., 0]
    steps, count, tokens = maps.shape
    grid = round(tokens**0.5)
    return maps.reshape(steps, count, grid, grid).cpu().numpy()

"""The paper's probe: one linear layer a token, per denoising step, fitted with Adam, or to the optimum.

The paper upsamples predictions to image size (nearest) and takes the loss there. On the layer's own grid
the same numbers come for less: a token's prediction meets its block of pixels without being copied.

- Cross-entropy is linear in the label, so the mean over a block equals the cross-entropy against the
  block's mean, exactly.
- Huber's loss is not, so each prediction is compared with every pixel of its block.

Probes of different steps share nothing. Adam's, many small updates, are fitted side by side, as one batched
product; L-BFGS takes few iterations over all images, step by step.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from scenescope.scores import block_means

OUTPUTS = {"saliency": 2, "depth": 1, "shading": 1}
TOLERANCE = 1e-7  # of L-BFGS's gradient, by white features: on tabletop, losses are then within 1e-11 of the lowest
RELATIVE_RANK = 1e-12  # eigenvalues below this share of the largest are rounding: those channels do not vary
CHUNK = 2**24  # float64 numbers (128 MiB) that one product is taken of


@dataclass(frozen=True)
class Fitted:
    """Probes of S steps, and the losses by epoch of Adam, or by iteration of L-BFGS."""

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
    """Fit one probe per step with Adam on activations [S, N, T, C] and ``token_labels`` [N, T, …].

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


def optimum(target: str, activations: Tensor, truth: Tensor, held_out: tuple[Tensor, Tensor]) -> Fitted:
    """Fit one probe per step to the lowest training loss; arguments as for ``fit``.

    The objective is Adam's, over all training images at once and nothing added. It is convex, so there is no epoch
    to choose, no seed, and ``held_out`` only gives the validation curve. Curves begin with the loss of weights that
    are all zero; a step that is done keeps its last value while others go on.

    Huber's loss always has a minimum. Cross-entropy has none where a hyperplane parts foreground from background
    exactly: weights can grow for ever while the loss nears 0. The gradient nears 0 with it, so that stopping by its
    size ends that too, at a loss of next to nothing, and no penalty is needed, whose size would have to be chosen.
    """
    found = [
        _optimum_of_step(target, inputs, truth, (checked, held_out[1]))
        for inputs, checked in zip(activations, held_out[0], strict=True)
    ]
    length = max(len(curves) for _, curves in found)
    coefficients = torch.stack([c for c, _ in found]).float()
    padded = np.stack([np.pad(c, ((0, length - len(c)), (0, 0)), mode="edge") for _, c in found], 1)
    return Fitted(coefficients[:, :-1], coefficients[:, -1:], padded[..., 0], padded[..., 1])


def _optimum_of_step(
    target: str, activations: Tensor, truth: Tensor, held_out: tuple[Tensor, Tensor]
) -> tuple[Tensor, np.ndarray]:
    """Coefficients [C + 1, outputs] of one step, and its losses [iterations + 1, 2], training and validation.

    L-BFGS (Liu and Nocedal 1989) as SciPy has it. It starts from zero: softmax is the same whatever both its outputs
    have in common, and what starts without a common part never gets one.
    """
    basis = whitening(activations, bias=target != "saliency")

    def coefficients(white: np.ndarray) -> Tensor:
        return basis @ torch.from_numpy(white).to(basis.device).reshape(-1, OUTPUTS[target])

    def evaluate(white: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(target, activations, truth, coefficients(white))
        return value, (basis.T @ gradient).flatten().cpu().numpy()

    start = np.zeros(basis.shape[1] * OUTPUTS[target])
    path = [(evaluate(start)[0], start)]
    end = minimize(
        evaluate,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: path.append((intermediate_result.fun, intermediate_result.x.copy())),
        options={"gtol": TOLERANCE, "ftol": 0},
    )
    losses = [(value, objective(target, *held_out, coefficients(white))[0]) for value, white in path]
    return coefficients(end.x), np.array(losses)


def objective(target: str, activations: Tensor, truth: Tensor, coefficients: Tensor) -> tuple[float, Tensor]:
    """Mean ``loss`` of one step and its gradient [C + 1, outputs], in float64.

    activations: [N, T, C] of any float dtype; truth: ``token_labels``; coefficients: float64 weights, the bias last.
    """
    value, gradient = 0.0, torch.zeros_like(coefficients)
    for rows in _chunks(activations, truth):
        features = _features(activations[rows])
        outputs = torch.addmm(coefficients[-1], features, coefficients[:-1]).requires_grad_()
        predicted = outputs.unflatten(0, activations[rows].shape[:2])
        mean = loss(target, predicted[None], truth[rows].double()).sum() * len(predicted) / len(truth)
        value += mean.item()
        (by_output,) = torch.autograd.grad(mean, outputs)
        gradient[:-1] += (by_output.T @ features).T
        gradient[-1] += by_output.sum(0)
    return value, gradient


def whitening(activations: Tensor, bias: bool) -> Tensor:
    """A basis [C + 1, R] of coefficients in which the features' second moment is the identity.

    R is the rank of the features: channels that are constant, or copies of others, leave no direction of their own.
    Neighbouring channels are so alike that L-BFGS needs 3000 iterations without this, and 30 with it.
    """
    size = activations.shape[-1] + bias
    moment = torch.zeros(size, size, dtype=torch.float64, device=activations.device)
    for rows in _chunks(activations):
        features = F.pad(_features(activations[rows]), (0, int(bias)), value=1.0)
        moment += features.T @ features
    moment /= activations[..., 0].numel()
    units = moment.diag().clamp(min=torch.finfo(moment.dtype).tiny).sqrt()  # rank is no matter of channels' units
    values, vectors = torch.linalg.eigh(moment / units / units[:, None])
    kept = values > values[-1] * RELATIVE_RANK
    return F.pad(vectors[:, kept] / values[kept].sqrt() / units[:, None], (0, 0, 0, 1 - bias))


def _features(activations: Tensor) -> Tensor:
    """Activations [N, T, C] as rows [N · T, C] in float64; by way of float32, which is faster from half precision."""
    return activations.flatten(0, 1).float().double()


def _chunks(*arrays: Tensor) -> list[slice]:
    """Slices of the images of arrays [N, T, …], small enough for float64."""
    images = max(1, CHUNK // max(array[0].numel() for array in arrays))
    return [slice(first, first + images) for first in range(0, len(arrays[0]), images)]


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

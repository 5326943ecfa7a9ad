"""Training of tabletop's label models and classifier on renders, against the renderer's truth.

They will be shown generated images, which come out of the autoencoder's decoder, so half of what they
are trained on are renders that went through the autoencoder.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from scenescope.classifiers.tabletop import Classifier
from scenescope.labelers.tabletop import LabelNet
from scenescope.tabletop.autoencoder import encode
from scenescope.tabletop.render import Renders
from scenescope.tabletop.scenes import COLOURS, SHAPES, Scene
from scenescope.tabletop.training import fit, in_bfloat16, to_unit

TRUTH = {"saliency": "mask", "depth": "depth", "shading": "shading"}  # of Renders, by target


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """uint8 images [N, S, S, 3] as the autoencoder gives them back, from a sample of the posterior."""
    torch.manual_seed(0)
    out = []
    for mean, deviation in encode(vae, images):
        with in_bfloat16():
            decoded = vae.decode(mean + deviation * torch.randn_like(mean)).sample.float()
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        out.append(pixels.permute(0, 2, 3, 1).numpy())
    return np.concatenate(out)


def label_loss(target: str, guess: Tensor, truth: Tensor) -> Tensor:
    """Loss of maps [N, S, S]: cross-entropy and soft Dice for masks, absolute error for the others.

    Depth is learned as what one image can tell: relative, with mean 0 and deviation 1.
    """
    if target == "saliency":
        share = guess.sigmoid()
        overlap = (share * truth).sum((1, 2)) / (share + truth).sum((1, 2)).clamp(min=1)
        return F.binary_cross_entropy_with_logits(guess, truth) + 1 - 2 * overlap.mean()
    if target == "depth":
        truth = (truth - truth.mean((1, 2), keepdim=True)) / truth.std((1, 2), keepdim=True)
    return (guess - truth).abs().mean()


def train_labeler(
    target: str, renders: Renders, decoded: np.ndarray, params: dict, seed: int, scratch: Path, curve: Path
) -> LabelNet:
    """Train one target's network. ``decoded`` are the first renders as the autoencoder gives them back."""
    truth = getattr(renders, TRUTH[target])
    torch.manual_seed(seed)

    def loss_of(model: nn.Module, step: int) -> Tensor:
        images, rows = _batch(renders.image, decoded, params["batch_size"])
        answer = torch.from_numpy(truth[rows].astype(np.float32))
        mirrored = torch.rand(len(rows), 1, 1) < 0.5
        images = torch.where(mirrored[..., None], images.flip(-1), images)
        return label_loss(target, model(images).float(), torch.where(mirrored, answer.flip(-1), answer))

    return _fit(LabelNet(), loss_of, f"label_{target}", params, seed, scratch, curve)


def train_classifier(
    scenes: list[Scene], renders: Renders, decoded: np.ndarray, params: dict, seed: int, scratch: Path, curve: Path
) -> Classifier:
    """Train the classifier of shape and colour."""
    shapes = torch.tensor([SHAPES.index(s.words.shape) for s in scenes])
    colours = torch.tensor([list(COLOURS).index(s.words.colour) for s in scenes])
    torch.manual_seed(seed)

    def loss_of(model: nn.Module, step: int) -> Tensor:
        images, rows = _batch(renders.image, decoded, params["batch_size"])
        images = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, images.flip(-1), images)
        shape, colour = model(images)
        return F.cross_entropy(shape, shapes[rows]) + F.cross_entropy(colour, colours[rows])

    return _fit(Classifier(), loss_of, "classifier", params, seed, scratch, curve)


def _batch(images: np.ndarray, decoded: np.ndarray, size: int) -> tuple[Tensor, np.ndarray]:
    """Images [N, 3, S, S], half of them decoded, a little noisy, and the rows that they came from."""
    half = size // 2
    plain = torch.randint(len(images), (size - half,)).numpy()
    through = torch.randint(len(decoded), (half,)).numpy()
    batch = to_unit(torch.from_numpy(np.concatenate([images[plain], decoded[through]])))
    return batch + 0.03 * torch.rand(size, 1, 1, 1) * torch.randn_like(batch), np.concatenate([plain, through])


def _fit(model: nn.Module, loss_of, name: str, params: dict, seed: int, scratch: Path, curve: Path) -> nn.Module:
    model = fit(
        model,
        loss_of,
        steps=params["steps"],
        learning_rate=params["learning_rate"],
        seed=seed,
        checkpoint=scratch / f"{name}.pt",
        curve=curve,
    )
    return model.half().float()

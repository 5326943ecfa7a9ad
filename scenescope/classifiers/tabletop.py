"""Tabletop's classifier of shape and colour, in the role of VGG-16 and built like it."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from scenescope.tabletop.scenes import COLOURS, SHAPES

STAGES = ((32, 32), (64, 64), (96, 96), (96,))  # widths of 3 × 3 convolutions; a stage ends in max pooling
CLASSES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)


class Classifier(nn.Module):
    """Images [N, 3, 64, 64] in [-1, 1] to logits of shape [N, 5] and of colour [N, 8]."""

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for stage in STAGES:
            for outputs in stage:
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
                width = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(width * 16, 128), nn.ReLU())
        self.shape = nn.Linear(128, len(SHAPES))
        self.colour = nn.Linear(128, len(COLOURS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.hidden(self.features(images))
        return self.shape(x), self.colour(x)


def load(weights: Path, device: str):
    """A classifier: uint8 images [N, 64, 64, 3] to probabilities [N, 40] of ``CLASSES``.

    Shape and colour are judged apart; the probability of a class is the product of the two.
    """
    network = Classifier().to(device)
    network.load_state_dict({name: value.float() for name, value in load_file(weights, device=device).items()})
    network.eval()

    @torch.no_grad()
    def classify(images: np.ndarray) -> np.ndarray:
        shape, colour = network(torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1)
        joint = shape.softmax(1)[:, :, None] * colour.softmax(1)[:, None, :]
        return joint.flatten(1).cpu().numpy()

    return classify

"""Tabletop's label models, in the roles of TRACER, MiDaS and Intrinsic: one small U-Net per target.

They see images alone. What they were trained on is the renderer's truth, see ``tabletop/labelling.py``.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from scenescope.labelers import Labeler

TARGETS = ("saliency", "depth", "shading")
CHANNELS = (32, 56, 72, 96)


class LabelNet(nn.Module):
    """A U-Net from images [N, 3, S, S] in [-1, 1] to one map [N, S, S]. S is a multiple of 16."""

    def __init__(self):
        super().__init__()
        # Folding 2 × 2 pixels into channels quarters the work, and the map comes back sharp all the same.
        self.stem = nn.Conv2d(12, CHANNELS[0], 3, padding=1)
        self.down = nn.ModuleList(_block(c, c) for c in CHANNELS)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(CHANNELS))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(CHANNELS))
        self.up = nn.ModuleList(_block(2 * c, c) for c in CHANNELS[:-1])
        self.head = nn.Conv2d(CHANNELS[0], 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x, skips = self.stem(F.pixel_unshuffle(images, 2)), []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.shrink):
                skips.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.grow[level](x), scale_factor=2)
            x = self.up[level](torch.cat([x, skips[level]], 1))
        return F.pixel_shuffle(self.head(x), 2).squeeze(1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def load(target: str, folder: Path, device: str, source: str | None = None) -> Labeler:
    """The labeler of one target, from its weights in a model folder, or in the folder ``source``.

    Saliency is a mask, depth is relative inverse depth (larger is nearer; mean about 0 and deviation about
    1 in an image), shading is irradiance.
    """
    weights = load_file(Path(source or folder / "labelers") / f"{target}.safetensors", device=device)
    network = LabelNet().to(device)
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()

    @torch.no_grad()
    def label(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = network(batch)
        return (maps > 0 if target == "saliency" else maps).cpu().numpy()

    return label

"""What the page shows of an image at every step: what the map's probes predict, and what label models see."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scenescope import diffusion
from scenescope.labelers import Labeler
from scenescope.probes.ridge import Solution
from scenescope.settings import TARGETS

MOST_STEPS = 48  # frames of a strip: a slider's stops, and a heat map's columns


def shown_steps(steps: int) -> list[int]:
    """The steps on the page, counted from 1: all, or an even selection with the first and the last."""
    return np.linspace(1, steps, min(steps, MOST_STEPS)).astype(int).tolist()


@dataclass(frozen=True)
class Probes:
    """The map's ridge probes of one step, by layer: of a ``Solution``, weight [C, 3] and intercept [3]; and the
    threshold at which the first, of saliency, is cut."""

    weight: dict[str, np.ndarray]
    intercept: dict[str, np.ndarray]
    threshold: dict[str, np.ndarray]

    def maps(self, seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Predictions {layer: [3, N, g, g]} from activations {layer: [N, T, C]}, in the order of ``TARGETS``.

        Of saliency it is the mask, 0 or 1.
        """
        found = {}
        for layer, x in seen.items():
            weight, intercept = (torch.from_numpy(a[layer]).to(x.device) for a in (self.weight, self.intercept))
            flat = Solution(weight, intercept, intercept).predict(x).cpu().numpy()
            grid = round(x.shape[1] ** 0.5)
            found[layer] = np.moveaxis(flat, -1, 0).reshape(len(TARGETS), len(x), grid, grid)
            found[layer][0] = found[layer][0] > self.threshold[layer]
        return found


def predicted(
    model: diffusion.Model, probes: Probes, latents: Tensor, step: int, prompts: list[str], size: int
) -> dict[str, np.ndarray]:
    """Predictions {layer: [3, N, g, g]} at a step, counted from 0, of latents [N, C, s, s], ``size`` images at once."""
    parts = []
    for start in range(0, len(prompts), size):
        batch = slice(start, start + size)
        seen = diffusion.activations(model, latents[batch], step, prompts[batch], model.layers)
        parts.append(probes.maps(seen))
    return {layer: np.concatenate([part[layer] for part in parts], axis=1) for layer in parts[0]}


def seen_by_step(
    model: diffusion.Model, labelers: dict[str, Labeler], latents: Tensor, size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Latents [S, C, s, s] as pictures [S, H, H, 3], and what label models see in these, ``size`` at once."""
    shown = diffusion.decode(model, latents)
    parts = [shown[start : start + size] for start in range(0, len(shown), size)]
    return shown, {target: np.concatenate([label(part) for part in parts]) for target, label in labelers.items()}

"""What label models see in half-denoised images: their maps at every step, scored against those of the final image.

Two images a step. At step t, counted from 1, the U-Net reads the latent z_t that stands before that step,
trajectories[:, t - 1], and it is of that call that a probe at step t reads the activations. ``zt`` is z_t decoded,
noise and all, in the scheduler's scale; ``x0`` is the clean latent that the same call predicts,
predictions[:, t - 1], decoded. (The figures' images are the latents after each step, one further on.)
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from scenescope import diffusion, labelers, scores, store
from scenescope.labelers import Labeler
from scenescope.parts import Part
from scenescope.settings import TARGETS, Params
from stages.common import LABELS, PREDICTIONS, PROMPTS, SEEN, TRAJECTORIES, read_table, split_rows, workspace
from stages.opening import device_named, fitting, open_model
from stages.sharing import run_in_parts


def see(params: Params, part: Part) -> None:
    folder = Path("models") / params.model
    model = open_model(params.model, params.device)
    specs = {target: getattr(params.labels, target) for target in TARGETS}
    models = labelers.opened(specs, folder, device_named(params.device))
    size = params.onset.batch_size
    test = split_rows(read_table())["test"]
    latents = {"zt": store.open_whole(TRAJECTORIES), "x0": store.open_whole(PREDICTIONS)}
    labels = {target: store.open_whole(LABELS / target) for target in TARGETS}

    depends = [PROMPTS, TRAJECTORIES, PREDICTIONS, LABELS, folder]
    batches = [test[rows] for rows in store.batches(slice(0, len(test)), size)]
    values = [specs, size, str(model.device)]
    with fitting("onset.batch_size", size), workspace(SEEN, depends, values, part) as scratch:
        mine = part.of(range(model.steps))
        todo = [step for step in mine if not store.has_npz(step_file(scratch, step))]
        done = (len(mine) - len(todo)) * len(test)
        with tqdm(total=len(mine) * len(test), initial=done, desc="see") as progress:
            for step in todo:
                parts = []
                for rows in batches:
                    known = {target: store.read(array, rows) for target, array in labels.items()}
                    z = {kind: torch.from_numpy(store.read_step(array, rows, step)) for kind, array in latents.items()}
                    parts.append(agreement(model, models, z, known))
                    progress.update(len(rows))
                whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
                store.write_npz(step_file(scratch, step), whole)


def agreement(
    model: diffusion.Model,
    models: dict[str, Labeler],
    latents: dict[str, torch.Tensor],
    labels: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Scores [N], named KIND/TARGET, of label models on decoded latents {kind: [N, C, s, s]} against labels [N, H, H].

    Dice for masks and rank correlation for the rest, at image size.
    """
    images = {kind: diffusion.decode(model, z) for kind, z in latents.items()}
    found = {}
    for target, label in models.items():
        known = scores.Reference.from_maps(labels[target], labels[target].shape[-1])
        agree = scores.dice if target == "saliency" else scores.spearman
        found |= {f"{kind}/{target}": agree(known, label(shown)) for kind, shown in images.items()}
    return found


def step_file(folder: Path, step: int) -> Path:
    return folder / f"step_{step + 1:03d}.npz"


if __name__ == "__main__":
    run_in_parts(see)

"""Generate the image of every prompt; keep the latent at every step, and the clean one that each step predicts."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenescope import diffusion, store
from scenescope.settings import Params
from stages.common import IMAGES, PREDICTIONS, PROMPTS, TRAJECTORIES, check_disk, read_table, run, workspace
from stages.opening import fitting, open_model


def generate(params: Params) -> None:
    table = read_table()
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = open_model(params.model, params.device)
    size = params.generate.batch_size
    latent, count = model.latent_shape, len(table)
    check_disk(TRAJECTORIES, (count, 2 * model.steps + 1, *latent), "float32")

    def both(rows: slice) -> tuple[np.ndarray, ...]:
        sampled = diffusion.sample_with_predictions(model, prompts[rows], seeds[rows])
        return tuple(latents.cpu().numpy() for latents in sampled)

    depends = [PROMPTS, Path("models") / params.model]
    values = [size, str(model.device)]
    with fitting("generate.batch_size", size):
        with workspace(TRAJECTORIES, depends, values) as passed, workspace(PREDICTIONS, depends, values) as aimed:
            shapes = {passed: (count, model.steps + 1, *latent), aimed: (count, model.steps, *latent)}
            store.fill_together(shapes, "float32", both, desc="generate", batch_size=size)

        latents = store.open_whole(TRAJECTORIES)
        with workspace(IMAGES, depends, values) as folder:
            for rows in store.batches(slice(0, len(table)), size):
                images = diffusion.decode(model, torch.from_numpy(store.read(latents, (rows, -1))))
                for name, image in zip(table["prompt_id"][rows], images, strict=True):
                    Image.fromarray(image).save(folder / f"{name}.png")


if __name__ == "__main__":
    run(generate)

"""Generate the image of every prompt and keep the latents of all its steps."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenescope import diffusion, store
from scenescope.settings import Params
from stages.common import IMAGES, PROMPTS, TRAJECTORIES, batches, read_table, run, workspace
from stages.opening import open_model


def generate(params: Params) -> None:
    table = read_table()
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = open_model(params.model, params.device)
    dtype = str(model.unet.dtype).removeprefix("torch.")

    def trajectories(rows: slice) -> np.ndarray:
        parts = [diffusion.sample(model, prompts[r], seeds[r]).cpu() for r in batches(rows, params.generate.batch_size)]
        return np.concatenate(parts)

    depends = [PROMPTS, Path("models") / params.model]
    with workspace(TRAJECTORIES, depends, [params.generate.batch_size, str(model.device)]) as folder:
        store.fill(folder, (len(table), model.steps + 1, *model.latent_shape), dtype, trajectories, desc="generate")

    latents = store.open_whole(TRAJECTORIES)
    with workspace(IMAGES, depends, [params.generate.batch_size, str(model.device)]) as folder:
        for rows in batches(slice(0, len(table)), params.generate.batch_size):
            images = diffusion.decode(model, torch.from_numpy(store.read(latents, (rows, -1))))
            for name, image in zip(table["prompt_id"][rows], images, strict=True):
                Image.fromarray(image).save(folder / f"{name}.png")


if __name__ == "__main__":
    run(generate)

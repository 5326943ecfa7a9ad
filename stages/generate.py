"""Generate the image of every prompt and keep the latents of all its steps."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenescope import diffusion, store
from scenescope.settings import Params
from stages.common import IMAGES, PROMPTS, TRAJECTORIES, check_disk, read_table, run, workspace
from stages.opening import batch_size, fitting, open_model


def generate(params: Params) -> None:
    table = read_table()
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = open_model(params.model, params.device)
    size = batch_size(params.generate.batch_size, params.model)
    shape = (len(table), model.steps + 1, *model.latent_shape)
    check_disk(TRAJECTORIES, shape, "float32")

    def trajectories(rows: slice) -> np.ndarray:
        return diffusion.sample(model, prompts[rows], seeds[rows]).cpu().numpy()

    depends = [PROMPTS, Path("models") / params.model]
    with fitting("generate.batch_size", size):
        with workspace(TRAJECTORIES, depends, [size, str(model.device)]) as folder:
            store.fill(folder, shape, "float32", trajectories, desc="generate", batch_size=size)

        latents = store.open_whole(TRAJECTORIES)
        with workspace(IMAGES, depends, [size, str(model.device)]) as folder:
            for rows in store.batches(slice(0, len(table)), size):
                images = diffusion.decode(model, torch.from_numpy(store.read(latents, (rows, -1))))
                for name, image in zip(table["prompt_id"][rows], images, strict=True):
                    Image.fromarray(image).save(folder / f"{name}.png")


if __name__ == "__main__":
    run(generate)

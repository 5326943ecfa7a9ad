"""Generate the image of every prompt; keep the latent at every step, and the clean one that each step predicts."""

from pathlib import Path

import numpy as np
from PIL import Image

from scenescope import diffusion, store
from scenescope.parts import Part
from scenescope.settings import Params
from stages.common import IMAGES, PREDICTIONS, PROMPTS, TRAJECTORIES, check_disk, read_table, workspace
from stages.devices import fitting
from stages.opening import open_model
from stages.sharing import run_in_parts


def generate(params: Params, part: Part) -> None:
    table = read_table()
    prompts, seeds, names = (table[column].tolist() for column in ("prompt", "seed", "prompt_id"))
    model = open_model(params.model, params.device)
    size = params.generate.batch_size
    latent, count = model.latent_shape, len(table)
    check_disk(TRAJECTORIES, (count, 2 * model.steps + 1, *latent), "float32")

    depends = [PROMPTS, Path("models") / params.model]
    values = [size, str(model.device)]
    with (
        fitting("generate.batch_size", size),
        workspace(TRAJECTORIES, depends, values, part) as passed,
        workspace(PREDICTIONS, depends, values, part) as aimed,
        workspace(IMAGES, depends, values, part) as images,
    ):

        def both(rows: slice) -> tuple[np.ndarray, ...]:
            trajectories, predictions = diffusion.sample_with_predictions(model, prompts[rows], seeds[rows])
            # Images before latents: the rows of a shard that is there have theirs.
            for name, image in zip(names[rows], diffusion.decode(model, trajectories[:, -1]), strict=True):
                Image.fromarray(image).save(images / f"{name}.png")
            return trajectories.cpu().numpy(), predictions.cpu().numpy()

        wanted = {
            passed: ((count, model.steps + 1, *latent), "float32"),
            aimed: ((count, model.steps, *latent), "float32"),
        }
        store.fill_together(wanted, both, desc="generate", batch_size=size, part=part)


if __name__ == "__main__":
    run_in_parts(generate)

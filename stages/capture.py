"""Replay the trajectories and keep one layer's activations at every step."""

from pathlib import Path

import numpy as np
import torch

from scenescope import diffusion, store
from scenescope.parts import Part
from scenescope.settings import Params
from stages.common import ACTIVATIONS, PROMPTS, TRAJECTORIES, check_disk, read_table, workspace
from stages.opening import fitting, open_model
from stages.sharing import run_in_parts


def capture(params: Params, part: Part) -> None:
    prompts = read_table()["prompt"].tolist()
    model = open_model(params.model, params.device)
    (layer,) = [layer for layer in model.layers if layer.name == params.probe.layer]
    trajectories = store.open_whole(TRAJECTORIES)
    size = params.capture.batch_size
    shape = (len(prompts), model.steps, layer.grid(model.latent_shape[-1]) ** 2, layer.channels)
    check_disk(ACTIVATIONS, shape, "float16")

    def activations(rows: slice) -> np.ndarray:
        latents = torch.from_numpy(store.read(trajectories, rows))
        steps = diffusion.replay(model, latents, prompts[rows], [layer])
        return torch.stack([step[layer.name].half().cpu() for step in steps], 1).numpy()

    depends = [PROMPTS, TRAJECTORIES, Path("models") / params.model]
    with (
        fitting("capture.batch_size", size),
        workspace(ACTIVATIONS, depends, [params.probe.layer, size, str(model.device)], part) as folder,
    ):
        store.fill(
            folder,
            shape,
            "float16",
            activations,
            desc=f"capture {layer.name}",
            batch_size=size,
            columns_apart=True,
            part=part,
        )


if __name__ == "__main__":
    run_in_parts(capture)

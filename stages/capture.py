"""Replay the trajectories and keep one layer's activations at every step."""

from pathlib import Path

import numpy as np
import torch

from scenescope import diffusion, store
from scenescope.settings import Params
from stages.common import ACTIVATIONS, PROMPTS, TRAJECTORIES, batches, read_table, run, workspace
from stages.opening import open_model


def capture(params: Params) -> None:
    prompts = read_table()["prompt"].tolist()
    model = open_model(params.model, params.device)
    (layer,) = [layer for layer in model.layers if layer.name == params.probe.layer]
    trajectories = store.open_whole(TRAJECTORIES)

    def activations(rows: slice) -> np.ndarray:
        parts = []
        for r in batches(rows, params.capture.batch_size):
            latents = torch.from_numpy(store.read(trajectories, r))
            steps = diffusion.replay(model, latents, prompts[r], [layer])
            parts.append(torch.stack([step[layer.name].half().cpu() for step in steps], 1))
        return np.concatenate(parts)

    shape = (len(prompts), model.steps, layer.grid(model.latent_shape[-1]) ** 2, layer.channels)
    depends = [PROMPTS, TRAJECTORIES, Path("models") / params.model]
    with workspace(ACTIVATIONS, depends, [params.probe.layer, params.capture.batch_size, str(model.device)]) as folder:
        store.fill(folder, shape, "float16", activations, columns_apart=True, desc=f"capture {layer.name}")


if __name__ == "__main__":
    run(capture)

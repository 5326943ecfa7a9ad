"""What the map costs, as ratios measured side by side in one run: python -m benchmarks.bench [NAME …].

Each benchmark prints one line and they all go to benchmarks/results.json, with the machine and the sizes. On a
machine with other work the absolute times mean little; the ratios are of neighbours in time.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from scenescope import diffusion
from scenescope.labels import references
from scenescope.probes import linear
from scenescope.probes.map import Split, Task, step_map
from scenescope.probes.ridge import Statistics, cross_validate
from scenescope.targets import Scale

HOME = "models/tabletop"
PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]
FOLDS = 5
SD14 = {"channels 320": (4096, 320), "channels 640": (1024, 640), "channels 1280": (256, 1280)}  # tokens, channels
PAPER_IMAGES, PAPER_EPOCHS = 246, 30


def seconds(call, least: float = 1.0) -> float:
    """The fastest of at least two calls, and of as many as fit into ``least`` seconds."""
    times, end = [], time.perf_counter() + least
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def tabletop(steps: int = 15) -> diffusion.Model:
    return diffusion.open_model(HOME, image_size=64, steps=steps, guidance=3.0, dtype="float32", device="cpu")


def kernel() -> dict:
    """The statistics of a batch against a plain matrix product of the same float64 numbers, at SD v1.4's shapes."""
    return {name: {"share of the matmul rate": kernel_share(*shape)} for name, shape in SD14.items()}


def kernel_share(tokens: int, channels: int) -> float:
    x, y = torch.randn(8, tokens, channels), torch.randn(8, tokens, 6)
    member = torch.eye(FOLDS, dtype=torch.bool)[torch.arange(8) % FOLDS]
    statistics = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
    flat = torch.cat([x, y], 2).double().reshape(-1, channels + 6)
    plain = seconds(lambda: flat[:, :channels].T @ flat)
    return plain / seconds(lambda: statistics.add(x, y, member))


def whole_map() -> dict:
    """One step of the map, 48 probes, against the bare replay of the same images: tabletop, 128 images."""
    model, count = tabletop(), 128
    prompts = ["a red cube on a wooden floor with sky background"] * count
    latents = torch.randn(count, *model.latent_shape)
    rows = np.arange(count)
    random = np.random.default_rng(0)
    known = {
        target: references([random.random((count, 64, 64)) > 0.5], Scale(), {16, 8, 4, 2})
        for target in ("saliency", "depth", "shading")
    }
    task = Task(known, np.roll(rows, 1))
    split = Split(np.array_split(rows[:48], FOLDS), rows[48:60], rows[60:])

    def replay() -> list:
        return [
            (rows[i : i + 32], diffusion.activations(model, latents[i : i + 32], 7, prompts[i : i + 32], model.layers))
            for i in range(0, count, 32)
        ]

    kept: list = []

    def batches(wanted):
        kept.extend([] if kept else replay())
        return kept

    def mapped():
        kept.clear()
        step_map(batches, task, [split], PENALTIES)

    return {"times the bare replay": seconds(mapped, 20) / seconds(replay, 10)}


def against_scikit_learn() -> dict:
    """One probe with its penalty chosen, statistics included, against GridSearchCV of Ridge on arrays in memory."""
    return {name: {"times faster a probe": against_grid_search(*shape)} for name, shape in SD14.items()}


def against_grid_search(tokens: int, channels: int, count: int = 20) -> float:
    x = torch.randn(count, tokens, channels)
    y = x[..., :6].cumsum(-1) + torch.randn(count, tokens, 6)
    member = torch.eye(FOLDS, dtype=torch.bool)[torch.arange(count) % FOLDS]

    def ours():
        statistics = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
        statistics.add(x, y, member)
        cross_validate(statistics, PENALTIES)

    rows, truth = x.reshape(-1, channels).double().numpy(), y.reshape(-1, 6).double().numpy()[:, 0]
    search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=GroupKFold(FOLDS))
    start = time.perf_counter()
    search.fit(rows, truth, groups=np.repeat(np.arange(count), tokens))
    theirs = time.perf_counter() - start
    return theirs / (seconds(ours) / 6)  # six targets share the statistics


def against_the_papers_procedure() -> dict:
    """One probe of 4096 tokens × 320 channels: Adam at 512 × 512 as the reference does it, timed by batch and scaled.

    The reference also generates every image anew for every probe, batch 1; that is left out, in its favour.
    """
    tokens, channels = SD14["channels 320"]
    grid = round(tokens**0.5)
    probe = torch.nn.Linear(channels, 1)
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.001)
    inputs, labels = torch.randn(4, tokens, channels), torch.randn(4, 512, 512)

    def batch():
        maps = probe(inputs)[..., 0].reshape(4, 1, grid, grid)
        loss = torch.nn.functional.huber_loss(torch.nn.functional.interpolate(maps, size=512)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    theirs = seconds(batch) * PAPER_IMAGES / 4 * PAPER_EPOCHS
    x, y = torch.randn(4, tokens, channels), torch.randn(4, tokens, 6)
    member = torch.eye(FOLDS, dtype=torch.bool)[torch.arange(4)]
    statistics = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
    adding = seconds(lambda: statistics.add(x, y, member)) * PAPER_IMAGES / 4
    random = torch.randn(2000, 40, channels)
    filled = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
    filled.add(random, torch.randn(2000, 40, 6), torch.eye(FOLDS, dtype=torch.bool)[torch.arange(2000) % FOLDS])
    ours = (adding + seconds(lambda: cross_validate(filled, PENALTIES))) / 6
    our_adam = seconds(lambda: adam_on_the_grid(inputs, labels, grid)) * PAPER_IMAGES / 4 * PAPER_EPOCHS
    return {"times faster a probe": theirs / ours, "our Adam on the grid, times faster": theirs / our_adam}


def adam_on_the_grid(inputs: torch.Tensor, labels: torch.Tensor, grid: int) -> None:
    """One batch of our own Adam probe."""
    truth = linear.token_labels("depth", labels.numpy(), grid)
    linear.fit(
        "depth", inputs[None], truth, (inputs[None, :1], truth[:1]), epochs=1, batch_size=4, learning_rate=0.001, seed=0
    )


def generation() -> dict:
    """Sampling with every latent kept, against Diffusers' own pipeline at the same batch size."""
    model, count = tabletop(), 16
    pipeline = StableDiffusionPipeline.from_pretrained(HOME)
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a red cube on a wooden floor with sky background"] * count
    options = {"num_inference_steps": 15, "guidance_scale": 3.0, "output_type": "latent"}
    ours = seconds(lambda: diffusion.sample_with_predictions(model, prompts, list(range(count))), 10)
    theirs = seconds(lambda: pipeline(prompts, **options), 10)
    return {"times bare Diffusers": ours / theirs}


BENCHMARKS = {
    f.__name__: f for f in (kernel, whole_map, against_scikit_learn, against_the_papers_procedure, generation)
}


def main(names: list[str]) -> None:
    results = {}
    for name in names or BENCHMARKS:
        results[name] = BENCHMARKS[name]()
        print(name, json.dumps(results[name]), flush=True)
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": platform.processor()}
    path = Path(__file__).with_name("results.json")
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

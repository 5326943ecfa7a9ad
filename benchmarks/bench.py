"""What the map costs, as ratios measured side by side in one run: python -m benchmarks.bench [NAME …].

Each benchmark prints one line and they all go to benchmarks/results.json, with the machine and the sizes. On a
machine with other work the absolute times mean little; the ratios are of neighbours in time.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from scenescope import cpu, diffusion, scores
from scenescope.labels import references
from scenescope.probes.map import Split, Task, step_map
from scenescope.probes.ridge import Statistics, cross_validate
from scenescope.scores import Reference
from scenescope.targets import Scale
from stages.ridge import kept_if_small

HOME = "models/tabletop"
PROMPT = "a red cube on a wooden floor with sky background"
PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]
FOLDS = 5
SD14 = {"channels 320": (4096, 320), "channels 640": (1024, 640), "channels 1280": (256, 1280)}  # tokens, channels
PAPER_IMAGES, PAPER_TRAINING, PAPER_TEST, PAPER_EPOCHS = 617, 246, 371, 30


def once(call) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def seconds(call, least: float = 1.0) -> float:
    """The fastest of at least two calls, and of as many as fit into ``least`` seconds."""
    times, end = [], time.perf_counter() + least
    while len(times) < 2 or time.perf_counter() < end:
        times.append(once(call))
    return min(times)


def in_turns(*calls, least: float = 1.0) -> np.ndarray:
    """Seconds of each call, the fastest of at least two: in turns, as the machine's own speed drifts."""
    times, end = [], time.perf_counter() + least
    while len(times) < 2 or time.perf_counter() < end:
        times.append([once(call) for call in calls])
    return np.min(times, axis=0)


def ratio(one, other, least: float = 1.0) -> float:
    """Seconds of one call by another's, the fastest of each."""
    first, second = in_turns(one, other, least=least)
    return first / second


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
    return ratio(lambda: flat[:, :channels].T @ flat, lambda: statistics.add(x, y, member))


class MapOfOneStep:
    """Step 8 of tabletop's map, 48 probes with their control tasks, for images of noise with labels of noise."""

    def __init__(self, count: int, kept: int = 2**31):
        self.model, self.count, self.kept = tabletop(), count, kept
        random = np.random.default_rng(0)
        maps = (random.random((len(range(i, min(i + 32, count))), 64, 64)) > 0.5 for i in range(0, count, 32))
        known = references(maps, Scale(), {16, 8, 4, 2})
        rows = np.arange(count)
        self.task = Task(dict.fromkeys(("saliency", "depth", "shading"), known), np.roll(rows, 1))
        train, check = round(0.324 * count), round(0.4 * count)  # as the paper splits
        self.split = Split(np.array_split(rows[:train], FOLDS), rows[train:check], rows[check:])

    def read(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        seeds = [torch.randn(self.model.latent_shape, generator=torch.Generator().manual_seed(int(r))) for r in rows]
        prompts = [PROMPT] * len(rows)
        return diffusion.activations(self.model, torch.stack(seeds), 7, prompts, self.model.layers)

    def replay(self) -> None:
        for start in range(0, self.count, 32):
            self.read(np.arange(start, min(start + 32, self.count)))

    def whole(self) -> None:
        step_map(kept_if_small(self.read, self.count, 32, self.kept), self.task, [self.split], PENALTIES)


def seconds_and_peak(count: int) -> dict:
    """Seconds of a step of the map for so many images, nothing kept between passes, and the process' peak of memory."""
    cpu.keep_pages()
    taken = once(MapOfOneStep(count, kept=0).whole)
    return {"seconds": taken, "peak bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def in_a_process(name: str, *arguments) -> Any:
    """What a function of this file returns, in a process of its own."""
    child = f"import json; from benchmarks import bench; print(json.dumps(bench.{name}(*{arguments})))"
    return json.loads(subprocess.run([sys.executable, "-c", child], check=True, stdout=subprocess.PIPE).stdout)


def whole_map() -> dict:
    """One step of the map, 48 probes, against the bare replay of the same images: tabletop, 128 images."""
    timed = MapOfOneStep(128)
    return {"times the bare replay": ratio(timed.whole, timed.replay, 30)}


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
    theirs = once(lambda: search.fit(rows, truth, groups=np.repeat(np.arange(count), tokens)))
    return theirs / (seconds(ours) / 6)  # six targets share the statistics


def against_the_papers_procedure() -> dict:
    """All 720 probes of tabletop as the reference fits them, against our map; each part timed on a few and multiplied.

    The reference, for every target, step and block of the U-Net, generates all images up to that step, one by one,
    with Diffusers as it comes; then, for every layer of the block, 30 epochs of Adam with the loss at image size, the
    test images' loss after each, and rank and linear correlation of the test images at the end. Ours is the map
    without its controls and with one split: the replay of every image, statistics, penalties, thresholds and scores of
    every image.
    """
    model, target_count = tabletop(), 3
    steps, size = model.steps, model.image_size
    blocks = {layer.module.split(".attentions")[0] for layer in model.layers}
    first, whole = in_a_process("seconds_of_an_image")
    up_to = [first + (whole - first) * (step - 1) / (steps - 1) for step in range(1, steps + 1)]
    generating = target_count * len(blocks) * PAPER_IMAGES * sum(up_to)
    fitting = sum(seconds_of_a_fit(layer.grid(model.latent_shape[-1]), layer.channels, size) for layer in model.layers)
    theirs = {"generating": generating, "fitting and scoring": target_count * steps * fitting}
    ours = steps * seconds(MapOfOneStep(PAPER_IMAGES).whole, 10)
    return {
        "times faster": sum(theirs.values()) / ours,
        "hours of theirs": {name: taken / 3600 for name, taken in theirs.items()},
        "hours of ours": ours / 3600,
        "fitting alone, SD v1.4's dec4_l1, times faster a probe": fitting_alone(),
    }


def seconds_of_an_image() -> list[float]:
    """One image by Diffusers' own pipeline, after its first step and after its last, not decoded."""
    pipeline = StableDiffusionPipeline.from_pretrained(HOME)
    pipeline.set_progress_bar_config(disable=True)

    def generate(steps: int) -> None:
        pipeline(PROMPT, num_inference_steps=steps, guidance_scale=3.0, output_type="latent")

    return [seconds(lambda steps=steps: generate(steps), 10) for steps in (1, 15)]


def seconds_of_a_fit(grid: int, channels: int, size: int) -> float:
    """One of the reference's depth probes on activations that are at hand, from a batch of each kind."""
    probe = torch.nn.Linear(channels, 1)
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.001)
    inputs, labels = torch.randn(32, grid**2, channels), torch.randn(32, size, size)

    def loss(count: int) -> torch.Tensor:
        maps = probe(inputs[:count])[..., 0].reshape(count, 1, grid, grid)
        return torch.nn.functional.huber_loss(torch.nn.functional.interpolate(maps, size=size)[:, 0], labels[:count])

    def batch():
        optimizer.zero_grad()
        loss(4).backward()
        optimizer.step()

    def score():
        guess, truth = np.random.default_rng(0).random((2, size * size))
        return spearmanr(truth, guess), pearsonr(truth, guess)

    with torch.no_grad():
        testing = seconds(lambda: loss(32), 0.2)
    epoch = PAPER_TRAINING / 4 * seconds(batch, 0.2) + PAPER_TEST / 32 * testing
    return PAPER_EPOCHS * epoch + PAPER_TEST * seconds(score, 0.2)


def fitting_alone() -> float:
    """The reference's fit of one probe of 4096 tokens × 320 channels at 512 pixels, against ours with its penalty."""
    tokens, channels = SD14["channels 320"]
    theirs = seconds_of_a_fit(round(tokens**0.5), channels, 512)
    x, y = torch.randn(4, tokens, channels), torch.randn(4, tokens, 6)
    member = torch.eye(FOLDS, dtype=torch.bool)[torch.arange(4)]
    statistics = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
    adding = seconds(lambda: statistics.add(x, y, member)) * PAPER_TRAINING / 4
    random = torch.randn(2000, 40, channels)
    filled = Statistics.empty(torch.zeros(channels, dtype=torch.float64), FOLDS, 6)
    filled.add(random, torch.randn(2000, 40, 6), torch.eye(FOLDS, dtype=torch.bool)[torch.arange(2000) % FOLDS])
    solution = cross_validate(filled, PENALTIES)
    known = Reference.from_maps(np.random.default_rng(0).random((8, 512, 512)), round(tokens**0.5))

    def score():
        maps = solution.predict(x[:1])[..., 0].reshape(1, round(tokens**0.5), -1).numpy().repeat(8, 0)
        return scores.spearman(known, maps), scores.pearson(known, maps)

    scoring = seconds(score) / 8 * PAPER_TEST
    return theirs / ((adding + seconds(lambda: cross_validate(filled, PENALTIES))) / 6 + scoring)


def scaling() -> dict:
    """One step of the map by number of images, each in a process of its own, nothing kept between passes."""
    found = {}
    for count in (100, 300, 1000, 3000):
        found[f"{count} images"] = in_a_process("seconds_and_peak", count)
    first, last = found["100 images"], found["3000 images"]
    return found | {
        "time, 3000 against 30 × 100": last["seconds"] / (30 * first["seconds"]),
        "memory, 3000 against 100": last["peak bytes"] / first["peak bytes"],
    }


def generation() -> dict:
    """Sampling with every latent kept, against Diffusers' own pipeline at the same batch size."""
    model, count = tabletop(), 16
    pipeline = StableDiffusionPipeline.from_pretrained(HOME)
    pipeline.unet = model.unet  # as fast as ours, which Diffusers' own is not: see forward_pass
    pipeline.set_progress_bar_config(disable=True)
    prompts = [PROMPT] * count
    options = {"num_inference_steps": 15, "guidance_scale": 3.0, "output_type": "latent"}
    ours = partial(diffusion.sample_with_predictions, model, prompts, list(range(count)))
    return {"times bare Diffusers": ratio(ours, partial(pipeline, prompts, **options), 40)}


def forward_pass() -> dict:
    """A forward pass of tabletop's U-Net at a batch of 32: what each part of scenescope/cpu.py adds to those before."""
    runs = [in_a_process("seconds_of_passes", pages) for pages in (False, True) * 2]
    bare, kept = (np.min(some, axis=0).tolist() for some in (runs[::2], runs[1::2]))
    return {
        "memory kept, times faster": bare[0] / kept[0],
        "linear layers by convolution, times faster": kept[0] / kept[1],
        "channels last, times faster": kept[1] / kept[2],
        "shares side by side, times faster": kept[2] / kept[3],
        "all, times faster": bare[0] / kept[3],
    }


def seconds_of_passes(pages: bool) -> list[float]:
    """Seconds of a pass as Diffusers does it, with our linear layers, channels last as well, and in shares as well."""
    models = [tabletop() for _ in range(3)]
    for layer in models[0].unet.modules():
        if type(layer) is cpu.PointwiseLinear:
            layer.__class__ = torch.nn.Linear
    for model in models[:2]:
        model.unet.to(memory_format=torch.contiguous_format)
    if pages:
        cpu.keep_pages()
    latents, context = torch.randn(32, *models[0].latent_shape), diffusion.embed(models[0], ["a red cube"] * 32)
    whole = [lambda unet=model.unet: unet(latents, 500, context) for model in models]
    with torch.no_grad():
        shares = partial(cpu.in_shares, lambda z, c: models[2].unet(z, 500, c), latents, context)
        return in_turns(*whole, shares, least=20).tolist()


def processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


BENCHMARKS = {
    f.__name__: f
    for f in (
        kernel,
        whole_map,
        scaling,
        against_scikit_learn,
        against_the_papers_procedure,
        generation,
        forward_pass,
    )
}


def main(names: list[str]) -> None:
    """Run all benchmarks, or those that are named and keep the other results as they are."""
    cpu.keep_pages()  # as the stages do
    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text())["results"] if names else {}
    for name in names or BENCHMARKS:
        results[name] = BENCHMARKS[name]()
        print(name, json.dumps(results[name]), flush=True)
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": processor()}
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

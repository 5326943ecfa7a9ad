"""The map: ridge probes of every layer, step and target, each beside its controls, in passes over the trajectories."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from scenescope import diffusion, features, scores, store
from scenescope.errors import UserError
from scenescope.labels import references, streamed_scale, taken
from scenescope.parts import Part
from scenescope.probes.map import Batches, Features, Split, Task, step_map
from scenescope.probes.table import headline, tabulate
from scenescope.prompts import split_prompts
from scenescope.settings import TARGETS, Params
from stages.common import (
    LABELS,
    MAP,
    PREDICTIONS,
    PROMPTS,
    TRAJECTORIES,
    read_table,
    split_rows,
    workspace,
    write_metrics,
)
from stages.devices import fitting
from stages.opening import open_model
from stages.sharing import run_in_parts

MEMORY = 2**31  # bytes of one step's features that are kept for the later passes; more are computed again
LABEL_ROWS = 32  # images whose labels are read at once
Read = Callable[[np.ndarray], Features]  # the features of some rows


def ridge(params: Params, part: Part) -> None:
    table = read_table()
    model = open_model(params.model, params.device)
    size = params.ridge.batch_size
    splits = resplit(table, params.ridge.splits, params.prompts.seed, params.ridge.folds)
    side = model.latent_shape[-1]
    grids = {side} | {layer.grid(side) for layer in model.layers}
    task = Task(known_labels(splits[0], grids, len(table)), dealt(table))
    latents, predicted = store.open_whole(TRAJECTORIES), store.open_whole(PREDICTIONS)
    prompts = table["prompt"].tolist()
    controls = {
        "random": features.with_random_weights(model, params.ridge.seed),
        "shuffled": features.with_shuffled_weights(model, params.ridge.seed),
    }

    def of_nets(nets: dict[str, diffusion.Model], step: int) -> Read:
        def read(rows: np.ndarray) -> Features:
            z = torch.from_numpy(store.read_step(latents, rows, step))
            names = [prompts[row] for row in rows]
            return {
                f"{name}/{layer}": seen
                for name, net in nets.items()
                for layer, seen in diffusion.activations(net, z, step, names, net.layers).items()
            }

        return read

    def of_picture(step: int) -> Read:
        def read(rows: np.ndarray) -> Features:
            z, x0 = (torch.from_numpy(store.read_step(array, rows, step)) for array in (latents, predicted))
            return {
                "latent/-": features.latent_tokens(z),
                "prediction/-": features.latent_tokens(x0),
                "pixels/-": features.pixel_tokens(diffusion.decode(model, z), side),
                "position/-": features.position(side).expand(len(z), -1, -1),
            }

        return read

    depends = [PROMPTS, TRAJECTORIES, PREDICTIONS, LABELS, Path("models") / params.model]
    values = [
        params.ridge.folds,
        params.ridge.penalties,
        params.ridge.splits,
        params.ridge.seed,
        size,
        str(model.device),
    ]
    with fitting("ridge.batch_size", size), workspace(MAP, depends, values, part) as folder:
        for step in tqdm(part.of(range(model.steps)), desc="map"):
            file = folder / f"step_{step + 1:03d}.npz"
            if store.has_npz(file):
                continue
            found = mean_map(task, splits[0], side)
            for read, of in (
                (of_nets({"network": model}, step), splits),
                (of_picture(step), splits[:1]),
                (of_nets(controls, step), splits[:1]),
            ):
                scored, solutions = step_map(kept_if_small(read, len(table), size), task, of, params.ridge.penalties)
                found |= scored
                for name, solution in solutions.items():
                    if name.startswith("network/"):
                        found[f"{name}/weight"] = solution.weight[:, : len(TARGETS)].float().cpu().numpy()
                        found[f"{name}/intercept"] = solution.intercept[: len(TARGETS)].float().cpu().numpy()
            store.write_npz(file, found)

    if not part.whole:
        return
    steps = [store.read_npz(file) for file in sorted(MAP.glob("step_*.npz"))]
    map_table = tabulate(steps, params.scores.resamples, params.scores.seed)
    path = Path("plots/data/layer_step.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    map_table.to_csv(path, index=False, float_format="%.5f", lineterminator="\n")
    write_metrics("ridge", headline(map_table))


def kept_if_small(read: Read, count: int, size: int, room: int = MEMORY) -> Batches:
    """Features by batch for ``step_map``, from ``read(rows)``: kept for later passes if all fit into ``room`` bytes.

    Otherwise batches of ``size`` wanted rows: all of one size, as memory is kept for every size that there was.
    """
    starts = range(0, count, size)
    kept: dict[int, tuple[np.ndarray, Features]] = {}
    small = None

    def whole(start: int) -> tuple[np.ndarray, Features]:
        if start not in kept:
            rows = np.arange(start, min(start + size, count))
            kept[start] = rows, read(rows)
        return kept[start]

    def batches(wanted: np.ndarray) -> Iterable[tuple[np.ndarray, Features]]:
        nonlocal small
        if small is None:
            rows, found = whole(0)
            small = sum(x.nbytes for x in found.values()) * count / len(rows) <= room
        if small:
            yield from map(whole, starts)
        else:
            kept.clear()
            for start in range(0, len(wanted), size):
                rows = wanted[start : start + size]
                yield rows, read(rows)

    return batches


def resplit(table: pd.DataFrame, count: int, seed: int, folds: int) -> list[Split]:
    """The split of data/prompts.csv, and others of the same sizes from the seeds after its own.

    Where prompts repeat so often that no other split of these sizes can be made, there are none.
    """
    tables = [table]
    sizes = {name: int((table["split"] == name).sum()) for name in ("validation", "test")}
    for other in range(1, count):
        with suppress(UserError):
            tables.append(split_prompts(table.drop(columns="split"), **sizes, seed=seed + other))
    rows = [split_rows(split) for split in tables]
    return [Split(np.array_split(r["train"], folds), r["validation"], r["test"]) for r in rows]


def dealt(table: pd.DataFrame) -> np.ndarray:
    """Whose labels each image gets in the control task: those of another image of its split."""
    whose = np.arange(len(table))
    for rows in split_rows(table).values():
        order = np.random.default_rng(0).permutation(rows)
        whose[order] = np.roll(order, 1)
    return whose


def known_labels(split: Split, grids: set[int], count: int) -> dict[str, dict[int, scores.Reference]]:
    """References of all labels, by target and grid, in the scale of the training labels."""
    known = {}
    runs = store.batches(slice(0, count), LABEL_ROWS)
    training = np.isin(np.arange(count), np.concatenate(split.folds))
    for target in TARGETS:
        labels = store.open_whole(LABELS / target)
        scale = streamed_scale(target, (store.read(labels, rows)[training[rows]] for rows in runs))
        known[target] = references((store.read(labels, rows) for rows in runs), scale, grids)
    return known


def mean_map(task: Task, split: Split, grid: int) -> dict[str, np.ndarray]:
    """Scores on test images of the mean training label, shown for every image, named as by ``step_map``."""
    found = {}
    for target, by_grid in task.references.items():
        known = by_grid[grid]
        guess = known.values[np.concatenate(split.folds)].mean(0)
        shown = {rows: np.repeat(guess[None], len(getattr(split, rows)), 0) for rows in ("validation", "test")}
        threshold = scores.best_threshold(taken(known, split.validation), shown["validation"])
        scored = scores.score(target, taken(known, split.test), shown["test"], threshold)
        found |= {f"mean_map/-/{target}/{score}": values for score, values in scored.items()}
    return found


if __name__ == "__main__":
    run_in_parts(ridge)

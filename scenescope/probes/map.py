"""One step of the map: every feature set's ridge probes, fitted, chosen and scored without keeping an activation.

One pass over the images sums statistics of training images, fold by fold; two more predict validation images,
which choose the threshold of masks, and test images, which are scored. Memory does not grow with their number.

Beside each target stands its control task (Hewitt and Liang 2019): the same labels, dealt out to other images. What a
probe scores there it has learned about labels in general, and not read from the features.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scenescope import scores
from scenescope.labels import taken
from scenescope.probes.ridge import Solution, Statistics, cross_validate
from scenescope.scores import Reference

Features = dict[str, Tensor]  # by name, [N, T, C]
# From the row numbers of the images that are wanted: row numbers of a batch, and its features. More may come.
Batches = Callable[[np.ndarray], Iterable[tuple[np.ndarray, Features]]]
SCORED_AT_ONCE = 64  # images: enough that the scores' arithmetic counts, and not the calls


@dataclass(frozen=True)
class Split:
    """Row numbers of images; the training images come in folds."""

    folds: list[np.ndarray]
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Task:
    """What is asked of features: labels, and the same labels dealt out to other images.

    ``references`` are of all images, by target and by grid; ``dealt`` [N] says whose labels each image gets in the
    control task. The columns of targets are the K targets and then their K control tasks.
    """

    references: dict[str, dict[int, Reference]]
    dealt: np.ndarray

    def truth(self, rows: np.ndarray, grid: int) -> Tensor:
        """What statistics need of the labels of rows [N]: their block means [N, T, 2K]."""
        columns = [
            self.references[target][grid].values[r].reshape(len(rows), -1)
            for r in (rows, self.dealt[rows])
            for target in self.references
        ]
        return torch.from_numpy(np.stack(columns, -1))

    def known(self, column: int, rows: np.ndarray, grid: int) -> tuple[str, Reference]:
        """The target of a column, and what its predictions for rows [N] are held against."""
        targets = list(self.references)
        target = targets[column % len(targets)]
        whose = rows if column < len(targets) else self.dealt[rows]
        return target, taken(self.references[target][grid], whose)


def step_map(
    batches: Batches, task: Task, splits: list[Split], penalties: list[float]
) -> tuple[dict[str, np.ndarray], dict[str, Solution]]:
    """Scores of one step, and the first split's solutions by name of features.

    Scores are named "features/target/score": [test images], in the order of the first split's ``test``. Beside them
    stand "…/control", the target's first score on its control task; "…/splits", the mean of the first score in
    each split [S]; "…/validation", its mean on the first split's validation images; "…/penalty"; and "…/threshold", at
    which the prediction of a mask is cut (0 for what is no mask).
    """
    solutions = solve(batches, task, splits, penalties)
    count = len(task.references)
    thresholds, validation = validate(batches, task, splits, solutions)

    place = [{row: i for i, row in enumerate(split.test)} for split in splits]
    found: dict[tuple, np.ndarray] = {}
    for name, split, rows, maps in predictions(batches, solutions, [split.test for split in splits]):
        at = [place[split][row] for row in rows]
        for column in range(2 * count if split == 0 else count):
            target, known = task.known(column, rows, maps.shape[-1])
            for score, values in scores.score(target, known, maps[column], thresholds[name, split, column]).items():
                whole = found.setdefault((name, split, column, score), np.full(len(splits[split].test), np.nan))
                whole[at] = values

    shown = {}
    for name, chosen in solutions.items():
        for column, target in enumerate(task.references):
            names = [score for n, s, c, score in found if (n, s, c) == (name, 0, column)]
            for score in names:
                shown[f"{name}/{target}/{score}"] = found[name, 0, column, score]
            shown[f"{name}/{target}/control"] = found[name, 0, count + column, names[0]]
            means = [np.nanmean(found[name, split, column, names[0]]) for split in range(len(splits))]
            shown[f"{name}/{target}/splits"] = np.array(means)
            shown[f"{name}/{target}/validation"] = np.array(validation[name, target])
            shown[f"{name}/{target}/penalty"] = chosen[0].penalty[column].cpu().numpy()
            shown[f"{name}/{target}/threshold"] = np.array(thresholds[name, 0, column])
    return shown, {name: chosen[0] for name, chosen in solutions.items()}


def solve(batches: Batches, task: Task, splits: list[Split], penalties: list[float]) -> dict[str, list[Solution]]:
    """The first pass: by name of features, a solution for every split, of all columns."""
    groups = [fold for split in splits for fold in split.folds]
    statistics: dict[str, Statistics] = {}
    for rows, features in batches(np.unique(np.concatenate(groups))):
        member = torch.from_numpy(np.stack([np.isin(rows, group) for group in groups], 1))
        for name, x in features.items():
            truth = task.truth(rows, grid_of(x)).to(x.device)
            if name not in statistics:
                statistics[name] = Statistics.empty(x.double().mean((0, 1)), len(groups), truth.shape[-1])
            statistics[name].add(x, truth, member.to(x.device))
    ends = np.cumsum([len(split.folds) for split in splits]).tolist()
    parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return {name: [cross_validate(s.select(part), penalties) for part in parts] for name, s in statistics.items()}


def validate(
    batches: Batches, task: Task, splits: list[Split], solutions: dict[str, list[Solution]]
) -> tuple[dict[tuple[str, int, int], float], dict[tuple[str, str], float]]:
    """The second pass: thresholds of masks, by features, split and column (0 for what is no mask); and by features and
    target, the mean of the first score on the first split's validation images."""
    masks, firsts = defaultdict(list), defaultdict(list)

    def score(name: str, target: str, known: Reference, maps: np.ndarray, threshold: float) -> None:
        firsts[name, target].append(next(iter(scores.score(target, known, maps, threshold).values())))

    for name, split, rows, maps in predictions(batches, solutions, [split.validation for split in splits]):
        for column in range(2 * len(task.references)):
            target, known = task.known(column, rows, maps.shape[-1])
            if target == "saliency":  # all of them choose a threshold
                masks[name, split, column].append((rows, maps[column].copy()))  # not the view of all columns
            elif split == 0 and column < len(task.references):
                score(name, target, known, maps[column], 0.0)
    thresholds = defaultdict(float)
    for (name, split, column), parts in masks.items():
        rows, maps = (np.concatenate(values) for values in zip(*parts, strict=True))
        target, known = task.known(column, rows, maps.shape[-1])
        thresholds[name, split, column] = scores.best_threshold(known, maps)
        if split == 0 and column < len(task.references):
            score(name, target, known, maps, thresholds[name, split, column])
    return thresholds, {key: np.nanmean(np.concatenate(values)) for key, values in firsts.items()}


def predictions(
    batches: Batches, solutions: dict[str, list[Solution]], wanted: list[np.ndarray]
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Maps of the rows that are ``wanted`` in each split: features' name, split, rows [n], maps [2K, n, g, g].

    In the batches' order, ``SCORED_AT_ONCE`` images or a little more at a time, and fewer at the end.
    """
    waiting: dict[tuple[str, int], list] = defaultdict(list)

    def ready(least: int) -> Iterator:
        for (name, split), parts in list(waiting.items()):
            if sum(len(rows) for rows, _ in parts) >= least:
                rows, maps = (np.concatenate(values) for values in zip(*parts, strict=True))
                del waiting[name, split]
                yield name, split, rows, np.moveaxis(maps, -1, 0)

    for rows, features in batches(np.unique(np.concatenate(wanted))):
        for split, of_split in enumerate(wanted):
            inside = np.isin(rows, of_split)
            if inside.any():
                for name, x in features.items():
                    maps = solutions[name][split].predict(x[torch.from_numpy(inside)]).cpu().numpy()
                    grid = grid_of(x)
                    waiting[name, split].append((rows[inside], maps.reshape(-1, grid, grid, maps.shape[-1])))
        yield from ready(SCORED_AT_ONCE)
    yield from ready(1)


def grid_of(features: Tensor) -> int:
    """Tokens along a side, of features [N, T, C]."""
    return round(features.shape[1] ** 0.5)

"""The figures of tabletop's model card: how good its parts are, and whether the model is worth probing."""

from collections import defaultdict

import numpy as np
import torch

from scenescope import diffusion, scores, targets
from scenescope.labelers import Labeler
from scenescope.probes.ridge import Statistics, cross_validate
from scenescope.settings import TARGETS
from scenescope.tabletop.labelling import TRUTH
from scenescope.tabletop.render import Renders
from scenescope.tabletop.scenes import COLOURS, SHAPES

PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]


def label_quality(labelers: dict[str, Labeler], images: np.ndarray, truth: Renders) -> dict[str, float]:
    """Mean score of label models on images of the test scenes: Dice for saliency, Spearman for the others."""
    found = {}
    for target, labeler in labelers.items():
        guess = np.concatenate([labeler(np.array(images[i : i + 64])) for i in range(0, len(images), 64)])
        known = getattr(truth, TRUTH[target]).astype(np.float32)
        reference = scores.Reference.from_maps(known, known.shape[-1])
        name, values = next(iter(scores.score(target, reference, guess.astype(np.float32)).items()))
        found[f"{target}_{name}"] = float(np.nanmean(values))
    return found


def named(prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the shape and of the colour that each prompt names."""
    words = [prompt.replace(",", " ").split() for prompt in prompts]
    shapes = [next(i for i, shape in enumerate(SHAPES) if shape in w) for w in words]
    colours = [next(i for i, colour in enumerate(COLOURS) if colour in w) for w in words]
    return np.array(shapes), np.array(colours)


def class_accuracy(classify, images: np.ndarray, shapes: np.ndarray, colours: np.ndarray) -> dict[str, float]:
    """Share of images in which the classifier sees the shape, the colour, and both."""
    joint = np.concatenate([classify(np.array(images[i : i + 64])) for i in range(0, len(images), 64)])
    joint = joint.reshape(-1, len(SHAPES), len(COLOURS))
    shape_right = joint.sum(2).argmax(1) == shapes
    colour_right = joint.sum(1).argmax(1) == colours
    rights = {"shape": shape_right, "colour": colour_right, "both": shape_right & colour_right}
    return {name: float(right.mean()) for name, right in rights.items()}


def layer_scores(
    model: diffusion.Model, trajectories: torch.Tensor, prompts: list[str], labels: dict[str, np.ndarray], train: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Ridge at every layer: {step: {layer: {score: mean over test images}}}, for four steps from first to last.

    The first ``train`` images fit, with five folds for the penalty; the next sixth as many choose the
    mask's threshold; the rest are scored.
    """
    check, steps = train + train // 6, sorted({1, 4, 7, model.steps})
    fitting, checking, testing = slice(0, train), slice(train, check), slice(check, None)
    scaled = {target: targets.scale_of(target, labels[target][fitting])(labels[target]) for target in TARGETS}
    features = defaultdict(list)
    for start in range(0, len(prompts), 32):
        rows = slice(start, start + 32)
        for step, seen in enumerate(diffusion.replay(model, trajectories[rows], prompts[rows], model.layers), 1):
            if step in steps:
                for layer, values in seen.items():
                    features[step, layer].append(values.half().cpu().numpy())
    found: dict[int, dict] = {step: {} for step in steps}
    for layer in model.layers:
        grid = layer.grid(model.latent_shape[-1])
        truth = np.stack([scores.block_means(scaled[t][fitting], grid).reshape(train, -1) for t in TARGETS], -1)
        for step in steps:
            x = torch.from_numpy(np.concatenate(features[step, layer.name]))
            folds = torch.arange(train)[:, None] * 5 // train == torch.arange(5)
            statistics = Statistics.empty(x[:32].double().mean((0, 1)), 5, len(TARGETS))
            statistics.add(x[fitting], torch.from_numpy(truth), folds)
            maps = cross_validate(statistics, PENALTIES).predict(x).reshape(-1, grid, grid, len(TARGETS)).numpy()
            row = {}
            for k, target in enumerate(TARGETS):
                checked, tested = (scores.Reference.from_maps(scaled[target][r], grid) for r in (checking, testing))
                threshold = scores.best_threshold(checked, maps[checking, ..., k]) if target == "saliency" else 0
                name, values = next(iter(scores.score(target, tested, maps[testing, ..., k], threshold).items()))
                row[f"{target}_{name}"] = float(np.nanmean(values))
            found[step][layer.name] = row
    return found

"""Ridge probes of all targets at every step, from sufficient statistics streamed over the activations."""

import numpy as np
from safetensors.numpy import save_file

from scenescope import scores, store, targets
from scenescope.probes import ridge as statistics
from scenescope.settings import TARGETS, Params
from stages.common import ACTIVATIONS, LABELS, PROBES, read_table, run, split_rows, write_metrics, write_series


def ridge(params: Params) -> None:
    rows = split_rows(read_table())
    activations = store.open_whole(ACTIVATIONS)
    _, steps, tokens, channels = activations.shape
    grid = round(tokens**0.5)

    raw = {target: store.read(store.open_whole(LABELS / target), slice(None)) for target in TARGETS}
    scales = {target: targets.scale_of(target, raw[target][rows["train"]]) for target in TARGETS}
    labels = {target: {split: scales[target](raw[target][rows[split]]) for split in rows} for target in TARGETS}
    blocks = [scores.block_means(labels[target]["train"], grid).reshape(-1, tokens) for target in TARGETS]
    truth = np.stack(blocks, -1)  # [images, tokens, targets]
    checked = scores.Reference.from_maps(labels["saliency"]["validation"], grid)
    tested = {target: scores.Reference.from_maps(labels[target]["test"], grid) for target in TARGETS}

    solutions, scored = [], {target: [] for target in TARGETS}
    for step in range(steps):
        features = store.read(activations, (slice(None), step))
        folds = [
            statistics.Statistics.of(features[rows["train"][fold]].reshape(-1, channels), truth[fold].reshape(-1, 3))
            for fold in np.array_split(np.arange(len(truth)), params.ridge.folds)
        ]
        solution = statistics.cross_validate(folds, params.ridge.penalties)
        solutions.append(solution)
        maps = {
            split: solution.predict(features[rows[split]]).reshape(-1, grid, grid, len(TARGETS))
            for split in ("validation", "test")
        }
        threshold = scores.best_threshold(checked, maps["validation"][..., 0])
        for k, target in enumerate(TARGETS):
            scored[target].append(scores.score(target, tested[target], maps["test"][..., k], threshold))

    PROBES.mkdir(parents=True, exist_ok=True)
    stacked = {name: np.stack([getattr(s, name) for s in solutions]) for name in ("weight", "intercept", "penalty")}
    save_file(stacked, PROBES / "ridge.safetensors")
    headline, table = {"layer": params.probe.layer}, [{} for _ in range(steps)]
    for target in TARGETS:
        summary = [scores.intervals(s, params.scores.resamples, params.scores.seed) for s in scored[target]]
        control = targets.mean_map(target, *(labels[target][s] for s in ("train", "validation", "test")), grid)
        mean_map = scores.intervals(control, params.scores.resamples, params.scores.seed)
        headline[target] = {"last_step": summary[-1], "mean_map": mean_map}
        for row, found in zip(table, summary, strict=True):
            row.update({f"{target}_{name}": value for name, value in found.items()})
    write_series("ridge", table)
    write_metrics("ridge", headline)


if __name__ == "__main__":
    run(ridge)

"""Fit and score the paper's probes of one target, one a step: python -m stages.probe TARGET."""

import sys

import numpy as np
import torch
from dvclive import Live
from safetensors.torch import save_file

from scenescope import scores, store, targets
from scenescope.probes import linear
from scenescope.settings import Params
from stages.common import ACTIVATIONS, LABELS, PROBES, read_table, run, split_rows, write_metrics, write_series
from stages.opening import device_named

MEMORY = 2**30  # bytes of activations held at once; as many steps are fitted side by side as fit


def probe(params: Params) -> None:
    target = sys.argv[1]
    rows = split_rows(read_table())
    activations = store.open_whole(ACTIVATIONS)
    _, steps, tokens, channels = activations.shape
    grid, device = round(tokens**0.5), device_named(params.device)

    raw = store.read(store.open_whole(LABELS / target), slice(None))
    scale = targets.scale_of(target, raw[rows["train"]])
    labels = {split: scale(raw[rows[split]]) for split in rows}
    truth = {split: linear.token_labels(target, labels[split], grid).to(device) for split in ("train", "validation")}
    reference = scores.Reference.from_maps(labels["test"], grid)

    fitted, scored = [], []
    together = max(1, MEMORY // (2 * tokens * channels * len(raw)))
    for first in range(0, steps, together):
        block = store.read(activations, (slice(None), slice(first, first + together)))
        inputs = {split: torch.from_numpy(block[rows[split]]).transpose(0, 1).to(device) for split in rows}
        fitted.append(
            linear.fit(
                target,
                inputs["train"],
                truth["train"],
                (inputs["validation"], truth["validation"]),
                epochs=params.probe.epochs,
                batch_size=params.probe.batch_size,
                learning_rate=getattr(params.probe.learning_rate, target),
                seed=params.probe.seed,
            )
        )
        outputs = linear.predict(inputs["test"], fitted[-1].weight, fitted[-1].bias)
        scored += [scores.score(target, reference, maps) for maps in linear.to_maps(target, outputs)]

    write_curves(target, fitted)
    PROBES.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "weight": torch.cat([f.weight for f in fitted]).cpu(),
            "bias": torch.cat([f.bias for f in fitted]).cpu(),
            "scale": torch.tensor([scale.mean, scale.deviation], dtype=torch.float64),
        },
        PROBES / f"{target}.safetensors",
    )
    control = targets.mean_map(target, labels["train"], labels["validation"], labels["test"], grid)
    table = [scores.intervals(s, params.scores.resamples, params.scores.seed) for s in scored]
    mean_map = scores.intervals(control, params.scores.resamples, params.scores.seed)
    write_series(f"probe_{target}", table)
    write_metrics(f"probe/{target}", {"layer": params.probe.layer, "last_step": table[-1], "mean_map": mean_map})


def write_curves(target: str, fitted: list[linear.Fitted]) -> None:
    """Training curves by DVCLive: losses of the first, a middle and the last step, and the mean over steps."""
    losses = {
        "train": np.concatenate([f.train_loss for f in fitted], 1),
        "validation": np.concatenate([f.validation_loss for f in fitted], 1),
    }
    steps = losses["train"].shape[1]
    with Live(f"plots/training/{target}", save_dvc_exp=False, dvcyaml=None, report=None) as live:
        for epoch in range(len(losses["train"])):
            for split, loss in losses.items():
                live.log_metric(f"{split}/mean", float(loss[epoch].mean()))
                for step in sorted({1, (steps + 1) // 2, steps}):
                    live.log_metric(f"{split}/step{step}", float(loss[epoch, step - 1]))
            live.next_step()


if __name__ == "__main__":
    run(probe)

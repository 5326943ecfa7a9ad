"""Fit and score the paper's probes of one target, one a step: python -m stages.probe TARGET."""

import sys

import numpy as np
import torch
from dvclive import Live
from safetensors.torch import save_file
from torch import Tensor

from scenescope import scores, store, targets
from scenescope.probes import linear, rank
from scenescope.settings import Params
from stages.common import ACTIVATIONS, LABELS, PROBES, read_table, run, split_rows, write_metrics, write_series
from stages.devices import device_named

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
    checked, reference = (scores.Reference.from_maps(labels[split], grid) for split in ("validation", "test"))

    fitted, scored, restricted = [], [], []
    together = max(1, MEMORY // (2 * tokens * channels * len(raw)))
    for first in range(0, steps, together):
        block = store.read(activations, (slice(None), slice(first, first + together)))
        inputs = {split: torch.from_numpy(block[rows[split]]).transpose(0, 1).to(device) for split in rows}
        data = inputs["train"], truth["train"], (inputs["validation"], truth["validation"])
        if params.probe.solver == "lbfgs":
            fitted.append(linear.optimum(target, *data))
        else:
            fitted.append(
                linear.fit(
                    target,
                    *data,
                    epochs=params.probe.epochs,
                    batch_size=params.probe.batch_size,
                    learning_rate=getattr(params.probe.learning_rate, target),
                    seed=params.probe.seed,
                )
            )
        outputs = linear.predict(inputs["test"], fitted[-1].weight, fitted[-1].bias)
        scored += [scores.score(target, reference, maps) for maps in linear.to_maps(target, outputs)]
        for step in sorted({(steps + 1) // 2, steps} & set(range(first + 1, first + together + 1))):
            shown = {split: values[step - first - 1] for split, values in inputs.items()}
            found = rank_scores(target, shown, truth["train"], checked, reference)
            restricted += [{"step": step, "rank": r, "scored": values} for r, values in found.items()]

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
    for row in restricted:
        found = scores.interval(row.pop("scored"), params.scores.seed, params.scores.resamples)
        row.update(score=found["value"], low=found["low"], high=found["high"])
    write_series(f"rank_{target}", restricted)
    metrics = {"layer": params.probe.layer, "last_step": table[-1], "mean_map": mean_map}
    if params.probe.solver == "adam":
        metrics["optimum"] = optimum(target, fitted[-1], inputs, truth, reference)
    write_metrics(f"probe/{target}", metrics)


def first_score(
    target: str, reference: scores.Reference, maps: np.ndarray, threshold: float = 0.5
) -> tuple[str, np.ndarray]:
    """The name and values [N] of a target's headline score: Dice or Spearman."""
    return next(iter(scores.score(target, reference, maps, threshold).items()))


def rank_scores(
    target: str, inputs: dict[str, Tensor], truth: Tensor, checked: scores.Reference, reference: scores.Reference
) -> dict[int, np.ndarray]:
    """For least squares on the first principal components of one step, the headline score [N] by their number.

    A mask's threshold is chosen on validation images, for every number anew.
    """
    _, tokens, channels = inputs["train"].shape
    ranks, grid = rank.ranks(channels), round(tokens**0.5)
    moments = rank.Moments.of(inputs["train"].cpu().numpy(), truth.mean(-1, keepdim=True).cpu().numpy())
    solved = [torch.from_numpy(values[..., 0].T).float().to(truth.device) for values in rank.restricted(moments, ranks)]
    weight, bias = solved[0][None], solved[1][None, None]
    maps = {
        split: linear.predict(inputs[split][None], weight, bias)[0].movedim(-1, 0).unflatten(-1, (grid, grid))
        for split in ("validation", "test")
    }
    found = {}
    for r, validation, test in zip(ranks, *(values.cpu().numpy() for values in maps.values()), strict=True):
        threshold = scores.best_threshold(checked, validation) if target == "saliency" else 0
        found[r] = first_score(target, reference, test, threshold)[1]
    return found


def optimum(
    target: str,
    fitted: linear.Fitted,
    inputs: dict[str, Tensor],
    truth: dict[str, Tensor],
    reference: scores.Reference,
) -> dict[str, float]:
    """How far the kept probe of the last step is from the optimum of its objective: the loss and score of both.

    One step, because that takes a second or two where all of them would take as long as Adam.
    """
    last = {split: values[-1:] for split, values in inputs.items()}
    best = linear.optimum(target, last["train"], truth["train"], (last["validation"], truth["validation"]))
    kept = torch.cat([fitted.weight[-1], fitted.bias[-1]]).double()
    outputs = linear.predict(last["test"], best.weight, best.bias)
    name, values = first_score(target, reference, linear.to_maps(target, outputs)[0])
    return {
        "train_loss_adam": linear.objective(target, last["train"][0], truth["train"], kept)[0],
        "train_loss_optimum": float(best.train_loss[-1, 0]),
        f"{name}_optimum": scores.interval(values)["value"],
    }


def write_curves(target: str, fitted: list[linear.Fitted]) -> None:
    """Training curves by DVCLive: losses of the first, a middle and the last step, and the mean over steps."""
    length = max(len(f.train_loss) for f in fitted)  # L-BFGS's differ; who is done keeps the last value

    def joined(curves: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.pad(c, ((0, length - len(c)), (0, 0)), mode="edge") for c in curves], 1)

    losses = {
        "train": joined([f.train_loss for f in fitted]),
        "validation": joined([f.validation_loss for f in fitted]),
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

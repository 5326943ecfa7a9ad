"""Draw the figures and tables of the study."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from scenescope import diffusion, store
from scenescope.figures.by_step import by_step
from scenescope.figures.emergence import emergence
from scenescope.figures.frame import frame
from scenescope.figures.labelled import labelled
from scenescope.figures.style import display_range, save
from scenescope.figures.tables import table1, table2
from scenescope.probes import linear
from scenescope.settings import TARGETS, Params
from stages.common import ACTIVATIONS, LABELS, PROBES, TRAJECTORIES, read_images, read_table, run, split_rows
from stages.opening import open_model

FIGURES = Path("plots/figures")
SLIDERS = Path("plots/images")
METRIC = {"saliency": "dice", "depth": "spearman", "shading": "spearman"}
SCORES = {"saliency": ("dice",), "depth": ("spearman", "pearson"), "shading": ("spearman", "pearson")}
# Table 2 of "From Pixels to Pictures": last step, dec4_l1, test images.
PAPER = {
    "published": True,
    "model": "SD v1.4",
    "method": "linear probe",
    "saliency_dice": "0.85",
    "depth_spearman": "0.71",
    "depth_pearson": "0.74",
    "shading_spearman": "0.62",
    "shading_pearson": "0.64",
}


def figures(params: Params) -> None:
    table = read_table()
    rows = split_rows(table)["test"][: params.figures.images]
    names, prompts = table["prompt_id"].iloc[rows].tolist(), table["prompt"].iloc[rows].tolist()
    model = open_model(params.model, params.device)
    for folder in (FIGURES, SLIDERS):
        shutil.rmtree(folder, ignore_errors=True)

    images = read_images(names)
    labels = {target: store.read(store.open_whole(LABELS / target), rows) for target in TARGETS}
    predictions = {target: predicted(target, rows) for target in TARGETS}
    latents = torch.from_numpy(store.read(store.open_whole(TRAJECTORIES), rows))
    layer = f"{params.probe.layer} of {params.model}"

    save(labelled(images, labels, prompts), FIGURES / "labels.png")
    for i, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        decoded = diffusion.decode(model, latents[i, 1:])
        found = {target: predictions[target][:, i] for target in TARGETS}
        known = {target: labels[target][i] for target in TARGETS}
        save(emergence(decoded, found, known, prompt, layer), FIGURES / f"emergence_{name}.png")
        limits = {target: display_range(target, found[target]) for target in TARGETS}
        for step in range(1, model.steps + 1):
            now = {target: found[target][step - 1] for target in TARGETS}
            shown = frame(step, model.steps, decoded[step - 1], now, {"image": images[i], **known}, limits)
            save(shown, SLIDERS / name / f"{step}.png")

    series = {target: pd.read_csv(f"plots/data/probe_{target}.csv") for target in TARGETS}
    ridge = pd.read_csv("plots/data/ridge.csv")
    chart = by_step(long(series, ridge))
    save(chart, FIGURES / "by_step.png")
    save(chart, FIGURES / "by_step.svg")
    save(table1(layer_table(model)), FIGURES / "table1.png")
    save(table2(score_table(params.model, series, ridge)), FIGURES / "table2.png")


def predicted(target: str, rows: np.ndarray) -> np.ndarray:
    """The probes' maps [steps, images, g, g] of some images."""
    inputs = torch.from_numpy(store.read(store.open_whole(ACTIVATIONS), rows)).transpose(0, 1)
    probes = load_file(PROBES / f"{target}.safetensors")
    return linear.to_maps(target, linear.predict(inputs, probes["weight"], probes["bias"]))


def layer_table(model: diffusion.Model) -> pd.DataFrame:
    """Table 1, from the U-Net that was loaded."""
    side = model.latent_shape[-1]
    return pd.DataFrame(
        {
            "layer": layer.name,
            "module": layer.module,
            "tokens": layer.grid(side) ** 2,
            "channels": model.unet.get_submodule(layer.module).out_features,
            "upsampling": model.image_size // layer.grid(side),
        }
        for layer in model.layers
    )


def long(series: dict[str, pd.DataFrame], ridge: pd.DataFrame) -> pd.DataFrame:
    """A row a target, method and step, of the score that the figure shows."""
    parts = []
    for target, metric in METRIC.items():
        for method, table, column in (
            ("probe", series[target], metric),
            ("ridge", ridge, f"{target}_{metric}"),
        ):
            values = {"score": table[column], "low": table[f"{column}_low"], "high": table[f"{column}_high"]}
            labels = {"target": target, "method": method, "metric": metric, "step": table["step"]}
            parts.append(pd.DataFrame({**labels, **values}))
    return pd.concat(parts, ignore_index=True)


def score_table(model: str, series: dict[str, pd.DataFrame], ridge: pd.DataFrame) -> pd.DataFrame:
    """Table 2: the paper's numbers, and ours at the last step with their intervals."""
    probe, other = {}, {}
    for target, metrics in SCORES.items():
        for metric in metrics:
            probe[f"{target}_{metric}"] = with_interval(series[target].iloc[-1], metric)
            other[f"{target}_{metric}"] = with_interval(ridge.iloc[-1], f"{target}_{metric}")
    ours = {"published": False, "model": model}
    return pd.DataFrame([PAPER, {**ours, "method": "linear probe", **probe}, {**ours, "method": "ridge", **other}])


def with_interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


if __name__ == "__main__":
    run(figures)

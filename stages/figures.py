"""Draw the figures and tables of the study."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from scenescope import diffusion, labelers, store
from scenescope.figures.by_step import by_step
from scenescope.figures.classes import classes_chart
from scenescope.figures.emergence import emergence
from scenescope.figures.frame import frame
from scenescope.figures.heatmap import heatmap, heatmap_above
from scenescope.figures.labelled import labelled
from scenescope.figures.onset import onset_chart
from scenescope.figures.style import display_range, save
from scenescope.figures.tables import table1, table2
from scenescope.probes import linear
from scenescope.settings import TARGETS, Params
from scenescope.tables import curves_by_step, layer_table, score_table
from stages.common import (
    ACTIVATIONS,
    CLASSIFIED,
    LABELS,
    PROBES,
    TRAJECTORIES,
    read_images,
    read_table,
    run,
    split_rows,
)
from stages.devices import device_named
from stages.opening import open_model

FIGURES = Path("plots/figures")
SLIDERS = Path("plots/images")
BY_STEP = Path("plots/data/by_step.csv")


def figures(params: Params) -> None:
    table = read_table()
    rows = split_rows(table)["test"][: params.figures.images]
    names, prompts = table["prompt_id"].iloc[rows].tolist(), table["prompt"].iloc[rows].tolist()
    model = open_model(params.model, params.device)
    for folder in (FIGURES, SLIDERS):
        shutil.rmtree(folder, ignore_errors=True)

    specs = {target: getattr(params.labels, target) for target in TARGETS}
    models = labelers.opened(specs, Path("models") / params.model, device_named(params.device))

    images = read_images(names, model.image_size)
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
        seen = {target: np.concatenate([label(part[None]) for part in decoded]) for target, label in models.items()}
        for step in range(1, model.steps + 1):
            now = {target: found[target][step - 1] for target in TARGETS}
            sees = {target: seen[target][step - 1] for target in TARGETS}
            shown = frame(step, model.steps, decoded[step - 1], now, sees, {"image": images[i], **known}, limits)
            save(shown, SLIDERS / name / f"{step}.png")

    series = {target: pd.read_csv(f"plots/data/probe_{target}.csv") for target in TARGETS}
    layer_step = pd.read_csv("plots/data/layer_step.csv")
    curves = curves_by_step(series, layer_step, params.probe.layer)
    curves.to_csv(BY_STEP, index=False, float_format="%.5f", lineterminator="\n")
    onsets = pd.read_csv("plots/data/onset.csv"), json.loads(Path("metrics/onset.json").read_text())
    charts = {"by_step": by_step(curves), "heatmap": heatmap(layer_step), "heatmap_above": heatmap_above(layer_step)}
    charts["onset"] = onset_chart(*onsets, params.onset.share)
    for name, chart in charts.items():
        save(chart, FIGURES / f"{name}.png")
        save(chart, FIGURES / f"{name}.svg")
    save(classes_chart(*classified(params.figures.images)), FIGURES / "classes.png")
    save(table1(layer_table(model)), FIGURES / "table1.png")
    save(table2(score_table(params.model, series, layer_step, params.probe.layer)), FIGURES / "table2.png")


def predicted(target: str, rows: np.ndarray) -> np.ndarray:
    """The probes' maps [steps, images, g, g] of some images."""
    inputs = torch.from_numpy(store.read(store.open_whole(ACTIVATIONS), rows)).transpose(0, 1)
    probes = load_file(PROBES / f"{target}.safetensors")
    return linear.to_maps(target, linear.predict(inputs, probes["weight"], probes["bias"]))


def classified(count: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """What ``classes_chart`` takes, for the first prompt of each of the first ``count`` classes."""
    top5 = pd.read_csv(CLASSIFIED / "top5.csv", dtype={"prompt_id": str})
    ids = top5["prompt_id"].drop_duplicates().tolist()
    pictures = store.open_whole(CLASSIFIED / "pictures")
    chosen = top5.drop_duplicates("class")["prompt_id"][:count]
    return top5, {name: store.read(pictures, ids.index(name)) for name in chosen}


if __name__ == "__main__":
    run(figures)

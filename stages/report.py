"""Make plots/report.html: the study as one page that opens from disk, without a server or a network.

The probes on the page are the map's, ridge: they are those of ``onset``, and every layer has one. Of the test images
that it shows, the page replays every step.

The page holds neither a date nor the commit at which it was made: the same inputs must give the same bytes, and a
run starts before its results are committed. It names instead the MD5 that dvc.lock has of one of its inputs, and the
git command that finds the commit with this lock. That commit holds code, settings and hashes of all that was used.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from scenescope import diffusion, labelers, store
from scenescope.figures.style import SCORE_NAMES, display_range
from scenescope.labelers import Labeler
from scenescope.report import charts, pictures, study, words
from scenescope.report.page import KEPT_FREE, LIMIT, render
from scenescope.report.page import fitting as fitting_page
from scenescope.report.replay import Probes, predicted, seen_by_step, shown_steps
from scenescope.settings import TARGETS, Params, load_model_settings
from scenescope.tables import METRIC, layer_table, score_table
from stages.common import (
    CLASSIFIED,
    LABELS,
    MAP,
    PREDICTIONS,
    SEEN,
    TRAJECTORIES,
    read_images,
    read_table,
    run,
    split_rows,
)
from stages.devices import device_named, fitting
from stages.opening import open_model

PAGE = Path("plots/report.html")
SERIES = Path("plots/data")
MADE_FROM = SERIES / "by_step.csv"  # what the probes and the map found: it changes with nearly everything
WORDS = {"prompt_id": str, "prompt": str, "class": str, "name": str}  # and none of them a missing number
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "zarr", "dvc")


def report(params: Params) -> None:
    table = read_table()
    model = open_model(params.model, params.device)
    own = load_model_settings(Path("models") / params.model)
    rows = split_rows(table)
    chosen = rows["test"][: params.report.images]
    steps = shown_steps(model.steps)
    specs, models = dict(params.labels), {}
    for target, spec in specs.items():
        module, source = labelers.named(spec, target)
        models[target] = module.load(target, Path("models") / params.model, device_named(params.device), source)

    layer_step = pd.read_csv(SERIES / "layer_step.csv")
    series = {target: pd.read_csv(SERIES / f"probe_{target}.csv") for target in TARGETS}
    onset_scores, curves = pd.read_csv(SERIES / "onset.csv"), pd.read_csv(MADE_FROM)
    ranks = {target: pd.read_csv(SERIES / f"rank_{target}.csv") for target in TARGETS}
    onsets, best, named = (
        json.loads(Path(f"metrics/{name}.json").read_text()) for name in ("onset", "ridge", "classify")
    )

    top, settled = (
        pd.read_csv(CLASSIFIED / f"{name}.csv", dtype=WORDS, keep_default_na=False, na_values=empty)
        for name, empty in (("top5", {}), ("settled", {"zt": "", "x0": ""}))  # empty: it never settled
    )
    class_names, answered = study.answers(top, settled, steps)

    layers = layer_table(model)
    data = {
        "model": params.model,
        "layer": params.probe.layer,
        "steps": steps,
        "targets": TARGETS,
        "scores": SCORE_NAMES,
        "layers": layers["layer"].tolist(),
        "grids": [layer.grid(model.latent_shape[-1]) for layer in model.layers],
        "map": study.map_cells(layer_step, steps),
        "controls": study.control_cells(layer_step, steps),
        "names": study.CONTROLS,
        "colours": {name: pictures.colour_table(name) for name in ("viridis", "RdBu")},
        "prompts": table[["prompt_id", "prompt", "seed", "split"]].to_numpy().tolist(),
        "images": [],
        "classes": class_names,
        "classified": [],
    }
    told = {
        "model": params.model,
        "layer": params.probe.layer,
        "own": own,
        "specs": specs,
        "dtype": str(model.unet.dtype).removeprefix("torch."),
        "scheduler": type(model.pipeline.scheduler).__name__,
        "counts": {split: len(of) for split, of in rows.items()},
        "share": params.onset.share,
        "targets": TARGETS,
        "score_names": SCORE_NAMES,
        "onsets": onsets,
        "best": best,
        "words": words,
        "key": charts.key,
        "lane": charts.lane,
        "class_chart": charts.class_chart(pd.read_csv(SERIES / "classify.csv")),
        "named": named,
        "onset_charts": charts.onset_charts(onset_scores, onsets),
        "step_charts": charts.step_charts(curves),
        "rank_charts": charts.rank_charts(ranks),
        "rank_steps": sorted({step for ranked in ranks.values() for step in ranked.step}),
        "layers": layers.to_dict("records"),
        "table2": score_table(params.model, series, layer_step, params.probe.layer).to_dict("records"),
        "last": study.last_scores(layer_step, params.probe.layer),
        "controls": study.control_rows(layer_step, params.probe.layer),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": str(model.device.type),
        "made_from": (MADE_FROM.name, hashlib.md5(MADE_FROM.read_bytes()).hexdigest()),
        "asked": len(chosen),
        "shown": 0,
        "shown_classified": 0,
    }
    # Leaf by leaf: the page shows all of params.yaml, and depends on it.
    told["settings"] = {
        "model": params.model,
        "device": params.device,
        "prompts.source": params.prompts.source,
        "prompts.validation": params.prompts.validation,
        "prompts.test": params.prompts.test,
        "prompts.seed": params.prompts.seed,
        **{f"labels.{target}": spec for target, spec in params.labels},
        "generate.batch_size": params.generate.batch_size,
        "label.batch_size": params.label.batch_size,
        "capture.batch_size": params.capture.batch_size,
        "probe.layer": params.probe.layer,
        "probe.solver": params.probe.solver,
        "probe.epochs": params.probe.epochs,
        "probe.batch_size": params.probe.batch_size,
        **{f"probe.learning_rate.{target}": rate for target, rate in params.probe.learning_rate},
        "probe.seed": params.probe.seed,
        "ridge.batch_size": params.ridge.batch_size,
        "ridge.folds": params.ridge.folds,
        "ridge.penalties": ", ".join(f"{penalty:g}" for penalty in params.ridge.penalties),
        "ridge.splits": params.ridge.splits,
        "ridge.seed": params.ridge.seed,
        "onset.share": params.onset.share,
        "onset.batch_size": params.onset.batch_size,
        "classify.prompts": params.classify.prompts,
        "classify.classifier": params.classify.classifier,
        "classify.batch_size": params.classify.batch_size,
        "scores.resamples": params.scores.resamples,
        "scores.seed": params.scores.seed,
        "figures.images": params.figures.images,
        "report.images": params.report.images,
    }
    size = params.capture.batch_size
    with fitting("capture.batch_size", size):
        found = replayed(model, table, chosen, steps, size)
        images = one_by_one(model, models, table, chosen, steps, found, params.label.batch_size)
        data["images"] = fitting_page(images, rest=len(render(told, data).encode()), limit=LIMIT - KEPT_FREE)
    told["shown"] = len(data["images"])
    more = with_pictures(answered, study.in_turns(settled["class"]), steps)
    data["classified"] = fitting_page(more, rest=len(render(told, data).encode()))
    told["shown_classified"] = len(data["classified"])
    write(PAGE, render(told, data))


def replayed(
    model: diffusion.Model, table: pd.DataFrame, chosen: np.ndarray, steps: list[int], size: int
) -> list[dict[str, np.ndarray]]:
    """At each of the steps, what every layer's probes predict for the chosen images: {layer: [3, N, g, g]}."""
    latents = torch.from_numpy(store.read(store.open_whole(TRAJECTORIES), chosen))
    prompts = table["prompt"].iloc[chosen].tolist()
    layers = [layer.name for layer in model.layers]
    return [
        predicted(model, probes_of(step, layers), latents[:, step - 1], step - 1, prompts, size)
        for step in tqdm(steps, desc="report: replay")
    ]


def probes_of(step: int, layers: list[str]) -> Probes:
    """The map's probes of one step, counted from 1."""
    stored = store.read_npz(MAP / f"step_{step:03d}.npz")
    parts = ("weight", "intercept", "saliency/threshold")
    return Probes(*({layer: stored[f"network/{layer}/{part}"] for layer in layers} for part in parts))


def one_by_one(
    model: diffusion.Model,
    models: dict[str, Labeler],
    table: pd.DataFrame,
    chosen: np.ndarray,
    steps: list[int],
    found: list[dict[str, np.ndarray]],
    label_size: int,
) -> Iterator[dict]:
    """Each of the chosen images as the page's script reads it; label models take ``label_size`` pictures at once."""
    arrays = {"zt": store.open_whole(TRAJECTORIES), "x0": store.open_whole(PREDICTIONS)}
    known = stored_scores([layer.name for layer in model.layers], steps)
    for place, row in enumerate(tqdm(chosen, desc="report: pictures")):
        name, prompt, seed = table.loc[row, ["prompt_id", "prompt", "seed"]]
        labels = {target: store.read(store.open_whole(LABELS / target), [row])[0] for target in TARGETS}
        limits = {target: display_range(target, label) for target, label in labels.items()}
        final = read_images([name], model.image_size)
        image = {"id": name, "prompt": prompt, "seed": int(seed), "seen": {}}
        image["thumb"] = pictures.picture_strip(final, pictures.THUMB)  # a strip, only to be looked at small, is slow
        for kind, array in arrays.items():
            latents = torch.from_numpy(store.read(array, int(row))[np.array(steps) - 1])
            with fitting("label.batch_size", label_size):
                shown, seen = seen_by_step(model, models, latents, label_size)
            image[kind] = pictures.picture_strip(np.concatenate([shown, final]))
            image["seen"][kind] = {
                # The last frame is the label itself.
                target: pictures.map_strip(target, np.stack([*seen[target], labels[target]]), limits[target])
                for target in TARGETS
            }
        image["probe"] = {
            target: pictures.token_strips(
                target,
                [np.stack([at_step[layer.name][column, place] for at_step in found]) for layer in model.layers],
            )
            for column, target in enumerate(TARGETS)
        }
        image["scores"] = {
            kind: {target: tenths_of_thousandths(values[..., place]) for target, values in by_target.items()}
            for kind, by_target in known.items()
        }
        yield image


def with_pictures(answered: list[dict], rows: np.ndarray, steps: list[int]) -> Iterator[dict]:
    """The classified images of these rows, each with its pictures: a strip of either kind, and the finished one."""
    seen, finished = store.open_whole(CLASSIFIED / "pictures"), store.open_whole(CLASSIFIED / "images")
    for row in tqdm(rows, desc="report: classified"):
        image = dict(answered[row])
        for kind, shown in zip(study.KINDS, store.read(seen, int(row)), strict=True):
            image[kind] = pictures.picture_strip(shown[np.array(steps) - 1])
        image["thumb"] = pictures.picture_strip(store.read(finished, [row]), pictures.THUMB)
        yield image


def stored_scores(layers: list[str], steps: list[int]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of the test images: by target, of the probes [layers, steps, N], and of label models [steps, N]."""
    of_map, of_sight = ([store.read_npz(folder / f"step_{step:03d}.npz") for step in steps] for folder in (MAP, SEEN))
    probe = {
        target: np.stack([[at[f"network/{layer}/{target}/{metric}"] for at in of_map] for layer in layers])
        for target, metric in METRIC.items()
    }
    seen = {
        kind: {target: np.stack([at[f"{kind}/{target}"] for at in of_sight]) for target in TARGETS}
        for kind in ("zt", "x0")
    }
    return {"probe": probe, **seen}


def tenths_of_thousandths(values: np.ndarray) -> list:
    """Numbers to four digits, None where there is none."""
    if values.ndim > 1:
        return [tenths_of_thousandths(row) for row in values]
    return [study.plain(value, 4) for value in values]


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    run(report)

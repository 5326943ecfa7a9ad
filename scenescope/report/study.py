"""The tables of the study as the page's script reads them: lists of numbers, None where there is none."""

import numpy as np
import pandas as pd

from scenescope.probes.table import ABOVE
from scenescope.settings import TARGETS

CONTROLS = {
    "position": "position alone",
    "mean_map": "mean training label",
    "random": "same layer, random weights",
    "shuffled": "same layer, shuffled weights",
    "latent": "the latent",
    "prediction": "the predicted clean latent",
    "pixels": "pixels of the decoded latent",
}
KINDS = ("zt", "x0")  # of a picture at a step: the latent decoded, or the clean one that the step predicts
ENDS = ("", "_low", "_high")
CELL = [
    *(f"score{end}" for end in ENDS),
    "control",
    *(f"selectivity{end}" for end in ENDS),
    "splits_low",
    "splits_high",
    "validation",
    *(f"above_{other}{end}" for other in ABOVE for end in ENDS),
]


def map_cells(layer_step: pd.DataFrame, steps: list[int]) -> dict[str, dict[str, list[list[float | None]]]]:
    """By target and column of ``CELL``, the map [layers][steps]."""
    network = layer_step[(layer_step.features == "network") & layer_step.step.isin(steps)]
    return {target: {column: grid(network[network.target == target], column) for column in CELL} for target in TARGETS}


def control_cells(layer_step: pd.DataFrame, steps: list[int]) -> dict[str, dict[str, dict[str, list]]]:
    """By control, target and score, score_low and score_high: [layers][steps], or [1][steps] for what has no layer."""
    shown = layer_step[layer_step.step.isin(steps)]
    return {
        control: {
            target: {
                f"score{end}": grid(shown[(shown.features == control) & (shown.target == target)], f"score{end}")
                for end in ENDS
            }
            for target in TARGETS
        }
        for control in CONTROLS
    }


def grid(rows: pd.DataFrame, column: str) -> list[list[float | None]]:
    """One column of the map as [layers][steps], layers in the order in which they come."""
    table = rows.pivot(index="layer", columns="step", values=column).loc[rows.layer.unique()]
    return [[plain(value) for value in row] for row in table.to_numpy()]


def answers(top: pd.DataFrame, settled: pd.DataFrame, steps: list[int]) -> tuple[list[str], list[dict]]:
    """What the classifier answers: the names of all classes that occur, and the images, as in the two tables' order.

    Of an image: ``class``, the number of the prompted one; ``settled``, by kind of picture the step from which on it
    is named for good, or None; and ``top``, by kind, step and rank a class's number and its probability.
    """
    names = sorted({*top["name"], *top["class"]})
    numbers = {name: number for number, name in enumerate(names)}
    shown = top[top.step.isin(steps)].sort_values(["step", "rank"], kind="stable")
    images = {
        row.prompt_id: {
            "id": row.prompt_id,
            "prompt": row.prompt,
            "seed": int(row.seed),
            "class": numbers[row["class"]],
            "settled": {kind: None if row[kind] != row[kind] else int(row[kind]) for kind in KINDS},
            "top": {kind: [[] for _ in steps] for kind in KINDS},
        }
        for _, row in settled.iterrows()
    }
    places = {step: place for place, step in enumerate(steps)}
    for row in shown.itertuples():
        images[row.prompt_id]["top"][row.seen][places[row.step]].append([numbers[row.name], plain(row.probability, 4)])
    return names, list(images.values())


def in_turns(classes: pd.Series) -> np.ndarray:
    """Rows in an order that takes one of every class before a second of any."""
    return np.argsort(classes.groupby(classes).cumcount().to_numpy(), kind="stable")


def plain(value: float, digits: int = 5) -> float | None:
    return None if value != value else round(float(value), digits)


def last_scores(layer_step: pd.DataFrame, layer: str) -> dict[str, dict[str, dict]]:
    """By target, at the last step: the row of the probe at a layer, and that of position alone."""
    last = layer_step[layer_step.step == layer_step.step.max()]
    rows = {"probe": ("network", layer), "position": ("position", "-")}
    return {
        target: {
            name: last[(last[["features", "layer", "target"]] == [*of, target]).all(axis=1)].iloc[0].to_dict()
            for name, of in rows.items()
        }
        for target in TARGETS
    }


def control_rows(layer_step: pd.DataFrame, layer: str) -> list[dict[str, str]]:
    """For Table 2, the controls at the last step: a text for every score, empty where there is none."""
    last = layer_step[layer_step.step == layer_step.step.max()]
    rows = []
    for control, name in CONTROLS.items():
        row = {"method": name}
        for target in TARGETS:
            found = last[(last.features == control) & (last.target == target) & last.layer.isin([layer, "-"])].iloc[0]
            row[f"{target}_first"] = f"{found.score:.2f} [{found.score_low:.2f}, {found.score_high:.2f}]"
            row[f"{target}_pearson"] = f"{found.pearson:.2f}" if found.pearson == found.pearson else ""
        rows.append(row)
    task = {"method": "control task: the labels of other images"}
    for target in TARGETS:
        of = (last.features == "network") & (last.target == target) & (last.layer == layer)
        task[f"{target}_first"], task[f"{target}_pearson"] = f"{last[of].control.iloc[0]:.2f}", ""
    return [*rows, task]

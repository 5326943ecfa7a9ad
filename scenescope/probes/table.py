"""The map as a table: a row for every set of features, layer, step and target, with intervals and differences."""

import numpy as np
import pandas as pd

from scenescope.bootstrap import Resamples, summary

# What a layer's score is compared with: features whose score the same images have at the same step.
ABOVE = {
    "mean_map": "mean_map/-",
    "position": "position/-",
    "latent": "latent/-",
    "pixels": "pixels/-",
    "random": "random/{layer}",
    "shuffled": "shuffled/{layer}",
}


def tabulate(steps: list[dict[str, np.ndarray]], resamples: int, seed: int) -> pd.DataFrame:
    """From the scores of ``step_map`` at every step, a table of means over test images with 95 % intervals.

    Columns: features, layer, step, target; score (Dice or Spearman) with score_low, score_high and undefined, the
    number of images that have none; pearson, with its interval, and rmse; control and selectivity (score less
    control), where there is a control task; splits_low and splits_high, the range of the mean over splits; above_X
    for the controls X of ``ABOVE``, a paired difference; validation; penalty.
    """
    rows = []
    drawn = None
    for number, found in enumerate(steps, start=1):
        firsts = first_scores(found)
        for (name, target), score in firsts.items():
            values = found[f"{name}/{target}/{score}"]
            drawn = drawn or Resamples(len(values), resamples, seed)
            features, layer = name.split("/")
            row = {"features": features, "layer": layer, "step": number, "target": target}
            row |= with_interval("score", *drawn.interval(values))
            row["undefined"] = int(np.isnan(values).sum())
            if f"{name}/{target}/pearson" in found:
                row |= with_interval("pearson", *drawn.interval(found[f"{name}/{target}/pearson"]))
                row["rmse"] = float(np.nanmean(found[f"{name}/{target}/rmse"]))
            control = found.get(f"{name}/{target}/control")
            if control is not None:
                row["control"] = float(np.nanmean(control))
                row |= with_interval("selectivity", *difference(drawn, values, control))
                means = found[f"{name}/{target}/splits"]
                row |= {"splits_low": means.min(), "splits_high": means.max()}
                row |= {part: float(found[f"{name}/{target}/{part}"]) for part in ("validation", "penalty")}
            if features == "network":
                for other, pattern in ABOVE.items():
                    lesser = found[f"{pattern.format(layer=layer)}/{target}/{score}"]
                    row |= with_interval(f"above_{other}", *difference(drawn, values, lesser))
            rows.append(row)
    return pd.DataFrame(rows)


def first_scores(found: dict[str, np.ndarray]) -> dict[tuple[str, str], str]:
    """The headline score of every set of features and target: Dice or Spearman."""
    names = (key.rsplit("/", 2) for key in found if key.count("/") == 3)
    return {(name, target): score for name, target, score in names if score in ("dice", "spearman")}


def difference(drawn: Resamples, values: np.ndarray, lesser: np.ndarray) -> tuple[float, float, float]:
    """Mean of ``values`` less that of ``lesser``, paired by image, with its interval."""
    return summary(np.nanmean(values) - np.nanmean(lesser), drawn.means(values) - drawn.means(lesser))


def with_interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def headline(table: pd.DataFrame) -> dict:
    """For every target, the layer and step that did best on validation images, and how well it does on test images."""
    shown = ["layer", "step", "score", "score_low", "score_high", "selectivity", "control"]
    shown += [f"above_{other}{end}" for other in ABOVE for end in ("", "_low", "_high")]
    found = {}
    network = table[table["features"] == "network"]
    for target, rows in network.groupby("target", sort=False):
        last = rows[rows["step"] == rows["step"].max()]
        best = {"best": rows, "best_at_last_step": last}
        found[target] = {name: of.loc[of["validation"].idxmax(), shown].to_dict() for name, of in best.items()}
    return found

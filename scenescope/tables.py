"""Tables of the study that both the figures and the page show, from those that earlier stages wrote."""

import pandas as pd

from scenescope.diffusion import Model

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


def layer_table(model: Model) -> pd.DataFrame:
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


def curves_by_step(series: dict[str, pd.DataFrame], layer_step: pd.DataFrame, layer: str) -> pd.DataFrame:
    """A row a target, method and step: the first score of both probes at a layer, and of its controls."""
    columns = {"score": "score", "score_low": "low", "score_high": "high"}
    parts = []
    for target, metric in METRIC.items():
        probe = series[target].rename(columns={name.replace("score", metric): new for name, new in columns.items()})
        found = {"probe": probe}
        for method, features, where in (
            ("ridge", "network", layer),
            ("position", "position", "-"),
            ("mean_map", "mean_map", "-"),
            ("random", "random", layer),
        ):
            found[method] = rows_of(layer_step, features, where, target).rename(columns=columns)
        for method, rows in found.items():
            parts.append(rows[["step", "score", "low", "high"]].assign(target=target, method=method))
    return pd.concat(parts, ignore_index=True)[["target", "method", "step", "score", "low", "high"]]


def rows_of(layer_step: pd.DataFrame, features: str, layer: str, target: str) -> pd.DataFrame:
    """One line of the map: the rows of all steps, in their order."""
    of = layer_step[["features", "layer", "target"]] == [features, layer, target]
    return layer_step[of.all(axis=1)].sort_values("step")


def score_table(model: str, series: dict[str, pd.DataFrame], layer_step: pd.DataFrame, layer: str) -> pd.DataFrame:
    """Table 2: the paper's numbers, and ours at the last step, with intervals where there are any."""
    probe, ridge = {}, {}
    for target, (first, *others) in SCORES.items():
        last = rows_of(layer_step, "network", layer, target).iloc[-1]
        ridge[f"{target}_{first}"] = with_interval(last, "score")
        for metric in others:
            ridge[f"{target}_{metric}"] = with_interval(last, metric)
        for metric in (first, *others):
            probe[f"{target}_{metric}"] = with_interval(series[target].iloc[-1], metric)
    ours = {"published": False, "model": model}
    return pd.DataFrame([PAPER, {**ours, "method": "linear probe", **probe}, {**ours, "method": "ridge", **ridge}])


def with_interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"

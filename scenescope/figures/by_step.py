"""How well the scene can be read from the activations after every step."""

from math import ceil, floor

import pandas as pd
from matplotlib.figure import Figure

from scenescope.figures.style import COLOURS, HAIRLINE, TARGETS, styled

METRICS = {"saliency": "dice", "depth": "spearman", "shading": "spearman"}
METRIC_NAMES = {"dice": "Dice", "spearman": "Spearman’s ρ"}
METHODS = {"probe": ("linear probe", "o", "-"), "ridge": ("ridge regression", "s", "--")}
MARGINS = {"left": 0.08, "right": 0.99, "bottom": 0.19, "top": 0.79, "wspace": 0.35}  # shares of the figure


@styled
def by_step(scores: pd.DataFrame) -> Figure:
    """A panel for each target: score by step, a line with its band of 95 % for each method.

    scores: columns target, method ("probe" or "ridge"), metric ("dice" or "spearman"), step, score, low, high.
    """
    figure = Figure(figsize=(7.2, 2.4))
    # Fixed margins: matplotlib's automatic ones shift a little each time that the figure is saved.
    panels = figure.subplots(1, len(TARGETS), sharey=True, gridspec_kw=MARGINS)
    methods = [method for method in METHODS if method in set(scores.method)]
    steps = range(1, scores.step.max() + 1)
    legend = {}
    for panel, target in zip(panels, TARGETS, strict=True):
        metric = METRICS[target]
        shown = scores[(scores.target == target) & (scores.metric == metric)].sort_values("step")
        for method in methods:
            name, marker, dashes = METHODS[method]
            line = shown[shown.method == method]
            style = {"color": COLOURS[method], "linewidth": 1.4, "linestyle": dashes, "marker": marker}
            (curve,) = panel.plot(line.step, line.score, **style, markersize=2.5, clip_on=False)
            band = panel.fill_between(line.step, line.low, line.high, color=COLOURS[method], alpha=0.2, linewidth=0)
            legend[f"{name}, 95 % band"] = (band, curve)
        panel.set_title(target)
        panel.set_ylabel(METRIC_NAMES[metric])
        panel.set_xticks(steps[:: ceil(len(steps) / 8)])
        panel.yaxis.set_tick_params(labelleft=True)
        panel.grid(axis="y", color=HAIRLINE, linewidth=0.4)
        panel.set_axisbelow(True)
    panels[0].set_ylim(min(0.0, floor(scores.low.min() * 10) / 10), 1.0)
    panels[1].set_xlabel("denoising step")
    figure.legend(legend.values(), legend.keys(), loc="upper center", ncols=len(legend), frameon=False)
    return figure

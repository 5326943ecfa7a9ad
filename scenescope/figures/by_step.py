"""How well the scene can be read from the activations after every step."""

from math import floor

import pandas as pd
from matplotlib.figure import Figure

from scenescope.figures.style import COLOURS, HAIRLINE, SCORE_NAMES, TARGETS, step_ticks, styled

PROBES = {"probe": ("linear probe", "-", "o"), "ridge": ("ridge", "--", "s")}
CONTROLS = {"position": ("position", "-"), "mean_map": ("mean map", (0, (5, 1.5))), "random": ("random weights", ":")}
MARGINS = {"left": 0.08, "right": 0.99, "bottom": 0.19, "top": 0.79, "wspace": 0.35}  # shares of the figure


@styled
def by_step(scores: pd.DataFrame) -> Figure:
    """A panel for each target: score by step, a line with its band of 95 % for each probe, a thin one for each control.

    scores: columns target, method (of PROBES or CONTROLS), step, score, low, high.
    """
    figure = Figure(figsize=(7.2, 2.4))
    # Fixed margins: matplotlib's automatic ones shift a little each time that the figure is saved.
    panels = figure.subplots(1, len(TARGETS), sharey=True, gridspec_kw=MARGINS)
    legend = {}
    for panel, target in zip(panels, TARGETS, strict=True):
        shown = scores[scores.target == target].sort_values("step")
        for method, (name, dashes) in CONTROLS.items():
            line = shown[shown.method == method]
            style = {"color": COLOURS[method], "linewidth": 0.8, "linestyle": dashes}
            (legend[name],) = panel.plot(line.step, line.score, **style, clip_on=False)
        for method, (name, dashes, marker) in PROBES.items():
            line = shown[shown.method == method]
            style = {"color": COLOURS[method], "linewidth": 1.4, "linestyle": dashes, "marker": marker}
            (curve,) = panel.plot(line.step, line.score, **style, markersize=2.5, clip_on=False)
            band = panel.fill_between(line.step, line.low, line.high, color=COLOURS[method], alpha=0.2, linewidth=0)
            legend[f"{name}, 95 % band"] = (band, curve)
        panel.set_title(target)
        panel.set_ylabel(SCORE_NAMES[target])
        panel.set_xticks(step_ticks(scores.step.max()))
        panel.yaxis.set_tick_params(labelleft=True)
        panel.grid(axis="y", color=HAIRLINE, linewidth=0.4)
        panel.set_axisbelow(True)
    panels[0].set_ylim(min(0.0, floor(scores.low.min() * 10) / 10), 1.0)
    panels[1].set_xlabel("denoising step")
    names = sorted(legend, key=lambda name: "band" not in name)  # probes first
    figure.legend([legend[n] for n in names], names, loc="upper center", ncols=len(legend), frameon=False)
    return figure

"""When the probe knows and when label models see it: scores by step, with every row's onset on them."""

from math import floor

import pandas as pd
from matplotlib.figure import Figure

from scenescope.figures.style import COLOURS, HAIRLINE, INK, SCORE_NAMES, TARGETS, step_ticks, styled

ROWS = {  # name, colour, dashes, marker; the sky blue is Okabe and Ito's
    "probe": ("ridge probe", COLOURS["ridge"], "-", "s"),
    "x0": ("label model on predicted x₀, decoded", INK, (0, (4, 1.2)), "^"),
    "zt": ("label model on zₜ, decoded", "#56B4E9", (0, (1.2, 1)), "o"),
    "position": ("position", COLOURS["position"], (0, (4, 1.2, 1, 1.2)), "D"),
}
MARGINS = {"left": 0.08, "right": 0.99, "bottom": 0.16, "top": 0.76, "wspace": 0.35}  # shares of the figure


@styled
def onset_chart(scores: pd.DataFrame, onsets: dict[str, dict], share: float) -> Figure:
    """A panel for each target: score by step with its band of 95 %, and on it the mark of each row's onset.

    The bar through a mark is the onset's 95 % interval.
    scores: columns row (of ROWS; others are left out), target, step, score, low, high. onsets: by target and row,
    step, low and high, None where there is no onset. share: of the last score, which an onset reaches.
    """
    figure = Figure(figsize=(7.2, 2.8))
    panels = figure.subplots(1, len(TARGETS), sharey=True, gridspec_kw=MARGINS)
    scores = scores[scores.row.isin(ROWS)]
    legend = {}
    for panel, target in zip(panels, TARGETS, strict=True):
        for row, (name, colour, dashes, marker) in ROWS.items():
            line = scores[(scores.row == row) & (scores.target == target)].sort_values("step")
            style = {"color": colour, "linewidth": 1.3, "linestyle": dashes}
            mark = {"marker": marker, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
            band = panel.fill_between(line.step, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(line.step, line.score, **style, clip_on=False)
            onset = onsets[target][row]
            if onset["step"] is not None:
                height = line.score[line.step == onset["step"]].item()
                ends = {"marker": "|", "markersize": 5, "linewidth": 1.0, "zorder": 3, "clip_on": False}
                panel.plot([onset["low"], onset["high"]], [height, height], color=colour, **ends)
                panel.plot(onset["step"], height, color=colour, **mark, zorder=4, clip_on=False)
            (sample,) = panel.plot([], [], **style, **mark)
            legend[name] = (band, sample)
        panel.set_title(target)
        panel.set_ylabel(SCORE_NAMES[target])
        panel.set_xticks(step_ticks(scores.step.max()))
        panel.yaxis.set_tick_params(labelleft=True)
        panel.grid(axis="y", color=HAIRLINE, linewidth=0.4)
        panel.set_axisbelow(True)
    panels[0].set_ylim(min(0.0, floor(scores.low.min() * 10) / 10), 1.0)
    marked = f"the first at {100 * share:g} % of the last score, with its 95 % interval"
    panels[1].set_xlabel(f"denoising step; marked: {marked}")
    figure.legend(legend.values(), legend.keys(), loc="upper center", ncols=2, frameon=False)
    return figure

"""Where and when the scene is known: every layer and step in one picture."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scenescope.figures.style import FAINT, INK, SCORE_NAMES, SMALL, TARGETS, step_ticks, styled, text_width, write

MARGIN, GAP, INSET = 0.08, 0.14, 0.12  # inches: around the figure, between panels, beside colour bars
WIDTH, LAYER, SHORTEST = 7.2, 0.125, 1.3  # inches: the figure, the height of a layer, that of a panel with few layers
HEAD, STEPS, BAR, FOOT = 0.24, 0.38, 0.07, 0.62  # inches: titles, numbers of steps, colour bar, what is below its top
# Even steps for every eye, colour-blind ones too, and in print. In the second, white is 0 and blue is above it.
COLORMAP, DIVERGING = "viridis", "RdBu"
CONTROLS = {"position": "position", "random": "random weights"}
BEST = {"marker": "o", "markersize": 2.6, "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 0.5}
STROKE = {"marker": (2, 0, -45), "markersize": 6, "markeredgecolor": FAINT, "markeredgewidth": 0.6}
KEY = {
    "best layer on validation images at each step": BEST,
    "95 % interval of the difference includes 0": STROKE,
}


@styled
def heatmap(table: pd.DataFrame) -> Figure:
    """The score of every layer and step on test images: a panel for each target, with colours of its own.

    table: columns features, layer, step, target, score and validation. What is shown are the rows whose features
    are "network", layers from top to bottom in the order in which they come.
    """
    network = table[table.features == "network"]
    figure, rows = panels(network, [""])
    for target, axes in zip(TARGETS, rows[0], strict=True):
        shown = network[network.target == target]
        draw(axes, shown, "score", COLORMAP, (shown.score.min(), shown.score.max()))
        mark_best(axes, shown)
        colour_bar(figure, axes, SCORE_NAMES[target])
    key(figure, 1)
    return figure


@styled
def heatmap_above(table: pd.DataFrame) -> Figure:
    """How far every layer and step is above its controls: a row of panels for each control.

    table: as for ``heatmap``, and above_X, above_X_low and above_X_high for the CONTROLS. Panels of one target share
    their colours. Cells whose interval includes 0 are struck through.
    """
    network = table[table.features == "network"]
    figure, rows = panels(network, [f"above {name}" for name in CONTROLS.values()])
    for column, target in enumerate(TARGETS):
        shown = network[network.target == target]
        most = shown[[f"above_{control}" for control in CONTROLS]].abs().max(axis=None)
        for control, row in zip(CONTROLS, rows, strict=True):
            draw(row[column], shown, f"above_{control}", DIVERGING, (-most, most))
            strike(row[column], shown, f"above_{control}")
            mark_best(row[column], shown)
        colour_bar(figure, rows[-1][column], f"difference in {SCORE_NAMES[target]}")
    key(figure, 2)
    return figure


def panels(network: pd.DataFrame, names: list[str]) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of empty panels for each name, a panel for each target; layers and steps as in the table."""
    layers, steps = network.layer.unique(), network.step.max()
    left = MARGIN + max(text_width(layer, SMALL) for layer in layers) + 0.1
    left += 0.2 if any(names) else 0
    width = (WIDTH - left - MARGIN - GAP * (len(TARGETS) - 1)) / len(TARGETS)
    tall = max(LAYER * len(layers), SHORTEST)
    height = HEAD + len(names) * (tall + GAP) - GAP + STEPS + FOOT
    figure = Figure(figsize=(WIDTH, height))
    rows = []
    for number, name in enumerate(names):
        top = HEAD + number * (tall + GAP)
        row = []
        for column, target in enumerate(TARGETS):
            x = left + column * (width + GAP)
            axes = figure.add_axes((x / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))
            axes.set(xlim=(0.5, steps + 0.5), ylim=(len(layers) - 0.5, -0.5))
            axes.set_xticks(step_ticks(steps))
            axes.set_yticks(range(len(layers)), labels=layers)
            axes.tick_params(length=0, pad=3, labelleft=column == 0, labelbottom=name == names[-1])
            axes.spines[:].set_visible(False)
            if number == 0:
                axes.set_title(target, pad=4)
            row.append(axes)
        write(figure, name, MARGIN + 0.1, top + tall / 2, rotation=90, ha="center", va="center")
        rows.append(row)
    rows[-1][len(TARGETS) // 2].set_xlabel("denoising step", labelpad=2)
    return figure, rows


def grid(shown: pd.DataFrame, column: str) -> np.ndarray:
    """A column of one target's rows as an array [layers, steps]."""
    return shown.pivot(index="layer", columns="step", values=column).loc[shown.layer.unique()].to_numpy()


def draw(axes: Axes, shown: pd.DataFrame, column: str, cmap: str, limits: tuple[float, float]) -> None:
    """Fill a panel with the colours of a column of one target's rows."""
    values = grid(shown, column)
    layers, steps = values.shape
    how = {"cmap": cmap, "vmin": limits[0], "vmax": limits[1], "edgecolor": "white", "linewidth": 0.3}
    axes.pcolormesh(np.arange(steps + 1) + 0.5, np.arange(layers + 1) - 0.5, values, **how)
    parts = [layer[:3] for layer in shown.layer.unique()]  # enc, mid and dec
    for below, (upper, lower) in enumerate(pairwise(parts), start=1):
        if upper != lower:
            axes.axhline(below - 0.5, color="white", linewidth=2)


def mark_best(axes: Axes, shown: pd.DataFrame) -> None:
    """Mark the best layer of every step."""
    # Chosen on other images than those that are scored, so that no choice flatters a score.
    validation = grid(shown, "validation")
    known = ~np.isnan(validation).all(0)
    axes.plot(np.flatnonzero(known) + 1, np.nanargmax(validation[:, known], 0), linestyle="", **BEST)


def strike(axes: Axes, shown: pd.DataFrame, column: str) -> None:
    """Strike through the cells whose interval includes 0."""
    low, high = grid(shown, f"{column}_low"), grid(shown, f"{column}_high")
    layers, steps = np.nonzero((low <= 0) & (high >= 0))
    axes.plot(steps + 1, layers, linestyle="", **STROKE)


def colour_bar(figure: Figure, axes: Axes, name: str) -> None:
    """A colour bar below a panel, narrower by as much as its outer numbers may stick out."""
    box = axes.get_position()
    height, inset = figure.get_figheight(), INSET / WIDTH
    bar = figure.add_axes((box.x0 + inset, box.y0 - (STEPS + BAR) / height, box.width - 2 * inset, BAR / height))
    figure.colorbar(axes.collections[0], cax=bar, orientation="horizontal")
    low, high = axes.collections[0].get_clim()
    bar.set_xticks([tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high])
    bar.tick_params(length=2, width=0.6, pad=1.5)
    bar.spines[:].set_visible(False)
    bar.set_xlabel(name, labelpad=2)


def key(figure: Figure, entries: int) -> None:
    """What the first marks mean, at the bottom."""
    shown = list(KEY.items())[:entries]
    handles = [Line2D([], [], linestyle="", **how) for _, how in shown]
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "ncols": entries}
    figure.legend(handles, [name for name, _ in shown], **place, frameon=False, handletextpad=0.2, borderaxespad=0.2)

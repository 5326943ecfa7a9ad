"""What the figures share: fonts, colours, how pictures are placed, and how a figure is saved.

Figures are laid out in inches from their top left corner, because most of them are grids of pictures
whose size should not depend on how many there are.
"""

import re
from math import ceil
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

TARGETS = ("saliency", "depth", "shading")
SCORE_NAMES = {"saliency": "Dice", "depth": "Spearman’s ρ", "shading": "Spearman’s ρ"}
COLORMAPS = {"saliency": "cividis", "depth": "magma", "shading": "gray"}
# From Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"probe": "#0072B2", "ridge": "#D55E00", "position": "#8c8c8c", "mean_map": "#1a1a1a", "random": "#009E73"}
INK, FAINT, HAIRLINE = "#1a1a1a", "#6b6b6b", "#c8c8c8"
TITLE, BODY, SMALL = 9.0, 8.0, 7.0  # sizes of text in points
LINE = 1.3  # from one line of text to the next, as a multiple of its size
FONT = "DejaVu Sans"  # comes with matplotlib, so it is the same everywhere
DPI = 300
CELL = 128 / DPI  # a small picture, in inches: 128 dots enlarge grids of 8, 16, 32 and 64 evenly
PICTURE = 3 * CELL

# Starts from matplotlib's defaults, so that a reader's own matplotlibrc changes nothing. Prompts may
# hold dollar signs, hence no mathematics in texts.
styled = matplotlib.style.context(
    {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.labelsize": BODY,
        "axes.linewidth": 0.6,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": TITLE,
        "figure.dpi": DPI,
        "font.family": FONT,
        "font.size": BODY,
        "legend.fontsize": BODY,
        "svg.hashsalt": "scenescope",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "xtick.labelsize": SMALL,
        "ytick.color": INK,
        "ytick.labelsize": SMALL,
    },
    after_reset=True,
)


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the path's suffix. The same figure gives the same bytes."""
    path = Path(path)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=metadata)


def display_range(target: str, values: np.ndarray) -> tuple[float, float]:
    """The values shown as the darkest and the brightest colour: for saliency 0 and 1, else nearly the extremes."""
    if target == "saliency":
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])  # a few stray tokens should not grey out all the others
    return float(low), float(high)


def show(figure: Figure, picture: np.ndarray, left: float, top: float, size: float, **how) -> Axes:
    """Place a picture [h, w] or [h, w, 3] in a square of ``size`` inches, its top left corner at (left, top)."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + size) / height, size / width, size / height))
    axes.imshow(picture, **how)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.4, color=HAIRLINE)
    return axes


def colours(target: str, limits: tuple[float, float]) -> dict:
    """How to show a map of one target: its colours and the values at their ends."""
    return {"cmap": COLORMAPS[target], "vmin": limits[0], "vmax": limits[1]}


def show_tokens(
    figure: Figure, target: str, values: np.ndarray, limits: tuple[float, float], left: float, top: float, size: float
) -> Axes:
    """Place a probe's answer [tokens high, tokens wide]."""
    # One number per token: neighbours must not blend into detail that is not there.
    return show(figure, values, left, top, size, interpolation="nearest", **colours(target, limits))


def show_label(figure: Figure, target: str, label: np.ndarray, left: float, top: float, size: float) -> Axes:
    """Place a label [height, width] of one target."""
    return show(figure, label, left, top, size, **colours(target, display_range(target, label)))


def write(figure: Figure, text: str, left: float, baseline: float, **how) -> Text:
    """Write a line of text that starts at (left, baseline) inches, unless it is told another alignment."""
    return figure.text(left, figure.get_figheight() - baseline, text, transform=figure.dpi_scale_trans, **how)


def write_lines(figure: Figure, lines: list[str], left: float, top: float, size: float, **how) -> None:
    """Write lines of text below each other."""
    # Not as one text: matplotlib's distance between lines depends on their letters.
    for number, line in enumerate(lines, start=1):
        write(figure, line, left, top + text_height(number, size) - 0.3 * size / 72, size=size, **how)


def rule(figure: Figure, start: tuple[float, float], stop: tuple[float, float], thickness: float, colour: str) -> None:
    """Draw a straight line between two points given as (left, top) in inches."""
    height = figure.get_figheight()
    (x0, y0), (x1, y1) = start, stop
    ends = {"xdata": [x0, x1], "ydata": [height - y0, height - y1]}
    figure.add_artist(
        Line2D(**ends, transform=figure.dpi_scale_trans, linewidth=thickness, color=colour, solid_capstyle="butt")
    )


def text_width(text: str, size: float) -> float:
    """The width in inches of a line of text of ``size`` points."""
    return TextToPath().get_text_width_height_descent(text, FontProperties(family=FONT, size=size), False)[0] / 72


def text_height(lines: int, size: float) -> float:
    """The height in inches of so many lines of text of ``size`` points."""
    return lines * LINE * size / 72


def step_ticks(steps: int) -> range:
    """The steps, counted from 1, whose numbers stand on an axis: eight at most."""
    return range(1, steps + 1, ceil(steps / 8))


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break text of ``size`` points into lines of at most ``width`` inches, at spaces and inside dotted names."""
    lines = [""]
    for piece in re.findall(r" ?(?:[^ .]*\.(?=\w)|[^ ]+)", " ".join(text.split())):
        if lines[-1] and text_width(lines[-1] + piece, size) > width:
            lines.append(piece.lstrip())
        else:
            lines[-1] += piece
    return lines

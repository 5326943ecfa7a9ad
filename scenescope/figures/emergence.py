"""The paper's Figures 1 and 4: the scene in the activations while the picture is still noise."""

import numpy as np
from matplotlib.figure import Figure

from scenescope.figures.style import (
    BODY,
    CELL,
    FAINT,
    HAIRLINE,
    SMALL,
    TARGETS,
    display_range,
    rule,
    show,
    show_label,
    show_tokens,
    styled,
    text_height,
    text_width,
    wrap,
    write,
    write_lines,
)

MOST_STEPS = 15  # more columns than this would not fit a page
MARGIN, GAP, BREAK = 0.06, 0.02, 0.14  # inches: around the figure, between pictures, before the labels


def shown_steps(steps: int) -> np.ndarray:
    """The steps that get a column, counted from 1: all, or an even selection with the first and the last."""
    return np.linspace(1, steps, min(steps, MOST_STEPS)).astype(int)


@styled
def emergence(
    decoded: np.ndarray,
    predictions: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    prompt: str,
    layer: str,
) -> Figure:
    """The image and every target, step by step, beside the answer of the label models.

    decoded: uint8 [steps, height, width, 3], the image decoded from the latent after each step, the last
    one final. predictions: per target [steps, tokens high, tokens wide]. labels: per target [height, width].
    Predictions and labels may be on different scales, so either has limits of its own, the same in a row.
    """
    steps = shown_steps(len(decoded))
    pitch = CELL + GAP
    rows = ("image", *TARGETS)
    left = MARGIN + max(text_width(row, BODY) for row in rows) + 0.08
    beside = left + len(steps) * pitch - GAP + BREAK  # where the column of labels starts
    width = beside + CELL + MARGIN
    prompt_lines = wrap(f"“{prompt}”", 0.97 * (width - left - MARGIN), BODY)
    layer_lines = wrap(layer, 0.97 * (width - left - MARGIN), SMALL)
    layer_top = MARGIN + text_height(len(prompt_lines), BODY)
    numbers = layer_top + text_height(len(layer_lines), SMALL) + 0.18  # baseline of the steps' numbers
    top = numbers + 0.05
    bottom = top + len(rows) * pitch - GAP
    figure = Figure(figsize=(width, bottom + MARGIN))

    write_lines(figure, prompt_lines, left, MARGIN, BODY, style="italic")
    write_lines(figure, layer_lines, left, layer_top, SMALL, color=FAINT)
    write(figure, "step", left - 0.08, numbers, ha="right", color=FAINT)
    write(figure, "label", beside + CELL / 2, numbers, ha="center")
    for column, step in enumerate(steps):
        write(figure, str(step), left + column * pitch + CELL / 2, numbers, ha="center")
        show(figure, decoded[step - 1], left + column * pitch, top, CELL)
    show(figure, decoded[-1], beside, top, CELL)
    for row, target in enumerate(TARGETS, start=1):
        limits = display_range(target, predictions[target])
        for column, step in enumerate(steps):
            values = predictions[target][step - 1]
            show_tokens(figure, target, values, limits, left + column * pitch, top + row * pitch, CELL)
        show_label(figure, target, labels[target], beside, top + row * pitch, CELL)
    for row, name in enumerate(rows):
        write(figure, name, left - 0.08, top + row * pitch + CELL / 2, ha="right", va="center")
    rule(figure, (beside - BREAK / 2, top), (beside - BREAK / 2, bottom), 0.6, HAIRLINE)
    return figure

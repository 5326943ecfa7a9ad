"""The paper's Figure 2: what the label models see in finished images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scenescope.figures.style import (
    BODY,
    PICTURE,
    TARGETS,
    show,
    show_label,
    styled,
    text_height,
    wrap,
    write,
    write_lines,
)

MARGIN, GAP = 0.06, 0.04  # inches
PROMPT = 1.35  # width of the column of prompts
MOST_LINES = int(PICTURE / text_height(1, BODY))


@styled
def labelled(images: np.ndarray, labels: dict[str, np.ndarray], prompts: Sequence[str]) -> Figure:
    """A row for each image: its prompt, itself, and its label for every target.

    images: uint8 [images, height, width, 3]. labels: per target [images, height, width].
    """
    pitch = PICTURE + GAP
    names = ("image", *TARGETS)
    left = MARGIN + PROMPT + 0.16
    top = MARGIN + 0.2
    width, height = left + len(names) * pitch - GAP + MARGIN, top + len(images) * pitch - GAP + MARGIN
    figure = Figure(figsize=(width, height))

    for column, name in enumerate(names):
        write(figure, name, left + column * pitch + PICTURE / 2, top - 0.06, ha="center")
    for row, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        lines = wrap(prompt, PROMPT, BODY)
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1] + " …"]
        y = top + row * pitch
        above = y + (PICTURE - text_height(len(lines), BODY)) / 2
        write_lines(figure, lines, MARGIN, above, BODY, style="italic")
        show(figure, image, left, y, PICTURE)
        for column, target in enumerate(TARGETS, start=1):
            show_label(figure, target, labels[target][row], left + column * pitch, y, PICTURE)
    return figure

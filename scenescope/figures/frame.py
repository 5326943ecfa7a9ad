"""One step as one picture, to leaf through the steps with a slider, or all of them as an animation.

python -m scenescope.figures.frame plots/images/IMAGE docs/steps.webp
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from scenescope.figures.style import DPI, PICTURE, SMALL, TARGETS, TITLE, show, show_label, show_tokens, styled, write

MARGIN, GAP = 0.06, 0.04  # inches


@styled
def frame(
    step: int,
    steps: int,
    decoded: np.ndarray,
    predictions: dict[str, np.ndarray],
    seen: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    limits: dict[str, tuple[float, float]],
) -> Figure:
    """Two ways to see the scene at one step, above the final image and its labels.

    decoded: uint8 [height, width, 3], the image after this step. predictions: the probes', per target [tokens high,
    tokens wide]. seen: what the label models make of ``decoded``, per target [height, width]. labels: of the final
    image, per target [height, width], and "image" uint8 [height, width, 3]. limits: per target the lowest and
    highest prediction to show, the same for all steps so that colours do not flicker.
    """
    pitch = PICTURE + GAP
    names = ("image", *TARGETS)
    left, top = MARGIN + 0.2, MARGIN + 0.4
    width, height = left + len(names) * pitch - GAP + MARGIN, top + 3 * pitch - GAP + MARGIN
    figure = Figure(figsize=(width, height), dpi=DPI / 2)

    write(figure, f"step {step} of {steps}", left, MARGIN + 0.12, size=TITLE, weight="bold")
    for column, name in enumerate(names):
        write(figure, name, left + column * pitch + PICTURE / 2, top - 0.06, ha="center")
    show(figure, decoded, left, top, PICTURE)
    show(figure, decoded, left, top + pitch, PICTURE)
    show(figure, labels["image"], left, top + 2 * pitch, PICTURE)
    for column, target in enumerate(TARGETS, start=1):
        x = left + column * pitch
        show_tokens(figure, target, predictions[target], limits[target], x, top, PICTURE)
        show_label(figure, target, seen[target], x, top + pitch, PICTURE)
        show_label(figure, target, labels[target], x, top + 2 * pitch, PICTURE)
    for row, name in enumerate(("probes, this step", "label models, this step", "label models, in the end")):
        middle = top + row * pitch + PICTURE / 2
        write(figure, name, MARGIN + 0.08, middle, size=SMALL, rotation=90, ha="center", va="center")
    return figure


def animate(frames: list[Path], path: Path) -> None:
    """All steps as one animated WebP, half a second each, the last for two seconds."""
    pictures = [Image.open(frame).convert("RGB") for frame in frames]
    times = [500] * (len(pictures) - 1) + [2000]
    options = {"quality": 80, "method": 6, "minimize_size": True}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, **options)


if __name__ == "__main__":
    # Not a figure of the study's own: dvc plots shows no WebP, and a GIF of its size has too few colours.
    animate(sorted(Path(sys.argv[1]).glob("*.png"), key=lambda path: int(path.stem)), Path(sys.argv[2]))

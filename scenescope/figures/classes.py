"""The paper's Figures 5 and 6: what a classifier makes of the half-denoised image, step by step."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scenescope.figures.style import (
    BODY,
    COLOURS,
    FAINT,
    HAIRLINE,
    SMALL,
    show,
    step_ticks,
    styled,
    text_height,
    wrap,
    write,
    write_lines,
)

KINDS = {"zt": "zₜ, decoded", "x0": "predicted x₀, decoded"}
RIVALS = ("#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's: the strongest of the other classes
NAMED = 0.15  # probability that a class has to reach once to be named
LEFT, GUTTER, PANEL, HEIGHT, MARGIN, KEY = 0.5, 0.35, 3.15, 1.05, 0.06, 0.36  # inches; KEY is two lines of names


@styled
def classes_chart(top5: pd.DataFrame, pictures: dict[str, np.ndarray]) -> Figure:
    """A row for each prompt, a panel for each kind of image: probability by step of all that was ever in the top five.

    top5: prompt_id, prompt, class, seen, step, rank, name, probability. A class that has left the top five is drawn
    at no probability there. pictures: per prompt_id, uint8 [2, steps, height, width, 3], in the order of ``KINDS``.
    """
    steps = int(top5["step"].max())
    cell = PANEL / steps
    texts = {name: wrap(f"“{rows['prompt'].iloc[0]}”", 2 * PANEL, BODY) for name, rows in top5.groupby("prompt_id")}
    caption = max(text_height(len(texts[name]), BODY) for name in pictures)
    pitch = caption + 0.2 + cell + KEY + HEIGHT + 0.5
    figure = Figure(figsize=(LEFT + 2 * PANEL + GUTTER + 2 * MARGIN, len(pictures) * pitch + 0.1))
    width, height = figure.get_size_inches()
    for row, (name, images) in enumerate(pictures.items()):
        top = MARGIN + row * pitch
        write_lines(figure, texts[name], LEFT, top, BODY, style="italic")
        for column, (kind, title) in enumerate(KINDS.items()):
            left = LEFT + column * (PANEL + GUTTER)
            strip = top + caption + 0.2
            write(figure, title, left, strip - 0.05, size=SMALL, color=FAINT)
            for step in range(steps):
                show(figure, images[column, step], left + step * cell + 0.01, strip, cell - 0.02)
            upper = strip + cell + KEY
            panel = figure.add_axes((left / width, 1 - (upper + HEIGHT) / height, PANEL / width, HEIGHT / height))
            _curves(panel, top5[(top5["prompt_id"] == name) & (top5["seen"] == kind)], steps)
            panel.set_ylabel("probability" if column == 0 else "")
            panel.yaxis.set_tick_params(labelleft=column == 0)
            panel.set_xlabel("denoising step" if row == len(pictures) - 1 else "")
    return figure


def _curves(panel, shown: pd.DataFrame, steps: int) -> None:
    prompted = shown["class"].iloc[0]
    by_step = shown.pivot_table(index="step", columns="name", values="probability", fill_value=0.0)
    by_step = by_step.reindex(range(1, steps + 1), fill_value=0.0)
    by_step = by_step[by_step.max().sort_values(ascending=False, kind="stable").index]
    rivals = [name for name in by_step if name != prompted and by_step[name].max() >= NAMED][: len(RIVALS)]
    for name in by_step:
        if name not in (prompted, *rivals):
            panel.plot(by_step.index, by_step[name], color=HAIRLINE, linewidth=0.6, clip_on=False)
    named = {name: (colour, 1.0) for name, colour in zip(rivals, RIVALS, strict=False)}
    if prompted in by_step:
        named[prompted] = COLOURS["probe"], 1.8
    for name, (colour, line) in named.items():
        label = name.split(",")[0]  # of ImageNet's names, which list synonyms, the first
        panel.plot(by_step.index, by_step[name], color=colour, linewidth=line, clip_on=False, label=label)
    panel.set_xlim(0.5, steps + 0.5)  # a step below its picture
    panel.set_ylim(0, 1)
    panel.set_xticks(step_ticks(steps))
    panel.set_yticks([0, 0.5, 1])
    if named:
        order = panel.get_legend_handles_labels()
        where = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.98), "borderaxespad": 0.2, "labelspacing": 0.25}
        panel.legend(*(p[::-1] for p in order), ncols=2, frameon=False, fontsize=SMALL, handlelength=1.2, **where)

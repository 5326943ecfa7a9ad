"""The tables, typeset as in a book: rules above, below and under the head, and none between cells."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scenescope.figures.style import BODY, FAINT, INK, SMALL, rule, styled, text_width, write

MARGIN, GAP, ROW = 0.08, 0.2, 0.2  # inches: around the table, between columns, from one row to the next
SPACE = 0.05  # inches between a number and its interval
THICK, THIN = 0.9, 0.5  # rules, in points
SCORES = {
    "saliency": {"saliency_dice": "Dice"},
    "depth": {"depth_spearman": "Spearman", "depth_pearson": "Pearson"},
    "shading": {"shading_spearman": "Spearman", "shading_pearson": "Pearson"},
}


def widest(texts: Iterable[str], size: float = BODY) -> float:
    """The width in inches that a column of texts needs."""
    return 1.03 * max(text_width(text, size) for text in texts)  # letters on whole dots are a little wider


def sheet(widths: list[float], rows: int) -> tuple[Figure, np.ndarray]:
    """A blank figure for so many rows, and where columns of such widths start and stop [columns, 2], in inches."""
    starts = MARGIN + np.cumsum([0, *widths[:-1]]) + GAP * np.arange(len(widths))
    stops = starts + widths
    return Figure(figsize=(stops[-1] + MARGIN, 2 * MARGIN + rows * ROW)), np.stack([starts, stops], axis=1)


def across(figure: Figure, row: int, thickness: float, start: float = MARGIN, stop: float | None = None) -> None:
    """A rule above a row, over the whole width unless told where to start and stop."""
    stop = figure.get_figwidth() - MARGIN if stop is None else stop
    rule(figure, (start, MARGIN + row * ROW), (stop, MARGIN + row * ROW), thickness, INK)


def cell(figure: Figure, row: int, text: str, left: float, **how) -> None:
    """A text in a row."""
    write(figure, text, left, MARGIN + (row + 0.69) * ROW, **how)


@styled
def table1(layers: pd.DataFrame) -> Figure:
    """The self-attention layers that are probed.

    layers: columns layer, module, tokens, channels and upsampling, one row per layer.
    """
    columns = [[name, *map(str, layers[name])] for name in layers]
    figure, spans = sheet([widest(column) for column in columns], len(layers) + 1)
    for name, column, (start, stop) in zip(layers, columns, spans, strict=True):
        number = pd.api.types.is_numeric_dtype(layers[name])
        for row, text in enumerate(column):
            cell(figure, row, text, stop if number else start, ha="right" if number else "left")
    across(figure, 0, THICK)
    across(figure, 1, THIN)
    across(figure, len(layers) + 1, THICK)
    return figure


@styled
def table2(rows: pd.DataFrame) -> Figure:
    """How well each model's activations tell the scene, as the paper reports it and as measured here.

    rows: columns published (bool, whether the paper reports this row), model, method, and those of SCORES,
    whose cells are texts such as "0.85 [0.84, 0.86]", "0.85" or "–".
    """
    groups = [("published in the paper", rows[rows.published], FAINT), ("measured here", rows[~rows.published], INK)]
    groups = [group for group in groups if len(group[1])]
    heads = {key: head for group in SCORES.values() for key, head in group.items()}
    parts = {key: [text.partition(" ")[::2] for text in rows[key]] for key in heads}  # numbers and intervals
    numbers = {key: widest(number for number, _ in parts[key]) for key in heads}
    intervals = {key: SPACE + widest((interval for _, interval in parts[key]), SMALL) for key in heads}
    widths = {name: widest([name, *rows[name]]) for name in ("model", "method")}
    widths |= {key: max(widest([head]), numbers[key] + intervals[key]) for key, head in heads.items()}
    figure, spans = sheet(list(widths.values()), 2 + len(groups) + len(rows))
    starts, stops = (dict(zip(widths, ends, strict=True)) for ends in spans.T)

    across(figure, 0, THICK)
    for target, group in SCORES.items():
        start, stop = min(starts[key] for key in group), max(stops[key] for key in group)
        cell(figure, 0, target, (start + stop) / 2, ha="center")
        across(figure, 1, THIN, start, stop)
    for key in widths:
        cell(figure, 1, heads.get(key, key), starts[key])
    row = 2
    for title, group, colour in groups:
        across(figure, row, THIN)
        cell(figure, row, title, MARGIN, style="italic", color=FAINT)
        for record in group.to_dict("records"):
            row += 1
            for name in ("model", "method"):
                cell(figure, row, record[name], starts[name], color=colour)
            for key in heads:
                number, _, interval = record[key].partition(" ")
                middle = starts[key] + numbers[key]
                cell(figure, row, number, middle, ha="right", color=colour)
                cell(figure, row, interval, middle + SPACE, size=SMALL, color=FAINT)
        row += 1
    across(figure, row, THICK)
    return figure

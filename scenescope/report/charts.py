"""Line charts as SVG. Colours are the stylesheet's, by class, so that they turn with light and dark."""

from dataclasses import dataclass, field
from math import floor, log2

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from scenescope.figures.style import SCORE_NAMES, TARGETS, step_ticks

WIDTH, HEIGHT = 340, 224
LEFT, RIGHT, TOP, BOTTOM = 30, 332, 12, 186  # of the plot
ONSET_ROWS = ("position", "zt", "x0", "probe")  # the last drawn lies on top
METHODS = ("random", "mean_map", "position", "ridge", "probe")
SHAPES = {"probe": "square", "x0": "triangle", "zt": "circle", "position": "diamond"}  # the figures' markers


@dataclass(frozen=True)
class Line:
    """Points (x, value, low, high); and, if the line has an onset, its mark: x, low, high and value."""

    kind: str
    points: list[tuple[float, float, float, float]]
    mark: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Axes:
    """What x means: its ends, and the ticks with their names."""

    low: float
    high: float
    ticks: list[tuple[float, str]] = field(default_factory=list)
    name: str = "denoising step"


def onset_charts(scores: pd.DataFrame, onsets: dict) -> dict[str, Markup]:
    """By target, scores by step of the probe, label models and position, with every row's onset."""
    axes = steps_axis(scores.step.max())
    bottom = lowest(scores.low)
    charts = {}
    for target in TARGETS:
        lines = []
        for row in ONSET_ROWS:
            found, onset = scores[(scores.row == row) & (scores.target == target)], onsets[target][row]
            mark = None
            if onset["step"] is not None:
                value = found.score[found.step == onset["step"]].item()
                mark = (onset["step"], onset["low"], onset["high"], value)
            lines.append(Line(row, points(found, "step"), mark))
        charts[target] = draw(lines, axes, bottom, f"{target}: {SCORE_NAMES[target]} by step")
    return charts


def step_charts(curves: pd.DataFrame) -> dict[str, Markup]:
    """By target, scores by step of both probes and of their controls."""
    axes, bottom = steps_axis(curves.step.max()), lowest(curves.low)
    charts = {}
    for target in TARGETS:
        of = {m: curves[(curves.method == m) & (curves.target == target)].sort_values("step") for m in METHODS}
        lines = [Line(f"m-{method}", points(found, "step")) for method, found in of.items()]
        charts[target] = draw(lines, axes, bottom, f"{target}: {SCORE_NAMES[target]} by step")
    return charts


def rank_charts(ranks: dict[str, pd.DataFrame]) -> dict[str, Markup]:
    """By target, the score with only so many directions of the activations; a line for each step that was asked."""
    every = sorted({rank for table in ranks.values() for rank in table["rank"]})
    ticks = [(log2(rank), str(rank)) for rank in every if log2(rank).is_integer()]
    axes = Axes(log2(every[0]), log2(every[-1]), ticks, "directions kept of the activations")
    bottom = lowest(pd.concat([table.low for table in ranks.values()]))
    charts = {}
    for target, table in ranks.items():
        lines = [
            Line(f"rank-{number}", points(found.assign(x=np.log2(found["rank"])), "x"))
            for number, (_, found) in enumerate(table.groupby("step"))
        ]
        charts[target] = draw(lines, axes, bottom, f"{target}: {SCORE_NAMES[target]} by number of directions")
    return charts


def class_chart(found: pd.DataFrame) -> Markup:
    """The share of images that the classifier takes for the prompted class, by step, for both kinds of picture."""
    lines = [
        Line(kind, points(found[found.seen == kind].rename(columns={"accuracy": "score"}), "step"))
        for kind in ("zt", "x0")
    ]
    return draw(lines, steps_axis(found.step.max()), 0.0, "Share of pictures named as prompted, by step")


def steps_axis(steps: int) -> Axes:
    return Axes(1, steps, [(step, str(step)) for step in step_ticks(steps)])


def lowest(values: pd.Series) -> float:
    """Where the axis of scores starts: at 0, or at a round number below it."""
    return min(0.0, floor(values.min() * 10) / 10)


def points(table: pd.DataFrame, x: str) -> list[tuple[float, float, float, float]]:
    """Rows that have a score, as points."""
    return list(table[[x, "score", "low", "high"]].dropna().itertuples(index=False, name=None))


def draw(lines: list[Line], axes: Axes, bottom: float, title: str) -> Markup:
    """The chart as an <svg>; ``title`` is for those who cannot see it."""
    span = axes.high - axes.low or 1

    def x(value: float) -> float:
        return round(LEFT + (value - axes.low) / span * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - bottom) / (1 - bottom) * (BOTTOM - TOP), 1)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in (level / 5 for level in range(round(bottom * 5), 6)):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 3.5}" text-anchor="end">{value:.1f}</text>')
    for value, name in axes.ticks:
        parts.append(f'<text x="{x(value)}" y="{BOTTOM + 16}" text-anchor="middle">{name}</text>')
    parts.append(
        f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle" class="axis">{axes.name}</text>'
    )
    for line in lines:
        there, back = ([(x(p[0]), y(p[end])) for p in line.points] for end in (2, 3))
        parts.append(f'<polygon class="band {line.kind}" points="{joined(there + back[::-1])}"/>')
    for line in lines:
        shown = [(x(p[0]), y(p[1])) for p in line.points]
        parts.append(f'<polyline class="line {line.kind}" points="{joined(shown)}"/>')
    for line in lines:
        if line.mark:
            step, low, high, value = line.mark
            parts.append(
                f'<line class="reach {line.kind}" x1="{x(low)}" x2="{x(high)}" y1="{y(value)}" y2="{y(value)}"/>'
            )
            parts.append(marker(line.kind, x(step), y(value)))
    return Markup("".join(parts) + "</svg>")


def marker(kind: str, x: float, y: float, r: float = 4.5) -> str:
    """The mark of a row: shapes differ, for those who cannot tell the colours."""
    shape = SHAPES[kind]
    if shape == "circle":
        return f'<circle class="mark {kind}" cx="{x}" cy="{y}" r="{r}"/>'
    corners = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }[shape]
    return f'<polygon class="mark {kind}" points="{joined([(x + r * i, y + r * j) for i, j in corners])}"/>'


def key(kind: str) -> Markup:
    """A sample of a line, for the legend."""
    sample = f'<line class="line {kind}" x1="1" x2="31" y1="7" y2="7"/>' + (
        marker(kind, 16, 7) if kind in SHAPES else ""
    )
    return Markup(f'<svg class="key" viewBox="0 0 32 14" aria-hidden="true">{sample}</svg>')


def joined(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def lane(onset: dict, kind: str, steps: int) -> Markup:
    """One row's onset on a track from the first step to the last."""
    left, right, middle = 8, 292, 8

    def x(step: float) -> float:
        return round(left + (step - 1) / max(steps - 1, 1) * (right - left), 1)

    ticks = "".join(f'<circle class="tick" cx="{x(step)}" cy="{middle}" r="1.3"/>' for step in range(1, steps + 1))
    found = ""
    if onset["step"] is not None:
        ends = f'x1="{x(onset["low"])}" x2="{x(onset["high"])}" y1="{middle}" y2="{middle}"'
        found = f'<line class="reach {kind}" {ends}/>' + marker(kind, x(onset["step"]), middle, 5)
    return Markup(f'<svg class="lane" viewBox="0 0 300 16" aria-hidden="true">{ticks}{found}</svg>')

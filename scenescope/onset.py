"""When a score sets in: the first step at which it reaches a share of what it ends at.

Of a row, which is whatever has a score of every test image at every step, the curve is the mean over the images
whose score is defined at that step. Its onset is the first step, counted from 1, that reaches the share of the
curve's own last value; it need not stay there. A row whose last value is not above zero, by the 95 % interval of it,
has no onset (NaN): there is nothing that it could be on its way to.

Intervals come from resamples of images that are the same for every row, so that a difference of two onsets is
paired. An onset is a whole step, and so are the ends of its interval: rounded outwards.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scenescope.bootstrap import Resamples, summary

ROUNDING = 1e-9  # of sums over images: the same score at every step is there at the first
LATER = ("zt", "x0", "position")  # rows whose onset the probe's is compared with
ABOVE = ("probe", "zt", "x0")  # rows whose onset above position is shown


@dataclass(frozen=True)
class Curve:
    """A score by step: its value [steps], and that in every resample of the images [steps, R]."""

    value: np.ndarray
    resampled: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, drawn: Resamples) -> "Curve":
        """The mean over images of scores [steps, N]; NaN where an image has none, and where none has one."""
        return cls(np.array([drawn.interval(at_step)[0] for at_step in scores]), drawn.means(scores))

    def __sub__(self, lesser: "Curve") -> "Curve":
        return Curve(self.value - lesser.value, self.resampled - lesser.resampled)

    def intervals(self) -> list[tuple[float, float, float]]:
        """Value, low and high at every step."""
        return [summary(value, of) for value, of in zip(self.value, self.resampled, strict=True)]


@dataclass(frozen=True)
class Onset:
    """A step, or a number of steps, and that in every resample [R]; NaN where there is none."""

    step: float
    resampled: np.ndarray

    @classmethod
    def of(cls, curve: Curve, share: float) -> "Onset":
        """The first step at which a curve reaches a share, above 0 and at most 1, of its last value."""
        _, low, _ = curve.intervals()[-1]
        if not low > 0:
            return cls(math.nan, np.full(curve.resampled.shape[1], math.nan))
        return cls(float(first_reaching(curve.value, share)), first_reaching(curve.resampled, share))

    def __sub__(self, earlier: "Onset") -> "Onset":
        return Onset(self.step - earlier.step, self.resampled - earlier.resampled)

    def interval(self, name: str) -> dict[str, int | None]:
        """NAME, low and high, the 95 % interval; None where there is no onset."""
        if math.isnan(self.step) or np.isnan(self.resampled).all():
            return {name: None, "low": None, "high": None}
        low = np.nanquantile(self.resampled, 0.025, method="lower")
        high = np.nanquantile(self.resampled, 0.975, method="higher")
        return {name: int(self.step), "low": int(low), "high": int(high)}


def first_reaching(curves: np.ndarray, share: float) -> np.ndarray:
    """The first step [...], from 1, of curves [steps, ...] that reaches a share of the last; NaN if that is not > 0."""
    last = curves[-1]
    reached = curves >= share * last - ROUNDING * np.abs(last)  # never where a score is NaN
    return np.where(last > 0, reached.argmax(0) + 1.0, math.nan)


def tabulate(scores: dict[str, dict[str, np.ndarray]], share: float, drawn: Resamples) -> pd.DataFrame:
    """From {row: {target: [steps, N]}} a table by row, target and step.

    Columns: score with low and high; undefined, the number of images that have none; onset, 1 at the row's and else 0.
    """
    lines = []
    for row, by_target in scores.items():
        for target, values in by_target.items():
            curve = Curve.of(values, drawn)
            onset = Onset.of(curve, share).step
            for step, (score, low, high) in enumerate(curve.intervals(), start=1):
                line = {"row": row, "target": target, "step": step, "score": score, "low": low, "high": high}
                lines.append(line | {"undefined": int(np.isnan(values[step - 1]).sum()), "onset": int(step == onset)})
    return pd.DataFrame(lines)


def headline(
    scores: dict[str, dict[str, np.ndarray]], share: float, drawn: Resamples, classified: dict[str, Onset]
) -> dict[str, dict]:
    """By target, from {row: {target: [steps, N]}} with the rows probe, zt, x0 and position, and any others:

    - ROW: its onset, its score at the last step, and the part of it that step 1 has already;
    - probe_before_ROW: by how many steps the probe's onset is earlier, paired;
    - probe_before_classifier_KIND: the same against the steps in ``classified``, which come from other images;
    - above_position: onsets of what ROW scores more than position at the same step. A score that position gives
      away, which is there at step 1 for free, does not count in them;
    - position_share: position's last score as a part of the probe's. From the share on, position alone would pass
      for an onset of the probe at step 1.
    """
    found = {}
    for target in scores["probe"]:
        curves = {row: Curve.of(by_target[target], drawn) for row, by_target in scores.items()}
        onsets = {row: Onset.of(curve, share) for row, curve in curves.items()}
        above = {row: Onset.of(curves[row] - curves["position"], share) for row in ABOVE}
        found[target] = {
            row: onset.interval("step") | {"last": curves[row].value[-1], "at_step_1": part(curves[row])}
            for row, onset in onsets.items()
        }
        found[target] |= {f"probe_before_{row}": (onsets[row] - onsets["probe"]).interval("steps") for row in LATER}
        found[target] |= {
            f"probe_before_classifier_{kind}": (step - onsets["probe"]).interval("steps")
            for kind, step in classified.items()
        }
        found[target]["above_position"] = {row: onset.interval("step") for row, onset in above.items()}
        found[target]["position_share"] = curves["position"].value[-1] / curves["probe"].value[-1]
    return found


def part(curve: Curve) -> float:
    """A curve's first value as a part of its last; NaN where that is not above zero."""
    return curve.value[0] / curve.value[-1] if curve.value[-1] > 0 else math.nan

"""When does a classifier know what a prompt names? From its probabilities at every step of every image.

An image is settled at the first step from which on the prompted class stays the most probable one, up to the last
step. The step by which half of the images are settled stands for all of them, an image that never settles included.
"""

import math

import numpy as np
import pandas as pd

from scenescope.bootstrap import Resamples
from scenescope.onset import Onset

TOP = 5
KINDS = ("zt", "x0")  # what was classified: the decoded latent before a step, and the decoded clean one it predicts


def is_top(probabilities: np.ndarray, prompted: np.ndarray) -> np.ndarray:
    """Whether the most probable class is the prompted one [N, ...], for probabilities [N, ..., classes]."""
    top = probabilities.argmax(-1)
    return top == prompted.reshape(-1, *[1] * (top.ndim - 1))


def settled_at(right: np.ndarray) -> np.ndarray:
    """The step [N], from 1, from which on ``right`` [N, steps] stays true; NaN where the last step is not."""
    wrong_since = right[:, ::-1].argmin(1)  # steps after the last wrong one
    steps = right.shape[1]
    first = np.where(right.all(1), 1, steps - wrong_since + 1)
    return np.where(right[:, -1], first, math.nan)


def half_settled(settled: np.ndarray, steps: int, drawn: Resamples) -> Onset:
    """The first step by which half of the images are settled, and that in every resample; NaN where there is none."""
    by_now = (settled <= np.arange(1, steps + 1)[:, None]).astype(np.float64)

    def first(share: np.ndarray) -> np.ndarray:
        reached = share >= 0.5
        return np.where(reached.any(0), reached.argmax(0) + 1.0, math.nan)

    return Onset(float(first(by_now.mean(1))), first(drawn.means(by_now)))


def tabulate(probabilities: np.ndarray, prompted: np.ndarray, drawn: Resamples) -> pd.DataFrame:
    """From probabilities [N, 2, steps, classes] a table by ``KINDS`` and step.

    Columns: accuracy, the share of images whose most probable class is the prompted one, with low and high; and
    probability, the mean over images of the prompted class's own.
    """
    right = is_top(probabilities, prompted)
    own = np.take_along_axis(probabilities, prompted[:, None, None, None], -1)[..., 0]
    lines = []
    for k, kind in enumerate(KINDS):
        for step in range(right.shape[2]):
            accuracy, low, high = drawn.interval(right[:, k, step].astype(np.float64))
            line = {"seen": kind, "step": step + 1, "accuracy": accuracy, "low": low, "high": high}
            lines.append(line | {"probability": own[:, k, step].mean()})
    return pd.DataFrame(lines)


def headline(probabilities: np.ndarray, prompted: np.ndarray, drawn: Resamples) -> dict:
    """By ``KINDS``: the step by which half of the images are settled, the share that never is, the last accuracy."""
    right = is_top(probabilities, prompted)
    found = {"images": len(prompted), "classes": len(np.unique(prompted))}
    for k, kind in enumerate(KINDS):
        settled = settled_at(right[:, k])
        accuracy, low, high = drawn.interval(right[:, k, -1].astype(np.float64))
        found[kind] = half_settled(settled, right.shape[2], drawn).interval("step") | {
            "never": float(np.isnan(settled).mean()),
            "accuracy": {"last": accuracy, "low": low, "high": high},
        }
    return found


def settled(probabilities: np.ndarray, prompted: np.ndarray, prompts: pd.DataFrame) -> pd.DataFrame:
    """The prompts [N], with the step at which each image settled by kind, a column each; NaN where it never did."""
    right = is_top(probabilities, prompted)
    return prompts.assign(**{kind: settled_at(right[:, k]) for k, kind in enumerate(KINDS)})


def top_five(probabilities: np.ndarray, names: tuple[str, ...], prompts: pd.DataFrame) -> pd.DataFrame:
    """The five most probable classes of every image, kind and step, a row each.

    probabilities: [N, 2, steps, classes]. prompts: prompt_id, prompt, class and seed of the N images.
    """
    order = np.argsort(-probabilities, axis=-1, kind="stable")[..., :TOP]
    images, kinds, steps, ranks = (axis.ravel() for axis in np.indices(order.shape))
    table = prompts[["prompt_id", "prompt", "class", "seed"]].iloc[images].reset_index(drop=True)
    return table.assign(
        seen=np.array(KINDS)[kinds],
        step=steps + 1,
        rank=ranks + 1,
        name=np.array(names)[order.ravel()],
        probability=np.take_along_axis(probabilities, order, -1).ravel(),
    )

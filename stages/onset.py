"""When does the probe know, and when does a label model see it? The onsets of both, and of position alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from scenescope import classes, store
from scenescope.bootstrap import Resamples
from scenescope.onset import Onset, headline, tabulate
from scenescope.settings import TARGETS, Params, load_model_settings
from stages.common import CLASSIFIED, MAP, SEEN, run, write_metrics

SCORE = {"saliency": "dice", "depth": "spearman", "shading": "spearman"}


def onset(params: Params) -> None:
    scores = {
        "probe": series(MAP, f"network/{params.probe.layer}/{{target}}/{{score}}"),
        "zt": series(SEEN, "zt/{target}"),
        "x0": series(SEEN, "x0/{target}"),
        "position": series(MAP, "position/-/{target}/{score}"),
        "mean_map": series(MAP, "mean_map/-/{target}/{score}"),
    }
    steps, count = scores["probe"][TARGETS[0]].shape
    drawn = Resamples(count, params.scores.resamples, params.scores.seed)
    path = Path("plots/data/onset.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = tabulate(scores, params.onset.share, drawn)
    table.to_csv(path, index=False, float_format="%.5f", lineterminator="\n")
    judged = classified(params.scores.resamples, params.scores.seed + 1, steps)  # other images, drawn apart
    found = headline(scores, params.onset.share, drawn, judged)
    folder = Path("models") / params.model
    own = load_model_settings(folder).labels
    for target, known in label_models(folder / "card.json").items():
        if getattr(params.labels, target) == getattr(own, target):  # else the card speaks of another
            found[target]["label_model"] = known
    write_metrics("onset", found)


def classified(resamples: int, seed: int, steps: int) -> dict[str, Onset]:
    """By kind of image, the step by which the classifier has settled on half of its own images."""
    settled = pd.read_csv(CLASSIFIED / "settled.csv")
    drawn = Resamples(len(settled), resamples, seed)
    return {kind: classes.half_settled(settled[kind].to_numpy(), steps, drawn) for kind in classes.KINDS}


def series(folder: Path, name: str) -> dict[str, np.ndarray]:
    """By target, the scores [steps, test images] that every step's file has under a name."""
    steps = [store.read_npz(file) for file in sorted(folder.glob("step_*.npz"))]
    return {
        target: np.stack([found[name.format(target=target, score=score)] for found in steps])
        for target, score in SCORE.items()
    }


def label_models(card: Path) -> dict[str, dict[str, float]]:
    """By target, how well the model's own label models do where the truth is known, if its card says so.

    On test renders, and on those behind the autoencoder. The truth of generated images nobody knows.
    """
    known = json.loads(card.read_text()) if card.exists() else {}
    kinds = {"renders": "label_models_on_test_renders", "decoded_renders": "label_models_on_decoded_test_renders"}
    return {
        target: {kind: known[key][f"{target}_{score}"] for kind, key in kinds.items()}
        for target, score in SCORE.items()
        if all(f"{target}_{score}" in known.get(key, {}) for key in kinds.values())
    }


if __name__ == "__main__":
    run(onset)

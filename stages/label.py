"""Label every image with one target's label model: python -m stages.label TARGET."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from scenescope import store
from scenescope.settings import Params, load_model_settings
from stages.common import IMAGES, LABELS, PROMPTS, batches, read_images, read_table, run, workspace
from stages.opening import device_named


def label(params: Params) -> None:
    target = sys.argv[1]
    folder = Path("models") / params.model
    settings = load_model_settings(folder)
    labeler = import_module(f"scenescope.labelers.{getattr(settings.labels, target)}").load(
        target, folder, device_named(params.device)
    )
    names = read_table()["prompt_id"].tolist()

    def maps(rows: slice) -> np.ndarray:
        return np.concatenate([labeler(read_images(names[r])) for r in batches(rows, params.label.batch_size)])

    shape = (len(names), settings.image_size, settings.image_size)
    with workspace(LABELS / target, [PROMPTS, IMAGES, folder], params.label.batch_size) as scratch:
        store.fill(scratch, shape, "bool" if target == "saliency" else "float32", maps, desc=f"label {target}")


if __name__ == "__main__":
    run(label)

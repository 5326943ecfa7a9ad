"""Label every image with one target's label model: python -m stages.label TARGET."""

import sys
from pathlib import Path

import numpy as np

from scenescope import labelers, store
from scenescope.errors import UserError
from scenescope.parts import Part
from scenescope.settings import Params, load_model_settings
from stages.common import IMAGES, LABELS, PROMPTS, check_disk, read_images, read_table, workspace
from stages.opening import device_named, fitting
from stages.sharing import run_in_parts


def label(params: Params, part: Part) -> None:
    target = sys.argv[1]
    folder = Path("models") / params.model
    settings = load_model_settings(folder)
    names = read_table()["prompt_id"].tolist()
    shape = (len(names), settings.image_size, settings.image_size)
    dtype = "bool" if target == "saliency" else "float32"
    check_disk(LABELS / target, shape, dtype)

    spec = getattr(params.labels, target)
    labeler = labelers.opened({target: spec}, folder, device_named(params.device))[target]
    size = params.label.batch_size

    def maps(rows: slice) -> np.ndarray:
        found = labeler(read_images(names[rows], settings.image_size))
        for name, image in zip(names[rows], found, strict=True):
            if not np.isfinite(image).all():
                raise UserError(f"labels.{target}: {spec} gave numbers that are not finite for {IMAGES / name}.png")
        return found

    with (
        fitting("label.batch_size", size),
        workspace(LABELS / target, [PROMPTS, IMAGES, folder], [spec, size], part) as scratch,
    ):
        store.fill(scratch, shape, dtype, maps, desc=f"label {target}", batch_size=size, part=part)
    if part.whole and target != "saliency":
        say_constant(target)


def say_constant(target: str) -> None:
    """Print how many maps of a finished label have one value everywhere."""
    labels = store.open_whole(LABELS / target)
    flat = sum(int((np.ptp(store.read(labels, rows), (1, 2)) == 0).sum()) for rows in store.shards(labels))
    if flat:
        print(f"label {target}: {flat} of {labels.shape[0]} maps are constant: correlation with them is undefined, and")
        print("the metrics count such images")


if __name__ == "__main__":
    run_in_parts(label)

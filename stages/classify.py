"""Prompts that name a class, generated, decoded at every step and put before a classifier: when does it know?"""

from pathlib import Path

import numpy as np

from scenescope import classes, classifiers, diffusion, store
from scenescope.bootstrap import Resamples
from scenescope.prompts import read_classes
from scenescope.settings import Params
from scenescope.thumbnails import reduced, reduced_side
from stages.common import CLASSIFIED, check_disk, run, workspace, write_metrics
from stages.devices import device_named, fitting
from stages.opening import open_model


def classify(params: Params) -> None:
    folder = Path("models") / params.model
    spec, source = params.classify.classifier, Path(params.classify.prompts)
    names = classifiers.named(spec)[0].CLASSES
    table = read_classes(source, names)
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = open_model(params.model, params.device)
    classifier = classifiers.load(spec, folder, device_named(params.device))
    size = params.classify.batch_size
    count, side = len(table), reduced_side(model.image_size)
    check_disk(CLASSIFIED, (count, 2 * model.steps + 1, side, side, 3), "uint8")

    def seen(rows: slice) -> tuple[np.ndarray, ...]:
        passed, aimed = diffusion.sample_with_predictions(model, prompts[rows], seeds[rows])
        shown = [[diffusion.decode(model, latents) for latents in steps.unbind(1)] for steps in (passed[:, :-1], aimed)]
        probabilities, pictures = (
            np.moveaxis(np.array([[of(images) for images in kind] for kind in shown]), 2, 0)
            for of in (classifier, reduced)
        )
        return probabilities, pictures, reduced(diffusion.decode(model, passed[:, -1]))

    values = [spec, str(source), size, str(model.device)]
    with fitting("classify.batch_size", size), workspace(CLASSIFIED, [source, folder], values) as scratch:
        by_step = (count, len(classes.KINDS), model.steps)
        wanted = {
            scratch / "probabilities": ((*by_step, len(names)), "float32"),
            scratch / "pictures": ((*by_step, side, side, 3), "uint8"),
            scratch / "images": ((count, side, side, 3), "uint8"),
        }
        store.fill_together(wanted, seen, desc="classify", batch_size=size)
        probabilities = store.read(store.open_whole(scratch / "probabilities"), ...)
        prompted = np.array([names.index(name) for name in table["class"]])
        plain = {"index": False, "float_format": "%.5f", "lineterminator": "\n"}
        classes.top_five(probabilities, names, table).to_csv(scratch / "top5.csv", **plain)
        classes.settled(probabilities, prompted, table).to_csv(scratch / "settled.csv", **plain)

    drawn = Resamples(count, params.scores.resamples, params.scores.seed)
    path = Path("plots/data/classify.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    classes.tabulate(probabilities, prompted, drawn).to_csv(path, **plain)
    write_metrics("classify", classes.headline(probabilities, prompted, drawn))


if __name__ == "__main__":
    run(classify)

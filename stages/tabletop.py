"""Build the embedded model, one stage a call: python -m stages.tabletop STAGE.

The stages are those of models/tabletop/dvc.yaml, and so are their order and their files.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

from scenescope import diffusion, targets
from scenescope.classifiers import tabletop as class_net
from scenescope.labelers import tabletop as label_net
from scenescope.settings import TARGETS, load_model_settings
from scenescope.tabletop import labelling
from scenescope.tabletop.autoencoder import reconstruction_error, train_autoencoder
from scenescope.tabletop.card import class_accuracy, label_quality, layer_scores, named
from scenescope.tabletop.dataset import TEST_SEED, rendered, scenes_for
from scenescope.tabletop.denoiser import assemble, new_unet, train_denoiser
from scenescope.tabletop.labelling import TRUTH

HOME = Path("models/tabletop")
SCRATCH = HOME / ".scratch"
CURVES = HOME / "curves"


def training_scenes(params: dict):
    """The training scenes and their renders."""
    scenes = scenes_for(0, params["render"]["train"], keep_held_out=False)
    return scenes, rendered(scenes, params["size"], SCRATCH / "train")


def test_scenes(params: dict):
    """The test scenes, held-out combinations of words among them, and their renders."""
    scenes = scenes_for(TEST_SEED, params["render"]["test"], keep_held_out=True)
    return scenes, rendered(scenes, params["size"], SCRATCH / "test")


def render(params: dict) -> None:
    """Render all scenes, and say what a pixel's position alone gives away: the mean map's scores on test scenes."""
    _, train = training_scenes(params)
    _, test = test_scenes(params)
    world = {"sha256_of_training_images": hashlib.sha256(np.ascontiguousarray(train.image)).hexdigest()}
    for target in TARGETS:
        known, asked = (getattr(renders, TRUTH[target]) for renders in (train, test))
        known = known[:4096].astype(np.float32)
        found = targets.mean_map(target, known, known[:512], asked.astype(np.float32), params["size"])
        world[f"mean_map_{target}"] = {name: round(float(np.nanmean(values)), 4) for name, values in found.items()}
    write_json("world.json", world)
    contact_sheet(test.image[:64]).save(HOME / "world.png")


def autoencoder(params: dict) -> None:
    _, train = training_scenes(params)
    _, test = test_scenes(params)
    model = train_autoencoder(train.image, params["autoencoder"], params["seed"], SCRATCH, CURVES / "autoencoder.csv")
    print(f"mean squared error on test renders: {reconstruction_error(model, test.image):.5f}")
    model.half().save_pretrained(HOME / "vae")


def denoiser(params: dict) -> None:
    scenes, train = training_scenes(params)
    pipeline = train_denoiser(
        load_vae(),
        train.image,
        [scene.caption for scene in scenes],
        params["denoiser"],
        params["seed"],
        SCRATCH,
        CURVES,
    )
    # Part by part: the autoencoder is another stage's.
    pipeline.to(torch.float16).save_config(HOME)
    for name in ("scheduler", "text_encoder", "tokenizer", "unet"):
        getattr(pipeline, name).save_pretrained(HOME / name)
    # Transformers opens a model in the type that its config names; the rest of the pipeline opens in float32.
    config = HOME / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))


def label_models(params: dict) -> None:
    _, train = training_scenes(params)
    decoded = labelling.reconstruct(load_vae(), train.image[: params["label_models"]["decoded"]])
    for target in TARGETS:
        model = labelling.train_labeler(
            target,
            train,
            decoded,
            params["label_models"],
            params["seed"],
            SCRATCH,
            CURVES / f"label_{target}.csv",
        )
        save_half(model, HOME / "labelers" / f"{target}.safetensors")


def classifier(params: dict) -> None:
    scenes, train = training_scenes(params)
    decoded = labelling.reconstruct(load_vae(), train.image[: params["label_models"]["decoded"]])
    model = labelling.train_classifier(
        scenes, train, decoded, params["classifier"], params["seed"], SCRATCH, CURVES / "classifier.csv"
    )
    save_half(model, HOME / "classifier.safetensors")


def card(params: dict) -> None:
    """Measure what the model card says, on test renders and on prompts that were never trained on."""
    settings = load_model_settings(HOME)
    scenes, test = test_scenes(params)
    vae = load_vae()
    decoded = labelling.reconstruct(vae, test.image)
    labelers = {target: label_net.load(target, HOME, "cpu") for target in TARGETS}
    classify = class_net.load(HOME / "classifier.safetensors", "cpu")
    shapes, colours = named([scene.caption for scene in scenes])

    table = pd.read_csv("prompts/tabletop.csv")[: params["card"]["images"]]
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = diffusion.open_model(
        str(HOME),
        image_size=settings.image_size,
        steps=settings.steps,
        guidance=settings.guidance,
        dtype="float32",
        device="cpu",
    )
    parts = [slice(i, i + 32) for i in range(0, len(table), 32)]
    trajectories = torch.cat([diffusion.sample(model, prompts[p], seeds[p]) for p in parts])
    images = np.concatenate([diffusion.decode(model, trajectories[p, -1]) for p in parts])
    contact_sheet(images[:64]).save(HOME / "samples.png")

    labels = {t: np.concatenate([labelers[t](images[p]) for p in parts]) for t in TARGETS}
    train = params["card"]["train"]
    trained = layer_scores(model, trajectories, prompts, labels, train)
    torch.manual_seed(params["seed"])
    blank = replace(
        model,
        pipeline=assemble(
            vae, model.pipeline.tokenizer, model.pipeline.text_encoder, new_unet(params["denoiser"]).eval()
        ),
    )
    random = layer_scores(blank, trajectories, prompts, labels, train)
    check = train + train // 6
    control = {}
    for target in TARGETS:
        known = labels[target].astype(np.float32)
        found = targets.mean_map(target, known[:train], known[train:check], known[check:], 16)
        name, values = next(iter(found.items()))
        control[f"{target}_{name}"] = float(np.nanmean(values))
    write_json(
        "card.json",
        {
            "autoencoder_mse": reconstruction_error(vae, test.image),
            "label_models_on_test_renders": label_quality(labelers, test.image, test),
            "label_models_on_decoded_test_renders": label_quality(labelers, decoded, test),
            "classifier_on_test_renders": class_accuracy(classify, test.image, shapes, colours),
            "generated_images": class_accuracy(classify, images[:200], *named(prompts[:200])),
            "ridge": {f"step_{step}": layers for step, layers in trained.items()},
            "ridge_on_random_unet": {f"step_{step}": layers for step, layers in random.items()},
            "mean_map": control,
        },
    )


def load_vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(HOME / "vae", dtype=torch.float32)


def save_half(model: torch.nn.Module, path: Path) -> None:
    """Save a network's weights as float16."""
    path.parent.mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, path)


def contact_sheet(images: np.ndarray, columns: int = 8, scale: int = 2) -> Image.Image:
    """uint8 images [N, S, S, 3] in rows of ``columns``, enlarged without smoothing."""
    rows, size = len(images) // columns, images.shape[1]
    sheet = images[: rows * columns].reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    sheet = sheet.reshape(rows * size, columns * size, 3)
    return Image.fromarray(sheet.repeat(scale, 0).repeat(scale, 1))


def write_json(name: str, values: dict) -> None:
    """Write JSON into the model's folder, numbers to four digits."""
    rounded = json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 4))
    (HOME / name).write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    stages = {stage.__name__: stage for stage in (render, autoencoder, denoiser, label_models, classifier, card)}
    stages[sys.argv[1]](yaml.safe_load((HOME / "params.yaml").read_text()))

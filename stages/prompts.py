"""Read the prompts file, check it, split it; and check what else would stop the study hours later."""

from pathlib import Path

from scenescope import classifiers, labelers
from scenescope.disk import check_room
from scenescope.errors import UserError
from scenescope.layers import attention_layers
from scenescope.prompts import read_classes, read_prompts, split_prompts
from scenescope.settings import TARGETS, ModelSettings, Params, load_model_settings, part_config
from stages.common import PROMPTS, run


def prompts(params: Params) -> None:
    folder = Path("models") / params.model
    settings = load_model_settings(folder)
    if settings.revision is None:
        check_files(folder / settings.source)
    for target in TARGETS:
        labelers.named(getattr(params.labels, target), target)
    read_classes(Path(params.classify.prompts), classifiers.named(params.classify.classifier)[0].CLASSES)

    table = split_prompts(
        read_prompts(Path(params.prompts.source)),
        validation=params.prompts.validation,
        test=params.prompts.test,
        seed=params.prompts.seed,
    )
    needed = study_bytes(len(table), settings, part_config(folder, "unet"), part_config(folder, "vae"))
    data = PROMPTS.parent
    there = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())  # an earlier run's has its room
    check_room(data, 2 * (needed - there), f"the study of {len(table)} images, with DVC's copy of it,")
    data.mkdir(exist_ok=True)
    table.to_csv(PROMPTS, index=False, lineterminator="\n")


def check_files(pipeline: Path) -> None:
    """Raise UserError unless a folder holds a pipeline in Diffusers' format, its weights as safetensors."""
    parts = ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")
    for name in ("model_index.json", *(f"{part}.safetensors" for part in parts)):
        if not (pipeline / name).is_file():
            advice = "; weights are read without pickle" if name.endswith(".safetensors") else ""
            raise UserError(f"{pipeline}: no file {name}; expected a pipeline in Diffusers' format{advice}")


def study_bytes(count: int, settings: ModelSettings, unet: dict, vae: dict) -> int:
    """The bytes that a study of ``count`` images keeps, whichever layer is probed; pictures as if not compressed.

    ``unet`` and ``vae`` are the configurations of the model's parts.
    """
    side = settings.image_size // 2 ** (len(vae["block_out_channels"]) - 1)
    latents = (2 * settings.steps + 1) * unet["in_channels"] * side**2 * 4  # trajectories and predictions, float32
    layers = attention_layers(unet)
    activations = settings.steps * max(layer.grid(side) ** 2 * layer.channels for layer in layers) * 2  # float16
    pixels = settings.image_size**2 * (3 + 1 + 4 + 4)  # the image, a mask, and two maps in float32
    return count * (latents + activations + pixels)


if __name__ == "__main__":
    run(prompts)

"""Open the model that params.yaml names, on the device that it names."""

from pathlib import Path

from scenescope import diffusion
from scenescope.settings import AUTO, load_model_settings
from stages.devices import device_named


def open_model(name: str, device: str) -> diffusion.Model:
    """The model of a folder of models/, as its model.yaml says."""
    folder = Path("models") / name
    settings = load_model_settings(folder)
    device = device_named(device)
    dtype = settings.dtype
    if dtype == AUTO:
        dtype = "float16" if device == "cuda" else "float32"
    return diffusion.open_model(
        str(settings.pipeline(folder)),
        image_size=settings.image_size,
        steps=settings.steps,
        guidance=settings.guidance,
        dtype=dtype,
        device=device,
        scheduler=settings.scheduler,
    )

"""Open the model that params.yaml names, on the device that it names."""

from pathlib import Path

import torch

from scenescope import diffusion
from scenescope.errors import UserError
from scenescope.settings import load_model_settings


def device_named(name: str) -> str:
    """The device that ``device: auto`` means on this machine."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: device: cuda, but PyTorch sees no GPU here; use auto or cpu")
    return name


def open_model(name: str, device: str) -> diffusion.Model:
    """The model of a folder of models/, as its model.yaml says."""
    folder = Path("models") / name
    settings = load_model_settings(folder)
    return diffusion.open_model(
        str(folder / settings.source),
        image_size=settings.image_size,
        steps=settings.steps,
        guidance=settings.guidance,
        dtype=settings.dtype,
        device=device_named(device),
    )

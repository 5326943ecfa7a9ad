"""Open the model that params.yaml names, on the device that it names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from scenescope import diffusion
from scenescope.cpu import keep_pages
from scenescope.errors import UserError
from scenescope.settings import AUTO, load_model_settings


def device_named(name: str) -> str:
    """The device that ``device: auto`` means on this machine, set to compute float32 as float32, and fast."""
    torch.backends.cudnn.allow_tf32 = False  # or convolutions on a GPU would round to 10 bits
    keep_pages()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: device: cuda, but PyTorch sees no GPU here; use auto or cpu")
    return name


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


@contextmanager
def fitting(key: str, size: int) -> Iterator[None]:
    """Within the context, running out of the GPU's memory is an error that says what to set the batch size to."""
    try:
        yield
    except torch.OutOfMemoryError:
        advice = f"set it to {size // 2}" if size > 1 else "use a GPU with more memory, or device: cpu"
        raise UserError(f"params.yaml: {key}: out of GPU memory with {size} at once; {advice}") from None

"""VGG-16, the classifier of 1000 ImageNet classes (Simonyan and Zisserman 2015, arXiv:1409.1556).

The weights are torchvision's, as timm publishes them. The paper's code classified with Keras' VGG-16, whose
weights come from Caffe: probabilities differ a little. Images are resized here as they were there, straight to
224 × 224, by nearest pixel and without a crop; they are then normalised as these weights want it.
"""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import ImageNetInfo
from torch import Tensor, nn

from scenescope.errors import UserError
from scenescope.weights import fill, snapshot

MODEL, FILE = "vgg16.tv_in1k", "model.safetensors"  # the hub's repository is timm/ and the model's name
REVISION = "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f"
SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue in [0, 1], over ImageNet
# What the classes are called. A name is not a key: 134 and 517 are both "crane", the bird and the machine.
CLASSES = tuple(ImageNetInfo().label_descriptions())


def prepare(images: np.ndarray) -> Tensor:
    """What the network takes, float32 [N, 3, 224, 224], from uint8 images [N, H, W, 3]."""
    resized = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST)) for image in images]
    pixels = (torch.from_numpy(np.stack(resized)) / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return pixels.permute(0, 3, 1, 2)


def open_network(file: Path, device: str) -> nn.Module:
    """The network, [N, 3, 224, 224] to logits [N, 1000], from a .safetensors file with timm's names.

    Raises UserError where the file cannot be read, or lacks a tensor or has one too many.
    """
    try:
        state = load_file(file)
    except (OSError, SafetensorError):
        raise UserError(f"{file}: not a .safetensors file that can be read") from None
    with torch.device("meta"):  # random numbers for 138 million parameters would take longer than reading them
        network = timm.create_model(MODEL, pretrained=False)
    network.to_empty(device=device)
    fill(network, state, file)
    return network.eval()


def load(source: str | None, device: str):
    """A classifier: uint8 images [N, H, W, 3] to probabilities, float32 [N, 1000], in the order of ``CLASSES``.

    ``source`` is a .safetensors file with timm's names, or None for timm's. Raises UserError where the weights
    cannot be had or are not of this network.
    """
    file = Path(source or snapshot(f"timm/{MODEL}", REVISION, [FILE]) / FILE)
    network = open_network(file, device)

    @torch.no_grad()
    def classify(images: np.ndarray) -> np.ndarray:
        return network(prepare(images).to(device)).softmax(1).cpu().numpy()

    return classify

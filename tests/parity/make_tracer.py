"""Goldens of TRACER, made by its own code with seeded weights, and its key lists.

    python tests/parity/make_tracer.py /path/to/TRACER

The checkout is of github.com/Karel911/TRACER; OpenCV and Albumentations 1.3 have to be installed. Images are
labelled by its own inference, from PNG files to PNG files.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from recipe import seeded_image, seeded_state, seeded_tensor
from torch import Tensor, nn

HERE = Path(__file__).parent
GOLDEN = HERE / "goldens" / "tracer.npz"
KEYS, DIGESTS = HERE / "keys" / "tracer_te5.txt", HERE / "keys" / "tracer_digests.txt"
VALUES = "agg.UAM.spatial_v.weight"  # sets the range of the first map
# Its gain: for a first map that is below -2.6 (sure background) in places, or also for probabilities below 1/255.
RANGE, BLACK = 30, 1000
# Variant, and the images that its network sees as they are: on maps of 32 and 40, lower frequencies are not all.
NETWORKS = {"te0": (2, 128), "te5": (1, 160)}
PIXELS = {"same": (48, 48), "half": (96, 96), "wide": (61, 131), "tall": (50, 33)}  # shown to a network of 48
LABELLED = {"small": (96, 128), "large": (330, 250)}


def weights(shapes: dict[str, tuple[int, ...]], spread: float = RANGE) -> dict[str, Tensor]:
    """Seeded weights that show whatever might be wrong: deep features vary, and some background is sure."""
    return seeded_state(shapes, 1.25) | {VALUES: seeded_tensor(VALUES, shapes[VALUES], spread)}


def images(name: str, count: int, height: int, width: int) -> np.ndarray:
    """Seeded uint8 images [count, height, width, 3]."""
    return np.stack([seeded_image(f"tracer {name} {index}", height, width) for index in range(count)])


def listed(shapes: dict[str, tuple[int, ...]]) -> str:
    """A key list, sorted, as ``recipe.read_keys`` reads it."""
    return "".join(f"{key} {','.join(map(str, shapes[key])) or '-'}\n" for key in sorted(shapes))


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    return hashlib.sha256(listed(shapes).encode()).hexdigest()


@contextlib.contextmanager
def imported(checkout: Path, variant: str, *arguments: str):
    """Imports of the checkout's modules, which read the variant from the command line; on the CPU, no download."""

    def forget() -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] in {file.stem for file in checkout.iterdir()}]:
            del sys.modules[name]

    command = ["main.py", "inference", "--arch", variant[-1], *arguments]
    forget()
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "path", [str(checkout), *sys.path]),
        mock.patch.object(Tensor, "cuda", lambda self: self),
    ):
        from model import EfficientNet

        with mock.patch.object(EfficientNet, "load_pretrained_weights", lambda *_, **__: None):
            yield
    forget()


def original() -> nn.Module:
    """The network of the variant that was imported, with its first weights."""
    from config import getConfig
    from model.TRACER import TRACER

    return TRACER(getConfig()).eval()


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def masks(checkout: Path, variant: str, side: int, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The 8-bit maps [H, W] that the checkout's inference writes for uint8 images [H, W, 3]."""
    home = Path.cwd()
    options = {
        "img_size": side,
        "batch_size": 1,
        "num_workers": 0,
        "save_map": "yes",
        "data_path": ".",
        "dataset": "in",
    }
    arguments = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    with tempfile.TemporaryDirectory() as folder, imported(checkout, variant, *arguments):
        import inference
        from config import getConfig

        state = {f"module.{k}": v for k, v in weights(shapes_of(original()), BLACK).items()}
        os.chdir(folder)
        Path("in").mkdir()
        try:
            for name, image in named.items():
                Image.fromarray(image).save(f"in/{name}.png")
            with mock.patch.object(inference, "load_pretrained", lambda _: state):
                inference.Inference(getConfig(), folder).test()
            return {name: np.asarray(Image.open(f"mask/in/{name}.png")) for name in named}
        finally:
            os.chdir(home)


@torch.no_grad()
def networks(checkout: Path) -> dict[str, np.ndarray]:
    """What the checkout's networks make of standardised images, and what it silences of channels with ties."""
    made = {}
    for variant, (count, side) in NETWORKS.items():
        with imported(checkout, variant):
            network = original()
            network.load_state_dict(weights(shapes_of(network)))
            made[variant] = network(standardised(images("seen", count, side, side)))[0].numpy()
            if variant == "te0":
                attention = eleven()
                made["silenced"] = network.agg.UAM.masking(torch.ones_like(attention), attention.clone()).numpy()
    return made


def standardised(images: np.ndarray) -> Tensor:
    """Images uint8 [N, S, S, 3] as float32 [N, 3, S, S], with the mean and deviation of ImageNet."""
    mean, deviation = (255 * torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((torch.from_numpy(images) - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def eleven() -> Tensor:
    """Attention [2, 11, 1, 1] whose quantile 0.1 is one of the values themselves, and in one of the two, twice."""
    values = torch.tensor([5, 3, 9, 1, 7, 2, 8, 11, 4, 10, 6]) / 16
    return torch.stack([values, torch.where(values == 3 / 16, 2 / 16, values)])[:, :, None, None]


def goldens(checkout: Path) -> dict[str, np.ndarray]:
    made = networks(checkout)
    with imported(checkout, "te0"):
        from dataloader import get_test_augmentation

        transform = get_test_augmentation(48)
        for name, size in PIXELS.items():
            made[f"pixels {name}"] = transform(image=images(name, 1, *size)[0])["image"].numpy()
    named = {name: images(name, 1, *size)[0] for name, size in LABELLED.items()}
    return made | {f"mask {name}": mask for name, mask in masks(checkout, "te0", 320, named).items()}


def key_lists(checkout: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """The keys and shapes of every variant."""
    found = {}
    for variant in (f"te{n}" for n in range(8)):
        with imported(checkout, variant), torch.device("meta"):
            found[variant] = shapes_of(original())
    return found


def main() -> None:
    torch.set_num_threads(2)
    checkout = Path(sys.argv[1]).resolve()
    np.savez_compressed(GOLDEN, **goldens(checkout))
    lists = key_lists(checkout)
    KEYS.write_text(listed(lists["te5"]))
    DIGESTS.write_text("".join(f"{name} {len(keys)} {digest(keys)}\n" for name, keys in lists.items()))


if __name__ == "__main__":
    main()

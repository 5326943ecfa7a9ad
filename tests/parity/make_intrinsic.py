"""Goldens of Intrinsic, version 1, made by its authors' code with seeded weights, and its key lists.

    python tests/parity/make_intrinsic.py /path/to/checkouts

The folder holds checkouts of github.com/compphoto/Intrinsic, github.com/CCareaga/chrislib and
github.com/CCareaga/MiDaS, the last as altered_midas_repo. scikit-image, opencv-python-headless and geffnet have to
be installed. geffnet is what the authors load their small encoder from, torchvision what WSL-Images, the source
of the large one, builds on; both are put where torch.hub would download.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from recipe import seeded_image, seeded_state, seeded_tensor
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "goldens" / "intrinsic.npz"
KEYS = {name: Path(__file__).parent / "keys" / f"intrinsic_{name}.txt" for name in ("ordinal", "dense")}
GAIN = 0.8  # keeps the outputs between 0.3 and 0.8, and float32 within 4e-7 of float64
CHECKED_OUT = ("Intrinsic", "chrislib", "altered_midas_repo")

# The images of the pipeline: height, width and density of their speckles, on which R_0 depends.
REAL = (80, 208, 0.01)  # R_0 576, three times the base's pixels
# With stand-ins for the networks: R_0 between its bounds; a size that rounding errors take from 384 to 416; a longer
# side beyond 1500, which shrinks; nothing but black.
STANDING_IN = {
    "tall": (230, 170, 0.003),
    "uneven": (140, 187, 0.01),
    "long": (60, 1620, 0.0002),
    "black": (144, 150, None),
}
# Images of which only the working size is compared.
SIZED = [
    (height, width, density)
    for height, width in ((150, 150), (256, 256), (512, 512), (500, 333), (180, 640))
    for density in (0, 0.0002, 0.0006, 0.002, 0.006, 0.02)
] + [(300, 2000, 0.001), (130, 187, 0), (160, 160, None)]
INVERSES = np.array([0, 1e-4, 1e-3, 0.25, 0.5, 0.999, 1, 1.1], np.float32)


def image(height: int, width: int, density: float | None) -> np.ndarray:
    """A uint8 image [H, W, 3] with black and white speckles; black all over where ``density`` is None."""
    if density is None:
        return np.zeros((height, width, 3), np.uint8)
    made = seeded_image("intrinsic", height, width)
    rng = np.random.default_rng(height * width)
    made[rng.random((height, width)) < density] = 0
    made[rng.random((height, width)) < density] = 255
    return made


def network_input(channels: int) -> Tensor:
    """What a network may see, float32 [1, channels, 64, 96] in [0, 1]; the dense one's is in [0, 10].

    In brighter light its activations reach the 6 at which they are clipped.
    """
    maps = np.dstack([seeded_image(f"intrinsic {n}", 64, 96) for n in range(2)])[..., :channels]
    return torch.from_numpy(maps).permute(2, 0, 1)[None] / 255 * (10 if channels == 5 else 1)


class StandIn(nn.Module):
    """A network of two convolutions in the place of a large one, for tests of what surrounds it."""

    def __init__(self, name: str, channels: int):
        super().__init__()
        self.features = nn.Conv2d(channels, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 1, 1)
        for key, parameter in self.named_parameters():
            parameter.data = seeded_tensor(f"{name} {key}", tuple(parameter.shape), gain=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).sin()).sigmoid()


def stand_ins() -> tuple[nn.Module, nn.Module]:
    return StandIn("ordinal", 3), StandIn("dense", 5)


def import_original(folder: Path):
    """The authors' modules from the checkouts in ``folder``: pipeline, resolution, and the two networks."""
    import geffnet
    import torchvision

    def load(repository: str, name: str, **options) -> nn.Module:
        if repository == "facebookresearch/WSL-Images":
            return torchvision.models.resnext101_32x8d()
        assert repository == "rwightman/gen-efficientnet-pytorch"
        return geffnet.create_model(name, pretrained=False, exportable=options["exportable"])

    sys.path[:0] = [str(folder / name) for name in CHECKED_OUT]
    for unused in ("antialiased_cnns", "bs4"):
        sys.modules.setdefault(unused, mock.MagicMock())
    from altered_midas.midas_net import MidasNet
    from altered_midas.midas_net_custom import MidasNet_small
    from chrislib import general, resolution_util
    from intrinsic import pipeline

    with mock.patch("torch.hub.load", load):
        networks = {"ordinal": MidasNet(), "dense": MidasNet_small(exportable=False, input_channels=5)}
    for network in networks.values():
        network.eval().load_state_dict(seeded_state(shapes(network), GAIN))
    return pipeline, resolution_util, general, networks


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network, with its shape."""
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@torch.no_grad()
def goldens(folder: Path) -> dict[str, np.ndarray]:
    """What the authors' code makes of the seeded images and weights; larger maps on a grid of every few pixels."""
    pipeline, resolution, general, networks = import_original(folder)

    def run(pixels: np.ndarray, ordinal: nn.Module, dense: nn.Module) -> dict[str, np.ndarray]:
        np.random.seed(0)  # the scale match draws from the global generator
        models = {"ord_model": ordinal, "iid_model": dense}
        return pipeline.run_gray_pipeline(models, pixels, maintain_size=True, device="cpu")

    real = run(image(*REAL).astype(np.single) / 255, *networks.values())
    made = {
        "real inverse": real["gry_shd"],
        "uninverted": general.uninvert(INVERSES),
        "sizes": np.array([resolution.get_optimal_dims(image(*sized) / np.single(255), 0.0) for sized in SIZED]),
    }
    for name, sized in STANDING_IN.items():
        standing_in = run(image(*sized).astype(np.single) / 255, *stand_ins())
        made[f"{name} inverse"] = thinned(standing_in["gry_shd"])
        made[f"{name} size"] = np.array(standing_in["image"].shape[:2])
    for name, network in networks.items():  # in float64, so that the golden brings no rounding of its own
        inputs = network_input(3 if name == "ordinal" else 5).double()
        made[name] = network.double()(inputs)[0, 0].numpy()
        network.float()
    return made


def thinned(maps: np.ndarray) -> np.ndarray:
    """At most about 100 × 100 of the pixels of [H, W]."""
    return maps[:: 1 + maps.shape[0] // 100, :: 1 + maps.shape[1] // 100]


def main() -> None:
    torch.set_num_threads(2)
    folder = Path(sys.argv[1]).resolve()
    np.savez_compressed(GOLDEN, **goldens(folder))
    for name, network in import_original(folder)[-1].items():
        lines = (f"{key} {','.join(map(str, shape)) or '-'}\n" for key, shape in shapes(network).items())
        KEYS[name].write_text("".join(lines))


if __name__ == "__main__":
    main()

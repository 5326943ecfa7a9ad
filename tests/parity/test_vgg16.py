"""VGG-16 against torchvision's, from which the published weights are; with seeded weights, at its full size."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from recipe import read_keys, seeded_image, seeded_state
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform
from torch import Tensor, nn

from scenescope.classifiers import vgg16
from scenescope.errors import UserError

BAR = 1e-5  # of logits of order 1
KEYS = read_keys(Path(__file__).parent / "keys" / "vgg16.txt")
TORCHVISION = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}


@pytest.fixture(scope="module")
def images():
    return np.stack([seeded_image(f"vgg16 {index}", 120, 160) for index in range(2)])


@pytest.fixture(scope="module")
def state():
    return seeded_state(KEYS, gain=1.5)  # ReLU takes half of the variance, biases bring some: logits of order 1


@pytest.fixture(scope="module")
def network(state, tmp_path_factory):
    file = tmp_path_factory.mktemp("vgg16") / "model.safetensors"
    save_file(state, file)
    opened = vgg16.open_network(file, "cpu")
    file.unlink()  # 553 MB that need not outlive the test
    return opened


@pytest.fixture(scope="module")
def golden(state, images) -> np.ndarray:
    """Logits of torchvision's network, of images resized and normalised as torchvision would."""
    renamed = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        linear = name in TORCHVISION and kind == "weight"
        renamed[f"{TORCHVISION.get(name, name)}.{kind}"] = value.flatten(1) if linear else value
    with torch.device("meta"):
        original = torchvision.models.vgg16(weights=None)
    original.load_state_dict(renamed, assign=True)
    original.eval()
    pixels = torch.stack([torchvision.transforms.functional.to_tensor(straight(image)) for image in images])
    statistics = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    with torch.no_grad():
        return original(torchvision.transforms.functional.normalize(pixels, *statistics)).numpy()


def straight(image: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] at 224 × 224: of every pixel the one whose area holds its centre."""
    rows, columns = (((np.arange(224) + 0.5) * side / 224).astype(int) for side in image.shape[:2])
    return image[rows][:, columns]


@torch.no_grad()
def logits(network, images) -> np.ndarray:
    return network(vgg16.prepare(images)).numpy()


def far(found: np.ndarray, golden: np.ndarray) -> bool:
    difference = np.abs(found - golden).max()
    print(f"moves by {difference:.1e}, {difference / BAR:.0f} bars")
    return difference >= 100 * BAR


# Parity


def test_logits(network, images, golden):
    assert 0.3 < golden.std() < 3
    assert np.abs(logits(network, images) - golden).max() <= BAR


def test_probabilities(network, images, golden, monkeypatch):
    monkeypatch.setattr(vgg16, "open_network", lambda file, device: network)
    found = vgg16.load("model.safetensors", "cpu")(images)
    expected = np.exp(golden) / np.exp(golden).sum(1, keepdims=True)
    assert found.dtype == np.float32 and found.shape == (2, 1000)
    assert np.abs(found - expected).max() <= BAR


@pytest.mark.parametrize("size", [(60, 90), (224, 224), (480, 480), (333, 500)])
def test_images_are_resized_by_nearest_pixel(size):
    # No multiples of 64 but 224's own size: from 512, every seventh sample lies between two pixels.
    image = seeded_image("vgg16 resize", *size)
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    expected = ((straight(image) / 255 - mean) / deviation).transpose(2, 0, 1)
    assert np.abs(vgg16.prepare(image[None])[0].numpy() - expected).max() <= 1e-6


def test_classes_are_told_apart_by_index():
    assert len(vgg16.CLASSES) == 1000 and vgg16.CLASSES[951] == "lemon"
    assert [index for index, name in enumerate(vgg16.CLASSES) if name == "crane"] == [134, 517]


# Weights


def test_key_list(network):
    assert len(KEYS) == 32
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == KEYS
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
    assert not network.training


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "torchvision's"])
def test_other_weights_are_refused(monkeypatch, change):
    other = {key: torch.empty(shape, device="meta") for key, shape in KEYS.items()}  # shapes are all that matters
    if change in ("missing", "torchvision's"):
        del other["head.fc.bias"]
    if change == "torchvision's":
        other["classifier.6.bias"] = torch.empty(1000, device="meta")
    if change == "unexpected":
        other["features.1.running_mean"] = torch.empty(64, device="meta")
    if change == "shape":
        other["head.fc.bias"] = torch.empty(1001, device="meta")
    monkeypatch.setattr(vgg16, "load_file", lambda file: other)
    with pytest.raises(UserError, match=r"x\.safetensors: weights of another network") as caught:
        vgg16.load("x.safetensors", "meta")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "pickle"])
def test_other_files_are_refused(tmp_path, change):
    file = tmp_path / "weights.safetensors"
    if change == "pickle":
        torch.save({"head.fc.bias": torch.zeros(1000)}, file)
    with pytest.raises(UserError, match=r"weights\.safetensors: not a \.safetensors file") as caught:
        vgg16.load(str(file), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_come_from_timm(monkeypatch, tmp_path):
    asked, opened = [], []
    monkeypatch.setattr(vgg16, "snapshot", lambda *what: asked.append(what) or tmp_path)
    monkeypatch.setattr(vgg16, "open_network", lambda *what: opened.append(what))
    vgg16.load(None, "cpu")
    assert asked == [("timm/vgg16.tv_in1k", "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f", ["model.safetensors"])]
    assert opened == [(tmp_path / "model.safetensors", "cpu")]


# Mutations: what each trap would do


def test_a_missing_relu_is_far(network, images, golden, monkeypatch):
    monkeypatch.setitem(network.features._modules, "29", nn.Identity())
    assert far(logits(network, images), golden)


def test_features_flattened_with_channels_last_are_far(network, images, golden, monkeypatch):
    keras = network.pre_logits.fc1.weight.reshape(4096, 7, 7, 512).permute(0, 3, 1, 2)
    monkeypatch.setitem(network.pre_logits.fc1._parameters, "weight", keras)
    assert far(logits(network, images), golden)


def test_features_averaged_over_space_are_far(network, images, golden, monkeypatch):
    class Average(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.mean((2, 3), keepdim=True).expand(-1, -1, 7, 7)

    monkeypatch.setitem(network.features._modules, "30", nn.Sequential(network.features[30], Average()))
    assert far(logits(network, images), golden)


@pytest.mark.parametrize("constant, value", [("MEAN", 0.0), ("DEVIATION", 1.0), ("MEAN", 0.5), ("DEVIATION", 0.5)])
def test_other_statistics_are_far(network, images, golden, monkeypatch, constant, value):
    monkeypatch.setattr(vgg16, constant, (value,) * 3)
    assert far(logits(network, images), golden)


def test_blue_before_red_is_far(network, images, golden):
    assert far(logits(network, images[..., ::-1].copy()), golden)


def test_dropout_left_on_is_far(network, images, golden, monkeypatch):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0  # timm's default is to have none; the network was trained with half
            monkeypatch.setattr(module, "p", 0.5)
    network.train()
    try:
        assert far(logits(network, images), golden)
    finally:
        network.eval()


def test_bilinear_resizing_is_far(network, images, golden, monkeypatch):
    as_bilinear = SimpleNamespace(fromarray=Image.fromarray, Resampling=SimpleNamespace(NEAREST=Image.BILINEAR))
    monkeypatch.setattr(vgg16, "Image", as_bilinear)
    assert far(logits(network, images), golden)


@torch.no_grad()
def test_the_crop_of_timm_is_far(network, images, golden):
    config = network.pretrained_cfg
    transform = create_transform(
        config["input_size"], mean=config["mean"], std=config["std"], crop_pct=config["crop_pct"]
    )
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
    assert far(network(pixels).numpy(), golden)


def test_names_of_classes_are_read_once(monkeypatch):
    """Every process that knows the classifier imports it: names read once a class took it a minute."""
    read, readers = ImageNetInfo.__init__, []

    def counted(self, *args, **how):
        readers.append(self)
        read(self, *args, **how)

    monkeypatch.setattr(ImageNetInfo, "__init__", counted)
    names = vgg16.CLASSES
    importlib.reload(vgg16)
    assert names == vgg16.CLASSES and len(readers) == 1

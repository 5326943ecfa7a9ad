"""MiDaS against its authors' code: a small DPT with seeded weights, and the key list of DPT-Large."""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import make_midas
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_midas import IMAGES, LARGE, SMALL, UNUSED, images, pixels, weights
from recipe import read_keys
from safetensors.torch import save_file
from transformers import DPTImageProcessor

from scenescope.errors import UserError
from scenescope.labelers import midas, named

# Bars: network input, network output, and both with resizing back. Outputs go up to 7, and the goldens, which one
# kind of processor rounded, are themselves up to 1.5e-5 from what float64 gives.
PIXELS, NETWORK, DEPTH = 5e-5, 3e-5, 5e-5
ORIGINALS = os.environ.get("SCENESCOPE_ORIGINALS")
KEYS = read_keys(make_midas.KEYS)


def save(folder: Path, config: dict, state: dict) -> Path:
    """A folder as Intel's is, the words of older versions of Transformers in its config.json included."""
    extra = {"model_type": "dpt", "architectures": ["DPTForDepthEstimation"], "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config | extra))
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(make_midas.GOLDEN))


@pytest.fixture(scope="module")
def state():
    return {key: value for key, value in weights(SMALL).items() if not key.startswith(UNUSED)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, state):
    return save(tmp_path_factory.mktemp("midas"), SMALL, state)


@pytest.fixture
def network(folder):
    return midas.open_network(folder, "cpu")


def on_grid(name: str, maps: np.ndarray, golden: dict) -> float:
    """How far maps [..., H, W] are from a golden that has every so many of their pixels."""
    down, right = (-(-size // kept) for size, kept in zip(maps.shape[-2:], golden[name].shape[-2:], strict=True))
    return np.abs(maps[..., ::down, ::right] - golden[name]).max()


def prepared(name: str) -> np.ndarray:
    return midas.prepare(torch.from_numpy(images(name)).permute(0, 3, 1, 2)).numpy()


@torch.no_grad()
def inferred(network, height: int, width: int) -> np.ndarray:
    return midas.infer(network, pixels(height, width)).numpy()


def far(difference: float, bar: float) -> bool:
    print(f"moves by {difference:.1e}, {difference / bar:.0f} bars")
    return difference >= 100 * bar


# Parity


def test_sizes(golden):
    for height, width, *size in golden["sizes"].tolist():
        assert midas.network_size(height, width) == tuple(size)


@pytest.mark.parametrize("name", IMAGES)
def test_preparation(golden, name):
    assert on_grid(f"pixels {name}", prepared(name), golden) <= PIXELS


def test_network(golden, network):
    assert on_grid("network square", inferred(network, 384, 384), golden) <= NETWORK
    assert on_grid("network wide", inferred(network, 96, 160), golden) <= NETWORK


@pytest.mark.parametrize("name", IMAGES)
def test_depth(golden, folder, name):
    module, source = named(f"midas:{folder}", "depth")
    depth = module.load("depth", None, "cpu", source)(images(name))
    assert depth.dtype == np.float32 and depth.shape == images(name).shape[:3]
    assert on_grid(f"depth {name}", depth, golden) <= DEPTH


def test_square_images_go_as_transformers_takes_them(network):
    with torch.no_grad():
        theirs = network(pixels(384, 384)).predicted_depth.numpy()
    assert np.abs(theirs - inferred(network, 384, 384)).max() <= NETWORK


# Weights


def test_key_list():
    """458 tensors, and in a .safetensors file they take exactly as many bytes as Intel's has."""
    assert len(KEYS) == 458
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for key in sorted(KEYS):
        start, end = end, end + 4 * math.prod(KEYS[key])
        header[key] = {"dtype": "F32", "shape": KEYS[key], "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    assert 8 + math.ceil(length / 8) * 8 + end == 1_367_456_044


def test_large_takes_the_key_list(tmp_path, monkeypatch):
    save(tmp_path, LARGE, {})
    found = {key: torch.ones(()).expand(shape) for key, shape in KEYS.items()}
    monkeypatch.setattr(midas, "load_file", lambda file: found)
    network = midas.open_network(tmp_path, "cpu")
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == KEYS
    assert all(value.dtype == torch.float32 and value.flatten()[-1] == 1 for value in network.state_dict().values())
    assert not network.training


def test_weights_that_are_never_used_may_be_there(tmp_path, golden):
    network = midas.open_network(save(tmp_path, SMALL, weights(SMALL)), "cpu")
    assert on_grid("network wide", inferred(network, 96, 160), golden) <= NETWORK


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_other_weights_are_refused(tmp_path, state, change):
    key = "neck.fusion_stage.layers.1.residual_layer1.convolution1.bias"
    other = dict(state)
    if change == "missing":
        del other[key]
    else:
        other[key if change == "shape" else "dpt.pooler.dense.bias"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"model\.safetensors: weights of another network") as caught:
        midas.load("depth", None, "cpu", str(save(tmp_path, SMALL, other)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["no folder", "no config", "no weights", "pickle"])
def test_other_folders_are_refused(tmp_path, state, change):
    where = tmp_path / "model"
    if change != "no folder":
        where.mkdir()
        save(where, SMALL, state)
    if change == "no config":
        (where / "config.json").unlink()
    if change in ("no weights", "pickle"):
        (where / "model.safetensors").unlink()
    if change == "pickle":
        torch.save(state, where / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model: needs a config\.json and a model\.safetensors") as caught:
        midas.load("depth", None, "cpu", str(where))
    assert "\n" not in str(caught.value)


def test_hybrid_networks_are_refused(tmp_path, state):
    with pytest.raises(UserError, match="plain ViT"):
        midas.load("depth", None, "cpu", str(save(tmp_path, SMALL | {"is_hybrid": True}, state)))


def test_weights_come_from_intel(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(midas, "snapshot", lambda *what: asked.append(what) or folder)
    midas.load("depth", None, "cpu", None)
    revision = "bc15f29aa3a80d532f2ed650b5e16ac48d8958f9"
    assert asked == [("Intel/dpt-large", revision, ["config.json", "model.safetensors"])]


# Mutations: what each trap would do


def interpolates(monkeypatch, **changes) -> None:
    """Change an argument of every resizing in the labeler."""
    changed = SimpleNamespace(interpolate=lambda *args, **named: F.interpolate(*args, **named | changes))
    monkeypatch.setattr(midas, "F", changed)


@pytest.mark.parametrize("change", [{"antialias": True}, {"mode": "bilinear"}, {"align_corners": True}])
def test_preparation_by_another_resizing_is_far(golden, monkeypatch, change):
    interpolates(monkeypatch, **change)
    assert far(on_grid("pixels usual", prepared("usual"), golden), PIXELS)


def test_preparation_as_transformers_does_it_is_far(golden):
    processor = DPTImageProcessor(size={"height": 384, "width": 384}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    theirs = processor(list(images("usual")), return_tensors="pt").pixel_values.numpy()
    assert far(on_grid("pixels usual", theirs, golden), PIXELS)


@pytest.mark.parametrize("constant, values", [("MEAN", (0.485, 0.456, 0.406)), ("DEVIATION", (0.229, 0.224, 0.225))])
def test_statistics_of_imagenet_are_far(golden, monkeypatch, constant, values):
    monkeypatch.setattr(midas, constant, torch.tensor(values)[:, None, None])
    assert far(on_grid("pixels usual", prepared("usual"), golden), PIXELS)


@pytest.mark.parametrize("change", [{"align_corners": True}, {"mode": "bilinear"}])
def test_another_way_back_is_far(golden, network, monkeypatch, change):
    with torch.no_grad():
        depth = midas.infer(network, torch.from_numpy(prepared("wide")))
    interpolates(monkeypatch, **change)
    assert far(on_grid("depth wide", midas.restore(depth, 60, 100).numpy(), golden), DEPTH)


def test_the_epsilon_of_config_json_is_far(golden, folder, monkeypatch):
    monkeypatch.setattr(midas, "EPSILON", SMALL["layer_norm_eps"])
    network = midas.open_network(folder, "cpu")
    assert far(on_grid("network wide", inferred(network, 96, 160), golden), NETWORK)


def ignores_readout(network) -> None:
    network.config.readout_type = "ignore"


def taps_one_layer_early(network) -> None:
    network.config.backbone_out_indices = [layer - 1 for layer in SMALL["backbone_out_indices"]]


def swaps_rows_and_columns(network) -> None:
    neck = network.neck.forward
    network.neck.forward = lambda states, rows, columns: neck(states, columns, rows)


def fuses_without_aligned_corners(network) -> None:
    for layer in network.neck.fusion_stage.layers:
        layer.align_corners = False


def lacks_last_relu(network) -> None:
    network.head.head[5] = torch.nn.Identity()


@pytest.mark.parametrize(
    "change",
    [ignores_readout, taps_one_layer_early, swaps_rows_and_columns, fuses_without_aligned_corners, lacks_last_relu],
)
def test_another_network_is_far(golden, network, change):
    change(network)
    wide = inferred(network, 96, 160)
    if change is swaps_rows_and_columns:
        wide = wide.reshape(1, 96, 160)  # the same number of pixels, in the wrong places
    assert far(on_grid("network wide", wide, golden), NETWORK)


# Against the original itself


@pytest.mark.skipif(not ORIGINALS, reason="SCENESCOPE_ORIGINALS names no folder with a checkout of MiDaS")
def test_goldens_are_the_originals(golden):
    pytest.importorskip("cv2")
    made = make_midas.goldens(Path(ORIGINALS) / "MiDaS")
    assert set(made) == set(golden)
    for name, value in made.items():
        assert np.abs(value - golden[name]).max() <= 1e-5


@pytest.mark.skipif(not ORIGINALS, reason="SCENESCOPE_ORIGINALS names no folder with a checkout of MiDaS")
def test_large_is_the_originals(tmp_path):
    pytest.importorskip("cv2")
    state = weights(LARGE)
    save(tmp_path, LARGE, {key: value for key, value in state.items() if not key.startswith(UNUSED)})
    original = make_midas.original(Path(ORIGINALS) / "MiDaS", LARGE, state)
    del state
    with torch.no_grad():
        theirs = [original(pixels(*size)).numpy() for size in ((384, 384), (384, 512))]
    del original
    network = midas.open_network(tmp_path, "cpu")
    (tmp_path / "model.safetensors").unlink()  # 1.4 GB that need not outlive the test
    for size, depth in zip(((384, 384), (384, 512)), theirs, strict=True):
        assert np.abs(inferred(network, *size) - depth).max() <= NETWORK

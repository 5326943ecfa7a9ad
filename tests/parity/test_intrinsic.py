"""Our Intrinsic against numbers of its authors' code, with seeded weights, and against what could go wrong in it."""

import os
from pathlib import Path
from types import SimpleNamespace

import make_intrinsic as make
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe import read_keys, seeded_state
from scipy import ndimage
from timm.layers import Conv2dSame
from torch import nn

from scenescope.errors import UserError
from scenescope.labelers import intrinsic
from scenescope.labelers.nets import intrinsic as networks
from scenescope.labelers.nets import resolution
from scenescope.weights import fill

NETWORK_BAR, PIPELINE_BAR = 1e-6, 1e-5
SEEN = 100  # times the bar: what a mutation has to change
BUILD = {"ordinal": networks.ordinal_network, "dense": networks.dense_network}
TENSORS = {"ordinal": 666, "dense": 482}


@pytest.fixture(scope="module")
def golden():
    with np.load(make.GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def states():
    return {name: seeded_state(read_keys(make.KEYS[name]), make.GAIN) for name in BUILD}


@pytest.fixture
def network(request, states):
    """The network of that name, to be changed at will."""
    with torch.device("meta"):
        built = BUILD[request.param]()
    built.to_empty(device="cpu")
    fill(built, states[request.param], make.KEYS[request.param])
    return built.eval()


both = pytest.mark.parametrize(("network", "name"), [(name, name) for name in BUILD], indirect=["network"])
ordinal = pytest.mark.parametrize(("network", "name"), [("ordinal", "ordinal")], indirect=["network"])
dense = pytest.mark.parametrize(("network", "name"), [("dense", "dense")], indirect=["network"])


@torch.no_grad()
def network_error(network: nn.Module, golden: np.ndarray) -> float:
    channels = next(network.parameters()).shape[1]
    return float(np.abs(network(make.network_input(channels))[0, 0].numpy() - golden).max())


def pipeline_error(name: str, golden: dict[str, np.ndarray]) -> float:
    """With stand-ins for the networks, on one of the images."""
    inverse = intrinsic.inverse_shading(make.image(*make.STANDING_IN[name]), *make.stand_ins())
    return float(np.abs(make.thinned(inverse) - golden[f"{name} inverse"]).max())


def sizes() -> np.ndarray:
    return np.array([resolution.working_size(make.image(*sized) / np.float32(255), 384) for sized in make.SIZED])


def loaded(monkeypatch, weights) -> intrinsic.Labeler:
    monkeypatch.setattr(intrinsic, "read", lambda file: weights)
    return intrinsic.load("shading", Path(), "cpu", "weights.pt")


# ---- what has to hold


@pytest.mark.parametrize("name", BUILD)
def test_tensors_are_those_of_the_file(name):
    keys = read_keys(make.KEYS[name])
    assert len(keys) == TENSORS[name]
    with torch.device("meta"):
        assert make.shapes(BUILD[name]()) == keys


@both
def test_network(network, name, golden):
    assert network_error(network, golden[name]) < NETWORK_BAR


def test_from_weights_to_shading(states, golden, monkeypatch, capsys):
    label = loaded(monkeypatch, {"ord_state_dict": states["ordinal"], "iid_state_dict": states["dense"]})
    notice = capsys.readouterr().err
    assert "academic use only" in notice and notice.count("\n") == 1
    shading = label(make.image(*make.REAL)[None])
    assert shading.dtype == np.float32
    assert np.abs(1 / (shading[0] + 1) - golden["real inverse"]).max() < PIPELINE_BAR


@pytest.mark.parametrize("name", make.STANDING_IN)
def test_pipeline(name, golden):
    image = make.image(*make.STANDING_IN[name])
    assert resolution.working_size(image / np.float32(255), 384) == tuple(golden[f"{name} size"])
    assert pipeline_error(name, golden) < PIPELINE_BAR


def test_working_sizes(golden):
    assert sizes().tolist() == golden["sizes"].tolist()


def test_too_small_for_a_search_of_the_resolution():
    assert resolution.working_size(make.image(40, 60, 0.1) / np.float32(255), 384) == (256, 384)


def test_shading_from_inverse_shading(golden):
    assert np.array_equal(intrinsic.uninverted(make.INVERSES), golden["uninverted"])


def test_images_of_a_batch_do_not_know_each_other(monkeypatch):
    for name, stand_in in zip(("ordinal_network", "dense_network"), make.stand_ins(), strict=True):
        monkeypatch.setattr(intrinsic, name, lambda stand_in=stand_in: stand_in)
    monkeypatch.setattr(nn.Module, "to_empty", lambda network, device: network)
    states = [stand_in.state_dict() for stand_in in make.stand_ins()]
    label = loaded(monkeypatch, dict(zip(("ord_state_dict", "iid_state_dict"), states, strict=True)))
    images = np.stack([make.image(150, 220, density) for density in (0, 0.02)])  # of different working sizes
    assert np.array_equal(label(images), np.concatenate([label(images[:1]), label(images[1:])]))


def test_other_weights_are_refused(states, monkeypatch):
    incomplete = dict(states["ordinal"])
    del incomplete["scratch.refinenet4.resConfUnit1.conv1.weight"]
    with pytest.raises(UserError, match=r"weights\.pt: weights of another network .*resConfUnit1") as refused:
        loaded(monkeypatch, {"ord_state_dict": incomplete, "iid_state_dict": states["dense"]})
    assert "\n" not in str(refused.value)
    for others in ({"ord_state_dict": states["ordinal"]}, [1, 2]):
        with pytest.raises(UserError, match=r"weights\.pt: no \w+_state_dict in it"):
            loaded(monkeypatch, others)


@pytest.mark.skipif("SCENESCOPE_ORIGINALS" not in os.environ, reason="needs checkouts of the original code")
def test_goldens_are_the_original(golden):
    made = make.goldens(Path(os.environ["SCENESCOPE_ORIGINALS"]).resolve())
    assert made.keys() == golden.keys()
    for key, values in made.items():
        assert np.abs(values - golden[key]).max() < NETWORK_BAR, key


# ---- what must not go unnoticed


@both
def test_mutation_skip_rectified_in_the_other_network(network, name, golden):
    for module in network.modules():
        if isinstance(module, networks.ResidualUnit):
            module.rectified = not module.rectified
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@both
def test_mutation_decoder_does_not_align_corners(network, name, golden, monkeypatch):
    unaligned = SimpleNamespace(interpolate=lambda x, **named: F.interpolate(x, **named | {"align_corners": False}))
    monkeypatch.setattr(networks, "F", unaligned)
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@both
def test_mutation_head_aligns_corners(network, name, golden):
    network.scratch["output_conv"][1].align_corners = True
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@both
def test_mutation_no_sigmoid(network, name, golden):
    network.scratch["output_conv"][-1] = nn.Identity()
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@dense
def test_mutation_symmetric_padding_in_the_encoder(network, name, golden, monkeypatch):
    def forward(conv, x):
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.kernel_size[0] // 2, groups=conv.groups)

    monkeypatch.setattr(Conv2dSame, "forward", forward)
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@dense
def test_mutation_epsilon_of_another_framework(network, name, golden):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


@dense
def test_mutation_activations_not_clipped(network, name, golden, monkeypatch):
    monkeypatch.setattr(nn.ReLU6, "forward", lambda module, x: x.relu())
    assert network_error(network, golden[name]) > SEEN * NETWORK_BAR


def test_mutation_no_linearisation(golden, monkeypatch):
    monkeypatch.setattr(intrinsic, "GAMMA", 1)
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_normalised_by_mean_and_deviation(golden, monkeypatch):
    run = intrinsic._run

    def normalised(network, maps):
        rgb = (maps[..., :3] - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        return run(network, np.concatenate([rgb, maps[..., 3:]], -1))

    monkeypatch.setattr(intrinsic, "_run", normalised)
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_scales_not_matched(golden, monkeypatch):
    monkeypatch.setattr(intrinsic, "matched", lambda full, base, linear: full)
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_base_and_full_exchanged(golden, monkeypatch):
    run = intrinsic._run
    exchanged = {3: [0, 1, 2], 5: [0, 1, 2, 4, 3]}
    monkeypatch.setattr(intrinsic, "_run", lambda network, maps: run(network, maps[..., exchanged[maps.shape[-1]]]))
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_shrunk_without_blur(golden, monkeypatch):
    monkeypatch.setattr(ndimage, "gaussian_filter", lambda values, *args, **named: values)
    assert pipeline_error("long", golden) > SEEN * PIPELINE_BAR


def test_mutation_borders_repeated(golden, monkeypatch):
    zoom = ndimage.zoom
    monkeypatch.setattr(ndimage, "zoom", lambda *args, **named: zoom(*args, **named | {"mode": "nearest"}))
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_size_of_the_image(golden, monkeypatch):
    monkeypatch.setattr(resolution, "contextual_size", lambda image, field: field)
    assert pipeline_error("tall", golden) > SEEN * PIPELINE_BAR


def test_mutation_rounding_errors_left_out_of_sizes(golden, monkeypatch):
    ceil = resolution.math.ceil
    monkeypatch.setattr(resolution.math, "ceil", lambda value: ceil(value - 1e-9))
    assert pipeline_error("uneven", golden) > SEEN * PIPELINE_BAR


def test_mutation_area_as_the_flag_out_of_place_asks(golden, monkeypatch):
    monkeypatch.setattr(resolution, "_linear", lambda maps, side: F.interpolate(maps, (side, side), mode="area"))
    assert sizes().tolist() != golden["sizes"].tolist()

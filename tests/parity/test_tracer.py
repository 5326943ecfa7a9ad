"""TRACER against its authors' code: TE0 and TE5 with seeded weights, and the key lists of all eight variants."""

import math
import os
from pathlib import Path

import make_tracer
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_tracer import BLACK, LABELLED, NETWORKS, PIXELS, digest, eleven, images, standardised, weights
from recipe import read_keys
from torch import Tensor, nn

from scenescope.errors import UserError
from scenescope.labelers import named, tracer
from scenescope.labelers.nets import tracer as nets
from scenescope.labelers.nets.tracer import VARIANTS, FrozenSame, Tracer, renamed

PROBABILITY, PIXEL, MASK = 1e-5, 1e-6, 3e-5  # bars: network output and input, and a mask's share of wrong pixels
ORIGINALS = os.environ.get("SCENESCOPE_ORIGINALS")
TE5 = read_keys(make_tracer.KEYS)
DIGESTS = {line.split()[0]: line.split()[1:] for line in make_tracer.DIGESTS.read_text().splitlines()}


def release_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """What our network of a variant has, under the release's keys: TE5's, with as many blocks as there are."""
    with torch.device("meta"):
        network = Tracer(variant)
    plain = len(network.stages[0])  # first blocks, which do not expand
    keys = [key for key in TE5 if "._blocks." not in key]
    for block in range(VARIANTS[variant].blocks):
        like = f"._blocks.{0 if block < plain else 38}."
        keys += [key.replace(like, f"._blocks.{block}.") for key in TE5 if like in key]
    found = network.state_dict()
    ours = renamed(dict(zip(keys, keys, strict=True)), network)
    assert set(ours) == set(found)
    return {theirs: tuple(found[key].shape) for key, theirs in ours.items()}


def opened(variant: str, state: dict[str, Tensor]) -> Tracer:
    """The network from a state dict, as from a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracer, "read", lambda file: state)
        return tracer.open_network(Path(f"{variant}.pth"), "cpu")


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(make_tracer.GOLDEN))


@pytest.fixture(scope="module")
def networks():
    return {variant: opened(variant, weights(release_shapes(variant))) for variant in NETWORKS}


@pytest.fixture(scope="module")
def labeler(tmp_path_factory):
    """From a file whose name says nothing and whose keys have the prefix, with probabilities below 1/255."""
    file = tmp_path_factory.mktemp("tracer") / "best_model.pth"
    torch.save({f"module.{k}": v for k, v in weights(release_shapes("te0"), BLACK).items()}, file)
    module, source = named(f"tracer:{file}", "saliency")
    return module.load("saliency", None, "cpu", source)


def seen(variant: str) -> Tensor:
    count, side = NETWORKS[variant]
    return standardised(images("seen", count, side, side))


@torch.no_grad()
def off(network: Tracer, variant: str, golden: dict) -> float:
    return np.abs(network(seen(variant)).numpy() - golden[variant]).max()


# Parity


@pytest.mark.parametrize("variant", NETWORKS)
def test_network(golden, networks, variant):
    assert off(networks[variant], variant, golden) <= PROBABILITY


def test_images_do_not_see_each_other(networks):
    with torch.no_grad():
        both = networks["te0"](seen("te0"))
        alone = torch.cat([networks["te0"](image) for image in seen("te0").split(1)])
    assert (both - alone).abs().max() <= PROBABILITY


@pytest.mark.parametrize("name", PIXELS)
def test_preparation(golden, name):
    found = tracer.prepare(torch.from_numpy(images(name, 1, *PIXELS[name])), 48)[0].numpy()
    assert np.abs(found - golden[f"pixels {name}"]).max() <= PIXEL


@pytest.mark.parametrize("side", [v.side for v in VARIANTS.values()])
def test_images_of_the_networks_size_are_not_resized(side):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, side, side), np.uint8))
    assert torch.equal(tracer.resized(image, side), image.int())


@pytest.mark.parametrize("name", LABELLED)
def test_masks(golden, labeler, name):
    masks, expected = labeler(images(name, 1, *LABELLED[name])), golden[f"mask {name}"] > 0
    assert masks.dtype == bool and masks.shape == (1, *LABELLED[name])
    assert 0.05 < expected.mean() < 0.95
    assert (masks[0] != expected).mean() <= MASK


def test_masks_of_a_batch(labeler):
    several = images("small", 3, *LABELLED["small"])
    assert (labeler(several) != np.concatenate([labeler(image[None]) for image in several])).mean() <= MASK


def test_silenced_channels(golden):
    """A channel that lies on the quantile is silenced, and all that are equal to it."""
    assert np.array_equal(nets.confident(eleven()).numpy(), golden["silenced"])
    assert (golden["silenced"] == 0).sum((1, 2, 3)).tolist() == [2, 3]


@pytest.mark.skipif(not ORIGINALS, reason="SCENESCOPE_ORIGINALS is not set")
def test_goldens_are_the_originals(golden):
    """The networks; the rest, too, where OpenCV and Albumentations are installed."""
    checkout = Path(ORIGINALS).resolve() / "TRACER"
    try:
        import albumentations  # noqa: F401
        import cv2  # noqa: F401
    except ImportError:
        made = make_tracer.networks(checkout)
    else:
        made = make_tracer.goldens(checkout)
        assert set(made) == set(golden)
    for name, values in made.items():
        bar = 1 if name.startswith("mask") else PROBABILITY
        assert np.abs(values.astype(float) - golden[name]).max() <= bar
    lists = make_tracer.key_lists(checkout)
    assert lists["te5"] == TE5
    assert {variant: [str(len(keys)), digest(keys)] for variant, keys in lists.items()} == DIGESTS


# Weights


def test_key_list():
    assert len(TE5) == 1387
    values = sum(math.prod(s) for key, s in TE5.items() if "running_" not in key and "num_batches" not in key)
    assert values == 31_303_954


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_takes_its_key_list(monkeypatch, variant):
    shapes = release_shapes(variant)
    assert [str(len(shapes)), digest(shapes)] == DIGESTS[variant]
    with torch.device("meta"):
        monkeypatch.setattr(tracer, "read", lambda file: {key: torch.empty(shape) for key, shape in shapes.items()})
        network = tracer.open_network(Path("unnamed.pth"), "meta")
    assert network.side == VARIANTS[variant].side and not network.training


@pytest.mark.parametrize(
    "change", ["missing", "missing coarsest", "unexpected", "shape", "not a tensor", "empty", "list", "nested"]
)
def test_other_weights_are_refused(tmp_path, change):
    state = {key: torch.zeros(()).expand(shape) for key, shape in release_shapes("te0").items()}
    match change:
        case "missing":
            del state["model.Frequency_Edge_Module1.UAM.bn.weight"]
        case "missing coarsest":
            del state["rfb4.conv_res.conv.weight"]
        case "unexpected":
            state["model._fc.bias"] = torch.zeros(1000)
        case "shape":
            state["agg.UAM.fc.weight"] = torch.zeros(224, 223, 1, 1)
        case "not a tensor":
            state["agg.UAM.fc.weight"] = 1
        case _:
            state = {"empty": {}, "list": list(state.values()), "nested": {"state_dict": state}}[change]
    file = tmp_path / "other.pth"
    torch.save(state, file)
    with pytest.raises(UserError, match=r"other\.pth: (not weights of TRACER|weights of another network)") as caught:
        tracer.load("saliency", None, "cpu", str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("te8", r"labels\.saliency: tracer:te8: no file or folder te8, nor a variant \(did you mean te\d\?\)"),
        ("te55", r"no file or folder te55, nor a variant \(did you mean te5\?\)"),
        ("nowhere/te5.pth", r"no file or folder nowhere/te5\.pth, nor a variant"),
    ],
)
def test_other_sources_are_refused(source, message):
    with pytest.raises(UserError, match=message) as caught:
        named(f"tracer:{source}", "saliency")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, *VARIANTS])
def test_variants_are_fetched_from_the_release(monkeypatch, source):
    def fetch(url: str) -> Path:
        raise UserError(url)

    monkeypatch.setattr(tracer, "fetch", fetch)
    with pytest.raises(UserError, match=rf"/Karel911/TRACER/.*/v1\.0/TRACER-Efficient-{(source or 'te5')[-1]}\.pth$"):
        tracer.load("saliency", None, "cpu", source)


# Mutations of TE5: each has to show


def pad_by_actual_side(patch, network):
    def forward(self, x):
        total = max((-(-x.shape[-1] // 2) - 1) * 2 + self.kernel_size[0] - x.shape[-1], 0)
        return nn.Conv2d.forward(self, F.pad(x, (total // 2, total - total // 2) * 2))

    patch.setattr(FrozenSame, "forward", forward)


def pad_symmetrically(patch, network):
    def forward(self, x):
        return nn.Conv2d.forward(self, F.pad(x, (self.kernel_size[0] // 2,) * 4))

    patch.setattr(FrozenSame, "forward", forward)


def backbone_epsilon(patch, network):
    for norm in _norms(network.stem_norm, network.stages):
        patch.setattr(norm, "eps", 1e-5)


def decoder_epsilon(patch, network):
    backbone = set(_norms(network.stem_norm, network.stages))
    for norm in _norms(network):
        if norm not in backbone:
            patch.setattr(norm, "eps", 1e-3)


def _norms(*modules):
    return [m for module in modules for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def no_edge(patch, network):
    patch.setattr(network.edge, "forward", lambda x: x)


def edge_after_the_backbone(patch, network):
    """The decoder sees the edges, the later stages do not."""
    edge, later, plain = network.edge.forward, network.stages[2].forward, []
    patch.setattr(network.edge, "forward", lambda x: plain.append(x) or edge(x))
    patch.setattr(network.stages[2], "forward", lambda x: later(plain[-1]))


def _mask(rule):
    """Edges by a rule on the frequencies down and right, whole numbers."""

    def mutate(patch, network):
        def high_frequencies(side, device):
            frequency = torch.fft.ifftshift(torch.arange(side) - side // 2)
            return rule(frequency[:, None], frequency)

        patch.setattr(nets, "high_frequencies", high_frequencies)

    return mutate


def mask_without_shift(patch, network):
    rule = nets.high_frequencies
    patch.setattr(nets, "high_frequencies", lambda side, device: torch.fft.fftshift(rule(side, device)))


def _confident(rule):
    def mutate(patch, network):
        patch.setattr(nets, "confident", lambda a: rule(a, torch.quantile(a, nets.CONFIDENCE, 1, keepdim=True)))

    return mutate


def _constant(name, value):
    return lambda patch, network: patch.setattr(nets, name, value)


def _corners(flag):
    """Enlargements with this flag get the other."""
    interpolate = F.interpolate

    def mutate(patch, network):
        def flipped(*args, align_corners, **kwargs):
            return interpolate(*args, align_corners=align_corners != (align_corners == flag), **kwargs)

        patch.setattr(F, "interpolate", flipped)

    return mutate


def enlarged_at_once(patch, network):
    """From stride 32 to stride 8 in one step."""
    doubled, seen = nets.doubled, []

    def once(x):
        if seen and x is seen[-1][1]:
            return F.interpolate(seen[-1][0], scale_factor=4, mode="bilinear", align_corners=True)
        seen.append((x, doubled(x)))
        return seen[-1][1]

    patch.setattr(nets, "doubled", once)


def scaled_attention(patch, network):
    patch.setattr(nets, "attended", lambda q, k, v: torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v)


MUTATIONS = {
    "padding by the actual side": pad_by_actual_side,
    "symmetric padding": pad_symmetrically,
    "epsilon 1e-5 in the backbone": backbone_epsilon,
    "epsilon 1e-3 elsewhere": decoder_epsilon,
    "no frequency edges": no_edge,
    "edges after the backbone": edge_after_the_backbone,
    "mask <= 16": _mask(lambda y, x: y**2 + x**2 > 16**2),
    "mask is a box": _mask(lambda y, x: (y.abs() >= 16) | (x.abs() >= 16)),
    "mask centred half a pixel off": _mask(lambda y, x: (y + 0.5) ** 2 + (x + 0.5) ** 2 >= 16**2),
    "mask centred one pixel off": _mask(lambda y, x: (y + 1) ** 2 + (x + 1) ** 2 >= 16**2),
    "mask centred in the corner": mask_without_shift,
    "quantile 0.05": _constant("CONFIDENCE", 0.05),
    "quantile 0.2": _constant("CONFIDENCE", 0.2),
    "quantile 0.1 kept": _confident(lambda a, limit: torch.where(a <= limit, a, 0)),
    "no channel silenced": _confident(lambda a, limit: a),
    "channels only switched": _confident(lambda a, limit: (a > limit).float()),
    "background not silenced": _constant("BACKGROUND", 1.0),
    "background above 0.9": _constant("BACKGROUND", 0.9),
    "corners apart in the aggregation": _corners(True),
    "corners aligned in the maps": _corners(False),
    "enlarged fourfold at once": enlarged_at_once,
    "attention scaled": scaled_attention,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_show(monkeypatch, golden, networks, name):
    MUTATIONS[name](monkeypatch, networks["te5"])
    moved = off(networks["te5"], "te5", golden)
    print(f"{name}: {moved:.1e}, {moved / PROBABILITY:.0f} bars")
    assert moved >= 100 * PROBABILITY


def test_mutation_of_the_quantiles_rim(golden):
    """It takes ties, or a channel on the quantile, to show: neither is there among 224 channels."""
    limit = torch.quantile(eleven(), nets.CONFIDENCE, 1, keepdim=True)
    assert np.abs(torch.where(eleven() < limit, 0, eleven()).numpy() - golden["silenced"]).max() > 0.1


@pytest.mark.parametrize("name", ["half", "wide", "tall"])
@pytest.mark.parametrize("antialias", [False, True])
def test_mutations_of_the_resizing_show(golden, name, antialias):
    image = torch.from_numpy(images(name, 1, *PIXELS[name])).permute(0, 3, 1, 2).float()
    image = F.interpolate(image, (48, 48), mode="bilinear", align_corners=False, antialias=antialias).round()
    found = standardised(image.permute(0, 2, 3, 1).numpy())[0].numpy()
    assert np.abs(found - golden[f"pixels {name}"]).max() >= 100 * PIXEL


@pytest.mark.parametrize("change", ["rounded", "any probability", "half", "BGR"])
def test_mutations_of_the_masks_show(monkeypatch, golden, labeler, change):
    rules = {"rounded": lambda p: (255 * p).round() > 0, "any probability": lambda p: p > 0, "half": lambda p: p > 0.5}
    image = images("large", 1, *LABELLED["large"])
    if change == "BGR":
        image = image[..., ::-1].copy()
    else:
        rule = rules[change]
        monkeypatch.setattr(tracer, "foreground", lambda p, *size: rule(F.interpolate(p, size, mode="bilinear")[:, 0]))
    moved = (labeler(image)[0] != (golden["mask large"] > 0)).mean()
    print(f"{change}: {moved:.2%} of the pixels, {moved / MASK:.0f} bars")
    assert moved >= 100 * MASK

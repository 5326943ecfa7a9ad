"""Goldens of MiDaS' DPT-Large, made by its own code with seeded weights, and its key list.

    python tests/parity/make_midas.py /path/to/MiDaS

The checkout is of github.com/isl-org/MiDaS; OpenCV has to be installed. The goldens come from a small DPT of
the same architecture; DPT-Large itself is built by ``original(checkout, LARGE)``, with the same names.
"""

import sys
from itertools import chain
from pathlib import Path
from unittest import mock

import numpy as np
import timm
import torch
import torch.nn.functional as F
from recipe import seeded_image, seeded_state
from torch import Tensor, nn
from transformers import DPTConfig, DPTForDepthEstimation

GOLDEN = Path(__file__).parent / "goldens" / "midas.npz"
KEYS = Path(__file__).parent / "keys" / "midas_dpt_large.txt"
UNUSED = "neck.fusion_stage.layers.0.residual_layer1."

# What Intel/dpt-large has in its config.json, as far as it bears on the network.
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "backbone_out_indices": [5, 11, 17, 23],
    "neck_hidden_sizes": [256, 512, 1024, 1024],
    "fusion_hidden_size": 256,
    "readout_type": "project",
    "reassemble_factors": [4, 2, 1, 0.5],
    "image_size": 384,
    "patch_size": 16,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "layer_norm_eps": 1e-12,
    "is_hybrid": False,
    "add_projection": False,
    "use_batch_norm_in_fusion_residual": False,
}
SMALL = LARGE | {
    "hidden_size": 64,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "backbone_out_indices": [2, 5, 8, 11],
    "neck_hidden_sizes": [16, 24, 32, 40],
    "fusion_hidden_size": 32,
}
# Images to label, named and sized: enlarged and reduced, square and not, one and two.
IMAGES = {"little": (2, 64, 64), "wide": (1, 60, 100), "tall": (1, 500, 400), "usual": (1, 512, 512)}
SIDES = (64, 100, 200, 383, 384, 385, 400, 480, 512, 640, 768, 1000, 1080, 1920)


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor that Transformers' network has, with its shape."""
    with torch.device("meta"):
        network = DPTForDepthEstimation(DPTConfig(**config))
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def weights(config: dict) -> dict[str, Tensor]:
    """Seeded weights under Transformers' names.

    Tokens start as small as position embeddings are, about 0.005, so that the epsilon of the first layer
    normalisations matters; and depth is positive nearly everywhere, since the last ReLU hides what is below 0.
    """
    state = seeded_state(shapes(config))
    for key in state:
        if key.startswith("dpt.embeddings.") and "position" not in key:
            state[key] *= 0.01
    state["head.head.4.bias"] += 2
    return state


def images(name: str) -> np.ndarray:
    """The uint8 images [N, H, W, 3] of that name."""
    count, height, width = IMAGES[name]
    return np.stack([seeded_image(f"midas {name} {index}", height, width) for index in range(count)])


def pixels(height: int, width: int) -> Tensor:
    """What the network may see, float32 [1, 3, height, width], without any resizing."""
    return torch.from_numpy(seeded_image("midas pixels", height, width)).permute(2, 0, 1)[None].float() / 127.5 - 1


def transformers_names(key: str) -> list[str]:
    """The tensors of Transformers' network that, one below the other, are that of ``key`` in MiDaS."""
    part, _, rest = key.partition(".")
    if part == "scratch":
        name, _, rest = rest.partition(".")
        if name.endswith("_rn"):  # layer1_rn
            return [f"neck.convs.{int(name[5]) - 1}.{rest}"]
        if name == "output_conv":
            return [f"head.head.{rest}"]
        for ours, theirs in (
            ("out_conv", "projection"),
            ("resConfUnit", "residual_layer"),
            ("conv1", "convolution1"),
            ("conv2", "convolution2"),
        ):
            rest = rest.replace(ours, theirs, 1)
        return [f"neck.fusion_stage.layers.{4 - int(name[9])}.{rest}"]  # refinenet4 comes first
    name, _, rest = rest.partition(".")
    if name.startswith("act_postprocess"):
        level = int(name[15]) - 1
        step, _, rest = rest.partition(".")
        if step == "0":
            return [f"neck.reassemble_stage.readout_projects.{level}.{rest.removeprefix('project.')}"]
        return [f"neck.reassemble_stage.layers.{level}.{'projection' if step == '3' else 'resize'}.{rest}"]
    if not rest.startswith("blocks."):
        start, _, kind = rest.rpartition(".")
        stem = {"": "embeddings", "patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
        return [f"dpt.{stem[start]}.{'position_embeddings' if kind == 'pos_embed' else kind}"]
    _, block, rest = rest.split(".", 2)
    module, _, kind = rest.rpartition(".")
    inside = {
        "norm1": ["layernorm_before"],
        "norm2": ["layernorm_after"],
        "attn.qkv": [f"attention.attention.{part}" for part in ("query", "key", "value")],
        "attn.proj": ["attention.output.dense"],
        "mlp.fc1": ["intermediate.dense"],
        "mlp.fc2": ["output.dense"],
    }
    return [f"dpt.encoder.layer.{block}.{name}.{kind}" for name in inside[module]]


def original(checkout: Path, config: dict, state: dict[str, Tensor]) -> nn.Module:
    """MiDaS' own DPTDepthModel of that size, with weights that have Transformers' names, each used once."""
    sys.path.insert(0, str(checkout))
    from midas import blocks, dpt_depth
    from midas.backbones import vit

    width, necks, depth = config["hidden_size"], config["neck_hidden_sizes"], config["num_hidden_layers"]
    backbone = {24: "vitl16_384", 12: "vitb16_384"}[depth]  # these fix which layers are tapped

    def encoder(_pretrained, use_readout, hooks):
        model = timm.create_model(
            "vit_large_patch16_384",
            pretrained=False,
            embed_dim=width,
            depth=depth,
            num_heads=config["num_attention_heads"],
        )
        return vit._make_vit_b16_backbone(model, necks, hooks=hooks, vit_features=width, use_readout=use_readout)

    make_scratch = blocks._make_scratch
    with (
        mock.patch.object(blocks, f"_make_pretrained_{backbone}", encoder),
        mock.patch.object(blocks, "_make_scratch", lambda _, *others, **named: make_scratch(necks, *others, **named)),
    ):
        network = dpt_depth.DPTDepthModel(backbone=backbone, features=config["fusion_hidden_size"])

    wanted = [key for key in network.state_dict() if not key.startswith("pretrained.model.head.")]  # classifies
    names = {key: transformers_names(key) for key in wanted}
    used = list(chain.from_iterable(names.values()))
    assert len(used) == len(set(used)) and set(used) == set(state), set(used) ^ set(state)
    loaded = network.load_state_dict({k: torch.cat([state[n] for n in names[k]]) for k in wanted}, strict=False)
    assert not loaded.unexpected_keys and all(".head." in key for key in loaded.missing_keys)
    return network.eval()


@torch.no_grad()
def goldens(checkout: Path) -> dict[str, np.ndarray]:
    """What MiDaS' code makes of the seeded images and weights; large maps on a grid of every few pixels."""
    sys.path.insert(0, str(checkout))
    import hubconf
    from midas.transforms import Resize

    network = original(checkout, SMALL, weights(SMALL))
    transform = hubconf.transforms().dpt_transform
    resize = Resize(384, 384, None, True, 32, "minimal")
    made = {
        "sizes": np.array([[h, w, *resize.get_size(w, h)[::-1]] for h in SIDES for w in SIDES], np.int16),
        "network square": network(pixels(384, 384)).numpy()[:, ::4, ::4],
        "network wide": network(pixels(96, 160)).numpy(),
    }
    for name in IMAGES:
        seen = torch.cat([transform(image) for image in images(name)])
        depth = F.interpolate(network(seen)[:, None], images(name).shape[1:3], mode="bicubic", align_corners=False)
        made[f"pixels {name}"] = seen.numpy()[..., ::9, ::9]
        made[f"depth {name}"] = depth[:, 0].numpy()[:, :: 1 + depth.shape[2] // 100, :: 1 + depth.shape[3] // 100]
    return made


def main() -> None:
    torch.set_num_threads(2)
    np.savez_compressed(GOLDEN, **goldens(Path(sys.argv[1]).resolve()))
    kept = {key: shape for key, shape in shapes(LARGE).items() if not key.startswith(UNUSED)}
    KEYS.write_text("".join(f"{key} {','.join(map(str, shape))}\n" for key, shape in kept.items()))


if __name__ == "__main__":
    main()

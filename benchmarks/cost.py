"""What the study of SD v1.4 needs with the paper's 617 images, counted from shapes: python -m benchmarks.cost.

Nothing is run and no weight is needed: networks are built without memory, and every multiply and add of theirs is
counted as one operation each. It prints the table of the README.
"""

from math import prod

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from scenescope.disk import size
from scenescope.layers import attention_layers
from scenescope.prompts import split_prompts
from stages.ridge import resplit

TRAINING, VALIDATION, TEST = 200, 46, 371  # images of the paper's split
IMAGES = TRAINING + VALIDATION + TEST
STEPS, SIDE, TARGETS, FOLDS, SPLITS = 15, 64, 3, 5, 3
BLOCKS = 7  # for each of which, and for each step, the paper's code generates every image up to that step


def operations(network: torch.nn.Module, *inputs) -> int:
    """Multiplies and adds of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops()


def needed() -> list[int]:
    """Images whose activations the map's three passes compute at one step: for statistics, validation and test.

    For all splits together; for the first alone, which is that of the controls, they are the split's own. SD v1.4's
    activations are too many to keep from one pass to the next.
    """
    split = ["train"] * (TRAINING + VALIDATION) + ["test"] * TEST
    names = [f"{i:04d}" for i in range(IMAGES)]
    table = pd.DataFrame({"prompt_id": names, "prompt": names, "seed": 0, "split": split})
    table = split_prompts(table, VALIDATION, TEST, seed=0)
    splits = resplit(table, SPLITS, 0, FOLDS)
    passes = [[np.concatenate(s.folds), s.validation, s.test] for s in splits]
    return [len(np.unique(np.concatenate(part))) for part in zip(*passes, strict=True)]


def rows() -> list[tuple[str, str, float, int]]:
    """What is done; how many calls of what, one image each; operations; bytes kept, on disk unless it is said."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=SIDE, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        latent, text = torch.empty(1, 4, SIDE, SIDE), torch.empty(1, 77, 768)
        call = operations(unet, latent, torch.empty(1), text)
        decoding = operations(vae.decoder, latent)
    layers = attention_layers(unet.config)
    shapes = {layer.name: (layer.grid(SIDE) ** 2, layer.channels) for layer in layers}
    images = IMAGES * STEPS
    columns = 2 * TARGETS  # each target and its control task
    of_network, of_control = STEPS * sum(needed()), images
    one_image = sum(2 * tokens * channels * (channels + columns) for tokens, channels in shapes.values())
    moments = 8 * sum(channels * (channels + columns) for _, channels in shapes.values())
    trained = STEPS * (needed()[0] + 2 * TRAINING)  # of the U-Net, and of its two controls
    latents, captured = 4 * 4 * SIDE**2, 2 * prod(shapes["dec4_l1"])
    papers = TARGETS * BLOCKS * IMAGES * sum(range(1, STEPS + 1))
    return [
        ("generate", f"{2 * images:,} U-Net, {IMAGES:,} decoder", 2 * images * call + IMAGES * decoding, 0),
        ("latents and predictions of every step", "", 0, IMAGES * (2 * STEPS + 1) * latents),
        ("capture at `dec4_l1`", f"{images:,} U-Net", images * call, images * captured),
        ("map: the U-Net, three splits", f"{of_network:,} U-Net", of_network * call, 0),
        ("map: random and shuffled weights", f"{2 * of_control:,} U-Net", 2 * of_control * call, 0),
        ("map: statistics, in memory", f"{trained:,} images", trained * one_image, FOLDS * SPLITS * moments),
        ("see", f"{2 * TEST * STEPS:,} decoder", 2 * TEST * STEPS * decoding, 0),
        ("*the paper's procedure, three targets*", f"*{2 * papers:,} U-Net*", 2 * papers * call, 0),
    ]


if __name__ == "__main__":
    print("| | calls, one image each | operations | bytes kept |\n|---|---|---|---|")
    for name, calls, count, taken in rows():
        print(f"| {name} | {calls} | {f'{count:.1e}' if count else ''} | {size(taken) if taken else ''} |")

"""The two networks of ordinal shading (Careaga and Aksoy 2023, "Intrinsic Image Decomposition via Ordinal Shading").

Both are an ImageNet encoder with features at strides 4, 8, 16 and 32, which a RefineNet decoder merges from coarse
to fine: the two architectures of MiDaS v2.1 (Ranftl et al. 2020), each ending in a sigmoid. Modules carry the names
of the published weights, hence ``pretrained`` for an encoder and ``scratch`` for a decoder.
"""

import timm
import torch.nn.functional as F
from torch import Tensor, nn


def ordinal_network() -> nn.Module:
    """Linear RGB [N, 3, H, W] → ordinal inverse shading [N, 1, H, W] in (0, 1). H and W are multiples of 32."""
    resnext = timm.create_model("resnext101_32x8d", num_classes=0)
    stem = (resnext.conv1, resnext.bn1, resnext.act1, resnext.maxpool)
    stages = (nn.Sequential(*stem, resnext.layer1), resnext.layer2, resnext.layer3, resnext.layer4)
    return ShadingNet(stages, taps=(256, 512, 1024, 2048), widths=(256, 256, 256, 256), large=True)


def dense_network() -> nn.Module:
    """Linear RGB and two ordinal estimates [N, 5, H, W] → inverse shading [N, 1, H, W] in (0, 1). Multiples of 32."""
    lite = timm.create_model("tf_efficientnet_lite3", in_chans=5, num_classes=0)
    # Published before timm put activations into its normalisations: the third place of the stem was one.
    stem = (lite.conv_stem, lite.bn1, nn.Identity())
    groups = ((*stem, *lite.blocks[:2]), lite.blocks[2:3], lite.blocks[3:5], lite.blocks[5:])
    stages = [nn.Sequential(*group) for group in groups]
    return ShadingNet(stages, taps=(32, 48, 136, 384), widths=(64, 128, 256, 512), large=False)


class ShadingNet(nn.Module):
    """Encoder ``stages`` with ``taps`` channels, and a decoder whose levels have ``widths`` channels, finest first.

    The ``large`` network differs from the small one in two ways: its fusions keep the width, and its residual units
    add their rectified input.
    """

    def __init__(self, stages, taps: tuple[int, ...], widths: tuple[int, ...], large: bool):
        super().__init__()
        self.pretrained = nn.ModuleDict({f"layer{n}": stage for n, stage in enumerate(stages, 1)})
        self.scratch = nn.ModuleDict()
        finer = (widths[0], *widths)
        for n, (tap, width) in enumerate(zip(taps, widths, strict=True), 1):
            self.scratch[f"layer{n}_rn"] = nn.Conv2d(tap, width, 3, padding=1, bias=False)
            self.scratch[f"refinenet{n}"] = Fusion(width, None if large else finer[n - 1], rectified=large)
        self.scratch["output_conv"] = nn.Sequential(
            nn.Conv2d(widths[0], widths[0] // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(widths[0] // 2, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for n in (1, 2, 3, 4):
            x = self.pretrained[f"layer{n}"](x)
            skips.append(self.scratch[f"layer{n}_rn"](x))
        merged = self.scratch["refinenet4"](skips[3])
        for n in (3, 2, 1):
            merged = self.scratch[f"refinenet{n}"](merged, skips[n - 1])
        return self.scratch["output_conv"](merged)


class Fusion(nn.Module):
    """Add what the encoder saw at this stride to what comes from below, refine, and double the size.

    ``outputs`` channels where a 1 × 1 convolution follows, None where there is none. The lowest fusion has nothing
    below it, and leaves its first unit unused.
    """

    def __init__(self, channels: int, outputs: int | None, rectified: bool):
        super().__init__()
        self.resConfUnit1 = ResidualUnit(channels, rectified)
        self.resConfUnit2 = ResidualUnit(channels, rectified)
        self.out_conv = nn.Identity() if outputs is None else nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        x = F.interpolate(self.resConfUnit2(x), scale_factor=2, mode="bilinear", align_corners=True)
        return self.out_conv(x)


class ResidualUnit(nn.Module):
    """Two convolutions, each after a ReLU, and a skip.

    The large network was trained with a first ReLU that worked in place, so that its skip adds the ``rectified``
    input. Its weights need that.
    """

    def __init__(self, channels: int, rectified: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        positive = x.relu()
        return self.conv2(self.conv1(positive).relu()) + (positive if self.rectified else x)

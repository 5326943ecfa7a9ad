"""TRACER: salient objects by attention to their edges (Lee, Shin and Han 2022, arXiv:2112.07380).

An EfficientNet whose earliest features are sharpened by what is of high frequency in them, and a decoder that
adds a coarse map of the object and two refinements of it. Every number is that of the authors' release.
"""

import re
from collections import OrderedDict
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RADIUS = 16  # frequencies below it, in periods a map, are no edges (the paper's r)
CONFIDENCE = 0.1  # the share of channels that union attention silences: those least attended to (gamma)
BACKGROUND = 0.93  # above it, background is so sure that nothing on it is looked at again (d)
TAPS = (1, 2, 4, 6)  # EfficientNet's stages with the last features at strides 4, 8, 16 and 32
DECODER = (32, 64, 128)  # channels at strides 8, 16 and 32


class Variant(NamedTuple):
    side: int  # of the images it was trained on
    nominal: int  # side of the images that its EfficientNet was made for
    blocks: int  # of that EfficientNet
    channels: int  # of the coarsest features


VARIANTS = {
    "te0": Variant(320, 224, 16, 320),
    "te1": Variant(320, 240, 23, 320),
    "te2": Variant(352, 260, 23, 352),
    "te3": Variant(384, 300, 26, 384),
    "te4": Variant(448, 380, 32, 448),
    "te5": Variant(512, 456, 39, 512),
    "te6": Variant(576, 528, 45, 576),
    "te7": Variant(640, 600, 55, 640),
}


class Tracer(nn.Module):
    """From standardised images [N, 3, S, S] to the probability [N, 1, S, S] that a pixel is of a salient object.

    S is a multiple of 32.
    """

    def __init__(self, variant: str):
        super().__init__()
        self.side = VARIANTS[variant].side
        backbone = timm.create_model(f"tf_efficientnet_b{variant[-1]}")
        freeze_padding(backbone, VARIANTS[variant].nominal)
        self.stem, self.stem_norm, self.stages = backbone.conv_stem, backbone.bn1, backbone.blocks
        c4, c8, c16, c32 = (info["num_chs"] for info in backbone.feature_info[1:])
        self.edge = FrequencyEdge(c4)
        self.field8, self.field16, self.field32 = map(ReceptiveField, (c8, c16, c32), DECODER)
        self.aggregation = Aggregation(*DECODER)
        self.object8, self.object4 = ObjectAttention(c8), ObjectAttention(c4)

    def forward(self, images: Tensor) -> Tensor:
        x, taps = self.stem_norm(self.stem(images)), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number == TAPS[0]:
                x = self.edge(x)  # the later stages see the edges, too
            if number in TAPS:
                taps.append(x)
        x4, x8, x16, x32 = taps

        coarse = self.aggregation(self.field8(x8), self.field16(x16), self.field32(x32))
        finer = self.object8(coarse, x8)
        finest = self.object4(enlarged(finer, 2), x4)
        return torch.sigmoid((enlarged(finest, 4) + enlarged(finer, 8) + enlarged(coarse, 8)) / 3)


def enlarged(maps: Tensor, factor: int) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


class FrozenSame(nn.Conv2d):
    """A strided convolution, made like another, with the "SAME" padding of inputs of one ``side``, whatever it gets."""

    def __init__(self, like: nn.Conv2d, side: int):
        kernel, stride = like.kernel_size[0], like.stride[0]
        super().__init__(like.in_channels, like.out_channels, kernel, stride, groups=like.groups, bias=False)
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        self.sides = (total // 2, total - total // 2) * 2  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.sides))


def freeze_padding(backbone: nn.Module, side: int) -> None:
    """Pad in an EfficientNet as images of its nominal ``side`` need it, which the release does at any side.

    By the actual side, as TensorFlow pads, features would lie a pixel aside of where its weights expect them.
    """
    strided = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.Conv2d) and m.stride[0] > 1]
    for name, plain in strided:
        backbone.set_submodule(name, FrozenSame(plain, side))
        side = -(-side // plain.stride[0])


def convolution(inputs: int, outputs: int, kernel: int | tuple = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """One that keeps height and width."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(dilation * (k // 2) for k in kernel)
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)


def full(inputs: int, outputs: int, kernel: int | tuple = 1, dilation: int = 1) -> nn.Sequential:
    conv = convolution(inputs, outputs, kernel, dilation)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs), selu=nn.SELU()))


def depthwise(channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    conv = convolution(channels, channels, kernel, dilation, channels)
    return nn.Sequential(OrderedDict(DWConv=conv, bn=nn.BatchNorm2d(channels), selu=nn.SELU()))


def separable(inputs: int, outputs: int) -> nn.Sequential:
    layers = depthwise(inputs, 3)
    layers.PWConv, layers.bn2, layers.selu2 = convolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.SELU()
    return layers


class ChannelAttention(nn.Module):
    """Attention [N, C, 1, 1] in (0, 1) to the channels of features [N, C, H, W]; each channel is its mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm2d(channels))
        self.channel_q, self.channel_k, self.channel_v, self.fc = (convolution(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        means = self.norm(x.mean((2, 3), keepdim=True))
        q, k, v = (project(means).squeeze(3) for project in (self.channel_q, self.channel_k, self.channel_v))
        return torch.sigmoid(self.fc(attended(q, k, v).unsqueeze(3)))


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention among the rows of ``q``, ``k`` and ``v`` [N, R, F]; not scaled by the root of F."""
    return torch.softmax(q @ k.mT, -1) @ v


class UnionAttention(nn.Module):
    """One map [N, 1, H, W] of features [N, C, H, W]: attention to channels, then among the rows of the image."""

    def __init__(self, channels: int):
        super().__init__()
        self.channel = ChannelAttention(channels)
        self.bn = nn.BatchNorm2d(channels)
        self.spatial_q, self.spatial_k, self.spatial_v = (convolution(channels, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        attention = self.channel(x)
        x = self.bn(x * attention + x) * confident(attention)
        q, k, v = (project(x).squeeze(1) for project in (self.spatial_q, self.spatial_k, self.spatial_v))
        return (attended(q, k, v) + v).unsqueeze(1)


def confident(attention: Tensor) -> Tensor:
    """Attention [N, C, 1, 1] with zeros for the share ``CONFIDENCE`` of an image's channels that have the least."""
    # Between two channels the quantile is interpolated; a channel that lies on it is silenced.
    threshold = torch.quantile(attention, CONFIDENCE, dim=1, keepdim=True)
    return torch.where(attention <= threshold, 0, attention)


class Contour(nn.Module):
    """One map [N, 1, H, W], never negative, of features [N, inputs, H, W] at four scales."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.DWSConv = separable(inputs, channels)
        for number, (kernel, dilation) in enumerate([(1, 1), (3, 1), (3, 3), (3, 5)], start=1):
            scale = nn.Sequential(depthwise(channels, kernel, dilation), full(channels, channels // 4))
            self.add_module(f"DWConv{number}", scale)
        self.conv = full(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.DWSConv(x)
        scales = torch.cat([self.DWConv1(x), self.DWConv2(x), self.DWConv3(x), self.DWConv4(x)], 1)
        return F.relu(self.conv(scales + x))


class FrequencyEdge(nn.Module):
    """Features [N, C, S, S] with a map of their edges added to every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.channel = ChannelAttention(channels)
        self.unused = nn.BatchNorm2d(channels)  # the release has it, though nothing goes through it
        self.contour = Contour(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        sharp = torch.fft.ifft2(torch.fft.fft2(x) * high_frequencies(x.shape[-1], x.device)).abs()
        return x + self.contour(sharp * self.channel(sharp) + sharp)


def high_frequencies(side: int, device: torch.device) -> Tensor:
    """Which coefficients of ``fft2``, bool [side, side], are outside of the disc of ``RADIUS`` around the mean."""
    # Counted in whole numbers, as (16, 0) lies on the disc's rim and must not get inside by rounding.
    frequency = torch.fft.ifftshift(torch.arange(side, device=device) - side // 2)
    return frequency[:, None] ** 2 + frequency**2 >= RADIUS**2


class ReceptiveField(nn.Module):
    """Features [N, inputs, H, W] seen through windows of four sizes, [N, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.branch0 = nn.Sequential(full(inputs, outputs))
        for number, k in enumerate((3, 5, 7), start=1):
            lines = full(outputs, outputs, (1, k)), full(outputs, outputs, (k, 1))
            branch = nn.Sequential(full(inputs, outputs), *lines, full(outputs, outputs, 3, dilation=k))
            self.add_module(f"branch{number}", branch)
        self.conv_cat = full(4 * outputs, outputs, 3)
        self.conv_res = full(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)
        return F.relu(self.conv_cat(branches) + self.conv_res(x))


class Aggregation(nn.Module):
    """The first map, at stride 8, of features at strides 8, 16 and 32; the coarser ones gate the finer ones."""

    def __init__(self, c8: int, c16: int, c32: int):
        super().__init__()
        self.conv_upsample1 = full(c32, c16, 3)
        self.conv_upsample2 = full(c32, c8, 3)
        self.conv_upsample3 = full(c16, c8, 3)
        self.conv_upsample4 = full(c32, c32, 3)
        self.conv_upsample5 = full(c32 + c16, c32 + c16, 3)
        self.conv_concat2 = full(c32 + c16, c32 + c16, 3)
        self.conv_concat3 = full(c32 + c16 + c8, c32 + c16 + c8, 3)
        self.union = UnionAttention(c32 + c16 + c8)

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> Tensor:
        x32_at_16 = doubled(x32)
        gated8 = self.conv_upsample2(doubled(x32_at_16)) * self.conv_upsample3(doubled(x16)) * x8
        gated16 = self.conv_upsample1(x32_at_16) * x16
        joined16 = self.conv_concat2(torch.cat([gated16, self.conv_upsample4(x32_at_16)], 1))
        return self.union(self.conv_concat3(torch.cat([gated8, self.conv_upsample5(doubled(joined16))], 1)))


def doubled(x: Tensor) -> Tensor:
    # Corner on corner, unlike the maps' own enlargement: the release was trained so.
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class ObjectAttention(nn.Module):
    """A map [N, 1, H, W] (before its sigmoid) with the contour added that features [N, C, H, W] show there."""

    def __init__(self, channels: int):
        super().__init__()
        self.contour = Contour(channels, channels // 2)

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        return maps + self.contour(looked_at(torch.sigmoid(maps)) * features)


def looked_at(probability: Tensor) -> Tensor:
    """The weight of each pixel: 1, but only its object's ``probability`` where background is sure."""
    # Object and background, p + (1 - p), are both looked at; sure background drops out of the sum.
    return torch.where(1 - probability > BACKGROUND, probability, 1)


# Prefixes in the release's files and here. The first that fits is taken.
PREFIXES = {
    "model.Frequency_Edge_Module1.UAM.bn.": "edge.unused.",
    "model.Frequency_Edge_Module1.UAM.": "edge.channel.",
    "model.Frequency_Edge_Module1.": "edge.contour.",
    "model._conv_stem.": "stem.",
    "model._bn0.": "stem_norm.",
    "rfb2.": "field8.",
    "rfb3.": "field16.",
    "rfb4.": "field32.",
    "agg.UAM.bn.": "aggregation.union.bn.",
    "agg.UAM.spatial_": "aggregation.union.spatial_",
    "agg.UAM.": "aggregation.union.channel.",
    "agg.": "aggregation.",
    "ObjectAttention2.conv1.": "object8.contour.conv.",
    "ObjectAttention2.": "object8.contour.",
    "ObjectAttention1.conv1.": "object4.contour.conv.",
    "ObjectAttention1.": "object4.contour.",
}
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"} | SQUEEZE
LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
LATER |= {"_project_conv": "conv_pwl", "_bn2": "bn3"} | SQUEEZE


def recognised(state: dict[str, Tensor]) -> str | None:
    """The variant that a state dict of the release is of, by the number of blocks and the coarsest features."""
    blocks = len({match[0] for key in state if (match := re.match(r"model\._blocks\.\d+\.", key))})
    coarsest = state.get("rfb4.conv_res.conv.weight")
    channels = coarsest.shape[1] if coarsest is not None and coarsest.ndim == 4 else None
    found = [name for name, v in VARIANTS.items() if (v.blocks, v.channels) == (blocks, channels)]
    return found[0] if found else None


def renamed(state: dict[str, Tensor], network: Tracer) -> dict[str, Tensor]:
    """A state dict with the keys that ``network`` has, from one with the release's; unknown keys stay as they are."""
    blocks = [(stage, block) for stage, blocks in enumerate(network.stages) for block in range(len(blocks))]

    def name(key: str) -> str:
        if match := re.fullmatch(r"model\._blocks\.(\d+)\.(\w+)\.(\w+)", key):
            stage, block = blocks[int(match[1])]
            layer = (LATER if stage else FIRST).get(match[2], match[2])
            return f"stages.{stage}.{block}.{layer}.{match[3]}"
        for theirs, ours in PREFIXES.items():
            if key.startswith(theirs):
                return ours + key.removeprefix(theirs)
        return key

    return {name(key): value for key, value in state.items()}

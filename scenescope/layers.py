"""The self-attention layers of a Stable Diffusion U-Net: their names, modules and shapes.

Names are the paper's (Table 1): Encoder N is ``down_blocks.{N-1}``, Decoder N is ``up_blocks.{N-1}``,
and layer k is ``attentions.{k-1}``. All is read from the U-Net's configuration, so a model with other
blocks has other layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """One self-attention layer; ``factor`` is the number of latent pixels along a side of one token."""

    name: str
    module: str
    channels: int
    factor: int

    def grid(self, latent_size: int) -> int:
        """Tokens along a side, for latents of ``latent_size`` pixels along a side."""
        return latent_size // self.factor


def attention_layers(config: dict[str, Any]) -> list[Layer]:
    """The layers of a U-Net, in the order in which it runs them, from its ``config.json``."""
    widths = config["block_out_channels"]
    depth = config["layers_per_block"]
    last = len(widths) - 1
    layers = []
    for block, kind in enumerate(config["down_block_types"]):
        for k in range(depth if kind.startswith("CrossAttn") else 0):
            layers.append(_layer(f"enc{block + 1}_l{k + 1}", f"down_blocks.{block}", k, widths[block], 2**block))
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn":
        layers.append(_layer("mid_l1", "mid_block", 0, widths[-1], 2**last))
    for block, kind in enumerate(config["up_block_types"]):
        level = last - block
        for k in range(depth + 1 if kind.startswith("CrossAttn") else 0):
            layers.append(_layer(f"dec{block + 1}_l{k + 1}", f"up_blocks.{block}", k, widths[level], 2**level))
    return layers


def _layer(name: str, block: str, index: int, channels: int, factor: int) -> Layer:
    module = f"{block}.attentions.{index}.transformer_blocks.0.attn1.to_out.0"
    return Layer(name, module, channels, factor)


@contextmanager
def listening(unet: nn.Module, layers: list[Layer], receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within the context, each call of the U-Net passes every layer's output [B, tokens, channels] to ``receive``."""
    handles = [
        unet.get_submodule(layer.module).register_forward_hook(
            lambda module, args, output, name=layer.name: receive(name, output)
        )
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

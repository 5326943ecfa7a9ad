"""What makes PyTorch faster on a CPU and changes no result beyond the last digits. On a GPU none of it is used."""

import ctypes
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn import functional

# glibc's mallopt: no blocks of their own for large tensors, and nothing handed back to the system until the end
M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD = -4, -1, -2


def keep_pages() -> None:
    """Let the process use its memory again, instead of asking the system anew for every large tensor.

    The system clears each page that it gives: a fifth of a forward pass at a batch of 32. Where the C library is
    not glibc, nothing happens.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 2**26)


class PointwiseLinear(nn.Linear):
    """A linear layer, computed as the convolution of 1 × 1 that it is.

    PyTorch leaves matrix products in float32 to MKL and convolutions to oneDNN; on processors that are not Intel's,
    MKL's take twice as long or more. See benchmarks/bench.py.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(1, 1, -1, self.in_features).movedim(-1, 1)  # a view: channels last, which oneDNN likes
        outputs = functional.conv2d(rows, self.weight[:, :, None, None], self.bias)
        return outputs.movedim(1, -1).reshape(*inputs.shape[:-1], self.out_features)


def linear_by_convolution(network: nn.Module) -> None:
    """Make every plain linear layer of a float32 network on the CPU a ``PointwiseLinear``, in place."""
    weight = next(network.parameters())
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = PointwiseLinear

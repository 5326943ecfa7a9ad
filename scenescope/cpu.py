"""What makes PyTorch faster on a CPU and changes no result beyond the last digits. On a GPU none of it is used."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

# glibc's mallopt: no blocks of their own for large tensors, and nothing handed back to the system until the end
M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD = -4, -1, -2
Result = TypeVar("Result")
LEAST_SHARE = 16  # images: with fewer, what Python does for each layer takes longer than the layer


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


def prepare(network: nn.Module) -> None:
    """Make a float32 network on the CPU faster, in place.

    Every plain linear layer becomes a ``PointwiseLinear``, and weights lie channels last: oneDNN then takes
    activations as they are, and attention reads the tokens of a picture without a copy.
    """
    weight = next(network.parameters())
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        network.to(memory_format=torch.channels_last)
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = PointwiseLinear


def in_shares(call: Callable[..., Result], *batch: Tensor) -> list[Result]:
    """The results of ``call`` on equal shares of a batch [N, ...], in order; on a GPU, the batch is the only share.

    On a CPU shares are computed side by side, each by its part of PyTorch's threads: a small network's layers are too
    short for several threads to share one without waiting for each other. ``call`` computes no gradients.
    """
    threads = torch.get_num_threads()
    most = len(batch[0]) // LEAST_SHARE if batch[0].device.type == "cpu" else 1
    count = max(n for n in range(1, max(most, 1) + 1) if threads % n == 0)  # or threads would be left without work
    if count == 1:
        return [call(*batch)]

    def of_share(*share: Tensor) -> Result:
        torch.set_num_threads(threads // count)  # of this thread
        with torch.no_grad():  # likewise
            return call(*share)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(of_share, *(tensor.tensor_split(count) for tensor in batch)))

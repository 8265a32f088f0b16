"""Parts of several networks: one module run over both dates, the check of the input, and a convolution's block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def both_dates(run: Callable[[Tensor], Tensor], before: Tensor, after: Tensor, separate: bool) -> tuple[Tensor, Tensor]:
    """Run one module over both dates.

    In training (`separate`) it runs on the earlier date, then on the later one: each batch normalisation uses one
    date's statistics and updates its running statistics twice, as in the published networks. In evaluation the dates
    share one batch, which is faster and gives the same numbers.
    """
    if separate:
        return run(before), run(after)
    both = run(torch.cat([before, after]))
    return both[: before.shape[0]], both[before.shape[0] :]  # unlike chunk(2), this exports for any batch size


def check_pair(before: Tensor, after: Tensor, divisor: int, channels: int) -> None:
    """Raise ValueError unless both dates are (B, channels, H, W) of one shape, H and W multiples of `divisor`."""
    if before.shape != after.shape:
        raise ValueError(f"the dates differ in shape: before {tuple(before.shape)}, after {tuple(after.shape)}")
    if before.ndim != 4 or before.shape[1] != channels:
        raise ValueError(f"expected images of shape (B, {channels}, H, W), got {tuple(before.shape)}")
    height, width = before.shape[-2:]
    if height % divisor or width % divisor or not (height and width):
        raise ValueError(f"images are {height} x {width}: height and width must be multiples of {divisor}; crop or pad")


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, bias: bool = False) -> list[nn.Module]:
    """Convolution that keeps the size, batch normalisation, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

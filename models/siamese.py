"""Parts of several networks: the scaling and the check of the input, one module run over both dates, a block."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


class InputScaling(nn.Module):
    """Scales uint8 to [0, 1] and normalises each date by its mean and standard deviation, on the tensors' device.

    Args:
        statistics: "mean" and "std", each (2, C) in [0, 1], by date and channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: Mapping[str, Sequence[Sequence[float]]]) -> None:
        super().__init__()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(statistics[name], dtype=torch.float32).view(2, -1, 1, 1))

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, H, W) twice -> float32 (B, C, H, W) twice, channels_last, which is faster for convolutions."""
        dates = enumerate((before, after))
        scaled = (x.float().div_(255).sub_(self.mean[date]).div_(self.std[date]) for date, x in dates)
        first, second = (x.contiguous(memory_format=torch.channels_last) for x in scaled)
        return first, second


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

"""Scales uint8 images to a network's input, by the statistics of its run, which its checkpoint holds."""

from collections.abc import Mapping, Sequence

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

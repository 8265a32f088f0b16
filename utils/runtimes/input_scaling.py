"""From uint8 images to what a network sees; the statistics are the run's, and travel in its checkpoint."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class InputScaling(nn.Module):
    """Scale uint8 to [0, 1] and normalise, with one mean and standard deviation a date, where the tensors are.

    Args:
        mean: (2, C) before and after, a channel, in [0, 1].
        std: the same.
    """

    def __init__(self, mean: Sequence[Sequence[float]], std: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(2, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(2, -1, 1, 1))

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, H, W) -> float32 (B, C, H, W) in channels_last, the faster layout for both networks."""
        dates = enumerate((before, after))
        scaled = (x.float().div_(255).sub_(self.mean[date]).div_(self.std[date]) for date, x in dates)
        first, second = (x.contiguous(memory_format=torch.channels_last) for x in scaled)
        return first, second


def scaling_from(statistics: Mapping[str, Sequence[Sequence[float]]]) -> InputScaling:
    """Build the scaling from a {"mean": ..., "std": ...} of plain values."""
    return InputScaling(statistics["mean"], statistics["std"])

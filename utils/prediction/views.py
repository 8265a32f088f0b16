"""Test-time augmentation: the mean over views of two dates, and the larger one of two resolutions."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.console import UserError
from utils.prediction.blending import TTA


class Views:
    """Applies a network, `model(before, after, swapped)`, to the views of `tta`.

    Raises:
        UserError: `tta` has a word that is not of TTA.
    """

    def __init__(self, tta: Collection[str], divisor: int) -> None:
        if unknown := set(tta) - set(TTA):
            raise UserError(f"--tta {','.join(sorted(unknown))}: not known; choose of {', '.join(TTA)}")
        turns = range(0, 4, 1 if "rotations" in tta else 2) if {"flips", "rotations"} & set(tta) else range(1)
        mirrored = (False, True) if "flips" in tta else (False,)
        swapped = (False, True) if "swap" in tta else (False,)
        self.views = [(t, m, s) for s in swapped for m in mirrored for t in turns]  # quarter turns, after mirroring
        self.scales, self.divisor = "scales" in tta, divisor

    def __call__(self, model: Callable[..., Tensor], first: Tensor, second: Tensor) -> Tensor:
        """Return the mean over views; with scales the larger one of it and of the same at half the resolution.

        uint8 (B, C, H, W) twice -> float32 (B, H, W). H and W are multiples of `divisor`.
        """
        result = self._mean(model, first, second)
        if not self.scales:
            return result
        shape = [side // 2 for side in first.shape[-2:]]
        height, width = (-side % self.divisor for side in shape)  # missing to a multiple
        halves = []
        for dates in (first, second):
            small = F.interpolate(dates.float(), shape, mode="bilinear", antialias=True).round()
            halves.append(F.pad(small, (0, width, 0, height), "replicate").to(torch.uint8))
        coarse = self._mean(model, *halves)[:, None, : shape[0], : shape[1]]  # (B, 1, H/2, W/2)
        return torch.maximum(result, F.interpolate(coarse, first.shape[-2:], mode="bilinear")[:, 0])

    def _mean(self, model: Callable[..., Tensor], first: Tensor, second: Tensor) -> Tensor:
        total: Any = 0.0
        for turns, mirrored, swapped in self.views:
            dates = (torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1)) for x in (first, second))
            back = torch.rot90(model(*dates, swapped), -turns, (-2, -1))  # (B, H, W)
            total = total + (back.flip(-1) if mirrored else back)
        return total / len(self.views)

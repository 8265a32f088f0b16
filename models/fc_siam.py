"""FC-EF, FC-Siam-conc and FC-Siam-diff (Daudt, Le Saux and Boulch, ICIP 2018): a U-Net that joins dates in three ways.

Written from the networks as released. They end in a log-softmax, which is left to the loss here.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.siamese import both_dates, check_pair


def units(layer: type[nn.Conv2d | nn.ConvTranspose2d], widths: list[int], dropout: float) -> nn.Sequential:
    """A 3 x 3 layer, batch normalisation, ReLU and dropout of whole maps, for each two neighbouring widths."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = layer(inputs, outputs, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.Dropout2d(dropout)]
    return nn.Sequential(*layers)


class FCSiamDiff(nn.Module):
    """FC-Siam-diff: one encoder for both dates, whose difference joins the decoder at each scale.

    What enters the decoder from below is the fourth scale of the later date alone, pooled.

    Args:
        width: channels of the first scale; the others have 2, 4 and 8 times as many.
        dropout: probability that a unit's map is set to 0 in training.
        in_channels: bands of an image.
    """

    size_divisor = 16
    dates: ClassVar = 1  # in one input of the encoder
    skips: ClassVar = 1  # maps of a scale that join the decoder
    UNITS = (2, 2, 3, 3)  # of each scale

    def __init__(self, width: int = 16, dropout: float = 0.2, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = [width << scale for scale in range(4)]
        inputs = [self.dates * in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            units(nn.Conv2d, [a, *[w] * n], dropout) for a, w, n in zip(inputs, widths, self.UNITS, strict=True)
        )
        # of the scales 4, 3, 2 and 1; the last unit halves the width, and of the first scale it is the head
        downwards = list(zip(widths, self.UNITS, strict=True))[::-1]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(w, w, 3, stride=2, padding=1, output_padding=1) for w, _ in downwards
        )
        inner = [[(1 + self.skips) * w, *[w] * (n - 1), *([w // 2] if w > width else [])] for w, n in downwards]
        self.decoder = nn.ModuleList(units(nn.ConvTranspose2d, each, dropout) for each in inner)
        self.head = nn.ConvTranspose2d(width, 2, 3, padding=1)

    def join(self, before: Tensor, after: Tensor) -> Tensor:
        """2 x (B, C, h, w) of one scale -> (B, skips * C, h, w) for the decoder."""
        return (before - after).abs()

    def encode(self, before: Tensor, after: Tensor) -> tuple[list[Tensor], Tensor]:
        """What joins the decoder at scales 1 to 4, and what enters it from below."""
        dates, skips = (before, after), []
        for stage in self.encoder:
            dates = both_dates(stage, *dates, self.training)  # 2 x (B, C, h, w)
            skips.append(self.join(*dates))
            dates = F.max_pool2d(dates[0], 2), F.max_pool2d(dates[1], 2)
        return skips, dates[1]

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 16 -> [logits (B, 2, H, W)]; see models.__init__."""
        check_pair(before, after, self.size_divisor, self.in_channels)
        skips, x = self.encode(before, after)  # x: (B, 8 * width, H/16, W/16)
        for up, stage in zip(self.ups, self.decoder, strict=True):
            x = stage(torch.cat([up(x), skips.pop()], dim=1))  # (B, C, h, w), of twice the side
        return [self.head(x)]  # (B, 2, H, W)


class FCSiamConc(FCSiamDiff):
    """FC-Siam-conc: as FC-Siam-diff, but the maps of both dates join the decoder."""

    skips = 2

    def join(self, before: Tensor, after: Tensor) -> Tensor:
        return torch.cat([before, after], dim=1)


class FCEF(FCSiamDiff):
    """FC-EF: as FC-Siam-diff, but one encoder takes both dates as one image of twice the bands."""

    dates = 2

    def encode(self, before: Tensor, after: Tensor) -> tuple[list[Tensor], Tensor]:
        x, skips = torch.cat([before, after], dim=1), []  # (B, 2 * in_channels, H, W)
        for stage in self.encoder:
            skips.append(stage(x))
            x = F.max_pool2d(skips[-1], 2)
        return skips, x

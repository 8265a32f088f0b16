"""SNUNet-CD with ECAM (Fang, Li, Shao and Li, IEEE GRSL 19, 2022): a Siamese UNet++ with attention over its outputs.

Written from the network as released.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.siamese import both_dates, check_pair


class Block(nn.Module):
    """Two 3 x 3 convolutions; the shortcut leaves before the first batch normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        conv = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.rest = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.conv(x)  # (B, C, h, w)
        return F.relu(shortcut + self.rest(shortcut))


class ChannelAttention(nn.Module):
    """A weight in (0, 1) for each channel, (B, C, 1, 1), from its mean and its maximum over the pixels."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, max(channels // ratio, 1), 1, bias=False)
        self.fc2 = nn.Conv2d(max(channels // ratio, 1), channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        mean, peak = (self.fc2(F.relu(self.fc1(y))) for y in pooled)
        return torch.sigmoid(mean + peak)


class SNUNet(nn.Module):
    """SNUNet-CD. Node (i, j) is the j-th of the scale i; the nodes (i, 0) are the encoder of both dates.

    Node (i, j) takes both dates' (i, 0), the nodes (i, 1) to (i, j - 1), and node (i + 1, j - 1) upsampled; of a node
    (i + 1, 0) that is the later date's. So the deepest node, (4, 0), is of the later date alone.

    Args:
        width: channels of the first scale; the others have 2, 4, 8 and 16 times as many.
        in_channels: bands of an image.
    """

    size_divisor = 16
    DECODER = tuple((i, j) for j in range(1, 5) for i in range(5 - j))  # its nodes, in their order

    def __init__(self, width: int = 32, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        w = [width << i for i in range(5)]
        self.nodes = nn.ModuleDict({f"{i}_0": Block(w[i - 1] if i else in_channels, w[i]) for i in range(5)})
        self.ups = nn.ModuleDict()
        for i, j in self.DECODER:
            self.nodes[f"{i}_{j}"] = Block((j + 1) * w[i] + w[i + 1], w[i])
            self.ups[f"{i + 1}_{j - 1}"] = nn.ConvTranspose2d(w[i + 1], w[i + 1], 2, stride=2)
        self.intra = ChannelAttention(width, 4)
        self.inter = ChannelAttention(4 * width, 16)
        self.head = nn.Conv2d(4 * width, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def attend(self, outputs: list[Tensor]) -> Tensor:
        """Ensemble channel attention (ECAM) of nodes (0, 1) to (0, 4): 4 x (B, width, H, W) -> (B, 4 * width, H, W)."""
        x = torch.cat(outputs, dim=1)
        within = self.intra(x.unflatten(1, (4, -1)).sum(1)).repeat(1, 4, 1, 1)  # (B, 4 * width, 1, 1)
        return self.inter(x) * (x + within)

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 16 -> [logits (B, 2, H, W)]; see models.__init__."""
        check_pair(before, after, self.size_divisor, self.in_channels)
        dates, rows = (before, after), []  # rows: of each scale, what its next node takes from the left
        for i in range(4):
            dates = both_dates(self.nodes[f"{i}_0"], *dates, self.training)  # 2 x (B, C_i, H/2^i, W/2^i)
            rows.append([*dates])
            dates = F.max_pool2d(dates[0], 2), F.max_pool2d(dates[1], 2)
        rows.append([self.nodes["4_0"](dates[1])])
        for i, j in self.DECODER:
            below = self.ups[f"{i + 1}_{j - 1}"](rows[i + 1][-1])
            rows[i].append(self.nodes[f"{i}_{j}"](torch.cat([*rows[i], below], dim=1)))  # (B, C_i, H/2^i, W/2^i)
        return [self.head(self.attend(rows[0][2:]))]  # (B, 2, H, W)

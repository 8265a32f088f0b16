"""HANet, hierarchical attention network (Han et al., IEEE JSTARS 16, 2023, 3867-3878).

This is the network behind the published weights, which differs from the paper's equations: the channel attention takes
the softmax of the negative similarity (Eq. 7) and ends in a 3 x 3 convolution; row and column attention have 1 x 1
query, key and value convolutions and a gate that starts at 0, in place of the convolutions of Eq. 8-11.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.siamese import both_dates, check_pair


def float32_on_cpu(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function; in mixed-precision training on a CPU, call it in float32.

    There, backward passes of fused attention and of grouped dilated convolutions take 1.5 to 2.5 times as long in bf16.
    """
    mixed = tensors[0].device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if not mixed or not torch.is_grad_enabled():
        return function(*tensors)
    with torch.autocast("cpu", enabled=False):
        return function(*(x.float() for x in tensors))


class ConvBlock(nn.Module):
    """Feature extraction cell (HANet Eq. 1-2); the shortcut starts before the first batch normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.conv1(x)  # (B, C, h, w)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(shortcut)))) + shortcut)


class PCS(nn.Module):
    """Parallel convolutional structure (HANet Sec. III-C, Eq. 3-5, Fig. 5): four dilations side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(2 * channels, channels, 3, padding=d, dilation=d, groups=channels // 2) for d in (1, 2, 3, 4)
        )
        self.merge = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        both = torch.cat([before, after], dim=1)  # (B, 2C, h, w)
        weights, biases = self.merge.weight.chunk(4, dim=1), (self.merge.bias, None, None, None)
        # the merging convolution in parts, so that the branches are never concatenated
        parts = zip(self.branches, weights, biases, strict=True)
        return reduce(torch.add, (F.conv2d(float32_on_cpu(run, both), w, b) for run, w, b in parts))  # (B, C, h, w)


class ChannelAttention(nn.Module):
    """Each channel attends to the channels least similar to it (HANet Eq. 6-7, with the sign of the released code)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        # sums over all pixels are too large for half precision; autocast does not support the device meta
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):
            rows = x.permute(0, 2, 3, 1).flatten(1, 2).to(torch.promote_types(x.dtype, torch.float32))  # (B, h*w, C)
            attention = (-(rows.transpose(1, 2) @ rows)).softmax(-1)  # (B, C, C)
            # denormal numbers would make the product 7 times as slow
            attention = torch.where(attention > 1e-30, attention, 0.0)
            matrix = self.gamma * attention + torch.eye(x.shape[1], dtype=rows.dtype, device=x.device)
            result = rows @ matrix.transpose(1, 2)  # (B, h*w, C), gamma (attention x) + x
            return result.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)  # (B, C, h, w)


class CAM(nn.Sequential):
    """Channel attention branch (HANet Sec. III-D): down to 32 channels, attend, up again."""

    def __init__(self, channels: int, inner: int = 32) -> None:
        down = (nn.Conv2d(channels, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.PReLU())
        up = (nn.Conv2d(inner, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.PReLU())
        super().__init__(*down, ChannelAttention(), *up)


class AxialAttention(nn.Module):
    """Each position attends over its row or its column, unscaled (HANet Eq. 8-11), with the input as keys and values.

    The softmax over y cancels terms that are constant over y, so the published scores (Wq x + bq) . (Wk y + bk) become
    (Wk' (Wq x + bq)) . y. Its weights sum to 1, so Wv and gamma can follow it. bk has no effect but is published.
    """

    def __init__(self, channels: int, axis: str) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.key.register_parameter("bias", nn.Parameter(torch.zeros(channels), requires_grad=False))
        self.gamma = nn.Parameter(torch.zeros(1))
        # (B, lines, positions, C): strides only, nothing is copied in channels_last
        self.to_lines = (0, 2, 3, 1) if axis == "row" else (0, 3, 2, 1)
        self.to_image = (0, 3, 1, 2) if axis == "row" else (0, 3, 2, 1)

    def composed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight and bias of Wk' (Wq x + bq) and of gamma (Wv a + bv) as 1 x 1 convolutions."""
        key = self.key.weight.flatten(1).T.double()  # (C, C); in single precision the sums would lose a digit
        weight = (key @ self.query.weight.flatten(1).double())[..., None, None].to(self.gamma.dtype)
        bias = (key @ cast(Tensor, self.query.bias).double()).to(self.gamma.dtype)
        return weight, bias, self.gamma * self.value.weight, self.gamma * cast(Tensor, self.value.bias)

    def forward(self, x: Tensor) -> Tensor:
        query, query_bias, value, value_bias = self.composed()
        lines = x.permute(self.to_lines)  # (B, lines, positions, C)
        queries = F.conv2d(x, query, query_bias).permute(self.to_lines)
        attended = float32_on_cpu(partial(F.scaled_dot_product_attention, scale=1.0), queries, lines, lines)
        return x + F.conv2d(attended.permute(self.to_image), value, value_bias)  # (B, C, h, w)


class HAN(nn.Module):
    """Hierarchical attention module of one scale (HANet Eq. 12): CAM(p) + row(column(p)), p = PCS."""

    def __init__(self, channels: int, column: bool, row: bool) -> None:
        super().__init__()
        self.pcs = PCS(channels)
        self.cam = CAM(channels)
        self.column = AxialAttention(channels, "column") if column else nn.Identity()
        self.row = AxialAttention(channels, "row") if row else nn.Identity()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        p = self.pcs(before, after)  # (B, C, h, w)
        return self.cam(p) + self.row(self.column(p))  # (B, C, h, w)


class Head(nn.Conv2d):
    """The published 3 x 3 convolution to logits: a 1 x 1 convolution gives its taps, another one sums them.

    In channels_last this takes half the time and has a third of the rounding error.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.weight.permute(2, 3, 0, 1).flatten(0, 2)  # (18, C), by tap, then by class
        return F.conv2d(F.conv2d(x, taps[..., None, None]), sum_of_taps(taps), padding=1)  # (B, 2, H, W)


def sum_of_taps(taps: Tensor) -> Tensor:
    """Weights of the convolution that sums the maps of 18 taps, (2, 18, 3, 3): zeros and ones, faster than slices."""
    return torch.eye(len(taps)).to(taps).view(3, 3, 2, -1).permute(2, 3, 0, 1)


class HANet(nn.Module):
    """HANet with its ablations as switches (HANet Fig. 4, Table IV).

    Args:
        width: channels of the first scale, a multiple of 4; the others have 2, 4 and 8 times as many.
        column: column attention on every scale.
        row: row attention on every scale, after column attention. Without both, HAN is CAM(p) + p.
        in_channels: bands of an image.
        fcn_head: Open-CD's head in place of the published 3 x 3: dropout 0.1, then a 1 x 1 convolution.
    """

    size_divisor = 8

    def __init__(
        self, width: int = 40, column: bool = True, row: bool = True, in_channels: int = 3, fcn_head: bool = False
    ) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"HANet's width must be a multiple of 4, got {width}")
        self.channels = [width, 2 * width, 4 * width, 8 * width]
        self.stem = nn.Conv2d(in_channels, width, 5, padding=2)
        inputs = [width, *self.channels[:-1]]
        self.blocks = nn.ModuleList(ConvBlock(a, b) for a, b in zip(inputs, self.channels, strict=True))
        self.hans = nn.ModuleList(HAN(c, column, row) for c in self.channels)
        self.reduce = nn.Conv2d(sum(self.channels), 2 * width, 1)
        fcn = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(2 * width, 2, 1))
        self.head = fcn if fcn_head else Head(2 * width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def fuse(self, scales: list[Tensor]) -> Tensor:
        """The published 1 x 1 convolution over all scales, computed before the upsampling.

        Both are linear and bilinear weights sum to 1, so they commute: equal up to rounding, an eighth of the
        arithmetic, and no map of 15 * width channels at full size.
        """
        weights = self.reduce.weight.split(self.channels, dim=1)  # of h^1, h^2, h^3, h^4
        fused = F.conv2d(scales[3], weights[3])  # (B, 2 * width, H/8, W/8)
        for m, bias in ((2, None), (1, None), (0, self.reduce.bias)):
            fused = F.conv2d(scales[m], weights[m], bias) + F.interpolate(fused, scale_factor=2, mode="bilinear")
        return fused  # (B, 2 * width, H, W)

    def forward(self, before: Tensor, after: Tensor, auxiliary: bool | None = None) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 8 -> [logits (B, 2, H, W)]; see models.__init__.

        Each date is normalised with its own statistics. `auxiliary` is ignored: there are no auxiliary heads.
        """
        check_pair(before, after, self.size_divisor, self.stem.in_channels)
        dates = both_dates(self.stem, before, after, self.training)  # 2 x (B, width, H, W)
        scales = []
        for scale, (block, han) in enumerate(zip(self.blocks, self.hans, strict=True)):
            if scale:
                dates = F.avg_pool2d(dates[0], 2), F.avg_pool2d(dates[1], 2)
            dates = both_dates(block, *dates, self.training)  # 2 x (B, C_m, H/2^m, W/2^m)
            scales.append(han(*dates))  # (B, C_m, H/2^m, W/2^m)
        return [self.head(self.fuse(scales))]  # (B, 2, H, W)

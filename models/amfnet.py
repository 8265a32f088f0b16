"""AMFNet, attention-guided multi-scale fusion network (Zhan et al., Remote Sensing 2024, 16(10), 1765).

Written from the network behind the published weights. Where the paper's figures and that network part, the
network is followed: BFAM feeds only the difference branch while the concatenation takes the raw encoder
features, and three side outputs are supervised, not two.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoders import build_encoder
from models.siamese import both_dates, check_pair, conv_bn_relu


def depthwise_separable(channels: int) -> nn.Sequential:
    """A 3 x 3 convolution a channel, then a 1 x 1 over channels, each with batch normalisation and ReLU."""
    depthwise = conv_bn_relu(channels, channels, kernel=3, groups=channels, bias=True)
    return nn.Sequential(*depthwise, *conv_bn_relu(channels, channels, bias=True))


def mean_and_max(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and maximum of (B, C, h, w) over its pixels, dims (2, 3), or channels, (1,), which stay as dims of size 1.

    To be differentiated, the maximum is one element, as published: amax shares the gradient among all that equal it,
    which takes longer.
    """
    if not x.requires_grad:
        return x.mean(dims, keepdim=True), x.amax(dims, keepdim=True)
    batch, channels, height, width = x.shape
    lines = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, hw, C), a view of channels_last, as its gradient will be
    dim, shape = (1, (batch, channels, 1, 1)) if dims == (2, 3) else (2, (batch, 1, height, width))
    return lines.mean(dim).view(shape), lines.max(dim).values.view(shape)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """|x - y|; a function, so that both arguments are freed on return."""
    return (x - y).abs()


class BFAM(nn.Module):
    """Bi-temporal feature attention module (AMFNet Fig. 2): each date is weighted against the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int((math.log2(channels) + 1) // 2) | 1  # ECA-Net's rule, next odd number
        self.channel_convs = nn.ModuleList(nn.Conv1d(4, 1, kernel, padding=kernel // 2) for _ in range(2))
        self.spatial_convs = nn.ModuleList(nn.Conv2d(4, 1, 7, padding=3) for _ in range(2))
        self.conv = nn.Sequential(*conv_bn_relu(channels, channels, bias=True))
        self.dwconv = depthwise_separable(channels)

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) twice -> both dates weighted, of the same shape."""
        dates = (before, after)
        vectors = torch.stack([y for x in dates for y in mean_and_max(x, (2, 3))], dim=1).flatten(2)  # (B, 4, C)
        maps = torch.cat([y for x in dates for y in mean_and_max(x, (1,))], dim=1)  # (B, 4, h, w)
        channel = torch.stack([conv(vectors) for conv in self.channel_convs]).softmax(0)  # (2, B, 1, C)
        spatial = torch.stack([conv(maps) for conv in self.spatial_convs]).softmax(0)  # (2, B, 1, h, w)
        weights = zip(channel.unsqueeze(2) + 2, spatial.movedim(2, 4), dates, strict=True)
        # 2 x (B, C, h, w), channels_last as the dates; published: (c + s + 1) x + x
        before, after = ((c + s).movedim(3, 1) * x for c, s, x in weights)
        before, after = both_dates(self.conv, before, after, self.training)  # 2 x (B, C, h, w)
        return both_dates(self.dwconv, before, after, self.training)  # 2 x (B, C, h, w)


class BFM(nn.Module):
    """Bilateral fusion module (AMFNet Fig. 3): concatenated features, gated, plus their attended difference."""

    def __init__(self, channels: int, norms: str = "shared") -> None:
        super().__init__()
        self.reduce = nn.Sequential(*conv_bn_relu(2 * channels, channels))
        self.shared = nn.Sequential(*conv_bn_relu(channels, channels))  # one module, used three times
        self.dwconv = depthwise_separable(channels)
        self.own = nn.ModuleList()
        if norms == "separate":  # the same convolution, another normalisation for the gate and for the difference
            conv, _, relu = self.shared
            self.own.extend(nn.Sequential(conv, nn.BatchNorm2d(channels), relu) for _ in range(2))
        elif norms != "shared":
            raise ValueError(f"bfm_norms is {norms!r}; choose shared or separate")

    def forward(self, concatenated: Tensor, difference: Tensor) -> Tensor:
        """(B, 2 C, h, w) and (B, C, h, w) -> their fusion, (B, C, h, w)."""
        if self.training and len(concatenated) < 2:
            raise ValueError(
                "BFM normalises a 1 x 1 map over the batch: AMFNet needs at least two pairs in a training batch; "
                "use --batch-size 2 or more"
            )
        u = self.reduce(concatenated)  # (B, C, h, w)
        gate_conv, difference_conv = self.own or (self.shared, self.shared)
        gate = gate_conv(u.mean((2, 3), keepdim=True))  # (B, C, 1, 1)
        v = self.dwconv(difference_conv(difference))  # (B, C, h, w)
        return self.shared(u * gate + v)  # (B, C, h, w)


class CAM(nn.Module):
    """Channel attention (AMFNet Fig. 5): a weight in (0, 1) a channel, (B, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, max(channels // 16, 1), 1, bias=False)
        self.fc2 = nn.Conv2d(max(channels // 16, 1), channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, peak = mean_and_max(x, (2, 3))  # 2 x (B, C, 1, 1)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))) + self.fc2(F.relu(self.fc1(peak))))


class SAM(nn.Module):
    """Spatial attention (AMFNet Fig. 6): a weight in (0, 1) a pixel, (B, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(torch.cat(mean_and_max(x, (1,)), dim=1)))


class IAM(nn.Module):
    """Integrated attention module (AMFNet Fig. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cam = CAM(channels)
        self.sam = SAM()
        self.conv = nn.Sequential(*conv_bn_relu(2 * channels, channels))
        for conv in (self.cam.fc1, self.cam.fc2, self.sam.conv):
            nn.init.kaiming_normal_(conv.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        spatial = self.sam(x * self.cam(x))  # (B, 1, h, w)
        attended = torch.sigmoid(x * spatial) * spatial  # (B, C, h, w)
        return self.conv(torch.cat([attended, x], dim=1)) + x  # (B, C, h, w)


def upsample_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, then bilinear to twice the size."""
    convs = conv_bn_relu(inputs, outputs, 3) + conv_bn_relu(outputs, outputs, 3)
    return nn.Sequential(*convs, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))


def exchange_channels(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Swap every even channel (0, 2, ...) between the dates."""
    even = torch.arange(before.shape[1], device=before.device).view(-1, 1, 1) % 2 == 0
    return torch.where(even, after, before), torch.where(even, before, after)


class AMFNet(nn.Module):
    """AMFNet (Fig. 1) with its ablations, as the authors released them, as switches.

    Args:
        backbone: resnet18, resnet34 (published), resnet50, efficientnet_lite0 or timm:NAME; decoder widths follow the
            encoder's.
        bfam: weigh each date against the other before the difference is taken.
        bfm: fuse difference and concatenation; as in the authors' code this also adds the last upsampling block.
        iam: attention on every fused stage.
        channel_exchange: swap even channels of stage 3 between the dates before stage 4.
        deep_supervision: build the three auxiliary heads.
        dropout: probability in the auxiliary heads (and in the head without bfm).
        in_channels: bands of an image.
        bfm_norms: "shared" (published) or "separate": whether BFM normalises its three maps by one batch normalisation
            or by one each. Running statistics of one fit none of the three.
    """

    size_divisor = 32

    def __init__(
        self,
        backbone: str = "resnet34",
        bfam: bool = True,
        bfm: bool = True,
        iam: bool = True,
        channel_exchange: bool = False,
        deep_supervision: bool = True,
        dropout: float = 0.2,
        in_channels: int = 3,
        bfm_norms: str = "shared",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = build_encoder(backbone, in_channels)
        widths = self.backbone.widths
        c1, c2, c3, c4 = widths
        self.channel_exchange = channel_exchange
        self.bfams = nn.ModuleList(BFAM(c) for c in widths if bfam)
        self.bfms = nn.ModuleList(BFM(c, bfm_norms) for c in widths if bfm)
        self.iams = nn.ModuleList(IAM(c) for c in widths if iam)
        self.ups = nn.ModuleList(upsample_block(*c) for c in ((c2, c1), (c3, c2), (c4, c3)))
        half, quarter = max(c1 // 2, 32), max(c1 // 4, 16)  # with fewer, all can end dead behind the last ReLU
        if bfm:
            self.up1 = upsample_block(c1, half)
            self.head = nn.Sequential(*conv_bn_relu(half, quarter), nn.Conv2d(quarter, 2, 1, bias=False))
        else:
            self.up1 = nn.Sequential()
            self.head = nn.Sequential(*conv_bn_relu(c1, half), nn.Dropout2d(dropout), nn.Conv2d(half, 2, 1, bias=False))
        self.aux_heads = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(c, c // 2, bias=True), nn.Dropout2d(dropout), nn.Conv2d(c // 2, 2, 1))
            for c in (c1, c2, c3)
            if deep_supervision
        )

    def fuse(self, stage: int, before: Tensor, after: Tensor) -> Tensor:
        """One stage of Fig. 1: BFAM, BFM and IAM as far as they are switched on; 2 x (B, C, h, w) -> (B, C, h, w)."""
        fused = distance(*(self.bfams[stage](before, after) if self.bfams else (before, after)))
        if self.bfms:
            fused = self.bfms[stage](torch.cat([before, after], dim=1), fused)
        return self.iams[stage](fused) if self.iams else fused

    def forward(self, before: Tensor, after: Tensor, auxiliary: bool | None = None) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 32 -> logits (B, 2, H, W); see models.__init__.

        Published inputs lie in [0, 1] without normalisation. With `auxiliary`, by default in training only, the heads
        at strides 4, 8 and 16 follow the main head. A training batch of one pair is a ValueError.
        """
        check_pair(before, after, self.size_divisor, self.in_channels)
        auxiliary = self.training if auxiliary is None else auxiliary
        features = self.backbone.encode_both(before, after, exchange_channels if self.channel_exchange else None)
        skips = [self.fuse(stage, *dates) for stage, dates in enumerate(features)]
        decoded: list[Tensor] = []
        x = skips[3]  # (B, c4, H/32, W/32)
        for stage in (2, 1, 0):
            x = skips[stage] + self.ups[stage](x)  # (B, c, H/2^(stage+2), W/2^(stage+2))
            decoded.insert(0, x)
        logits = [self.head(self.up1(x))]  # (B, 2, H/2, W/2)
        if auxiliary:
            logits += [head(feature) for head, feature in zip(self.aux_heads, decoded, strict=False)]
        return [F.interpolate(y, before.shape[-2:], mode="bilinear", align_corners=True) for y in logits]

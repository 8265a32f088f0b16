"""BIT, bitemporal image transformer (Chen, Qi and Shi, IEEE TGRS 60, 2022): tokens of both dates attend to each other.

Written from the network as released (base_transformer_pos_s4_dd8_dedim8). As there, scores of the attention are divided
by the root of the features' width, not of a head's. Published inputs have mean 0.5 and deviation 0.5.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoders import ResNet
from models.siamese import both_dates, check_pair


class ResNetOfStride8(ResNet):
    """ResNet-18 without its fourth stage; the third keeps the size, without dilation."""

    unused: tuple[str, ...] = ("fc.", "layer4.")

    def __init__(self, in_channels: int) -> None:
        super().__init__("resnet18", in_channels)
        del self.layer4
        self.widths = self.widths[:3]
        for name in ("layer3.0.conv1", "layer3.0.downsample.0"):
            cast(nn.Conv2d, self.get_submodule(name)).stride = (1, 1)


def start(module: nn.Module) -> None:
    """Draw the weights of a convolution or linear layer from a normal distribution of deviation 0.02."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TransformerBlock(nn.Module):
    """Multi-head attention and a perceptron, each behind layer normalisation and added to its input.

    If it attends to other tokens (`cross`), query, key and value have a matrix each, else one for all.
    """

    def __init__(self, width: int, heads: int, head_width: int, cross: bool) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.scale = heads, width**-0.5
        self.norm = nn.LayerNorm(width)
        outputs = (inner, inner, inner) if cross else (3 * inner,)
        self.project = nn.ModuleList(nn.Linear(width, each, bias=False) for each in outputs)
        self.out = nn.Linear(inner, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(B, N, C) attends to itself or to tokens (B, T, C) -> (B, N, C)."""
        y = self.norm(x)
        if tokens is None:
            projected = list(self.project[0](y).chunk(3, dim=-1))
        else:
            other = self.norm(tokens)
            projected = [project(z) for project, z in zip(self.project, (y, other, other), strict=True)]
        query, key, value = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in projected)
        attended = F.scaled_dot_product_attention(query, key, value, scale=self.scale)  # (B, heads, N, head_width)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class Tokenizer(nn.Conv2d):
    """Semantic tokenizer: each token is a mean of the features over the pixels, with its own weights."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__(width, tokens, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = super().forward(x).flatten(2).softmax(-1)  # (B, tokens, hw)
        return weights @ x.flatten(2).transpose(1, 2)  # (B, tokens, width)


class Encoder(nn.ModuleList):
    """The tokens of both dates attend to each other."""

    def __init__(self, width: int, tokens: int, depth: int) -> None:
        super().__init__(TransformerBlock(width, heads=8, head_width=64, cross=False) for _ in range(depth))
        self.position = nn.Parameter(torch.randn(1, 2 * tokens, width))

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, ...]:
        tokens = torch.cat([before, after], dim=1) + self.position  # (B, 2 * tokens, width)
        for block in self:
            tokens = block(tokens)
        return tokens.chunk(2, dim=1)


class Decoder(nn.ModuleList):
    """The pixels of a date attend to its tokens."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__(TransformerBlock(width, heads=8, head_width=8, cross=True) for _ in range(depth))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)  # (B, hw, width)
        for block in self:
            pixels = block(pixels, tokens)
        return pixels.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, width, h, w)


class BIT(nn.Module):
    """BIT: the difference of two dates of features, of which each has attended to tokens of its own date.

    Features and tokens have `width` channels. A date has `tokens` tokens. Depths count blocks.
    """

    size_divisor = 8

    def __init__(
        self, width: int = 32, tokens: int = 4, encoder_depth: int = 1, decoder_depth: int = 8, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = ResNetOfStride8(in_channels)
        self.reduce = nn.Conv2d(256, width, 3, padding=1)
        self.tokenizer = Tokenizer(width, tokens)
        self.encoder = Encoder(width, tokens, encoder_depth)
        self.decoder = Decoder(width, decoder_depth)
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        last = nn.Conv2d(width, 2, 3, padding=1)
        self.head = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)
        for part in (self.reduce, self.tokenizer, self.encoder, self.decoder, self.head):
            part.apply(start)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, width, H/4, W/4)."""
        x = self.backbone.stem(x)  # (B, 64, H/4, W/4)
        for stage in self.backbone.stages:
            x = stage(x)  # at last (B, 256, H/8, W/8)
        return self.reduce(F.interpolate(x, scale_factor=2.0))  # nearest

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 8 -> [logits (B, 2, H, W)]; see models.__init__."""
        check_pair(before, after, self.size_divisor, self.in_channels)
        dates = both_dates(self.features, before, after, self.training)  # 2 x (B, width, H/4, W/4)
        tokens = self.encoder(*(self.tokenizer(x) for x in dates))  # 2 x (B, tokens, width)
        before, after = (self.decoder(*each) for each in zip(dates, tokens, strict=True))
        difference = F.interpolate((before - after).abs(), scale_factor=4.0, mode="bilinear")
        return [self.head(difference)]  # (B, 2, H, W)

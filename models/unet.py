"""A plain Siamese U-Net: one encoder for both dates, and a decoder over what differs between them.

Such a network is the baseline of Corley et al., "A change detection reality check" (arXiv 2402.06994). Its decoder has
the widths of segmentation_models.pytorch. It has no skip at half the image's side, where the encoders have no map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoders import build_encoder
from models.siamese import check_pair, conv_bn_relu


class UNet(nn.Module):
    """A U-Net over two dates.

    Args:
        backbone: the encoder; see models/encoders.py.
        fusion: what the decoder takes of both dates' maps: "difference", its absolute value, or "concatenation".
        in_channels: bands of an image.
    """

    size_divisor = 32
    WIDTHS = (256, 128, 64, 32, 16)  # of the decoder at strides 16, 8, 4, 2 and 1

    def __init__(self, backbone: str = "resnet34", fusion: str = "difference", in_channels: int = 3) -> None:
        super().__init__()
        if fusion not in ("difference", "concatenation"):
            raise ValueError(f"fusion is {fusion!r}; choose difference or concatenation")
        self.in_channels, self.fusion = in_channels, fusion
        self.backbone = build_encoder(backbone, in_channels)
        c1, c2, c3, c4 = (c if fusion == "difference" else 2 * c for c in self.backbone.widths)
        inputs = zip((c4, *self.WIDTHS[:-1]), (c3, c2, c1, 0, 0), strict=True)
        self.decoder = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(below + skip, c, 3), *conv_bn_relu(c, c, 3))
            for (below, skip), c in zip(inputs, self.WIDTHS, strict=True)
        )
        self.head = nn.Conv2d(self.WIDTHS[-1], 2, 3, padding=1)

    def fuse(self, before: Tensor, after: Tensor) -> Tensor:
        """2 x (B, C, h, w) -> (B, C, h, w), or (B, 2C, h, w) if concatenated."""
        return (before - after).abs() if self.fusion == "difference" else torch.cat([before, after], dim=1)

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) float twice, sides multiples of 32 -> [logits (B, 2, H, W)]; see models.__init__."""
        check_pair(before, after, self.size_divisor, self.in_channels)
        skips = [self.fuse(*dates) for dates in self.backbone.encode_both(before, after)]
        x = skips.pop()  # (B, c4, H/32, W/32)
        for block in self.decoder:
            x = F.interpolate(x, scale_factor=2.0)  # nearest
            x = block(torch.cat([x, skips.pop()], dim=1) if skips else x)  # (B, width, h, w)
        return [self.head(x)]  # (B, 2, H, W)

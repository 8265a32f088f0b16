"""HANet in its published form: layers, their names and their order as in the released network, nothing done sooner.

Both dates go through the encoder one after the other, the attention matrices of all lines exist at once, and all scales
are laid together at full size (600 channels). Layers that no forward pass uses are built, too. Keys of the state dict
are the published ones. In place of pooling to fixed sizes there is 2 x 2 pooling, the same at 256 x 256.
"""

import torch
from torch import nn


class FEC(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        c = self.conv1(x)
        y = self.relu(self.bn1(c))
        y = self.bn2(self.conv2(y))
        return self.relu(y + c)


class ChannelAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        energy = torch.bmm(flat, flat.permute(0, 2, 1))  # (N, C, C)
        energy = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        attention = torch.softmax(energy, dim=-1)
        y = torch.bmm(attention, flat).view(n, c, h, w)
        return self.gamma * y + x


class CAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.attn = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.PReLU(),
            ChannelAttention(),
            nn.Conv2d(32, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
        )

    def forward(self, x):
        return self.attn(x)


class LineAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels, 1)
        self.key_conv = nn.Conv2d(channels, channels, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))


class ColumnAttention(LineAttention):
    def forward(self, x):
        n, c, h, w = x.shape
        q = self.query_conv(x).permute(0, 3, 2, 1).contiguous().view(n * w, h, c)
        k = self.key_conv(x).permute(0, 3, 1, 2).contiguous().view(n * w, c, h)
        v = self.value_conv(x).permute(0, 3, 1, 2).contiguous().view(n * w, c, h)
        energy = torch.bmm(q, k)  # (N * w, h, h)
        attention = torch.softmax(energy, dim=-1)
        out = torch.bmm(v, attention.permute(0, 2, 1))  # (N * w, C, h)
        out = out.view(n, w, c, h).permute(0, 2, 3, 1)
        return self.gamma * out + x


class RowAttention(LineAttention):
    def forward(self, x):
        n, c, h, w = x.shape
        q = self.query_conv(x).permute(0, 2, 3, 1).contiguous().view(n * h, w, c)
        k = self.key_conv(x).permute(0, 2, 1, 3).contiguous().view(n * h, c, w)
        v = self.value_conv(x).permute(0, 2, 1, 3).contiguous().view(n * h, c, w)
        energy = torch.bmm(q, k)  # (N * h, w, w)
        attention = torch.softmax(energy, dim=-1)
        out = torch.bmm(v, attention.permute(0, 2, 1))  # (N * h, C, w)
        out = out.view(n, h, c, w).permute(0, 2, 1, 3)
        return self.gamma * out + x


class HANet(nn.Module):
    """HANet and its ablations; the switches are those of models.hanet.HANet."""

    def __init__(self, width=40, column=True, row=True, fcn_head=False):
        super().__init__()
        n = width
        self.column, self.row = column, row
        self.conv0_0 = nn.Conv2d(3, n, 5, padding=2)
        self.conv0, self.conv2, self.conv4, self.conv5 = FEC(n, n), FEC(n, 2 * n), FEC(2 * n, 4 * n), FEC(4 * n, 8 * n)
        self.pool = nn.AvgPool2d(2, stride=2)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        for m, c in enumerate((n, 2 * n, 4 * n, 8 * n), start=1):
            for d in (1, 2, 3, 4):
                branch = nn.Conv2d(2 * c, c, 3, padding=d, dilation=d, groups=c // 2)
                self.add_module(f"conv6_{m}_{d}", branch)
            self.add_module(f"conv{m}_1", nn.Conv2d(4 * c, c, 1))
            self.add_module(f"cam_attention_{m}", CAM(c))
            if column:
                self.add_module(f"col_attention_{m}", ColumnAttention(c))
            if row:
                self.add_module(f"row_attention_{m}", RowAttention(c))
        self.conv6 = nn.Conv2d(15 * n, 2 * n, 1)
        if fcn_head:  # Open-CD's
            self.conv7 = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(2 * n, 2, 1))
        else:
            self.conv7 = nn.Conv2d(2 * n, 2, 3, padding=1, bias=False)
        # from here on: built, never used
        self.c4_conv = nn.Conv2d(8 * n, 2 * n, 3, padding=1)
        self.c3_conv = nn.Conv2d(4 * n, 2 * n, 3, padding=1)
        self.c2_conv = nn.Conv2d(2 * n, 2 * n, 3, padding=1)
        self.c1_conv = nn.Conv2d(n, n, 3, padding=1)

    def encode(self, x):
        f1 = self.conv0(self.conv0_0(x))  # (N, n, H, W)
        f2 = self.conv2(self.pool(f1))  # (N, 2n, H/2, W/2)
        f3 = self.conv4(self.pool(f2))  # (N, 4n, H/4, W/4)
        f4 = self.conv5(self.pool(f3))  # (N, 8n, H/8, W/8)
        return f1, f2, f3, f4

    def han(self, m, f1, f2):
        both = torch.cat([f1, f2], dim=1)  # (N, 2C, h, w)
        branches = [getattr(self, f"conv6_{m}_{d}")(both) for d in (1, 2, 3, 4)]
        p = getattr(self, f"conv{m}_1")(torch.cat(branches, dim=1))  # (N, C, h, w)
        lines = p
        if self.column:
            lines = getattr(self, f"col_attention_{m}")(lines)
        if self.row:
            lines = getattr(self, f"row_attention_{m}")(lines)
        return getattr(self, f"cam_attention_{m}")(p) + lines

    def forward(self, before, after):
        features_1 = self.encode(before)
        features_2 = self.encode(after)
        h1, h2, h3, h4 = (self.han(m, features_1[m - 1], features_2[m - 1]) for m in (1, 2, 3, 4))
        c4 = h4
        c3 = torch.cat([h3, self.up2(c4)], dim=1)
        c2 = torch.cat([h2, self.up2(c3)], dim=1)
        c1 = torch.cat([h1, self.up2(c2)], dim=1)  # (N, 15n, H, W)
        return [self.conv7(self.conv6(c1))]

"""AMFNet in its published form: layers, their names and their order as in the released network, nothing done sooner.

Both dates go through the encoder one after the other, all heads always run, and layers that no forward pass uses are
built, too. Keys of the state dict are the published ones.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model


def conv_bn_relu(inputs, outputs, bias):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=bias), nn.BatchNorm2d(outputs), nn.ReLU())


def depthwise_separable(channels):
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class Encoder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.net = get_model(backbone, weights=None)
        del self.net.avgpool, self.net.fc

    def forward(self, x):
        x1 = self.to_stage_1(x)
        x2 = self.net.layer2(x1)
        x3 = self.net.layer3(x2)
        x4 = self.net.layer4(x3)
        return x1, x2, x3, x4

    def to_stage_1(self, x):
        x = self.net.relu(self.net.bn1(self.net.conv1(x)))
        return self.net.layer1(self.net.maxpool(x))


class BFAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        k = int((math.log2(channels) + 1) // 2)
        k = k if k % 2 else k + 1
        self.channel_conv1 = nn.Conv1d(4, 1, k, padding=k // 2)
        self.channel_conv2 = nn.Conv1d(4, 1, k, padding=k // 2)
        self.spatial_conv1 = nn.Conv2d(4, 1, 7, padding=3)
        self.spatial_conv2 = nn.Conv2d(4, 1, 7, padding=3)
        self.conv1 = conv_bn_relu(channels, channels, bias=True)
        self.dwconv = depthwise_separable(channels)

    def forward(self, x1, x2):
        average_1, maximum_1 = F.adaptive_avg_pool2d(x1, 1), F.adaptive_max_pool2d(x1, 1)  # (N, C, 1, 1)
        average_2, maximum_2 = F.adaptive_avg_pool2d(x2, 1), F.adaptive_max_pool2d(x2, 1)
        vectors = torch.cat([average_1, maximum_1, average_2, maximum_2], dim=2)  # (N, C, 4, 1)
        vectors = vectors.squeeze(3).transpose(1, 2)  # (N, 4, C)
        channel = torch.stack([self.channel_conv1(vectors), self.channel_conv2(vectors)]).softmax(0)  # (2, N, 1, C)
        channel_1, channel_2 = (c.transpose(1, 2).unsqueeze(3) for c in channel)  # (N, C, 1, 1)

        mean_1, most_1 = x1.mean(1, keepdim=True), x1.max(1, keepdim=True)[0]  # (N, 1, h, w)
        mean_2, most_2 = x2.mean(1, keepdim=True), x2.max(1, keepdim=True)[0]
        maps = torch.cat([mean_1, most_1, mean_2, most_2], dim=1)  # (N, 4, h, w)
        spatial_1, spatial_2 = torch.stack([self.spatial_conv1(maps), self.spatial_conv2(maps)]).softmax(0)

        w1 = channel_1 + spatial_1 + 1  # (N, C, h, w)
        w2 = channel_2 + spatial_2 + 1
        f1 = w1 * x1 + x1
        f2 = w2 * x2 + x2
        g1 = self.dwconv(self.conv1(f1))
        g2 = self.dwconv(self.conv1(f2))
        return g1, g2


class BFM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv_bn_relu(2 * channels, channels, bias=False)
        self.conv1_ = conv_bn_relu(channels, channels, bias=False)
        self.dwconv = depthwise_separable(channels)

    def forward(self, x1, x2, difference):
        u = self.conv1(torch.cat([x1, x2], dim=1))
        gate = self.conv1_(F.adaptive_avg_pool2d(u, 1))
        v = self.dwconv(self.conv1_(difference))
        return self.conv1_(u * gate + v)


class ChannelAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x):
        average = self.fc2(self.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        maximum = self.fc2(self.relu(self.fc1(F.adaptive_max_pool2d(x, 1))))
        return torch.sigmoid(average + maximum)


class SpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        mean = torch.mean(x, dim=1, keepdim=True)
        maximum, _ = torch.max(x, dim=1, keepdim=True)
        return torch.sigmoid(self.conv1(torch.cat([mean, maximum], dim=1)))


class IAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ca = ChannelAttention(channels)
        self.sa = SpatialAttention()
        self.conv = conv_bn_relu(2 * channels, channels, bias=False)

    def forward(self, x):
        c = self.ca(x)
        s = self.sa(x * c)
        y = torch.sigmoid(x * s) * s
        return self.conv(torch.cat([y, x], dim=1)) + x


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.conv(x)


def up(inputs, outputs):
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(DoubleConv(inputs, outputs, 3), upsample)


def head_with_dropout(inputs, hidden, bias, dropout):
    last = nn.Conv2d(hidden, 2, 1, bias=bias)
    return nn.Sequential(*conv_bn_relu(inputs, hidden, bias), nn.Dropout2d(dropout), last)


class AMFNet(nn.Module):
    """AMFNet and its released ablations; the switches are those of models.amfnet.AMFNet."""

    def __init__(
        self,
        backbone="resnet34",
        bfam=True,
        bfm=True,
        iam=True,
        channel_exchange=False,
        deep_supervision=True,
        dropout=0.2,
    ):
        super().__init__()
        self.bfam, self.bfm, self.iam = bfam, bfm, iam
        self.channel_exchange, self.deep_supervision = channel_exchange, deep_supervision
        self.net = Encoder(backbone)
        for stage, channels in enumerate((64, 128, 256, 512), start=1):
            if bfam:
                self.add_module(f"dpfa{stage}", BFAM(channels))
            if bfm:
                self.add_module(f"ffm{stage}", BFM(channels))
            if iam:
                self.add_module(f"att{stage}", IAM(channels))
        self.up4, self.up3, self.up2 = up(512, 256), up(256, 128), up(128, 64)
        if bfm:
            self.up1 = up(64, 32)
            self.output = nn.Sequential(*conv_bn_relu(32, 16, bias=False), nn.Conv2d(16, 2, 1, bias=False))
        else:
            self.output = head_with_dropout(64, 32, False, dropout)
        self.output_aux_1 = head_with_dropout(64, 32, True, dropout)
        self.output_aux_2 = head_with_dropout(128, 64, True, dropout)
        self.output_aux_3 = head_with_dropout(256, 128, True, dropout)
        # from here on: built, never used
        self.up_2, self.up_3, self.up_4 = up(128, 64), up(256, 128), up(512, 256)
        for stage, channels in enumerate((64, 128, 256, 512), start=1):
            self.add_module(f"layer{stage}_1x1", DoubleConv(channels, channels, 1))
        self.fc1, self.fc2 = nn.Conv2d(1024, 512, 1), nn.Conv2d(512, 256, 1)
        self.fc3, self.fc4 = nn.Conv2d(256, 128, 1), nn.Conv2d(128, 64, 1)
        self.fc = nn.Conv2d(64, 2, 1)

    def encode(self, before, after):
        if not self.channel_exchange:
            return self.net(before), self.net(after)
        features_1, features_2 = self.three_stages(before), self.three_stages(after)
        x1, x2 = features_1[-1], features_2[-1]
        swapped_1, swapped_2 = x1.clone(), x2.clone()
        swapped_1[:, ::2], swapped_2[:, ::2] = x2[:, ::2], x1[:, ::2]
        return (*features_1, self.net.net.layer4(swapped_1)), (*features_2, self.net.net.layer4(swapped_2))

    def three_stages(self, x):
        x1 = self.net.to_stage_1(x)
        x2 = self.net.net.layer2(x1)
        return x1, x2, self.net.net.layer3(x2)

    def stage(self, number, x1, x2):
        g1, g2 = getattr(self, f"dpfa{number}")(x1, x2) if self.bfam else (x1, x2)
        b = torch.abs(g1 - g2)
        if self.bfm:
            b = getattr(self, f"ffm{number}")(x1, x2, b)
        return getattr(self, f"att{number}")(b) if self.iam else b

    def forward(self, before, after):
        features_1, features_2 = self.encode(before, after)
        s1, s2, s3, s4 = (self.stage(m, features_1[m - 1], features_2[m - 1]) for m in (1, 2, 3, 4))
        o3 = s3 + self.up4(s4)  # (N, 256, H/16, W/16)
        o2 = s2 + self.up3(o3)  # (N, 128, H/8, W/8)
        o1 = s1 + self.up2(o2)  # (N, 64, H/4, W/4)
        outputs = [self.output(self.up1(o1) if self.bfm else o1)]
        if self.deep_supervision:
            outputs += [self.output_aux_1(o1), self.output_aux_2(o2), self.output_aux_3(o3)]
        size = before.shape[2:]
        return [F.interpolate(y, size, mode="bilinear", align_corners=True) for y in outputs]

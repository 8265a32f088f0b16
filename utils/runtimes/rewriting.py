"""Rewrites a trained network for prediction: the same function, to rounding, in fewer and smaller steps.

These rewrites pay only after training, so models/ keeps the networks as published. Each is composed in float64,
compared with the original network on a random input, and rounded once.
"""

import copy
import logging
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.amfnet import AMFNet
from models.encoders import Encoder, InvertedResidual
from models.hanet import AxialAttention, ConvBlock, HANet, sum_of_taps

log = logging.getLogger(__name__)
TOLERANCE = 1e-6  # of the largest logit in float64; the rewrites differ by less than 1e-10
RESNET = "torchvision.models.resnet"  # by name, since importing it is slow


@torch.no_grad()
def prepare_for_inference(network: nn.Module, channels: int = 3) -> nn.Module:
    """Return a faster copy of a network, equal to rounding, in evaluation mode, not to be trained.

    Where the rewritten network gives other logits on a random input, the copy is not rewritten, and a warning says so.
    Modules keep their names and outputs except: HANet's `stem` holds the first block's first convolution, `reduce`
    holds the head, and AMFNet's `up1` holds the head's first convolution.

    The network, of dates with so many channels, is in float32 or float64 on the CPU, and is not changed.
    """
    prepared, side = copy.deepcopy(network).eval().double(), cast(int, network.size_divisor)
    generator = torch.Generator().manual_seed(0)  # the global generator's draws stay as they are
    dates = torch.rand(2, 1, channels, side, 2 * side, dtype=torch.float64, generator=generator)
    expected = _logits(prepared, dates)
    fold_batch_norms(prepared)
    if isinstance(prepared, HANet):
        _rewrite_hanet(prepared)
    elif isinstance(prepared, AMFNet) and prepared.up1:
        prepared.up1.insert(-1, prepared.head[0])  # below the upsampling, with which a 1 x 1 convolution commutes
        prepared.head[0] = nn.Identity()
    prepared.eval()  # also the new modules
    if not _equal(_logits(prepared, dates), expected):
        log.warning("%s: the rewritten network differs, so the original predicts, slower", type(network).__name__)
        prepared = copy.deepcopy(network).eval()
    return prepared.to(next(network.parameters()).dtype).requires_grad_(False)


def _logits(network: nn.Module, dates: Tensor) -> list[Tensor]:
    """A network's outputs; an empty list if it fails, in float64 or once rewritten."""
    try:
        return network(*dates)
    except Exception as error:
        log.debug("%s fails on a random input: %s", type(network).__name__, error)
        return []


def _equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Return True if logits are equal to rounding; NaN, of a network that diverged, equals NaN."""
    if not found or len(found) != len(expected):
        return False
    limit = TOLERANCE * max(y.abs().nan_to_num().max().item() for y in expected)
    return all(torch.allclose(*both, rtol=0, atol=limit, equal_nan=True) for both in zip(found, expected, strict=True))


def fold_batch_norms(network: nn.Module) -> None:
    """Multiply batch normalisations into the convolutions before them, in modules whose order of calls is known."""
    for module in list(network.modules()):
        children = dict(module.named_children())
        for name, behind in _normalised(module):
            conv, norm = children.get(name), children.get(behind)
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                module.add_module(name, fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d)))
                module.add_module(behind, nn.Identity())


def _normalised(module: nn.Module) -> list[tuple[str, str]]:
    """Names of children (a, b) of a module, where b is the only one to use the output of a."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        names = list(dict(module.named_children()))
        return list(zip(names, names[1:], strict=False))
    if type(module) is ConvBlock:
        return [("conv2", "bn2")]  # its shortcut starts between conv1 and bn1
    if isinstance(module, Encoder | InvertedResidual):
        return list(module.normalised)
    return [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)] if type(module).__module__ == RESNET else []


def _rewrite_hanet(network: HANet) -> None:
    """Compose HANet's stem, the weights of its attention, and its head."""
    block = network.blocks[0]
    network.add_module("stem", ComposedStem(network.stem, cast(nn.Conv2d, block.conv1)))
    block.add_module("conv1", nn.Identity())
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, AxialAttention):
                module.add_module(name, ComposedAttention(child))
    composed, rest = _composed_head(network.reduce, network.head)
    network.add_module("reduce", composed)
    network.add_module("head", rest)


class ComposedStem(nn.Module):
    """A 5 x 5 and a 3 x 3 convolution as one of 7 x 7.

    Only padding lies between the two, so only the outermost pixels differ. These are computed by both.
    """

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second, self.in_channels = first, second, first.in_channels
        weight = F.conv2d(first.weight.transpose(0, 1), second.weight.flip(2, 3), padding=2).transpose(0, 1)
        self.whole = _conv(weight, _bias(second) + second.weight.sum((2, 3)) @ _bias(first))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, C, H, W); H and W are at least 4."""
        y = self.whole(x)  # (B, C, H, W)
        for side in (2, 3):
            end = x.shape[side]
            for edge, strip, part in ((0, 0, 0), (end - 1, end - 4, 2)):
                inner = self.first(x.narrow(side, strip, 4)).narrow(side, part, 2)  # the outermost two lines
                y.select(side, edge).copy_(self.second(inner).select(side, part // 2))
        return y


class ComposedAttention(AxialAttention):
    """AxialAttention whose weights are composed once."""

    def __init__(self, attention: AxialAttention) -> None:
        nn.Module.__init__(self)
        self.to_lines, self.to_image = attention.to_lines, attention.to_image
        self.weights = nn.ParameterList(attention.composed())

    def composed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the composed weights."""
        return cast(tuple[Tensor, Tensor, Tensor, Tensor], tuple(self.weights))


def _composed_head(reduce: nn.Conv2d, head: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """`reduce` and the taps of the head as one 1 x 1 convolution, and the rest of the head.

    With the published head, 18 maps are upsampled instead of 2 * width.
    """
    last = cast(nn.Conv2d, head[-1] if isinstance(head, nn.Sequential) else head)
    taps = last.weight.permute(2, 3, 0, 1).flatten(0, 2)  # (18 or 2, 2 * width)
    weight, bias = (taps @ reduce.weight.flatten(1))[..., None, None], taps @ _bias(reduce)
    if last.bias is not None:  # the 1 x 1 head, after dropout
        return _conv(weight, bias + last.bias), nn.Identity()
    return _conv(weight, bias), _conv(sum_of_taps(taps))


def _conv(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """A convolution with these weights that keeps the size."""
    outputs, inputs, side, _ = weight.shape
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias is not None)
    conv.weight = nn.Parameter(weight.contiguous())
    conv.bias = None if bias is None else nn.Parameter(bias)
    return conv


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias

"""Rewrites a trained network for prediction: the same function, to rounding, in fewer and smaller steps.

What is here pays only where nothing is learned any more, so models/ keeps the networks as they were published. Every
rewrite is composed in float64 and rounded once; tests hold each against the network it came from.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.amfnet import AMFNet
from models.hanet import AxialAttention, ConvBlock, HANet, sum_of_taps


@torch.no_grad()
def prepare_for_inference(network: nn.Module) -> nn.Module:
    """A copy of a network that predicts sooner: equal to rounding, in evaluation mode, not to be trained.

    Modules keep their names and what they give, but for those that do some of what follows: HANet's `stem`, with the
    first block's first convolution, and `reduce`, with the head; AMFNet's `up1`, with the head's first convolution.

    Args:
        network: of models/, in float32 or float64, on the CPU; it stays as it is.
    """
    dtype = next(network.parameters()).dtype
    prepared = copy.deepcopy(network).eval().double()
    fold_batch_norms(prepared)
    if isinstance(prepared, HANet):
        rewrite_hanet(prepared)
    elif isinstance(prepared, AMFNet) and prepared.up1:
        prepared.up1.insert(-1, prepared.head[0])  # below the upsampling, with which a 1 x 1 convolution commutes
        prepared.head[0] = nn.Identity()
    return prepared.to(dtype).eval().requires_grad_(False)  # also what is new in it


def fold_batch_norms(network: nn.Module) -> None:
    """Multiply every batch normalisation that follows a convolution, and nothing else does, into its weights."""
    for module in list(network.modules()):
        children = dict(module.named_children())
        if isinstance(module, nn.Sequential):
            behind = dict(zip(children, list(children)[1:], strict=False))
        else:  # conv1 and bn1, as in a ResNet
            behind = {name: name.replace("conv", "bn") for name in children}
        for name, conv in children.items():
            if isinstance(module, ConvBlock) and name == "conv1":
                continue  # its shortcut leaves between the two
            norm = children.get(behind.get(name, ""))
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module.add_module(name, fuse_conv_bn_eval(conv, norm))
                module.add_module(behind[name], nn.Identity())


def rewrite_hanet(network: HANet) -> None:
    """Stem, weights of the attention, and head composed."""
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
    """A 5 x 5 and a 3 x 3 convolution as one of 7 x 7: they have nothing between them but the padding.

    So only the outermost pixels differ; they are computed the long way.
    """

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second, self.in_channels = first, second, first.in_channels
        weight = F.conv2d(first.weight.transpose(0, 1), second.weight.flip(2, 3), padding=2).transpose(0, 1)
        self.whole = _conv(weight, _bias(second) + second.weight.sum((2, 3)) @ _bias(first))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, C, H, W), from 4 x 4 pixels on."""
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
        """As they were composed."""
        return cast(tuple[Tensor, Tensor, Tensor, Tensor], tuple(self.weights))


def _composed_head(reduce: nn.Conv2d, head: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """`reduce` with the taps of the head behind it, as one 1 x 1 convolution, and what is left of the head.

    So of the published head 18 maps are upsampled in place of 2 * width.
    """
    last = cast(nn.Conv2d, head[-1] if isinstance(head, nn.Sequential) else head)
    taps = last.weight.permute(2, 3, 0, 1).flatten(0, 2)  # (18 or 2, 2 * width)
    weight, bias = taps @ reduce.weight.flatten(1), taps @ _bias(reduce)
    if last.bias is not None:  # the 1 x 1 head, behind dropout
        return _conv(weight[..., None, None], bias + last.bias), nn.Identity()
    return _conv(weight[..., None, None], bias), _conv(sum_of_taps(taps))


def _conv(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """A convolution of these weights that keeps the size."""
    outputs, inputs, side, _ = weight.shape
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias is not None)
    conv.weight = nn.Parameter(weight.contiguous())
    conv.bias = None if bias is None else nn.Parameter(bias)
    return conv


def _bias(conv: nn.Conv2d) -> Tensor:
    """Of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias

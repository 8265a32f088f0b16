"""What a network costs: parameters, and multiply-adds of every layer, counted without computing anything."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one pair in a module, not counting the modules within it.

    Attributes:
        name: of the module; empty for the network itself.
        convolutions: of convolutions.
        attention: of the other matrix products.
        dates: 2 where both dates pass through the module, one after the other, else 1.
    """

    name: str
    convolutions: int
    attention: int
    dates: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.convolutions + self.attention


def count_parameters(network: nn.Module) -> int:
    """Weights and biases, also those that have no effect; running statistics are none."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, height: int, width: int, channels: int = 3) -> list[Macs]:
    """Multiply-adds of a prediction for one pair, by module, in the order of the network.

    The network runs on tensors without values (device meta). FLOPs are twice as many. Additions,
    activations, normalisation and upsampling are not counted, as usual. A module that gets both dates is known by its
    batch of two, or by two calls with maps of one size.

    Args:
        network: (before, after) -> list of logits.
        height: of the pair in pixels, a multiple of the network's size divisor.
        width: likewise.
        channels: bands of an image.
    """
    network = copy.deepcopy(network).to("meta").eval()  # a copy, for the hooks
    calls: dict[str, list[torch.Size]] = defaultdict(list)

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(inputs[0], Tensor):
            calls[name].append(inputs[0].shape)

    for name, module in network.named_modules():
        module.register_forward_pre_hook(partial(see, name))
    counter = FlopCounterMode(display=False)
    # attention in plain products: not every fused kernel has a formula
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.device("meta"), counter:
        image = torch.empty(1, channels, height, width)
        network(image, image)
    counts_of, root = counter.get_flop_counts(), type(network).__name__
    within = {n.removeprefix(root).lstrip("."): c for n, c in counts_of.items() if n.split(".")[0] == root}
    found = []
    for name in (name for name, _ in network.named_modules() if name in within):  # others only hold modules
        counts = dict(within[name])
        for child in _next_below(name, set(within)):
            for op, flops in within[child].items():
                counts[op] -= flops
        convolutions = sum(flops for op, flops in counts.items() if "convolution" in str(op))
        rest = sum(counts.values()) - convolutions
        if convolutions or rest:
            found.append(Macs(name, convolutions // 2, rest // 2, 2 if _both_dates(calls[name]) else 1))
    return found


def _both_dates(shapes: Sequence[torch.Size]) -> bool:
    """Whether a module that was called with these shapes got both dates of a pair."""
    maps = [shape for shape in shapes if len(shape) == 4 and shape[-1] > 1]
    return any(shape[0] == 2 for shape in shapes) or (len(shapes) == len(maps) == 2 and maps[0] == maps[1])


def _next_below(name: str, names: set[str]) -> list[str]:
    """Those of the names that lie within a module, and within none of the others that do."""
    prefix = f"{name}." if name else ""
    below = {other for other in names if other != name and other.startswith(prefix)}
    parents = {other: other.split(".") for other in below}
    return [o for o, parts in parents.items() if not any(".".join(parts[:n]) in below for n in range(1, len(parts)))]

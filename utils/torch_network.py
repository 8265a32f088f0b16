"""Runs the network of a checkpoint with PyTorch: rewritten for prediction, if asked for compiled, or in bfloat16."""

import copy
import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from utils.checkpoint import Checkpoint, network_from
from utils.deploy import prepare_for_inference
from utils.input_scaling import scaling_from
from utils.runtime import is_out_of_memory

log = logging.getLogger(__name__)
AT_ONCE = 2**20  # pixels of a scene predicted whole, and of a batch: 1024 x 1024, where HANet takes 2.5 GB
Network = Callable[[Tensor, Tensor], list[Tensor]]


class TorchNetwork(nn.Module):
    """The network of a checkpoint as a function from two dates to a probability of change; see `OnnxNetwork`.

    Attributes:
        network: scaled dates -> logits, as it predicts.
        exact: in bfloat16, the same in float32 to hold it against; None otherwise.
    """

    can_swap = True
    at_once = AT_ONCE

    def __init__(
        self, content: Checkpoint, device: torch.device, precision: str = "fp32", backend: str = "torch"
    ) -> None:
        super().__init__()
        self.device = device
        network = prepare_for_inference(network_from(content)).to(device).to(memory_format=torch.channels_last)
        self.scaling = scaling_from(content["statistics"]).to(device)
        self.channels, self.size_divisor = self.scaling.mean.shape[1], cast(int, network.size_divisor)
        self.about: dict[str, Any] = {name: value for name, value in content.items() if name != "weights"}
        self.exact = network if precision == "bf16" else None
        self.network = Bfloat16(network) if precision == "bf16" else network
        if backend == "compile":
            self.network = Compiled(self.network, device)

    @property
    def backend(self) -> str:
        """What computes: compile, or torch, also where compiling failed."""
        return "compile" if isinstance(self.network, Compiled) and self.network.compiled is not None else "torch"

    def forward(self, before: Tensor, after: Tensor, swapped: bool = False, exact: bool = False) -> Tensor:
        """uint8 (B, C, H, W) twice -> float32 (B, H, W); dates are swapped behind the scaling that each has."""
        dates = self.scaling(before, after)
        network = self.network if self.exact is None or not exact else self.exact
        return network(*(dates[::-1] if swapped else dates))[0].softmax(1)[:, 1]


class Bfloat16(nn.Module):
    """A copy of a network under autocast, whose convolutions are cast once, and not with every batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                module.to(torch.bfloat16)

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """float32 (B, C, H, W) twice -> float32 logits."""
        with torch.autocast(before.device.type, torch.bfloat16):
            return [logits.float() for logits in self.network(before, after)]


class Compiled(nn.Module):
    """A network by torch.compile, once a size of images; where that fails, the network as it is, with a warning.

    A batch smaller than one of its size before is filled up, or it would be compiled anew. After eight sizes PyTorch
    compiles no more, and runs the others as they are.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        # frozen weights are laid out once as the CPU's convolutions want them, with the ReLU behind inside them
        options: dict[str, Any] = {"freezing": True} if device.type == "cpu" else {}
        self.compiled: Network | None = cast(Network, torch.compile(network, dynamic=False, options=options))
        self._largest: dict[torch.Size, int] = {}  # batch that was compiled, by the shape of an image

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """float32 (B, C, H, W) twice -> float32 logits."""
        if self.compiled is None:
            return cast(Network, self.network)(before, after)
        shape, count = before.shape[1:], len(before)
        size = max(count, self._largest.pop(shape, 0))  # forgotten if memory runs out: fewer are tried then
        try:
            logits = self.compiled(_filled(before, size), _filled(after, size))
        except Exception as error:  # compilers fail in many ways
            if is_out_of_memory(error):
                raise
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning("--backend compile: not possible here, prediction goes on without (%s)", said)
            self.compiled = None
            return cast(Network, self.network)(before, after)
        self._largest[shape] = size
        return [y[:count] for y in logits]


def _filled(images: Tensor, size: int) -> Tensor:
    """As many images as `size`, by repeating the last."""
    more = images[-1:].expand(size - len(images), -1, -1, -1)
    return torch.cat([images, more]).contiguous(memory_format=torch.channels_last)

"""Finds which module feeds which in a network, by a forward pass on tensors without values."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models import build_model
from utils.console import mistakes_of_users

OPENED = ("HAN",)  # classes of modules whose parts are drawn in their place
SIGNS = {"add": "+", "sub": "-", "mul": "x", "cat": "C"}  # of operations that join the outputs of two boxes
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Linear)
SMALLEST = 8  # pixels of the smallest map's side


@dataclass
class Box:
    """A module, the input, an output, or an operation that joins the outputs of several of these."""

    name: str  # of a module, its path in the network
    kind: str  # of a module, its class or its parts; of a join, its sign
    role: str = "module"  # or "input", "output", "join"
    channels: int = 0  # of its output
    stride: int = 1  # side of the image divided by that of its output
    dates: int = 1  # 2 if both dates pass through, in one batch or one after the other
    sources: list[str] = field(default_factory=list)  # names of the boxes that feed it


def blank_network(name: str, **options: object) -> nn.Module:
    """A network without weights (device meta), which costs neither time nor memory."""
    with mistakes_of_users(), torch.device("meta"):
        return build_model(name, **options)


def trace(network: nn.Module, channels: int = 3) -> list[Box]:
    """The boxes of a network, each after all that feed it.

    A box is a module that is called outside of other boxes. Modules without a convolution that keep the size, such as
    activations, are no boxes. A module of which only the weights are used is a box. Of a network that takes
    `auxiliary`, all outputs are drawn. The network is not changed.
    """
    network = copy.deepcopy(network).to("meta").eval()
    side = SMALLEST * int(network.size_divisor)
    options = {"auxiliary": True} if "auxiliary" in inspect.signature(network.forward).parameters else {}
    flow = _Flow(network, side)
    with torch.no_grad(), torch.device("meta"):
        before, after = (torch.empty(1, channels, side, side) for _ in range(2))
        flow.put(Box("before, after", "", "input"), [before, after])
        with flow:
            outputs = network(before, after, **options)
    for number, logits in enumerate(outputs):
        name = f"auxiliary {number}" if number else "logits"
        flow.put(Box(name, "", "output", sources=[flow.origins[id(logits)]]), [logits])
    return list(flow.boxes.values())


class _Flow(TorchFunctionMode):
    """Follows every tensor from the box whose output it is."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.boxes: dict[str, Box] = {}  # by name, in the order of the forward pass
        self.origins: dict[int, str] = {}  # name of a box by the id of a tensor
        self._side, self._modules = side, dict(network.named_modules())
        self._owners = {id(tensor): name.rpartition(".")[0] for name, tensor in network.named_parameters()}
        self._depth = 0  # of modules that are being called
        self._kept: list[object] = []  # the id of a tensor is unique only while the tensor exists
        for name, module in self._modules.items():
            if name and type(module).__name__ not in OPENED:
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(partial(self._leave, name))

    def put(self, box: Box, outputs: list[Tensor]) -> None:
        """Add a box, or add dates and sources to the one of this name."""
        there = self.boxes.setdefault(box.name, box)
        there.dates = max(there.dates, box.dates)
        there.sources += [each for each in box.sources if each not in (*there.sources, box.name)]
        there.channels, there.stride = outputs[0].shape[1], self._side // outputs[0].shape[-1]
        if outputs[0].ndim == 3 and there.sources:  # tokens (B, N, C) have no size; they are drawn beside their source
            there.channels, there.stride = outputs[0].shape[2], self.boxes[there.sources[0]].stride
        self._mark(outputs, box.name)

    def _mark(self, tensors: list[Tensor], origin: str) -> None:
        self._kept.append(tensors)
        self.origins |= {id(tensor): origin for tensor in tensors}

    def _sources(self, tensors: list[Tensor]) -> list[str]:
        return list(dict.fromkeys(self.origins[id(x)] for x in tensors if id(x) in self.origins))

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._depth += 1

    def _leave(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        given, outputs = _tensors(inputs), _tensors(output)
        convolves = any(isinstance(each, CONVOLUTIONS) for each in module.modules())
        if convolves or given[0].shape != outputs[0].shape:
            dates = given[0].shape[0] + (self.boxes[name].dates if name in self.boxes else 0)
            self.put(Box(name, kind_of(module), dates=dates, sources=self._sources(given)), outputs)
        else:
            self._mark(outputs, self._sources(given)[0])

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; outside all boxes, record the origin of its result."""
        result = func(*args, **(kwargs or {}))
        outputs = _tensors(result)
        if self._depth or not outputs:
            return result
        given = _tensors((args, kwargs))
        sources = self._sources(given)
        owners = [self._owners[id(x)] for x in given if id(x) in self._owners]
        if owners and sources:
            self.put(Box(owners[0], kind_of(self._modules[owners[0]]), sources=sources), outputs)
        elif owners:  # weights of a module, sliced or reshaped
            self._kept.append(outputs)
            self._owners |= {id(x): owners[0] for x in outputs}
        elif len(sources) > 1:
            name = func.__name__.strip("_")
            self.put(Box(f"join {len(self.boxes)}", SIGNS.get(name, name), "join", sources=sources), outputs)
        elif sources:
            self._mark(outputs, sources[0])
        return result


def kind_of(module: nn.Module) -> str:
    """The class of a module; for a plain nn.Sequential its parts without activations and the like: "3 BasicBlock"."""
    if type(module) is not nn.Sequential:
        return type(module).__name__
    plain = (nn.modules.batchnorm._BatchNorm, nn.ReLU, nn.Dropout2d)
    held = Counter(type(each).__name__ for each in module if not isinstance(each, plain))
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in held.items())


def _tensors(value: object) -> list[Tensor]:
    """All tensors within lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [x for each in value for x in _tensors(each)] if isinstance(value, list | tuple) else []

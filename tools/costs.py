"""Cost of a network: parameters; multiply-adds of every layer, counted on tensors without values; time and memory."""

import copy
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from utils.machine import forget_peak, peak_used, used_now


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one pair in a module, without those of the modules within it."""

    name: str  # of the module; empty for the network itself
    convolutions: int
    attention: int  # all other matrix products
    dates: int  # 2 if both dates pass through the module, one after the other, else 1

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return self.convolutions + self.attention


def count_parameters(network: nn.Module) -> int:
    """Number of weights and biases, without running statistics."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, height: int, width: int, channels: int = 3) -> list[Macs]:
    """Multiply-adds of a prediction for one pair of (channels, height, width), by module, in the order of the network.

    FLOPs are twice as many. Additions, activations, normalisation and upsampling are not counted, as usual. Both dates
    pass through a module if it gets a batch of two, or two calls with maps of one size.
    """
    network = copy.deepcopy(network).to("meta").eval()  # a copy, which gets the hooks
    calls: dict[str, list[torch.Size]] = defaultdict(list)

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(inputs[0], Tensor):
            calls[name].append(inputs[0].shape)

    for name, module in network.named_modules():
        module.register_forward_pre_hook(partial(see, name))
    counter = FlopCounterMode(display=False)
    # attention as plain products, since not every fused kernel has a formula
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.device("meta"), counter:
        image = torch.empty(1, channels, height, width)
        network(image, image)
    root = type(network).__name__
    counted = counter.get_flop_counts().items()
    within = {n.removeprefix(root).lstrip("."): c for n, c in counted if n.split(".")[0] == root}  # inner ones included
    own = {name: Counter(within[name]) for name, _ in network.named_modules() if name in within}
    for name in own:
        parts = name.split(".")
        outer = (".".join(parts[:n]) for n in reversed(range(len(parts))) if name)
        if (parent := next((each for each in outer if each in own), None)) is not None:
            own[parent].subtract(within[name])
    found = []
    for name, counts in own.items():
        convolutions = sum(flops for op, flops in counts.items() if "convolution" in str(op))
        if total := counts.total():
            dates = 2 if _both_dates(calls[name]) else 1
            found.append(Macs(name, convolutions // 2, (total - convolutions) // 2, dates))
    return found


def _both_dates(shapes: Sequence[torch.Size]) -> bool:
    """Whether a module that was called with these shapes got both dates of a pair."""
    maps = [shape for shape in shapes if len(shape) == 4 and shape[-1] > 1]
    return any(shape[0] == 2 for shape in shapes) or (len(shapes) == len(maps) == 2 and maps[0] == maps[1])


def in_own_process(function: Callable[..., Any], *given: object) -> Any:
    """Run a function in a fresh process, whose memory nothing else uses."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


@torch.inference_mode()
def time_and_memory(network: nn.Module, images: Sequence[Tensor], rounds: int = 0) -> tuple[float, float]:
    """Median seconds of the predictions after the first, if any, and MB beyond the loaded network (nan: unknown)."""
    device, seconds = images[0].device, list[float]()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    forget_peak()
    loaded = used_now(device)
    for _ in range(rounds + 1):
        started = time.perf_counter()
        network(*images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:] or seconds), peak_used(device) - loaded

"""Runs the network of a checkpoint, rewritten for prediction: by PyTorch or another runtime, compiled, in bfloat16."""

import copy
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.siamese import InputScaling
from utils.checkpoint import Checkpoint, network_from
from utils.console import UserError
from utils.machine import first_line, is_out_of_memory
from utils.runtimes.onnx_file import OnnxRuntime, onnx_program
from utils.runtimes.openvino import PIXELS_AT_ONCE, OpenVino, imported
from utils.runtimes.rewriting import prepare_for_inference

log = logging.getLogger(__name__)
ALIKE = 0.1  # of the logits' norm; bf16 changes those of random networks by up to 0.02


class TorchNetwork(nn.Module):
    """The network of a checkpoint as a function from two dates to a probability of change; see `OnnxNetwork`.

    Attributes:
        device: of the tensors; the CPU for onnxruntime and OpenVINO.
        network: scaled dates -> logits, in the precision and by the backend asked for.
        exact: in bf16, the network in float32, to compare with; None otherwise.
    """

    can_swap = True
    at_once = PIXELS_AT_ONCE

    def __init__(
        self, content: Checkpoint, device: torch.device, precision: str = "fp32", backend: str = "torch"
    ) -> None:
        super().__init__()
        self.device = torch.device("cpu") if backend in ("onnxruntime", "openvino") else device
        self.scaling = InputScaling(content["statistics"]).to(self.device)
        self.channels = self.scaling.mean.shape[1]
        network = prepare_for_inference(network_from(content), self.channels)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        self.size_divisor = cast(int, network.size_divisor)
        self.about: dict[str, Any] = {name: value for name, value in content.items() if name != "weights"}
        self.exact = network if precision == "bf16" else None
        self.network: nn.Module = Bfloat16(network) if precision == "bf16" else network
        if backend == "openvino":
            self.network = InRuntime(self.network, OpenVino(network, precision))
        elif backend == "onnxruntime":
            self.network = InRuntime(network, _by_onnxruntime(network, self.channels, device))
        elif backend == "compile":
            self.network = Compiled(self.network, device)

    @property
    def backend(self) -> str:
        """What computes; torch also where compiling failed or a runtime's logits differed."""
        if isinstance(self.network, InRuntime) and self.network.agrees is not False:
            return "openvino" if isinstance(self.network.run, OpenVino) else "onnxruntime"
        return "compile" if isinstance(self.network, Compiled) and self.network.compiled is not None else "torch"

    def forward(self, before: Tensor, after: Tensor, swapped: bool = False, exact: bool = False) -> Tensor:
        """uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1]; dates are swapped after their scaling."""
        dates = self.scaling(before, after)
        network = self.network if self.exact is None or not exact else self.exact
        return network(*(dates[::-1] if swapped else dates))[0].softmax(1)[:, 1]


class Bfloat16(nn.Module):
    """A copy of a network under autocast, whose convolutions are cast once and not with every batch."""

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


class InRuntime(nn.Module):
    """A network run by onnxruntime or OpenVINO, in parts of at most `at_once` pixels.

    PyTorch runs larger images, so that the windows of a scene do not depend on the backend.

    Attributes:
        agrees: whether the runtime's logits of the first image are PyTorch's; None before. If not, PyTorch runs all.
    """

    def __init__(self, network: nn.Module, run: OnnxRuntime | OpenVino) -> None:
        super().__init__()
        self.network, self.run, self.agrees = network, run, cast(bool | None, None)

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """float32 (B, C, H, W) twice -> float32 logits of the main head."""
        fit = self.run.at_once // before[0, 0].numel()
        if not fit or self.agrees is False:
            return self.network(before, after)
        parts = zip(before.split(fit), after.split(fit), strict=True)
        logits = torch.cat([self.run(*part) for part in parts])
        if self.agrees is None:
            self.agrees = alike(logits[:1], self.network(before[:1], after[:1])[0])
            if not self.agrees:
                log.warning("%s: its logits differ from PyTorch's; PyTorch predicts", type(self.run).__name__)
                return self.network(before, after)
        return [logits]


def _by_onnxruntime(network: nn.Module, channels: int, device: torch.device) -> OnnxRuntime:
    """A network by way of a temporary ONNX file."""
    imported("onnxruntime")  # before the export, which takes long
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "network.onnx"
        onnx_program(network, channels, cast(int, network.size_divisor), torch.float32, "logits").save(path)
        return OnnxRuntime(path, device)


class Compiled(nn.Module):
    """A network by torch.compile, once per size of images; where that fails, the network as it is, with a warning.

    A batch smaller than an earlier one of its size is filled up, to avoid compiling again. After eight sizes PyTorch
    stops compiling and runs the others as they are. The first image of every size is compared with the network's.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        # freezing lays weights out for the CPU's convolutions and fuses ReLUs; a GPU gets all kernels of a size as one
        # CUDA graph
        options: dict[str, Any] = {"freezing": True} if device.type == "cpu" else {"triton.cudagraphs": True}
        self.compiled: Any = torch.compile(network, dynamic=False, options=options)
        self._largest: dict[torch.Size, int] = {}  # compiled batch by the shape of an image

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """float32 (B, C, H, W) twice -> float32 logits."""
        if self.compiled is None:
            return self.network(before, after)
        shape, count = before.shape[1:], len(before)
        first = shape not in self._largest
        size = max(count, self._largest.pop(shape, 0))  # stays forgotten if memory runs out, when fewer are tried
        try:
            logits = self.compiled(_filled(before, size), _filled(after, size))
            if first and not alike(logits[0][:1], self.network(before[:1], after[:1])[0]):
                raise UserError("its logits differ from PyTorch's")
        except Exception as error:  # compilers raise many types
            if is_out_of_memory(error):
                raise
            log.warning("--backend compile: not possible here, so PyTorch predicts (%s)", first_line(error))
            self.compiled = None
            return self.network(before, after)
        self._largest[shape] = size
        return [y[:count] for y in logits]


def alike(found: Tensor, expected: Tensor) -> bool:
    """Return True if logits differ by no more than rounding explains."""
    return bool((found - expected).norm() <= ALIKE * expected.norm())


def _filled(images: Tensor, size: int) -> Tensor:
    """The images, and the last one repeated, `size` in all."""
    more = images[-1:].expand(size - len(images), -1, -1, -1)
    return torch.cat([images, more]).contiguous(memory_format=torch.channels_last)

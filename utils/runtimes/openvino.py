"""Runs a network or an ONNX file by OpenVINO on the CPU; optional, with requirements-export.txt."""

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.console import UserError

EXTRA = "pip install -r requirements-export.txt"
PIXELS_AT_ONCE = 2**20  # pixels of a scene predicted whole, and of a batch: 1024 x 1024, where HANet takes 1.6 GB
KEPT = 2  # batches that stay compiled, each with memory of its own: a full one and the last of a set


class OpenVino:
    """A function from two dates, (B, C, H, W), to the first output of a graph, with as many threads as PyTorch.

    The graph is compiled for every shape of a batch. A smaller batch is not filled up to a compiled shape, since its
    rounding would depend on what was predicted before it.

    Args:
        source: an ONNX file, whose `metadata` are kept, or a network in float32 on the CPU.
        precision: fp32 or bf16.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: OpenVINO is missing, or the file is damaged.
    """

    at_once = PIXELS_AT_ONCE  # it takes no more memory than PyTorch

    def __init__(self, source: Path | nn.Module, precision: str = "fp32") -> None:
        self._openvino, self._core = imported("openvino"), openvino_core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],  # the default may be bf16
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # processes of torchrun would share the same cores
        }
        self.metadata: dict[str, str] = {}
        self._source: Any = source
        self._compiled: OrderedDict[torch.Size, Any] = OrderedDict()  # the last used at the end
        if isinstance(source, Path):
            with file_errors(source):
                self._source = self._core.read_model(source)
            if self._source.has_rt_info("framework"):
                self.metadata = {name: str(text) for name, text in self._source.get_rt_info("framework").value.items()}

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the graph's first output; MemoryError where memory runs out."""
        with memory_errors():
            compiled = self._compiled.pop(before.shape, None) or self._compile(before, after)
            found = compiled([before.contiguous().numpy(), after.contiguous().numpy()], share_inputs=True)[0]
            self._compiled[before.shape] = compiled  # unless memory ran out
            return torch.from_numpy(found)

    def _compile(self, before: Tensor, after: Tensor) -> Any:
        while len(self._compiled) >= KEPT:
            self._compiled.popitem(last=False)
        graph = _traced(self._source, before, after) if isinstance(self._source, nn.Module) else self._source
        shape = self._openvino.PartialShape(list(before.shape))
        graph.reshape(dict.fromkeys(graph.inputs, shape))
        return self._core.compile_model(graph, "CPU", self._settings)


@cache
def openvino_core() -> Any:
    """Return the one core of this process.

    Each core sets the thread's stack for signals and restores the former one at its end. Unless cores end in reverse
    order, the thread is left with a freed stack, and the next signal ends the process.
    """
    return imported("openvino").Core()


def _traced(network: nn.Module, before: Tensor, after: Tensor) -> Any:
    """A network as OpenVINO's graph, for dates of this shape; `convert_model` would by default report its use."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that become constants, as intended
        decoder = TorchScriptPythonDecoder(network, example_input=(before, after))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def imported(name: str) -> Any:
    """Import an optional package.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report every use
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(f"--backend {name}: the package {name} cannot be imported ({error}): {EXTRA}") from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise the runtimes' errors of exhausted memory, which have no common type, as MemoryError."""
    try:
        yield
    except Exception as error:
        if any(words in str(error).lower() for words in ("allocate", "bad_alloc", "out of memory")):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Make errors of the block name the file that is opened."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write one with python -m tools.export_onnx")
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: not an ONNX file, or damaged ({said}); export it again") from error

"""onnxruntime and OpenVINO, both optional (requirements-export.txt), as functions from two dates to one result.

Both take two tensors of one shape, (B, C, H, W), and give the first result of their graph, as torch gives it.
"""

import logging
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

log = logging.getLogger(__name__)
EXTRA = "pip install -r requirements-export.txt"
AT_ONCE = 2**20  # pixels of a scene predicted whole, and of a batch: 1024 x 1024, where HANet takes 1.6 GB
KEPT = 2  # batches that OpenVINO keeps compiled, each with memory of its own: a full one and a set's last


class OnnxRuntime:
    """An ONNX file by onnxruntime, with as many threads as torch has.

    Attributes:
        at_once: pixels of a batch that it may be given. Fewer than PyTorch's: it keeps all scores of HANet's attention,
            which takes 1.9 GB at 512 x 512; twice the side has 8 times as many.
        metadata: of the file.

    Args:
        path: of the file, which is read whole.
        device: what is to compute; tensors stay on the CPU.

    Raises:
        UserError: onnxruntime is not there, or the file is damaged.
    """

    at_once = 2**18

    def __init__(self, path: Path, device: torch.device) -> None:
        onnxruntime = imported("onnxruntime")
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        elif device.type == "cuda":
            log.warning("this onnxruntime knows no GPU, so the CPU predicts; onnxruntime-gpu is the package that does")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = False  # it would hold on to the most that any size has needed, and more
        options.log_severity_level = 4  # what fails is raised, and need not be printed too
        with file_errors(path):
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """The graph's result.

        Raises:
            MemoryError: memory ran out.
        """
        named = {name: date.contiguous().numpy() for name, date in (("before", before), ("after", after))}
        with memory_errors():
            return torch.from_numpy(self._session.run(None, named)[0])


class OpenVino:
    """A graph by OpenVINO on the CPU, compiled for every batch of another shape, with as many threads as torch has.

    A batch is not filled up to one that was compiled: its rounding would depend on what was predicted before it.

    Attributes:
        at_once: pixels of a batch that it may be given; it takes no more memory than PyTorch.
        metadata: of an ONNX file.

    Args:
        source: an ONNX file, which is read whole, or a network, in float32 on the CPU, whose first output is wanted.
        precision: fp32 or bf16.

    Raises:
        UserError: OpenVINO is not there, or the file is damaged.
    """

    at_once = AT_ONCE

    def __init__(self, source: Path | nn.Module, precision: str = "fp32") -> None:
        self._openvino, self._core = imported("openvino"), openvino_core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],  # by itself it may choose bf16
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # processes of torchrun would share the same cores
        }
        self.metadata: dict[str, str] = {}
        self._network = source if isinstance(source, nn.Module) else None
        self._compiled: OrderedDict[torch.Size, Any] = OrderedDict()  # the last used at the end
        if isinstance(source, Path):
            with file_errors(source):
                self._graph = self._core.read_model(source)
            if self._graph.has_rt_info("framework"):
                self.metadata = {name: str(text) for name, text in self._graph.get_rt_info("framework").value.items()}

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """The graph's result.

        Raises:
            MemoryError: memory ran out.
        """
        with memory_errors():
            compiled = self._compiled.pop(before.shape, None) or self._compile(before, after)
            found = compiled([before.contiguous().numpy(), after.contiguous().numpy()], share_inputs=True)[0]
            self._compiled[before.shape] = compiled  # unless memory ran out
            return torch.from_numpy(found)

    def _compile(self, before: Tensor, after: Tensor) -> Any:
        while len(self._compiled) >= KEPT:
            self._compiled.popitem(last=False)
        graph = self._graph if self._network is None else traced(self._network, before, after)
        shape = self._openvino.PartialShape(list(before.shape))
        graph.reshape(dict.fromkeys(graph.inputs, shape))
        return self._core.compile_model(graph, "CPU", self._settings)


@cache
def openvino_core() -> Any:
    """The one core of this process.

    Each core gives its thread a stack for signals and takes it back at its end; where several do not end in the
    reverse order of their beginnings, the thread is left with a stack that is gone, and the next signal ends the
    process.

    Raises:
        UserError: OpenVINO is not there.
    """
    return imported("openvino").Core()


def traced(network: nn.Module, before: Tensor, after: Tensor) -> Any:
    """A network as OpenVINO's graph, for dates of this shape.

    OpenVINO's own `convert_model` does the same, and by default tells its makers that it was called.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that become constants, as they should
        decoder = TorchScriptPythonDecoder(network, example_input=(before, after))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def imported(name: str) -> Any:
    """A package that is optional.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or onnxruntime would tell its makers of every use
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(f"--backend {name}: the package {name} cannot be imported ({error}): {EXTRA}") from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Let what says that memory ran out say so by its type: the runtimes' exceptions have no common base."""
    try:
        yield
    except Exception as error:
        if any(words in str(error).lower() for words in ("allocate", "bad_alloc", "out of memory")):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Name the file that cannot be opened."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write one with python -m tools.export_onnx")
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: no ONNX file, or a damaged one ({said}); export it again") from error

"""Writes a network as an ONNX graph, and predicts with the ONNX files of tools/export_onnx.py.

Such a file takes `before` and `after`, uint8 (B, C, H, W), and returns `probability`, float32 (B, H, W). Batch and size
are free; H and W are multiples of the network's divisor. Its metadata hold, as JSON, what else a prediction needs.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.console import UserError
from utils.runtimes.openvino import EXTRA, OpenVino, file_errors, imported, memory_errors

log = logging.getLogger(__name__)
OPSET = 18  # the exporter's own; onnxruntime 1.14 and later read it
NEEDED = {"model", "statistics", "size_divisor"}  # in the metadata


def onnx_program(network: nn.Module, channels: int, divisor: int, dtype: torch.dtype, output: str) -> Any:
    """Return a network as a graph that `save(path)` writes. The caller compares its numbers.

    The network, on the CPU, takes two dates of this type, (B, channels, H, W). H and W are free multiples of `divisor`.
    The inputs are named `before` and `after`, the output `output`.

    Raises:
        UserError: a package is missing.
    """
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            imported(package)
    except UserError as error:
        raise UserError(f"exporting to ONNX needs onnx, onnxscript and onnxruntime: {EXTRA}") from error
    free_divisor: Any = divisor
    batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    free = {0: batch, 2: free_divisor * rows, 3: free_divisor * columns}
    # sizes of 1 would not stay free; one tensor given twice would become one input
    before, after = torch.zeros(2, 2, channels, 3 * divisor, 4 * divisor, dtype=dtype).unbind()
    graph = torch.export.export(network, (before, after), dynamic_shapes=(free, free), strict=False)
    with _quiet():
        program: Any = torch.onnx.export(
            graph, input_names=["before", "after"], output_names=[output], opset_version=OPSET,
            dynamic_shapes=(free, free), dynamo=True, verbose=False,
        )  # fmt: skip
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of source, with the paths of this machine
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's warnings and notes."""
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            yield
    finally:
        logging.disable(before)


class OnnxRuntime:
    """An ONNX file run by onnxruntime, with as many threads as PyTorch.

    Tensors stay on the CPU, whatever the device. `metadata` are the file's.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: onnxruntime is missing, or the file is damaged.
    """

    # pixels of a batch: fewer than PyTorch's, since all scores of HANet's attention are kept, 1.9 GB at 512 x 512, and
    # 8 times as much at twice the side
    at_once = 2**18

    def __init__(self, path: Path, device: torch.device) -> None:
        onnxruntime = imported("onnxruntime")
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        elif device.type == "cuda":
            log.warning("--backend onnxruntime: the CPU predicts; install onnxruntime-gpu to use the GPU")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = False  # it would keep the memory of the largest size
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        with file_errors(path):
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the graph's first output; MemoryError where memory runs out."""
        named = {name: date.contiguous().numpy() for name, date in (("before", before), ("after", after))}
        with memory_errors():
            return torch.from_numpy(self._session.run(None, named)[0])


class OnnxNetwork:
    """An ONNX file as a function from two dates to a probability of change.

    Attributes:
        backend: onnxruntime or openvino.
        about: the checkpoint that the file was made from, without weights.
        device: of the tensors: always the CPU.
        channels: of an image.
        size_divisor: height and width are multiples of it.
        at_once: pixels of a scene predicted whole, and of a batch. The same for both backends, so that maps agree.
        can_swap: whether both dates have the same statistics, so that swapped dates are scaled alike.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is damaged or was not exported here, or the package is missing.
    """

    at_once = OnnxRuntime.at_once

    def __init__(self, path: Path, device: torch.device, backend: str = "onnxruntime") -> None:
        self.backend = backend
        self._run = OpenVino(path) if backend == "openvino" else OnnxRuntime(path, device)
        metadata = self._run.metadata
        if NEEDED - metadata.keys():
            raise UserError(f"{path}: has no settings of a network; export it with python -m tools.export_onnx")
        self.about: dict[str, Any] = {name: json.loads(value) for name, value in metadata.items()}
        self.device = torch.device("cpu")
        self.channels, self.size_divisor = len(self.about["statistics"]["mean"][0]), int(self.about["size_divisor"])
        self.can_swap = all(first == second for first, second in self.about["statistics"].values())

    def __call__(self, before: Tensor, after: Tensor, swapped: bool = False) -> Tensor:
        """Return probabilities: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Raises:
            UserError: wrong or different sizes.
            MemoryError: memory ran out.
        """
        if before.shape != after.shape or before.ndim != 4 or before.shape[1] != self.channels:
            shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
            raise UserError(f"expected two (B, {self.channels}, H, W), got {shapes}")
        size = tuple(before.shape[2:])
        if any(side % self.size_divisor or not side for side in size):
            raise UserError(f"images are {size}: height and width must be multiples of {self.size_divisor}")
        return self._run(after, before) if swapped else self._run(before, after)

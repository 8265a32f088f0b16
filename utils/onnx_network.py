"""Runs the ONNX files of tools/export_onnx.py with onnxruntime, which is optional: requirements-export.txt.

The graph takes `before` and `after`, uint8 (B, C, H, W), and gives `probability`, float32 (B, H, W), of change; batch
and size are free, H and W multiples of the network's divisor. What else a prediction needs is JSON in the file's
metadata.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)
EXTRA = "pip install -r requirements-export.txt"
NEEDED = {"model", "statistics", "size_divisor"}  # in the metadata


class OnnxNetwork:
    """An ONNX file as a function from two dates to a probability of change.

    Attributes:
        about: the checkpoint it was made from, without weights.
        device: of the tensors that it takes and gives: the CPU, whatever computes.
        channels: of an image.
        size_divisor: height and width must be multiples of it.
        at_once: pixels of a scene predicted whole, and of a batch. Fewer than PyTorch's: onnxruntime keeps all scores
            of HANet's attention, which takes 1.9 GB at 512 x 512; twice the side has 8 times as many.
        can_swap: whether exchanged images are scaled as they were before, each date having the same statistics.

    Args:
        path: the file.
        device: what is to compute.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or none of ours, or onnxruntime is not there.
    """

    at_once = 2**18
    backend = "onnxruntime"

    def __init__(self, path: Path, device: torch.device) -> None:
        self._session = _session(path, device)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if NEEDED - metadata.keys():
            raise ValueError(f"{path}: does not say how to use it; export it with python -m tools.export_onnx")
        self.about: dict[str, Any] = {name: json.loads(value) for name, value in metadata.items()}
        self.device = torch.device("cpu")
        self.channels, self.size_divisor = len(self.about["statistics"]["mean"][0]), int(self.about["size_divisor"])
        self.can_swap = all(len({tuple(date) for date in values}) == 1 for values in self.about["statistics"].values())

    def __call__(self, before: Tensor, after: Tensor, swapped: bool = False) -> Tensor:
        """Probability of change of every pixel: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Raises:
            ValueError: wrong or different sizes.
            MemoryError: memory ran out.
        """
        if before.shape != after.shape or before.ndim != 4 or before.shape[1] != self.channels:
            shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
            raise ValueError(f"expected two (B, {self.channels}, H, W), got {shapes}")
        if any(side % self.size_divisor or not side for side in before.shape[2:]):
            size = tuple(before.shape[2:])
            raise ValueError(f"images are {size}: height and width must be multiples of {self.size_divisor}")
        dates = (after, before) if swapped else (before, after)
        named = {name: date.contiguous().numpy() for name, date in zip(("before", "after"), dates, strict=True)}
        try:
            return torch.from_numpy(self._session.run(["probability"], named)[0])
        except Exception as error:  # its exceptions have no common base of their own
            if any(words in str(error).lower() for words in ("allocate", "bad_alloc", "out of memory")):
                raise MemoryError(str(error)) from error
            raise


def _session(path: Path, device: torch.device) -> Any:
    """An onnxruntime session, with as many threads as torch has."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{path}: ONNX files are run by onnxruntime: {EXTRA}") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write one with python -m tools.export_onnx")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    elif device.type == "cuda":
        log.warning("this onnxruntime knows no GPU, so the CPU predicts; onnxruntime-gpu is the package that does")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False  # it would hold on to the most that any size has needed, and more
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # its exceptions have no common base of their own
        raise ValueError(f"{path}: no ONNX file, or a damaged one ({error}); export it again") from error

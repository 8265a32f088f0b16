"""Predicts with the ONNX files of tools/export_onnx.py.

The graph takes `before` and `after`, uint8 (B, C, H, W), and gives `probability`, float32 (B, H, W), of change; batch
and size are free, H and W multiples of the network's divisor. What else a prediction needs is JSON in the file's
metadata.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.console import UserError
from utils.runtimes.openvino import OnnxRuntime, OpenVino

NEEDED = {"model", "statistics", "size_divisor"}  # in the metadata


class OnnxNetwork:
    """An ONNX file as a function from two dates to a probability of change.

    Attributes:
        backend: what computes.
        about: the checkpoint it was made from, without weights.
        device: of the tensors that it takes and gives: the CPU, whatever computes.
        channels: of an image.
        size_divisor: height and width must be multiples of it.
        at_once: pixels of a scene predicted whole, and of a batch; as few as onnxruntime wants, whoever runs the file,
            so that maps are the same.
        can_swap: whether exchanged images are scaled as they were before, each date having the same statistics.

    Args:
        path: the file.
        device: what is to compute.
        backend: onnxruntime or openvino.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is damaged or none of ours, or the package is not there.
    """

    at_once = OnnxRuntime.at_once

    def __init__(self, path: Path, device: torch.device, backend: str = "onnxruntime") -> None:
        self.backend = backend
        self._run = OpenVino(path) if backend == "openvino" else OnnxRuntime(path, device)
        metadata = self._run.metadata
        if NEEDED - metadata.keys():
            raise UserError(f"{path}: does not say how to use it; export it with python -m tools.export_onnx")
        self.about: dict[str, Any] = {name: json.loads(value) for name, value in metadata.items()}
        self.device = torch.device("cpu")
        self.channels, self.size_divisor = len(self.about["statistics"]["mean"][0]), int(self.about["size_divisor"])
        self.can_swap = all(len({tuple(date) for date in values}) == 1 for values in self.about["statistics"].values())

    def __call__(self, before: Tensor, after: Tensor, swapped: bool = False) -> Tensor:
        """Probability of change of every pixel: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Raises:
            UserError: wrong or different sizes.
            MemoryError: memory ran out.
        """
        if before.shape != after.shape or before.ndim != 4 or before.shape[1] != self.channels:
            shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
            raise UserError(f"expected two (B, {self.channels}, H, W), got {shapes}")
        if any(side % self.size_divisor or not side for side in before.shape[2:]):
            size = tuple(before.shape[2:])
            raise UserError(f"images are {size}: height and width must be multiples of {self.size_divisor}")
        return self._run(after, before) if swapped else self._run(before, after)

"""Opens a checkpoint or an ONNX file with the backend that is asked for."""

import logging
from pathlib import Path

import torch

from utils.checkpoint import load_checkpoint
from utils.console import UserError
from utils.runtimes.onnx_network import OnnxNetwork
from utils.runtimes.torch_network import TorchNetwork
from utils.settings import BACKENDS, PRECISIONS

log = logging.getLogger(__name__)
OpenedNetwork = OnnxNetwork | TorchNetwork


def open_network(path: Path, device: torch.device, precision: str, backend: str) -> OpenedNetwork:
    """The network of a checkpoint or an ONNX file, run by a backend; an ONNX file takes onnxruntime for torch.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no network, or this backend or precision is not for it, or not installed.
    """
    onnx = path.suffix.lower() == ".onnx"
    for flag, word, known in (("--precision", precision, PRECISIONS), ("--backend", backend, BACKENDS)):
        if word not in known:
            raise UserError(f"{flag} {word}: not known; choose one of {', '.join(known)}")
    if onnx and (precision != PRECISIONS[0] or backend == "compile"):
        asked = f"--precision {precision}" if precision != PRECISIONS[0] else f"--backend {backend}"
        raise UserError(f"{asked}: not for {path}; predict with the .pt that it is made of")
    if precision == "bf16" and backend == "onnxruntime":
        raise UserError("--precision bf16: onnxruntime has none on a CPU; give --backend openvino, torch or compile")
    if device.type == "cuda" and backend == "openvino":
        log.warning("--backend openvino: knows no GPU of NVIDIA, so the CPU predicts")
    if onnx:
        return OnnxNetwork(path, device, "openvino" if backend == "openvino" else "onnxruntime")
    return TorchNetwork(load_checkpoint(path), device, precision, backend)

"""Opens a checkpoint or an ONNX file with a backend."""

import logging
from pathlib import Path

import torch

from utils.checkpoint import load_checkpoint
from utils.console import UserError, choose
from utils.runtimes.onnx_file import OnnxNetwork
from utils.runtimes.torch_network import TorchNetwork
from utils.settings import BACKENDS, PRECISIONS

log = logging.getLogger(__name__)


def open_network(path: Path, device: torch.device, precision: str, backend: str) -> OnnxNetwork | TorchNetwork:
    """Return the network of a checkpoint or an ONNX file; for an ONNX file, torch means onnxruntime.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not a network, or does not go with this backend or precision, or a package is missing.
    """
    for flag, word, known in (("--precision", precision, PRECISIONS), ("--backend", backend, BACKENDS)):
        choose(dict.fromkeys(known), word, flag)
    if precision == "bf16" and backend == "onnxruntime":
        raise UserError("--precision bf16: onnxruntime has none on a CPU; use --backend openvino, torch or compile")
    if device.type == "cuda" and backend == "openvino":
        log.warning("--backend openvino: the CPU predicts, since OpenVINO does not support NVIDIA GPUs")
    if path.suffix.lower() != ".onnx":
        return TorchNetwork(load_checkpoint(path), device, precision, backend)
    if precision == "bf16" or backend == "compile":
        asked = "--precision bf16" if precision == "bf16" else "--backend compile"
        raise UserError(f"{asked}: not for {path}; predict with the .pt that it was made from")
    return OnnxNetwork(path, device, "openvino" if backend == "openvino" else "onnxruntime")

"""What runs a network: opens it by name, or by whichever is fastest here and agrees with the usual one."""

import logging
import statistics
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from utils.checkpoint import load_checkpoint
from utils.machine import first_line
from utils.runtimes.onnx_network import OnnxNetwork
from utils.runtimes.openvino import OnnxRuntime
from utils.runtimes.torch_network import TorchNetwork
from utils.settings import BACKENDS, PRECISIONS

log = logging.getLogger(__name__)
PACKAGES = {  # that run a checkpoint; onnxruntime wants it written as an ONNX file
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}
ROUNDS = 3  # in which each candidate is timed
TOLERANCE = 1e-3  # of a probability, beyond twice the difference that the usual one has to fp32
OpenedNetwork = OnnxNetwork | TorchNetwork
Dates = tuple[Tensor, Tensor]  # before and after, uint8 (B, C, H, W)


def open_network(path: Path, device: torch.device, precision: str, backend: str) -> OpenedNetwork:
    """The network of a checkpoint or an ONNX file, run by a backend; `auto` is the usual one until it is chosen.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no network, or this backend or precision is not for it, or not installed.
    """
    onnx = path.suffix.lower() == ".onnx"
    for flag, word, known in (("--precision", precision, PRECISIONS), ("--backend", backend, BACKENDS)):
        if word not in known:
            raise ValueError(f"{flag} {word}: not known; choose one of {', '.join(known)}")
    if onnx and (precision != PRECISIONS[0] or backend == "compile"):
        asked = f"--precision {precision}" if precision != PRECISIONS[0] else f"--backend {backend}"
        raise ValueError(f"{asked}: not for {path}; predict with the .pt that it is made of")
    if precision == "bf16" and backend == "onnxruntime":
        raise ValueError("--precision bf16: onnxruntime has none on a CPU; give --backend openvino, torch or compile")
    if device.type == "cuda" and backend == "openvino":
        log.warning("--backend openvino: knows no GPU of NVIDIA, so the CPU predicts")
    if onnx:
        return OnnxNetwork(path, device, "openvino" if backend == "openvino" else "onnxruntime")
    return TorchNetwork(load_checkpoint(path), device, precision, BACKENDS[0] if backend == "auto" else backend)


def candidates(path: Path, device: torch.device, precision: str) -> list[str]:
    """What `auto` tries: what is installed and can run this, the usual one first; compile would take minutes."""
    if path.suffix.lower() == ".onnx":
        usual, packages = "onnxruntime", {"openvino": PACKAGES["openvino"]}
    else:
        usual, packages = "torch", PACKAGES
    possible = [
        name for name in packages if device.type == "cpu" and not (name == "onnxruntime" and precision == "bf16")
    ]
    return [usual, *(name for name in possible if all(map(_installed, packages[name])))]


def fastest(
    path: Path, usual: OpenedNetwork, device: torch.device, precision: str, threshold: float, dates: Dates
) -> OpenedNetwork:
    """Time the candidates on one batch, in turns, and say which of those that agree with the usual one is fastest.

    In fp32 none may move a pixel across the threshold; in bf16, whose rounding is its own, twice as many as PyTorch's.

    Args:
        path: of the network.
        usual: that network, run by the first of `candidates`.
        device: what was asked to compute.
        precision: of PRECISIONS.
        threshold: probability over which a pixel is changed.
        dates: the batch, uint8 (B, C, H, W) twice.
    """
    names = candidates(path, device, precision)
    if isinstance(usual, TorchNetwork) and dates[0][0, 0].numel() > OnnxRuntime.at_once:
        names = [name for name in names if name != "onnxruntime"]  # which would leave these to PyTorch
    if len(names) == 1:
        log.info("--backend auto: %s, as nothing else is here that can run this", usual.backend)
        return usual
    networks, found = {usual.backend: usual}, {}
    try:
        found[usual.backend] = exact = _probability(usual, dates)  # also the warming up
        if isinstance(usual, TorchNetwork) and usual.exact is not None:
            exact = _probability(usual, dates, exact=True)
    except Exception:  # whoever asked will meet it again, and knows what to do
        return usual
    for name in names[1:]:
        try:
            network = open_network(path, device, precision, name)
            networks[name], found[name] = network, _probability(network, dates)
        except Exception as error:  # runtimes fail in many ways
            log.warning("--backend auto: %s is left out (%s)", name, first_line(error))
    agreeing = _agreeing(found, exact, threshold, usual.backend)
    try:
        times = _milliseconds(networks, dates)
    except Exception as error:  # as for memory, of which all of them want theirs at once
        log.warning("--backend auto: %s, as the others could not be timed (%s)", usual.backend, first_line(error))
        return usual
    best = min(agreeing, key=lambda name: times[name])
    told = ", ".join(f"{name} {each:.1f}" for name, each in times.items())
    log.info("--backend auto: %s (ms a pair: %s; compile takes minutes and was not tried)", best, told)
    return networks[best]


def _agreeing(found: Mapping[str, Tensor], exact: Tensor, threshold: float, usual: str) -> list[str]:
    """Those whose probabilities are as near to the exact ones as the usual one's."""
    moved = {name: int(((p > threshold) != (exact > threshold)).sum()) for name, p in found.items()}
    apart = {name: float((p - exact).abs().max()) for name, p in found.items()}
    agreeing = []
    for name in found:
        if name == usual or (moved[name] <= 2 * moved[usual] and apart[name] <= 2 * apart[usual] + TOLERANCE):
            agreeing.append(name)
        else:
            said = f"moves {moved[name]} pixels, and a probability by {apart[name]:.1e}"
            log.warning("--backend auto: %s is left out (%s)", name, said)
    return agreeing


def _milliseconds(networks: Mapping[str, OpenedNetwork], dates: Dates) -> dict[str, float]:
    """The median time that a pair takes each, which have been warmed up."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            start = time.perf_counter()
            _probability(network, dates)
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(each) / len(dates[0]) for name, each in seconds.items()}


@torch.inference_mode()
def _probability(network: OpenedNetwork, dates: Dates, exact: bool = False) -> Tensor:
    """On the CPU, so that a GPU is waited for."""
    before, after = (date.to(network.device) for date in dates)
    if exact and isinstance(network, TorchNetwork):
        return network(before, after, exact=True).cpu()
    return network(before, after).cpu()


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # removed by hand from what may be imported
        return False

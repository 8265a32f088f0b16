"""Trained networks as ONNX files: written with input scaling inside, read again to predict with onnxruntime.

The graph takes `before` and `after`, uint8 (B, C, H, W), and gives `probability`, float32 (B, H, W), of change; batch
and size are free, H and W multiples of the network's divisor. What else a prediction needs is JSON in the file's
metadata. The packages are optional: requirements-export.txt.
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

from utils.input_scaling import InputScaling
from utils.predictor import ChangePredictor

log = logging.getLogger(__name__)
EXTRA = "pip install -r requirements-export.txt"
OPSET = 18  # the exporter's own; read by onnxruntime 1.14 and later
KEPT = (  # what of a checkpoint travels in the metadata
    "model", "options", "statistics", "reading", "threshold", "tuned_threshold", "recipe", "epoch", "scores",
    "selected_on", "data", "imported", "versions",
)  # fmt: skip


class OnnxPredictor(ChangePredictor):
    """Predicts with an ONNX file that `write_onnx` wrote; probabilities are on the CPU, whatever computes them."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._session = _session(path, device)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if not {"model", "threshold", "size_divisor"} <= metadata.keys():
            raise ValueError(f"{path}: not written by tools/export_onnx.py, so it does not say how to use it")
        self.about: dict[str, Any] = {name: json.loads(value) for name, value in metadata.items()}
        self.threshold = float(self.about["threshold"])
        self.size_divisor = self.about["size_divisor"]
        self.device = torch.device("cpu")

    def probability(self, before: Tensor, after: Tensor) -> Tensor:
        """Probability of change of every pixel: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Raises:
            ValueError: wrong or different sizes.
        """
        channels, divisor = self._session.get_inputs()[0].shape[1], int(self.about["size_divisor"])
        if before.shape != after.shape or before.ndim != 4 or before.shape[1] != channels:
            raise ValueError(f"expected two (B, {channels}, H, W), got {tuple(before.shape)} and {tuple(after.shape)}")
        if any(side % divisor or not side for side in before.shape[2:]):
            raise ValueError(f"images are {tuple(before.shape[2:])}: height and width must be multiples of {divisor}")
        dates = {"before": before.contiguous().numpy(), "after": after.contiguous().numpy()}
        return torch.from_numpy(self._session.run(["probability"], dates)[0])


def open_predictor(path: Path, device: torch.device) -> ChangePredictor:
    """A predictor of a checkpoint, or of an ONNX file, told by the suffix.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or none of ours, or onnxruntime is not there.
    """
    return OnnxPredictor(path, device) if path.suffix.lower() == ".onnx" else ChangePredictor(path, device)


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
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # its exceptions have no common base of their own
        raise ValueError(f"{path}: no ONNX file, or a damaged one ({error}); export it again") from error


class _ProbabilityOfChange(nn.Module):
    """What goes into the file: scaling, network and softmax."""

    def __init__(self, scaling: InputScaling, network: nn.Module) -> None:
        super().__init__()
        self.scaling, self.network = scaling, network

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return self.network(*self.scaling(before, after))[0].softmax(1)[:, 1]


def write_onnx(predictor: ChangePredictor, path: Path) -> None:
    """Write a predictor as an ONNX file; whether it gives the same numbers is for the caller to check.

    Raises:
        ValueError: the packages are not there.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"an ONNX file is written with onnx and onnxscript: {EXTRA}") from error
    channels = predictor.scaling.mean.shape[1]
    divisor: Any = predictor.size_divisor
    batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    free = {0: batch, 2: divisor * rows, 3: divisor * columns}
    # sizes of 1 would not stay free; and two tensors, since one given twice would become one input
    before, after = torch.zeros(2, 2, channels, 3 * divisor, 4 * divisor, dtype=torch.uint8).unbind()
    module = _ProbabilityOfChange(predictor.scaling, predictor.network)
    graph = torch.export.export(module, (before, after), dynamic_shapes=(free, free), strict=False)
    with _quiet():
        program: Any = torch.onnx.export(
            graph,
            input_names=["before", "after"],
            output_names=["probability"],
            opset_version=OPSET,
            dynamic_shapes=(free, free),  # the names of free sizes
            dynamo=True,
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of source, with the paths of this machine
    about = {name: predictor.about[name] for name in KEPT if name in predictor.about}
    about |= {"threshold": predictor.threshold, "size_divisor": divisor}
    program.model.metadata_props.update({name: json.dumps(value) for name, value in about.items()})
    program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and notes of the exporter's own workings."""
    packages = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [package.level for package in packages]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for package in packages:
                package.setLevel(logging.ERROR)
            yield
    finally:
        for package, level in zip(packages, levels, strict=True):
            package.setLevel(level)

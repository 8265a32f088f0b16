"""Turns a network into an ONNX graph of any batch and size; tools/export_onnx.py makes a file of a checkpoint."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from utils.console import UserError
from utils.runtimes.openvino import EXTRA, imported

OPSET = 18  # the exporter's own; read by onnxruntime 1.14 and later


def onnx_program(network: nn.Module, channels: int, divisor: int, dtype: torch.dtype, output: str) -> Any:
    """A network as a graph that `save(path)` writes; whether it gives the same numbers is for the caller to check.

    Args:
        network: takes two dates, (B, channels, H, W); it is on the CPU.
        channels: of a date.
        divisor: H and W are free multiples of it.
        dtype: of a date.
        output: name of what it gives; a date is called `before` or `after`.

    Raises:
        UserError: the packages are not there.
    """
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            imported(package)
    except ValueError as error:
        raise UserError(
            f"an ONNX file is written with onnx and onnxscript, and tried with onnxruntime: {EXTRA}"
        ) from error
    free_divisor: Any = divisor
    batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    free = {0: batch, 2: free_divisor * rows, 3: free_divisor * columns}
    # sizes of 1 would not stay free; and two tensors, since one given twice would become one input
    before, after = torch.zeros(2, 2, channels, 3 * divisor, 4 * divisor, dtype=dtype).unbind()
    graph = torch.export.export(network, (before, after), dynamic_shapes=(free, free), strict=False)
    with _quiet():
        program: Any = torch.onnx.export(
            graph,
            input_names=["before", "after"],
            output_names=[output],
            opset_version=OPSET,
            dynamic_shapes=(free, free),  # the names of free sizes
            dynamo=True,
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of source, with the paths of this machine
    return program


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

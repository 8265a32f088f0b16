"""A network without weights, as an ONNX file, so that every map can be told by value."""

import json
from pathlib import Path
from typing import Any

import pytest

CHANNELS = 3


def pixelwise_network(path: Path, reading: dict[str, Any] | None = None) -> Path:
    """Write a network whose probability is the largest difference of the dates' channels, divided by 64, at most 1."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    steps = [
        ("Cast", ["before"], "first", {"to": TensorProto.FLOAT}),
        ("Cast", ["after"], "second", {"to": TensorProto.FLOAT}),
        ("Sub", ["second", "first"], "difference", {}),
        ("Abs", ["difference"], "distance", {}),
        ("ReduceMax", ["distance", "channels"], "largest", {"keepdims": 0}),
        ("Div", ["largest", "scale"], "share", {}),
        ("Clip", ["share", "least", "most"], "probability", {}),
    ]
    nodes = [helper.make_node(kind, given, [result], **options) for kind, given, result, options in steps]
    numbers = {"scale": 64.0, "least": 0.0, "most": 1.0}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    constants.append(helper.make_tensor("channels", TensorProto.INT64, [1], [1]))
    shape = ["B", CHANNELS, "H", "W"]
    dates = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("before", "after")]
    result = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["B", "H", "W"])
    graph = helper.make_graph(nodes, "pixelwise", dates, [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    statistics = {"mean": [[0.0] * CHANNELS] * 2, "std": [[1.0] * CHANNELS] * 2}
    about = {"model": "pixelwise", "options": {}, "statistics": statistics, "size_divisor": 8, "threshold": 0.5}
    about |= {"recipe": "pixelwise", "epoch": 1, "selected_on": "val", "reading": reading}
    helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, str(path))
    return path

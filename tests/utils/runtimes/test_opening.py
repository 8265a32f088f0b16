"""A checkpoint or an ONNX file with a backend and precision that do not go with it, or whose package is missing."""

import sys

import pytest

from tests.scripts import fails, predict_set
from utils.prediction.predictor import ChangePredictor


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_missing_package(package, checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    said = f"--backend {package}: the package {package} cannot be imported", "pip install -r requirements-export.txt"
    fails(lambda: predict_set(checkpoint, drawn_set, tmp_path / "out", "--backend", package), capsys, *said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "flags", "says"),
    [
        ("best.pt", {"precision": "fp16"}, "--precision fp16: not known; choose one of fp32, bf16"),
        ("best.pt", {"backend": "tvm"}, "--backend tvm: not known; choose one of torch, compile"),
        ("best.onnx", {"precision": "bf16"}, r"--precision bf16: not for best\.onnx; predict with the \.pt"),
        ("best.onnx", {"backend": "compile"}, r"--backend compile: not for best\.onnx; predict with"),
        ("best.pt", {"precision": "bf16", "backend": "onnxruntime"}, "--precision bf16: onnxruntime has none on a CPU"),
    ],
)
def test_what_does_not_go_together(path, flags, says):
    with pytest.raises(ValueError, match=says):
        ChangePredictor(path, "cpu", **flags)

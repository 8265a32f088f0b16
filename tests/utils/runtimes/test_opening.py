"""A backend whose package is missing, and folders of maps from before backends could be chosen."""

import json
import sys

import pytest

from tests.scripts import fails, predict
from utils.prediction.records import SAME, Records
from utils.runtimes import torch_network


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_missing_package(package, checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    words = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    fails(
        lambda: predict(*words, "--backend", package), capsys,
        f"--backend {package}: the package {package} cannot be imported", "pip install -r requirements-export.txt",
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.fixture
def as_it_is(monkeypatch):
    """torch.compile that compiles nothing: a backend of another name that takes no time."""
    monkeypatch.setattr(torch_network.torch, "compile", lambda network, **options: network)


def test_maps_of_before_one_could_choose_are_gone_on_with(checkpoint, drawn_set, tmp_path, capsys, as_it_is):
    words = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, "--no-report")
    predict(*words)
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    older = {name: value for name, value in protocol.items() if name not in ("backend", "precision")}
    (tmp_path / "protocol.json").write_text(json.dumps(older))
    fails(
        lambda: predict(*words, "--skip-existing", "--backend", "compile"), capsys,
        "other settings (backend: torch there, compile here)",
    )  # fmt: skip
    fails(
        lambda: predict(*words, "--skip-existing", "--precision", "bf16"), capsys,
        "other settings (precision: fp32 there, bf16 here)",
    )  # fmt: skip
    predict(*words, "--skip-existing")
    assert json.loads((tmp_path / "protocol.json").read_text()) == protocol


@pytest.mark.parametrize("said", [{}, {"backend": "torch"}])
def test_maps_by_an_onnx_file_from_before_one_could_choose(said, tmp_path):
    """Only the test of `begin` compares backends: all other settings are missing on both sides."""
    here = dict.fromkeys(SAME) | {"precision": "fp32", "backend": "onnxruntime"}
    there = {"checkpoint": "net.onnx", "precision": "fp32", **said}
    (tmp_path / "protocol.json").write_text(json.dumps(there))
    Records(tmp_path).begin(here, {}, resume=True)
    assert json.loads((tmp_path / "protocol.json").read_text()) == here

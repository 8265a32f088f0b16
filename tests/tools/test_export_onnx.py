"""ONNX files give the probabilities of the checkpoint they were made from, at any size, and predict like it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import predict_batch
from datasets.raster import read_image
from models import build_model
from tools import export_onnx
from utils.checkpoint import save_checkpoint
from utils.onnx_predictor import OnnxPredictor, open_predictor
from utils.predictor import ChangePredictor

onnx = pytest.importorskip("onnx", reason="needs requirements-export.txt")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CPU = torch.device("cpu")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # an export takes 15 seconds of one core
NETWORKS = {
    "hanet": ("hanet", {"width": 4}),
    "amfnet": ("amfnet", {"backbone": "resnet18"}),
    "hanet of four bands, no rows": ("hanet", {"width": 4, "row": False, "in_channels": 4}),
}


def write_checkpoint(path, name, options, seed=0):
    """A checkpoint whose probabilities are far from constant, with other statistics for each date and channel."""
    torch.manual_seed(seed)
    network = build_model(name, **options)
    for part, parameter in network.named_parameters():
        if part.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)  # open, but random attention far from 0 would magnify rounding
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    channels = options.get("in_channels", 3)
    mean, std = torch.rand(2, 2, channels).add(0.2).unbind()
    with torch.no_grad():  # statistics that belong to the weights, or deep maps would be nearly constant
        dates = (torch.rand(2, 2, channels, 128, 128) - mean.view(2, 1, -1, 1, 1)) / std.view(2, 1, -1, 1, 1)
        network.train()(*dates)
        network.eval().head.train()
        network(*dates)
        if name == "hanet":
            network.head.weight *= 0.2  # logits of about 1, as AMFNet's are by then
    content = {
        "model": name, "options": options, "weights": network.state_dict(), "threshold": 0.45, "recipe": name,
        "statistics": {"mean": mean.tolist(), "std": std.tolist()}, "selected_on": "val", "data": "abc",
        "reading": {"bands": list(range(1, channels + 1)) if channels != 3 else [], "limits": []},
    }  # fmt: skip
    save_checkpoint(path, content)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a network's best.pt and best.onnx, exported once."""
    folders = {}

    def folder_of(key):
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("exported")
            write_checkpoint(folders[key] / "best.pt", *NETWORKS[key])
            export_onnx.main(["--checkpoint", str(folders[key])])
        return folders[key]

    return folder_of


def both(folder):
    return ChangePredictor(folder / "best.pt", CPU), OnnxPredictor(folder / "best.onnx", CPU)


def images(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=generator).unbind()


@pytest.mark.parametrize("key", NETWORKS)
def test_same_probabilities_at_any_size(key, exported):
    ours, onnx_file = both(exported(key))
    channels, divisor = NETWORKS[key][1].get("in_channels", 3), ours.size_divisor
    assert onnx_file.size_divisor == divisor
    for batch, rows, columns in ((1, 1, 1), (1, 1, 4), (2, 3, 2), (4, 2, 1), (1, 6, 5)):
        dates = images(batch, channels, rows * divisor, columns * divisor)
        expected, found = ours.probability(*dates), onnx_file.probability(*dates)
        assert (found - expected).abs().max() < 1e-4
        assert expected.std() > 0.02  # or agreement would say nothing
        assert (onnx_file.probability(*dates[::-1]) - expected).abs().max() > 0.02  # each date is itself
    assert onnx_file.probability(*dates).dtype == torch.float32


def test_file_says_how_to_use_it(exported):
    ours, onnx_file = both(exported("hanet"))
    assert onnx_file.threshold == 0.45
    kept = ("model", "options", "statistics", "reading", "recipe", "selected_on", "data", "versions")
    assert {name: onnx_file.about[name] for name in kept} == {name: ours.about[name] for name in kept}
    assert str(Path(export_onnx.__file__).parents[1]).encode() not in (exported("hanet") / "best.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(exported("hanet") / "best.onnx"), full_check=True)


def test_prediction_with_the_file(exported, drawn_set, tmp_path):
    ours, _ = both(exported("hanet"))
    test = [np.stack([read_image(path) for path in sorted((drawn_set / "test" / date).iterdir())]) for date in "AB"]
    middle = ours.probability(*(torch.from_numpy(images).permute(0, 3, 1, 2) for images in test)).median().item()
    for suffix in ("pt", "onnx"):
        words = ["--checkpoint", exported("hanet") / f"best.{suffix}", "--data-root", drawn_set, "--threshold", middle]
        predict_batch.main([str(word) for word in (*words, "--output", tmp_path / suffix, "--num-workers", 0)])
    names = sorted(path.name for path in (tmp_path / "pt" / "mask").iterdir())
    masks = {s: np.stack([Image.open(tmp_path / s / "mask" / name) for name in names]) for s in ("pt", "onnx")}
    assert (masks["pt"] == 255).mean() == pytest.approx(0.5, abs=0.01)
    assert (masks["pt"] != masks["onnx"]).mean() < 1e-3  # a pixel may lie on the threshold
    found, expected = (json.loads((tmp_path / s / "metrics.json").read_text()) for s in ("onnx", "pt"))
    for name in ("recipe", "selected_on", "threshold", "model"):
        assert found["protocol"][name] == expected["protocol"][name]
    assert found["scores"]["f1"] == pytest.approx(expected["scores"]["f1"], abs=2e-3)


def test_wrong_sizes(exported):
    _, onnx_file = both(exported("hanet"))
    with pytest.raises(ValueError, match="multiples of 8"):
        onnx_file.probability(*images(1, 3, 12, 16))
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\)"):
        onnx_file.probability(*images(1, 4, 16, 16))
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\)"):
        onnx_file.probability(images(1, 3, 16, 16)[0], images(1, 3, 16, 8)[1])


def fails(call, capsys):
    with pytest.raises(SystemExit) as left:
        call()
    assert left.value.code == 2
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")][0]


def test_file_that_differs_gets_no_name(exported, tmp_path, monkeypatch, capsys):
    """The exporter, say, mistook the weights."""
    write_checkpoint(tmp_path / "best.pt", *NETWORKS["hanet"], seed=1)
    other = exported("hanet") / "best.onnx"
    monkeypatch.setattr(export_onnx, "write_onnx", lambda predictor, path: shutil.copy(other, path))
    line = fails(lambda: export_onnx.main(["--checkpoint", str(tmp_path)]), capsys)
    assert "best.onnx: not written, for its probabilities are up to" in line
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_other_suffix(tmp_path, capsys):
    words = ["--checkpoint", str(tmp_path / "best.pt"), "--output", str(tmp_path / "net.bin")]
    assert "by the suffix .onnx" in fails(lambda: export_onnx.main(words), capsys)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_package_to_write(package, tmp_path, monkeypatch, capsys):
    write_checkpoint(tmp_path / "best.pt", *NETWORKS["hanet"])
    monkeypatch.setitem(sys.modules, package, None)
    line = fails(lambda: export_onnx.main(["--checkpoint", str(tmp_path)]), capsys)
    assert "pip install -r requirements-export.txt" in line
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_missing_package_to_read(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"best\.onnx: .* pip install -r requirements-export\.txt"):
        open_predictor(exported("hanet") / "best.onnx", CPU)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "of others"])
def test_bad_files_are_named(kind, exported, tmp_path):
    path = tmp_path / "net.onnx"
    whole = exported("hanet") / "best.onnx"
    if kind == "of others":
        foreign = onnx.load(whole)
        del foreign.metadata_props[:]
        onnx.save(foreign, path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"no network" * 9, "truncated": whole.read_bytes()[:9000]}[kind])
    with pytest.raises((ValueError, FileNotFoundError), match=r"net\.onnx: .*export"):
        open_predictor(path, CPU)

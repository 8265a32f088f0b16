"""ONNX files give the probabilities of the checkpoint they were made from, at any size, and predict like it."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import predict_batch
from datasets.raster import read_image
from models import build_model
from tests.models.test_peers import CASES
from tests.scripts import fails
from tools import export_onnx
from utils.checkpoint import save_checkpoint
from utils.prediction.predictor import ChangePredictor

onnx = pytest.importorskip("onnx", reason="needs requirements-export.txt")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CPU = torch.device("cpu")
ENDS = ("pt", "onnx")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # an export takes 15 seconds of one core
NETWORKS: dict[str, tuple[str, dict]] = {
    "hanet": ("hanet", {"width": 4}),
    "amfnet that exchanges": ("amfnet", {"backbone": "resnet18", "channel_exchange": True}),
    "hanet of four bands, no rows": ("hanet", {"width": 4, "row": False, "in_channels": 4, "fcn_head": True}),
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
            for parameter in network.head.parameters():
                parameter *= 0.2  # logits of about 1, as AMFNet's are by then
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
    return ChangePredictor(folder / "best.pt", CPU), ChangePredictor(folder / "best.onnx", CPU)


def images(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=generator).unbind()


@pytest.mark.parametrize("key", NETWORKS)
def test_same_probabilities_at_any_size(key, exported):
    ours, onnx_file = both(exported(key))
    channels, divisor = NETWORKS[key][1].get("in_channels", 3), ours.size_divisor
    assert onnx_file.size_divisor == divisor
    for batch, rows, columns in ((1, 1, 1), (1, 1, 4), (2, 3, 2), (4, 2, 1)):
        dates = images(batch, channels, rows * divisor, columns * divisor)
        expected, found = ours.probability(*dates), onnx_file.probability(*dates)
        assert (found - expected).abs().max() < 1e-4
        assert expected.std() > 0.02  # or agreement would say nothing
        assert (onnx_file.probability(*dates[::-1]) - expected).abs().max() > 0.02  # each date is itself
    assert onnx_file.probability(*dates).dtype == torch.float32


@pytest.mark.parametrize("case", ["fc-siam-diff", "snunet", "bit", "unet"])
def test_the_networks_that_papers_compare_with_export(case, tmp_path):
    """The tool compares the probabilities itself, on noise and on drawn scenes of several sizes."""
    write_checkpoint(tmp_path / "best.pt", *CASES[case])
    differences = export_onnx.export(export_onnx.ExportConfig(checkpoint=tmp_path))
    assert len(differences) == 5 and max(differences.values()) < 1e-4
    ours, onnx_file = both(tmp_path)
    found = onnx_file.probability(*images(1, 3, 64, 96))
    assert found.shape == (1, 64, 96) and found.std() > 0.02
    assert (found - ours.probability(*images(1, 3, 64, 96))).abs().max() < 1e-4


def test_openvino_runs_the_file(exported):
    pytest.importorskip("openvino")
    usual = ChangePredictor(exported("hanet") / "best.onnx", CPU)
    other = ChangePredictor(exported("hanet") / "best.onnx", CPU, backend="openvino")
    assert other.about == usual.about
    assert (usual.turned_out(), other.turned_out()) == ({"backend": "onnxruntime"}, {"backend": "openvino"})
    for shape in ((1, 3, 8, 8), (2, 3, 24, 16)):
        expected, found = (each.probability(*images(*shape)) for each in (usual, other))
        assert (found - expected).abs().max() < 1e-4
    assert other.cover(1024, 1024).shape == usual.cover(1024, 1024).shape


def test_file_says_how_to_use_it(exported):
    ours, onnx_file = both(exported("hanet"))
    assert onnx_file.threshold == 0.45
    assert onnx_file.cover(512, 512).shape == onnx_file.cover(1024, 1024).shape == (512, 512)  # memory: see at_once
    assert onnx_file.batch_for((512, 512)) == 1
    kept = ("model", "options", "statistics", "reading", "recipe", "selected_on", "data", "versions")
    assert {name: onnx_file.about[name] for name in kept} == {name: ours.about[name] for name in kept}
    assert str(Path(export_onnx.__file__).parents[1]).encode() not in (exported("hanet") / "best.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(exported("hanet") / "best.onnx"), full_check=True)


@pytest.mark.parametrize("flags", [{}, {"tile_size": 32, "overlap": 8, "batch_size": 3}, {"tta": ["flips"]}])
def test_images_of_any_size(flags, exported):
    """Filled up, by windows, and turned: all that ChangePredictor does to images, it does for a file."""
    ours, onnx_file = (ChangePredictor(exported("hanet") / f"best.{suffix}", "cpu", **flags) for suffix in ENDS)
    before, after = np.random.default_rng(0).integers(0, 256, (2, 45, 70, 3), np.uint8)
    assert np.abs(onnx_file(before, after) - ours(before, after)).max() < 1e-4
    with pytest.raises(ValueError, match="before and after must be uint8"):
        onnx_file(before[..., 0], after[..., 0])


def test_swapped_dates_need_equal_statistics(exported, tmp_path):
    with pytest.raises(ValueError, match=r"--tta swap: .*best\.onnx scales its two dates differently; .*\.pt"):
        ChangePredictor(exported("hanet") / "best.onnx", "cpu", tta=["swap"])
    changed = onnx.load(exported("hanet") / "best.onnx")
    entry = next(entry for entry in changed.metadata_props if entry.key == "statistics")
    entry.value = json.dumps({"mean": [[0.5] * 3] * 2, "std": [[0.2] * 3] * 2})
    onnx.save(changed, tmp_path / "net.onnx")
    before, after = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    plain, both = (ChangePredictor(tmp_path / "net.onnx", "cpu", tta=tta) for tta in ((), ("swap",)))
    assert np.allclose(both(before, after), (plain(before, after) + plain(after, before)) / 2)


@pytest.mark.parametrize("windows", [(), ("--tile-size", 32, "--overlap", 8)])
def test_prediction_with_the_file(windows, exported, drawn_set, tmp_path):
    folder = exported("hanet")
    test = [[read_image(path) for path in sorted((drawn_set / "test" / date).iterdir())] for date in "AB"]
    ours = ChangePredictor(folder / "best.pt", CPU)
    middle = float(np.median([ours(*dates) for dates in zip(*test, strict=True)]))
    for end in ENDS:
        words = ["--checkpoint", folder / f"best.{end}", "--data-root", drawn_set, "--threshold", middle, *windows]
        predict_batch.main([str(word) for word in (*words, "--output", tmp_path / end, "--no-report")])
    names = sorted(path.name for path in (tmp_path / "pt" / "mask").iterdir())
    masks = {end: np.stack([Image.open(tmp_path / end / "mask" / name) for name in names]) for end in ENDS}
    assert (masks["pt"] == 255).mean() == pytest.approx(0.5, abs=0.2)
    assert (masks["pt"] != masks["onnx"]).mean() < 1e-3  # a pixel may lie on the threshold
    found, expected = (json.loads((tmp_path / end / "metrics.json").read_text()) for end in ("onnx", "pt"))
    differing = {"checkpoint", "checkpoint_sha256", "backend"}
    assert {name for name, value in expected["protocol"].items() if found["protocol"][name] != value} == differing
    assert found["scores"]["f1"] == pytest.approx(expected["scores"]["f1"], abs=2e-3)


@pytest.mark.parametrize("said", ["Failed to allocate memory for requested buffer of size 9", "std::bad_alloc"])
def test_out_of_memory_halves_the_batch(said, exported, monkeypatch):
    _, onnx_file = both(exported("hanet"))
    dates, run, sizes = images(4, 3, 16, 16), onnx_file.model._run._session.run, []

    def little_memory(names, feed):
        sizes.append(len(feed["before"]))
        if sizes[-1] > 2:
            raise Exception(said)
        return run(names, feed)

    expected = onnx_file.probability(*dates)
    monkeypatch.setattr(onnx_file.model._run, "_session", SimpleNamespace(run=little_memory))
    assert torch.allclose(onnx_file.probability(*dates), expected, atol=1e-5)
    assert sizes == [4, 2, 2]


def test_wrong_sizes(exported):
    _, onnx_file = both(exported("hanet"))
    with pytest.raises(ValueError, match="multiples of 8"):
        onnx_file.probability(*images(1, 3, 12, 16))
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\)"):
        onnx_file.probability(*images(1, 4, 16, 16))
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\)"):
        onnx_file.probability(images(1, 3, 16, 16)[0], images(1, 3, 16, 8)[1])


def test_file_that_differs_gets_no_name(exported, tmp_path, monkeypatch, capsys):
    """The exporter, say, mistook the weights."""
    write_checkpoint(tmp_path / "best.pt", *NETWORKS["hanet"], seed=1)
    other = exported("hanet") / "best.onnx"
    monkeypatch.setattr(export_onnx, "write_onnx", lambda network, path: shutil.copy(other, path))
    says = "best.onnx: not written, since its probabilities differ"
    fails(lambda: export_onnx.main(["--checkpoint", str(tmp_path)]), capsys, says)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_no_number_is_no_agreement(exported):
    ours, onnx_file = (predictor.model for predictor in both(exported("hanet")))
    differences = export_onnx.compare(ours, lambda before, after: onnx_file(before, after).fill_(float("nan")))
    assert set(differences.values()) == {float("inf")}


def test_other_suffix(tmp_path, capsys):
    words = ["--checkpoint", str(tmp_path / "best.pt"), "--output", str(tmp_path / "net.bin")]
    fails(lambda: export_onnx.main(words), capsys, "must end with .onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package_to_write(package, tmp_path, monkeypatch, capsys):
    write_checkpoint(tmp_path / "best.pt", *NETWORKS["hanet"])
    monkeypatch.setitem(sys.modules, package, None)
    command = "pip install -r requirements-export.txt"
    fails(lambda: export_onnx.main(["--checkpoint", str(tmp_path)]), capsys, command)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_missing_package_to_read(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime cannot be imported \(.*\): pip install"):
        ChangePredictor(exported("hanet") / "best.onnx", CPU)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("onnxruntime", kind) for kind in ("missing", "empty", "text", "truncated", "of others")]
    + [("openvino", "text"), ("openvino", "of others")],
)
def test_bad_files_are_named(backend, kind, exported, tmp_path):
    pytest.importorskip(backend)
    path, whole = tmp_path / "net.onnx", exported("hanet") / "best.onnx"
    if kind == "of others":
        foreign = onnx.load(whole)
        del foreign.metadata_props[:]
        onnx.save(foreign, path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"no network" * 9, "truncated": whole.read_bytes()[:9000]}[kind])
    with pytest.raises((ValueError, FileNotFoundError), match=r"net\.onnx: .*export"):
        ChangePredictor(path, CPU, backend=backend)

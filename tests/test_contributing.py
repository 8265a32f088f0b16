"""The examples of docs/contributing.md, taken from the page: each works in as many files as the page says."""

import ast
import re
import shutil
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.pairs import find_pairs
from datasets.raster import read_image
from models import build_model
from tests.scripts import ROOT, SMALL, add_network, loaded, pixels, predict_set, python, same_weights, stop_after, train
from tools import export_onnx, make_figures, profile_networks
from tools.figures.architecture import ArchitectureConfig, architecture
from utils.prediction.predictor import ChangePredictor
from utils.training import losses

PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(?:python|diff) (\S+\.py)\n(.*?)^```", PAGE, re.S | re.M)
CHAINS = dict(re.findall(r"^```text (\w+)\n(.*?)^```", PAGE, re.S | re.M))


def apply(folder, path, block):
    """A python block is a new file; a diff's lines are added behind those that it begins with."""
    file = folder / path
    if not file.exists():
        file.write_text(block, encoding="utf-8")
        return
    text, lines = file.read_text(encoding="utf-8"), block.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(before) == 1, f"{path} has not once: {before}"
    file.write_text(text.replace(before, "".join(line[1:] for line in lines)), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with every example of the page."""
    folder = tmp_path_factory.mktemp("extended")
    for room in ("datasets", "models", "utils"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("train_aux.py", "predict_batch.py"):
        shutil.copy(ROOT / script, folder)
    for path, block in EXAMPLES:
        apply(folder, path, block)
    return folder


def test_every_example_touches_as_many_files_as_the_table_says():
    table = re.findall(r"^\| an? [\w ]+ \|(.*)\|$", PAGE, re.M)
    named = {word for row in table for word in re.findall(r"`([\w/]+\.py)`", row)}
    assert [row.count("`") // 2 for row in table] == [2, 1, 1, 1, 2]
    assert {path for path, _ in EXAMPLES} == named | {"models/fcsiam.py"}


def test_a_loss_a_data_set_and_a_recipe_train(extended, drawn_set, tmp_path):
    data, run = shutil.copytree(drawn_set, tmp_path / "harbour-2024"), tmp_path / "run"
    words = ("--model", "fcsiam", "--data-root", data, "--output", run, "--epochs", 1, "--model-options", "width=4")
    assert "Harbour" in python("train_aux.py", *words, *SMALL, cwd=extended).stderr
    best = loaded(run, "best")
    assert (best["model"], best["recipe"], best["config"]["loss"]) == ("fcsiam", "fcsiam", "tversky")
    assert best["statistics"]["mean"] == [[0.4, 0.4, 0.3], [0.5, 0.4, 0.4]]


def test_flags_list_what_was_added(extended):
    text = " ".join(python("train_aux.py", "--help", cwd=extended).stdout.split())
    assert "tversky" in text
    assert "network: amfnet, hanet, fcsiam" in text


def test_an_output_is_drawn(extended, drawn_set, checkpoint, tmp_path):
    words = ("--data-root", drawn_set, "--save", "doubt,probability", "--no-report", "--output", tmp_path)
    python("predict_batch.py", "--checkpoint", checkpoint, *words, "--device", "cpu", cwd=extended)
    for pair in find_pairs(drawn_set, "test"):
        doubt, probability = (pixels(tmp_path / kind / f"{pair.name}.png") for kind in ("doubt", "probability"))
        np.testing.assert_allclose(doubt, 255 - np.abs(2.0 * probability - 255), atol=2)


def test_the_loss_of_the_page():
    """Two changed pixels of probabilities 0.5 and 1, an unchanged one of 0.5, and one that is ignored."""
    block = next(block for path, block in EXAMPLES if path.endswith("losses.py"))
    function = "".join(line[1:] for line in block.split("\n \n")[0].splitlines(keepends=True) if line[0] == "+")
    space = dict(vars(losses))
    exec(function.split('    "tversky"')[0], space)
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0] = torch.tensor([0.0, 50.0, 0.0, 50.0])
    loss = space["tversky"](logits, torch.tensor([[[1, 1, 0, 255]]]))
    assert loss.item() == pytest.approx(1 - 2.5 / (2.5 + 0.7 * 0.5 + 0.3 * 0.5))


@pytest.fixture(scope="module", autouse=True)
def fcsiam():
    """The network of the page, as if it were in models/."""
    module = ModuleType("models.fcsiam")
    exec(dict(EXAMPLES)["models/fcsiam.py"], vars(module))
    module.FCSiamDiff.__module__ = module.__name__
    with pytest.MonkeyPatch.context() as patch:
        add_network(patch, "fcsiam", module.FCSiamDiff)
        yield


@pytest.fixture(scope="module")
def run(drawn_set, tmp_path_factory):
    """A run of the network, two epochs by another network's recipe."""
    folder = tmp_path_factory.mktemp("run") / "fcsiam"
    train(drawn_set, folder, "--model", "fcsiam")
    return folder


def test_a_network_resumes(run, drawn_set, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_after(patch, 4)
        train(drawn_set, tmp_path, "--model", "fcsiam")
    train(drawn_set, tmp_path, "--model", "fcsiam", "--resume")
    assert same_weights(loaded(tmp_path), loaded(run))


def test_a_network_predicts_any_size(run, drawn_set, tmp_path):
    """A scene of 50 x 61 pixels by windows, and of a split the maps that its class makes."""
    dates = np.random.default_rng(0).integers(0, 256, (2, 50, 61, 3), np.uint8)
    assert ChangePredictor(run, "cpu", tile_size=32)(*dates).shape == (50, 61)
    predict_set(run, drawn_set, tmp_path, "--no-report")
    pair = find_pairs(drawn_set, "test")[0]
    probability = ChangePredictor(run, "cpu")(read_image(pair.before), read_image(pair.after))
    map_of = pixels(tmp_path / "mask" / f"{pair.name}.png")
    assert ((map_of == 255) == (probability > 0.5))[np.abs(probability - 0.5) > 1e-4].all()


def test_other_bands(drawn_set):
    network = build_model("fcsiam", width=4, in_channels=5).eval()
    assert network(*torch.rand(2, 1, 5, 8, 12))[0].shape == (1, 2, 8, 12)


@pytest.mark.slow
def test_a_network_is_exported(run, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    export_onnx.main(["--checkpoint", str(run), "--output", str(tmp_path / "a.onnx")])
    dates = np.random.default_rng(0).integers(0, 256, (2, 50, 61, 3), np.uint8)
    found, expected = (ChangePredictor(path, "cpu")(*dates) for path in (tmp_path / "a.onnx", run))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_network_is_profiled(capsys):
    profile_networks.main(["--models", "fcsiam", "--sizes", "32", "--no-time"])
    first = 2 * 3 * 16 * 9 * 32**2 / 1e9  # multiply-adds of the first convolution, both dates
    said = capsys.readouterr().out
    assert "| fcsiam | 32 | 0.06 |" in said
    assert f"| encoder.0 | 480 | {first:.3f} |" in said


def test_a_network_gets_heat_maps(run, drawn_set, tmp_path):
    for flags in ((), ("--stages",)):
        words = ("heatmap", "--checkpoints", run, "--data-root", drawn_set, "--output", tmp_path / "a.png", *flags)
        make_figures.main([*map(str, words), "--side", "64"])
        with Image.open(tmp_path / "a.png") as sheet:
            assert sheet.width > 64 * (2 if flags else 4)


def test_a_network_is_drawn(tmp_path):
    architecture(ArchitectureConfig(model="fcsiam", output=tmp_path / "a.svg"))
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in text for name in ("encoder.0", "encoder.2", "decoder.1", "head", "logits"))


@pytest.mark.parametrize(("chain", "most"), [("flag", 12), ("pair", 16)])
def test_hops_exist_and_are_few(chain, most):
    hops = [line.split()[0].split(":") for line in CHAINS[chain].splitlines()]
    assert len({file for file, _ in hops}) <= most
    for file, name in hops:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for part in name.split("."):
            tree = next(node for node in tree.body if part in names_of(node))


def names_of(node):
    """What a statement defines."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return [getattr(node, "name", ""), *(ast.unparse(target) for target in targets)]

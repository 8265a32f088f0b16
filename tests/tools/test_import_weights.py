"""The authors' files become checkpoints that predict: HANet's pickled network, AMFNet's state dict."""

import os
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from datasets.catalog import STATISTICS
from models import build_model
from models.official import NAMES, from_official
from tests import golden
from tests.scripts import fails, predict
from tools import import_weights
from utils.checkpoint import load_checkpoint, network_from

WIDTH = 8


class Fake(nn.Module):
    """Any module of the authors' network."""


def filled_hanet(**options):
    """A HANet of ours with gates that are open."""
    torch.manual_seed(0)
    network = build_model("hanet", width=WIDTH, **options)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return network.eval()


def as_published(network):
    """Its state dict under the published names, with a layer that no pass uses."""
    ours = {ours: published for published, ours in NAMES["conv0_0.weight"].items()}
    state = {}
    for key, value in network.state_dict().items():
        prefix = next(prefix for prefix in sorted(ours, key=len, reverse=True) if f"{key}.".startswith(f"{prefix}."))
        state[ours[prefix] + key.removeprefix(prefix)] = value
    return state | {"c1_conv.weight": torch.zeros(WIDTH, WIDTH, 1, 1)}


def nested(state):
    """A module with this state dict."""
    root = Fake()
    for key, value in state.items():
        *path, leaf = key.split(".")
        module = root
        for name in path:
            if name not in module._modules:
                module.add_module(name, Fake())
            module = module._modules[name]
        module.register_parameter(leaf, nn.Parameter(value.clone(), requires_grad=False))
    return root


@pytest.fixture
def pickled(monkeypatch, tmp_path):
    """Writes a network as HANet's authors do; its class is gone afterwards."""

    def write(network, name="HANet.pt"):
        module = types.ModuleType("models_of_the_authors")
        module.Fake = Fake
        with monkeypatch.context() as patch:
            patch.setattr(Fake, "__module__", module.__name__)
            patch.setitem(sys.modules, module.__name__, module)
            torch.save(nested(as_published(network)), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Where a default output, or the command of a harmful file, would leave something."""
    monkeypatch.chdir(tmp_path)


def run(*words, data="levir"):
    import_weights.main([str(word) for word in (*words, "--data-name", data)])


@pytest.mark.parametrize("options", [{}, {"row": False}])
def test_pickled_hanet_there_and_back(options, pickled, tmp_path):
    network = filled_hanet(**options)
    run(pickled(network), "--output", tmp_path / "hanet.pt")
    content = load_checkpoint(tmp_path / "hanet.pt")
    assert content["statistics"] == STATISTICS["levir"]
    assert (content["recipe"], content["selected_on"], content["threshold"]) == ("hanet-levir", "val", 0.5)
    before, after = torch.rand(2, 1, 3, 32, 16).unbind()
    with torch.no_grad():
        assert torch.equal(network_from(content)(before, after)[0], network(before, after)[0])


def test_last_epoch_was_chosen_by_nothing(pickled, tmp_path):
    run(pickled(filled_hanet(), "final_epoch99.pt"), "--output", tmp_path / "hanet.pt", data="whu")
    content = load_checkpoint(tmp_path / "hanet.pt")
    assert content["selected_on"] == "none (last epoch)"
    assert content["statistics"] == STATISTICS["whu"]


def test_state_dict_of_amfnet(capsys):
    state = golden.official_state("amfnet_aux")
    torch.save({f"module.{key}": value for key, value in state.items()}, "F1_0.9_epoch_199.pth")
    run("F1_0.9_epoch_199.pth", data="gz")
    content = load_checkpoint(Path("amfnet-gz.pt"))
    assert content["statistics"] == STATISTICS["none"]
    assert (content["recipe"], content["selected_on"]) == ("amfnet-gz", "test")
    assert content["imported"]["file"] == "F1_0.9_epoch_199.pth"
    assert "selected on: test" in capsys.readouterr().err
    images = golden.images((1, 32, 32))
    with torch.no_grad():
        expected = from_official(state).eval()(*images)[0]
        assert torch.equal(network_from(content)(*images)[0], expected)


def test_state_dict_of_bit(tmp_path):
    """Its inputs have mean 0.5 and deviation 0.5, whatever the set; layers that no pass uses are dropped."""
    torch.save(golden.official_state("bit"), "bit.pth")
    run("bit.pth", data="gz")
    content = load_checkpoint(Path("bit-gz.pt"))
    assert (content["model"], content["recipe"], content["selected_on"]) == ("bit", "bit", "unknown")
    assert content["statistics"] == STATISTICS["half"]


def test_imported_weights_predict(pickled, drawn_set, tmp_path):
    run(pickled(filled_hanet()), "--output", tmp_path / "hanet.pt")
    predict("--checkpoint", tmp_path / "hanet.pt", "--data-root", drawn_set)
    assert len(list((tmp_path / "predict-test" / "mask").iterdir())) == 4


def test_prediction_names_the_command(pickled, drawn_set, tmp_path, capsys):
    torch.save(as_published(filled_hanet()), tmp_path / "state.pth")
    for path in (pickled(filled_hanet()), tmp_path / "state.pth"):
        says = f"python -m tools.import_weights {path} --data-name SET"
        fails(lambda path=path: predict("--checkpoint", path, "--data-root", drawn_set), capsys, says)


def test_wrong_network_is_a_short_list_of_keys(tmp_path, capsys):
    torch.save({f"backbone.layer{n}.weight": torch.ones(1) for n in range(300)}, tmp_path / "net.pth")
    says = "net.pth: not the published keys", "backbone.layer0.weight, backbone.layer1.weight, "
    assert fails(lambda: run(tmp_path / "net.pth"), capsys, *says).endswith(" and 292 more")


def test_missing_and_unknown_keys_are_named(tmp_path, capsys):
    state = as_published(filled_hanet())
    state["conv8.weight"] = state.pop("conv7.weight")
    torch.save(state, tmp_path / "net.pth")
    says = "net.pth: the weights do not fit HANet: unknown conv8.weight; missing conv7.weight"
    fails(lambda: run(tmp_path / "net.pth"), capsys, says)


def test_other_variant_is_named(tmp_path, capsys):
    torch.save(golden.official_state("amfnet_2"), tmp_path / "net.pth")
    assert len(fails(lambda: run(tmp_path / "net.pth"), capsys, "do not fit AMFNet")) < 1000
    run(tmp_path / "net.pth", "--variant", "bfam", "--output", tmp_path / "bfam.pt")
    assert load_checkpoint(tmp_path / "bfam.pt")["options"]["bfm"] is False


def test_set_without_statistics(pickled, tmp_path, capsys):
    says = "--data-name gz: hanet needs the statistics of the set, which are known of levir, whu, "
    fails(lambda: run(pickled(filled_hanet()), "--output", tmp_path / "hanet.pt", data="gz"), capsys, says)
    assert not (tmp_path / "hanet.pt").exists()


def test_nothing_is_overwritten(pickled, capsys):
    path = pickled(filled_hanet())
    before = path.read_bytes()
    fails(lambda: run(path, "--output", path), capsys, "is already there")
    assert path.read_bytes() == before


class Dangerous:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_file_that_would_run_a_command(tmp_path, capsys):
    torch.save({"conv0_0.weight": torch.ones(8, 3, 5, 5), "extra": Dangerous()}, "net.pt")
    fails(lambda: run("net.pt"), capsys, f"error: net.pt: asks for {os.system.__module__}.system")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]

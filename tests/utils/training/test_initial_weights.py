"""The weights that a run starts from."""

import numpy as np
import pytest
import torch

import train_aux
from datasets.pairs import Pair, find_pairs
from datasets.reading import PixelFormat
from models import build_model
from tests.conftest import write_tiff
from tests.scripts import SMALL, fails, train
from utils.checkpoint import load_checkpoint
from utils.console import UserError
from utils.training.config import parse_train_config
from utils.training.data import pixel_size_of
from utils.training.initial_weights import load_fitting, zero_heads


@pytest.mark.parametrize(
    ("name", "options", "heads"),
    [
        ("amfnet", {"backbone": "resnet18"}, 4), ("hanet", {"width": 8}, 1),
        ("hanet", {"width": 8, "fcn_head": True}, 1), ("fc-ef", {"width": 4}, 1), ("snunet", {"width": 8}, 1),
        ("bit", {"decoder_depth": 1}, 1), ("unet", {"backbone": "resnet18"}, 1),
    ],
)  # fmt: skip
def test_zeroed_heads_are_undecided_everywhere_and_learn(name, options, heads):
    torch.manual_seed(0)
    network = build_model(name, **options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    zero_heads(network)
    altered = {
        key.rpartition(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])
    }
    assert len(altered) == heads
    logits = network.train()(*torch.rand(2, 2, 3, 64, 64))
    assert len(logits) == heads
    assert not any(y.any() for y in logits)
    sum((y[:, 1] - y[:, 0]).sum() for y in logits).backward()
    assert all(network.get_submodule(key).weight.grad.abs().sum() > 0 for key in altered)


def changed(network, reference):
    """Names of the parts of a network whose weights differ from a checkpoint's."""
    weights = reference["weights"]
    return {key.split(".")[0] for key, value in network["weights"].items() if not torch.equal(value, weights[key])}


def test_a_run_starts_from_a_checkpoint(drawn_set, runs, tmp_path, capsys):
    """The network, its options, its weights and its statistics are the checkpoint's; without steps nothing changes."""
    source = load_checkpoint(runs("hanet") / "best.pt")
    flags = ["--data-root", drawn_set, "--output", tmp_path, "--init-from", runs("hanet"), "--epochs", 1, "--lr", 0]
    train_aux.main([str(word) for word in (*flags, "--ema", 0, "--epoch-steps", 1, "--crop-size", 0, *SMALL)])
    found = load_checkpoint(tmp_path / "best.pt")
    assert (found["model"], found["options"], found["recipe"]) == ("hanet", {"width": 8}, "fine-tune")
    assert (found["statistics"], found["tta"]) == (source["statistics"], [])
    trained = {name for name, _ in build_model("hanet", width=8).named_parameters()}
    assert all(torch.equal(found["weights"][name], source["weights"][name]) for name in trained)
    logged = capsys.readouterr().err
    assert f"weights: {len(trained)} of {len(trained)} start from" in logged
    assert "left:" not in logged


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--pixel-size", "0.2"], "pixel size: 0.2 m, but detector was trained on 0.5 m"),
        (["--pixel-size", "0.45"], ""),  # within 20 %
        ([], "pixel size: unknown, that of detector is 0.5 m; pass --pixel-size METRES"),
    ],
)
def test_a_start_from_pixels_of_another_size_is_told(flags, said, drawn_set, caplog):
    pairs, reading = find_pairs(drawn_set, "train"), PixelFormat()
    caplog.clear()
    with caplog.at_level("INFO"):
        config = parse_train_config(["--data-root", str(drawn_set), "--init-from", "detector", *flags])
        pixel_size_of(config, pairs, reading, "generic", {"pixel_size": 0.5})
    assert [message[: len(said)] for message in caplog.messages] == [said] * bool(said)


def test_georeferences_that_differ_are_told(tmp_path, caplog):
    """The middle one is kept; a flag that contradicts them is told, too."""
    pytest.importorskip("rasterio")
    pairs = []
    for name, metres in (("a", 0.5), ("b", 5), ("c", 5)):
        files = [tmp_path / f"{name}-{date}.tif" for date in "AB"]
        pairs.append(Pair(name, *[write_tiff(path, np.zeros((8, 8, 3), np.uint8), metres=metres) for path in files]))
    for flags, size in (([], 5), (["--pixel-size", "30"], 30)):
        config = parse_train_config(["--data-root", str(tmp_path), *flags])
        caplog.clear()
        assert pixel_size_of(config, pairs, PixelFormat(), "generic", None) == pytest.approx(size, rel=0.01)
        (said,) = caplog.messages
        assert said.startswith("pixel size: 0.5 to 5 m by the georeferences") and f"expect {size} m" in said


def test_what_does_not_fit_is_listed(caplog):
    torch.manual_seed(0)
    source, other = build_model("hanet", width=8), build_model("hanet", width=8, fcn_head=True)
    before = other.state_dict()["head.1.weight"].clone()
    with caplog.at_level("INFO"):
        load_fitting(other, 3, {"model": "hanet", "options": {}, "weights": source.state_dict()}, "best.pt")
    assert torch.equal(other.stem.weight, source.stem.weight)
    assert torch.equal(other.head[1].weight, before)
    assert "start at random: head.1" in caplog.text
    assert "left: head" in caplog.text


def test_other_bands_take_the_mean_of_the_filters():
    torch.manual_seed(0)
    source, other = build_model("hanet", width=8), build_model("hanet", width=8, in_channels=5)
    load_fitting(other, 5, {"model": "hanet", "options": {}, "weights": source.state_dict()}, "best.pt")
    grey = torch.rand(1, 1, 16, 16)
    assert torch.allclose(other.stem(grey.expand(1, 5, 16, 16)), source.stem(grey.expand(1, 3, 16, 16)), atol=1e-6)


def test_nothing_fits():
    weights = {f"other.{key}": value for key, value in build_model("hanet", width=8).state_dict().items()}
    with pytest.raises(UserError, match="of which no weight fits"):
        load_fitting(build_model("hanet", width=8), 3, {"model": "x", "options": {}, "weights": weights}, "best.pt")


def test_a_frozen_encoder_keeps_weights_and_statistics(drawn_set, runs, tmp_path):
    """In the first epoch only the decoder learns; in the second one the encoder does, too."""
    found, first = {}, runs("amfnet") / "last.pt"
    for epochs in (1, 2):
        flags = ["--init-from", first, "--freeze-encoder", 1, "--epoch-steps", 1]
        train(drawn_set, tmp_path / str(epochs), *flags, recipe="amfnet", epochs=epochs)
        found[epochs] = load_checkpoint(tmp_path / str(epochs) / "last.pt")
    source = load_checkpoint(first)
    assert "backbone" not in changed(found[1], source)
    assert {"bfams", "bfms", "ups", "head"} <= changed(found[1], source)
    assert "backbone" in changed(found[2], source)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--freeze-encoder", "1"], "--freeze-encoder: hanet has no encoder"),
        (["--statistics", "checkpoint"], "--statistics checkpoint takes those of --init-from"),
        (["--init-from", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["--init-from", "nowhere.pt", "--backbone-weights", "imagenet"], "--backbone-weights none"),
    ],
)
def test_mistakes(drawn_set, tmp_path, capsys, flags, words):
    fails(lambda: train(drawn_set, tmp_path / "run", *flags), capsys, words)


def test_statistics_of_other_bands(drawn_set, runs, tmp_path, capsys):
    flags = ["--init-from", runs("hanet"), "--bands", "1", "--statistics", "checkpoint"]
    fails(lambda: train(drawn_set, tmp_path / "run", *flags), capsys, "3 bands", "have 1", "--statistics train")

"""Every foreseeable mistake ends either script in one line that says what to do."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scripts import contents, fails, predict, train


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_image(workers, data, tmp_path, capsys):
    broken = data / "train" / "B" / "scene_0002.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    fails(lambda: train(data, tmp_path / "run", "--num-workers", workers), capsys, str(broken), "replace the file")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_training_batch_of_one(drawn_set, tmp_path, capsys):
    call = lambda: train(drawn_set, tmp_path / "run", "--batch-size", 1, recipe="amfnet")  # noqa: E731
    fails(call, capsys, "at least two pairs", "--batch-size 2")
    assert not (tmp_path / "run").exists()


def test_image_of_250_pixels(runs, data, tmp_path, capsys):
    for split in ("train", "test"):
        for folder in ("A", "B", "label"):
            path = data / split / folder / "scene_0000.png"
            Image.open(path).resize((250, 250)).save(path)
    line = fails(lambda: train(data, tmp_path / "run", recipe="amfnet"), capsys, "250 x 250", "multiples of 32")
    assert str(data / "train" / "A" / "scene_0000.png") in line
    assert not (tmp_path / "run").exists()
    predict("--checkpoint", runs / "amfnet" / "best.pt", "--data-root", data, "--output", tmp_path / "out")
    assert Image.open(tmp_path / "out" / "mask" / "scene_0000.png").size == (250, 250)


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_label(split, data, tmp_path, capsys):
    (data / split / "label" / "scene_0001.png").unlink()
    fails(lambda: train(data, tmp_path / "run"), capsys, str(data / split / "label"), "scene_0001", "add the files")
    assert not (tmp_path / "run").exists()


def test_labels_in_a_code_that_is_not_understood(data, tmp_path, capsys):
    for path in data.rglob("label/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 255 + 1).save(path)
    fails(lambda: train(data, tmp_path / "run"), capsys, str(data / "train" / "label"), "no changed pixel", "1: ")


def test_checkpoint_of_the_other_network(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    call = lambda: train(drawn_set, tmp_path / "run", "--resume", recipe="amfnet")  # noqa: E731
    fails(call, capsys, "last.pt", "model: hanet there, amfnet here", f"or --resume --output {tmp_path / 'run'} alone")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_checkpoint_that_is_none(drawn_set, tmp_path, capsys):
    flags = ("--data-root", drawn_set, "--output", tmp_path / "out", "--checkpoint")
    fails(lambda: predict(*flags, tmp_path / "best.pt"), capsys, "no such checkpoint", "train_aux.py")
    torch.save({"net.net.conv1.weight": torch.zeros(1)}, tmp_path / "authors.pth")
    fails(lambda: predict(*flags, tmp_path / "authors.pth"), capsys, "authors.pth", "tools.import_weights")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["train", "predict"])
def test_empty_folder(script, runs, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    flags = ("--checkpoint", runs / "hanet" / "best.pt", "--data-root", tmp_path / "data", "--output", tmp_path / "out")
    call = {"train": lambda: train(tmp_path / "data", tmp_path / "out"), "predict": lambda: predict(*flags)}[script]
    fails(call, capsys, str(tmp_path / "data"), "no folder for before and after", "there is nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["train", "predict"])
def test_output_that_cannot_be_written(script, runs, drawn_set, tmp_path, capsys):
    """Root may write into read-only folders, so a file stands in the way instead."""
    (tmp_path / "out").write_text("in the way")
    flags = ("--checkpoint", runs / "hanet" / "best.pt", "--data-root", drawn_set, "--output", tmp_path / "out" / "x")
    call = {"train": lambda: train(drawn_set, tmp_path / "out" / "x"), "predict": lambda: predict(*flags)}[script]
    fails(call, capsys, str(tmp_path / "out" / "x"))
    assert (tmp_path / "out").read_text() == "in the way"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("script", ["train", "predict"])
def test_read_only_output(script, runs, drawn_set, tmp_path, capsys):
    (tmp_path / "out").mkdir(mode=0o555)
    flags = ("--checkpoint", runs / "hanet" / "best.pt", "--data-root", drawn_set, "--output", tmp_path / "out")
    call = {"train": lambda: train(drawn_set, tmp_path / "out"), "predict": lambda: predict(*flags)}[script]
    fails(call, capsys, str(tmp_path / "out"), "Permission denied")
    assert not list((tmp_path / "out").iterdir())


def test_diverging_training_stops(drawn_set, tmp_path, capsys):
    fails(lambda: train(drawn_set, tmp_path / "run", "--lr", "1e18"), capsys, "the loss is no finite number", "--lr")
    assert not (tmp_path / "run" / "best.pt").exists()


def test_best_cannot_be_resumed(runs, drawn_set, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    shutil.copy(runs / "hanet" / "best.pt", tmp_path / "run" / "last.pt")
    fails(lambda: train(drawn_set, tmp_path / "run", "--resume"), capsys, "not the last.pt of a run", "--overwrite")


def test_overwriting_loses_nothing_before_the_first_step(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "amfnet", tmp_path / "run")
    flags = ("--overwrite", "--aux-weights", "0.5")
    fails(lambda: train(drawn_set, tmp_path / "run", *flags, recipe="amfnet"), capsys, "4 outputs need 4 loss weights")
    assert contents(tmp_path / "run") == contents(runs / "amfnet")


def test_existing_run_is_not_touched_unasked(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    fails(lambda: train(drawn_set, tmp_path / "run"), capsys, "holds a run", "--resume", "--overwrite", "--output")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    train(drawn_set, tmp_path / "run", "--overwrite", epochs=1)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["epoch"] == 1


def test_resuming_on_other_data(runs, data, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    shutil.copy(data / "train" / "A" / "scene_0001.png", data / "train" / "A" / "scene_0002.png")
    fails(
        lambda: train(data, tmp_path / "run", "--resume"), capsys, "the data set is not the one last.pt was trained on"
    )


@pytest.mark.parametrize("inside", ["test", "test/A", "test/label/maps", "train"])
def test_output_among_the_images_is_refused(inside, runs, data, tmp_path, capsys):
    """Masks in a data set would be taken for its labels, and score 100."""
    before = sorted(data.rglob("*"))
    split = inside.split("/")[0]
    flags = ("--checkpoint", runs / "hanet", "--data-root", data, "--split", split, "--output", data / inside)
    fails(lambda: predict(*flags), capsys, str(data / inside), "name a folder outside")
    if split == "train":
        fails(lambda: train(data, data / inside), capsys, str(data / inside), "name a folder outside")
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--augmentation", "rotate"], ("--augmentation rotate: not known", "hanet, open-cd, ours, colours, none")),
        (["--crop-size", "20"], ("--crop-size 20", "multiples of 8")),
        (["--crop-size", "128"], ("scene_0000.png", "64 x 64 pixels do not hold a crop of 128")),
        (["--crop-size", "-8"], ("--crop-size -8: must be at least 0",)),
    ],
)
def test_augmentations_that_cannot_be(flags, words, drawn_set, tmp_path, capsys):
    fails(lambda: train(drawn_set, tmp_path / "run", *flags), capsys, *words)
    assert not (tmp_path / "run").exists()


def test_a_cache_among_the_images(data, tmp_path, capsys):
    cache = data / "train" / "A"
    fails(lambda: train(data, tmp_path / "run", "--cache", cache), capsys, f"--cache {cache}", "among the images")
    assert not list(cache.glob("*.tiles"))


def test_fewer_pairs_than_a_batch(drawn_set, tmp_path, capsys):
    call = lambda: train(drawn_set, tmp_path / "run", "--batch-size", 13)  # noqa: E731
    fails(call, capsys, "12 training pairs in the first epoch make no batch of 13")


def test_network_without_an_encoder_to_load(drawn_set, tmp_path, capsys):
    call = lambda: train(drawn_set, tmp_path / "run", "--backbone-weights", "imagenet")  # noqa: E731
    fails(call, capsys, "hanet has no encoder to load", "--backbone-weights none")

"""Both scripts as a user runs them: a whole run, its resumption, prediction, and every foreseeable mistake."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import predict_batch
import train_aux
from datasets import label_counts
from datasets.catalog import CATALOG, STATISTICS, KnownCounts
from datasets.pairs import find_pairs
from datasets.raster import encode_tiff, read_label
from datasets.recognition import introduction
from utils.config import parse_train_config
from utils.engine import Learner

ROOT = Path(__file__).parents[1]
AMFNET = ["--recipe", "amfnet", "--model-options", "backbone=resnet18", "--backbone-weights", "none"]
HANET = ["--recipe", "hanet", "--model-options", "width=8", "--linear-epochs", "2"]
SMALL = ["--batch-size", "4", "--num-workers", "0", "--device", "cpu"]
RECIPES = {"amfnet": AMFNET, "hanet": HANET}


def train(data, output, *flags, recipe="hanet", epochs=2):
    argv = ["--data-root", data, "--output", output, "--epochs", epochs, *RECIPES[recipe], *SMALL, *flags]
    train_aux.main([str(word) for word in argv])


def predict(*flags):
    predict_batch.main([str(word) for word in (*flags, "--num-workers", 0, "--device", "cpu")])


@pytest.fixture(scope="module")
def runs(drawn_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for recipe in RECIPES:
        train(drawn_set, folder / recipe, recipe=recipe)
    return folder


@pytest.fixture
def data(drawn_set, tmp_path):
    """A copy to be damaged."""
    return Path(shutil.copytree(drawn_set, tmp_path / "data"))


def fails(call, capsys, *words):
    """The call leaves with code 2 and one line on stderr that says all these words; returns the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        call()
    assert left.value.code == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.rstrip().endswith(line)
    assert "Traceback" not in err
    for word in words:
        assert word in line, (word, line)
    return line


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_folder(recipe, runs):
    folder = runs / recipe
    with (folder / "log.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["1", "2"]
    best = max(log, key=lambda row: float(row["val_f1"]))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["selected_on"] == "val"
    assert metrics["best"]["val_f1"] == pytest.approx(float(best["val_f1"]), rel=1e-5)
    checkpoint = torch.load(folder / "best.pt", weights_only=True)
    assert checkpoint["epoch"] == int(best["epoch"])
    assert checkpoint["model"] == recipe
    assert len((folder / "test.txt").read_text().splitlines()) == 2
    assert (folder / "curves.png").stat().st_size > 5000
    assert len(list(folder.glob("F1_*_epoch_*.pth"))) == 1
    auxiliary = [name for name in log[0] if name.startswith("train_loss_aux")]
    assert len(auxiliary) == (3 if recipe == "amfnet" else 0)


@pytest.mark.slow
def test_training_lowers_the_loss(runs, drawn_set, tmp_path):
    train(drawn_set, tmp_path / "run", "--lr", "0.003", "--schedule", "constant", "--linear-epochs", 0, epochs=8)
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.75 * losses[0]


def stop_after(patch, steps, number=signal.SIGTERM):
    """The process gets a signal while it makes the step of this number."""
    step, made = Learner.step, []

    def counted(self, parts):
        made.append(1)
        if len(made) == steps:
            os.kill(os.getpid(), number)
        return step(self, parts)

    patch.setattr(Learner, "step", counted)


TIMES = ("seconds", "pairs_per_second", "peak_memory_mb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "workers", "stops"),
    [("amfnet", 0, [5]), ("amfnet", 1, [2]), ("hanet", 0, [1, 1, 2]), ("hanet", 0, [3]), ("hanet", 1, [4])],
)
def test_resumed_run_equals_the_unbroken_one(recipe, workers, stops, runs, drawn_set, tmp_path, monkeypatch, capsys):
    """Stopped by a signal at some of its 6 steps, gone on each time from last.pt: the same weights, bit by bit.

    In the middle of an epoch, at its end (step 3) and more than once; also with a worker, which the unbroken run did
    not have: who loads has no say in what is drawn.
    """
    folder, resume = tmp_path / "run", []
    for steps in stops:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
            stop_after(patch, steps)
            train(drawn_set, folder, "--num-workers", workers, *resume, recipe=recipe)
        assert left.value.code == 128 + signal.SIGTERM
        assert f"--config {folder / 'config.toml'} --output {folder} --resume" in capsys.readouterr().err
        resume = ["--resume"]
    last = torch.load(folder / "last.pt", weights_only=True)
    assert last["epoch"] * 3 + last["unfinished"]["step"] == sum(stops)
    train_aux.main(["--config", str(folder / "config.toml"), "--output", str(folder), "--resume"])

    broken, whole = (torch.load(f / "last.pt", weights_only=True) for f in (folder, runs / recipe))
    assert all(torch.equal(broken["weights"][name], value) for name, value in whole["weights"].items())
    for row, other in zip(broken["history"], whole["history"], strict=True):
        assert {k: v for k, v in row.items() if k not in TIMES} == {k: v for k, v in other.items() if k not in TIMES}
    assert len((folder / "log.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
def test_a_run_from_a_cache_is_the_same_run(held_out, data, tmp_path):
    """Bit by bit, also where val is held out of train and read from its cache; and begun with it, resumed without."""
    if held_out:
        shutil.rmtree(data / "val")
    train(data, tmp_path / "plain")
    cached = ("--cache", tmp_path / "cache", "--num-workers", 1)
    train(data, tmp_path / "cached", *cached)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"train.tiles"} | (
        set() if held_out else {"val.tiles"}
    )
    ours, theirs = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("cached", "plain"))
    assert all(torch.equal(ours["weights"][name], value) for name, value in theirs["weights"].items())
    assert ours["history"][1]["val_f1"] == theirs["history"][1]["val_f1"]
    train(data, tmp_path / "cached", "--resume")


def test_crops_of_images_that_differ_in_size(data, tmp_path):
    for folder in ("A", "B", "label"):
        path = data / "train" / folder / "scene_0001.png"
        Image.open(path).resize((130, 70)).save(path)
    flags = ("--augmentation", "open-cd", "--crop-size", 32, "--time-swap")
    train(data, tmp_path / "run", *flags, epochs=1)
    assert (tmp_path / "run" / "best.pt").is_file()


@pytest.mark.parametrize("recipe", RECIPES)
def test_prediction_with_labels(recipe, runs, drawn_set, tmp_path):
    """Scores are those of the masks on disk; error maps colour what masks and labels say."""
    out = tmp_path / "out"
    predict("--checkpoint", runs / recipe / "best.pt", "--data-root", drawn_set, "--output", out, "--batch-size", 3)
    counts = np.zeros((2, 2), int)
    rows = {row["name"]: row for row in csv.DictReader((out / "per_image.csv").open())}
    for pair in find_pairs(drawn_set, "test"):
        mask, error = (np.array(Image.open(out / kind / f"{pair.name}.png")) for kind in ("mask", "error"))
        truth, found = read_label(pair.label) == 1, mask == 255
        assert set(np.unique(mask)) <= {0, 255}
        assert (error[truth & found] == (255, 255, 255)).all()
        assert (error[truth & ~found] == (0, 255, 0)).all()
        assert (error[~truth & found] == (255, 0, 0)).all()
        assert (error[~truth & ~found] == 0).all()
        np.add.at(counts, (truth.astype(int).ravel(), found.astype(int).ravel()), 1)
        assert int(rows[pair.name]["fp"]) == (~truth & found).sum()
        assert float(rows[pair.name]["changed_share"]) == pytest.approx(found.mean(), rel=1e-5)
    metrics = json.loads((out / "metrics.json").read_text())
    (tn, fp), (fn, tp) = counts.tolist()
    assert metrics["pixels"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    assert metrics["scores"]["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0)
    assert metrics["protocol"]["recipe"] == recipe
    assert metrics["protocol"]["sizes"] == ["64 x 64"]
    assert not list(out.rglob(".*"))


def test_report_of_a_prediction(runs, drawn_set, tmp_path):
    """report.html holds the rows, scores and settings of the other files, and a curve that goes through the scores."""
    flags = ("--checkpoint", runs / "hanet", "--data-root", drawn_set, "--output", tmp_path / "out")
    predict(*flags)
    page = (tmp_path / "out" / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert data["protocol"] == metrics["protocol"]
    assert data["scores"]["f1"] == pytest.approx(metrics["scores"]["f1"], rel=1e-5)
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert [(pair["name"], pair["fp"]) for pair in data["pairs"]] == [(row["name"], int(row["fp"])) for row in rows]
    assert page.count('<script type="text/plain" id="pixels-') == len(rows) == 4
    assert data["curve"]["recall"] == sorted(data["curve"]["recall"], reverse=True)
    predict(*flags, "--no-report")
    assert not (tmp_path / "out" / "report.html").exists()  # that of an earlier prediction


def test_best_checkpoint_predicts_the_scores_it_was_chosen_for(runs, drawn_set, tmp_path):
    best = json.loads((runs / "hanet" / "metrics.json").read_text())["best"]
    out = tmp_path / "out"
    predict("--checkpoint", runs / "hanet" / "best.pt", "--data-root", drawn_set, "--split", "val", "--output", out)
    assert json.loads((out / "metrics.json").read_text())["scores"]["f1"] == pytest.approx(best["val_f1"], abs=1e-9)


def test_prediction_without_labels(runs, drawn_set, tmp_path):
    """Two folders and no label: masks, and neither scores nor error maps."""
    before, after = drawn_set / "test" / "A", drawn_set / "test" / "B"
    predict("--checkpoint", runs / "hanet", "--before", before, "--after", after, "--output", tmp_path / "out")
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4
    assert not (tmp_path / "out" / "error").exists()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"] == {}
    assert (tmp_path / "out" / "per_image.csv").read_text().startswith("name,changed_share\n")


def test_threshold_widens_the_mask(runs, drawn_set, tmp_path, capsys):
    shares = []
    for threshold in (0, 0.5, 1):
        out = tmp_path / str(threshold)
        predict(
            "--checkpoint",
            runs / "hanet" / "best.pt",
            "--data-root",
            drawn_set,
            "--output",
            out,
            "--threshold",
            threshold,
        )
        shares.append(sum(np.array(Image.open(path)).mean() for path in (out / "mask").iterdir()) / 4 / 255)
    assert 1 >= shares[0] > shares[1] >= shares[2] == 0


def test_mixed_sizes_are_predicted_each_as_it_is(runs, data, tmp_path):
    for folder in ("A", "B", "label"):
        path = data / "test" / folder / "scene_0001.png"
        Image.open(path).resize((96, 32)).save(path)
    predict("--checkpoint", runs / "hanet" / "best.pt", "--data-root", data, "--output", tmp_path / "out")
    assert Image.open(tmp_path / "out" / "mask" / "scene_0001.png").size == (96, 32)


def test_sixteen_bits_four_bands_and_odd_codes(tmp_path, capsys):
    """From training to the map without a word in between: the checkpoint knows bands, limits and label codes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(4):
            images = rng.integers(0, 4000, (2, 32, 32, 4)).astype(np.uint16)
            changed = rng.random((32, 32)) < 0.3
            images[1][changed] += 4000
            for folder, content in (("A", encode_tiff(images[0])), ("B", encode_tiff(images[1]))):
                (tmp_path / "data" / split / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / "data" / split / folder / f"{number}.tif").write_bytes(content)
            (tmp_path / "data" / split / "label").mkdir(exist_ok=True)
            codes = np.where(changed, 2, np.where(rng.random((32, 32)) < 0.1, 9, 1)).astype(np.uint8)
            Image.fromarray(codes).save(tmp_path / "data" / split / "label" / f"{number}.png")
    flags = ["--bands", "4,3,2,1", "--change-value", 2, "--ignore-value", 9, "--lr", 0.01, "--linear-epochs", 0]
    train(tmp_path / "data", tmp_path / "run", *flags, epochs=5)
    assert "images of 4 bands, uint16; read as 0 to 255 from band 4: " in capsys.readouterr().err
    train(tmp_path / "data", tmp_path / "run", *flags, "--resume", epochs=5)
    predict("--checkpoint", tmp_path / "run", "--data-root", tmp_path / "data", "--output", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    labels = [np.array(Image.open(p)) for p in (tmp_path / "data" / "test" / "label").iterdir()]
    assert sum(metrics["pixels"].values()) == sum((label != 9).sum() for label in labels)
    assert metrics["pixels"]["fn"] + metrics["pixels"]["tp"] == sum((label == 2).sum() for label in labels)
    assert metrics["scores"]["f1"] > 0.6


def test_without_val_a_seeded_tenth_is_held_out(data, tmp_path, capsys):
    shutil.rmtree(data / "val")
    train(data, tmp_path / "run", epochs=1)
    assert "no val split: 2 training pairs (seed 0) are held out" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["selected_on"] == "pairs held out of train"


def test_overlapping_tiles_are_held_out_by_scene(data, tmp_path, capsys):
    shutil.rmtree(data / "val")
    for path in sorted((data / "train").rglob("*.png")):
        number = int(path.stem[-4:])
        path.rename(path.with_name(f"town_{number // 3}_0000_{number % 3 * 32:04d}.png"))
    train(data, tmp_path / "scenes", epochs=1)
    said = capsys.readouterr().err
    assert "held out: all tiles of 1 of 4 scenes (town_" in said
    assert "no val split: 3 training pairs (seed 0)" in said
    assert "share pixels" not in said
    for number, path in enumerate(sorted((data / "train").rglob("*.png"))):
        path.rename(path.with_name(f"town_0000_{number % 12 * 32:04d}.png"))
    train(data, tmp_path / "scene", epochs=1)
    assert "held-out tiles share pixels with training tiles: their scores flatter" in capsys.readouterr().err


def test_tiles_that_are_not_square(data, tmp_path):
    for path in data.rglob("*.png"):
        Image.open(path).resize((64, 32)).save(path)
    train(data, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "best.pt").is_file()


# what goes wrong, and what it says


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_image(workers, data, tmp_path, capsys):
    broken = data / "train" / "B" / "scene_0002.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    fails(lambda: train(data, tmp_path / "run", "--num-workers", workers), capsys, str(broken), "replace the file")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_training_batch_of_one(drawn_set, tmp_path, capsys):
    call = lambda: train(drawn_set, tmp_path / "run", "--batch-size", 1, recipe="amfnet")  # noqa: E731
    fails(call, capsys, "at least two pairs", "--batch-size 2")


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


@pytest.mark.slow
def test_labels_coded_0_and_1_train_alike(runs, data, tmp_path):
    """Trouble many repositories have: 0/1 labels read as all unchanged. Here they are the same run."""
    for path in data.rglob("label/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 255).save(path)
    train(data, tmp_path / "run")
    ours, theirs = (torch.load(f / "last.pt", weights_only=True)["weights"] for f in (tmp_path / "run", runs / "hanet"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_labels_in_a_code_that_is_not_understood(data, tmp_path, capsys):
    for path in data.rglob("label/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 255 + 1).save(path)
    fails(lambda: train(data, tmp_path / "run"), capsys, str(data / "train" / "label"), "no changed pixel", "1: ")


def test_checkpoint_of_the_other_network(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    call = lambda: train(drawn_set, tmp_path / "run", "--resume", recipe="amfnet")  # noqa: E731
    fails(call, capsys, "last.pt", "model: hanet there, amfnet here")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_checkpoint_that_is_none(drawn_set, tmp_path, capsys):
    flags = ("--data-root", drawn_set, "--output", tmp_path / "out", "--checkpoint")
    fails(lambda: predict(*flags, tmp_path / "best.pt"), capsys, "no such checkpoint", "train_aux.py")
    torch.save({"net.net.conv1.weight": torch.zeros(1)}, tmp_path / "authors.pth")
    fails(lambda: predict(*flags, tmp_path / "authors.pth"), capsys, "authors.pth", "from_official")
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


def test_validation_labels_without_change(data, tmp_path, capsys):
    for path in (data / "val" / "label").iterdir():
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    fails(lambda: train(data, tmp_path / "run"), capsys, str(data / "val" / "label"), "no changed pixel")
    assert not (tmp_path / "run").exists()


def test_diverging_training_stops(drawn_set, tmp_path, capsys):
    fails(lambda: train(drawn_set, tmp_path / "run", "--lr", "1e18"), capsys, "the loss is no finite number", "--lr")
    assert not (tmp_path / "run" / "best.pt").exists()


def test_own_folders_do_not_overwrite_the_test_maps(runs, drawn_set, tmp_path):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before, after = drawn_set / "val" / "A", drawn_set / "val" / "B"
    predict("--checkpoint", tmp_path / "run", "--before", before, "--after", after)
    assert (tmp_path / "run" / "predict-A" / "metrics.json").is_file()
    predict("--checkpoint", tmp_path / "run", "--data-root", drawn_set / "test")
    protocol = json.loads((tmp_path / "run" / "predict-all" / "metrics.json").read_text())["protocol"]
    assert protocol["split"] == "all"
    assert not (tmp_path / "run" / "predict-test").exists()


def test_best_cannot_be_resumed(runs, drawn_set, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    shutil.copy(runs / "hanet" / "best.pt", tmp_path / "run" / "last.pt")
    fails(lambda: train(drawn_set, tmp_path / "run", "--resume"), capsys, "not the last.pt of a run", "--overwrite")


def test_overwriting_loses_nothing_before_the_first_epoch(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "amfnet", tmp_path / "run")
    flags = ("--overwrite", "--aux-weights", "0.5")
    fails(lambda: train(drawn_set, tmp_path / "run", *flags, recipe="amfnet"), capsys, "4 outputs need 4 loss weights")
    assert (tmp_path / "run" / "best.pt").read_bytes() == (runs / "amfnet" / "best.pt").read_bytes()


def test_existing_run_is_not_touched_unasked(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    fails(lambda: train(drawn_set, tmp_path / "run"), capsys, "holds a run", "--resume", "--overwrite", "--output")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    train(drawn_set, tmp_path / "run", "--overwrite", epochs=1)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["epoch"] == 1


def test_labels_are_counted_once_for_all_starts(runs, drawn_set, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(runs / "hanet", tmp_path / "run"))
    kept = (folder / "label_counts.json").read_bytes()
    (folder / "label_counts.json").write_text("damaged")
    train(drawn_set, folder, "--resume")
    assert (folder / "label_counts.json").read_bytes() == kept
    monkeypatch.setattr(label_counts, "read_label_values", None)
    train(drawn_set, folder, "--overwrite", epochs=1)
    assert (folder / "label_counts.json").read_bytes() == kept


def test_resuming_on_other_data(runs, data, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    shutil.copy(data / "train" / "A" / "scene_0001.png", data / "train" / "A" / "scene_0002.png")
    fails(
        lambda: train(data, tmp_path / "run", "--resume"), capsys, "the data set is not the one last.pt was trained on"
    )


def test_finished_run_resumes_to_its_result(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    train(drawn_set, tmp_path / "run", "--resume")
    assert "threshold 0.5" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_resuming_before_the_first_epoch_ended_starts_it(runs, drawn_set, tmp_path, capsys):
    train(drawn_set, tmp_path / "run", "--resume")
    assert "no last.pt yet, so this starts with the first epoch" in capsys.readouterr().err
    ours, theirs = (torch.load(f / "last.pt", weights_only=True)["weights"] for f in (tmp_path / "run", runs / "hanet"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


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


def test_maps_of_an_earlier_prediction_are_mentioned(runs, drawn_set, data, tmp_path, capsys):
    flags = ("--checkpoint", runs / "hanet", "--output", tmp_path / "out", "--data-root")
    predict(*flags, drawn_set)
    assert "earlier prediction" not in capsys.readouterr().err
    for folder in ("A", "B", "label"):
        (data / "test" / folder / "scene_0000.png").unlink()
    predict(*flags, data)
    assert "also holds 1 maps of an earlier prediction, first scene_0000.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--augmentation", "rotate"], ("--augmentation rotate: not known", "amfnet, hanet, open-cd, none")),
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


def test_epochs_of_the_open_pool_only(data, tmp_path, capsys, monkeypatch):
    """5 of 12 images have change: epochs of 5, 8 and 12 draws in batches of 4, resumed as well, with a live worker."""
    for number, path in enumerate((data / "train" / "label").iterdir()):
        Image.fromarray(np.full((64, 64), 255 if number < 5 else 0, np.uint8)).save(path)
    bars = []

    class Bar(train_aux.tqdm):
        def __exit__(self, *error):
            bars.append((self.initial, self.n, self.total))
            return super().__exit__(*error)

    monkeypatch.setattr(train_aux, "tqdm", Bar)
    flags = ("--pfbs-pool-only", "--num-workers", 1)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_after(patch, 2)
        train(data, tmp_path / "run", *flags, epochs=3)
    train(data, tmp_path / "run", *flags, "--resume", epochs=3)
    assert bars == [(0, 4 + 4, 4 + 8 + 12), (8, 24, 24)]
    fails(lambda: train(data, tmp_path / "b", *flags, "--batch-size", 6), capsys, "5 training pairs in the first epoch")


def test_network_without_an_encoder_to_load(drawn_set, tmp_path, capsys):
    call = lambda: train(drawn_set, tmp_path / "run", "--backbone-weights", "imagenet")  # noqa: E731
    fails(call, capsys, "hanet has no encoder to load", "--backbone-weights none")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_aux.py", "predict_batch.py"])
def test_scripts_from_the_shell(script):
    help_text = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert "--data-root" in help_text.stdout
    bad = subprocess.run(
        [sys.executable, ROOT / script, "--data-root", "nowhere"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert bad.stderr.startswith("error: nowhere: no such folder")


def open_data(root, *flags):
    """What a run finds before its first step."""
    config = parse_train_config([*map(str, ("--data-root", root, "--recipe", "hanet", "--batch-size", 4)), *flags])
    return train_aux.open_data(config, 8, None, root)


def test_the_public_set_is_named_and_its_counts_are_held_against_the_known_ones(data, caplog, monkeypatch):
    counts = KnownCounts(64, 12, 5, 9), KnownCounts(64, 16, None, 9)
    monkeypatch.setitem(CATALOG, "whu", replace(CATALOG["whu"], counts=counts))
    caplog.set_level("INFO")
    open_data(data)
    assert "data set: generic, for no public set fits (--data-name says which it is)" in caplog.messages
    named = data.rename(data.parent / "WHU-CD-256")
    open_data(named)
    said = [(r.levelname, r.message) for r in caplog.records if r.name == "datasets.recognition"]
    assert said[1:] == [
        ("INFO", introduction("whu", {"train": 12, "val": 4}, (64, 64))),
        ("WARNING", "val: 4 pairs of 64 x 64; WHU-CD is known to have 5"),
    ]
    shutil.rmtree(named / "val")  # the pairs held out for it belong to train
    caplog.clear()
    open_data(named)
    assert [r.message for r in caplog.records if "is known to have" in r.message] == []
    with pytest.raises(ValueError, match="--data-name whoo: not known; choose one of auto, levir, whu"):
        open_data(named, "--data-name", "whoo")


def test_statistics_of_the_public_set(data):
    assert open_data(data, "--statistics", "set", "--data-name", "whu").statistics == STATISTICS["whu"]
    assert open_data(data, "--statistics", "levir", "--data-name", "whu").statistics == STATISTICS["levir"]
    with pytest.raises(ValueError, match="--statistics set: no public set was recognised; --statistics train measures"):
        open_data(data, "--statistics", "set")
    with pytest.raises(ValueError, match="--statistics set: none are known of CLCD"):
        open_data(data, "--statistics", "set", "--data-name", "clcd")
    assert open_data(data.rename(data.parent / "sysu"), "--statistics", "set").statistics == STATISTICS["sysu"]

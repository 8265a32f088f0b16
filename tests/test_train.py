"""Training as a user runs it: a whole run, its resumption, its cache, and what it chooses by."""

import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_aux
from datasets import label_counts
from datasets.catalog import CATALOG, STATISTICS, KnownCounts
from datasets.recognition import introduction
from tests.conftest import ROLES
from tests.scripts import RECIPES, contents, fails, loaded, log_of, metrics_of, same_weights, stop_after, train
from utils.training import session
from utils.training.config import parse_train_config
from utils.training.data import open_data as data_of
from utils.training.run_folder import alone_in


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_folder(recipe, runs):
    folder = runs(recipe)
    log, checkpoint = log_of(folder), loaded(folder, "best")
    assert [row["epoch"] for row in log] == ["1", "2"]
    best = max(log, key=lambda row: float(row["val_f1"]))
    metrics = metrics_of(folder)
    assert metrics["selected_on"] == "val"
    assert metrics["best"]["val_f1"] == pytest.approx(float(best["val_f1"]), rel=1e-5)
    assert checkpoint["epoch"] == int(best["epoch"])
    assert checkpoint["model"] == recipe
    assert len((folder / "test.txt").read_text().splitlines()) == 2
    assert len(list(folder.glob("F1_*_epoch_*.pth"))) == 1
    auxiliary = [name for name in log[0] if name.startswith("train_loss_aux")]
    assert len(auxiliary) == (3 if recipe == "amfnet" else 0)


TIMES = ("seconds", "pairs_per_second", "peak_memory_mb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "workers", "stops"),
    [("amfnet", 1, [2]), ("hanet", 0, [1, 1, 2]), ("hanet", 0, [3])],
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
        command = f"--config {folder / 'config.toml'} --output {folder} --resume"
        assert capsys.readouterr().err.rstrip().endswith(command)  # and no bar is drawn below it
        resume = ["--resume"]
    last = loaded(folder)
    assert last["epoch"] * 3 + last["unfinished"]["step"] == sum(stops)
    train_aux.main(["--config", str(folder / "config.toml"), "--output", str(folder), "--resume"])

    broken, whole = loaded(folder), loaded(runs(recipe))
    assert same_weights(broken, whole)
    for row, other in zip(broken["history"], whole["history"], strict=True):
        assert {k: v for k, v in row.items() if k not in TIMES} == {k: v for k, v in other.items() if k not in TIMES}
    assert len((folder / "log.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
def test_a_run_from_a_cache_is_the_same_run(held_out, runs, data, tmp_path, capsys):
    """Bit by bit, also where val is held out of train and read from its cache; and begun with it, resumed without."""
    plain, files = runs("hanet"), {"train.tiles", "val.tiles"}
    if held_out:
        shutil.rmtree(data / "val")
        train(data, plain := tmp_path / "plain")
        said = capsys.readouterr().err
        assert re.search(r"no val split: best\.pt is chosen on \d pairs? held out of train \(seed 0\); so few", said)
        assert metrics_of(plain)["selected_on"] == "pairs held out of train"
        files = {"train.tiles"}
    train(data, tmp_path / "cached", "--cache", tmp_path / "cache", "--num-workers", 1)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == files
    ours, theirs = loaded(tmp_path / "cached"), loaded(plain)
    assert same_weights(ours, theirs)
    assert ours["history"][1]["val_f1"] == theirs["history"][1]["val_f1"]
    train(data, tmp_path / "cached", "--resume")


def resize(size, *paths):
    for path in paths:
        Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)


def test_crops_of_images_that_differ_in_size_and_tiles_that_are_not_square(data, tmp_path):
    resize((64, 32), *data.rglob("*.png"))
    train(data, tmp_path / "tiles", epochs=1)
    resize((130, 70), *data.rglob("train/*/scene_0001.png"))
    train(data, tmp_path / "crops", "--augmentation", "open-cd", "--crop-size", 32, "--time-swap", epochs=1)
    assert all((tmp_path / name / "best.pt").is_file() for name in ("tiles", "crops"))


def test_validation_labels_without_change(data, tmp_path, capsys):
    for path in (data / "val" / "label").iterdir():
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    fails(lambda: train(data, tmp_path / "run"), capsys, str(data / "val" / "label"), "no pixel is changed")
    assert not (tmp_path / "run").exists()


def test_labels_are_counted_once_for_all_starts(runs, drawn_set, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(runs("hanet"), tmp_path / "run"))
    kept = (folder / "label_counts.json").read_bytes()
    (folder / "label_counts.json").write_text("damaged")
    train(drawn_set, folder, "--resume")
    assert (folder / "label_counts.json").read_bytes() == kept
    monkeypatch.setattr(label_counts, "label_facts", None)
    train(drawn_set, folder, "--overwrite", epochs=1)
    assert (folder / "label_counts.json").read_bytes() == kept


def test_finished_run_resumes_to_its_result(runs, drawn_set, tmp_path, capsys):
    shutil.copytree(runs("hanet"), tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    train_aux.main(["--resume", "--output", str(tmp_path / "run")])  # its settings are in its folder
    assert "threshold 0.5" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_labels_coded_0_and_1_train_alike(runs, data, tmp_path, capsys):
    """0/1 labels are not read as all unchanged: the run is the same; with --resume and no last.pt it starts anew."""
    for path in data.rglob("label/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 255).save(path)
    train(data, tmp_path / "run", "--resume")
    assert "no last.pt yet, so this starts with the first epoch" in capsys.readouterr().err
    assert same_weights(loaded(tmp_path / "run"), loaded(runs("hanet")))


def test_epochs_of_the_open_pool_only(data, tmp_path, capsys, monkeypatch):
    """5 of 12 images have change: epochs of 5, 8 and 12 draws in batches of 4, resumed as well, with a live worker."""
    for number, path in enumerate((data / "train" / "label").iterdir()):
        Image.fromarray(np.full((64, 64), 255 if number < 5 else 0, np.uint8)).save(path)
    bars = []

    class Bar(session.tqdm):
        def __exit__(self, *error):
            bars.append((self.initial, self.n, self.total))
            return super().__exit__(*error)

    monkeypatch.setattr(session, "tqdm", Bar)
    flags = ("--pfbs-pool-only", "--num-workers", 1)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_after(patch, 2)
        train(data, tmp_path / "run", *flags, epochs=3)
    train(data, tmp_path / "run", *flags, "--resume", epochs=3)
    assert bars == [(0, 4 + 4, 4 + 8 + 12), (8, 24, 24)]
    fails(lambda: train(data, tmp_path / "b", *flags, "--batch-size", 6), capsys, "5 training pairs in the first epoch")


def open_data(root, *flags):
    """What a run finds before its first step."""
    config = parse_train_config([*map(str, ("--data-root", root, "--recipe", "hanet", "--batch-size", 4)), *flags])
    return data_of(config, 8, None, root)


def test_the_public_set_is_named_and_its_counts_are_held_against_the_known_ones(data, caplog, monkeypatch):
    counts = KnownCounts(64, 12, 5, 9), KnownCounts(64, 16, None, 9)
    monkeypatch.setitem(CATALOG, "whu", replace(CATALOG["whu"], counts=counts))
    caplog.set_level("INFO")
    open_data(data)
    assert (
        "data set: generic; the folder is not named after a public set (name one with --data-name)" in caplog.messages
    )
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


def test_statistics_of_the_public_set(data):
    assert open_data(data, "--statistics", "set", "--data-name", "whu").statistics == STATISTICS["whu"]
    assert open_data(data, "--statistics", "levir", "--data-name", "whu").statistics == STATISTICS["levir"]
    with pytest.raises(ValueError, match="--statistics set: no public set was recognised; measure them"):
        open_data(data, "--statistics", "set")
    assert open_data(data.rename(data.parent / "sysu"), "--statistics", "set").statistics == STATISTICS["sysu"]


def test_pairs_of_val_that_are_in_train_are_told(data, caplog):
    """Also under another name, and with decoded tiles."""
    for folder in ROLES:
        (first, *_) = sorted((data / "train" / folder).iterdir())
        shutil.copy2(first, data / "val" / folder / "copy.png")
    open_data(data, "--cache", str(data.parent / "cache"))
    assert "val: 1 pair also in the training data, so its scores are optimistic" in caplog.text


def test_a_run_is_not_written_over_the_data_or_another_process(data, tmp_path, capsys):
    before = contents(data)
    fails(lambda: train(data, data, epochs=1), capsys, "holds the data set, whose lists would be replaced")
    assert contents(data) == before
    with alone_in(tmp_path / "run"):
        fails(lambda: train(data, tmp_path / "run", epochs=1), capsys, "run: another process trains here")
    train(data, tmp_path / "run", epochs=1)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_ruined_weights_are_not_kept(data, tmp_path, capsys):
    """The loss of the last step is still a number."""
    flags = ("--lr", 1e38, "--optimizer", "sgd", "--epoch-steps", 1)
    fails(lambda: train(data, tmp_path, *flags, epochs=2), capsys, "the weights are no finite numbers after epoch 1")
    assert not list(tmp_path.glob("*.pt"))


def test_overlapping_tiles_are_held_out_by_scene(data, caplog):
    shutil.rmtree(data / "val")
    for path in sorted((data / "train").rglob("*.png")):
        number = int(path.stem[-4:])
        path.rename(path.with_name(f"town_{number // 3}_0000_{number % 3 * 32:04d}.png"))
    open_data(data)
    assert "held out: all tiles of 1 of 4 scenes (town_" in caplog.text
    assert "best.pt is chosen on 3 pairs held out of train (seed 0); so few that" in caplog.text
    assert "share pixels" not in caplog.text
    for number, path in enumerate(sorted((data / "train").rglob("*.png"))):
        path.rename(path.with_name(f"town_0000_{number % 12 * 32:04d}.png"))
    open_data(data)
    assert "held-out tiles share pixels with training tiles: their scores flatter" in caplog.text

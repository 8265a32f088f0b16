"""predict_batch.py interrupted and resumed: the files are those of an unbroken run."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from tests.conftest import ROLES, write_image
from tests.scripts import (
    contents,
    fails,
    files_end_at,
    forkserver,
    metrics_of,
    pixels,
    predict,
    predict_pair,
    predict_set,
)
from tests.utils.prediction.test_report import read_report
from utils.prediction.predictor import ChangePredictor

FLAGS = ("--save", "all", "--batch-size", 3, "--tile-size", 32, "--overlap", 8)


def test_a_resumed_run_gives_the_same_bytes(checkpoint, drawn_set, tmp_path):
    """Whatever is missing: maps of two pairs, a record, the summary."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    predict_set(checkpoint, drawn_set, whole, *FLAGS)
    shutil.copytree(whole, again)
    for name in ("mask/scene_0001.png", "records/scene_0002.json", "metrics.json"):
        (again / name).unlink()
    kept = (again / "mask" / "scene_0000.png").stat().st_mtime_ns
    predict_set(checkpoint, drawn_set, again, *FLAGS, "--skip-existing")
    assert contents(again) == contents(whole)
    assert (again / "mask" / "scene_0000.png").stat().st_mtime_ns == kept


def test_a_full_disk_leaves_nothing_half_written(checkpoint, data, tmp_path, capsys):
    """The first map that has no room is named; once there is room, the same command does what is missing."""
    scene, out = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8), tmp_path / "out"
    for folder, image in zip(ROLES, (scene, scene, scene[..., 0] // 128 * 255), strict=True):
        write_image(data / "test" / folder / "scene_0002.png", image)
    flags = (checkpoint, data, out, "--save", "overlay,probability16")
    with files_end_at(150_000):
        line = fails(lambda: predict_set(*flags), capsys, "too large")
    assert any(f"{out / kind / 'scene_0002.png'}: " in line for kind in ("overlay", "probability16"))
    assert not [path for pattern in (".*", "*/scene_0002.*") for path in out.rglob(pattern)]
    predict_set(*flags, "--skip-existing")
    for kind in ("overlay", "probability16"):
        assert pixels(out / kind / "scene_0002.png").shape[:2] == (400, 400)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_maps_of_an_earlier_prediction_are_kept_unless_a_flag_says_otherwise(
    threshold, checkpoint, data, tmp_path, capsys
):  # fmt: skip
    """Whether the settings are the same or not. Others cannot be resumed; --overwrite leaves nothing of the earlier."""
    out = tmp_path / "out"
    predict_set(checkpoint, data, out)
    before, flags = contents(out), (checkpoint, data, out, "--threshold", threshold)
    line = fails(lambda: predict_set(*flags), capsys, "--skip-existing", "--overwrite")
    assert f"{out}: holds the maps of an earlier prediction ({checkpoint} on {data}, threshold 0.5)" in line
    if threshold != 0.5:
        said = "holds maps predicted with other settings (threshold: 0.5 there, 0.7 here); pass --overwrite in place"
        fails(lambda: predict_set(*flags, "--skip-existing"), capsys, said)
    assert contents(out) == before
    for folder in ROLES:
        (data / "test" / folder / "scene_0003.png").unlink()
    if threshold == 0.5:
        predict_set(*flags, "--skip-existing")
        assert "also holds 1 maps of an earlier prediction, first scene_0003.png" in capsys.readouterr().err
    predict_set(*flags, "--save", "mask", "--overwrite")
    left = {path for path in contents(out) if path.startswith(("mask/", "error/", "records/"))}
    assert left == {
        f"{kind}_000{n}.{end}" for n in range(3) for kind, end in (("mask/scene", "png"), ("records/scene", "json"))
    }
    assert metrics_of(out)["protocol"]["threshold"] == threshold


def test_overwrite_and_skip_existing_are_opposites(capsys):
    predict("--overwrite", "--skip-existing", code=2)
    assert "--skip-existing resumes a prediction and --overwrite replaces it" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [1, 4])
def test_pairs_that_failed_are_predicted_once_they_are_mended(bad, checkpoint, data, tmp_path):
    """Where no map was made, without a flag."""
    kept = {path: path.read_bytes() for path in sorted((data / "test" / "B").iterdir())[:bad]}
    for path, content in kept.items():
        path.write_bytes(content[:1000])
    predict_set(checkpoint, data, tmp_path / "out", code=1)
    for path, content in kept.items():
        path.write_bytes(content)
    predict_set(checkpoint, data, tmp_path / "out", *(["--skip-existing"] if bad < 4 else []))
    assert metrics_of(tmp_path / "out")["failed"] == {}
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4


def test_resuming_sees_that_a_pair_has_changed(checkpoint, data, tmp_path):
    """Another image, or a label that was not there, under the same name: drawn anew, and nothing else is."""
    flags, out = ("--no-report", "--save", "probability16"), tmp_path / "out"
    hidden = (data / "test" / "label").rename(tmp_path / "label")
    predict_set(checkpoint, data, out, *flags)
    kept = (out / "probability16" / "scene_0000.png").stat().st_mtime_ns
    shutil.copy(data / "test" / "B" / "scene_0003.png", data / "test" / "B" / "scene_0002.png")
    predict_set(checkpoint, data, out, *flags, "--skip-existing")
    predict_set(checkpoint, data, tmp_path / "anew", *flags)
    assert contents(out / "probability16") == contents(tmp_path / "anew" / "probability16")
    assert (out / "probability16" / "scene_0000.png").stat().st_mtime_ns == kept
    hidden.rename(data / "test" / "label")
    predict_set(checkpoint, data, out, *flags, "--skip-existing")
    assert sum(metrics_of(out)["pixels"].values()) == 4 * 64 * 64


def test_resuming_sees_other_files_of_the_same_names(checkpoint, data, tmp_path):
    """As large and as old as the others, as from an archive."""
    pairs = [[tmp_path / folder / f"{name}.bmp" for name in ("2018", "2024")] for folder in ("one", "two")]
    for number, files in enumerate(pairs):
        for path, value in zip(files, (90, 90 + 90 * number), strict=True):
            write_image(path, np.random.default_rng(value).integers(0, 256, (64, 64, 3), np.uint8))
            os.utime(path, (1, 1))
    masks = []
    for files in pairs:
        predict_pair(checkpoint, *files, tmp_path / "out", "--skip-existing", "--no-report", "--save", "probability")
        masks.append(pixels(tmp_path / "out" / "probability" / "2018.png"))
    assert not np.array_equal(*masks)


def test_resuming_knows_the_same_files_by_another_path(checkpoint, data, tmp_path, monkeypatch):
    folders = [data / "test" / folder for folder in "AB"]
    predict_pair(checkpoint, *folders, tmp_path / "out", "--no-report")
    before = contents(tmp_path / "out" / "mask")
    monkeypatch.setattr("utils.prediction.maps.PairMaps.write", None)  # nothing is drawn
    again = [folder.parent / ".." / "test" / folder.name for folder in folders]
    predict_pair(checkpoint, *again, tmp_path / "out", "--skip-existing", "--no-report")
    assert contents(tmp_path / "out" / "mask") == before


def test_a_report_that_was_left_out_has_its_curve_later(checkpoint, drawn_set, tmp_path):
    once, later = tmp_path / "at-once" / "report.html", tmp_path / "later" / "report.html"
    predict_set(checkpoint, drawn_set, once.parent)
    predict_set(checkpoint, drawn_set, later.parent, "--no-report")
    predict_set(checkpoint, drawn_set, later.parent, "--skip-existing")
    assert read_report(later)[0]["curve"]["recall"]
    assert later.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("theirs", ["metrics.json", "records/of-sales.txt"])
def test_what_no_prediction_made_is_left_alone(theirs, checkpoint, drawn_set, tmp_path, capsys):
    """Such as the metrics.json of the run itself."""
    (tmp_path / "records").mkdir()
    (tmp_path / theirs).write_text("mine")
    before = contents(tmp_path)
    predict_set(checkpoint, drawn_set, tmp_path, code=2)
    assert f"{tmp_path / theirs}: not of a prediction" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_new_run_forgets_the_old_summary(checkpoint, drawn_set, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    predict_set(checkpoint, drawn_set, tmp_path)
    monkeypatch.setattr(ChangePredictor, "probability", interrupted)
    predict_set(checkpoint, drawn_set, tmp_path, "--overwrite", code=130)
    assert not {"metrics.json", "per_image.csv", "report.html"} & contents(tmp_path).keys()
    assert json.loads((tmp_path / "protocol.json").read_text())["pairs"] == 4


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_any_moment_and_resumed(checkpoint, drawn_set, tmp_path):
    """The files are those of an unbroken run, byte for byte, with nothing beside them."""
    flags, out, kills = ("--split", "train", *FLAGS), tmp_path / "out", 0
    predict_set(checkpoint, drawn_set, tmp_path / "whole", *flags)
    again = (checkpoint, drawn_set, out, *flags, "--skip-existing")
    for wait in (0.1, 0.5, 1.2):  # the first surely comes before the end
        process = forkserver().Process(target=predict_set, args=again)
        process.start()
        time.sleep(wait)
        kills += process.is_alive()
        process.kill()
        process.join()
    predict_set(*again)
    assert contents(out) == contents(tmp_path / "whole")
    assert kills

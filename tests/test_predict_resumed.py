"""predict_batch.py interrupted, and gone on with: the files are those of an unbroken run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict_batch
from tests.scripts import contents, fails, files_end_at, pixels, predict
from tests.utils.prediction.test_report import read_report
from utils.prediction.predictor import ChangePredictor

ROOT = Path(__file__).parents[1]


FLAGS = ("--save", "all", "--batch-size", 3, "--tile-size", 32, "--overlap", 8)


def test_a_run_that_goes_on_gives_the_same_bytes(checkpoint, drawn_set, tmp_path):
    """Whatever is missing: maps of two pairs, a record, the summary."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set, *FLAGS)
    predict(*flags, "--output", whole)
    shutil.copytree(whole, again)
    for name in ("mask/scene_0001.png", "records/scene_0002.json", "metrics.json"):
        (again / name).unlink()
    kept = (again / "mask" / "scene_0000.png").stat().st_mtime_ns
    predict(*flags, "--output", again, "--skip-existing")
    assert contents(again) == contents(whole)
    assert (again / "mask" / "scene_0000.png").stat().st_mtime_ns == kept


def test_a_full_disk_leaves_nothing_half_written(checkpoint, data, tmp_path, capsys):
    """The first map that has no room is named; once there is room, the same command does what is missing."""
    scene = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for folder in ("A", "B", "label"):
        Image.fromarray(scene if folder != "label" else scene[..., 0] // 128 * 255).save(
            data / "test" / folder / "scene_0002.png"
        )
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--save", "overlay,probability16")
    with files_end_at(150_000):
        call = lambda: predict(*flags, "--output", tmp_path / "out")  # noqa: E731
        line = fails(call, capsys, "too large")
    assert any(f"{tmp_path / 'out' / kind / 'scene_0002.png'}: " in line for kind in ("overlay", "probability16"))
    assert not list((tmp_path / "out").rglob(".*"))
    assert not list((tmp_path / "out").rglob("*/scene_0002.*"))
    predict(*flags, "--output", tmp_path / "out", "--skip-existing")
    for kind in ("overlay", "probability16"):
        assert pixels(tmp_path / "out" / kind / "scene_0002.png").shape[:2] == (400, 400)


def test_going_on_with_other_settings_is_refused(checkpoint, drawn_set, tmp_path, capsys):
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    predict(*flags)
    before = contents(tmp_path / "out")
    predict(*flags, "--skip-existing", "--threshold", 0.7, code=2)
    assert "holds maps predicted with other settings (threshold: 0.5 there, 0.7 here); pass --overwrite in place" in (
        capsys.readouterr().err
    )
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_maps_of_an_earlier_prediction_are_not_replaced_without_a_word(
    threshold, checkpoint, data, tmp_path, capsys
):  # fmt: skip
    """Whether the settings are the same or not; with --overwrite nothing of it is left."""
    out = tmp_path / "out"
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", out)
    predict(*flags)
    before = contents(out)
    line = fails(lambda: predict(*flags, "--threshold", threshold, code=None), capsys, "--skip-existing", "--overwrite")
    assert f"{out}: holds the maps of an earlier prediction ({checkpoint} on {data}, threshold 0.5)" in line
    assert contents(out) == before
    for folder in ("A", "B", "label"):
        (data / "test" / folder / "scene_0003.png").unlink()
    predict(*flags, "--threshold", threshold, "--save", "mask", "--overwrite")
    assert {path for path in contents(out) if path.startswith(("mask/", "error/"))} == {
        f"mask/scene_000{number}.png" for number in range(3)
    }
    assert json.loads((out / "metrics.json").read_text())["protocol"]["threshold"] == threshold
    assert not (out / "records" / "scene_0003.json").exists()


def test_overwrite_and_skip_existing_are_opposites(capsys):
    predict("--overwrite", "--skip-existing", code=2)
    assert "--skip-existing resumes a prediction and --overwrite replaces it" in capsys.readouterr().err


def test_where_no_map_was_made_nothing_has_to_be_said(checkpoint, data, tmp_path):
    """All pairs were bad, and are mended."""
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out")
    kept = {path: path.read_bytes() for path in (data / "test" / "B").iterdir()}
    for path, content in kept.items():
        path.write_bytes(content[:1000])
    predict(*flags, code=1)
    for path, content in kept.items():
        path.write_bytes(content)
    predict(*flags)
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4


def test_a_pair_that_failed_is_tried_again(checkpoint, data, tmp_path):
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", "--skip-existing")
    path = data / "test" / "B" / "scene_0001.png"
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    predict(*flags, code=1)
    path.write_bytes(content)
    predict(*flags)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["failed"] == {}
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4


def test_going_on_sees_that_a_pair_has_changed(checkpoint, data, tmp_path):
    """Another image, or a label that was not there, under the same name: drawn anew, and nothing else is."""
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--no-report", "--save", "probability16")
    hidden = (data / "test" / "label").rename(tmp_path / "label")
    predict(*flags, "--output", tmp_path / "out")
    kept = (tmp_path / "out" / "probability16" / "scene_0000.png").stat().st_mtime_ns
    shutil.copy(data / "test" / "B" / "scene_0003.png", data / "test" / "B" / "scene_0002.png")
    predict(*flags, "--output", tmp_path / "out", "--skip-existing")
    predict(*flags, "--output", tmp_path / "anew")
    assert contents(tmp_path / "out" / "probability16") == contents(tmp_path / "anew" / "probability16")
    assert (tmp_path / "out" / "probability16" / "scene_0000.png").stat().st_mtime_ns == kept
    hidden.rename(data / "test" / "label")
    predict(*flags, "--output", tmp_path / "out", "--skip-existing")
    assert sum(json.loads((tmp_path / "out" / "metrics.json").read_text())["pixels"].values()) == 4 * 64 * 64


def test_a_report_that_was_left_out_has_its_curve_later(checkpoint, drawn_set, tmp_path):
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set)
    predict(*flags, "--output", tmp_path / "at-once")
    predict(*flags, "--output", tmp_path / "later", "--no-report")
    predict(*flags, "--output", tmp_path / "later", "--skip-existing")
    assert read_report(tmp_path / "later" / "report.html")[0]["curve"]["recall"]
    assert contents(tmp_path / "later")["report.html"] == contents(tmp_path / "at-once")["report.html"]


@pytest.mark.parametrize("theirs", ["metrics.json", "records/of-sales.txt"])
def test_what_no_prediction_made_is_left_alone(theirs, checkpoint, drawn_set, tmp_path, capsys):
    """Such as the metrics.json of the run itself."""
    (tmp_path / "records").mkdir()
    (tmp_path / theirs).write_text("mine")
    before = contents(tmp_path)
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, code=2)
    assert f"{tmp_path / theirs}: not of a prediction" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_new_run_forgets_the_old_summary(checkpoint, data, tmp_path, monkeypatch):
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out")
    predict(*flags)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ChangePredictor, "probability", interrupted)
    predict(*flags, "--overwrite", code=130)
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert not (tmp_path / "out" / "per_image.csv").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_any_moment_and_gone_on(checkpoint, drawn_set, tmp_path):
    """The files are those of an unbroken run, byte for byte, with nothing beside them."""
    flags = ["--checkpoint", checkpoint, "--data-root", drawn_set, "--split", "train", "--device", "cpu", *FLAGS]
    flags = [str(word) for word in flags]
    predict_batch.main([*flags, "--output", str(tmp_path / "whole")])
    out, kills = tmp_path / "out", 0
    start = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import torch, predict_batch as p; "
             "torch.set_num_threads(1); print('ready', flush=True); p.main(sys.argv[1:])"]  # fmt: skip
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    for wait in (0.1, *rng.uniform(0.1, 1.5, 2)):  # the first surely comes before the end
        process = subprocess.Popen(
            [*start, *flags, "--output", str(out), "--skip-existing"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process.stdout.readline()
        time.sleep(wait)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    predict_batch.main([*flags, "--output", str(out), "--skip-existing"])
    assert contents(out) == contents(tmp_path / "whole")
    assert kills

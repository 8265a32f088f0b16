"""What is said once, with numbers, when files are doubtful: in prediction, in Python, in training, in the check."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.pairs import find_pairs
from datasets.reading import PLAIN
from datasets.scenes import draw_scene
from tests.conftest import write_image
from tests.scripts import altered, metrics_of, pixels, predict_pair, predict_set
from tests.tools.test_check_dataset import run as check
from utils.prediction.predictor import ChangePredictor
from utils.training.data import looked_over

SEEN = {"brightness": [80, 120], "contrast": [20, 60]}


@pytest.fixture
def knowing(checkpoint, tmp_path):
    """A checkpoint that knows how its training images look."""
    return altered(checkpoint, tmp_path / "knowing.pt", seen=SEEN)


def test_dark_images_are_told_once(knowing, checkpoint, data, tmp_path, capsys):
    """The line is in the log, in the protocol and in the report; another checkpoint knows nothing of the kind."""
    for path in (data / "test" / "B").iterdir():
        write_image(path, pixels(path) // 16)
    predict_set(knowing, data, tmp_path / "out", "--tile-size", 32)
    said = capsys.readouterr().err
    assert said.count("unlike the images") == 1
    (line,) = [line for line in said.splitlines() if "unlike the images" in line]
    start = "scene_0000 and 3 more pairs: unlike the images that the network was trained on, so the map may be wrong: "
    assert line.startswith(start)
    assert "after has brightness " in line
    assert "(training 80 to 120)" in line
    assert metrics_of(tmp_path / "out")["protocol"]["remarks"] == [line]
    assert line in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    predict_set(checkpoint, data, tmp_path / "none", "--no-report")
    assert "unlike" not in capsys.readouterr().err
    assert metrics_of(tmp_path / "none")["protocol"]["remarks"] == []


def test_swapped_folders_are_told(checkpoint, data, tmp_path, capsys):
    folders = [(data / "test" / role).rename(tmp_path / year) for role, year in (("A", "2019-06"), ("B", "2016-07"))]
    for before, after, told in ((*folders, 1), (*folders[::-1], 0)):
        predict_pair(checkpoint, before, after, tmp_path / f"maps-{told}", "--no-report")
        said = capsys.readouterr().err
        assert said.count("3 more pairs: by their names, the dates are swapped: before is 2019-06, after is") == told


def test_the_predictor_says_each_kind_once(knowing, caplog):
    predictor = ChangePredictor(knowing, device="cpu", tile_size=32)
    before, after, mask = draw_scene(4, 64, town=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            predictor(before // 8, after // 8)
            predictor(before, before)
            predictor(before, np.stack([mask] * 3, -1))
    kinds = [record.getMessage().split(":")[0][:30] for record in caplog.records]
    assert kinds == [
        "unlike the images that the net",
        "both dates are the same image,",
        "the after image has only the v",
    ]


def test_training_looks_before_it_starts(data, caplog):
    shutil.copy(data / "train" / "A" / "scene_0001.png", data / "train" / "B" / "scene_0001.png")
    shutil.copy(data / "train" / "label" / "scene_0002.png", data / "train" / "B" / "scene_0002.png")
    (data / "train" / "A").rename(data / "train" / "2020")
    (data / "train" / "B").rename(data / "train" / "2010")
    pairs = find_pairs(data, "train", folders={"before": "2020", "after": "2010", "label": None})
    seen = looked_over(pairs, PLAIN, {"seen": {"brightness": [5, 9]}})
    assert seen["brightness"][0] == 5
    assert 100 < seen["brightness"][1] < 200  # the label is not among them
    assert "band 3 less brightness" in seen
    kinds = [record.getMessage().split(";")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert kinds == [
        "scene_0000 and 11 more pairs: by their names, the dates are swapped: before is 2020, after is 2010",
        "scene_0001: both dates are the same image, so nothing can change",
        "scene_0002: the after image has only the values 0 and 255, as a label has",
    ]


def test_the_check_finds_labels_and_swapped_dates(data, capsys):
    name = max((data / "val" / "label").iterdir(), key=lambda path: np.std(Image.open(path))).name  # one with change
    shutil.copy(data / "val" / "label" / name, data / "val" / "A" / name)
    (data / "val" / "A").rename(data / "val" / "at 2020")
    (data / "val" / "B").rename(data / "val" / "at 2010")
    shutil.rmtree(data / "train")
    shutil.rmtree(data / "test")
    code, said = check(capsys, "--data-root", data, "--before-dir", "at 2020", "--after-dir", "at 2010")
    assert code == 0
    assert "warning: label as date (1)" in said.out
    assert f"A/{name}: has only the values 0 and 255" in said.out.replace("at 2020", "A")
    assert "warning: swapped dates (4)" in said.out
    assert "before is at 2020, after is at 2010" in said.out

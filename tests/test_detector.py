"""The trained weights of this repository: the file, its licence, and what it predicts."""

import hashlib

import numpy as np
import pytest

from datasets.scenes import draw_scene
from tests.conftest import write_image
from tests.scripts import ROOT, metrics_of, predict
from utils.checkpoint import load_checkpoint
from utils.prediction.predictor import ChangePredictor
from utils.settings import DETECTOR

SHA256 = "fb54ba829219eb4469e9842d2350e1faeb40f2a758b18de494b13eda3a1da7f8"
EXAMPLE = ROOT / "tests" / "golden" / "detector.npz"  # two pairs; every fourth row and column of their probabilities


def test_the_file_and_its_licence():
    assert DETECTOR == ROOT / "checkpoints" / "detector.pt"
    assert hashlib.sha256(DETECTOR.read_bytes()).hexdigest() == SHA256
    assert SHA256 in (ROOT / "docs" / "detector.md").read_text(encoding="utf-8")
    assert DETECTOR.stat().st_size <= 12e6
    content = load_checkpoint(DETECTOR)
    note = (ROOT / "checkpoints" / "detector-note.txt").read_text(encoding="utf-8")
    assert content["note"] == note
    assert "Apache-2.0" in note
    assert content["pixel_size"] == 0.5


@pytest.mark.parametrize("number", [0, 1])
def test_the_shipped_example(number):
    example = np.load(EXAMPLE)
    found = ChangePredictor(device="cpu")(*example["dates"][number])
    assert np.abs(found[::4, ::4] - example["probabilities"][number]).max() < 1e-3


def test_it_predicts_where_no_checkpoint_is_named(tmp_path, capsys):
    before, after, mask = draw_scene([5, 1], 256, town=True)
    paths = [write_image(tmp_path / f"{n}.png", x) for n, x in (("before", before), ("after", after), ("label", mask))]
    predict("--before", paths[0], "--after", paths[1], "--label", paths[2], "--output", tmp_path / "maps")
    said = capsys.readouterr().err
    assert "network: detector, the network of this repository, trained on pixels of 0.5 m" in said
    assert metrics_of(tmp_path / "maps")["scores"]["f1"] > 0.5

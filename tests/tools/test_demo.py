"""The demo, from drawing to the last line, on a handful of scenes."""

import csv

import numpy as np
import pytest
from PIL import Image

from tools import demo


@pytest.mark.slow
@pytest.mark.parametrize("model", demo.FLAGS)
def test_demo_runs_to_its_two_numbers(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SIZE", 64)
    monkeypatch.setattr(demo, "COUNTS", {"train": 8, "val": 2, "test": 10})
    small = {"amfnet": "--crop-size 0 --epoch-steps 2", "hanet": "--crop-size 0 --model-options width=8"}[model]
    monkeypatch.setitem(demo.FLAGS, model, f"{demo.FLAGS[model]} --epochs 1 --num-workers 0 {small}")
    for _ in range(2):  # again on the scenes drawn before
        demo.main(["--model", model, "--device", "cpu"])
    log = capsys.readouterr().err
    assert "drawing 20 scenes" in log
    assert "drawing 0 scenes" in log
    maps = tmp_path / "checkpoints" / f"demo-{model}" / "predict-test"
    counts = np.zeros(3)
    for row in csv.DictReader((maps / "per_image.csv").open()):
        counts += [int(row[name]) for name in ("tp", "fp", "fn")]
    tp, fp, fn = counts
    name = {"amfnet": "detector, fine-tuned", "hanet": "hanet"}[model]
    assert f"test F1 {100 * 2 * tp / max(2 * tp + fp + fn, 1):.2f}: {name}" in log
    assert ("detector, before fine-tuning" in log) == (model == "amfnet")
    assert "grey difference over" in log
    assert Image.open(maps / "overview.png").width > 4 * 192

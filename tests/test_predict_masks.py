"""predict_batch.py without a network: masks of others are scored."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.gdal import encode_tiff
from tests.scripts import ROOT, metrics_of, predict, predict_set, rows_of

KNOWN = {
    "FC-EF": 92.43, "FC-Siam-conc": 92.48, "FC-Siam-diff": 91.64, "DTCDSCN": 91.50, "STANet": 91.90, "BIT": 93.87,
    "ChangeFormer": 90.83, "HANet": 59.89, "CGNet": 93.25,
}  # fmt: skip


def test_masks_of_nine_methods(real_data, tmp_path, capsys):
    root = real_data / "levir_methods"
    folders = [f"{name}={root / 'masks' / name}" for name in KNOWN]
    predict("--label", root / "label", "--output", tmp_path / "out", "--masks", *folders)
    said = capsys.readouterr().err
    assert "STANet: masks of 6 of 7 labels; only these are scored" in said
    rows = rows_of(tmp_path / "out", "scores.csv")
    assert {row["masks"]: round(100 * float(row["f1"]), 2) for row in rows} == KNOWN
    for name, f1 in KNOWN.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        assert f" {f1:.2f} " in line


def test_masks_are_scored_as_they_were_predicted(checkpoint, drawn_set, tmp_path, capsys):
    """Our own masks, by the folder's name."""
    predict_set(checkpoint, drawn_set, tmp_path / "out", "--no-report")
    scores = metrics_of(tmp_path / "out")["scores"]
    capsys.readouterr()
    predict("--masks", tmp_path / "out" / "mask", "--label", drawn_set / "test" / "label")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mask ")]
    assert [float(word) for word in line.split()[1:]] == [round(100 * value, 2) for value in scores.values()]


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (["A={label}", "A={label}"], "--masks: two folders have one name"),
        (["{root}"], "no mask has the name of a label in"),
        (["{wrong}"], "mask and label differ in size, 32 x 64 and 64 x 64"),
        (["BTI={wrong}s"], "wrongs: no such folder (nearest: 'wrong')"),
        (["{twice}"], "scene_0002.tif: a second file for the name 'scene_0002', besides scene_0002.png"),
    ],
)
def test_masks_that_cannot_be_scored(masks, says, data, tmp_path, capsys):
    label, wrong = data / "test" / "label", tmp_path / "wrong"
    shutil.copytree(label, wrong)
    for path in wrong.iterdir():
        Image.open(path).resize((64, 32)).save(path)
    twice = shutil.copytree(label, tmp_path / "twice")
    Image.open(label / "scene_0002.png").save(twice / "scene_0002.tif")
    words = [word.format(label=label, root=ROOT / "docs", wrong=wrong, twice=twice) for word in masks]
    predict("--masks", *words, "--label", label, code=2)
    assert says in capsys.readouterr().err


def test_what_a_mask_does_not_know_is_not_scored(tmp_path, capsys):
    """A map with nodata 127, as geo/ holds them."""
    pytest.importorskip("rasterio")
    truth = np.zeros((8, 8), np.uint8)
    truth[:4] = 255
    drawn = truth.copy()
    drawn[2:6] = 127
    for folder, values, known in (("label", truth, None), ("geo", drawn, drawn != 127)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.tif").write_bytes(encode_tiff(values, known, nodata=None if known is None else 127))
    predict("--masks", tmp_path / "geo", "--label", tmp_path / "label", "--output", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out", "scores.csv")
    assert {row["f1"], row["recall"], row["precision"]} == {"1"}

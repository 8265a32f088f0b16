"""predict_batch.py without a network: masks of others are scored."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.scripts import predict

ROOT = Path(__file__).parents[1]


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
    rows = {row["masks"]: row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
    assert {name: round(100 * float(row["f1"]), 2) for name, row in rows.items()} == KNOWN
    for name, f1 in KNOWN.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        assert f" {f1:.2f} " in line


def test_masks_are_scored_as_they_were_predicted(checkpoint, drawn_set, tmp_path, capsys):
    """Our own masks, by the folder's name."""
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"]
    capsys.readouterr()
    predict("--masks", tmp_path / "out" / "mask", "--label", drawn_set / "test" / "label")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mask ")]
    assert [float(word) for word in line.split()[1:]] == [round(100 * value, 2) for value in scores.values()]


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (["A={label}", "A={label}"], "--masks: two folders of one name"),
        (["{root}"], "no mask is called like a label of"),
        (["{wrong}"], "mask and label differ in size, 32 x 64 and 64 x 64"),
        (["BTI={wrong}s"], "wrongs: no such folder (nearest: 'wrong')"),
    ],
)
def test_masks_that_cannot_be_scored(masks, says, data, tmp_path, capsys):
    label, wrong = data / "test" / "label", tmp_path / "wrong"
    shutil.copytree(label, wrong)
    for path in wrong.iterdir():
        Image.open(path).resize((64, 32)).save(path)
    predict(
        "--masks",
        *(word.format(label=label, root=ROOT / "docs", wrong=wrong) for word in masks),
        "--label",
        label,
        code=2,
    )
    assert says in capsys.readouterr().err

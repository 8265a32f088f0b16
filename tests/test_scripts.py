"""From a trained run to its predictions, and both scripts from the shell."""

import csv
import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.gdal import encode_tiff
from datasets.pairs import find_pairs
from datasets.raster import read_label
from datasets.reading import MASKS
from tests.conftest import write_image
from tests.scripts import RECIPES, metrics_of, predict, train

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_prediction_with_labels(recipe, runs, drawn_set, tmp_path):
    """Scores are those of the masks on disk; error maps colour what masks and labels say."""
    out = tmp_path / "out"
    predict("--checkpoint", runs / recipe / "best.pt", "--data-root", drawn_set, "--output", out, "--batch-size", 3)
    counts = np.zeros((2, 2), int)
    rows = {row["name"]: row for row in csv.DictReader((out / "per_image.csv").open())}
    for pair in find_pairs(drawn_set, "test"):
        mask, error = (np.array(Image.open(out / kind / f"{pair.name}.png")) for kind in ("mask", "error"))
        truth, found = read_label(pair.label, MASKS) == 1, mask == 255
        assert set(np.unique(mask)) <= {0, 255}
        assert (error[truth & found] == (255, 255, 255)).all()
        assert (error[truth & ~found] == (0, 255, 0)).all()
        assert (error[~truth & found] == (255, 0, 0)).all()
        assert (error[~truth & ~found] == 0).all()
        np.add.at(counts, (truth.astype(int).ravel(), found.astype(int).ravel()), 1)
        assert int(rows[pair.name]["fp"]) == (~truth & found).sum()
        assert float(rows[pair.name]["changed_share"]) == pytest.approx(found.mean(), rel=1e-5)
    metrics = metrics_of(out)
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
    metrics = metrics_of(tmp_path / "out")
    assert data["protocol"] == metrics["protocol"]
    assert data["scores"]["f1"] == pytest.approx(metrics["scores"]["f1"], rel=1e-5)
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert [(pair["name"], pair["fp"]) for pair in data["pairs"]] == [(row["name"], int(row["fp"])) for row in rows]
    assert page.count('<script type="text/plain" id="pixels-') == len(rows) == 4
    assert data["curve"]["recall"] == sorted(data["curve"]["recall"], reverse=True)
    predict(*flags, "--no-report", "--overwrite")
    assert not (tmp_path / "out" / "report.html").exists()  # that of an earlier prediction


def test_prediction_without_labels(runs, drawn_set, tmp_path):
    """Two folders and no label: masks, and neither scores nor error maps."""
    before, after = drawn_set / "test" / "A", drawn_set / "test" / "B"
    predict("--checkpoint", runs / "hanet", "--before", before, "--after", after, "--output", tmp_path / "out")
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4
    assert not (tmp_path / "out" / "error").exists()
    assert metrics_of(tmp_path / "out")["scores"] == {}
    assert '"title":"Changes from A to B"' in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "per_image.csv").read_text().startswith("name,changed_share\n")


def test_threshold_widens_the_mask(runs, drawn_set, tmp_path):
    shares, flags = [], ("--checkpoint", runs / "hanet", "--data-root", drawn_set, "--no-report")
    for threshold in (0, 0.5, 1):
        out = tmp_path / str(threshold)
        predict(*flags, "--output", out, "--threshold", threshold)
        shares.append(sum(np.array(Image.open(path)).mean() for path in (out / "mask").iterdir()) / 4 / 255)
    assert 1 >= shares[0] > shares[1] >= shares[2] == 0


def test_sixteen_bits_four_bands_and_odd_codes(tmp_path, capsys):
    """From training to the map without a word in between: the checkpoint knows bands, limits and label codes."""
    rng = np.random.default_rng(0)
    for split, number in product(("train", "val", "test"), range(4)):
        images = rng.integers(0, 4000, (2, 32, 32, 4)).astype(np.uint16)
        changed = rng.random((32, 32)) < 0.3
        images[1][changed] += 4000
        codes = np.where(changed, 2, np.where(rng.random((32, 32)) < 0.1, 9, 1)).astype(np.uint8)
        write_image(tmp_path / "data" / split / "label" / f"{number}.png", codes)
        for folder, image in zip("AB", images, strict=True):
            (path := tmp_path / "data" / split / folder / f"{number}.tif").parent.mkdir(exist_ok=True)
            path.write_bytes(encode_tiff(image))
    flags = ["--bands", "4,3,2,1", "--change-value", 2, "--ignore-value", 9, "--lr", 0.01, "--linear-epochs", 0]
    train(tmp_path / "data", tmp_path / "run", *flags, epochs=5)
    assert "scaling: uint16 of 4 bands read as uint8, band 4 from " in capsys.readouterr().err
    train(tmp_path / "data", tmp_path / "run", *flags, "--resume", epochs=5)
    predict("--checkpoint", tmp_path / "run", "--data-root", tmp_path / "data", "--output", tmp_path / "out")
    metrics = metrics_of(tmp_path / "out")
    labels = [np.array(Image.open(p)) for p in (tmp_path / "data" / "test" / "label").iterdir()]
    assert sum(metrics["pixels"].values()) == sum((label != 9).sum() for label in labels)
    assert metrics["pixels"]["fn"] + metrics["pixels"]["tp"] == sum((label == 2).sum() for label in labels)
    assert metrics["scores"]["f1"] > 0.6


def test_tiles_that_are_not_square(data, tmp_path):
    for path in data.rglob("*.png"):
        Image.open(path).resize((64, 32), Image.Resampling.NEAREST).save(path)
    train(data, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "best.pt").is_file()


def test_own_folders_do_not_overwrite_the_test_maps(runs, drawn_set, tmp_path):
    shutil.copytree(runs / "hanet", tmp_path / "run")
    before, after = drawn_set / "val" / "A", drawn_set / "val" / "B"
    predict("--checkpoint", tmp_path / "run", "--before", before, "--after", after)
    assert (tmp_path / "run" / "predict-A" / "metrics.json").is_file()
    predict("--checkpoint", tmp_path / "run", "--data-root", drawn_set / "test")
    protocol = metrics_of(tmp_path / "run" / "predict-all")["protocol"]
    assert protocol["split"] == "all"
    assert not (tmp_path / "run" / "predict-test").exists()


def test_maps_of_an_earlier_prediction_are_mentioned(runs, drawn_set, data, tmp_path, capsys):
    flags = ("--checkpoint", runs / "hanet", "--output", tmp_path / "out", "--data-root")
    predict(*flags, drawn_set)
    assert "earlier prediction" not in capsys.readouterr().err
    for folder in ("A", "B", "label"):
        (data / "test" / folder / "scene_0000.png").unlink()
    predict(*flags, data, "--skip-existing")
    assert "also holds 1 maps of an earlier prediction, first scene_0000.png" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_aux.py", "predict_batch.py"])
def test_scripts_from_the_shell(script):
    help_text = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert "--data-root" in help_text.stdout
    command = [sys.executable, ROOT / script, "--data-root", "nowhere"]
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert bad.stderr.startswith("error: nowhere: no such folder")

"""Methods without training: numbers by hand, and folders as predict_batch.py leaves them."""

import csv

import numpy as np
import pytest

from tests.conftest import write_pairs
from tests.scripts import metrics_of, pixels
from tools.methods.untrained import UNTRAINED, difference_length, grey_difference, score_untrained
from tools.tables.results import read_folder
from utils.prediction.records import image_set
from utils.settings import BandConfig


def pair_of(change=80):
    """Grey 100, brighter by `change` in an 8 x 8 corner of 16 x 16; the label has half of the corner, and a gap."""
    before = np.full((16, 16, 3), 100, np.uint8)
    after, label = before.copy(), np.zeros((16, 16), np.uint8)
    after[:8, :8] += np.uint8(change)
    label[:8, :4], label[8:, 8:] = 255, 127
    return before, after, label


def test_differences():
    before, after = np.uint8([[[10, 20, 30], [0, 0, 0]]]), np.uint8([[[13, 16, 30], [255, 255, 255]]])
    assert grey_difference(before, after).tolist() == [[0, 255]]
    assert grey_difference(after[..., :1], before[..., :1]).tolist() == [[3, 255]]
    assert difference_length(before, after).tolist() == [[5, pytest.approx(255 * 3**0.5)]]


@pytest.mark.parametrize("name", UNTRAINED)
def test_the_bright_corner_is_found_and_scored(name, tmp_path):
    """32 of 64 pixels are right; those of the gap are not counted. PCA-K-means rounds the corner, by its blocks."""
    (pair,) = write_pairs(tmp_path / "set" / "test", {"a": pair_of()})
    score_untrained(name, BandConfig(data_root=tmp_path / "set", ignore_value=127), "test", tmp_path / "out")
    found, (row,) = metrics_of(tmp_path / "out"), csv.DictReader((tmp_path / "out" / "per_image.csv").open())
    assert int(row["tp"]) == 32 and int(row["fn"]) == 0 and int(row["tn"]) + int(row["fp"]) == 160
    assert int(row["fp"]) in (range(28, 33) if name == "pca-kmeans" else [32])
    assert found["scores"]["f1"] == pytest.approx(64 / (64 + int(row["fp"])))
    changed = pixels(tmp_path / "out" / "mask" / "a.png")
    assert changed[:6, :6].all() and not changed[10:].any() and set(np.unique(changed)) == {0, 255}
    assert pixels(tmp_path / "out" / "error" / "a.png").shape == (16, 16, 3)
    result = read_folder(name, "", tmp_path / "out")
    assert result.images == image_set([("a", 160, 32)])
    assert (result.data, result.parameters, result.protocol["selection"]) == ("set", None, "")


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_gap_in_one_date_is_no_change(name, tmp_path):
    """It differs more than the corner that is changed."""
    before, after, label = pair_of(change=20)
    known = np.full((16, 16), 255, np.uint8)
    known[8:, 8:] = 0
    label[:8, :8] = 255
    write_pairs(tmp_path / "set" / "test", {"a": (before, np.dstack([after, known]), label)})
    score_untrained(name, BandConfig(data_root=tmp_path / "set", ignore_value=127), "test", tmp_path / "out")
    changed = pixels(tmp_path / "out" / "mask" / "a.png")
    assert changed[:6, :6].all() and not changed[10:].any()


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_gap_in_the_label_changes_no_map(name, tmp_path):
    """Only the scores leave it out."""
    dates, label = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    label[:4] = 255
    partly = label.copy()
    partly[12:] = 127
    for folder, each in (("whole", label), ("partly", partly)):
        write_pairs(tmp_path / folder / "test", {"a": (*dates, each)})
        score_untrained(
            name, BandConfig(data_root=tmp_path / folder, ignore_value=127), "test", tmp_path / f"{folder}-out"
        )
    masks = [pixels(tmp_path / f"{folder}-out" / "mask" / "a.png") for folder in ("whole", "partly")]
    assert np.array_equal(*masks) and 0 < masks[0].mean() < 255


@pytest.mark.parametrize("name", UNTRAINED)
def test_equal_dates_have_no_change(name):
    before, _, _ = pair_of()
    everywhere = np.ones(before.shape[:2], bool)
    assert not UNTRAINED[name](before, before, everywhere).any()
    assert not UNTRAINED[name](before, 255 - before, ~everywhere).any()


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize("size", [(9, 14), (8, 8)])
def test_any_size_and_bands(name, size):
    dates = np.random.default_rng(0).integers(0, 256, (2, *size, 5), np.uint8)
    changed = UNTRAINED[name](*dates, np.ones(size, bool))
    assert (changed.shape, changed.dtype) == (size, bool) and 0 < changed.mean() < 1

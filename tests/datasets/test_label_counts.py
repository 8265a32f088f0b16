"""Counts of labels kept from run to run are never stale, and counted again if they are damaged."""

import json
import os

import numpy as np
import pytest

from datasets import label_counts
from datasets.label_codes import count_changed, decide_to_predict, mask_reading
from datasets.label_counts import LabelCounts
from datasets.pairs import Pair
from datasets.reading import MASKS, PixelFormat
from tests.conftest import write_image


def write(path, changed, value=255):
    """A label of 8 x 8 pixels, a BMP: its size in bytes does not tell what it shows."""
    return write_image(path, np.where(np.arange(64) < changed, value, 0).astype(np.uint8).reshape(8, 8))


@pytest.fixture
def pairs(tmp_path):
    paths = [write(tmp_path / f"{name}.bmp", 10 * number) for number, name in enumerate("abc")]
    return [Pair(path.stem, path, path, path) for path in paths]


@pytest.fixture
def decoded(monkeypatch):
    """Names of the labels decoded since it was cleared."""
    names, count = [], label_counts.label_facts
    note = lambda opened, reading: names.append(opened.label.path.stem) or count(opened, reading)  # noqa: E731
    monkeypatch.setattr(label_counts, "label_facts", note)
    return names


def kept(pairs, path, reading=MASKS):
    counts = LabelCounts(reading, path)
    changed = count_changed(pairs, reading, counts)
    path.write_text(counts.as_text())
    return changed


def test_second_count_decodes_nothing_and_logs_the_same(pairs, tmp_path, decoded, caplog):
    caplog.set_level("INFO")
    assert count_changed(pairs, MASKS) == kept(pairs, tmp_path / "kept") == [0, 10, 20]
    assert sorted(decoded) == [*"aabbcc"]
    decoded.clear()
    assert kept(pairs, tmp_path / "kept") == [0, 10, 20]
    assert decoded == []
    assert len(set(caplog.messages)) == 1
    assert len(caplog.messages) == 3


def test_changed_file_is_counted_again(pairs, tmp_path, decoded):
    """One of the same number of bytes, and one that is older than it was."""
    kept(pairs, tmp_path / "kept")
    decoded.clear()
    write(pairs[1].label, 33)
    os.utime(pairs[1].label, ns=(1, 1))
    assert kept(pairs, tmp_path / "kept") == [0, 33, 20]
    assert decoded == ["b"]
    assert kept(pairs, tmp_path / "kept") == [0, 33, 20]
    assert decoded == ["b"]


def test_the_same_counts_serve_another_code_but_not_palette_indices(pairs, tmp_path, decoded):
    write(pairs[0].label, 5, value=9)
    path = tmp_path / "kept"
    by_index = PixelFormat(change_value=9, named=True)
    assert kept(pairs, path, by_index) == [5, 0, 0]
    assert kept(pairs, path, PixelFormat(change_value=255, named=True)) == [0, 10, 20]
    assert len(decoded) == 3
    assert kept(pairs, path, PixelFormat(change_value="#ffffff", named=True)) == [0, 10, 20]
    assert len(decoded) == 6


WRONG_LABELS = [f'{{"how": "[3, false, false, []]", "labels": {labels}}}' for labels in ("3", "[1]", "{}")]
DAMAGED = ["", "{", "[]", "{}", "7", "\0\xff", *WRONG_LABELS]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_counts_are_ignored_and_replaced(content, pairs, tmp_path, decoded):
    path = tmp_path / "kept"
    path.write_bytes(content.encode("latin-1"))
    assert kept(pairs, path) == kept(pairs, path) == [0, 10, 20]
    assert sorted(decoded) == [*"abc"]


@pytest.mark.parametrize("counts", ["0:64 x:3", "0", "0:1:2", "0:64.5", ""])
def test_a_damaged_line_is_counted_again(counts, pairs, tmp_path, decoded):
    path = tmp_path / "kept"
    kept(pairs, path)
    content = json.loads(path.read_text())
    name = str(pairs[2].label.resolve())
    content["labels"][name][1] = counts
    path.write_text(json.dumps(content))
    decoded.clear()
    assert kept(pairs, path) == [0, 10, 20]
    assert decoded == ["c"]


def test_masks_of_two_codings_are_refused(tmp_path):
    def masks(*levels, suffix="png"):
        return [write(tmp_path / f"{number}.{suffix}", 64, level) for number, level in enumerate(levels)]

    assert mask_reading(masks(0, 1)).change_from == 1
    assert mask_reading(masks(0, 255)).change_from == 128
    assert mask_reading(masks(0, 200)).change_from == 128
    assert mask_reading(masks(1, 255, suffix="jpg")).change_from == 128
    with pytest.raises(ValueError, match=r"1\.png: its highest value is 1, the highest of all is 255; masks have"):
        mask_reading(masks(0, 1, 255))
    with pytest.raises(ValueError, match=r"0\.png: its highest value is 100, the highest of all is 100; masks have"):
        mask_reading(masks(100, 0))


def test_labels_that_are_all_ignored_are_told(tmp_path, caplog):
    """Trained on 0, 1 and 255 for unknown; of 0 and 255 no pixel would be changed."""
    path = write(tmp_path / "label.png", 10)
    trained = PixelFormat(change_value=1, ignore_value=255)
    assert decide_to_predict([Pair("a", path, path, path)], trained).change_value == 1
    assert "without the ignored value 255, all labels are 0" in caplog.text
    caplog.clear()
    decide_to_predict([Pair("a", path, path, path)], PixelFormat(change_value=255))
    assert not caplog.text


def test_a_mask_laid_beside_a_label_is_counted(tmp_path, decoded):
    """The label's own bytes and time stay as they are."""
    rasterio = pytest.importorskip("rasterio")
    path = write(tmp_path / "label.png", 30)
    pair = Pair("a", path, path, path)
    assert kept([pair], tmp_path / "kept") == [30]
    os.utime(tmp_path, ns=(1, 1))  # a listing of the folder that is as old as the label would be taken for new
    mask = np.where(np.arange(64) < 20, 255, 0).astype(np.uint8).reshape(8, 8)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    with pytest.raises(ValueError, match="has transparent or masked pixels"):
        kept([pair], tmp_path / "kept")
    assert decoded == ["label", "label"]


def test_a_pair_of_which_nothing_is_known_has_no_change(tmp_path, decoded):
    """Neither when it is counted nor when the count is taken again."""
    path, other = write(tmp_path / "label.png", 30), write(tmp_path / "other.png", 30)
    clear = write_image(tmp_path / "clear.png", np.zeros((8, 8, 4), np.uint8))
    pairs = [Pair("known", path, path, path), Pair("unknown", path, clear, other)]
    for _ in range(2):
        assert kept(pairs, tmp_path / "kept") == [30, 0]
    assert len(decoded) == 2

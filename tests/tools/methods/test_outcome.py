"""Which rows of a comparison are compared by the bootstrap, and what is read for it."""

import pytest

from tests.conftest import write_pairs
from tools.methods import noise
from tools.methods.outcome import compared, draw_comparisons
from tools.methods.untrained import score_untrained
from tools.tables.results import scored_images
from utils.files import write_csv
from utils.prediction.records import image_set
from utils.settings import BandConfig


def scored(folder, rows):
    """A folder with counts (tn, fp, fn, tp) of images by name, in any order."""
    folder.mkdir()
    keys = ("tn", "fp", "fn", "tp")
    write_csv(folder / "per_image.csv", [{"name": n, **dict(zip(keys, c, strict=True))} for n, c in rows.items()])
    return folder


def test_counts_are_by_name(tmp_path):
    images, counts = scored_images(scored(tmp_path / "a", {"b": (1, 2, 3, 4), "a": (5, 6, 7, 8)}))
    assert images == image_set([("a", 11, 15), ("b", 3, 7)])
    assert counts.tolist() == [[8, 6, 7], [4, 2, 3]]


def test_only_rows_of_the_same_images_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "RESAMPLES", 99)
    good, bad = {"a": (90, 0, 0, 10), "b": (90, 0, 0, 10)}, {"a": (80, 10, 9, 1), "b": (81, 9, 9, 1)}
    rows = {
        "good": [scored(tmp_path / "g0", good), scored(tmp_path / "g1", good)],
        "bad": [scored(tmp_path / "b", bad)],
    }
    rows["other"] = [scored(tmp_path / "o", {"a": (90, 0, 0, 10), "c": (90, 0, 0, 10)})]
    found, line = compared(rows)
    assert [(each.row, each.other, each.clear) for each in found] == [("good", "bad", True)]
    assert found[0].mean == pytest.approx(100 - 200 * 2 / (4 + 19 + 18))
    assert "the noise of 2 images" in line
    assert compared({"good": rows["good"]}) == ([], "")
    assert compared({name: [scored(tmp_path / name, {"a": (1, 1, 1, 1)})] for name in ("x", "y")}) == ([], "")


def test_both_grids_are_drawn_from_masks(tmp_path):
    write_pairs(tmp_path / "set" / "test", ("a", "b", "c"), size=(32, 32))
    data = BandConfig(data_root=tmp_path / "set")
    rows = {name: tmp_path / name / "predict-test" for name in ("cva", "grey-difference")}
    for name, folder in rows.items():
        score_untrained(name, data, "test", folder)
    draw_comparisons(tmp_path, rows, data, "test")
    assert all((tmp_path / f"comparison-{style}.png").is_file() for style in ("amfnet", "hanet"))

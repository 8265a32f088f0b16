"""Scenes drawn from the command line."""

from datasets.pairs import find_pairs
from datasets.raster import read_image
from tests.scripts import contents
from tools.draw_scenes import main


def test_splits_sizes_and_seeds(tmp_path):
    flags = ["--train", "3", "--val", "1", "--size", "64"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(["--output", str(tmp_path / name), *flags, "--seed", seed])
    assert len(find_pairs(tmp_path / "a", "train")) == 3
    (pair,) = find_pairs(tmp_path / "a", "val")
    assert read_image(pair.before).shape == (64, 64, 3)
    assert not (tmp_path / "a" / "test").exists()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a").keys() == contents(tmp_path / "c").keys()
    assert contents(tmp_path / "a") != contents(tmp_path / "c")

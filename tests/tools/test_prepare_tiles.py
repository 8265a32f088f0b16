"""The tool as a user runs it: layouts in, tiles out, one pair of files, real scenes, and every foreseeable mistake."""

import json
from dataclasses import replace

import numpy as np
import pytest

from datasets.catalog import CATALOG, KnownCounts
from datasets.pairs import find_pairs
from datasets.raster import read_image
from tests.conftest import ROLES, write_pairs
from tests.scripts import contents, fails, files_end_at
from tools import prepare_tiles
from tools.prepare_tiles import main


def run(*words):
    main([str(word) for word in words])


def fill(folder, names="12", size=(64, 96), folders=ROLES):
    write_pairs(folder, names, size, folders)
    return folder


def test_a_full_disk_names_the_tile_and_the_same_command_resumes(tmp_path, capsys):
    flags = ("--data-root", fill(tmp_path / "in" / "train", "2", size=(300, 300)).parent, "--tile-size", 300)
    with files_end_at(60_000):
        fails(lambda: run(*flags, "--output", tmp_path / "out"), capsys, "2_0000_0000.png: File too large")
    assert not list((tmp_path / "out").rglob(".*"))
    run(*flags, "--output", tmp_path / "out")
    run(*flags, "--output", tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_interrupt_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_tiles, "plan_scenes", interrupted)
    with pytest.raises(SystemExit) as left:
        run("--data-root", fill(tmp_path / "in" / "train").parent, "--output", tmp_path / "out")
    assert left.value.code == 130
    assert "interrupted; the same command resumes" in capsys.readouterr().err


LAYOUTS = {
    "split folders": lambda root: [fill(root / s, folders=("time1", "time2", "label")) for s in ("train", "test")],
    "lists": lambda root: (
        fill(root, "1234"),
        (root / "list").mkdir(),
        (root / "list" / "train.txt").write_text("1.png\n2.png\n"),
        (root / "list" / "test.txt").write_text("3.png\n4.png\n"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_split_folders_out(layout, tmp_path, capsys):
    LAYOUTS[layout](tmp_path / "in")
    run("--data-root", tmp_path / "in", "--output", tmp_path / "out", "--tile_size", 32, "--num-workers", 2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.csv", "test", "tiles.json", "train"]
    for split in ("train", "test"):
        assert sorted(p.name for p in (tmp_path / "out" / split).iterdir()) == ["A", "B", "label"]
        assert len(find_pairs(tmp_path / "out", split)) == 2 * 2 * 3
    log = capsys.readouterr().err
    assert "train: 12 tiles of 32 x 32" in log
    assert "24/24" in log
    assert f"next: python -m tools.check_dataset --data-root {tmp_path / 'out'} (with --change-value or" in log
    assert json.loads((tmp_path / "out" / "tiles.json").read_text())["tiles"] == {"train": 12, "test": 12}


def test_counts_of_a_public_set(tmp_path, capsys, monkeypatch):
    counts = KnownCounts(64, 2, None, 2), KnownCounts(32, 8, None, 9)
    monkeypatch.setitem(CATALOG, "whu", replace(CATALOG["whu"], counts=counts))
    for split in ("train", "test"):
        fill(tmp_path / "in" / split, size=(64, 64))
    run("--data-root", tmp_path / "in", "--output", tmp_path / "a", "--tile-size", 32, "--data-name", "whu")
    log = capsys.readouterr().err
    assert "data set: WHU-CD; metres per pixel: 0.2; counts of pairs as known; terms:" in log
    assert "train: 8 tiles of 32 x 32, as known of WHU-CD\n" in log
    assert "test: 8 tiles of 32 x 32\ntest: 8 pairs of 32 x 32; WHU-CD is known to have 9\n" in log
    named = (tmp_path / "in").rename(tmp_path / "WHU-CD")
    run("--data-root", named, "--output", tmp_path / "b", "--tile-size", 32, "--overlap", 16)
    log = capsys.readouterr().err
    assert "data set: WHU-CD;" in log
    assert "is known to have" not in log  # of tiles that overlap
    run("--data-root", named, "--output", tmp_path / "c", "--tile-size", 32, "--data-name", "generic")
    assert "WHU-CD;" not in capsys.readouterr().err


def test_one_split_and_a_source_without_splits(tmp_path, capsys):
    fill(tmp_path / "flat")
    run("--data-root", tmp_path / "flat", "--output", tmp_path / "a", "--tile-size", 32)
    assert "its tiles are called train" in capsys.readouterr().err
    assert len(find_pairs(tmp_path / "a", "train")) == 12
    run("--data-root", tmp_path / "flat", "--output", tmp_path / "b", "--tile-size", 32, "--split", "test")
    assert [p.name for p in (tmp_path / "b").iterdir() if p.is_dir()] == ["test"]
    run("--data-root", tmp_path / "b", "--output", tmp_path / "c", "--tile-size", 16, "--split", "test")
    assert len(find_pairs(tmp_path / "c", "test")) == 4 * 12


def test_one_pair_of_files(tmp_path):
    fill(tmp_path, ["whole"], folders=[f"{date}/images" for date in ("2012", "2016", "change")])
    files = {date: tmp_path / date / "images" / "whole.png" for date in ("2012", "2016", "change")}
    pair = ["--before", files["2012"], "--after", files["2016"]]
    run(*pair, "--label", files["change"], "--split", "train", "--output", tmp_path / "out", "--tile-size", 32)
    tiles = find_pairs(tmp_path / "out", "train")
    assert [tile.name for tile in tiles] == [
        f"whole_00{top}_00{left}" for top in ("00", "32") for left in ("00", "32", "64")
    ]
    assert np.array_equal(read_image(tiles[-1].after), read_image(files["2016"])[32:, 64:])
    assert "2012/images/whole.png,2016/images/whole.png,change/images/whole.png" in (
        tmp_path / "out" / "manifest.csv"
    ).read_text(encoding="utf-8")
    run(*pair, "--output", tmp_path / "two", "--tile-size", 32)
    assert len(find_pairs(tmp_path / "two", "train", labels=False)) == 6


MISTAKES = {
    "neither": ([], "give either --data-root"),
    "both": (["--data-root", "in", "--before", "in/A/1.png", "--after", "in/B/1.png"], "give either --data-root"),
    "one date": (["--before", "in/A/1.png"], "--before and --after"),
    "no file": (["--before", "in/A/1.png", "--after", "in/B/9.png"], "9.png: no such file"),
    "a folder": (["--before", "in/A", "--after", "in/B"], "take one image each"),
    "no folder": (["--data-root", "nowhere"], "nowhere: no such folder"),
    "source": (["--data-root", "in", "--output", "in"], "pass another folder as --output"),
    "inside": (["--data-root", "in", "--output", "in/tiles"], "pass another folder as --output"),
    "around": (["--data-root", "in", "--output", "."], "pass another folder as --output"),
    "overlap": (["--data-root", "in", "--tile-size", "32", "--overlap", "32"], "an overlap of 32"),
    "too small": (["--data-root", "in"], "64 x 96 pixels hold no tile of 256"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(mistake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    words, says = MISTAKES[mistake]
    fails(lambda: run(*(["--output", "out"] if "--output" not in words else []), *words), capsys, says)
    assert sorted(tmp_path.rglob("*")) == before


def test_real_sizes_that_do_not_come_out_even(real_data, tmp_path):
    run("--data-root", real_data / "sztaki", "--output", tmp_path / "out", "--edge", "pad", "--overlap", 64)
    tiles = find_pairs(tmp_path / "out", "train")
    joined = {}
    for tile in tiles:
        name, top, left = tile.name.rsplit("_", 2)
        image = joined.setdefault(name, np.zeros((1200, 1200), np.uint8))
        image[int(top) : int(top) + 256, int(left) : int(left) + 256] = read_image(tile.label)[..., 0]
    sources = find_pairs(real_data / "sztaki", "train")
    assert sorted(joined) == [pair.name for pair in sources]
    for pair in sources:
        assert np.array_equal(joined[pair.name][:640, :952], read_image(pair.label)[..., 0])
        assert not joined[pair.name][640:].any()


def test_real_images_give_the_published_tiles(real_data, tmp_path):
    run("--data-root", real_data / "levir1024", "--output", tmp_path / "out")
    published = {pair.name: pair for pair in find_pairs(real_data / "levir", "train")}
    tiles = find_pairs(tmp_path / "out", "test")
    assert len(tiles) == 32
    for tile in tiles:
        theirs = published[tile.name]
        assert np.array_equal(read_image(tile.before), read_image(theirs.before))
        assert np.array_equal(read_image(tile.after), read_image(theirs.after))
        assert np.array_equal(read_image(tile.label)[..., 0], read_image(theirs.label)[..., 0])

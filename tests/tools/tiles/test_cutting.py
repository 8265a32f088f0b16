"""Tiles: the pixels of their source, named by place, whole or not there, and the same bytes after any stop."""

import csv
import hashlib
import os
import random
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from datasets import raster
from datasets.gdal import encode_tiff
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, find_pairs
from datasets.raster import all_bands, read_image, read_label
from datasets.reading import MASKS, PixelFormat
from datasets.windows import EDGES, Window, plan_windows
from tests.conftest import write_image, write_pairs, write_tiff
from tests.scripts import contents
from tools.tiles import cutting as tiles
from tools.tiles.cutting import TileCutter, Tiling, plan_scenes
from tools.tiles.records import plan_of, refuse_source, start_output, write_manifest
from utils.files import partial_of

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def make_pair(folder, name, size=(64, 64), label=None, suffix=".png"):
    """A pair of random colours; the label defaults to random 0 and 255."""
    (pair,) = write_pairs(folder, [name], size, suffix=suffix, seed=sum(name.encode()))
    if label is not None:
        write_image(pair.label, label)
    return pair


def cut(splits, output, root, tiling, workers=2):
    """The tool without its log."""
    scenes = plan_scenes(splits, tiling, workers)
    known = start_output(output, plan_of(scenes, tiling, root))
    done = [tile for part in TileCutter(output, tiling.tile_size, known).cut(scenes, workers) for tile in part]
    write_manifest(output, done, root)
    return scenes


@pytest.fixture
def splits(tmp_path):
    """Three pairs for each of two splits, in tmp_path/source."""
    names = {split: [f"{split}_{number}" for number in range(3)] for split in ("train", "val")}
    return {s: write_pairs(tmp_path / "source" / s, of, (70, 110), seed=len(s)) for s, of in names.items()}


def test_manifest_is_there_when_it_is_whole(splits, tmp_path):
    (tmp_path / "tiles").mkdir()
    parts = TileCutter(tmp_path / "tiles", 32).cut(plan_scenes(splits, Tiling(32)))

    def tiles_until_the_disk_is_full():
        yield from next(parts)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_manifest(tmp_path / "tiles", tiles_until_the_disk_is_full(), tmp_path / "source")
    assert not [path for path in (tmp_path / "tiles").iterdir() if path.is_file()]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("overlap", [0, 5])
def test_tiles_are_named_by_place_and_hold_the_source(edge, overlap, splits, tmp_path):
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32, overlap, edge))
    windows = plan_windows(70, 110, 32, overlap, edge)
    for split, pairs in splits.items():
        found = find_pairs(tmp_path / "out", split)
        assert [p.name for p in found] == sorted(f"{p.name}_{w.top:04d}_{w.left:04d}" for p in pairs for w in windows)
        for tile in found:
            name, top, left = tile.name.rsplit("_", 2)
            (pair,) = [pair for pair in pairs if pair.name == name]
            (window,) = [w for w in windows if (w.top, w.left) == (int(top), int(left))]
            for role, read in (("before", read_image), ("after", read_image), ("label", read_label)):
                path, origin = getattr(tile, role), getattr(pair, role)
                # padding does not count
                expected = np.full((32, 32), 255, np.uint8) if read is read_label else np.zeros((32, 32, 3), np.uint8)
                expected[: window.height, : window.width] = read(origin, MASKS)[window.slices]
                assert np.array_equal(read(path, MASKS), expected)


def test_manifest_tells_source_window_and_hashes(splits, tmp_path):
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32, edge="pad"))
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 3 * 3 * 4
    row = next(r for r in rows if r["tile"] == "val_1_0064_0096")
    assert [row[k] for k in ("split", "top", "left", "height", "width")] == ["val", "64", "96", "6", "14"]
    assert row["label"] == "val/label/val_1.png"
    for role, folder in (("before", "A"), ("after", "B"), ("label", "label")):
        content = (tmp_path / "out" / "val" / folder / "val_1_0064_0096.png").read_bytes()
        assert row[f"{role}_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("seed", range(4))
def test_stopped_anywhere_the_result_is_the_same_bytes(seed, splits, tmp_path, monkeypatch):
    tiling = Tiling(32, 8)
    cut(splits, tmp_path / "unbroken", tmp_path / "source", tiling)
    left, write = random.Random(seed).randrange(200), tiles.write_whole

    def stops(path, content):
        nonlocal left
        left -= 1
        if left < 0:
            partial_of(path).write_bytes(content[:40])  # what a kill would leave
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(tiles, "write_whole", stops)
    with pytest.raises(KeyboardInterrupt):
        cut(splits, tmp_path / "broken", tmp_path / "source", tiling)
    monkeypatch.setattr(tiles, "write_whole", write)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "broken").rglob("*.png")}
    cut(splits, tmp_path / "broken", tmp_path / "source", tiling)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
    complete = [p for p in kept if all((p.parents[1] / role / p.name) in kept for role in ("A", "B", "label"))]
    assert all(p.stat().st_mtime_ns == kept[p] for p in complete)


def test_threads_do_not_change_a_byte(splits, tmp_path):
    for workers in (1, 5):
        cut(splits, tmp_path / str(workers), tmp_path / "source", Tiling(32), workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


@pytest.mark.parametrize("damage", [b"", b"\x89PNG", None])
def test_a_tile_that_was_damaged_is_cut_again(damage, splits, tmp_path):
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))
    whole = contents(tmp_path / "out")
    victim = tmp_path / "out" / "train" / "B" / "train_1_0032_0000.png"
    other = victim.with_name("train_2_0000_0000.png").read_bytes()  # a sound picture, but not this one
    victim.write_bytes(other if damage is None else damage)
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))
    assert contents(tmp_path / "out") == whole


def test_other_settings_in_the_same_folder_are_refused(splits, tmp_path):
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))
    before = contents(tmp_path / "out")
    says = "tile_size: 32 there, 48 here; overlap: 0 there, 4 here; edge: shift there, pad here"
    with pytest.raises(ValueError, match=f"out: has tiles cut with other settings .{says}.; pass another --output"):
        cut(splits, tmp_path / "out", tmp_path / "source", Tiling(48, 4, "pad"))
    assert contents(tmp_path / "out") == before


def test_other_sources_in_the_same_folder_are_refused(splits, tmp_path):
    """Other files, a file laid beside an image, and a file that changed."""
    cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))
    with pytest.raises(ValueError, match=r"has tiles of other files.*first val/A/val_0\.png.*pass another --output"):
        cut({"train": splits["train"]}, tmp_path / "out", tmp_path / "source", Tiling(32))
    root = tmp_path / "source"
    os.utime(root / "val" / "A", ns=(1, 1))  # a listing of the folder as old as the images would be taken for new
    (root / "val" / "A" / "val_0.png.aux.xml").write_text("<PAMDataset/>")
    with pytest.raises(ValueError, match=r"files changed since \(first val/A/val_0\.png\.aux\.xml"):
        cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))
    make_pair(root / "train", "train_2", (90, 110))
    with pytest.raises(ValueError, match=r"files changed since \(first train/A/train_2\.png"):
        cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))


def test_a_folder_of_something_else_is_refused(splits, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out: has files, but no tiles\.json.*new folder"):
        cut(splits, tmp_path / "out", tmp_path / "source", Tiling(32))


@pytest.mark.parametrize("place", ["data", "data/tiles", ".", "data/train/A/x", "link/tiles"])
def test_the_source_is_never_written_to(place, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    with pytest.raises(ValueError, match=r"pass another folder as --output"):
        refuse_source(tmp_path / place, [tmp_path / "data"])
    refuse_source(tmp_path / "data-256", [tmp_path / "data"])
    refuse_source(tmp_path / "tiles", [tmp_path / "before.tif"])


def test_images_smaller_than_a_tile(tmp_path, caplog):
    pairs = {"train": [make_pair(tmp_path, "small", (20, 64)), make_pair(tmp_path, "large")]}
    with pytest.raises(ValueError, match=r"small\.png: 20 x 64 pixels hold no tile of 32; use --edge pad"):
        plan_scenes(pairs, Tiling(32))
    assert [len(s.windows) for s in plan_scenes(pairs, Tiling(32, edge="pad"))] == [2, 4]
    assert [len(s.windows) for s in plan_scenes(pairs, Tiling(32, edge="drop"))] == [0, 4]
    assert "1 images hold no tile of 32 and are left out" in caplog.text
    with pytest.raises(ValueError, match="no image holds a tile of 128"):
        plan_scenes(pairs, Tiling(128, edge="drop"))


LABELS = np.random.default_rng(0)
CODED = {  # a tile that holds 0 and 1 alone keeps both where 1 is change and 255 unknown
    "0, 1": LABELS.choice(np.uint8([0, 1]), (64, 64)),
    "1, 2": LABELS.choice(np.uint8([1, 2]), (64, 64)),
    "few 1 beside 255": np.kron(np.uint8([[0, 0], [0, 255]]), np.ones((32, 32), np.uint8)),
}
CODED["few 1 beside 255"][3, 3:9] = 1


def label_tiles(pair, root, output):
    """Window and label of each tile of 32 that a pair of 64 x 64 is cut into."""
    (scene,) = cut({"train": [pair]}, output, root, Tiling(32))
    return [(window, output / scene.tile_files(window)["label"]) for window in plan_windows(64, 64, 32)]


@pytest.mark.parametrize("kind", CODED)
def test_labels_stay_as_coded(kind, tmp_path):
    label = CODED[kind]
    for window, path in label_tiles(make_pair(tmp_path / "in", "a", label=label), tmp_path / "in", tmp_path / "out"):
        with Image.open(path) as tile:
            assert tile.mode == "L"
            assert np.array_equal(np.array(tile), label[window.slices])


def test_pairs_without_labels(tmp_path):
    pair = make_pair(tmp_path / "in", "a")
    cut({"test": [Pair("a", pair.before, pair.after)]}, tmp_path / "out", tmp_path / "in", Tiling(32))
    assert sorted(p.name for p in (tmp_path / "out" / "test").iterdir()) == ["A", "B"]
    assert len(find_pairs(tmp_path / "out", "test", labels=False)) == 4


def test_large_tiffs_by_windows_give_the_same_tiles(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    pairs = {"train": [make_pair(tmp_path / "in", "a", (150, 230), suffix=".tif")]}
    cut(pairs, tmp_path / "whole", tmp_path / "in", Tiling(32, 3, "pad"))
    monkeypatch.setattr(raster, "AT_ONCE", 1000)
    monkeypatch.setattr(tiles, "IN_FLIGHT", 2 * 32 * 100)
    (scene,) = cut(pairs, tmp_path / "windows", tmp_path / "in", Tiling(32, 3, "pad"))
    assert scene.random_access
    assert contents(tmp_path / "whole") == contents(tmp_path / "windows")


def test_memory_does_not_grow_with_a_large_tiff(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    shape = {"width": 4096, "height": 4096, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "sparse_ok": True}
    for name in ("before", "after"):  # 50 MB each, once decoded
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **shape, **blocks) as dataset:
            dataset.write(np.full((3, 256, 256), 200, np.uint8), window=rasterio.windows.Window(512, 256, 256, 256))
    monkeypatch.setattr(tiles, "IN_FLIGHT", 2**20)
    pairs = {"train": [Pair("large", tmp_path / "before.tif", tmp_path / "after.tif")]}
    tracemalloc.start()
    try:
        cut(pairs, tmp_path / "out", tmp_path, Tiling(512), workers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6
    changed = read_image(tmp_path / "out" / "train" / "B" / "large_0000_0512.png")
    assert (changed[256:, :256] == 200).all()
    assert int(changed.sum()) == 3 * 256 * 256 * 200


def test_deep_images_keep_bands_and_values(tmp_path):
    """Cut to TIFF, nothing scaled: put together, the tiles are the image."""
    values = np.random.default_rng(0).integers(0, 65536, (96, 64, 5)).astype(np.uint16)
    for role in ("before", "after"):
        (tmp_path / f"{role}.tif").write_bytes(encode_tiff(values))
    pairs = {"train": [Pair("x", tmp_path / "before.tif", tmp_path / "after.tif")]}
    scenes = plan_scenes(pairs, Tiling(32))
    tiles = [tile for part in TileCutter(tmp_path / "out", 32).cut(scenes) for tile in part]
    assert len(tiles) == 6
    whole = np.zeros_like(values)
    for tile in tiles:
        path = tmp_path / "out" / tile.scene.tile_files(tile.window)["after"]
        assert path.suffix == ".tif"
        whole[tile.window.slices] = read_image(path, all_bands(path))
    assert np.array_equal(whole, values)


SHAPE = 40, 56
LEVELS = np.random.default_rng(0).integers(60, 120, (*SHAPE, 3))
GAP = np.zeros(SHAPE, bool)
GAP[15:30, 20:45] = True


def gappy(kind, fill=None, bands=(0, 1, 2), alpha=None):
    """Pixels of a type whose gap holds a fill value in these bands, or is transparent in a fourth one."""
    pixels = LEVELS.astype(kind)
    for band in bands:
        pixels[GAP, band] = LEVELS[GAP, band] if fill is None else fill
    return pixels if alpha is None else np.dstack([pixels, (~GAP * alpha).astype(kind)])


GAPPY = {
    "8 bits, 7": (gappy("uint8", 7), {"nodata": 7}, (1, 2, 3), ~GAP),
    "8 bits, alpha": (gappy("uint8", alpha=255), {"photometric": "rgb", "alpha": "YES"}, (1, 2, 3), ~GAP),
    "16 bits, alpha": (gappy("uint16", alpha=65535), {"photometric": "rgb", "alpha": "YES"}, (1, 2, 3), ~GAP),
    "16 bits, alpha of 8": (gappy("uint16", alpha=255), {"photometric": "rgb", "alpha": "YES"}, (1, 2, 3), ~GAP),
    "float, alpha": (gappy("float32", alpha=255), {"photometric": "rgb", "alpha": "YES"}, (1, 2, 3), ~GAP),
    "NaN in one band": (gappy("float32", np.nan, (1,)), {}, (1, 2, 3), ~GAP),
    "NaN in a band that is not read": (gappy("float32", np.nan, (1,)), {}, (1, 3), GAP | True),
    "-9999 in a band that is not read": (gappy("int16", -9999, (1,)), {"nodata": -9999}, (3, 1), GAP | True),
    "infinity beside a tag": (gappy("float32", np.inf), {"nodata": -9999}, (1, 2, 3), ~GAP),
    "infrared tagged as alpha": (
        np.dstack([LEVELS, LEVELS[..., 0]]).astype(np.uint8), {"photometric": "rgb", "alpha": "YES"}, (4, 1),
        GAP | True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GAPPY)
@pytest.mark.parametrize("aside", [0, 1, 0.5])
def test_tiles_are_read_as_the_whole_is(kind, aside, tmp_path):
    """Also of a later date that lies some pixels aside; padding is unknown."""
    if "not read" in kind and aside == 0.5:
        pytest.skip("an interpolated tile has one mask for all bands")
    pixels, profile, bands, known = GAPPY[kind]
    before = write_tiff(tmp_path / "before.tif", pixels, metres=1, **profile)
    source = Pair("x", before, write_tiff(tmp_path / "after.tif", pixels, left=aside, metres=1, **profile))
    reading = PixelFormat(bands, ((0, 255),) * len(bands), 255)
    with OpenPair(source, reading) as pair:
        whole = Window(0, 0, *pair.size)
        seen = pair.known(whole)
        seen = np.ones(SHAPE, bool) if seen is None else seen
        dates = pair.read(whole)
    if not aside:
        assert np.array_equal(seen, known)
    (scene,) = cut({"test": [source]}, tmp_path / "out", tmp_path, Tiling(32, edge="pad"))
    for window in scene.windows:
        files = scene.tile_files(window)
        with OpenPair(Pair("t", *(tmp_path / "out" / files[role] for role in ("before", "after"))), reading) as tile:
            found, its_known = tile.read(Window(0, 0, 32, 32)), tile.known(Window(0, 0, 32, 32))
        expected = np.zeros((32, 32), bool)
        expected[: window.height, : window.width] = seen[window.slices]
        assert np.array_equal(np.ones((32, 32), bool) if its_known is None else its_known, expected)
        for date, part in zip(dates, found, strict=True):
            inside = part[: window.height, : window.width]
            some = seen[window.slices]
            assert np.array_equal(inside[some], date[window.slices][some])


def test_a_tile_without_colours_among_tiles_of_a_coloured_label(tmp_path):
    label = np.zeros((64, 64, 3), np.uint8)
    label[40:60, 40:60] = 255, 0, 0
    red = PixelFormat(change_value="#ff0000", named=True)
    for window, path in label_tiles(make_pair(tmp_path / "in", "a", label=label), tmp_path / "in", tmp_path / "out"):
        assert np.array_equal(read_label(path, red), label[window.slices][..., 0] // 255)


def test_a_label_of_which_0_is_white_keeps_its_nodata(tmp_path):
    """Where 0 is white and no data, black is data."""
    codes = np.random.default_rng(0).choice(np.array([0, 100, 255], np.uint8), (64, 64))
    image, white = read_image(make_pair(tmp_path / "in", "a").before), {"nodata": 0, "photometric": "miniswhite"}
    dates = [write_tiff(tmp_path / f"{role}.tif", image, photometric="rgb") for role in ("before", "after")]
    pair = Pair("a", *dates, write_tiff(tmp_path / "label.tif", codes, **white))
    expected = np.select([codes == 0, codes == 255], [255, 1], 0)
    for window, path in label_tiles(pair, tmp_path, tmp_path / "out"):
        assert np.array_equal(read_label(path, PixelFormat(change_value=0, named=True)), expected[window.slices])

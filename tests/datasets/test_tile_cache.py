"""Cached samples are the samples of the files; a cache that no longer fits is made anew."""

import os
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from datasets import tile_cache
from datasets.change_pairs import ChangePairs
from datasets.open_pair import read_pair
from datasets.pairs import find_pairs
from datasets.pfbs import PFBSSampler
from datasets.reading import MASKS, PixelFormat
from datasets.tile_cache import HEADER, open_cache
from datasets.transforms import build_augmentation
from tests.scripts import files_end_at


def same(cache, pairs, reading=MASKS):
    return all(
        np.array_equal(ours, theirs)
        for pair in pairs
        for ours, theirs in zip(cache(pair), read_pair(pair, reading), strict=True)
    )


@pytest.mark.parametrize(
    "reading", [MASKS, PixelFormat((3, 1), ((20, 200), (0, 255)), 255), PixelFormat((2,), (), 255)]
)
def test_gives_what_the_files_give(reading, data, tmp_path, monkeypatch):
    """With a label and without; a second time without decoding."""
    if reading.bands:
        pytest.importorskip("rasterio")
    first, *rest = find_pairs(data, "train")
    pairs, path = [replace(first, label=None), *rest], tmp_path / "cache" / "train.tiles"
    cache = open_cache(path, pairs, reading)
    assert same(cache, pairs, reading)
    assert same(pickle.loads(pickle.dumps(cache)), pairs[::-1], reading)
    assert (cache(pairs[0])[2] == 255).all()
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setattr(tile_cache, "read_pair", None)
    assert same(open_cache(path, pairs, reading), pairs, reading)


def test_a_cached_loader_gives_the_same_batches(data, tmp_path):
    """Bit by bit, under augmentation."""
    pairs = find_pairs(data, "train")
    cache = open_cache(tmp_path / "train.tiles", pairs, MASKS)

    def batches(cached):
        augmentation = build_augmentation("open-cd", crop_size=32, time_swap=True)
        sampler = BatchSampler(PFBSSampler([1] * len(pairs), seed=1), 4, drop_last=True)
        return list(DataLoader(ChangePairs(pairs, augmentation, MASKS, cached), None, sampler=sampler))

    for ours, theirs in zip(batches(cache), batches(None), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ("before", "after", "mask"))
        assert ours["name"] == theirs["name"]


def touch(data):
    os.utime(data / "train" / "B" / "scene_0003.png", ns=(1, 1))


def replace_image(data):
    """Other pixels in as many bytes, at the same time, are not noticed; in other bytes they are."""
    path = data / "train" / "A" / "scene_0003.png"
    before = path.stat()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def remove_a_pair(data):
    for path in (data / "train").rglob("scene_0003.png"):
        path.unlink()


def rename_a_pair(data):
    for path in list((data / "train").rglob("scene_0003.png")):
        path.rename(path.with_name("scene_0099.png"))


@pytest.mark.parametrize("change", [touch, replace_image, remove_a_pair, rename_a_pair, PixelFormat(change_value=0)])
def test_changed_images_are_read_anew(change, data, tmp_path, caplog):
    path, reading = tmp_path / "train.tiles", change if isinstance(change, PixelFormat) else MASKS
    open_cache(path, find_pairs(data, "train"), MASKS)
    if reading is MASKS:
        change(data)
    pairs = find_pairs(data, "train")
    assert same(open_cache(path, pairs, reading), pairs, reading)
    assert "train.tiles: its images, or how they are read, have changed; made anew" in caplog.text


@pytest.mark.parametrize("torn", [lambda b: b[:-1], lambda b: b[:100], lambda b: b"", lambda b: bytes(len(b))])
def test_torn_files_are_made_anew(torn, data, tmp_path, caplog):
    pairs, path = find_pairs(data, "train"), tmp_path / "train.tiles"
    open_cache(path, pairs, MASKS)
    path.write_bytes(torn(path.read_bytes()))
    assert same(open_cache(path, pairs, MASKS), pairs)
    assert "train.tiles: torn; made anew" in caplog.text


def test_nothing_is_left_of_one_that_failed(data, tmp_path):
    pairs, path = find_pairs(data, "train"), tmp_path / "cache" / "train.tiles"
    pairs[7].after.write_bytes(pairs[7].after.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"scene_0007\.png: damaged or unreadable"):
        open_cache(path, pairs, MASKS)
    assert not list(path.parent.iterdir())


def test_what_a_killed_fill_left_is_removed_and_one_that_goes_on_is_not(data, tmp_path):
    pairs, path = find_pairs(data, "train"), tmp_path / "train.tiles"
    left, of_another, going_on = (tmp_path / f".{name}.partial" for name in ("train.killed", "val.killed", "train.now"))
    for file in (left, of_another, going_on):
        file.write_bytes(b"half")
    for file in (left, of_another):
        os.utime(file, (1, 1))
    open_cache(path, pairs, MASKS)
    assert {path for path in tmp_path.iterdir() if path.is_file()} == {of_another, going_on, path}


def test_two_processes_may_fill_at_once(data, tmp_path, monkeypatch):
    """Another one fills and ends in the middle of ours: both caches are whole, and nothing else is left."""
    pairs, path, read = find_pairs(data, "train"), tmp_path / "cache" / "train.tiles", tile_cache.read_pair
    others = []

    def while_another_fills(pair, reading):
        if pair is pairs[6] and not others:
            others.append(None)
            others[0] = open_cache(path, pairs, MASKS)
            assert same(others[0], pairs)
        return read(pair, reading)

    monkeypatch.setattr(tile_cache, "read_pair", while_another_fills)
    assert same(open_cache(path, pairs, MASKS), pairs)
    assert same(others[0], pairs)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_names_the_cache(data, tmp_path):
    path = tmp_path / "cache" / "train.tiles"
    with files_end_at(100_000), pytest.raises(OSError, match="too large") as raised:
        open_cache(path, find_pairs(data, "train"), MASKS)
    assert raised.value.filename == str(path)
    assert not list(path.parent.iterdir())


def test_one_size_only(data, tmp_path):
    for path in (data / "train").rglob("scene_0004.png"):
        Image.open(path).resize((32, 64)).save(path)
    with pytest.raises(ValueError, match=r"scene_0004\.png: 64 x 32 pixels among tiles of 64 x 64; .*leave it out"):
        open_cache(tmp_path / "cache" / "train.tiles", find_pairs(data, "train"), MASKS)
    assert not (tmp_path / "cache").exists()


def test_says_how_much_space_it_needs(data, tmp_path, monkeypatch):
    pairs = find_pairs(data, "train")
    bytes_ = HEADER + 12 * 64 * 64 * 7
    monkeypatch.setattr(tile_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=bytes_ - 1))
    with pytest.raises(ValueError, match=r"train\.tiles: decoded, these tiles take 0\.0 GB, and 0\.0 GB are free"):
        open_cache(tmp_path / "train.tiles", pairs, MASKS)
    monkeypatch.setattr(tile_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=bytes_))
    assert open_cache(tmp_path / "train.tiles", pairs, MASKS).path.stat().st_size == bytes_


def test_a_file_that_another_run_replaced_is_not_read(data, tmp_path):
    """Two data sets in one --cache: the first run must not go on with the second one's tiles."""
    path = tmp_path / "train.tiles"
    train, val = (find_pairs(data, split) for split in ("train", "val"))
    mine = open_cache(path, train, MASKS)
    open_cache(path, val, MASKS)
    with pytest.raises(ValueError, match="changed by another run"):
        mine(train[0])


def test_what_is_written_into_a_sample_stays_out_of_the_file(data, tmp_path):
    pairs, path = find_pairs(data, "train"), tmp_path / "train.tiles"
    open_cache(path, pairs, MASKS)(pairs[0])[0][:] = 7
    assert same(open_cache(path, pairs, MASKS), pairs)


def test_a_mask_laid_beside_an_image_makes_it_anew(data, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pairs = find_pairs(data, "train")
    open_cache(tmp_path / "train.tiles", pairs, MASKS)
    os.utime(pairs[0].after.parent, ns=(1, 1))  # a listing of the folder as old as the images would be taken for new
    with rasterio.open(pairs[0].after, "r+") as dataset:
        dataset.write_mask(np.zeros((64, 64), np.uint8))
    cache = open_cache(tmp_path / "train.tiles", pairs, MASKS)
    assert (cache(pairs[0])[2] == 255).all()
    assert same(cache, pairs)

"""Pairs are read by windows: the pixels of the files, on one grid, and which are unknown."""

import re

import numpy as np
import pytest
from PIL import Image

from datasets import gdal
from datasets.open_pair import OpenPair, read_pair
from datasets.pairs import Pair, find_pairs
from datasets.reading import MASKS, PixelFormat
from datasets.windows import Window, plan_windows
from tests.conftest import write_image, write_tiff


@pytest.fixture(scope="module")
def rasterio():
    return pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def scene():
    """A smooth picture of 160 x 200 pixels, so that interpolation has something to interpolate."""
    rows, columns = np.mgrid[0:160, 0:200]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((9, 13), (17, 7), (11, 23))]
    return (np.stack(waves, -1) * 50 + 127).astype(np.uint8)


def whole(pair):
    return Window(0, 0, *pair.size)


@pytest.mark.parametrize("name", ["tiles", "bmp"])
def test_windows_hold_the_pixels_of_the_files(name, drawn_set, tmp_path):
    (first, *_) = find_pairs(drawn_set, "test")
    if name == "bmp":
        files = {role: tmp_path / f"{role}.bmp" for role in ("before", "after", "label")}
        for role, path in files.items():
            Image.open(getattr(first, role)).save(path)
        first = Pair("scene", **files)
    before, after, mask = read_pair(first, MASKS)
    with OpenPair(first, MASKS) as pair:
        assert (pair.size, pair.grid, pair.aligned, pair.labelled) == ((64, 64), None, False, True)
        for window in plan_windows(64, 64, 24, 5):
            for read, expected in zip((*pair.read(window), pair.mask(window)), (before, after, mask), strict=True):
                assert np.array_equal(read, expected[window.slices])
            assert np.array_equal(pair.picture(window), after[window.slices])
            assert pair.known(window) is None


def test_both_dates_are_0_where_one_is_unknown(rasterio, scene, tmp_path):
    """A date alone would look changed to a network."""
    known = np.ones((160, 200), bool)
    known[40:90, 60:100] = False
    before = write_tiff(tmp_path / "before.tif", scene, mask=known)
    after = write_tiff(tmp_path / "after.tif", scene)
    with OpenPair(Pair("scene", before, after)) as pair:
        for date in pair.read(whole(pair)):
            assert np.array_equal(date, np.where(known[..., None], scene, 0))
        assert np.array_equal(pair.picture(whole(pair)), scene)


def test_dates_that_are_offset_are_read_on_the_grid_of_the_earlier(rasterio, scene, tmp_path):
    """By whole pixels: the same values; the label, on a third grid, keeps its codes."""
    before = write_tiff(tmp_path / "before.tif", scene[20:120, 30:150], 60, 40)
    after = write_tiff(tmp_path / "after.tif", scene)
    codes = np.zeros((160, 200), np.uint8)
    codes[50:90, 60:100] = 255
    label = write_tiff(tmp_path / "label.tif", codes[10:130, 25:160], 50, 20)
    with OpenPair(Pair("scene", before, after, label), MASKS) as pair:
        assert (pair.size, pair.aligned) == ((100, 120), True)
        for window in plan_windows(100, 120, 48, 8):
            inside = Window(window.top + 20, window.left + 30, window.height, window.width).slices
            first, second = pair.read(window)
            assert np.array_equal(first, scene[inside])
            assert np.array_equal(second, scene[inside])
            assert np.array_equal(pair.mask(window), codes[inside] // 255)
            assert pair.known(window) is None


@pytest.mark.parametrize("size_of_a_pixel", [1.0, 4.0])
def test_another_resolution_is_interpolated(rasterio, scene, tmp_path, size_of_a_pixel):
    height, width = scene.shape[:2]
    factor = size_of_a_pixel / 2
    resized = Image.fromarray(scene).resize((round(width / factor), round(height / factor)), Image.Resampling.BOX)
    before = write_tiff(tmp_path / "before.tif", scene)
    after = write_tiff(tmp_path / "after.tif", np.array(resized), 0, 0, size_of_a_pixel)
    with OpenPair(Pair("scene", before, after), MASKS) as pair:
        first, second = (date.astype(int) for date in pair.read(whole(pair)))
    middle = (slice(4, -4), slice(4, -4))
    error, aside = (np.abs(first - other)[middle].mean() for other in (second, np.roll(second, 1, axis=1)))
    assert error < 1
    assert aside > 3 * error  # so a pixel aside would be seen


def test_another_reference_system_is_brought_over(rasterio, scene, tmp_path):
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    before = write_tiff(tmp_path / "before.tif", scene)
    with rasterio.open(before) as source:
        place, width, height = calculate_default_transform(source.crs, "EPSG:4326", *scene.shape[1::-1], *source.bounds)
        warped = np.zeros((3, height, width), np.uint8)
        reproject(
            source.read(), warped, src_transform=source.transform, src_crs=source.crs, dst_transform=place,
            dst_crs="EPSG:4326", resampling=Resampling.bilinear,
        )  # fmt: skip
    after = write_tiff(tmp_path / "after.tif", warped.transpose(1, 2, 0), crs="EPSG:4326", transform=place)
    with OpenPair(Pair("scene", before, after), MASKS) as pair:
        first, second = (date.astype(int) for date in pair.read(whole(pair)))
        assert pair.grid.size == (160, 200)
    assert np.abs(first - second)[8:-8, 8:-8].mean() < 4


def test_what_one_date_does_not_cover_is_unknown(rasterio, scene, tmp_path):
    before = write_tiff(tmp_path / "before.tif", scene)
    after = write_tiff(tmp_path / "after.tif", scene[30:, 50:], 100, 60)
    label = write_tiff(tmp_path / "label.tif", np.full((160, 200), 255, np.uint8))
    with OpenPair(Pair("scene", before, after, label), MASKS) as pair:
        assert pair.known(Window(50, 60, 1, 100)).all()  # before the windows with gaps
        known, mask = pair.known(whole(pair)), pair.mask(whole(pair))
    expected = np.zeros((160, 200), bool)
    expected[30:, 50:] = True
    assert np.array_equal(known, expected)
    assert np.array_equal(mask, np.where(expected, 1, 255))


def test_no_data_is_unknown(rasterio, scene, tmp_path):
    """Of both dates; a pixel that is 0 in one band only is data."""
    first, second = (scene.astype(np.uint16).clip(1) for _ in range(2))
    first[:40, :30] = 0
    second[100:, 150:] = 0
    second[0:20, 100:, 1] = 0
    before = write_tiff(tmp_path / "before.tif", first, nodata=0)
    after = write_tiff(tmp_path / "after.tif", second, nodata=0)
    with OpenPair(Pair("scene", before, after), PixelFormat((1, 2, 3), ((0.0, 255.0),) * 3)) as pair:
        assert not pair.aligned
        known = pair.known(whole(pair))
    expected = np.ones((160, 200), bool)
    expected[:40, :30] = expected[100:, 150:] = False
    assert np.array_equal(known, expected)


def test_a_fourth_band_that_is_read_is_no_transparency(rasterio, scene, tmp_path, caplog):
    """Programs tag any fourth band as alpha; what holds other values than 0 and the most is none."""
    where = scene[..., 0] > 100
    black = scene * where[..., None]
    plain, unlike = "", "band 4 is tagged as alpha, but has other values than transparency, so it hides no pixel"
    coloured = "tagged as alpha, so pixels where it is 0 are no data; .* remove the tag: gdal_edit.py -colorinterp_4"
    cases = (
        (scene, scene[..., 0] // 2, PixelFormat((4, 1, 2)), False, plain),
        (scene, scene[..., 0] // 2, MASKS, False, unlike),
        (scene, where * 90, MASKS, False, unlike),  # flat near infrared, and water
        (scene, where * 255, MASKS, True, coloured),
        (black, where * 255, MASKS, True, plain),
        (scene, where * 255, PixelFormat((4,)), False, plain),
    )
    for number, (colours, fourth, reading, gaps, says) in enumerate(cases):
        path, bands = tmp_path / str(number) / "four.tif", np.dstack([colours, fourth.astype(np.uint8)])
        write_tiff(path, bands, photometric="RGB", alpha="YES")
        caplog.clear()
        for _ in "ab":  # told once
            with OpenPair(Pair("scene", path, path), reading) as pair:
                known = pair.known(whole(pair))
        assert np.array_equal(known, where) if gaps else known is None
        assert [bool(re.search(says, message)) for message in caplog.messages] == [True] * bool(says)


def test_places_apart_and_sizes_apart_are_errors(rasterio, scene, tmp_path):
    from rasterio.transform import Affine

    before, far = write_tiff(tmp_path / "before.tif", scene), write_tiff(tmp_path / "far.tif", scene, 9000)
    with pytest.raises(ValueError, match=r"far.tif: does not overlap the earlier image"):
        OpenPair(Pair("scene", before, far), MASKS)
    site = write_tiff(tmp_path / "site.tif", scene, crs='LOCAL_CS["site", UNIT["metre", 1]]', transform=Affine.scale(2))
    with pytest.raises(ValueError, match=r"site.tif: its coordinate reference system .* cannot be converted"):
        OpenPair(Pair("scene", before, site), MASKS)
    half, placeless = write_image(tmp_path / "half.png", scene[:, :100]), write_image(tmp_path / "whole.png", scene)
    with pytest.raises(ValueError, match=r"half.png: 160 x 100 pixels, but .*before.tif has 160 x 200"):
        OpenPair(Pair("scene", before, half), MASKS)
    with OpenPair(Pair("scene", before, placeless), MASKS) as pair:
        assert not pair.aligned
    with pytest.raises(FileNotFoundError):
        OpenPair(Pair("scene", before, tmp_path / "nowhere.png"), MASKS)


def test_a_geotiff_without_rasterio_names_what_to_install(rasterio, scene, tmp_path, monkeypatch):
    path, plain = write_tiff(tmp_path / "before.tif", scene), write_image(tmp_path / "plain.tif", scene)
    monkeypatch.setattr(gdal, "installed", lambda: None)
    with pytest.raises(ValueError, match=r"before.tif: needs rasterio, which reads where .*: .*requirements-geo.txt"):
        OpenPair(Pair("scene", path, path), MASKS)
    with OpenPair(Pair("scene", plain, plain), MASKS) as pair:
        assert pair.grid is None


def test_beirut(rasterio, real_data):
    files = [real_data / "oscd_beirut" / f"{name}.tif" for name in ("before", "after", "label")]
    reading = PixelFormat((1, 2, 3), ((0.0, 4000.0),) * 3, change_value=2)
    with OpenPair(Pair("beirut", *files), reading) as pair, rasterio.open(files[0]) as source:
        assert pair.size == source.shape == (1180, 1070)
        assert pair.grid.transform == tuple(source.transform)[:6]
        window = Window(300, 200, 256, 256)
        values = source.read(window=rasterio.windows.Window(200, 300, 256, 256)).transpose(1, 2, 0)
        assert np.array_equal(pair.read(window)[0], reading.scaled(values))
        assert set(np.unique(pair.mask(whole(pair)))) == {0, 1}


@pytest.mark.parametrize("name", ["b.wld", "b.WLD", "b.webpw"])
def test_a_world_file_that_gdal_does_not_read_is_named(name, rasterio, scene, tmp_path):
    for stem in "ab":
        write_image(tmp_path / f"{stem}.webp", scene, lossless=True)
    (tmp_path / name).write_text("2\n0\n0\n-2\n500009\n3999999\n")
    with pytest.raises(ValueError, match=rf"b\.webp: the world file {name} beside it cannot be read"):
        OpenPair(Pair("scene", tmp_path / "a.webp", tmp_path / "b.webp"), MASKS)
    (tmp_path / name).write_bytes(b"\0\x05\x16\x07junk")  # only the name of a world file
    with OpenPair(Pair("scene", tmp_path / "a.webp", tmp_path / "b.webp"), MASKS) as pair:
        assert pair.grid is None
        assert np.array_equal(pair.read(whole(pair))[1], scene)

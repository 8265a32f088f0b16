"""Reads one image or label, or raises one clear error that names the file."""

import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets import file_errors, gdal, raster
from datasets.label_codes import decide_alone
from datasets.raster import WindowedImage, read_image, read_label
from datasets.reading import COLOUR, MASKS, PLAIN, PixelFormat
from datasets.windows import Window
from tests.conftest import write_image, write_tiff

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
MASK = np.zeros((20, 30), np.uint8)
MASK[4:12, 5:20] = 1
SHAPE = 90, 130
AREAS = [Window(0, 0, *SHAPE), Window(64, 100, 26, 30), Window(10, 3, 1, 64)]


def noise(*bands):
    return np.random.default_rng(len(bands) + sum(bands)).integers(0, 256, (*SHAPE, *bands), np.uint8)


RGB, GREY = noise(3), noise()


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


@pytest.fixture
def large(rasterio, monkeypatch):
    """Make rasterio read every file."""
    monkeypatch.setattr(raster, "AT_ONCE", 0)
    monkeypatch.setattr(raster, "PILLOW_LIMIT", 0)


def content_of(path, label, reading=PLAIN):
    with WindowedImage(path, reading, label) as image:
        values, known = image.content(Window(0, 0, *image.size))
        return values, np.ones(values.shape[:2], bool) if known is None else known, image.nodata


def converted(path, pixels, mode):
    Image.fromarray(pixels).convert(mode).save(path)


def indexed(path, indices, *colours, **options):
    image = Image.fromarray(indices).convert("P")
    image.putpalette([*np.ravel(colours), *[0] * (768 - 3 * len(colours))])
    image.save(path, **options)


LABELS = {
    "0 and 1": lambda p: write_image(p, MASK),
    "0 and 255": lambda p: write_image(p, MASK * 255),
    "RGB": lambda p: converted(p, MASK * 255, "RGB"),
    "RGBA": lambda p: converted(p, MASK * 255, "RGBA"),
    "grey and alpha": lambda p: converted(p, MASK * 255, "LA"),
    "one bit": lambda p: converted(p, MASK * 255, "1"),
    "palette": lambda p: indexed(p, MASK, (0, 0, 0), (255, 255, 255)),
}


@pytest.mark.parametrize("coding", LABELS)
def test_every_label_coding_reads_the_same(coding, tmp_path):
    path = tmp_path / "label.png"
    LABELS[coding](path)
    label = read_label(path, decide_alone([path], PLAIN))
    assert label.dtype == np.uint8
    assert np.array_equal(label, MASK)


def test_grey_jpeg_label_is_cut_at_128(tmp_path):
    mask = np.kron(MASK, np.ones((8, 8), np.uint8))  # whole JPEG blocks, noise only at edges
    noisy = np.clip(mask * 255 + np.random.default_rng(0).integers(-9, 10, mask.shape), 0, 255).astype(np.uint8)
    path = write_image(tmp_path / "label.jpg", noisy, quality=95)
    with pytest.raises(ValueError, match=r"1 label of values 0: .*more than two; pass .*--change-from 128"):
        decide_alone([path], PLAIN)
    assert np.array_equal(read_label(path, PixelFormat(change_from=128)), mask)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("bands", [1, 3])
def test_images_are_rgb_of_their_size(suffix, bands, tmp_path):
    pixels = np.full((20, 30, bands), (200, 100, 50)[:bands], np.uint8)
    read = read_image(write_image(tmp_path / f"image.{suffix}", pixels.squeeze()))
    assert (read.dtype, read.shape) == (np.uint8, (20, 30, 3))
    assert np.abs(read.astype(int) - pixels).max() <= (4 if suffix == "jpg" else 0)


def deep_rgb_png(path):
    """A 16-bit RGB PNG, which Pillow reads and cannot write: 4 x 4 pixels of value 1500."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">12H", *[1500] * 12) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


DEEP = {
    "grey.png": lambda p: write_image(p, np.full((8, 8), 40_000, np.uint16)),
    "RGB.png": deep_rgb_png,
    "grey.tif": lambda p: write_image(p, np.full((8, 8), 40_000, np.uint16)),
    "float.tif": lambda p: write_image(p, np.ones((8, 8), np.float32)),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_eight_bits_are_refused_not_cut(name, tmp_path):
    DEEP[name](tmp_path / name)
    for read in (read_image, *([partial(read_label, reading=MASKS)] if "RGB" in name else [])):
        with pytest.raises(ValueError, match=rf"{name}.*8-bit (grey|colours)"):
            read(tmp_path / name)


def test_a_huge_image_is_refused_whole(tmp_path, monkeypatch):
    path = write_image(tmp_path / "huge.png", RGB)
    monkeypatch.setattr(file_errors, "PILLOW_LIMIT", 200)
    with pytest.raises(ValueError, match=r"huge\.png: too many pixels.*cut the image into tiles"):
        read_image(path)


@pytest.mark.parametrize("limit", [(raster, "PILLOW_LIMIT"), (Image, "MAX_IMAGE_PIXELS")])
def test_too_large_without_rasterio_names_what_to_install(limit, tmp_path, monkeypatch):
    path = write_image(tmp_path / "huge.tif", RGB)
    monkeypatch.setattr(gdal, "installed", lambda: None)
    monkeypatch.setattr(*limit, 100)
    with pytest.raises(ValueError, match=r"huge\.tif: more than .* pixels .*pip install -r requirements-geo\.txt"):
        WindowedImage(path)


def test_large_and_unsuitable_is_refused(tmp_path, monkeypatch, rasterio):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # so that Pillow does not even return the mode
    with pytest.raises(ValueError, match=r"deep\.tif: has 1 band of uint16, .*--scale NUMBER"):
        WindowedImage(write_image(tmp_path / "deep.tif", GREY.astype(np.uint16)))


def test_large_and_cut_short_is_named(tmp_path, large):
    path = write_tiff(tmp_path / "short.tif", np.zeros((256, 256), np.uint8))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"short\.tif: damaged.*replace"), WindowedImage(path) as image:
        image.read(Window(0, 0, 256, 256))


def grey_tiff(path, pixels, **profile):
    return write_tiff(path, pixels, crs=None, transform=None, **profile)


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def xmp(orientation):
    content = PngImagePlugin.PngInfo()
    content.add_itxt("XML:com.adobe.xmp", f'<rdf:Description tiff:Orientation="{orientation}"/>')
    return content


KINDS = {
    "RGB.png": lambda p: write_image(p, RGB),
    "RGB.tif": lambda p: write_image(p, RGB),
    "RGBA.tif": lambda p: write_image(p, noise(4)),
    "grey.tif": lambda p: write_image(p, GREY),
    "grey and alpha.tif": lambda p: write_image(p, noise(2)),
    "palette.tif": lambda p: Image.fromarray(RGB).quantize(200).save(p),
    "one bit.tif": lambda p: converted(p, GREY, "1"),
    "one bit.png": lambda p: converted(p, GREY, "1"),
    "one bit.bmp": lambda p: converted(p, GREY, "1"),
    "one bit, white is 0.tif": lambda p: grey_tiff(p, GREY % 2, nbits=1, photometric="miniswhite"),
    "two colours.png": lambda p: indexed(p, GREY % 2, (255, 0, 0), (0, 0, 255), bits=1),
    "transparent level.png": lambda p: write_image(p, GREY, transparency=7),
    "16 bits, transparent level.png": lambda p: write_image(p, GREY.astype(np.uint16), transparency=7),
    "signed.tif": lambda p: grey_tiff(p, GREY.view(np.int8)),
    "colour.jpg": lambda p: write_image(p, RGB),
    "turned.jpg": lambda p: write_image(p, RGB, exif=turned(6)),
    "turned by XMP.png": lambda p: write_image(p, RGB, pnginfo=xmp(6)),
    "JPEG inside.tif": lambda p: write_image(p, RGB, compression="jpeg"),
    "turned grey.tif": lambda p: write_image(p, GREY, tiffinfo={274: 6}),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", ["image", "label", "indices"])
def test_rasterio_reads_what_pillow_reads(name, how, tmp_path, request, rasterio):
    path, label = tmp_path / name, how != "image"
    KINDS[name](path)
    reading = PixelFormat(change_value=1, named=True) if how == "indices" else PLAIN
    if not label and name.startswith(("16", "signed")):
        with pytest.raises(ValueError, match="pass --scale NUMBER"):
            content_of(path, label, reading)
        return
    small, small_known, small_nodata = content_of(path, label, reading)
    request.getfixturevalue("large")
    values, known, nodata = content_of(path, label, reading)
    assert values.dtype == small.dtype
    assert np.array_equal(values, small)
    assert np.array_equal(known, small_known)
    assert nodata == small_nodata or not label
    with WindowedImage(path, reading, label) as image:
        assert image.random_access == name.endswith("tif")
        inside = [area for area in AREAS if not name.startswith("turned")]
        assert all(np.array_equal(image.content(area)[0], small[area.slices]) for area in inside)


def test_a_turned_grey_tiff_is_turned(tmp_path):
    path = write_image(tmp_path / "turned.tif", GREY, tiffinfo={274: 6})
    assert np.array_equal(content_of(path, True)[0], np.rot90(GREY, -1))


def test_bands_of_a_jpeg_are_red_green_and_blue(tmp_path, rasterio):
    path = write_image(tmp_path / "image.jpg", RGB, exif=turned(3))
    assert np.array_equal(read_image(path, PixelFormat((3, 1))), read_image(path)[..., [2, 0]])
    converted(tmp_path / "cmyk.jpg", RGB, "CMYK")
    with pytest.raises(ValueError, match=r"cmyk\.jpg: colours are CMYK"):
        read_image(tmp_path / "cmyk.jpg", PixelFormat((1, 2, 3)))


def test_nodata_that_no_pixel_can_have_hides_none(tmp_path, rasterio):
    """-9999 cut to 8 bits would be 241."""
    path = write_image(tmp_path / "image.png", GREY)
    band = '<PAMRasterBand band="1"><NoDataValue>{}</NoDataValue></PAMRasterBand>'
    for value, hidden in (("-9999", None), ("7.5", None), ("241", 241)):
        (tmp_path / "image.png.aux.xml").write_text(f"<PAMDataset>{band.format(value)}</PAMDataset>")
        _, known, nodata = content_of(path, True)
        assert np.array_equal(known, GREY != 241 if hidden else np.ones(SHAPE, bool))
        assert nodata == hidden


def test_nodata_is_given_as_the_values_are(tmp_path, rasterio):
    white = grey_tiff(tmp_path / "white.tif", GREY, photometric="miniswhite", nodata=0)
    values, known, nodata = content_of(white, True)
    assert (values[~known] == nodata).all()
    assert nodata == 255
    assert np.array_equal(values, 255 - GREY)
    colours = grey_tiff(tmp_path / "colours.tif", GREY % 2, photometric="palette", nodata=1)
    with rasterio.open(colours, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    assert content_of(colours, True)[2] == COLOUR + 0xFF0000
    assert content_of(colours, True, PixelFormat(change_value=1, named=True))[2] == 1
    assert content_of(colours, False)[2] is None

"""One image or label read, or one clear error that names the file."""

import io
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets import gdal, raster
from datasets.label_counts import decide_alone
from datasets.raster import PLAIN, WindowedImage, image_size, read_image, read_label, read_label_values
from datasets.reading import COLOUR, MASKS, Reading
from datasets.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

MASK = np.zeros((20, 30), np.uint8)
MASK[4:12, 5:20] = 1


def write(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def palette(path):
    image = Image.fromarray(MASK).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255] + [0] * 750)
    image.save(path)


LABELS = {
    "0 and 1": lambda p: write(p, MASK),
    "0 and 255": lambda p: write(p, MASK * 255),
    "RGB": lambda p: write(p, np.repeat(MASK[..., None] * 255, 3, axis=2)),
    "RGBA": lambda p: write(p, np.dstack([MASK * 255] * 3 + [np.full_like(MASK, 255)])),
    "grey and alpha": lambda p: Image.fromarray(np.dstack([MASK * 255, np.full_like(MASK, 255)])).save(p),
    "one bit": lambda p: Image.fromarray(MASK * 255).convert("1").save(p),
    "palette": palette,
}


@pytest.mark.parametrize("coding", LABELS)
def test_every_label_coding_reads_the_same(coding, tmp_path):
    LABELS[coding](tmp_path / "label.png")
    path = tmp_path / "label.png"
    label = read_label(path, decide_alone([path], PLAIN))
    assert label.dtype == np.uint8
    assert np.array_equal(label, MASK)


def test_grey_jpeg_label_is_cut_at_128(tmp_path):
    mask = np.kron(MASK, np.ones((8, 8), np.uint8))  # whole JPEG blocks, noise only at edges
    noisy = np.clip(mask * 255 + np.random.default_rng(0).integers(-9, 10, mask.shape), 0, 255).astype(np.uint8)
    write(tmp_path / "label.jpg", noisy, quality=95)
    assert len(np.unique(np.array(Image.open(tmp_path / "label.jpg")))) > 2
    with pytest.raises(ValueError, match=r"1 label of values 0: .*more than two; pass .*--change-from 128"):
        decide_alone([tmp_path / "label.jpg"], PLAIN)
    assert np.array_equal(read_label(tmp_path / "label.jpg", Reading(change_from=128)), mask)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_images_are_rgb_of_their_size(suffix, tmp_path):
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    path = write(tmp_path / f"image.{suffix}", pixels)
    assert image_size(path) == (20, 30)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - pixels).max() <= (4 if suffix == "jpg" else 0)


def test_grey_image_is_repeated(tmp_path):
    assert np.array_equal(read_image(write(tmp_path / "a.png", MASK * 90)), np.repeat(MASK[..., None] * 90, 3, axis=2))


def damaged(kind):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    data = stream.getvalue()
    return {"truncated": data[: len(data) // 2], "empty": b"", "text": b"no image", "cut header": data[:20]}[kind]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "cut header"])
def test_damaged_files_are_named(kind, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(damaged(kind))
    with pytest.raises(ValueError, match=r"broken\.png: .*replace the file"):
        read_image(path)


def deep_rgb_png(path):
    """A 16-bit RGB PNG, which Pillow reads and cannot write: 4 x 4 pixels of value 1500."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">12H", *[1500] * 12) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


DEEP = {
    "grey PNG": ("deep.png", lambda p: write(p, np.full((8, 8), 40_000, np.uint16))),
    "RGB PNG": ("deep.png", deep_rgb_png),
    "grey TIFF": ("deep.tif", lambda p: write(p, np.full((8, 8), 40_000, np.uint16))),
    "float TIFF": ("deep.tif", lambda p: write(p, np.ones((8, 8), np.float32))),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_eight_bits_are_refused_not_cut(kind, tmp_path):
    name, make = DEEP[kind]
    make(tmp_path / name)
    for read in (read_image, image_size, *([partial(read_label, reading=MASKS)] if "RGB" in kind else [])):
        with pytest.raises(ValueError, match=rf"{name}.*8-bit (grey|colours)"):
            read(tmp_path / name)


def test_real_sixteen_bit_image_is_refused(real_data):
    with pytest.raises(ValueError, match=r"before\.tif: .*8-bit"):
        read_image(real_data / "oscd_beirut" / "before.tif")


def test_huge_declared_size_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "huge.png", MASK)
    monkeypatch.setattr(raster, "PILLOW_LIMIT", 200)
    with pytest.raises(ValueError, match=r"huge\.png: too many pixels.*cut the image into tiles"):
        read_image(path)


FILES = {
    "RGB": np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8),
    "RGBA": np.random.default_rng(1).integers(0, 256, (90, 130, 4), np.uint8),
    "grey": np.random.default_rng(2).integers(0, 256, (90, 130), np.uint8),
    "grey and alpha": np.random.default_rng(3).integers(0, 256, (90, 130, 2), np.uint8),
}
AREAS = [Window(0, 0, 90, 130), Window(64, 100, 26, 30), Window(10, 3, 1, 64), Window(0, 0, 90, 130)]


def as_tiff(kind, path):
    if kind == "palette":
        image = Image.fromarray(FILES["RGB"]).quantize(200)
    elif kind == "one bit":
        image = Image.fromarray(FILES["grey"]).convert("1")
    else:
        image = Image.fromarray(FILES[kind])
    image.save(path)
    return path


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("grey", [False, True])
def test_windows_are_parts_of_the_whole(suffix, grey, tmp_path):
    path = write(tmp_path / f"image.{suffix}", FILES["RGB"])
    whole = read_label_values(path) if grey else read_image(path)
    with WindowedImage(path, label=grey) as image:
        assert image.size == (90, 130)
        assert not image.random_access
        for area in AREAS:
            assert np.array_equal(image.read(area), whole[area.slices])


@pytest.mark.parametrize("kind", [*FILES, "palette", "one bit"])
def test_both_readers_give_the_same_pixels(kind, tmp_path, monkeypatch, rasterio):
    path = as_tiff(kind, tmp_path / "image.tif")
    monkeypatch.setattr(raster, "AT_ONCE", 100)
    with WindowedImage(path) as image, WindowedImage(path, label=True) as grey:
        assert image.random_access
        assert image.size == grey.size == (90, 130)
        for area in AREAS:
            assert np.array_equal(image.read(area), read_image(path)[area.slices])
            difference = grey.read(area).astype(int) - read_label_values(path)[area.slices]
            assert np.abs(difference).max() <= (1 if kind == "palette" else 0)  # Pillow rounds a palette's grey down


def test_large_png_is_read_by_rasterio_from_top_to_bottom(tmp_path, monkeypatch, rasterio):
    path = write(tmp_path / "image.png", FILES["RGB"])
    monkeypatch.setattr(raster, "PILLOW_LIMIT", 100)
    with WindowedImage(path) as image:
        assert not image.random_access
        assert all(np.array_equal(image.read(area), FILES["RGB"][area.slices]) for area in AREAS)


@pytest.mark.parametrize("limit", ["ours", "Pillow's"])
def test_too_large_without_rasterio_names_what_to_install(limit, tmp_path, monkeypatch):
    path = write(tmp_path / "huge.tif", FILES["RGB"])
    monkeypatch.setattr(gdal, "installed", lambda: None)
    monkeypatch.setattr(*((raster, "PILLOW_LIMIT", 100) if limit == "ours" else (Image, "MAX_IMAGE_PIXELS", 100)))
    with pytest.raises(ValueError, match=r"huge\.tif: more than .* pixels .*pip install -r requirements-geo\.txt"):
        WindowedImage(path)


def test_large_and_unsuitable_is_refused(tmp_path, monkeypatch, rasterio):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # so that Pillow does not even tell the mode
    with pytest.raises(ValueError, match=r"deep\.tif: has 1 band of uint16, .*--scale NUMBER"):
        WindowedImage(write(tmp_path / "deep.tif", np.full((90, 130), 40_000, np.uint16)))


def test_large_and_cut_short_is_named(tmp_path, monkeypatch, rasterio):
    monkeypatch.setattr(raster, "AT_ONCE", 100)
    path = tmp_path / "short.tif"
    with rasterio.open(path, "w", driver="GTiff", width=256, height=256, count=1, dtype="uint8") as dataset:
        dataset.write(np.zeros((1, 256, 256), np.uint8))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"short\.tif: damaged.*replace"), WindowedImage(path) as image:
        image.read(Window(0, 0, 256, 256))


def grey_tiff(path, pixels, **profile):
    import rasterio

    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=height, width=width, dtype=pixels.dtype, **profile
    ) as dataset:  # fmt: skip
        dataset.write(pixels, 1)
    return path


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def xmp(orientation):
    content = PngImagePlugin.PngInfo()
    content.add_itxt("XML:com.adobe.xmp", f'<rdf:Description tiff:Orientation="{orientation}"/>')
    return content


def one_bit_palette(path):
    image = Image.fromarray(FILES["grey"] % 2).convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    image.save(path, bits=1)


ODD = {
    "one bit.png": lambda p: Image.fromarray(FILES["grey"] > 99).save(p),
    "one bit.bmp": lambda p: Image.fromarray(FILES["grey"] > 99).save(p),
    "one bit, white is 0.tif": lambda p: grey_tiff(p, FILES["grey"] % 2, nbits=1, photometric="miniswhite"),
    "two colours.png": one_bit_palette,
    "transparent level.png": lambda p: write(p, FILES["grey"], transparency=7),
    "16 bits, transparent level.png": lambda p: write(p, FILES["grey"].astype(np.uint16), transparency=7),
    "signed.tif": lambda p: grey_tiff(p, FILES["grey"].view(np.int8)),
    "colour.jpg": lambda p: write(p, FILES["RGB"]),
    "turned.jpg": lambda p: write(p, FILES["RGB"], exif=turned(6)),
    "turned by XMP.png": lambda p: write(p, FILES["RGB"], pnginfo=xmp(6)),
    "JPEG inside.tif": lambda p: write(p, FILES["RGB"], compression="jpeg"),
    "turned grey.tif": lambda p: write(p, FILES["grey"], tiffinfo={274: 6}),
}


def content_of(path, label, reading):
    with WindowedImage(path, reading, label) as image:
        values, known = image.content(Window(0, 0, *image.size))
        return values, np.ones(values.shape[:2], bool) if known is None else known, image.nodata


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("how", ["image", "label", "indices"])
def test_large_files_have_the_pixels_of_small_ones(name, how, tmp_path, monkeypatch, rasterio):
    path = tmp_path / name
    ODD[name](path)
    reading = Reading(change_value=1, named=True) if how == "indices" else PLAIN
    if how == "image" and name.startswith(("16", "signed")):
        with pytest.raises(ValueError, match="pass --scale NUMBER"):
            content_of(path, False, reading)
        return
    small, known, nodata = content_of(path, how != "image", reading)
    monkeypatch.setattr(raster, "AT_ONCE", 0)
    monkeypatch.setattr(raster, "PILLOW_LIMIT", 0)
    large, large_known, large_nodata = content_of(path, how != "image", reading)
    assert np.array_equal(large, small)
    assert np.array_equal(large_known, known)
    assert how == "image" or large_nodata == nodata
    assert large.dtype == small.dtype


def test_a_turned_grey_tiff_is_turned(tmp_path):
    path = write(tmp_path / "turned.tif", FILES["grey"], tiffinfo={274: 6})
    assert np.array_equal(read_label_values(path), np.rot90(FILES["grey"], -1))


def test_bands_of_a_jpeg_are_red_green_and_blue(tmp_path, rasterio):
    path = write(tmp_path / "image.jpg", FILES["RGB"], exif=turned(3))
    assert np.array_equal(read_image(path, Reading((3, 1))), read_image(path)[..., [2, 0]])
    Image.fromarray(FILES["RGB"]).convert("CMYK").save(tmp_path / "cmyk.jpg")
    with pytest.raises(ValueError, match=r"cmyk\.jpg: colours are CMYK"):
        read_image(tmp_path / "cmyk.jpg", Reading((1, 2, 3)))


def test_nodata_that_no_pixel_can_have_hides_none(tmp_path, rasterio):
    """-9999 cut to 8 bits would be 241."""
    path = write(tmp_path / "image.png", FILES["grey"])
    band = '<PAMRasterBand band="1"><NoDataValue>{}</NoDataValue></PAMRasterBand>'
    for value, hidden in (("-9999", None), ("7.5", None), ("241", 241)):
        (tmp_path / "image.png.aux.xml").write_text(f"<PAMDataset>{band.format(value)}</PAMDataset>")
        _, known, nodata = content_of(path, True, PLAIN)
        assert np.array_equal(known, FILES["grey"] != 241 if hidden else np.ones((90, 130), bool))
        assert nodata == hidden


def test_nodata_is_given_as_the_values_are(tmp_path, rasterio):
    white = grey_tiff(tmp_path / "white.tif", FILES["grey"], photometric="miniswhite", nodata=0)
    values, known, nodata = content_of(white, True, PLAIN)
    assert (values[~known] == nodata).all()
    assert nodata == 255
    assert np.array_equal(values, 255 - FILES["grey"])
    colours = grey_tiff(tmp_path / "colours.tif", FILES["grey"] % 2, photometric="palette", nodata=1)
    with rasterio.open(colours, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    assert content_of(colours, True, PLAIN)[2] == COLOUR + 0xFF0000
    assert content_of(colours, True, Reading(change_value=1, named=True))[2] == 1
    assert content_of(colours, False, PLAIN)[2] is None

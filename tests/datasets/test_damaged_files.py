"""Damaged files are read, or named in one clear error; nothing crashes, hangs or fills the memory.

They are read in another process, whose end and memory can be observed. DAMAGED_FILES sets how many files are damaged
at random, by default a number that takes two seconds.
"""

import os
import random
import struct
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import ImageFile

from datasets import file_errors, gdal, raster
from datasets.pairs import Pair
from datasets.raster import WindowedImage, read_image, read_label
from datasets.reading import MASKS, PixelFormat
from datasets.windows import Window
from tests.conftest import write_image, write_tiff
from tests.scripts import forkserver
from tools.doctor.pair_facts import read_facts
from tools.tiles.cutting import TileCutter, Tiling, plan_scenes

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
COUNT = int(os.environ.get("DAMAGED_FILES", "200"))
RGB = np.kron(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
GREY, DEEP = RGB[..., 0], RGB.astype(np.uint16) * 200
PILLOW = {  # name: image, options of saving
    "rgb.png": (RGB, {}),
    "grey.png": (GREY, {}),
    "deep.png": (DEEP[..., 0], {}),
    "rgb.jpg": (RGB, {}),
    "progressive.jpg": (RGB, {"progressive": True}),
    "grey.jpg": (GREY, {}),
    "rgb.bmp": (RGB, {}),
    "grey.bmp": (GREY, {}),
    "raw.tif": (RGB, {}),
    "lzw.tif": (RGB, {"compression": "tiff_lzw"}),
    "packed.tif": (GREY, {"compression": "packbits"}),
    "jpeg.tif": (RGB, {"compression": "jpeg"}),
    "deep.tif": (DEEP[..., 0], {}),
}
TILES = {"tiled": True, "blockxsize": 16, "blockysize": 16}
GDAL = {
    "tiled.tif": (RGB, TILES),
    "deflate.tif": (RGB, {**TILES, "compress": "deflate", "predictor": 2}),
    "deep_tiles.tif": (DEEP, {**TILES, "compress": "lzw"}),
    "jpeg_tiles.tif": (RGB, {**TILES, "compress": "jpeg"}),
    "bands.tif": (RGB, {"interleave": "band"}),
    "big.tif": (RGB, {"BIGTIFF": "YES"}),
}
HUGE = [(60_000, 60_000), (13_000, 13_000), (60_000, 2_000), (65_500, 65_500), (2**31 - 1, 2**31 - 1)]


def whole_files(folder):
    """Every kind of file, undamaged, by name: its bytes."""
    paths = [write_image(folder / "made" / name, pixels, **options) for name, (pixels, options) in PILLOW.items()]
    for name, (pixels, options) in GDAL.items() if gdal.installed() else ():
        paths.append(write_tiff(folder / "made" / name, pixels, crs=None, transform=None, **options))
    return {path.name: path.read_bytes() for path in paths}


def flip_bits(draw, data):
    reach = draw.choice([100, len(data)])  # headers are small and matter most
    for _ in range(draw.choice([1, 1, 3, 20])):
        data[draw.randrange(min(reach, len(data)))] ^= 1 << draw.randrange(8)


def cut(draw, data):
    del data[draw.randrange(len(data)) :]


def take_out(draw, data):
    start = draw.randrange(len(data))
    del data[start : start + draw.randrange(1, 100)]


def repeat(draw, data):
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.randrange(1, 100)]


def zero(draw, data):
    start = draw.randrange(len(data))
    part = data[start : start + draw.choice([1, 4, 30, 1000])]
    data[start : start + len(part)] = bytes(len(part))


def append(draw, data):
    data += draw.randbytes(draw.choice([1, 100, 5000]))


def empty(draw, data):
    data.clear()


def nothing(draw, data):
    """With another suffix, this is damage too."""


DAMAGES = [flip_bits, flip_bits, flip_bits, cut, cut, take_out, repeat, zero, append, empty, nothing]


def declare(data, suffix, height, width):
    """Change the size in a file's header, and nothing else."""
    data = bytearray(data)
    if suffix == "png":
        header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    elif suffix == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif suffix == "jpg":
        start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
        data[start : start + 4] = struct.pack(">HH", min(height, 65_535), min(width, 65_535))
    elif data[2] == 42:  # TIFF: width, height, and all rows in one strip
        directory = struct.unpack("<I", data[4:8])[0]
        for place in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
            tag = struct.unpack_from("<H", data, place)[0]
            if tag in (256, 257, 278):
                struct.pack_into("<HII", data, place + 2, 4, 1, width if tag == 256 else height)
    return data


def read_windows(path, limit):
    limits = patch.multiple(raster, AT_ONCE=min(limit, raster.AT_ONCE), PILLOW_LIMIT=limit)
    with limits, WindowedImage(path) as image, WindowedImage(path, label=True) as label:
        height, width = image.size
        for window in (
            Window(0, 0, min(height, 64), min(width, 64)),
            Window(max(0, height - 9), max(0, width - 9), min(9, height), min(9, width)),
        ):
            assert image.read(window).shape == (window.height, window.width, 3)
            assert label.read(window).shape == (window.height, window.width)
    return height, width


READERS = {
    "read_image": lambda path: read_image(path).shape[:2],
    "read_label": lambda path: read_label(path, MASKS).shape,
    "windows": lambda path: read_windows(path, raster.PILLOW_LIMIT),
    "windows through rasterio": lambda path: read_windows(path, 50),  # if it is installed
}


def faults(path):
    """Return what is wrong with how this file is read, if anything."""
    sizes = {}
    for name, read in READERS.items():
        try:
            sizes[name] = read(path)
        except Exception as error:
            named = str(path) in str(error) or getattr(error, "filename", None) == str(path)
            if not (isinstance(error, ValueError | OSError) and named) or "\n" in str(error):
                yield f"{name}: {type(error).__name__}: {error}"
    if len(set(sizes.values())) > 1:
        yield f"sizes differ: {sizes}"
    facts = read_facts("x", {"before": path, "label": path}, PixelFormat(change_from=128))
    if ("read_image" in sizes) == any(f.kind == "unreadable" and f.where == str(path) for f in facts.findings):
        yield f"doctor: {facts}"


def cutter_faults(path, partner, output):
    try:
        scenes = plan_scenes({"train": [Pair("x", path, partner)]}, Tiling(16, 0, "pad"), 1)
        if sum(map(len, TileCutter(output, 16).cut(scenes, 1))) != len(scenes[0].windows):
            yield "cutter: tiles are missing"
    except Exception as error:
        if not (isinstance(error, ValueError | OSError) and str(path) in str(error)):
            yield f"cutter: {type(error).__name__}: {error}"


def peak():
    """Return the most memory this process ever held, in MiB, if the system has it (getrusage inherits its value)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), 0)


def damaged_at_random(files, count):
    """Yield files, each damaged by a seed of its own."""
    for seed in range(count):
        draw = random.Random(seed)
        name, damage = draw.choice(sorted(files)), draw.choice(DAMAGES)
        content = bytearray(files[name])
        damage(draw, content)
        suffix = draw.choice(["bmp", "jpg", "png", "tif"]) if damage is nothing else name[-3:]
        yield f"seed {seed}, {damage.__name__} of {name}", f"damaged.{suffix}", content


def of_huge_size(files, count):
    """Yield files that declare far more pixels than they have."""
    for name, content in files.items():
        for height, width in HUGE[:count]:
            yield f"{name} of {height} x {width}", f"huge_{name}", declare(content, name[-3:], height, width)


def read_all(folder, made, count):
    """Read damaged files: return what went wrong, and the memory it took."""
    warnings.simplefilter("ignore")
    files, found, before = whole_files(folder), [], peak()
    (folder / "partner.png").write_bytes(files["rgb.png"])
    for number, (what, name, content) in enumerate(made(files, count)):
        path = folder / name
        path.write_bytes(content)
        found += [f"{what}: {fault}" for fault in faults(path)]
        if made is damaged_at_random:
            tiled = cutter_faults(path, folder / "partner.png", folder / f"tiles_{number}")
            found += [f"{what}: {fault}" for fault in tiled]
    return found, peak() - before


def test_whole_files_are_read_or_refused(tmp_path):
    """The files that are damaged below are sound."""
    for name in whole_files(tmp_path):
        path = tmp_path / "made" / name
        if name.startswith("deep"):
            with pytest.raises(ValueError, match=rf"{name}: .*8-bit"):
                read_image(path)
        else:
            assert read_image(path).shape == RGB.shape
            assert list(faults(path)) == []


def test_damaged_files_are_read_or_named(tmp_path):
    """A process that dies or never ends is an error here."""
    with ProcessPoolExecutor(1, mp_context=forkserver()) as pool:
        for made, count, most in ((of_huge_size, len(HUGE), 700), (damaged_at_random, COUNT, 2000)):
            found, memory = pool.submit(read_all, tmp_path, made, count).result(timeout=100 + COUNT)
            assert found == []
            assert memory < most  # MiB: libjpeg's, of a progressive JPEG


@pytest.mark.parametrize(
    "error", [MemoryError(), struct.error("short"), ZeroDivisionError(), zlib.error(), KeyError(3)]
)
def test_whatever_a_parser_raises_names_the_file(error, tmp_path, monkeypatch):
    def fail(*args):
        raise error

    path = write_image(tmp_path / "odd.png", RGB)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for read in (read_image, partial(read_label, reading=MASKS)):
        with pytest.raises(ValueError, match=r"odd\.png: .*(replace the file|cut the image into tiles)"):
            read(path)


def test_missing_data_of_a_large_jpeg_is_no_grey(tmp_path, monkeypatch):
    """GDAL would continue with grey pixels and a warning that nobody sees."""
    pytest.importorskip("rasterio")
    path = write_image(tmp_path / "short.jpg", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    path.write_bytes(declare(path.read_bytes(), "jpg", 640, 64))
    for module in (raster, file_errors):
        monkeypatch.setattr(module, "PILLOW_LIMIT", 100)
    with WindowedImage(path) as image, pytest.raises(ValueError, match=r"short\.jpg: damaged"):
        image.read(Window(576, 0, 64, 64))

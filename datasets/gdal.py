"""What Pillow cannot read goes through rasterio, which is optional; whatever is wrong with a file, its name is said."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.tiling import Window

PILLOW_LIMIT = 2**26  # pixels decoded at once where windows cannot be read: 8192 x 8192, 0.2 GB as RGB
BLOCK_LIMIT = 2**26  # pixels of one stored block, which GDAL decodes whole, however small the window
CACHE = 64 * 2**20  # bytes of decoded blocks, of all open files together; GDAL would take 5 % of the machine's memory
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # raised at a header with very many pixels
GDAL = {"GDAL_CACHEMAX": CACHE, "GDAL_ERROR_ON_LIBJPEG_WARNING": True}  # else missing JPEG data would read as grey
GEO = "pip install -r requirements-geo.txt"


class Unsuitable(ValueError):
    """A file that is whole, but not of a kind that is read here."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Whatever Pillow or GDAL make of a damaged file becomes one clear ValueError."""
    try:
        yield
    except (FileNotFoundError, PermissionError, Unsuitable):
        raise
    except UnidentifiedImageError as error:
        kinds = "8-bit PNG, JPEG, BMP, TIFF"
        raise ValueError(f"{path}: no image that can be read here ({kinds}); convert or replace the file") from error
    except (*BOMBS, MemoryError) as error:
        raise ValueError(f"{path}: too many pixels to open at once; cut the image into tiles") from error
    except Exception as error:  # parsers of damaged bytes raise nearly anything
        raise ValueError(f"{path}: damaged or unreadable ({error}); replace the file") from error


@cache
def installed() -> ModuleType | None:
    """The optional reader, if it is installed."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError:
        return None
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # most public sets have no georeference
    return rasterio


def open_dataset(path: Path) -> Any:
    """Open a file of any kind that GDAL knows; the caller closes it.

    Raises:
        ValueError: damaged, stored in blocks too large to read by windows, or rasterio is not installed.
    """
    rasterio = installed()
    if rasterio is None:
        raise ValueError(
            f"{path}: more than {PILLOW_LIMIT:,} pixels or 8-bit RGB can only be read with rasterio: {GEO}"
        )
    with named(path), rasterio.Env(**GDAL):
        dataset = rasterio.open(path)
        rows, columns = dataset.block_shapes[0]
        if rows * columns > BLOCK_LIMIT:
            dataset.close()
            raise Unsuitable(f"{path}: stored in blocks of {rows} x {columns} pixels; store it in tiles (TILED=YES)")
        return dataset


def read_bands(dataset: Any, path: Path, window: Window, bands: Sequence[int]) -> np.ndarray:
    """A window of some bands of an open rasterio dataset, (bands, h, w), in the file's own type."""
    rasterio = installed()
    assert rasterio is not None
    part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
    with named(path), rasterio.Env(**GDAL):
        return dataset.read(list(bands), window=part)


def encode_tiff(values: np.ndarray) -> bytes:
    """Values of all bands, any type (H, W, bands), as a compressed TIFF."""
    rasterio = installed()
    assert rasterio is not None
    height, width, count = values.shape
    shape = {"height": height, "width": width, "count": count, "dtype": values.dtype}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", compress="deflate", photometric="minisblack", **shape) as dataset:
            dataset.write(values.transpose(2, 0, 1))
        return memory.read()

"""Opens one image or label; every unreadable or unsuitable file is a ValueError that names it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.tiling import Window

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # 8 bits or less a channel
AT_ONCE = 2**22  # pixels that are always decoded at once: 2048 x 2048
PILLOW_LIMIT = 2**26  # pixels decoded at once where windows cannot be read: 8192 x 8192, 0.2 GB as RGB
CACHE_MB = 64  # of decoded blocks, for all open files together; GDAL would take 5 % of the machine's memory
COLOURS = ("gray", "red", "palette", "undefined")  # of a first band that is grey, RGB or an index


class _Unsuitable(ValueError):
    """A file that is whole, but not of a kind that is read here."""


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its pixels not yet read; whatever Pillow raises meanwhile becomes one clear ValueError."""
    try:
        with Image.open(path) as image:
            # Pillow calls 16-bit RGB files "RGB" too, and would keep each value's high byte
            if image.mode not in MODES or ";16" in str(image.tile):
                raise _Unsuitable(
                    f"{path}: pixels are not 8-bit grey or RGB (mode {image.mode}); convert the file first"
                )
            yield image
    except (FileNotFoundError, PermissionError, _Unsuitable):
        raise
    except UnidentifiedImageError as error:
        kinds = "8-bit PNG, JPEG, BMP, TIFF"
        raise ValueError(f"{path}: no image that can be read here ({kinds}); convert or replace the file") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels to open at once; cut the image into tiles") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: damaged or unreadable ({error}); replace the file") from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header."""
    with _opened(path) as image:
        return image.height, image.width


def load_image(path: Path) -> Image.Image:
    """Decode an image as the file has it, grey, RGB, palette or with transparency; errors as `read_image`."""
    with _opened(path) as image:
        image.load()
        return image


def read_image(path: Path) -> np.ndarray:
    """Read an image as RGB, uint8 (H, W, 3); grey is repeated, transparency dropped.

    Raises:
        ValueError: damaged, truncated, or more than 8 bits a channel.
    """
    with _opened(path) as image:
        return np.array(image.convert("RGB"))


def read_label_values(path: Path) -> np.ndarray:
    """Read a label as it is coded, reduced to one grey channel, uint8 (H, W)."""
    with _opened(path) as image:
        return np.array(image.convert("L"))


def read_label(path: Path) -> np.ndarray:
    """Read a label as a mask, uint8 (H, W): 0 unchanged, 1 changed.

    Whatever the coding: where no value exceeds 1, changed is > 0; otherwise it is >= 128, which also serves
    0/255, grey edges and the noise of JPEG.
    """
    return binarise(read_label_values(path))


def binarise(values: np.ndarray) -> np.ndarray:
    """Label values -> 0 / 1, uint8, by the rule of `read_label`."""
    return (values > (0 if values.max(initial=0) <= 1 else 127)).astype(np.uint8)


class WindowedImage:
    """One image or label, open to read windows of it; a `with` block closes it.

    Up to AT_ONCE pixels Pillow decodes it at the first read. A larger TIFF is read through rasterio, where that is
    installed, and no more of it than a window needs. Other formats have to be decoded from their first line on: up to
    PILLOW_LIMIT by Pillow, at once, and beyond by rasterio, which is fast as long as windows come from top to bottom.

    Attributes:
        size: (height, width).
        random_access: whether windows can be read in any order at the same cost.
    """

    def __init__(self, path: Path, grey: bool = False) -> None:
        """Read the header.

        Args:
            path: the file.
            grey: whether to read one grey channel, as of a label, in place of RGB.

        Raises:
            ValueError: damaged, more than 8 bits a channel, or too large without rasterio.
        """
        self.path, self.grey, self.random_access = path, grey, False
        self._pixels: np.ndarray | None = None
        self._dataset: Any = None
        size, is_tiff = _pillow_size(path), path.suffix.lower() in (".tif", ".tiff")
        limit = AT_ONCE if is_tiff and _rasterio() else PILLOW_LIMIT
        if size and size[0] * size[1] <= limit:
            self.size = size
        else:
            self._dataset, self.random_access = _open_dataset(path), is_tiff
            self.size = self._dataset.height, self._dataset.width

    def __enter__(self) -> "WindowedImage":
        return self

    def __exit__(self, *error: object) -> None:
        if self._dataset is not None:
            self._dataset.close()

    def read(self, window: Window) -> np.ndarray:
        """Read a window, uint8 (h, w, 3), or (h, w) if grey: the pixels of `read_image` and `read_label_values`.

        Raises:
            ValueError: damaged or truncated.
        """
        if self._dataset is not None:
            return _read_dataset(self._dataset, self.path, window, self.grey)
        if self._pixels is None:
            self._pixels = read_label_values(self.path) if self.grey else read_image(self.path)
        return self._pixels[window.slices]


def _pillow_size(path: Path) -> tuple[int, int] | None:
    """(height, width), or None for more pixels than Pillow agrees to open."""
    try:
        return image_size(path)
    except ValueError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            return None
        raise


@cache
def _rasterio() -> ModuleType | None:
    """The optional reader, if it is installed."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError:
        return None
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # most public sets have no georeference
    return rasterio


def _open_dataset(path: Path) -> Any:
    rasterio = _rasterio()
    if rasterio is None:
        raise ValueError(
            f"{path}: more than {PILLOW_LIMIT:,} pixels are not decoded at once; to read them by windows: "
            f"pip install -r requirements-geo.txt"
        )
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            dataset = rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{path}: damaged or unreadable ({error}); replace the file") from error
    if set(dataset.dtypes) != {"uint8"} or dataset.count > 4 or dataset.colorinterp[0].name not in COLOURS:
        dataset.close()
        raise ValueError(
            f"{path}: {dataset.count} bands of {dataset.dtypes[0]} are not 8-bit grey or RGB; convert the file first"
        )
    return dataset


def _read_dataset(dataset: Any, path: Path, window: Window, grey: bool) -> np.ndarray:
    """A window of an open rasterio dataset, in Pillow's colours: uint8 (h, w, 3), or (h, w) if grey."""
    rasterio = _rasterio()
    assert rasterio is not None
    part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            bands = dataset.read([1, 2, 3] if dataset.count > 2 else [1], window=part)
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{path}: damaged or unreadable ({error}); replace the file") from error
    if dataset.colorinterp[0].name == "palette":  # GDAL shows one bit and "min is white" as palettes, too
        colours = dataset.colormap(1)
        bands = np.array([colours.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)[bands[0]].transpose(2, 0, 1)
    if grey and len(bands) == 1:
        return bands[0]
    rgb = np.ascontiguousarray(np.broadcast_to(bands, (3, *bands.shape[1:])).transpose(1, 2, 0))
    return np.array(Image.fromarray(rgb).convert("L")) if grey else rgb

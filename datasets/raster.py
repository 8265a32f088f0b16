"""Opens one image or label; every unreadable or unsuitable file is a ValueError that names it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets import gdal
from datasets.gdal import BOMBS, GDAL, GEO, PILLOW_LIMIT, Unsuitable, named
from datasets.georeference import grid_of, has_gaps, known_pixels, same_grid, seen_on
from datasets.reading import Reading
from utils.tiling import Grid, Window

TIFF = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", *TIFF)
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # 8 bits or less a channel
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I")  # 16 bits, in one channel: taken as labels only
AT_ONCE = 2**22  # pixels that are always decoded at once: 2048 x 2048
COLOURS = ("gray", "red", "palette", "undefined")  # of a first band that is grey, RGB or an index
PLAIN = Reading()
GEO_TAGS = (33550, 33922, 34264)  # of a TIFF that says where it lies


@contextmanager
def _opened(path: Path, label: bool = False, to_decode: bool = True) -> Iterator[Image.Image]:
    """The image, its pixels not yet read."""
    with named(path), Image.open(path) as image:
        deep_label = label and image.mode in DEEP_GREY
        # Pillow calls 16-bit RGB files "RGB" too, and would keep each value's high byte
        if not deep_label and (image.mode not in MODES or ";16" in str(image.tile)):
            raise Unsuitable(
                f"{path}: {'labels' if label else 'pixels'} are not 8-bit grey or RGB (mode {image.mode}); "
                f"{'convert the file first' if label else 'say --scale for deeper images, or convert the file'}"
            )
        if to_decode:
            _refuse_huge(path, image.height, image.width)
        yield image


def _refuse_huge(path: Path, height: int, width: int) -> None:
    if height * width > PILLOW_LIMIT:
        raise Unsuitable(f"{path}: too many pixels to open at once ({height} x {width}); cut the image into tiles")


def image_size(path: Path, reading: Reading = PLAIN, label: bool = False) -> tuple[int, int]:
    """(height, width) from the file's header.

    Raises:
        ValueError: damaged, or not to be read in this way.
    """
    if reading.bands and not label:
        with WindowedImage(path, reading) as windowed:
            return windowed.size
    with _opened(path, label, to_decode=False) as image:
        return image.height, image.width


def load_image(path: Path) -> Image.Image:
    """Decode an image as the file has it, grey, RGB, palette or with transparency; errors as `read_image`."""
    with _opened(path) as image:
        image.load()
        return image


def load_label(path: Path, indices: bool = False) -> Image.Image:
    """Decode a label as one grey channel of 8 bits (mode L).

    Colours become grey and transparency is dropped. Of 16 bits the values stay where none exceeds 255, and are
    divided by 257 otherwise.

    Args:
        path: the file.
        indices: whether a palette's indices are the values, not its colours.

    Raises:
        ValueError: damaged, truncated, or deeper.
    """
    with _opened(path, label=True) as image:
        if image.mode in DEEP_GREY:
            values = np.array(image)
            deep = values.max(initial=0) > 255
            return Image.fromarray((values // 257 if deep else values).clip(0, 255).astype(np.uint8))
        if image.mode == "P" and indices:
            return Image.fromarray(np.array(image))
        image.load()
        return image if image.mode == "L" else image.convert("L")


def read_image(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read an image as uint8 (H, W, channels).

    Without bands to choose that is RGB: grey is repeated, transparency dropped.

    Raises:
        ValueError: damaged, truncated, of fewer bands, or deeper than this reading takes.
    """
    if reading.bands:
        with WindowedImage(path, reading) as image:
            _refuse_huge(path, *image.size)
            return image.read(Window(0, 0, *image.size))
    with _opened(path) as image:
        image.load()
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_label_values(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read a label as it is coded, reduced to one grey channel, uint8 (H, W); see `load_label`."""
    return np.array(load_label(path, indices=reading.change_value is not None))


def read_label(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read a label as a mask, uint8 (H, W): 0 unchanged, 1 changed, 255 ignored; see `Reading.mask`."""
    return reading.mask(read_label_values(path, reading))


def pixel_kind(path: Path) -> tuple[int, str]:
    """Number of bands and type of their values: (3, "uint8") is what Pillow reads as grey or RGB.

    Raises:
        ValueError: damaged, or not to be read without rasterio.
    """
    try:
        with _opened(path, to_decode=False):
            return 3, "uint8"
    except ValueError as error:
        if gdal.installed() is None:
            if isinstance(error, Unsuitable):
                raise ValueError(f"{path}: more bands, or more than 8 bits, are read with rasterio: {GEO}") from error
            raise
        try:
            with closing(gdal.open_dataset(path)) as dataset:
                return dataset.count, dataset.dtypes[0]
        except ValueError:
            raise error from None


def all_bands(path: Path) -> Reading:
    """The reading that loses nothing: plain for 8-bit grey or RGB, otherwise every band with its values."""
    count, kind = pixel_kind(path)
    return PLAIN if (count, kind) == (3, "uint8") else Reading(bands=tuple(range(1, count + 1)))


class WindowedImage:
    """One image or label, open to read windows of it; a `with` block closes it.

    Up to AT_ONCE pixels Pillow decodes it at the first read. A larger TIFF is read through rasterio, where that is
    installed, and no more of it than a window needs. Other formats have to be decoded from their first line on: up to
    PILLOW_LIMIT by Pillow, at once, and beyond by rasterio, which is fast as long as windows come from top to bottom.
    Bands of choice are read by rasterio whatever the size, and so is what has to be seen on another grid.

    Attributes:
        size: (height, width).
        random_access: whether windows can be read in any order at the same cost.
        aligned: whether pixels are resampled onto another grid.
    """

    def __init__(self, path: Path, reading: Reading = PLAIN, grey: bool = False, onto: Grid | None = None) -> None:
        """Read the header.

        Args:
            path: the file.
            reading: how its values become pixels.
            grey: whether to read one grey channel, as of a label; then without bands.
            onto: the grid to see it on, where it has a georeference of its own; images are interpolated, labels not.

        Raises:
            ValueError: damaged, of other bands or depth than `reading` takes, too large or georeferenced without
                rasterio, or elsewhere than `onto`.
        """
        self.path, self.reading, self.grey, self.random_access, self.aligned = path, reading, grey, False, False
        self._pixels: np.ndarray | None = None
        self._dataset: Any = None
        self._place: Any = None
        is_tiff, by_band = path.suffix.lower() in TIFF, bool(reading.bands) and not grey
        size, deep = (None, False) if by_band else _pillow_size(path, grey)
        limit = AT_ONCE if is_tiff and not deep and gdal.installed() else PILLOW_LIMIT
        if size and size[0] * size[1] <= limit:
            self.size = size
        else:
            self._dataset, self.random_access = gdal.open_dataset(path), is_tiff
            self.size = self._dataset.height, self._dataset.width
            self._check_bands(by_band)
        if onto is not None and self.grid is not None and not same_grid(self.grid, onto):
            self._dataset = seen_on(self._placed(), onto, smooth=not grey)
            self.size, self.aligned = onto.size, True

    def _placed(self) -> Any:
        """The dataset that knows where a TIFF lies; None of other formats, and of TIFFs that do not say so."""
        if self._place is None and self.path.suffix.lower() in TIFF:
            if gdal.installed():
                self._place = self._dataset or gdal.open_dataset(self.path)
            elif _has_geo_tags(self.path):
                raise ValueError(f"{self.path}: lies somewhere on earth, which is read with rasterio: {GEO}")
        return self._place

    @property
    def grid(self) -> Grid | None:
        """Where its own pixels lie; None if that is not said.

        Raises:
            ValueError: it is said, but rasterio is not installed.
        """
        return grid_of(place) if (place := self._placed()) else None

    def known(self, window: Window) -> np.ndarray | None:
        """Where a window holds data, bool (h, w); None: everywhere."""
        dataset = self._dataset if self.aligned else self._placed()
        if dataset is None or not has_gaps(dataset, () if self.grey else self.reading.bands):
            return None
        rasterio = gdal.installed()
        assert rasterio is not None
        with named(self.path), rasterio.Env(**GDAL):
            return known_pixels(dataset, window)

    def _check_bands(self, by_band: bool) -> None:
        dataset, problem = self._dataset, ""
        if by_band and max(self.reading.bands) > dataset.count:
            problem = f"{dataset.count} bands, but band {max(self.reading.bands)} is asked for; see --bands"
        elif by_band and not self.reading.limits and len(set(dataset.dtypes)) > 1:
            problem = f"bands of {' and '.join(sorted(set(dataset.dtypes)))}; convert the file to one of them"
        elif not by_band and (
            set(dataset.dtypes) != {"uint8"} or dataset.count > 4 or dataset.colorinterp[0].name not in COLOURS
        ):
            kind = f"{dataset.count} bands of {dataset.dtypes[0]}"
            problem = f"{kind} are not 8-bit grey or RGB; say --bands and --scale, or convert the file first"
        if problem:
            dataset.close()
            raise ValueError(f"{self.path}: {problem}")

    def __enter__(self) -> "WindowedImage":
        return self

    def __exit__(self, *error: object) -> None:
        for dataset in (self._dataset, self._place):
            if dataset is not None:
                dataset.close()

    def read(self, window: Window) -> np.ndarray:
        """Read a window, (h, w, channels), or (h, w) if grey: the pixels of `read_image` and `read_label_values`.

        They are uint8, or for bands without limits of the file's own type.

        Raises:
            ValueError: damaged or truncated.
        """
        if self._dataset is not None:
            return self._read_dataset(window)
        if self._pixels is None:
            self._pixels = read_label_values(self.path, self.reading) if self.grey else read_image(self.path)
        return self._pixels[window.slices]

    def _read_dataset(self, window: Window) -> np.ndarray:
        dataset = self._dataset
        if self.reading.bands and not self.grey:
            values = gdal.read_bands(dataset, self.path, window, self.reading.bands)
            return self.reading.scaled(values.transpose(1, 2, 0))
        bands = gdal.read_bands(dataset, self.path, window, [1, 2, 3] if dataset.count > 2 else [1])
        if dataset.colorinterp[0].name == "palette" and self.reading.change_value is None:
            colours = dataset.colormap(1)  # GDAL shows one bit and "min is white" as palettes, too
            bands = np.array([colours.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)[bands[0]].transpose(2, 0, 1)
        if self.grey and len(bands) == 1:
            return bands[0]
        rgb = np.ascontiguousarray(np.broadcast_to(bands, (3, *bands.shape[1:])).transpose(1, 2, 0))
        return np.array(Image.fromarray(rgb).convert("L")) if self.grey else rgb


def _pillow_size(path: Path, label: bool) -> tuple[tuple[int, int] | None, bool]:
    """(height, width) and whether it has more than 8 bits; None for what Pillow does not open, but rasterio may."""
    try:
        with _opened(path, label, to_decode=False) as image:
            return (image.height, image.width), image.mode in DEEP_GREY
    except ValueError as error:
        bands = isinstance(error.__cause__, UnidentifiedImageError) and path.suffix.lower() in TIFF and gdal.installed()
        if bands or isinstance(error.__cause__, BOMBS):
            return None, False
        raise


def _has_geo_tags(path: Path) -> bool:
    with named(path), Image.open(path) as image:
        return any(tag in getattr(image, "tag_v2", ()) for tag in GEO_TAGS)

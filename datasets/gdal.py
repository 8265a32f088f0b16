"""Reads through rasterio, which is optional, what Pillow cannot; errors name the file."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.reading import colour_codes
from datasets.windows import Grid, Window
from utils.console import UserError

PILLOW_LIMIT = 2**26  # pixels decoded at once where windows cannot be read: 8192 x 8192, 0.2 GB as RGB
BLOCK_LIMIT = 2**26  # pixels of one stored block, which GDAL decodes whole, however small the window
CACHE = 64 * 2**20  # bytes of decoded blocks, of all open files together; GDAL would take 5 % of the machine's memory
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # raised at a header with very many pixels
GDAL = {"GDAL_CACHEMAX": CACHE, "GDAL_ERROR_ON_LIBJPEG_WARNING": True}  # missing JPEG data is an error, not grey pixels
GEO = "pip install -r requirements-geo.txt"
COLOURS = ("gray", "red", "palette", "undefined")  # of a first band that is grey, RGB or an index
OPAQUE = 0.99  # share of 0 and the highest value from which on a TIFF's alpha band is taken for transparency


class Unsuitable(UserError):
    """A file that is whole, but not of a kind that is read here."""


class OtherColours(Unsuitable):
    """A file of colours other than grey or RGB."""

    def __init__(self, path: Path, colours: str) -> None:
        super().__init__(
            f"{path}: colours are {colours}, not RGB; convert the file, for example with Pillow: "
            f"image.convert('RGB').save(path)"
        )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Whatever Pillow or GDAL make of a damaged file becomes one clear ValueError."""
    try:
        yield
    except (FileNotFoundError, PermissionError, Unsuitable):
        raise
    except UnidentifiedImageError as error:
        kinds = "8-bit PNG, JPEG, BMP, TIFF, WebP, JPEG 2000"
        raise UserError(f"{path}: no image that can be read here ({kinds}); convert or replace the file") from error
    except (*BOMBS, MemoryError) as error:
        raise UserError(f"{path}: too many pixels to open at once; cut the image into tiles") from error
    except Exception as error:  # parsers of damaged bytes raise nearly anything
        raise UserError(f"{path}: damaged or unreadable ({error}); replace the file") from error


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
        UserError: damaged, stored in blocks too large to read by windows, or rasterio is not installed.
    """
    rasterio = installed()
    if rasterio is None:
        raise UserError(f"{path}: more than {PILLOW_LIMIT:,} pixels or 8-bit RGB can only be read with rasterio: {GEO}")
    with named(path), rasterio.Env(**GDAL):
        dataset = rasterio.open(path)
        rows, columns = dataset.block_shapes[0]
        if rows * columns > BLOCK_LIMIT:
            dataset.close()
            raise Unsuitable(f"{path}: stored in blocks of {rows} x {columns} pixels; store it in tiles (TILED=YES)")
        return dataset


class GdalFile:
    """An image or label that GDAL reads window by window, as it is stored: not turned, not placed.

    Attributes:
        size: (height, width) as stored.
        kind: number of bands and their type, (3, "uint8").
        dataset: of rasterio.
        gaps: whether pixels may be unknown.
        nodata: the value that means no data, as `read` gives it, where all bands that are read have one and the same;
            None: none, or an image's palette index.
    """

    def __init__(self, path: Path, bands: Sequence[int] = (), label: bool = False, indices: bool = False) -> None:
        """Read the header.

        Args:
            path: the file.
            bands: bands to read, counted from 1; none: grey or RGB.
            label: whether to read the codes of a label; then without bands.
            indices: whether the codes of a palette are its indices.

        Raises:
            UserError: damaged, or of other bands or types.
        """
        self.path, self.label, self.indices = path, label, indices
        self.dataset = dataset = open_dataset(path)
        try:
            self.size, self.kind = (dataset.height, dataset.width), (dataset.count, dataset.dtypes[0])
            self._by_band = bool(bands)
            self._check(bands)
            self._bands = list(bands) or ([1, 2, 3] if dataset.count > 2 else [1])
            structure = dataset.tags(ns="IMAGE_STRUCTURE") | dataset.tags(self._bands[0], ns="IMAGE_STRUCTURE")
            self._bits = int(structure.get("NBITS", 0))
            self._colours = self._lookup() if not bands and dataset.colorinterp[0].name == "palette" else None
            # GDAL shows a grey TIFF or BMP of one bit as a palette of black and white
            self.palette = self._colours is not None and not (dataset.driver in ("GTiff", "BMP") and self._is_bilevel())
            self._whole: np.ndarray | None = None
            self._inverted = structure.get("MINISWHITE") == "YES" and self._colours is None
            self._alpha = self._transparency(bands)
            flags = [{flag.name for flag in dataset.mask_flag_enums[band - 1]} for band in self._bands]
            self._masked = [
                band
                for band, found in zip(self._bands, flags, strict=True)
                if "per_dataset" in found and "alpha" not in found
            ]
            self._nodata = [_possible(dataset.nodatavals[band - 1], dataset.dtypes[band - 1]) for band in self._bands]
            self.nodata = self._shown_nodata() if len(set(self._nodata)) == 1 else None
            floats = np.issubdtype(np.dtype(dataset.dtypes[self._bands[0] - 1]), np.inexact)
            clear = self._colours is not None and bool((self._colours[:, 3] == 0).any())
            tagged = any(value is not None for value in self._nodata)
            self.gaps = bool(self._alpha or self._masked or tagged or floats or clear)
        except BaseException:
            dataset.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()

    @property
    def grid(self) -> Grid | None:
        """Where its pixels lie; errors as `placement`."""
        from datasets.georeference import placement

        return placement(self.dataset, self.path)

    def _check(self, bands: Sequence[int]) -> None:
        dataset, problem = self.dataset, ""
        types = {dataset.dtypes[band - 1] for band in bands if band <= dataset.count} or set(dataset.dtypes)
        if bands and max(bands) > dataset.count:
            problem = f"{dataset.count} bands, but band {max(bands)} is asked for; see --bands"
        elif any("complex" in kind for kind in types):
            problem = "complex pixels; convert them to amplitude first"
        elif dataset.colorinterp[0].name == "cyan" or self._source_colours() in ("CMYK", "YCbCrK"):
            raise OtherColours(self.path, "CMYK")
        elif bands and len(types) > 1:
            problem = f"bands of {' and '.join(sorted(types))}; convert the file to one of them"
        elif self.label and (
            dataset.count > 4
            or dataset.colorinterp[0].name not in COLOURS
            or (dataset.count > 2 and set(dataset.dtypes) != {"uint8"})
        ):
            problem = (
                f"{dataset.count} bands of {dataset.dtypes[0]} are no label; a label has one channel, or 8-bit colours"
            )
        elif not (bands or self.label) and (
            set(dataset.dtypes) != {"uint8"} or dataset.count > 4 or dataset.colorinterp[0].name not in COLOURS
        ):
            problem = too_deep(dataset.count, dataset.dtypes[0])
        if problem:
            raise Unsuitable(f"{self.path}: {problem}")

    def _lookup(self) -> np.ndarray:
        """Red, green, blue and opacity of each index, uint8 (n, 4)."""
        colours = self.dataset.colormap(1)
        table = np.zeros((max(256, *(index + 1 for index in colours)), 4), np.uint8)
        table[:, 3] = 255
        table[list(colours)] = list(colours.values())
        return table

    def _is_bilevel(self) -> bool:
        return sorted(colour[:3] for colour in self.dataset.colormap(1).values()) == [(0, 0, 0), (255, 255, 255)]

    def _source_colours(self) -> str:
        """Those of a JPEG that GDAL shows as RGB."""
        return str(self.dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE", ""))

    def _shown_nodata(self) -> float | None:
        value = self._nodata[0]
        kind = np.dtype(self.dataset.dtypes[self._bands[0] - 1])
        if value is None or np.issubdtype(kind, np.inexact):
            return value
        if self._colours is not None and not self.label:
            return None
        shown = self._shown(np.full((len(self._bands), 1, 1), int(value), kind))
        return int(self._codes(shown)[0, 0] if self.label else shown[0, 0, 0])

    def _transparency(self, bands: Sequence[int]) -> int:
        """Number of the band that says what is transparent, 0 if there is none.

        A band that was asked for is a band. Programs tag a fourth band of any content as alpha; one that holds more
        than a few values between 0 and 255, looked at in nine places, is no transparency.
        """
        alpha = [number for number, colour in enumerate(self.dataset.colorinterp, 1) if colour.name == "alpha"]
        if not alpha or set(alpha) & set(bands):
            return 0
        if self.dataset.driver == "GTiff" and not all_or_nothing(self._samples(alpha)):
            return 0
        return alpha[0]

    def _samples(self, bands: Sequence[int]) -> np.ndarray:
        """Values in nine places, one dimension."""
        return np.concatenate([self._raw(window, bands).ravel() for window in nine_places(self.size)])

    def _raw(self, window: Window, bands: Sequence[int]) -> np.ndarray:
        """(bands, h, w) in the file's own type."""
        rasterio = installed()
        assert rasterio is not None
        part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
        with named(self.path), rasterio.Env(**GDAL):
            if self.dataset.driver == "JPEG" and self.size[0] * self.size[1] <= PILLOW_LIMIT:
                rows, columns = window.slices
                return self._of_pillow()[[band - 1 for band in bands], rows, columns]
            return self.dataset.read(list(bands), window=part)

    def _of_pillow(self) -> np.ndarray:
        """All of a JPEG, (bands, H, W): GDAL interpolates the colours of its pixels otherwise."""
        if self._whole is None:
            with Image.open(self.path) as image:
                pixels = np.array(image)
            self._whole = pixels.reshape(*self.size, -1).transpose(2, 0, 1)
        return self._whole

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a window: values (h, w, bands), or codes (h, w) of a label, and where they are data, None: everywhere.

        Raises:
            UserError: damaged or truncated.
        """
        raw = self._raw(window, self._bands)
        known = self._known(raw, window) if self.gaps else None
        shown = self._shown(raw)
        return (self._codes(shown) if self.label else self._pixels(shown)), known

    def _shown(self, raw: np.ndarray) -> np.ndarray:
        """Stored values (bands, h, w) as Pillow has them: 0 is black, bits fill 0..255, a palette has colours."""
        if self._inverted and np.issubdtype(raw.dtype, np.unsignedinteger):
            raw = (2 ** (self._bits or 8 * raw.dtype.itemsize) - 1 - raw).astype(raw.dtype)
        if self._bits in (1, 2, 4) and self._colours is None and not self._by_band:
            raw = raw * np.uint8(255 // (2**self._bits - 1))
        if self._colours is not None and not (self.indices and self.palette):
            raw = self._colours[raw[0], :3].transpose(2, 0, 1)
        return raw

    def _known(self, raw: np.ndarray, window: Window) -> np.ndarray:
        """Where a window holds data, bool (h, w)."""
        floats = np.issubdtype(raw.dtype, np.inexact)
        known = np.isfinite(raw).all(0) if floats else np.ones(raw.shape[1:], bool)
        if any(value is not None for value in self._nodata):
            known &= has_data(raw, self._nodata)
        if self._alpha:
            known &= self._raw(window, [self._alpha])[0] > 0
        if self._masked:
            rasterio = installed()
            assert rasterio is not None
            part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
            with named(self.path), rasterio.Env(**GDAL):
                known &= self.dataset.read_masks(self._masked, window=part).any(0)
        if self._colours is not None:
            known &= self._colours[raw[0], 3] > 0
        return known

    def _pixels(self, raw: np.ndarray) -> np.ndarray:
        if not self._by_band:
            raw = np.broadcast_to(raw, (3, *raw.shape[1:]))
        return np.ascontiguousarray(raw.transpose(1, 2, 0))

    def _codes(self, raw: np.ndarray) -> np.ndarray:
        if len(raw) == 3:
            return colour_codes(raw.transpose(1, 2, 0))
        if np.issubdtype(raw.dtype, np.inexact):
            whole = np.where(np.isfinite(raw[0]), raw[0], 0)
            if (whole != whole.round()).any():
                raise Unsuitable(f"{self.path}: label values are fractions; a label holds whole numbers")
            return whole.astype(np.int32)
        return raw[0]


def _possible(value: float | None, kind: str) -> float | None:
    """A nodata value, None where no pixel of this type can have it."""
    if value is None or not np.issubdtype(np.dtype(kind), np.integer):
        return value
    limits = np.iinfo(kind)
    return value if limits.min <= value <= limits.max and value == int(value) else None


def has_data(bands: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
    """Where bands (bands, h, w) hold data by their nodata values, bool (h, w).

    No data is where no band has any for 8-bit values and a nodata value of 0, since dark or bright pixels reach
    these in single bands; for all other values it is where any band lacks data.
    """
    data = np.array([_differs(band, value) for band, value in zip(bands, nodata, strict=True)])
    return np.asarray(data.any(0) if bands.dtype == np.uint8 or not any(nodata) else data.all(0))


def _differs(band: np.ndarray, value: float | None) -> np.ndarray:
    """Where a band does not hold its nodata value; NaN is found elsewhere."""
    if value is None or np.isnan(value):
        return np.ones(band.shape, bool)
    return band != np.asarray(value).astype(band.dtype)


def too_deep(count: int, kind: str) -> str:
    """What to do about an image that is no 8-bit grey or RGB, in words."""
    return (
        f"has {count} band{'s' * (count != 1)} of {kind}, but is to be read as 8-bit grey or RGB; pass --scale NUMBER "
        f"(the value that becomes 255) or --scale percentile, and --bands to choose other bands than the first three"
    )


def all_or_nothing(values: np.ndarray) -> bool:
    """Whether nearly all values of an alpha band are 0 or the highest among them, which depends on the program."""
    return bool(np.isin(values, (0, values.max())).mean() >= OPAQUE)


def nine_places(size: tuple[int, int], side: int = 64) -> list[Window]:
    """Windows at the corners, edges and in the middle of an image; the whole of a small one."""
    height, width = size
    rows, columns = (
        [(0, length)] if length <= 3 * side else [(round(at * (length - side)), side) for at in (0, 0.5, 1)]
        for length in (height, width)
    )
    return [Window(top, left, h, w) for top, h in rows for left, w in columns]


def file_kind(path: Path) -> tuple[int, str]:
    """Number of bands and type of a file's values."""
    with closing(open_dataset(path)) as dataset:
        return dataset.count, dataset.dtypes[0]


def value_bands(path: Path) -> tuple[int, ...]:
    """Numbers of all bands but the one that says what is transparent."""
    with closing(GdalFile(path, (1,))) as file:
        return tuple(number for number in range(1, file.dataset.count + 1) if number != file._alpha)


def encode_tiff(
    values: np.ndarray,
    known: np.ndarray | None = None,
    grid: Grid | None = None,
    nodata: float | None = None,
) -> bytes:
    """Encode values of all bands, any type (H, W, bands) or (H, W), as a compressed TIFF.

    Args:
        values: the pixels.
        known: where they are data, bool (H, W); None: everywhere.
        grid: where they lie.
        nodata: value that marks unknown pixels, in which NaN and infinity stay; None: they are kept in a mask inside
            the file.
    """
    rasterio = installed()
    assert rasterio is not None
    bands = values[..., None] if values.ndim == 2 else values
    height, width, count = bands.shape
    shape = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
    place: dict[str, Any] = {}
    if grid:
        place = {"transform": rasterio.Affine(*grid.transform), "crs": grid.crs or None}
    if nodata is not None and known is not None:
        marked = ~has_data(bands.transpose(2, 0, 1), [nodata] * count) | ~np.isfinite(bands).all(-1)
        bands = np.where((known | marked)[..., None], bands, np.asarray(nodata).astype(bands.dtype))
    photometric = "rgb" if count == 3 and bands.dtype == np.uint8 else "minisblack"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
        options = {**shape, **place, "nodata": nodata, "compress": "deflate", "photometric": photometric}
        with memory.open(driver="GTiff", **options) as dataset:
            dataset.write(bands.transpose(2, 0, 1))
            if known is not None and nodata is None:
                dataset.write_mask(known)
        return memory.read()

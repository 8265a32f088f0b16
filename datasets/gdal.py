"""Reads images and labels by windows through rasterio, which is optional, and encodes GeoTIFFs."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets import file_errors
from datasets.file_errors import BOMBS, GEO, OtherColours, Unsuitable, named, too_deep
from datasets.georeference import placement
from datasets.pillow_file import ORIENTATION, directories, early_orientation
from datasets.reading import colour_codes, has_data, possible_nodata
from datasets.windows import Content, Grid, Window, nine_places
from utils.console import UserError

log = logging.getLogger(__name__)
BLOCK_LIMIT = 2**26  # pixels of one stored block, which GDAL decodes whole, however small the window
CACHE = 64 * 2**20  # bytes of decoded blocks, of all open files together; GDAL would take 5 % of the machine's memory
GDAL = {"GDAL_CACHEMAX": CACHE, "GDAL_ERROR_ON_LIBJPEG_WARNING": True}  # missing JPEG data is an error, not grey pixels
OPAQUE = (0, 1, 255, 2**15 - 1, 2**16 - 1, 2**32 - 1)  # highest values of transparency, by program; 0: none sampled
CLEAR = 0.99  # share of 0 and the highest value from which on an alpha band is taken for transparency
COLOURS = ("gray", "red", "palette", "undefined")  # of a first band that is grey, RGB or an index


_told: set[tuple[Path, str]] = set()


def _warn_once(path: Path, what: str) -> None:
    """Log a warning about the first file of a folder for which it holds."""
    if (path.parent, what) not in _told:
        _told.add((path.parent, what))
        log.warning("%s: %s", path, what)


@cache
def installed() -> Any:
    """Return rasterio; None if it is not installed."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError:
        return None
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # most public sets have no georeference
    return rasterio


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with named(path), installed().Env(**GDAL):
        yield


def open_dataset(path: Path) -> Any:
    """Open a file of any kind that GDAL knows, unless its blocks are too large for windows; the caller closes it."""
    if installed() is None:
        limit = file_errors.PILLOW_LIMIT
        raise UserError(f"{path}: more than {limit:,} pixels or 8-bit RGB can only be read with rasterio: {GEO}")
    with _reading(path):
        dataset = installed().open(path)
        rows, columns = dataset.block_shapes[0]
        if rows * columns > BLOCK_LIMIT:
            dataset.close()
            raise Unsuitable(f"{path}: stored in blocks of {rows} x {columns} pixels; store it in tiles (TILED=YES)")
        return dataset


class GdalFile:
    """An image or label that GDAL reads by windows as it is stored: not turned, not on another grid.

    Attributes are those of `WindowedImage`, and:
        orientation: by EXIF or TIFF tag 274, which GDAL does not apply.
        alpha: number of the band of transparency; 0: none.
    """

    def __init__(self, path: Path, bands: Sequence[int] = (), label: bool = False, indices: bool = False) -> None:
        """Read the header; arguments as of `PillowFile`, and the bands to read, from 1; none: grey or RGB."""
        self.path, self.label, self.indices = path, label, indices
        self.dataset = dataset = open_dataset(path)
        with ExitStack() as opened:
            opened.callback(dataset.close)
            self.size, self.kind = (dataset.height, dataset.width), (dataset.count, dataset.dtypes[0])
            self.mode = "{} x {}".format(*self.kind)
            self._by_band = bool(bands)
            self._check(bands)
            self._bands = list(bands) or ([1, 2, 3] if dataset.count > 2 else [1])
            self._type = np.dtype(dataset.dtypes[self._bands[0] - 1])
            structure = dataset.tags(ns="IMAGE_STRUCTURE") | dataset.tags(self._bands[0], ns="IMAGE_STRUCTURE")
            self._bits = int(structure.get("NBITS", 0))
            self._colours = self._lookup() if not bands and dataset.colorinterp[0].name == "palette" else None
            self.palette = self._colours is not None and not self._is_grey_bit()
            self._whole: np.ndarray | None = None
            self._inverted = structure.get("MINISWHITE") == "YES" and self._colours is None
            self._read_gaps(bands)
            self.grid: Grid | None = placement(dataset, path)
            self.orientation = self._orientation()
            opened.pop_all()

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()

    def _check(self, bands: Sequence[int]) -> None:
        dataset, problem = self.dataset, ""
        types = {dataset.dtypes[band - 1] for band in bands if band <= dataset.count} or set(dataset.dtypes)
        other = dataset.count > 4 or dataset.colorinterp[0].name not in COLOURS
        deep = set(dataset.dtypes) != {"uint8"}
        source = dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE")  # of a JPEG that GDAL presents as RGB
        if bands and max(bands) > dataset.count:
            problem = f"{dataset.count} bands, but --bands names band {max(bands)}; name others"
        elif any("complex" in kind for kind in types):
            problem = "complex pixels; convert them to amplitude first"
        elif dataset.colorinterp[0].name == "cyan" or source in ("CMYK", "YCbCrK"):
            raise OtherColours(self.path, "CMYK")
        elif bands and len(types) > 1:
            problem = f"bands of {' and '.join(sorted(types))}; convert the file to one of them"
        elif self.label and (other or (dataset.count > 2 and deep)):
            what = f"{dataset.count} bands of {dataset.dtypes[0]}"
            problem = f"{what}, but a label has one channel, or 8-bit colours; pass the label's file"
        elif not (bands or self.label) and (other or deep):
            problem = too_deep(dataset.count, dataset.dtypes[0])
        if problem:
            raise Unsuitable(f"{self.path}: {problem}")

    def _lookup(self) -> np.ndarray:
        """Red, green, blue and opacity of each index, uint8 (n, 4)."""
        colours = self.dataset.colormap(1)
        table = np.full((max(256, *(index + 1 for index in colours)), 4), (0, 0, 0, 255), np.uint8)
        table[list(colours)] = list(colours.values())
        return table

    def _is_grey_bit(self) -> bool:
        """Return True for a grey TIFF or BMP of one bit, which GDAL presents as a palette of black and white."""
        colours = sorted(colour[:3] for colour in self.dataset.colormap(1).values())
        return self.dataset.driver in ("GTiff", "BMP") and colours == [(0, 0, 0), (255, 255, 255)]

    def _read_gaps(self, bands: Sequence[int]) -> None:
        """Find out which pixels may be unknown: by nodata value, mask, transparency, or NaN."""
        dataset = self.dataset
        self.alpha = self._transparency(bands)
        flags = {band: {flag.name for flag in dataset.mask_flag_enums[band - 1]} for band in self._bands}
        self._masked = [band for band, found in flags.items() if "per_dataset" in found and "alpha" not in found]
        self._nodata = [possible_nodata(dataset.nodatavals[band - 1], dataset.dtypes[band - 1]) for band in self._bands]
        self.nodata = self._shown_nodata() if len(set(self._nodata)) == 1 else None
        tagged, floats = any(value is not None for value in self._nodata), np.issubdtype(self._type, np.inexact)
        clear = self._colours is not None and (self._colours[:, 3] == 0).any()
        self.gaps = bool(self.alpha or self._masked or tagged or floats or clear)

    def _transparency(self, bands: Sequence[int]) -> int:
        """Return the number of the band of transparency; 0 if there is none, or if `bands` names it.

        Programs tag a fourth band of any content as alpha. In a TIFF it is sampled in nine places: transparency has
        nearly no values but 0 and one that stands for opaque. A warning tells what a user may not expect.
        """
        alpha = [number for number, colour in enumerate(self.dataset.colorinterp, 1) if colour.name == "alpha"]
        if not alpha or set(alpha) & set(bands):
            return 0
        band = alpha[0]
        if self.dataset.driver == "GTiff":
            raw = [self._raw(window, [*self._bands, band]) for window in nine_places(self.size)]
            *colours, values = np.concatenate([part.reshape(len(part), -1) for part in raw], axis=1)
            opaque, tagged = values.max(), f"band {band} is tagged as alpha"
            if np.isin(values, (0, opaque)).mean() < CLEAR or opaque not in (*OPAQUE, 2**self._bits - 1):
                _warn_once(self.path, f"{tagged}, but has other values than transparency, so it hides no pixel")
                return 0
            hidden = values == 0
            if hidden.all() or any(np.ptp(colour[hidden]) > 0 for colour in colours if hidden.any()):
                _warn_once(
                    self.path,
                    f"{tagged}, so pixels where it is 0 are no data; if it is another band, such as near infrared, "
                    f"remove the tag: gdal_edit.py -colorinterp_{band} undefined FILE",
                )
        return band

    def _shown_nodata(self) -> float | None:
        value = self._nodata[0]
        if value is None or np.issubdtype(self._type, np.inexact):
            return value
        if self._colours is not None and not self.label:
            return None
        shown = self._shown(np.full((len(self._bands), 1, 1), int(value), self._type))
        return int(self._codes(shown)[0, 0] if self.label else shown[0, 0, 0])

    def _orientation(self) -> int:
        if self.dataset.driver == "GTiff":
            return int(next(directories(self.path)).get(ORIENTATION, 1))
        if "EXIF_Orientation" in (tags := self.dataset.tags()):
            return int(tags["EXIF_Orientation"])
        with suppress(*BOMBS, OSError, SyntaxError), Image.open(self.path) as image:
            return early_orientation(image)
        return 1

    def read(self, window: Window) -> Content:
        """Read values (h, w, bands), or codes (h, w) of a label, and where they are data, None: everywhere."""
        raw = self._raw(window, self._bands)
        known = self._known(raw, window) if self.gaps else None
        shown = self._shown(raw)
        if self.label:
            return self._codes(shown), known
        if not self._by_band:
            shown = np.broadcast_to(shown, (3, *shown.shape[1:]))
        return np.ascontiguousarray(shown.transpose(1, 2, 0)), known

    def _raw(self, window: Window, bands: Sequence[int]) -> np.ndarray:
        """(bands, h, w) in the file's own type."""
        with _reading(self.path):
            if self.dataset.driver == "JPEG" and self.size[0] * self.size[1] <= file_errors.PILLOW_LIMIT:
                if self._whole is None:  # GDAL interpolates the colours of a JPEG's pixels otherwise than Pillow
                    with Image.open(self.path) as image:
                        self._whole = np.array(image).reshape(*self.size, -1).transpose(2, 0, 1)
                return self._whole[[band - 1 for band in bands], *window.slices]
            return self.dataset.read(list(bands), window=window.slices)

    def _shown(self, raw: np.ndarray) -> np.ndarray:
        """Convert stored values (bands, h, w) to Pillow's: 0 is black, bits fill 0..255, a palette has colours."""
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
        known &= has_data(raw, self._nodata)
        if self.alpha:
            known &= self._raw(window, [self.alpha])[0] > 0
        if self._masked:
            with _reading(self.path):
                known &= self.dataset.read_masks(self._masked, window=window.slices).any(0)
        if self._colours is not None:
            known &= self._colours[raw[0], 3] > 0
        return known

    def _codes(self, raw: np.ndarray) -> np.ndarray:
        if len(raw) == 3:
            return colour_codes(raw.transpose(1, 2, 0))
        if np.issubdtype(raw.dtype, np.inexact):
            whole = np.where(np.isfinite(raw[0]), raw[0], 0)
            if (whole != whole.round()).any():
                raise Unsuitable(f"{self.path}: label values are fractions; a label holds whole numbers")
            return whole.astype(np.int32)
        return raw[0]


def encode_tiff(
    values: np.ndarray, known: np.ndarray | None = None, grid: Grid | None = None, nodata: float | None = None
) -> bytes:
    """Encode all bands, any type (H, W, bands) or (H, W), on a grid as a compressed TIFF.

    Pixels that are not `known`, bool (H, W), get the value `nodata`, in which NaN and infinity stay; without `nodata`
    the file has a mask instead. None: all are known.
    """
    rasterio = installed()
    bands = values[..., None] if values.ndim == 2 else values
    height, width, count = bands.shape
    if nodata is not None and known is not None:
        marked = ~has_data(bands.transpose(2, 0, 1), [nodata] * count) | ~np.isfinite(bands).all(-1)
        bands = np.where((known | marked)[..., None], bands, np.asarray(nodata).astype(bands.dtype))
    profile = {"height": height, "width": width, "count": count, "dtype": bands.dtype, "nodata": nodata}
    profile["photometric"] = "rgb" if count == 3 and bands.dtype == np.uint8 else "minisblack"
    if grid:
        profile |= {"transform": rasterio.Affine(*grid.transform), "crs": grid.crs or None}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", compress="deflate", **profile) as dataset:
            dataset.write(bands.transpose(2, 0, 1))
            if known is not None and nodata is None:
                dataset.write_mask(known)
        return memory.read()

"""Opens one image or label with the reader that suits it; a file that cannot be read is a UserError naming it."""

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from datasets import gdal
from datasets.file_errors import BOMBS, GEO, PILLOW_LIMIT, OtherColours, Unsuitable, named, refuse_huge
from datasets.gdal import GdalFile
from datasets.georeference import Resampled, Turned, seen_on, upright
from datasets.pillow_file import PillowFile, directories
from datasets.reading import PLAIN, PixelFormat
from datasets.registration import Unshifted
from datasets.sidecars import what_they_hold, world_file
from datasets.windows import Content, Grid, Window
from utils.console import UserError

TIFF = (".tif", ".tiff")
JPEG_2000 = (".jp2", ".j2k")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", *TIFF, *JPEG_2000)
AT_ONCE = 2**22  # pixels of a TIFF that are decoded at once: 2048 x 2048
# tags of a TIFF, and values of them
COMPRESSION, PLAIN_COMPRESSIONS = 259, (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)  # none, CCITT, LZW, JPEG, Deflate, ...
SUBFILE, MASK = 254, 4  # its bit that means mask
PHOTOMETRIC, WHITE_IS_0, YCBCR = 262, 0, 6
GEO_TAGS, OTHER_TAGS = (33550, 33922, 34264), (42113, 338)  # georeference; nodata value, further bands
GEO_UUID = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")  # GeoJP2's box in a JPEG 2000 file


class WindowedImage:
    """One image or label, upright and on the grid that is asked for, read by windows; a `with` block closes it.

    Pillow decodes plain files at the first read: 8 bits, at most AT_ONCE pixels of a TIFF and PILLOW_LIMIT of other
    formats. rasterio reads all others, and of a TIFF only what a window needs. It decodes other formats from their
    first line on, which is fast if windows come from top to bottom.

    Attributes:
        size: (height, width).
        kind: number of bands and type of the file's values; Pillow reads (3, "uint8") as grey or RGB.
        mode: the same in words: Pillow's mode, or 4 x uint16.
        grid: where its own pixels lie, if the file holds that.
        gaps: True if pixels may be unknown.
        nodata: the file's nodata value, if all bands that are read have the same.
        palette: True if pixels are indices of a palette.
        random_access: True if windows can be read in any order at the same cost.
        aligned: True if it is seen on another grid than its own.
        resampled: True if its pixels were interpolated onto that grid.
    """

    def __init__(
        self, path: Path, reading: PixelFormat = PLAIN, label: bool = False, onto: Grid | None = None,
        alone: bool = False,
    ) -> None:  # fmt: skip
        """Read the header.

        Args:
            path: the file.
            reading: how its values become pixels.
            label: read the codes of a label, then without bands.
            onto: the grid to see it on, if it has a place of its own; images are interpolated, labels are not.
            alone: read it without rasterio although a world file lies beside it, as beside maps.

        Raises:
            UserError: the file is damaged, has other bands or depth than `reading` takes, is too large or georeferenced
                without rasterio, is turned by a tag although it has a grid, or lies elsewhere than `onto`.
        """
        self.path, self.reading, self.label = path, reading, label
        self._view: Turned | Resampled | None = None
        self._last: tuple[Window, Content] | None = None
        self._unshifted: Unshifted | None = None
        self.random_access = self.aligned = False
        with ExitStack() as opened:
            self._file = file = _open(path, reading, label, alone)
            opened.callback(file.close)
            if isinstance(file, GdalFile):
                self._place(file, onto)
            opened.pop_all()
        self.kind, self.mode, self.grid = file.kind, file.mode, file.grid
        self.nodata, self.palette = file.nodata, file.palette
        self.size = self._view.size if self._view else file.size
        self.resampled = isinstance(self._view, Resampled)
        self.gaps = file.gaps or bool(self._view and not self._view.covered)

    def _place(self, file: GdalFile, onto: Grid | None) -> None:
        self.random_access = self.path.suffix.lower() in TIFF
        if file.orientation != 1 and file.grid:
            raise Unsuitable(
                f"{self.path}: has both an orientation tag ({file.orientation}: rotated pixels) and a georeference, "
                f"which may contradict; save it upright, or remove the tag (TIFF tag 274, EXIF orientation)"
            )
        if not file.grid and (name := world_file(self.path)):
            raise Unsuitable(
                f"{self.path}: the world file {name} beside it cannot be read for this format; write a GeoTIFF, or "
                f"remove that file"
            )
        self._view = upright(file.size, file.orientation)
        if onto is not None and file.grid is not None:
            self._view = seen_on(file.grid, onto, not self.label, self.path)
            self.aligned = self._view is not None

    def __enter__(self) -> "WindowedImage":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def content(self, window: Window) -> Content:
        """Read values (h, w, bands) of the file's own type, or codes (h, w), and where they are data; None: all."""
        if self._unshifted is None and isinstance(self._file, PillowFile):
            return self._file.read(window)  # decoded already
        if self._last is None or self._last[0] != window:
            with named(self.path):
                seen = self._unshifted.read(window, self._seen) if self._unshifted else self._seen(window)
            self._last = window, seen
        return self._last[1]

    def _seen(self, window: Window) -> Content:
        return self._view.read(window, self._file.read) if self._view else self._file.read(window)

    def remove_shift(self, rows: float, columns: float) -> None:
        """From now on, read the image without its shift in pixels; what that uncovers at its border is unknown."""
        self._unshifted, self._last, self.gaps, self.resampled = Unshifted(self.size, rows, columns), None, True, True

    def read(self, window: Window) -> np.ndarray:
        """Read a window: (h, w, channels), or the codes (h, w) of a label; a damaged file is a UserError.

        Images are uint8, or for bands without limits of the file's own type; unknown pixels are 0.
        """
        values, known = self.content(window)
        if self.label:
            return values
        pixels = self.reading.scaled(values) if self.reading.bands else values
        return pixels if known is None else np.where(known[..., None], pixels, np.zeros((), pixels.dtype))

    def mask(self, window: Window) -> np.ndarray:
        """Read a window of a label; see `PixelFormat.mask`."""
        return self.reading.mask(*self.content(window))

    def known(self, window: Window) -> np.ndarray | None:
        """Return where a window holds data, bool (h, w); None if the image has no gaps anywhere."""
        if not self.gaps:
            return None
        known = self.content(window)[1]
        return np.ones((window.height, window.width), bool) if known is None else known


def _open(path: Path, reading: PixelFormat, label: bool, alone: bool) -> PillowFile | GdalFile:
    """Open a file with Pillow if that reads all there is to it, otherwise with rasterio."""
    bands, indices = () if label else reading.bands, label and reading.by_index
    needs, error = [], None
    try:
        plain = PillowFile(path, label, indices)
    except UserError as problem:
        unknown = isinstance(problem.__cause__, UnidentifiedImageError) and path.suffix.lower() in (*TIFF, *JPEG_2000)
        by_bands = isinstance(problem, Unsuitable) and not isinstance(problem, OtherColours) and (bands or label)
        if not (unknown or by_bands or isinstance(problem.__cause__, BOMBS)) or not path.is_file():
            raise
        error = problem
    else:
        needs = [] if alone else _only_rasterio_reads(plain)
        height, width = plain.size
        limit = AT_ONCE if plain.is_tiff and gdal.installed() else PILLOW_LIMIT
        if not bands and not needs and height * width <= limit:
            return plain
        plain.close()
    if gdal.installed() is None and (needs or (error and not isinstance(error.__cause__, BOMBS))):
        what = needs[0] if needs else "more than 8-bit grey or RGB"
        raise UserError(f"{path}: needs rasterio, which reads {what}: {GEO}") from error
    try:
        return GdalFile(path, bands, label, indices)
    except Unsuitable:
        raise
    except UserError as problem:
        raise error if error and gdal.installed() else problem from None


def _only_rasterio_reads(file: PillowFile) -> list[str]:
    """Return what a file holds, or what lies beside it, that Pillow does not read, in words."""
    found, tags, rasterio = [], file.tags, gdal.installed() is not None
    if file.is_tiff:
        found += ["where it lies on earth"] * any(tag in tags for tag in GEO_TAGS)
        found += ["its nodata value or further band"] * (file.gaps or any(tag in tags for tag in OTHER_TAGS))
        found += ["its compression"] * (tags.get(COMPRESSION, 1) not in PLAIN_COMPRESSIONS)
        found += ["its labels of more than 8 bits"] * (file.deep and rasterio)
        # GDAL interpolates the colours of pixels otherwise than Pillow, and has to read large files
        found += ["colours stored as YCbCr"] * (tags.get(PHOTOMETRIC) == YCBCR and rasterio)
        found += ["deep values of which 0 is white"] * (tags.get(PHOTOMETRIC) == WHITE_IS_0 and file.deep)
        if tags.next:  # further pages, overviews or a mask
            masks = any(int(each.get(SUBFILE, 0)) & MASK for each in directories(file.path))
            found += ["its mask"] * (masks or rasterio)
    if file.path.suffix.lower() in JPEG_2000:
        with named(file.path), file.path.open("rb") as content:
            head = content.read(2**16)
        found += ["where it lies on earth"] * (rasterio or GEO_UUID in head or b"gml.root-instance" in head)
    return found + what_they_hold(file.path)


def read_image(path: Path, reading: PixelFormat = PLAIN) -> np.ndarray:
    """Read an image as uint8 (H, W, channels), without bands RGB, grey being repeated; errors as `WindowedImage`."""
    with WindowedImage(path, reading) as image:
        refuse_huge(path, *image.size)
        return image.read(Window(0, 0, *image.size))


def read_label(path: Path, reading: PixelFormat) -> np.ndarray:
    """Read a label as a mask, uint8 (H, W): 0 unchanged, 1 changed, 255 ignored; errors as `PixelFormat.mask`, too."""
    with WindowedImage(path, reading, label=True) as image:
        refuse_huge(path, *image.size)
        return image.mask(Window(0, 0, *image.size))


def pixel_kind(path: Path) -> tuple[int, str]:
    """Return the number of bands and the type of their values; (3, "uint8") is read as grey or RGB."""
    try:
        with closing(PillowFile(path)) as file:
            return file.kind
    except OtherColours:
        raise
    except UserError as error:
        if gdal.installed() is None:
            if isinstance(error, Unsuitable):
                raise UserError(f"{path}: more bands, or more than 8 bits, are read with rasterio: {GEO}") from error
            raise
        try:
            with closing(gdal.open_dataset(path)) as dataset:
                return dataset.count, dataset.dtypes[0]
        except UserError:
            raise error from None


def all_bands(path: Path) -> PixelFormat:
    """Return the format that loses nothing: PLAIN for 8-bit grey or RGB, otherwise every band with its values."""
    plain = pixel_kind(path) == (3, "uint8")
    if plain and not (path.suffix.lower() in TIFF and gdal.installed()):
        return PLAIN
    with closing(GdalFile(path, (1,))) as file:
        bands = tuple(band for band in range(1, file.kind[0] + 1) if band != file.alpha)
    return PLAIN if plain and len(bands) < 4 else PixelFormat(bands=bands)

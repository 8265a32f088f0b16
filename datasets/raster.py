"""Opens one image or label; every unreadable or unsuitable file is a ValueError that names it."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets import gdal
from datasets.gdal import (
    BOMBS,
    GEO,
    PILLOW_LIMIT,
    GdalFile,
    OtherColours,
    Unsuitable,
    all_or_nothing,
    named,
    too_deep,
)  # fmt: skip
from datasets.georeference import Content, Resampled, Turned, seen_on, upright
from datasets.reading import Reading, colour_codes
from datasets.windows import Grid, Window
from utils.console import UserError

TIFF = (".tif", ".tiff")
JPEG_2000 = (".jp2", ".j2k")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", *TIFF, *JPEG_2000)
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # 8 bits or less a channel
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I")  # 16 bits, in one channel: taken as labels only
AT_ONCE = 2**22  # pixels that are always decoded at once: 2048 x 2048
PLAIN = Reading()
ORIENTATION, COMPRESSION, SAMPLE_FORMAT = 274, 259, 339
PLAIN_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)  # none, CCITT, LZW, JPEG, Deflate, PackBits
SUBFILE, MASK = 254, 4  # tag of a TIFF's images, and its bit that says mask
# tags of a TIFF that only rasterio understands: where it lies, no data, further bands
GEO_TAGS, OTHER_TAGS = (33550, 33922, 34264), (42113, 338)
WORLD = {".tif": "tfw", ".tiff": "tfw", ".png": "pgw", ".jpg": "jgw", ".jpeg": "jgw", ".bmp": "bpw", ".jp2": "j2w"}
MEANS = ("<GeoTransform", "<SRS", "<GCP", "<NoDataValue", "NODATA_VALUES")  # of an .aux.xml
SIDECAR = re.compile(r"\.(\w{2,4}w|wld|msk|aux\.xml)$", re.IGNORECASE)


class PillowFile:
    """An image or label of at most 8 bits a channel (labels: 16) that Pillow decodes at once, when it is first read.

    Attributes:
        size: (height, width), upright.
        kind: number of bands and their type, (3, "uint8").
        gaps: whether pixels may be unknown.
        orientation: as EXIF or a TIFF's tag 274 has it; `read` gives pixels that are turned upright.
        nodata: of a grey label, the level that is transparent.
    """

    nodata: float | None = None

    def __init__(self, path: Path, label: bool = False, indices: bool = False) -> None:
        """Read the header.

        Args:
            path: the file.
            label: whether to read the codes of a label.
            indices: whether the codes of a palette are its indices.

        Raises:
            UserError: damaged, or not to be read in this way.
        """
        self.path, self.label, self.indices = path, label, indices
        self._content: Content | None = None
        with named(path):
            self._image = Image.open(path)
        try:
            with named(path):
                self._look_at(self._image)
        except BaseException:
            self._image.close()
            raise

    def _look_at(self, image: Image.Image) -> None:
        mode, tags = image.mode, getattr(image, "tag_v2", {})
        if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise OtherColours(self.path, mode)
        # Pillow calls 16-bit RGB files "RGB" too, and would keep each value's high byte
        signed = image.format == "TIFF" and mode in MODES and tags.get(SAMPLE_FORMAT, (1,))[0] == 2
        self.deep = mode not in MODES or ";16" in str(getattr(image, "tile", "")) or signed
        kind = (
            "int8"
            if signed
            else "uint16"
            if mode.startswith("I;16") or (self.deep and mode in MODES)
            else f"mode {mode}"
        )
        self.kind = (1 if mode in (*DEEP_GREY, "F") or signed else 3, kind if self.deep else "uint8")
        if self.deep and not (self.label and mode in DEEP_GREY):
            what = "a label has one channel, or 8-bit colours" if self.label else ""
            raise Unsuitable(f"{self.path}: {what or too_deep(*self.kind)}")
        self.mode, self.is_tiff = mode, image.format == "TIFF"
        self.palette = mode in ("P", "PA")
        if self.is_tiff:
            self.orientation = int(tags.get(ORIENTATION, 1))
            height, width = int(tags[257]), int(tags[256])
        else:
            self.orientation = _told_orientation(image)
            height, width = image.height, image.width
        turned = upright((height, width), self.orientation)
        self.size = turned.size if turned else (height, width)
        clear = image.info.get("transparency")
        self.gaps = mode in ("RGBA", "LA", "PA") or clear is not None
        if self.label and mode in ("1", "L", *DEEP_GREY):
            self.nodata = clear

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def read(self, window: Window) -> Content:
        """Read a window: values (h, w, 3), or codes (h, w) of a label, and where they are data, None: everywhere.

        Raises:
            UserError: damaged or truncated.
        """
        if self._content is None:
            refuse_huge(self.path, *self.size)
            with named(self.path):
                self._content = self._decode(self._image)
            self._image.close()
        values, known = self._content
        return values[window.slices], None if known is None else known[window.slices]

    def _decode(self, image: Image.Image) -> Content:
        if self.is_tiff and self.orientation != 1:
            # else Pillow maps pixels into memory in the shape that they have when turned
            image.filename = ""  # type: ignore[attr-defined]
        image.load()  # which turns a TIFF upright
        if not self.is_tiff:
            late = int(image.getexif().get(ORIENTATION, 1)) if "exif" in image.info else self.orientation
            if late != self.orientation:
                raise Unsuitable(f"{self.path}: its EXIF orientation comes after the pixels; save the image upright")
            if self.orientation != 1:
                image = ImageOps.exif_transpose(image)
        known = None
        if self.gaps:
            clear = image.convert("RGBA") if image.mode not in ("RGBA", "LA") else image
            alpha = np.array(clear.getchannel("A"))
            if not self.is_tiff or all_or_nothing(alpha):
                known = alpha > 0
        if not self.label:
            return np.array(image if image.mode == "RGB" else image.convert("RGB")), known
        if image.mode in DEEP_GREY or (image.mode == "P" and self.indices):
            return np.array(image), known
        if image.mode in ("1", "L", "LA"):
            return np.array(image if image.mode == "L" else image.convert("L")), known
        return colour_codes(np.array(image.convert("RGB"))), known


def refuse_huge(path: Path, height: int, width: int) -> None:
    """Refuse to decode a large image at once.

    Raises:
        UserError: it has more than PILLOW_LIMIT pixels.
    """
    if height * width > PILLOW_LIMIT:
        raise Unsuitable(f"{path}: too many pixels to open at once ({height} x {width}); cut the image into tiles")


class WindowedImage:
    """One image or label, upright and on the grid that is wanted, to be read by windows; a `with` block closes it.

    Pillow decodes plain files at the first read: 8 bits, at most AT_ONCE pixels of a TIFF and PILLOW_LIMIT of other
    formats. rasterio reads all others, and no more of a TIFF than a window needs; other formats have to be decoded from
    their first line on, which is fast as long as windows come from top to bottom.

    Attributes:
        size: (height, width).
        kind: number of bands and type of the file's values; (3, "uint8") is what Pillow reads as grey or RGB.
        mode: the same in words: Pillow's mode, or 4 x uint16.
        grid: where its own pixels lie, if that is said.
        gaps: whether pixels may be unknown.
        nodata: the file's nodata value, if all bands that are read have the same.
        random_access: whether windows can be read in any order at the same cost.
        aligned: whether it is seen on another grid than its own.
        resampled: whether its pixels there are not its own.
    """

    def __init__(self, path: Path, reading: Reading = PLAIN, label: bool = False, onto: Grid | None = None) -> None:
        """Read the header.

        Args:
            path: the file.
            reading: how its values become pixels.
            label: whether to read the codes of a label; then without bands.
            onto: the grid to see it on, where it has a place of its own; images are interpolated, labels not.

        Raises:
            UserError: damaged, of other bands or depth than `reading` takes, too large or georeferenced without
                rasterio, turned by a tag although it has a grid, or elsewhere than `onto`.
        """
        self.path, self.reading, self.label = path, reading, label
        self._view: Turned | Resampled | None = None
        self._last: tuple[Window, Content] | None = None
        self._file = _open(path, reading, label)
        try:
            self._place(onto)
        except BaseException:
            self._file.close()
            raise
        self.size = self._view.size if self._view else self._file.size
        self.kind, self.nodata, self.palette = self._file.kind, self._file.nodata, self._file.palette
        self.mode = self._file.mode if isinstance(self._file, PillowFile) else "{} x {}".format(*self.kind)
        self.gaps = self._file.gaps or bool(self._view and not self._view.covered)

    def _place(self, onto: Grid | None) -> None:
        by_gdal = isinstance(self._file, GdalFile)
        self.grid = self._file.grid if isinstance(self._file, GdalFile) else None
        self.random_access = by_gdal and self.path.suffix.lower() in TIFF
        orientation = _orientation(self._file) if isinstance(self._file, GdalFile) else self._file.orientation
        self.aligned = False
        if orientation != 1 and self.grid:
            raise Unsuitable(
                f"{self.path}: its orientation tag ({orientation}) says that the pixels are turned, so its grid may "
                f"not be theirs; write it upright, or remove the tag (TIFF tag 274, EXIF orientation)"
            )
        worlds = [name for name in sidecars(self.path) if name[-1] in "dDwW"] if by_gdal and not self.grid else []
        if worlds and _six_numbers(self.path.with_name(worlds[0])):
            raise Unsuitable(
                f"{self.path}: {worlds[0]} lies beside it, which cannot be read as its world file; write a GeoTIFF, or "
                f"remove that file"
            )
        if by_gdal:
            self._view = upright(self._file.size, orientation)
        if onto is not None and self.grid is not None:
            self._view = seen_on(self.grid, onto, not self.label, self.path)
            self.aligned = self._view is not None
        self.resampled = isinstance(self._view, Resampled)

    def __enter__(self) -> "WindowedImage":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def content(self, window: Window) -> Content:
        """Read a window in the file's own type: values (h, w, bands) or codes (h, w), and where they are data.

        Raises:
            UserError: damaged or truncated.
        """
        if self._view is None and isinstance(self._file, PillowFile):
            return self._file.read(window)  # decoded already
        if self._last is None or self._last[0] != window:
            with named(self.path):
                content = self._view.read(window, self._file.read) if self._view else self._file.read(window)
            self._last = window, content
        return self._last[1]

    def read(self, window: Window) -> np.ndarray:
        """Read a window: (h, w, channels), or the codes (h, w) of a label.

        Images are uint8, or for bands without limits of the file's own type; unknown pixels are 0.

        Raises:
            UserError: damaged or truncated.
        """
        values, known = self.content(window)
        if self.label:
            return values
        pixels = self.reading.scaled(values) if self.reading.bands else values
        return pixels if known is None else np.where(known[..., None], pixels, np.zeros((), pixels.dtype))

    def known(self, window: Window) -> np.ndarray | None:
        """Where a window holds data, bool (h, w); None: the whole image has no gaps."""
        if not self.gaps:
            return None
        known = self.content(window)[1]
        return np.ones((window.height, window.width), bool) if known is None else known


def _open(path: Path, reading: Reading, label: bool) -> PillowFile | GdalFile:
    """The file by Pillow where that reads all there is to it, otherwise by rasterio."""
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
        needs = _only_rasterio_knows(plain)
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


def _only_rasterio_knows(file: PillowFile) -> list[str]:
    """What there is to a file, or lies beside it, that Pillow does not read: what is said where rasterio is lacking."""
    found, path = [], file.path
    suffix = path.suffix.lower()
    if file.is_tiff:
        tags = file._image.tag_v2  # type: ignore[attr-defined]
        found += ["where it lies on earth"] * any(tag in tags for tag in GEO_TAGS)
        found += ["its nodata value or further band"] * any(tag in tags for tag in OTHER_TAGS)
        found += ["its compression"] * (tags.get(COMPRESSION, 1) not in PLAIN_COMPRESSIONS)
        found += ["its labels of more than 8 bits"] * (file.deep and gdal.installed() is not None)
        # GDAL interpolates the colours of pixels otherwise than Pillow, and has to read large ones
        found += ["colours stored as YCbCr"] * (tags.get(262) == 6 and gdal.installed() is not None)
        found += ["deep values of which 0 is white"] * (tags.get(262) == 0 and file.deep)
        if file._image.tag_v2.next:  # type: ignore[attr-defined]  # further pages, overviews or a mask
            masks = any(int(each.get(SUBFILE, 0)) & MASK for each in _directories(path))
            found += ["its mask"] * (masks or gdal.installed() is not None)
    if suffix in JPEG_2000 and (gdal.installed() or _boxes_of_place(path)):
        found.append("where it lies on earth")
    for name in sidecars(path):
        if name.endswith(".aux.xml"):
            content = path.with_name(name).read_text(encoding="utf-8", errors="replace")
            found += [name] * any(word in content for word in MEANS)
        else:
            found.append("its mask" if name.endswith(".msk") else "its world file")
    return found


def _six_numbers(path: Path) -> bool:
    """Whether a file holds the six numbers of a world file."""
    try:
        return len([float(word) for word in path.read_text(encoding="utf-8").split()]) == 6
    except ValueError:
        return False


def sidecars(path: Path) -> list[str]:
    """Names of the world file, mask and .aux.xml file beside an image."""
    folder = os.fspath(path).rpartition(os.sep)[0] or "."
    beside = _sidecars(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116, in a path that is taken three times a pair
    if not beside:
        return []
    suffix = path.suffix.lower()
    worlds = {WORLD.get(suffix, "wld"), f"{suffix[1:]}w", "wld"}
    ends = [how(end) for end in sorted(worlds) for how in (str.lower, str.upper, str.capitalize)]
    names = [f"{path.stem}.{end}" for end in ends] + [f"{path.name}.msk", f"{path.name}.aux.xml"]
    return [name for name in names if name in beside]


@lru_cache(64)
def _sidecars(folder: str, changed: int) -> frozenset[str]:
    """Names of a folder's world files, masks and .aux.xml files; listed again when the folder has changed."""
    return frozenset(name for name in os.listdir(folder) if SIDECAR.search(name))  # noqa: PTH208, half the time


def _directories(path: Path) -> Iterator[Any]:
    """The tags of each image in a TIFF, also of one whose pixels Pillow does not read."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with named(path), path.open("rb") as file:
        head = file.read(8)
        directory = ImageFileDirectory_v2(head + file.read(8) if head[2:4] in (b"\x2b\0", b"\0\x2b") else head)
        seen, place = set[int](), directory.next
        while place and place not in seen:
            seen.add(place)
            file.seek(place)
            directory.load(file)
            yield directory
            place = directory.next


def _boxes_of_place(path: Path) -> bool:
    """Whether a JPEG 2000 file has a box of georeference: GeoJP2's UUID, or GML."""
    with named(path), path.open("rb") as file:
        head = file.read(2**16)
    return bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03") in head or b"gml.root-instance" in head


def _orientation(file: GdalFile) -> int:
    """EXIF orientation, or TIFF tag 274, which GDAL does not apply."""
    if file.dataset.driver == "GTiff":
        return int(next(_directories(file.path)).get(ORIENTATION, 1))
    if "EXIF_Orientation" in (tags := file.dataset.tags()):
        return int(tags["EXIF_Orientation"])
    try:
        with Image.open(file.path) as image:
            return _told_orientation(image)
    except (*BOMBS, OSError, SyntaxError):
        return 1


def _told_orientation(image: Image.Image) -> int:
    """What EXIF or XMP says; 1 where neither comes before the pixels."""
    told = {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
    return int(image.getexif().get(ORIENTATION, 1)) if told else 1


def image_size(path: Path, reading: Reading = PLAIN, label: bool = False) -> tuple[int, int]:
    """(height, width) from the file's header.

    Raises:
        UserError: damaged, or not to be read in this way.
    """
    with WindowedImage(path, reading, label) as image:
        return image.size


def read_image(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read an image as uint8 (H, W, channels); without bands to choose that is RGB, grey being repeated.

    Raises:
        UserError: damaged, truncated, of fewer bands, or deeper than this reading takes.
    """
    with WindowedImage(path, reading) as image:
        refuse_huge(path, *image.size)
        return image.read(Window(0, 0, *image.size))


def read_label_values(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read a label as it is coded, integers (H, W); errors as `read_image`."""
    with WindowedImage(path, reading, label=True) as image:
        refuse_huge(path, *image.size)
        return image.read(Window(0, 0, *image.size))


def read_label(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read a label as a mask, uint8 (H, W): 0 unchanged, 1 changed, 255 ignored; see `Reading.mask`.

    A reading that does not say which code means changed is decided by this label alone.

    Raises:
        UserError: damaged, truncated, or its codes can be understood in more ways than one.
    """
    if not reading.decided:
        from datasets.label_counts import decide_alone

        reading = decide_alone([path], reading)
    with WindowedImage(path, reading, label=True) as image:
        refuse_huge(path, *image.size)
        codes, known = image.content(Window(0, 0, *image.size))
        mask = reading.mask(codes)
    if known is not None:
        mask[~known] = 255
    return mask


def pixel_kind(path: Path) -> tuple[int, str]:
    """Number of bands and type of their values: (3, "uint8") is what is read as grey or RGB.

    Raises:
        UserError: damaged, or not to be read without rasterio.
    """
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
            return gdal.file_kind(path)
        except ValueError:
            raise error from None


def all_bands(path: Path) -> Reading:
    """The reading that loses nothing: plain for 8-bit grey or RGB, otherwise every band with its values."""
    plain = pixel_kind(path) == (3, "uint8")
    if plain and not (path.suffix.lower() in TIFF and gdal.installed()):
        return PLAIN
    bands = gdal.value_bands(path)
    return PLAIN if plain and len(bands) < 4 else Reading(bands=bands)

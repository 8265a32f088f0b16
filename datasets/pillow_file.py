"""Reads an image or label of at most 8 bits a channel with Pillow, and what Pillow does not: tags of all its pages."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from datasets.file_errors import OtherColours, Unsuitable, named, refuse_huge, too_deep
from datasets.reading import colour_codes
from datasets.windows import Content, Window

MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # 8 bits or less a channel
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I")  # 16 bits in one channel: labels only
WIDTH, HEIGHT, ORIENTATION, SAMPLE_FORMAT = 256, 257, 274, 339  # tags of a TIFF


class PillowFile:
    """An image or label of at most 8 bits a channel (labels: 16), decoded whole at the first read.

    Attributes are those of `WindowedImage`, and `deep`: True if a channel has more than 8 bits, or signed values.
    """

    grid = None

    def __init__(self, path: Path, label: bool = False, indices: bool = False) -> None:
        """Read the header; `label`: to read codes; `indices`: the codes of a palette are its indices."""
        self.path, self.label, self.indices = path, label, indices
        self._content: Content | None = None
        with named(path), ExitStack() as opened:
            self._image = Image.open(path)
            opened.callback(self._image.close)
            self._read_header(self._image)
            opened.pop_all()

    def _read_header(self, image: Image.Image) -> None:
        mode = image.mode
        self.tags: Any = getattr(image, "tag_v2", {})
        if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise OtherColours(self.path, mode)
        self.mode, self.is_tiff, self.palette = mode, image.format == "TIFF", mode in ("P", "PA")
        signed = self.is_tiff and mode in MODES and self.tags.get(SAMPLE_FORMAT, (1,))[0] == 2
        # Pillow names 16-bit RGB files "RGB" too, and would keep each value's high byte
        self.deep = mode not in MODES or ";16" in str(getattr(image, "tile", "")) or signed
        depth = "int8" if signed else "uint16" if mode in MODES or mode.startswith("I;16") else f"mode {mode}"
        self.kind = (1 if signed or mode in (*DEEP_GREY, "F") else 3, depth if self.deep else "uint8")
        if self.deep and not (self.label and mode in DEEP_GREY):
            what = "a label has one channel, or 8-bit colours; convert the file" if self.label else ""
            raise Unsuitable(f"{self.path}: {what or too_deep(*self.kind)}")
        if self.is_tiff:
            self.orientation = int(self.tags.get(ORIENTATION, 1))
            size = int(self.tags[HEIGHT]), int(self.tags[WIDTH])
        else:
            self.orientation, size = early_orientation(image), (image.height, image.width)
        self.size = size[::-1] if 5 <= self.orientation <= 8 else size
        clear = image.info.get("transparency")
        self.gaps = mode in ("RGBA", "LA", "PA") or clear is not None
        self.nodata: float | None = clear if self.label and mode in ("1", "L", *DEEP_GREY) else None

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def read(self, window: Window) -> Content:
        """Read values (h, w, 3), or codes (h, w) of a label, and where they are data, None: everywhere."""
        if self._content is None:
            refuse_huge(self.path, *self.size)
            with named(self.path):
                self._content = self._decode(self._image)
            self._image.close()
        values, known = self._content
        return values[window.slices], None if known is None else known[window.slices]

    def _decode(self, image: Image.Image) -> Content:
        if self.is_tiff and self.orientation != 1:
            # with a name, Pillow maps the pixels into memory in the shape they have when turned
            image.filename = ""  # type: ignore[attr-defined]
        image.load()  # turns a TIFF upright
        if not self.is_tiff:
            late = int(image.getexif().get(ORIENTATION, 1)) if "exif" in image.info else self.orientation
            if late != self.orientation:
                raise Unsuitable(f"{self.path}: its EXIF orientation comes after the pixels; save the image upright")
            if self.orientation != 1:
                image = ImageOps.exif_transpose(image)
        known = None
        if self.gaps:
            clear = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
            known = np.array(clear.getchannel("A")) > 0
        if self.label and (image.mode in DEEP_GREY or (image.mode == "P" and self.indices)):
            return np.array(image), known
        wanted = "L" if self.label and image.mode in ("1", "L", "LA") else "RGB"
        pixels = np.array(image if image.mode == wanted else image.convert(wanted))
        return colour_codes(pixels) if self.label and wanted == "RGB" else pixels, known


def early_orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF or XMP before the pixels; 1 if there is none."""
    found = {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
    return int(image.getexif().get(ORIENTATION, 1)) if found else 1


def directories(path: Path) -> Iterator[Any]:
    """Yield the tags of each image in a TIFF, even if Pillow does not read its pixels."""
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

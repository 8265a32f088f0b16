"""Reads what Pillow does not: tags of all images in a TIFF, and boxes of a JPEG 2000 file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.file_errors import named


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


def has_place(path: Path) -> bool:
    """Return True if a JPEG 2000 file has a box of georeference: GeoJP2's UUID, or GML."""
    with named(path), path.open("rb") as file:
        head = file.read(2**16)
    return bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03") in head or b"gml.root-instance" in head

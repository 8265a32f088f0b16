"""Writes a PNG a few rows at a time, so that an image may be larger than memory."""

import struct
import zlib
from pathlib import Path

import numpy as np

from utils.files import naming

COLOUR_TYPES = {1: 0, 3: 2}  # channels to PNG's number for grey and for RGB


class PngStream:
    """A PNG file under way; what was written is an image only after `close`."""

    def __init__(self, path: Path, size: tuple[int, int], channels: int = 1, bits: int = 8) -> None:
        """Begin the file.

        Args:
            path: the file.
            size: (height, width) in pixels.
            channels: 1 for grey, 3 for RGB.
            bits: of a channel, 8 or 16.
        """
        height, width = size
        self._path, self._file = path, path.open("wb")
        self._deflate = zlib.compressobj()
        self._before = channels * bits // 8  # bytes from a value to the same of the pixel on its left
        self._file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[channels], 0, 0, 0))

    def write(self, pixels: np.ndarray) -> None:
        """Add the next rows, (n, width) or (n, width, 3), uint8 or uint16.

        Raises:
            OSError: they cannot be written; the error names the file.
        """
        # values as differences from the pixel on the left, PNG's filter 1, which goes in front of each row
        big_endian = pixels.astype(pixels.dtype.newbyteorder(">"), order="C", copy=False)
        rows = big_endian.view(np.uint8).reshape(len(pixels), -1)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = 1
        filtered[:, 1 : 1 + self._before] = rows[:, : self._before]
        np.subtract(rows[:, self._before :], rows[:, : -self._before], out=filtered[:, 1 + self._before :])
        self._chunk(b"IDAT", self._deflate.compress(filtered.data))

    def close(self) -> None:
        """End the file."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")
        with naming(self._path):
            self._file.close()

    def abandon(self) -> None:
        """Leave it as it is."""
        self._file.close()

    def _chunk(self, kind: bytes, content: bytes) -> None:
        if not content and kind != b"IEND":
            return
        with naming(self._path):
            self._file.write(struct.pack(">I", len(content)) + kind + content)
            self._file.write(struct.pack(">I", zlib.crc32(kind + content)))

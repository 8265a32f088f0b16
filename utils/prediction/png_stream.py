"""Writes a PNG a few rows at a time, so that an image may be larger than memory."""

import struct
import zlib
from pathlib import Path

import numpy as np

from utils.files import naming

COLOUR_TYPES = {1: 0, 3: 2}  # PNG's number for grey and for RGB, by channels
PALETTE = 3  # its number for indices of colours


class PngStream:
    """A PNG file of 1 or 3 channels of 8 or 16 bits that is being written; it is valid only after `close`.

    `size` is (height, width). With `colours`, uint8 (n, 3), it has one channel of indices into them.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], channels: int = 1, bits: int = 8, colours: np.ndarray | None = None
    ) -> None:
        self._path, self._file, self._deflate = path, path.open("wb"), zlib.compressobj()
        self._step = channels * bits // 8  # bytes of a pixel
        self._file.write(b"\x89PNG\r\n\x1a\n")
        kind = COLOUR_TYPES[channels] if colours is None else PALETTE
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, 0))
        if colours is not None:
            self._chunk(b"PLTE", colours.tobytes())

    def write(self, pixels: np.ndarray) -> None:
        """Add the next rows, (n, width) or (n, width, 3), uint8 or uint16.

        Raises:
            OSError: they cannot be written; the error names the file.
        """
        # PNG's filter 1, whose number starts each row: differences from the pixel on the left
        big_endian = pixels.astype(pixels.dtype.newbyteorder(">"), order="C", copy=False)
        rows = big_endian.view(np.uint8).reshape(len(pixels), -1)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = 1
        filtered[:, 1 : 1 + self._step] = rows[:, : self._step]
        np.subtract(rows[:, self._step :], rows[:, : -self._step], out=filtered[:, 1 + self._step :])
        if content := self._deflate.compress(filtered.data):
            self._chunk(b"IDAT", content)

    def close(self) -> None:
        """Complete the file."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")
        with naming(self._path):
            self._file.close()

    def abandon(self) -> None:
        """Close the incomplete file."""
        self._file.close()

    def _chunk(self, kind: bytes, content: bytes) -> None:
        with naming(self._path):
            self._file.write(struct.pack(">I", len(content)) + kind + content)
            self._file.write(struct.pack(">I", zlib.crc32(kind + content)))

"""Decoded tiles in one memory-mapped file a split, for training that would otherwise decode them in every epoch.

The file begins with HEADER bytes of JSON that say what it was made from; the samples follow, each as before and after,
(H, W, channels), and mask, (H, W), all uint8. It may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.change_pairs import Arrays, size_of
from datasets.open_pair import read_pair
from datasets.pairs import Pair
from datasets.reading import PixelFormat
from datasets.threads import threaded
from utils.console import UserError
from utils.files import naming

log = logging.getLogger(__name__)
HEADER, FORMAT = 4096, 2
STALE = 3600  # seconds; a fill that goes on writes many times in an hour


class TileCache:
    """cache(pair) -> before, after, mask: what `read_pair` gives, without opening the pair's files.

    Each process maps the file when it first needs a sample, so workers share the system's one copy of it in memory,
    which is given back when memory is short.
    """

    def __init__(self, path: Path, pairs: Sequence[Pair], header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.rows = {pair: row for row, pair in enumerate(pairs)}
        self._tiles: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tiles": None}  # a spawned worker maps the file itself

    def __call__(self, pair: Pair) -> Arrays:
        """The sample as arrays of its own; copying it takes a fiftieth of a millisecond at 256 x 256.

        Raises:
            UserError: since the run began, another one has put other tiles in the file's place.
        """
        if self._tiles is None:
            if _read_header(self.path) != self.header:
                raise UserError(f"{self.path}: changed by another run; give every data set a --cache of its own")
            shape = self.header["pairs"], _sample_bytes(self.header)
            self._tiles = np.asarray(np.memmap(self.path, np.uint8, "r", HEADER, shape))
        height, width, channels = self.header["shape"]
        tile, size = self._tiles[self.rows[pair]].copy(), height * width * channels
        before, after = (tile[at : at + size].reshape(height, width, channels) for at in (0, size))
        return before, after, tile[2 * size :].reshape(height, width)


def open_cache(path: Path, pairs: Sequence[Pair], reading: PixelFormat) -> TileCache:
    """The cache of these pairs, filled first unless it is there and neither they nor their reading have changed.

    Args:
        path: the file; its folder is made.
        pairs: all pairs of a split; their tiles have one size.
        reading: how files become pixels.

    Raises:
        UserError: sizes differ, a file cannot be read, or there is not enough space.
    """
    sources, found = _digest(pairs, reading), _read_header(path)
    if found and found.get("sources") == sources and path.stat().st_size == _file_bytes(found):
        log.info("%s: %d decoded tiles", path, len(pairs))
        return TileCache(path, pairs, found)
    if path.exists():
        torn = not found or path.stat().st_size != _file_bytes(found)
        log.warning("%s: %s; made anew", path, "torn" if torn else "its images, or how they are read, have changed")
    shape = [*_common_size(pairs, reading), reading.channels]
    header = {"format": FORMAT, "sources": sources, "pairs": len(pairs), "shape": shape}
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_space(path, _file_bytes(header))
    _fill(path, pairs, reading, header)
    return TileCache(path, pairs, header)


def _digest(pairs: Sequence[Pair], reading: PixelFormat) -> str:
    """Names, sizes and times of change of all files and what lies beside them, and how they are read."""
    digest = hashlib.sha256(f"{FORMAT} {reading!r}\n".encode())
    for pair in pairs:
        digest.update(f"{json.dumps([pair.name, pair.stamp])}\n".encode())
    return digest.hexdigest()


def _read_header(path: Path) -> dict[str, Any] | None:
    """What the file says of itself; None if there is none, or it says nothing that can be understood."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(HEADER))
            return header if header["format"] == FORMAT else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _sample_bytes(header: dict[str, Any]) -> int:
    height, width, channels = header["shape"]
    return height * width * (2 * channels + 1)


def _file_bytes(header: dict[str, Any]) -> int:
    return HEADER + header["pairs"] * _sample_bytes(header)


def _common_size(pairs: Sequence[Pair], reading: PixelFormat) -> tuple[int, int]:
    """(height, width) of all pairs, from their headers."""
    sizes = threaded(partial(size_of, reading=reading), pairs)
    first = None
    for pair, size in zip(pairs, sizes, strict=True):
        first = first or size
        if size != first:
            raise UserError(
                f"{pair.before}: {size[0]} x {size[1]} pixels among tiles of {first[0]} x {first[1]}; --cache takes "
                f"tiles of one size: leave it out, or cut them with python -m tools.prepare_tiles"
            )
    return first or (0, 0)


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"{path}: decoded, these tiles take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; "
            f"give --cache a folder on another disk, or leave it out"
        )


def _fill(path: Path, pairs: Sequence[Pair], reading: PixelFormat, header: dict[str, Any]) -> None:
    """Decode all pairs into a file of this process's own beside `path`; it takes that name when it is whole."""
    _remove_stale(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".partial")
    bar = tqdm(total=len(pairs), desc=f"decoding into {path.name}", unit="pair", dynamic_ncols=True)
    try:
        with naming(path), os.fdopen(handle, "wb") as file, bar as progress:
            file.write(json.dumps(header).encode().ljust(HEADER))
            for arrays in threaded(partial(read_pair, reading=reading), pairs):
                file.writelines(np.ascontiguousarray(array).data for array in arrays)
                progress.update()
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove what killed fills of `path` left: files that nobody has written to for STALE seconds."""
    for left in path.parent.glob(f".{path.stem}.*.partial"):
        with suppress(OSError):  # another process removes it
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()

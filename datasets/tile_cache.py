"""Keeps decoded tiles in one memory-mapped file a split, for training that would decode them in every epoch.

The file begins with HEADER bytes of JSON about its source. The samples follow, each as before and after,
(H, W, channels), and mask, (H, W), all uint8. It may be deleted at any time.
"""

import hashlib
import json
import logging
import math
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

from datasets.change_pairs import Arrays, sizes_of
from datasets.open_pair import read_pair
from datasets.pairs import Pair
from datasets.reading import PixelFormat
from datasets.threads import threaded
from utils.console import UserError
from utils.files import naming

log = logging.getLogger(__name__)
HEADER, FORMAT = 4096, 3
STALE = 3600  # seconds; a process that fills a file writes many times an hour


class TileCache:
    """cache(pair) -> before, after, mask: returns what `read_pair` does, without opening the pair's files.

    Each process maps the file when it first needs a sample, so workers share the system's one copy in memory, which
    the system frees when memory is short.
    """

    def __init__(self, path: Path, pairs: Sequence[Pair], header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.rows = {pair: row for row, pair in enumerate(pairs)}
        self._tiles: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tiles": None}  # a spawned worker maps the file itself

    def __call__(self, pair: Pair) -> Arrays:
        """Copy a sample, unless another run has replaced the file since this one began; 0.02 ms at 256 x 256."""
        if self._tiles is None:
            if _read_header(self.path) != self.header:
                raise UserError(f"{self.path}: changed by another run; pass another --cache for each data set")
            rows = self.header["pairs"], _sample_bytes(self.header)
            self._tiles = np.asarray(np.memmap(self.path, np.uint8, "r", HEADER, rows))
        shape, tile = self.header["shape"], self._tiles[self.rows[pair]].copy()
        before, after, mask = np.split(tile, [math.prod(shape), 2 * math.prod(shape)])
        return before.reshape(shape), after.reshape(shape), mask.reshape(shape[:2])


def open_cache(path: Path, pairs: Sequence[Pair], reading: PixelFormat) -> TileCache:
    """Open the cache of a split's pairs; fill it first if it is missing, or if the pairs or their format have changed.

    Raises:
        UserError: sizes differ, a file cannot be read, or there is not enough space.
    """
    sources, found = _digest(pairs, reading), _read_header(path)
    whole = found is not None and path.stat().st_size == _file_bytes(found)
    if found and whole and found.get("sources") == sources:
        log.info("%s: %d decoded tiles", path, len(pairs))
        return TileCache(path, pairs, found)
    if path.exists():
        what = "its images, or how they are read, have changed" if whole else "torn"
        log.warning("%s: %s; made anew", path, what)
    shape = [*_common_size(pairs, reading), reading.channels]
    header = {"format": FORMAT, "sources": sources, "pairs": len(pairs), "shape": shape}
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = _file_bytes(header), shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"{path}: decoded, these tiles take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; "
            f"give --cache a folder on another disk, or leave it out"
        )
    _fill(path, pairs, reading, header)
    return TileCache(path, pairs, header)


def _digest(pairs: Sequence[Pair], reading: PixelFormat) -> str:
    """Hash names, sizes and times of change of all files and their sidecars, and how they are read."""
    digest = hashlib.sha256(f"{FORMAT} {reading!r}\n".encode())
    for pair in pairs:
        digest.update(f"{json.dumps([pair.name, pair.stamp])}\n".encode())
    return digest.hexdigest()


def _read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file; None if there is no file, or no header."""
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
    sizes = sizes_of(pairs, reading)
    for pair, size in zip(pairs, sizes, strict=True):
        if size != sizes[0]:
            first, other = ("{} x {}".format(*each) for each in (sizes[0], size))
            raise UserError(
                f"{pair.before}: {other} pixels among tiles of {first}; --cache takes tiles of one size: leave it "
                f"out, or cut them with python -m tools.prepare_tiles"
            )
    return sizes[0]


def _fill(path: Path, pairs: Sequence[Pair], reading: PixelFormat, header: dict[str, Any]) -> None:
    """Decode all pairs into a temporary file beside `path` and rename it when it is whole."""
    for left in path.parent.glob(f".{path.stem}.*.partial"):  # of killed processes
        with suppress(OSError):  # another process removes it
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
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

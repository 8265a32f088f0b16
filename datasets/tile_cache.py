"""Decoded tiles in one memory-mapped file a split, for training that would otherwise decode them in every epoch.

The file begins with HEADER bytes of JSON that say what it was made from; the samples follow, each as before and after,
(H, W, channels), and mask, (H, W), all uint8. It may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.change_pairs import Arrays, size_of
from datasets.open_pair import read_pair
from datasets.pairs import Pair
from datasets.reading import Reading
from datasets.threads import threaded

log = logging.getLogger(__name__)
HEADER, FORMAT = 4096, 2


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
            ValueError: since the run began, another one has put other tiles in the file's place.
        """
        if self._tiles is None:
            if _read_header(self.path) != self.header:
                raise ValueError(f"{self.path}: changed by another run; give every data set a --cache of its own")
            shape = self.header["pairs"], _sample_bytes(self.header)
            self._tiles = np.asarray(np.memmap(self.path, np.uint8, "r", HEADER, shape))
        height, width, channels = self.header["shape"]
        tile, size = self._tiles[self.rows[pair]].copy(), height * width * channels
        before, after = (tile[at : at + size].reshape(height, width, channels) for at in (0, size))
        return before, after, tile[2 * size :].reshape(height, width)


def open_cache(path: Path, pairs: Sequence[Pair], reading: Reading) -> TileCache:
    """The cache of these pairs, filled first unless it is there and neither they nor their reading have changed.

    Args:
        path: the file; its folder is made.
        pairs: all pairs of a split; their tiles have one size.
        reading: how files become pixels.

    Raises:
        ValueError: sizes differ, a file cannot be read, or there is not enough space.
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


def _digest(pairs: Sequence[Pair], reading: Reading) -> str:
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


def _common_size(pairs: Sequence[Pair], reading: Reading) -> tuple[int, int]:
    """(height, width) of all pairs, from their headers."""
    sizes = threaded(partial(size_of, reading=reading), pairs)
    first = None
    for pair, size in zip(pairs, sizes, strict=True):
        first = first or size
        if size != first:
            raise ValueError(
                f"{pair.before}: {size[0]} x {size[1]} pixels among tiles of {first[0]} x {first[1]}; --cache takes "
                f"tiles of one size: leave it out, or cut them with python -m tools.prepare_tiles"
            )
    return first or (0, 0)


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ValueError(
            f"{path}: decoded, these tiles take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; "
            f"give --cache a folder on another disk, or leave it out"
        )


def _partial(path: Path) -> tuple[int, str]:
    """A new file beside `path`, open and locked, when what killed fills left there is gone.

    A lock ends with its process, however that ends; so a file without one is of no fill that still goes on.
    """
    for left in path.parent.glob(f".{path.stem}.*.partial"):
        with suppress(OSError), _lock_of(left):  # gone, or in use
            left.unlink()
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".partial")
        with suppress(OSError):  # not every network disk has locks; then nothing there can be taken for left
            _lock(handle, wait=True)
        if Path(name).exists():  # else another process took it for left before it was locked
            return handle, name
        os.close(handle)


@contextmanager
def _lock_of(path: Path) -> Iterator[None]:
    """Hold a file's lock; an OSError says that another process does. Windows just removes no file that is open."""
    if sys.platform == "win32":
        yield
        return
    with path.open("r+b") as file:
        _lock(file.fileno(), wait=False)
        yield


def _lock(handle: int, wait: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _fill(path: Path, pairs: Sequence[Pair], reading: Reading, header: dict[str, Any]) -> None:
    """Decode all pairs into a file beside `path`, which takes its name when it is whole and on the disk."""
    handle, name = _partial(path)
    bar = tqdm(total=len(pairs), desc=f"decoding into {path.name}", unit="pair", dynamic_ncols=True)
    try:
        with os.fdopen(handle, "wb") as file, bar as progress:
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

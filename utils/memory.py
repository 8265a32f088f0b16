"""This process and its memory: whether freed memory is kept, and the most it held."""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from utils.machine import peak_memory

# numbers of mallopt's parameters and their defaults, from glibc's malloc.h and malloc.c
TRIM_THRESHOLD, MMAP_MAX = -1, -4
DEFAULTS = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the rest of the process, so that a forward pass does not fault new pages in.

    Returns:
        Whether this C library can do so; others are left as they are.
    """
    return _set_malloc({MMAP_MAX: 0, TRIM_THRESHOLD: -1})


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[bool]:
    """As `keep_freed_memory`, but within the block alone.

    Afterwards glibc's defaults are back, without their adjustment to the sizes in use, and what was kept is returned to
    the system.

    Yields:
        Whether memory is kept: it is wanted, and this C library can do so.
    """
    kept = wanted and keep_freed_memory()
    try:
        yield kept
    finally:
        if kept:
            _set_malloc(DEFAULTS)
            _trim()


def resident() -> float:
    """MB that this process holds now; where only the most is told, that."""
    return _status("VmRSS")


def peak_resident() -> float:
    """The most MB that this process held since `forget_peak`, or at all; nan where that is not told."""
    return _status("VmHWM")


def peak_used(device: torch.device) -> float:
    """The most MB that a run held: of a GPU's memory its tensors', else all of this process; nan if not told."""
    return peak_memory(device) if device.type == "cuda" else peak_resident()


def used_now(device: torch.device) -> float:
    """MB that a run holds now: of a GPU's memory its tensors', else all of this process."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else resident()


def forget_peak() -> None:
    """Give unused memory back and let the peak start anew, where the platform can."""
    _trim()
    with suppress(OSError):  # not Linux, or not allowed: the peak is that of the process
        CLEAR.write_text("5")


def _set_malloc(values: Mapping[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if STATUS.exists() else None
    if mallopt is None:
        return False
    return all(mallopt(parameter, value) for parameter, value in values.items())


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if STATUS.exists() else None
    if trim:
        trim(0)


def _status(field: str) -> float:
    try:
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines[field].split()[0]) / 1024
    except (OSError, KeyError):
        return peak_memory(torch.device("cpu"))

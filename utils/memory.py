"""This process and its memory: whether freed memory is kept, and the most it held."""

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

from utils.runtime import peak_memory

# numbers of mallopt's parameters, from glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX = -1, -4
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for what comes next, in place of faulting new pages in at every forward pass.

    It holds for all of this process, so a script asks for it, and no class does.

    Returns:
        Whether this C library can do so; others are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if STATUS.exists() else None
    return bool(mallopt and mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))


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
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if STATUS.exists() else None
    if trim:
        trim(0)
    with suppress(OSError):  # not Linux, or not allowed: the peak is that of the process
        CLEAR.write_text("5")


def _status(field: str) -> float:
    try:
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines[field].split()[0]) / 1024
    except (OSError, KeyError):
        return peak_memory(torch.device("cpu"))

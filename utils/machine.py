"""The machine under a script: its device, number formats, seeds, compiler and memory."""

import copy
import ctypes
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from utils.console import UserError

log = logging.getLogger(__name__)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read when CUDA's matrix library starts
PAUSE_HARD = 2  # omp_pause_hard of OpenMP 5.0's omp.h
# numbers of mallopt's parameters and their defaults, from glibc's malloc.h and malloc.c
TRIM_THRESHOLD, MMAP_MAX = -1, -4
DEFAULTS = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def pick_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" is CUDA where there is one.

    Raises:
        UserError: the name is none, or its device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: {torch.cuda.device_count()} CUDA devices are visible; use --device cpu")
    return device


def amp_type(device: torch.device, name: str = "auto") -> torch.dtype:
    """The half-precision type of mixed precision: bf16, fp16, or by "auto" float16 on a GPU that has no bfloat16."""
    if name != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


@contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """Within the block, torch computes the same bits in every run on the same device, or chooses what is fastest."""
    cudnn, workspace = torch.backends.cudnn, os.environ.get(WORKSPACE)
    before = cudnn.benchmark, cudnn.deterministic
    wanted = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        cudnn.benchmark = not deterministic
        if deterministic:
            os.environ.setdefault(WORKSPACE, ":4096:8")
            torch.use_deterministic_algorithms(True)
            cudnn.deterministic = True
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        if deterministic:
            torch.use_deterministic_algorithms(wanted, warn_only=warn_only)
            if workspace is None:
                os.environ.pop(WORKSPACE, None)


@contextmanager
def flush_denormals(device: torch.device) -> Iterator[None]:
    """On a CPU, treat denormal numbers as 0 within the block: arithmetic with them takes many times as long.

    HANet's training meets enough of them to be slowed down.
    """
    before = (torch.tensor(1e-39) * 0.5).item() == 0
    known = device.type == "cpu" and torch.set_flush_denormal(True)
    try:
        if known:
            _renew_threads()
        yield
    finally:
        if known:
            torch.set_flush_denormal(before)
            _renew_threads()


def _renew_threads() -> None:
    """End PyTorch's idle threads, where they are libgomp's: new ones inherit this thread's treatment of denormals."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        with suppress(OSError, AttributeError):  # libgomp before 9 cannot
            ctypes.CDLL(str(path)).omp_pause_resource_all(PAUSE_HARD)


def compiled(network: nn.Module, channels: int, device: torch.device, half: torch.dtype | None) -> nn.Module:
    """torch.compile of a network; itself, with a warning, where that fails.

    Compiling happens at the first call, so a copy is tried out on noise first; the real one then finds most of it done.
    """
    trial = torch.compile(copy.deepcopy(network).train())
    noise = torch.rand(2, 2, channels, 64, 64, device=device).contiguous()
    try:
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            sum(logits.float().sum() for logits in trial(*noise)).backward()
    except Exception as error:  # compilers fail in many ways
        log.warning("--compile: not possible here, training goes on without (%s)", first_line(error))
        return network
    return cast(nn.Module, torch.compile(network))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def seed_everything(*key: int) -> None:
    """Seed torch's draws (weights, dropout) from numbers such as (seed, epoch)."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])  # NumPy 1 shifts no uint64 by an int
    torch.manual_seed(state >> 1)


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the rest of the process, so that a forward pass does not fault new pages in.

    Returns:
        Whether this C library can do so; others are left as they are.
    """
    return _set_malloc({MMAP_MAX: 0, TRIM_THRESHOLD: -1})


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[bool]:
    """As `keep_freed_memory`, but within the block alone; afterwards glibc has its defaults and returns the memory.

    Yields:
        Whether memory is kept: it is wanted, and this C library can do so.
    """
    kept = wanted and keep_freed_memory()
    try:
        yield kept
    finally:
        if kept:
            _set_malloc(DEFAULTS)
            return_freed_memory()


def peak_used(device: torch.device) -> float:
    """The most MB in use so far: a GPU's tensors, else this process since `forget_peak`; nan where unknown."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _resident("VmHWM")


def used_now(device: torch.device) -> float:
    """MB in use: a GPU's tensors, else this process; where only its peak is known, the peak."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else _resident("VmRSS")


def forget_peak() -> None:
    """Return unused memory and start the peak anew, where the platform can."""
    return_freed_memory()
    with suppress(OSError):  # not Linux, or not allowed: the peak is that of the process
        CLEAR.write_text("5")


def return_freed_memory() -> None:
    """Give memory that glibc keeps back to the operating system."""
    if trim := _libc("malloc_trim"):
        trim(0)


def _set_malloc(values: Mapping[int, int]) -> bool:
    mallopt = _libc("mallopt")
    return bool(mallopt) and all(mallopt(parameter, value) for parameter, value in values.items())


def _libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if STATUS.exists() else None


def _resident(field: str) -> float:
    with suppress(OSError, KeyError):
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines[field].split()[0]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

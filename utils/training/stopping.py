"""Signals that ask a long run to stop, and the processes that load its data."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Within a `with` block, Ctrl-C and SIGTERM are noted and do not end the process; a second one ends it.

    Attributes:
        number: of the signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "Stopping":
        self._before = [(number, signal.signal(number, self._note)) for number in SIGNALS]
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def starting_workers() -> Iterator[None]:
    """Start loader processes in this block that leave signals to this process.

    Ctrl-C reaches all processes of a terminal; those that are started here block it. PyTorch's handler for the end of a
    child raises in the middle of a training step, so the earlier handler is restored: the loader also notices the end
    when it is asked for the next batch.
    """
    if not hasattr(signal, "SIGCHLD"):  # Windows, where only `ignore_interrupt` protects the workers
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which new processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def ignore_interrupt(worker: int = 0) -> None:
    """Ignore Ctrl-C in this process; a loader calls it in each worker, with the worker's number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def loader_trouble(error: BaseException) -> str:
    """What happened to the processes that load, and what to do; empty for an error that is not about them."""
    text, number = str(error), getattr(error, "errno", None) if getattr(error, "filename", None) is None else None
    if "shared memory" in text or "</torch_" in text or number == errno.ENOSPC:
        return (
            "/dev/shm, the memory that loader processes share, is full: use --num-workers 0 or a smaller --batch-size, "
            "or make it larger (in Docker: --shm-size 8g)"
        )
    if "ancdata" in text or "Too many open files" in text:
        return "too many open files: use fewer --num-workers, or raise the limit with ulimit -n"
    died = "exited unexpectedly" in text or "killed by signal" in text or isinstance(error, EOFError | ConnectionError)
    if died or "Caught MemoryError" in text or "shared file mapping" in text or number in (errno.ENOMEM, errno.EAGAIN):
        return (
            "a process that loads images ended, or could not be started, as when memory runs out: use fewer "
            "--num-workers (0 loads without), or a smaller --batch-size"
        )
    return ""

"""What a long run survives: signals that ask it to stop, loader processes that die, the moments at which it saves."""

import errno
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Within a `with` block, Ctrl-C and SIGTERM are taken down instead of ending the process; a second one ends it.

    Attributes:
        received: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    @property
    def number(self) -> int:
        """Number of the signal that came, 0 if none did."""
        return int(self.received or 0)

    def __enter__(self) -> "Stopping":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._take_down)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _take_down(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)


class Every:
    """Says when so many minutes have passed; 0 never does."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time, again; saying yes starts the next wait."""
        if not self.seconds or time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True


@contextmanager
def starting_workers() -> Iterator[None]:
    """Start loader processes in this block that leave signals to this process.

    Ctrl-C reaches all processes of a terminal: those that are started here never see it. PyTorch's handler for the end
    of a child is put back, because it raises in the middle of a training step; the loader itself also notices the end,
    when it is asked for the next batch.
    """
    if not hasattr(signal, "SIGCHLD"):  # Windows, where `ignore_interrupt` has to do
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which new processes take over
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def ignore_interrupt(worker: int = 0) -> None:
    """Let Ctrl-C end a process only through the one that started it; a loader calls it with the worker's number."""
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

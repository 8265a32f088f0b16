"""Sends many scenes through one network: threads read ahead and write behind while the caller's thread predicts.

Which windows make a batch follows from a group of scenes alone, not from what of it is left to do: a network's rounding
depends on the size of a batch, so only then do a run that was interrupted, or shared among processes, and an unbroken
one give the same bytes. Windows that are in a batch but not wanted are zeros, and are not read.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from datasets.windows import Window
from utils.console import UserError
from utils.prediction.blending import Blender, Cover
from utils.prediction.predictor import ChangePredictor, Dates

BACKLOG = 2**27  # bytes of probabilities that may wait to be written, 128 MB
Item = TypeVar("Item")
Result = TypeVar("Result")


class Job(Protocol):
    """A scene to predict. Its calls come one after the other, from several threads; only `read` runs beside the others.

    A ValueError, in `open` and `read` also an OSError, makes this job fail while the others go on.
    """

    def open(self) -> tuple[int, int]:
        """Get ready to be read; gives (height, width)."""

    def rows(self, cover: Cover) -> range:
        """Rows of windows whose finished pixels are wanted; empty: nothing of this scene is."""

    def read(self, window: Window) -> Dates:
        """Both dates of a window."""

    def write(self, top: int, probability: np.ndarray) -> None:
        """Take the next finished rows, float32 (n, width)."""

    def finish(self) -> None:
        """All that was wanted is written."""

    def fail(self, error: Exception) -> None:
        """It cannot be done, and why."""

    def close(self) -> None:
        """The last call, also of an interrupted run: let go of everything; leave nothing behind that is not whole."""


class _Flow:
    """A job under way: which of its windows are needed, and what went wrong with it."""

    def __init__(self, job: Job, number: int, cover: Cover) -> None:
        self.job, self.number, self.cover = job, number, cover
        self.error: Exception | None = None
        rows = job.rows(cover)
        self.top = cover.tops[rows.start] if rows else cover.size[0]  # first row of pixels that is handed on
        self.bottom = cover.tops[rows.stop - 1] if rows else -1  # where the last row of windows begins
        needed = [window for window in cover.windows if self.needs(window)]
        self.last, self.share = needed[-1] if needed else None, 1 / max(1, len(needed))
        self.blender = Blender(cover, cover.tops.index(needed[0].top) if needed else 0)

    def needs(self, window: Window) -> bool:
        """Whether it reaches into the rows that are handed on."""
        return window.top + window.height > self.top and window.top <= self.bottom

    def attempt(self, call: Callable[..., object], *args: object) -> None:
        """One of the job's calls, unless it has failed."""
        if self.error is None:
            try:
                call(*args)
            except UserError as error:
                self.error = error

    def end(self) -> None:
        """Finish the job, or say why it failed."""
        self.attempt(self.job.finish)
        if self.error is not None:
            self.job.fail(self.error)


Batch = list[tuple[_Flow, Window]]


class Pipeline:
    """Predicts jobs; see the module's head.

    Args:
        predictor: the network, and how scenes are cut into windows.
        threads: that read, and as many that write.
        advance: told of progress, as shares of a job.
    """

    def __init__(
        self, predictor: ChangePredictor, threads: int = 2, advance: Callable[[float], object] = lambda share: None
    ) -> None:
        self.predictor, self.threads, self.advance = predictor, max(1, threads), advance
        self._pool, self._lanes = ThreadPoolExecutor(self.threads), _Lanes(self.threads)
        self._open: set[_Flow] = set()
        self._count = 0

    def run(self, groups: Iterable[Sequence[Job]]) -> None:
        """Predict all jobs of all groups, once; a good group has about as many as make a batch.

        Raises:
            OSError: something could not be written.
        """
        try:
            opened = _ahead(groups, lambda group: self._pool.submit(_open_all, group), 1)
            batches = (batch for group in opened for batch in self._plan(group))
            for batch, dates in _ahead(batches, lambda batch: self._pool.submit(self._read, batch), self.threads):
                self._predict(batch, dates)
            self._lanes.wait()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._lanes.stop()
            for flow in self._open:
                flow.job.close()

    def _plan(self, group: Iterable[tuple[Job, tuple[int, int] | Exception]]) -> Iterator[Batch]:
        """Batches of a group's windows; those of which nothing is needed are left out."""
        waiting: dict[tuple[int, int], Batch] = defaultdict(list)
        for job, size in group:
            if isinstance(size, Exception):
                job.fail(size)
                job.close()
                self.advance(1)
                continue
            self._count += 1
            flow = _Flow(job, self._count, self.predictor.cover(*size))
            self._open.add(flow)
            shape = self.predictor.padded(flow.cover.shape)
            for window in flow.cover.windows:
                waiting[shape].append((flow, window))
                if len(waiting[shape]) == self.predictor.batch_for(shape):
                    yield from _needed(waiting.pop(shape))
            if flow.last is None:
                self._lanes.submit(flow.number, 0, self._close, flow)
        for batch in waiting.values():
            yield from _needed(batch)

    def _read(self, batch: Batch) -> tuple[Batch, tuple[Tensor, Tensor]]:
        """The batch with its pixels."""
        pixels = []
        for flow, window in batch:
            dates = None
            if flow.needs(window) and flow.error is None:
                try:
                    dates = flow.job.read(window)
                except (UserError, OSError) as error:
                    flow.error = error
            pixels.append(dates or 2 * (np.zeros((*flow.cover.shape, self.predictor.channels), np.uint8),))
        return batch, self.predictor.collate(pixels)

    def _predict(self, batch: Batch, dates: tuple[Tensor, Tensor]) -> None:
        """Predict a batch, and have written whatever rows it finishes."""
        probabilities = self.predictor.probability(*dates).cpu().numpy()
        for (flow, window), probability in zip(batch, probabilities, strict=True):
            if not flow.needs(window):
                continue
            height, width = flow.cover.shape
            for top, rows in flow.blender.add(window, probability[:height, :width]):
                if top >= flow.top:
                    self._lanes.submit(flow.number, rows.nbytes, flow.attempt, flow.job.write, top, rows)
            self.advance(flow.share)
            if window == flow.last:
                self._lanes.submit(flow.number, 0, flow.end)
                self._lanes.submit(flow.number, 0, self._close, flow)

    def _close(self, flow: _Flow) -> None:
        flow.job.close()
        self._open.discard(flow)


def _open_all(jobs: Sequence[Job]) -> list[tuple[Job, tuple[int, int] | Exception]]:
    """The jobs and their sizes, or what kept them from being opened."""
    opened: list[tuple[Job, tuple[int, int] | Exception]] = []
    for job in jobs:
        try:
            opened.append((job, job.open()))
        except (UserError, OSError) as error:
            opened.append((job, error))
    return opened


def _needed(batch: Batch) -> Iterator[Batch]:
    """The batch, if any of its windows is needed."""
    if any(flow.needs(window) and flow.error is None or window == flow.last for flow, window in batch):
        yield batch


def _ahead(items: Iterable[Item], submit: Callable[[Item], "Future[Result]"], count: int) -> Iterator[Result]:
    """What submitted items become, in order; `count` of them are under way while one is looked at."""
    futures: deque[Future[Result]] = deque()
    for item in items:
        futures.append(submit(item))
        if len(futures) > count:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


class _Lanes:
    """Threads that write: what has one number is done by one of them, in order; little waits."""

    def __init__(self, count: int) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0

    def submit(self, number: int, size: int, call: Callable[..., None], *args: object) -> None:
        """Have a call made that holds `size` bytes; raises what an earlier one raised."""
        self._waiting.append((self._threads[number % len(self._threads)].submit(call, *args), size))
        self._bytes += size
        while self._waiting and (self._bytes > BACKLOG or self._waiting[0][0].done()):
            self._take()

    def _take(self) -> None:
        future, size = self._waiting.popleft()
        self._bytes -= size
        future.result()

    def wait(self) -> None:
        """Until all is done."""
        while self._waiting:
            self._take()

    def stop(self) -> None:
        """End the threads; what has not begun is left out."""
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

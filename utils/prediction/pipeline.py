"""Sends many scenes through one network: threads read ahead and write behind while the caller's thread predicts.

A network's rounding depends on the size of a batch. Batches therefore follow from a group of scenes alone, not from
what is left to predict, so that a resumed or shared run gives the bytes of an unbroken one. Windows of a batch that are
not needed are zeros, and are not read.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from torch import Tensor

from datasets.windows import Window
from utils.console import UserError
from utils.prediction.blending import Blender, Cover
from utils.prediction.map_jobs import MapJob
from utils.prediction.predictor import ChangePredictor

BACKLOG = 2**27  # bytes of probabilities that may wait to be written, 128 MB
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Flow:
    """A job under way: the windows it needs, and its error."""

    def __init__(self, job: MapJob, number: int, cover: Cover) -> None:
        self.job, self.number, self.cover = job, number, cover
        self.error: Exception | None = None
        rows = job.rows(cover)
        self.top = cover.tops[rows.start] if rows else cover.size[0]  # first row of pixels to write
        self.bottom = cover.tops[rows.stop - 1] if rows else -1  # first row of the last row of windows
        needed = [window for window in cover.windows if self.needs(window)]
        self.last, self.share = needed[-1] if needed else None, 1 / max(1, len(needed))
        self.blender = Blender(cover)

    def needs(self, window: Window) -> bool:
        """Return True if a window reaches into the rows to write."""
        return window.top + window.height > self.top and window.top <= self.bottom

    def attempt(self, call: Callable[..., object], *args: object) -> None:
        """Call a method of the job, unless it has failed."""
        if self.error is None:
            try:
                call(*args)
            except UserError as error:
                self.error = error

    def end(self) -> None:
        """Finish the job, or record its error."""
        self.attempt(self.job.finish)
        if self.error is not None:
            self.job.fail(self.error)


Batch = list[tuple[_Flow, Window]]


class Pipeline:
    """Predicts jobs, see the top of this module, with `threads` that read and as many that write.

    `advance` is called with progress, in shares of a job.
    """

    def __init__(
        self, predictor: ChangePredictor, threads: int = 2, advance: Callable[[float], object] = lambda share: None
    ) -> None:
        self.predictor, self.threads, self.advance = predictor, max(1, threads), advance
        self._pool, self._lanes = ThreadPoolExecutor(self.threads), _Lanes(self.threads)
        self._open: set[_Flow] = set()
        self._count = 0

    def run(self, groups: Iterable[Sequence[MapJob]]) -> None:
        """Predict all jobs of all groups; a good group has about as many as a batch.

        Raises:
            OSError: something could not be written.
        """
        try:
            groups_of_flows = _ahead(groups, lambda group: self._pool.submit(self._flows, group), 1)
            batches = (batch for flows in groups_of_flows for batch in self._plan(flows) if _needed(batch))
            for batch, dates in _ahead(batches, lambda batch: self._pool.submit(self._read, batch), self.threads):
                self._predict(batch, dates)
            self._lanes.wait()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._lanes.stop()
            for flow in self._open:
                flow.job.close()

    def _flows(self, jobs: Sequence[MapJob]) -> list[_Flow]:
        """The jobs that can be opened."""
        flows = []
        for job in jobs:
            try:
                size = job.open()
            except (UserError, OSError) as error:
                job.fail(error)
                job.close()
                self.advance(1)
            else:
                self._count += 1
                flows.append(_Flow(job, self._count, self.predictor.cover(*size, job.pixel_size)))
        self._open.update(flows)
        return flows

    def _plan(self, flows: Iterable[_Flow]) -> Iterator[Batch]:
        """Batches of a group's windows."""
        waiting: dict[tuple[int, int], Batch] = defaultdict(list)
        for flow in flows:
            shape = self.predictor.padded(flow.cover.seen)
            for window in flow.cover.windows:
                waiting[shape].append((flow, window))
                if len(waiting[shape]) == self.predictor.batch_for(shape):
                    yield waiting.pop(shape)
            if flow.last is None:
                self._lanes.submit(flow.number, 0, self._close, flow)
        yield from waiting.values()

    def _read(self, batch: Batch) -> tuple[Batch, tuple[Tensor, Tensor]]:
        pixels = []
        for flow, window in batch:
            dates = None
            if flow.needs(window) and flow.error is None:
                try:
                    dates = flow.cover.to_network(flow.job.read(window))
                except (UserError, OSError) as error:
                    flow.error = error
            pixels.append(dates or 2 * (np.zeros((*flow.cover.seen, self.predictor.channels), np.uint8),))
        return batch, self.predictor.collate(pixels)

    def _predict(self, batch: Batch, dates: tuple[Tensor, Tensor]) -> None:
        """Predict a batch, and submit the rows it finishes for writing."""
        probabilities = self.predictor.probability(*dates).cpu().numpy()
        for (flow, window), probability in zip(batch, probabilities, strict=True):
            if not flow.needs(window):
                continue
            for top, rows in flow.blender.add(window, flow.cover.from_network(probability)):
                if top >= flow.top:
                    self._lanes.submit(flow.number, rows.nbytes, flow.attempt, flow.job.write, top, rows)
            self.advance(flow.share)
            if window == flow.last:
                self._lanes.submit(flow.number, 0, flow.end)
                self._lanes.submit(flow.number, 0, self._close, flow)

    def _close(self, flow: _Flow) -> None:
        flow.job.close()
        self._open.discard(flow)


def _needed(batch: Batch) -> bool:
    """Whether any window of a batch is needed."""
    return any(flow.needs(window) and flow.error is None or window == flow.last for flow, window in batch)


def _ahead(items: Iterable[Item], submit: Callable[[Item], "Future[Result]"], count: int) -> Iterator[Result]:
    """Results of submitted items, in order; `count` of them are computed ahead."""
    futures: deque[Future[Result]] = deque()
    for item in items:
        futures.append(submit(item))
        if len(futures) > count:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


class _Lanes:
    """Threads that write; calls of one number are made by one thread, in order."""

    def __init__(self, count: int) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0

    def submit(self, number: int, size: int, call: Callable[..., None], *args: object) -> None:
        """Submit a call that holds `size` bytes; wait while more than BACKLOG are held."""
        self._waiting.append((self._threads[number % len(self._threads)].submit(call, *args), size))
        self._bytes += size
        self.wait(BACKLOG)

    def wait(self, held: int = -1) -> None:
        """Wait until at most `held` bytes are held; by default, for all calls. Errors of calls are raised."""
        while self._waiting and (self._bytes > held or self._waiting[0][0].done()):
            future, size = self._waiting.popleft()
            self._bytes -= size
            future.result()

    def stop(self) -> None:
        """End the threads; calls that have not begun are dropped."""
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

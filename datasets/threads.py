"""Work on many files in threads; Pillow, NumPy and zlib work outside the interpreter lock, so threads are enough."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def threaded(function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """Results in the order of the items, each let go once it is consumed.

    Only a few items a thread are taken ahead, so memory does not grow with their number, and after an error, or when
    the consumer stops, no more of them are begun.

    Args:
        function: what to do with an item.
        items: taken one by one.
        workers: threads; by default a few more than there are cores.
    """
    count = workers or min(32, (os.cpu_count() or 1) + 4)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

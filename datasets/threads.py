"""Work on many files in threads, which suffice since Pillow, NumPy and zlib release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from utils.console import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def threaded(function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """Yield results in the order of the items; by default a few more threads than cores work.

    At most four items per thread are taken ahead, so memory does not grow with their number. After an error, or when
    the consumer stops, no more items are begun.
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


def readable(function: Callable[[Item], Result], lenient: bool) -> Callable[[Item], Result | None]:
    """Make a function return None for files that cannot be read if `lenient`; otherwise it raises as before."""

    def call(item: Item) -> Result | None:
        try:
            return function(item)
        except (UserError, OSError):
            if not lenient:
                raise
            return None

    return call

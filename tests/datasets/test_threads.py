"""Results in order, few taken ahead, and an end in sight."""

import threading
import time

import pytest

from datasets.threads import threaded


def test_results_keep_their_order():
    assert list(threaded(lambda n: time.sleep(0.002 * (n % 3)) or -n, range(50), 4)) == [-n for n in range(50)]
    assert list(threaded(abs, [])) == []


def test_few_items_are_taken_ahead_of_the_consumer():
    """What waits does not depend on how many there are."""
    taken = []

    def items():
        for n in range(10_000):
            taken.append(n)
            yield n

    for n, result in enumerate(threaded(abs, items(), 2)):
        assert n == result
        assert len(taken) <= n + 8
    assert len(taken) == 10_000


def test_an_error_or_a_consumer_that_stops_ends_the_work():
    begun, may_go, before = [], threading.Event(), threading.active_count()

    def work(n):
        begun.append(n)
        if n == 0:
            raise ValueError("the first")
        may_go.wait(5)

    with pytest.raises(ValueError, match="the first"):
        threading.Timer(0.05, may_go.set).start()
        list(threaded(work, range(1000), 2))
    assert len(begun) < 5
    results = threaded(abs, range(1000), 2)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before

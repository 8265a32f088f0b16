"""Signals are taken down, not obeyed at once; time passes."""

import os
import signal
import time

import pytest

from utils.survival import Every, Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_taken_down_and_a_second_one_obeyed(number):
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert stopping.received is None
        os.kill(os.getpid(), number)
        assert stopping.received == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert signal.getsignal(number) is before


def test_every_so_many_minutes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    every, never = Every(2), Every(0)
    for seconds, due in ((100, False), (19, False), (1, True), (1, False), (119, True)):
        now[0] += seconds
        assert every.due() == due
        assert not never.due()

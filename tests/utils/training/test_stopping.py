"""Signals are noted and end nothing at once; loader processes do not see Ctrl-C."""

import errno
import os
import signal
import sys
import time

import pytest

from tests.scripts import python
from utils.training.stopping import Stopping, loader_trouble, starting_workers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_taken_down_and_a_second_one_obeyed(number):
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert stopping.number == 0
        os.kill(os.getpid(), number)
        assert stopping.number == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform == "win32", reason="has neither of these signals")
def test_processes_started_as_workers_do_not_see_ctrl_c():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    before = signal.getsignal(signal.SIGCHLD)
    with starting_workers():
        signal.signal(signal.SIGCHLD, lambda *_: None)  # as PyTorch's loader does
        worker = python("-c", code)
    other = python("-c", code)
    assert (worker.stdout, other.stdout) == ("True\n", "False\n")
    assert signal.getsignal(signal.SIGCHLD) is before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "ended, or could not be started"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "ended, or could not be started"),
        (RuntimeError("Pin memory thread exited unexpectedly"), "ended, or could not be started"),
        (MemoryError("Caught MemoryError in DataLoader worker process 0."), "--num-workers (0 loads without)"),
        (EOFError(), "ended, or could not be started"),
        (ConnectionResetError(104, "Connection reset by peer"), "ended, or could not be started"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ended, or could not be started"),
        (RuntimeError("worker is killed by signal: Bus error. ... out of shared memory"), "/dev/shm"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_5_0>: No space left"), "/dev/shm"),
        (OSError(errno.ENOSPC, "No space left on device"), "/dev/shm"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    ],
)
def test_what_happens_to_loader_processes_is_told(error, words):
    assert words in loader_trouble(error)
    assert "--num-workers" in loader_trouble(error)


@pytest.mark.parametrize("error", [ValueError("a.png: damaged"), OSError(28, "No space left", "a.txt"), KeyError("a")])
def test_other_errors_are_none_of_the_loader(error):
    assert loader_trouble(error) == ""

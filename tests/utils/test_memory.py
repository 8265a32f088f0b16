"""Freed memory is kept where that was asked for, and the most that a prediction held is told."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.scripts import predict
from utils import machine as memory
from utils.prediction import session

FAULTS = """
import resource
from utils.machine import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"1") * (32 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
with freed_memory_kept() as known:
    faults()
    kept = faults()
print(int(known), given_back, kept, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not memory.STATUS.exists(), reason="Linux alone")
def test_kept_memory_is_not_faulted_in_again():
    """In a process of its own, where nothing else is freed; afterwards it is as before."""
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    known, given_back, kept, afterwards = map(int, done.stdout.split())
    if not known:
        pytest.skip("this C library has no mallopt")
    assert kept * 10 < given_back
    assert afterwards > 0.9 * given_back


@pytest.mark.parametrize(("flags", "kept"), [((), True), (("--no-keep-memory",), False)])
def test_prediction_keeps_memory_and_tells_its_peak(flags, kept, checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(session, "freed_memory_kept", lambda wanted: made.append(wanted) or nullcontext())
    monkeypatch.setattr(memory, "_resident", lambda field: {"VmHWM": 1234.4}[field])
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, "--no-report", *flags)
    assert made == [kept]
    assert "peak memory: 1234 MB\n" in capsys.readouterr().err

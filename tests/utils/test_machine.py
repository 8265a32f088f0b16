"""Devices, seeds, denormal numbers, deterministic algorithms, and memory that is kept and measured."""

import os
import threading
from contextlib import nullcontext

import pytest
import torch

from tests.scripts import predict_set, python
from utils import machine
from utils.machine import WORKSPACE, algorithms, flush_denormals, pick_device, seed_everything
from utils.prediction import session


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto") == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="use auto, cpu, cuda or cuda:N"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="use --device cpu"):
        pick_device("cuda:99")


def test_seeds_depend_on_every_part_of_the_key():
    def draw(*key):
        seed_everything(*key)
        return torch.rand(1).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(*key) for key in [(1, 2), (2, 1), (1, 3), (1,), (0, 1, 2)]}) == 5
    seed_everything(1, 2)
    assert torch.initial_seed() == 7764949442709860949  # also with NumPy 1.26, which has no uint64 >> int


def test_tiny_numbers_are_zero_while_training_on_a_cpu_and_no_longer():
    tiny = torch.tensor(1e-39)
    with pytest.raises(KeyError), flush_denormals(torch.device("cpu")):
        assert (tiny * 0.5).item() == 0
        assert (torch.tensor(1e-37) * 0.5).item() > 0
        raise KeyError
    assert (tiny * 0.5).item() > 0
    with flush_denormals(torch.device("meta")):
        assert (tiny * 0.5).item() > 0


def zeros():
    """The share of tiny numbers that count as 0, computed by two threads."""
    return ((torch.full((400_000,), 1e-39) * 0.5) == 0).double().mean().item()


def in_new_threads(function):
    """Run in a thread whose two threads of PyTorch are started by what it computes first."""
    found = []

    def run():
        torch.set_num_threads(2)
        found.append(function())

    threads, thread = torch.get_num_threads(), threading.Thread(target=run)
    thread.start()
    thread.join()
    torch.set_num_threads(threads)
    (values,) = found
    return values


@pytest.mark.parametrize(("before", "expected"), [(False, (1, 0)), (True, (1, 1))])
def test_threads_that_start_while_training_lose_the_setting(before, expected):
    """Unless it was made before."""

    def shares():
        torch.set_flush_denormal(before)
        with flush_denormals(torch.device("cpu")):
            within = zeros()
        return within, zeros()

    assert in_new_threads(shares) == expected


@pytest.mark.parametrize("deterministic", [True, False])
def test_algorithms_are_as_before_afterwards(deterministic, monkeypatch):
    def state():
        return cudnn.benchmark, cudnn.deterministic, torch.get_deterministic_debug_mode(), os.environ.get(WORKSPACE)

    cudnn = torch.backends.cudnn
    monkeypatch.delenv(WORKSPACE, raising=False)
    # PyTorch's own function imports its compiler, which takes seconds
    monkeypatch.setattr(torch, "use_deterministic_algorithms", torch._C._set_deterministic_algorithms)
    monkeypatch.setattr(cudnn, "benchmark", deterministic)
    before = state()
    with pytest.raises(KeyError), algorithms(deterministic):
        assert state() == ((False, True, 2, ":4096:8") if deterministic else (True, False, 0, None))
        raise KeyError
    assert state() == before


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
@pytest.mark.skipif(not machine.STATUS.exists(), reason="Linux alone")
def test_kept_memory_is_not_faulted_in_again():
    """In a process of its own, where nothing else is freed; afterwards it is as before."""
    known, given_back, kept, afterwards = map(int, python("-c", FAULTS).stdout.split())
    if not known:
        pytest.skip("this C library has no mallopt")
    assert kept * 10 < given_back
    assert afterwards > 0.9 * given_back


@pytest.mark.parametrize(("flags", "kept"), [((), True), (("--no-keep-memory",), False)])
def test_prediction_keeps_memory_and_tells_its_peak(flags, kept, checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(session, "freed_memory_kept", lambda wanted: made.append(wanted) or nullcontext())
    monkeypatch.setattr(machine, "_resident", lambda field: {"VmHWM": 1234.4}[field])
    predict_set(checkpoint, drawn_set, tmp_path, "--no-report", *flags)
    assert made == [kept]
    assert "peak memory: 1234 MB\n" in capsys.readouterr().err

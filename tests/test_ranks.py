"""Several processes on the CPU: they count what one counts, step as one steps, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
HANET = [
    "--recipe",
    "hanet",
    "--device",
    "cpu",
    "--model-options",
    "width=4",
    "--linear-epochs",
    "0",
    "--num-workers",
    "0",
]
pytestmark = pytest.mark.slow


def torchrun(count, *words, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *map(str, words)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def found(count, *words):
    process = torchrun(count, "-m", "tests.ranks", *words)
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def test_two_processes_count_and_step_as_one(drawn_set, tmp_path):
    """4 validation pairs in one batch: one process has all of them and the other none, and none is seen twice."""
    words = ["--data-root", drawn_set, "--output", tmp_path, "--batch-size", 4, "--loss", "bce", *HANET]
    one, two = (found(count, *words, "--cache", tmp_path / f"cache-{count}") for count in (1, 2))
    assert two["fills"] == one["fills"] == 2  # train and val, by one process
    assert two["counts"] == one["counts"]
    assert two["levels"] == one["levels"] == 4 * 64 * 64
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    one_gradient, two_gradient = (np.array(x["gradient"]) for x in (one, two))
    assert np.abs(two_gradient - one_gradient).max() <= 1e-5 * np.abs(one_gradient).max()


def test_ranks_wait_for_a_late_one_and_fail_with_the_first():
    assert found(2, "late") == {"sum": 2, "highest": [1, 0], "errors": [1, 1]}


def workers_of(process):
    """Process ids of the ranks, in their order, that torchrun started."""
    children = subprocess.run(["ps", "-o", "pid,args", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in re.findall(r"^\s*(\d+) .*train_aux\.py", children.stdout, re.MULTILINE)]


def wait_for_epoch(process, number):
    """Read on until an epoch is done."""
    for line in process.stderr:
        if f"epoch {number}: loss" in line:
            return
    pytest.fail("no such epoch")


def test_a_signal_to_one_process_stops_all_and_loses_no_step(drawn_set, tmp_path):
    """Epochs of 3 steps: the ranks agree after every step, so last.pt is seldom that of an epoch's end."""
    words = ["train_aux.py", "--data-root", drawn_set, "--output", tmp_path / "run", "--batch-size", 4, *HANET]
    process = torchrun(2, *words, "--epochs", 500)
    wait_for_epoch(process, 1)
    os.kill(workers_of(process)[1], signal.SIGTERM)
    started = time.monotonic()
    _, err = process.communicate(timeout=110)
    assert time.monotonic() - started < 30
    assert "stopped by SIGTERM; all that was trained is kept" in err
    assert "AssertionError" not in err
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert last["unfinished"] is not None


def test_an_image_that_vanishes_from_one_process_ends_all_and_loses_no_step(data, tmp_path):
    words = ["train_aux.py", "--data-root", data, "--output", tmp_path / "run", "--batch-size", 4, *HANET]
    process = torchrun(2, *words, "--epochs", 500)
    wait_for_epoch(process, 1)
    (data / "train" / "A" / "scene_0003.png").unlink()
    _, err = process.communicate(timeout=110)
    assert "scene_0003.png" in err
    assert "error: another process of this run failed; its message says why" in err
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["unfinished"] is not None


def test_a_run_of_two_processes_ends_as_a_whole(drawn_set, tmp_path):
    """One folder, written once; resumed after a stop; and when one process is killed, the other ends with a message."""
    words = ["train_aux.py", "--data-root", drawn_set, "--output", tmp_path / "run", "--batch-size", 4, *HANET]
    whole = torchrun(2, *words, "--epochs", 2)
    _, err = whole.communicate(timeout=110)
    assert whole.returncode == 0, err[-3000:]
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 3
    assert err.count("epoch 2: loss") == 1

    words[4] = tmp_path / "long"
    process = torchrun(2, *words, "--epochs", 500)
    last = tmp_path / "long" / "last.pt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.1)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    started = time.monotonic()
    _, err = process.communicate(timeout=110)
    assert time.monotonic() - started < 60
    assert process.returncode != 0
    assert "another process of this run died or hangs" in err or "stopped by SIGTERM" in err
    resumed = torchrun(2, *words, "--epochs", 500, "--resume")
    for line in resumed.stderr:
        if "resuming after" in line:
            break
    else:
        pytest.fail("did not resume")
    resumed.terminate()  # torchrun then ends both, which a kill would leave running
    resumed.communicate(timeout=110)

"""Several processes on the CPU: they count what one counts, step as one steps, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import ranks
from tests.scripts import HANET, ROOT, SMALL, loaded, log_of

FLAGS = [*HANET, *SMALL, "--model-options", "width=4", "--linear-epochs", "0"]
ENDLESS = ("--epochs", 500)
pytestmark = pytest.mark.slow


def torchrun(*words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *map(str, words)], cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1
    )  # fmt: skip


def training(data, folder, *flags):
    return torchrun("train_aux.py", "--data-root", data, "--output", folder, *FLAGS, *flags)


def found(*words):
    process = torchrun("-m", "tests.ranks", *words)
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def wait_for(process, words):
    """Read the log on until it has these words."""
    assert any(words in line for line in process.stderr), f"never logged: {words}"


def end_of(process, number=None):
    """Signal the second of the processes that torchrun started, if at all; the rest of the log, within a minute."""
    if number:
        children = subprocess.run(["ps", "-o", "pid,args", "--ppid", str(process.pid)], capture_output=True, text=True)
        os.kill(int(re.findall(r"^\s*(\d+) .*train_aux\.py", children.stdout, re.MULTILINE)[1]), number)
    started = time.monotonic()
    _, err = process.communicate(timeout=110)
    assert time.monotonic() - started < 60
    assert process.returncode != 0
    return err


def test_two_processes_count_and_step_as_one(drawn_set, tmp_path):
    """4 validation pairs in one batch: one process has all of them and the other none, and none is seen twice."""
    words = ["--data-root", drawn_set, "--output", tmp_path, "--loss", "bce", *FLAGS]
    one, two = (
        run(*map(str, (*words, "--cache", tmp_path / name)))
        for name, run in (("one", lambda *argv: ranks.measure(argv)), ("two", found))
    )
    assert two["fills"] == one["fills"] == 2  # train and val, by one process
    assert two["counts"] == one["counts"]
    assert two["levels"] == one["levels"] == 4 * 64 * 64
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    one_gradient, two_gradient = (np.array(x["gradient"]) for x in (one, two))
    assert np.abs(two_gradient - one_gradient).max() <= 1e-5 * np.abs(one_gradient).max()


def test_ranks_wait_for_a_late_one_and_fail_with_the_first():
    assert found("late") == {"sum": 2, "highest": [1, 0], "errors": [1, 1]}


def test_a_signal_to_one_process_stops_all_and_the_resumed_run_is_written_once(drawn_set, tmp_path):
    """Epochs of 3 steps: the ranks agree after every step, so last.pt is seldom that of an epoch's end."""
    flags = ("--epochs", 4)
    process = training(drawn_set, tmp_path / "run", *flags)
    wait_for(process, "run folder: ")  # after the first epoch
    err = end_of(process, signal.SIGTERM)
    assert "stopped by SIGTERM; all that was trained is kept" in err
    assert "AssertionError" not in err
    last = loaded(tmp_path / "run")
    assert last["unfinished"] is not None
    resumed = training(drawn_set, tmp_path / "run", *flags, "--resume")
    _, err = resumed.communicate(timeout=110)
    assert resumed.returncode == 0, err[-3000:]
    assert f"resuming after {last['epoch']} epochs and {last['unfinished']['step']} steps" in err
    assert err.count("epoch 4: loss") == 1
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["1", "2", "3", "4"]


def test_an_image_that_vanishes_from_one_process_ends_all_and_loses_no_step(data, tmp_path):
    process = training(data, tmp_path / "run", *ENDLESS)
    wait_for(process, "run folder: ")  # after the first epoch
    (data / "train" / "A" / "scene_0003.png").unlink()
    err = end_of(process)
    assert "scene_0003.png" in err
    assert "error: another process of this run failed; its message says why" in err
    assert loaded(tmp_path / "run")["unfinished"] is not None


def test_when_one_process_is_killed_the_other_ends(drawn_set, tmp_path):
    process = training(drawn_set, tmp_path / "run", *ENDLESS)
    wait_for(process, "run folder: ")  # after the first epoch
    err = end_of(process, signal.SIGKILL)
    assert "another process of this run died or hangs" in err or "stopped by SIGTERM" in err
    assert loaded(tmp_path / "run")["epoch"] >= 1

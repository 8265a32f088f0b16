"""A run that is killed at any moment and goes on each time ends with the very weights of the unbroken one."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("KILLS", "3"))
EPOCHS = 2 * KILLS  # so that the last kill still finds it training
FLAGS = ["--recipe", "hanet", "--model-options", "width=4", "--linear-epochs", "2", "--device", "cpu"]


def start(data, folder, *flags):
    words = ["train_aux.py", "--data-root", data, "--output", folder, *FLAGS, "--epochs", EPOCHS, "--batch-size", "2"]
    words += ["--deterministic", "--num-workers", "0", "--save-minutes", "0.004", *flags]  # every quarter of a second
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * KILLS)
def test_killed_at_random_moments(drawn_set, tmp_path):
    """No file is torn, log.csv has neither gap nor double, and the weights are equal bit by bit."""
    whole = start(drawn_set, tmp_path / "whole")
    _, err = whole.communicate()
    assert whole.returncode == 0, err[-2000:]
    rng, folder = random.Random(0), tmp_path / "run"
    for kill in range(KILLS):
        process = start(drawn_set, folder, *(["--resume"] if kill else []))
        for line in process.stderr:  # what it says just before the steps begin
            if "data set:" in line:
                break
        time.sleep(rng.uniform(0.1, 3))
        process.kill()
        process.communicate()
        for path in folder.glob("[!.]*.pt"):  # a partial file, which a kill may leave, begins with a dot
            torch.load(path, weights_only=True)
        if (folder / "log.jsonl").exists():
            for line in (folder / "log.jsonl").read_text().splitlines():
                json.loads(line)
    process = start(drawn_set, folder, "--resume")
    _, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    broken, unbroken = (torch.load(f / "last.pt", weights_only=True) for f in (folder, tmp_path / "whole"))
    assert all(torch.equal(broken["weights"][name], value) for name, value in unbroken["weights"].items())
    with (folder / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(n) for n in range(1, EPOCHS + 1)]
    assert list(folder.glob(".*")) == []

"""A run that is killed at any moment and resumed each time ends with the very weights of the unbroken one."""

import json
import os
import random
import time

import pytest
import torch

from tests.scripts import forkserver, loaded, log_of, same_weights, train

KILLS = int(os.environ.get("KILLS", "2"))
EPOCHS = KILLS  # so that the last kill may still find it training
FLAGS = ("--model-options", "width=4", "--batch-size", 2, "--deterministic", "--save-minutes", 0.004)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * KILLS)
def test_killed_at_random_moments(drawn_set, tmp_path):
    """No file is torn, log.csv has neither gap nor double, and the weights are equal bit by bit."""
    train(drawn_set, tmp_path / "whole", *FLAGS, epochs=EPOCHS)
    rng, folder = random.Random(0), tmp_path / "run"
    for kill in range(KILLS):
        words = (drawn_set, folder, *FLAGS, *(["--resume"] if kill else []))
        process = forkserver().Process(target=train, args=words, kwargs={"epochs": EPOCHS})
        process.start()
        while process.is_alive() and not (kill or folder.exists()):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.05, 1))
        process.kill()
        process.join()
        for path in folder.glob("[!.]*.pt"):  # a partial file, which a kill may leave, begins with a dot
            torch.load(path, weights_only=True)
        if (folder / "log.jsonl").exists():
            for line in (folder / "log.jsonl").read_text().splitlines():
                json.loads(line)
    train(drawn_set, folder, *FLAGS, "--resume", epochs=EPOCHS)
    assert same_weights(loaded(folder), loaded(tmp_path / "whole"))
    assert [row["epoch"] for row in log_of(folder)] == [str(n) for n in range(1, EPOCHS + 1)]
    assert list(folder.glob(".*")) == []

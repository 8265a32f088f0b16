"""What a run does between two steps."""

import time
from types import SimpleNamespace

from utils.training.engine import Epoch
from utils.training.trainer import Trainer


def test_last_is_written_every_so_many_minutes(monkeypatch):
    """Of steps that end after 100, 119, 120, 121 and 240 seconds; not in the middle of a step of two parts."""
    now, written = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for minutes in (2, 0):
        run = SimpleNamespace(
            config=SimpleNamespace(save_minutes=minutes), learner=SimpleNamespace(accumulate=2),
            begin=lambda: None, save_last=lambda epoch, minutes=minutes: written.append((minutes, now[0])),
        )  # fmt: skip
        trainer, epoch = Trainer(run, [], SimpleNamespace(number=0), saved=0.0), Epoch(0, 9, 1)
        batches = trainer._together(range(99), epoch)
        for second in (0, 100, 119, 120, 121, 240):
            now[0] = second
            assert next(batches) % 2 == 0
            now[0] = 1000
            assert next(batches) % 2 == 1
    assert written == [(2, 120), (2, 240)]
    trainer.stopping.number = 15
    assert list(batches) == []

"""What a run does between two steps."""

import time
from types import SimpleNamespace

from utils.training.engine import Epoch
from utils.training.trainer import Trainer


def test_last_is_written_every_so_many_minutes(monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    runs = {
        minutes: SimpleNamespace(
            config=SimpleNamespace(save_minutes=minutes),
            begin=lambda: None,
            save_last=lambda epoch, minutes=minutes: written.append((minutes, now[0])),
        )
        for minutes in (2, 0)
    }
    trainers = [Trainer(run, [], SimpleNamespace(number=0), saved=100.0) for run in runs.values()]
    for seconds in (100, 19, 1, 1, 119):
        now[0] += seconds
        assert [trainer._between_steps(Epoch(0, 9, 1)) for trainer in trainers] == [False, False]
    assert written == [(2, 220.0), (2, 340.0)]
    assert Trainer(runs[0], [], SimpleNamespace(number=15))._between_steps(Epoch(0, 9, 1))

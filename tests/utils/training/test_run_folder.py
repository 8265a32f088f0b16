"""The logs of a run, and the second name of its best.pt."""

import json
import sys
from types import SimpleNamespace

import numpy as np

from tests.scripts import log_of, pixels
from utils.training import run_folder
from utils.training.curves import draw_curves
from utils.training.run_folder import Run, link_best, write_events, write_run_log


def rows(count):
    names = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", "f1", "precision", "recall", "iou")]
    return [{"epoch": n + 1, "lr": 0.1, **dict.fromkeys(names, 0.5 / (n + 1))} for n in range(count)]


def test_logs_and_curves_hold_the_whole_history_once(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "draw_curves", draw_curves)
    for count in (1, 3):
        write_run_log(tmp_path, rows(count))
    table = log_of(tmp_path)
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert float(table[2]["val_f1"]) == np.float64(f"{0.5 / 3:.6g}")
    lines = (tmp_path / "test.txt").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("Epoch:2|val loss:0.250000|val F1:0.2500|")
    assert (tmp_path / "train.txt").read_text().startswith("Epoch:1|train loss:0.500000|train F1:0.5000|")
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == rows(3)
    chart = pixels(tmp_path / "curves.png")[..., :3]
    assert chart.shape[0] > 500
    assert ((chart == (209, 73, 91)).all(-1)).sum() > 300  # the validation curves' red


def test_best_has_one_second_name(tmp_path):
    for n, row in enumerate(rows(2)):
        (tmp_path / "best.pt").write_text(str(n))
        link_best(tmp_path, row)
    (named,) = tmp_path.glob("F1_*")
    assert named.name == "F1_0.2500_iou_0.2500_epoch_2.pth"
    assert named.read_text() == "1"


def test_of_epochs_with_equal_scores_the_last_is_best():
    """A short run may have an F1 of 0 in each: its first weights are not the best ones."""
    kept = []
    run = SimpleNamespace(history=[], begin=list, save_last=list, _write_logs=list)
    run._save_best = lambda: kept.append(run.history[-1]["epoch"])
    for epoch, f1 in enumerate([0.0, 0.0, 0.3, 0.2, 0.3, 0.1], 1):
        Run.end_epoch(run, {"epoch": epoch, "val_f1": f1})
    assert kept == [1, 2, 3, 5]


def test_tensorboard_gets_both_splits_in_one_chart(tmp_path, monkeypatch):
    """Where it is installed; a stand-in takes its place here."""
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path / "events")

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def add_scalar(self, tag, value, step):
            written.append((tag, value, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    write_events(tmp_path, [{"epoch": 3, "lr": 0.1, "train_f1": 0.5, "val_f1": 0.4, "selected_on": "test"}])
    assert written == [("lr", 0.1, 3), ("f1/train", 0.5, 3), ("f1/val", 0.4, 3)]

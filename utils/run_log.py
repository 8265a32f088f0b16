"""A run explains itself: log.csv, log.jsonl, the authors' train.txt and test.txt, curves.png, TensorBoard's events."""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files import naming, written_whole
from utils.training.curves import draw_curves

Row = Mapping[str, float]


def write_run_log(folder: Path, history: Sequence[Row]) -> None:
    """Write every log file of a run from its whole history, so a resumed run has neither gap nor double.

    Args:
        folder: the run's folder.
        history: one mapping an epoch; scores are fractions.
    """
    write_csv(folder / "log.csv", history)
    write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    for name, split in (("train.txt", "train"), ("test.txt", "val")):
        lines = (
            f"Epoch:{row['epoch']}|{split} loss:{row[f'{split}_loss']:.6f}|{split} F1:{row[f'{split}_f1']:.4f}"
            f"|{split} precision:{row[f'{split}_precision']:.4f}|{split} recall:{row[f'{split}_recall']:.4f}"
            f"|{split} IoU:{row[f'{split}_iou']:.4f}\n"
            for row in history
        )
        write_text(folder / name, "".join(lines))
    note = "best.pt is chosen on the test split: its scores there flatter" if "selected_on" in history[-1] else ""
    draw_curves(history, folder / "curves.png", note)
    write_events(folder, history)


def write_events(folder: Path, history: Sequence[Row]) -> None:
    """Write the history as TensorBoard's events, where that is installed; the old file is replaced."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    events = folder / "events"
    shutil.rmtree(events, ignore_errors=True)
    with naming(events), SummaryWriter(str(events)) as writer:
        for row in history:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "selected_on")}
            for name, value in numbers.items():
                split, _, score = name.partition("_")
                tag = f"{score}/{split}" if split in ("train", "val") else name  # splits share a chart
                writer.add_scalar(tag, value, int(row["epoch"]))


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the first row's columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; bytes of file names that are no UTF-8 are escaped."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def link_best(folder: Path, row: Row) -> None:
    """Give best.pt its second name, the authors' F1_x_iou_y_epoch_z.pth, in place of the last such name."""
    for old in folder.glob("F1_*_iou_*_epoch_*.pth"):
        old.unlink()
    named = folder / f"F1_{row['val_f1']:.4f}_iou_{row['val_iou']:.4f}_epoch_{row['epoch']}.pth"
    try:
        os.link(folder / "best.pt", named)
    except OSError:  # a file system without hard links
        with written_whole(named) as partial:
            shutil.copy2(folder / "best.pt", partial)


def score_table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """Scores as aligned text, percent with two decimals, one line a row name."""
    width = max(len(name) for name in rows)
    lines = [" " * width + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{name:<{width}}" + "".join(f"{100 * row[c]:>11.2f}" for c in columns) for name, row in rows.items()]
    return "\n".join(lines)

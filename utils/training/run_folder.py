"""A run's folder: its files, when they are written, and how a stopped run resumes from them."""

import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from datasets.scenes import is_drawn
from utils.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from utils.console import UserError
from utils.files import clear_partial, naming, write_csv, write_text, written_whole
from utils.training import distributed
from utils.training.config import FREE_ON_RESUME, TrainConfig, config_as_toml, plain_config
from utils.training.curves import draw_curves
from utils.training.data import Data
from utils.training.engine import Epoch, Learner

log = logging.getLogger("train")
Row = dict[str, Any]  # a line of log.csv
RESUMABLE = {"config", "data", "optimizer", "scaler", "history", "ema", "unfinished"}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a run folder, beside it; UserError if another process trains there. The system frees it."""
    folder = folder.resolve()
    lock = FileLock(folder.parent / f".{folder.name}.run.lock")

    def take() -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{folder}: another process trains here; end it, or pass another --output") from None
        except OSError:  # the first file that is written says what is wrong
            pass

    distributed.by_first(take)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no open file
                Path(lock.lock_file).unlink()
            lock.release()


def run_folder(config: TrainConfig) -> tuple[Path, Checkpoint | None]:
    """The folder of this run, and last.pt of the run in it if --resume continues that.

    Raises:
        UserError: it holds a run, and neither --resume nor --overwrite is given; or its last.pt is no such file, or was
            made with settings that compute something else.
    """
    folder, path = config.folder, config.folder / "last.pt"
    if not path.is_file():
        if config.resume:
            log.warning("%s: no last.pt yet, so this starts with the first epoch", folder)
        return folder, None
    if config.overwrite:
        return folder, None
    if not config.resume:
        raise UserError(
            f"{folder}: holds a run; --resume continues it, --overwrite starts again, --output names another folder"
        )
    last = load_checkpoint(path)
    if not last.keys() >= RESUMABLE:
        raise UserError(f"{path}: not the last.pt of a run (best.pt cannot be resumed); start again with --overwrite")
    if changes := changed_settings(last["config"], plain_config(config)):
        raise UserError(
            f"{path}: made with other settings ({changes}); give the same ones, or --resume --output {folder} alone, "
            f"which takes those of the run; another --output starts a new run"
        )
    return folder, last


def changed_settings(before: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """Settings of two plain configs that differ and change what is computed, as text; empty if there are none."""
    names = [n for n in {**before, **wanted} if n not in FREE_ON_RESUME and before.get(n) != wanted.get(n)]
    return "; ".join(f"{n}: {before.get(n)} there, {wanted.get(n)} here" for n in names)


@dataclass
class Run:
    """A run and its folder; only the first process writes."""

    folder: Path
    config: TrainConfig
    about: Checkpoint  # what all its checkpoints hold besides weights: see `about_run`
    learner: Learner
    history: list[Row] = field(default_factory=list)  # one row an epoch, the columns of log.csv
    texts: Mapping[str, str] = field(default_factory=dict)  # files of the folder known before the first step, by name
    begun: bool = False  # whether the folder holds this run

    @property
    def command(self) -> str:
        """The command that resumes the run."""
        settings, folder = (shlex.quote(str(path)) for path in (self.folder / "config.toml", self.folder))
        return f"python train_aux.py --config {settings} --output {folder} --resume"

    def begin(self) -> None:
        """Write the run's settings into its folder, once; every process calls it after the first step, not before."""
        if not self.begun:
            distributed.by_first(self._write_settings)
            self.begun = True

    def _write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        clear_partial(self.folder)
        (self.folder / "metrics.json").unlink(missing_ok=True)
        versions = {f"{name}_version": metadata.version(name) for name in ("torch", "torchvision", "numpy")}
        origin = {"data": self.about["data"], "commit": git_commit(), "python_version": platform.python_version()}
        for name, text in {"config.toml": config_as_toml(self.config, **origin, **versions), **self.texts}.items():
            write_text(self.folder / name, text)

    def resume(self, last: Checkpoint) -> Epoch | None:
        """Restore everything from last.pt; return the epoch that the run was stopped in, if it was in one."""
        learner = self.learner
        learner.network.load_state_dict(last["weights"])
        learner.optimizer.load_state_dict(last["optimizer"])
        learner.scaler.load_state_dict(last["scaler"])
        if learner.ema:
            learner.ema.load_state_dict(last["ema"])
        self.history = last["history"]
        unfinished = Epoch(**last["unfinished"]) if last["unfinished"] else None
        if unfinished and distributed.rank():  # its sums are of all processes: the first one continues them
            unfinished = Epoch(unfinished.number, unfinished.steps, unfinished.step, seconds=unfinished.seconds)
        within = f" and {unfinished.step} steps" if unfinished else ""
        log.info("resuming after %d epochs%s", len(self.history), within)
        self.begin()
        if self.history and distributed.rank() == 0:
            write_run_log(self.folder, self.history)
        return unfinished

    def save_last(self, unfinished: Epoch | None = None) -> None:
        """Write last.pt: after an epoch, or in the middle of one; every process must call it.

        Nothing is written before the first step. Once the loss is not finite, last.pt stays as it was.
        """
        learner, middle = self.learner, None
        if unfinished:
            if not (self.begun or unfinished.step):
                return
            self.begin()
            pairs = torch.tensor(unfinished.pairs, device=learner.device)
            middle = {**vars(unfinished), "pairs": int(distributed.summed(pairs))}
            middle |= {name: distributed.summed(middle[name].clone()).cpu() for name in ("counts", "losses")}
            if not middle["losses"].isfinite().all():
                return
        states = {
            "optimizer": learner.optimizer.state_dict(),
            "scaler": learner.scaler.state_dict(),
            "ema": learner.ema.state_dict() if learner.ema else None,
            "history": list(self.history),
            "unfinished": middle,
        }
        distributed.by_first(lambda: self._save("last.pt", learner.network, states))

    def _save(self, name: str, network: nn.Module, states: Mapping[str, object]) -> None:
        weights = {key: value.contiguous() for key, value in network.state_dict().items()}
        scores = self.history[-1] if self.history else {}
        content = {**self.about, "epoch": len(self.history), "scores": scores, "weights": weights}
        save_checkpoint(self.folder / name, {**content, "config": plain_config(self.config), **states})

    def end_epoch(self, row: Row) -> None:
        """Add an epoch's row and write its files; the logs come after last.pt, from which they can be made again."""
        self.begin()
        self.history.append(row)
        if all(row["val_f1"] >= earlier["val_f1"] for earlier in self.history[:-1]):
            distributed.by_first(self._save_best)
        self.save_last()
        distributed.by_first(self._write_logs)

    def _save_best(self) -> None:
        self._save("best.pt", self.learner.ema.network if self.learner.ema else self.learner.network, {})
        link_best(self.folder, self.history[-1])

    def _write_logs(self) -> None:
        try:
            write_run_log(self.folder, self.history)
            if len(self.history) == 1:
                self._log_size()
        except OSError as error:  # a log that is open elsewhere must not end the run
            log.warning("the logs of epoch %d could not be written: %s", len(self.history), error)

    def _log_size(self) -> None:
        """Log the size of the folder; best.pt and its second name, where that is a hard link, count once."""
        found = {path: path.stat() for path in self.folder.rglob("*") if path.is_file()}
        total = sum({stat.st_ino or path: stat.st_size for path, stat in found.items()}.values())
        last, best = (found[self.folder / name].st_size for name in ("last.pt", "best.pt"))
        log.info("run folder: %.1f MB (last.pt %.1f MB, best.pt %.1f MB)", total / 1e6, last / 1e6, best / 1e6)

    def write_result(self, result: Mapping[str, object]) -> None:
        """Write metrics.json, and its tuned threshold into best.pt."""
        best = load_checkpoint(self.folder / "best.pt")
        save_checkpoint(self.folder / "best.pt", {**best, "tuned_threshold": result["tuned_threshold"]})
        link_best(self.folder, best["scores"])
        write_text(self.folder / "metrics.json", json.dumps(result, indent=1) + "\n")


def git_commit() -> str:
    """The commit of this code, "-dirty" if files differ from it; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def write_run_log(folder: Path, history: Sequence[Row]) -> None:
    """Write every log file of a run from its whole history, so that a resumed run has neither gap nor double."""
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
            for name in (name for name in row if name not in ("epoch", "selected_on")):
                split, _, score = name.partition("_")
                tag = f"{score}/{split}" if split in ("train", "val") else name  # splits share a chart
                writer.add_scalar(tag, row[name], int(row["epoch"]))


def link_best(folder: Path, row: Row) -> None:
    """Hard-link best.pt under the authors' kind of name, F1_x_iou_y_epoch_z.pth, in place of the last such name."""
    for old in folder.glob("F1_*_iou_*_epoch_*.pth"):
        old.unlink()
    named = folder / f"F1_{row['val_f1']:.4f}_iou_{row['val_iou']:.4f}_epoch_{row['epoch']}.pth"
    try:
        os.link(folder / "best.pt", named)
    except OSError:  # a file system without hard links
        with written_whole(named) as partial:
            shutil.copy2(folder / "best.pt", partial)


def about_run(config: TrainConfig, data: Data) -> Checkpoint:
    """What every checkpoint of the run holds besides its weights: all that a prediction, and a reader, needs."""
    return {
        "model": config.model,
        "options": config.network_options,
        "statistics": data.statistics,
        "reading": data.reading.as_plain(),
        "pixel_size": data.pixel_size,
        "seen": data.seen,
        "tta": data.tta,
        "threshold": 0.5,
        "recipe": config.recipe,
        "selected_on": data.selected_on,
        "data": data.fingerprint,
        "trained_on": data.trained_on,
        "chosen_on": data.chosen_on,
        "drawn_scenes": is_drawn(data.train[0].before),
    }

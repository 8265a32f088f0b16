"""The epochs of a run, from its first step to its result: their order, what ends one early, and what is scored."""

import logging
import math
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from typing import NoReturn

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from models.siamese import InputScaling
from utils.checkpoint import load_checkpoint, network_from, save_whole
from utils.console import UserError
from utils.files import write_csv
from utils.machine import amp_type, compiled, is_out_of_memory, peak_used
from utils.metrics import LEVELS, best_threshold, precision_recall, score_table, scores
from utils.training import distributed
from utils.training.config import TrainConfig
from utils.training.curves import draw_precision_recall
from utils.training.ema import EMA
from utils.training.engine import Batch, DivergedError, Epoch, Evaluation, Learner, evaluate, train_one_epoch
from utils.training.losses import LOSSES, DeepSupervisionLoss
from utils.training.run_folder import Row, Run
from utils.training.schedules import learning_rate
from utils.training.stopping import Stopping, loader_trouble

log = logging.getLogger("train")
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LOGGED = ("f1", "precision", "recall", "iou")


class Stopped(Exception):  # noqa: N818
    """A signal came during something that a resumed run does again from its start."""


class NotLoaded(Exception):  # noqa: N818
    """There is no next batch, in this process or in another one; its cause is the error to end with."""


def build_learner(
    config: TrainConfig,
    network: nn.Module,
    statistics: Mapping[str, Sequence[Sequence[float]]],
    device: torch.device,
    steps: Sequence[int],
) -> Learner:
    """All that a training step needs, on its device; `steps` are those of each epoch."""
    network = network.to(device).to(memory_format=torch.channels_last)
    if config.sync_bn and distributed.ranks() > 1:
        if device.type == "cpu":
            raise UserError("--sync-bn: needs GPUs; omit it on the CPU")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network, distributed.steps_group())
    half = amp_type(device, config.amp_type) if config.amp else None
    run = compiled(network, len(statistics["mean"][0]), device, half) if config.compile else network
    distributed.wait_for_all()  # some read their data, or compile, faster than others
    if distributed.ranks() > 1:
        gpu = [device] if device.type == "cuda" else None
        run = DistributedDataParallel(
            run, device_ids=gpu, process_group=distributed.steps_group(),
            find_unused_parameters=config.freeze_encoder > 0,
        )  # fmt: skip
    optimizer = partial(OPTIMIZERS[config.optimizer], weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "sgd":
        optimizer = partial(optimizer, momentum=config.momentum or 0.0)
    return Learner(
        network=network,
        training_network=run,
        loss=DeepSupervisionLoss(LOSSES[config.loss], config.loss_weights()),
        optimizer=optimizer(network.parameters(), config.lr),
        scaling=InputScaling(statistics).to(device),
        device=device,
        scaler=torch.amp.GradScaler(device.type, enabled=half == torch.float16),
        rate=partial(learning_rate, config, steps),
        amp_type=half,
        accumulate=config.accumulate,
        ema=EMA(network, config.ema) if config.ema else None,
        seed=config.seed,
        frozen_epochs=config.freeze_encoder,
    )


@dataclass
class Trainer:
    """Trains a run epoch by epoch; when an epoch ends early, its steps so far are saved in last.pt."""

    run: Run
    val_loader: Iterable[Batch]  # of the split that chooses best.pt; of several processes each has its own batches
    stopping: Stopping
    progress: tqdm = field(default_factory=partial(tqdm, disable=True))  # the bar of the whole run
    saved: float = field(default_factory=time.monotonic)  # when the epoch began, or last.pt was written in it

    def train(self, batches: Callable[[int], Iterable[Batch]], epoch: Epoch) -> None:
        """Train the rest of an epoch, which is updated after every step.

        `batches` gives its batches from a step on, always the same ones.

        Raises:
            SystemExit: a signal asked to stop; 128 + its number.
            UserError: no memory left, a loss that is not finite, a process that died, or a file that cannot be read.
        """
        self.saved = time.monotonic()
        with self._explaining(epoch):
            try:
                together = self._together(batches(epoch.step), epoch)
                train_one_epoch(self.run.learner, together, epoch, self.progress)
            except DivergedError as error:
                diverged = list(islice(batches(error.step), self.run.learner.accumulate))
                raise UserError(f"{error}; {self._keep(diverged)}") from error
        if not epoch.done:
            self._leave(epoch)

    def _keep(self, batches: list[Batch]) -> str:
        """Write diverged.pt, each process its own; return where it is, or why it could not be written."""
        rank = distributed.rank()
        kept = self.run.folder / (f"diverged-{rank}.pt" if rank else "diverged.pt")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)  # of several processes, only the first one's exists already
            save_whole(kept, batches)
        except OSError as error:
            return f"the batch could not be kept in {kept} ({error.strerror})"
        return f"the batch is kept in {kept}"

    @contextmanager
    def _explaining(self, epoch: Epoch | None = None) -> Iterator[None]:
        """Save the epoch, if there is one, when the block stops or gets no batch; turn errors into one line.

        All processes must end the block alike, except where one of them is gone.
        """
        try:
            yield
        except Stopped:
            self._leave(epoch)
        except NotLoaded as error:
            reason = error.__cause__ or error
            if epoch:
                self.run.save_last(epoch)
            problem = loader_trouble(reason)
            if not problem:
                raise reason from None
            kept = (self.run.folder / "last.pt").is_file()
            raise UserError(f"{problem}{'; what was trained is kept, --resume goes on' if kept else ''}") from reason
        except (MemoryError, RuntimeError) as error:
            message = explained(error, self.run.config)
            if not message:
                raise
            raise UserError(message) from error

    def _leave(self, epoch: Epoch | None = None) -> NoReturn:
        """Save an epoch as it is, log the command that resumes the run, and end the process as the signal asked."""
        number = signal.Signals(*distributed.highest(self.stopping.number))  # some processes may have got none
        if epoch:
            self.run.save_last(epoch)
        self.progress.close()  # or it would be drawn again below the command
        if self.run.begun:
            log.info("stopped by %s; all that was trained is kept. To go on:\n  %s", number.name, self.run.command)
        else:
            log.info("stopped by %s before the first step was done; nothing is written", number.name)
        raise SystemExit(128 + number)

    def validate(self, epoch: Epoch, pool: int) -> Row:
        """Score the weights, and their average if there is one; log the scores.

        Returns:
            One line of log.csv. With an average, `val` is its scores, and `val_raw` those of the weights.
        """
        learner = self.run.learner
        if not all(bool(weight.isfinite().all()) for weight in learner.network.parameters()):
            raise UserError(f"the weights are no finite numbers after epoch {epoch.number + 1}; lower --lr")
        pairs = int(distributed.summed(torch.tensor(epoch.pairs, device=learner.device)))
        losses = (distributed.summed(epoch.losses.clone()) / pairs).tolist()
        counts = distributed.summed(epoch.counts.clone())
        row: Row = {"epoch": epoch.number + 1, "lr": learner.optimizer.param_groups[0]["lr"], "pool": pool}
        row |= {"train_loss": losses[0], **{f"train_loss_aux{i}": x for i, x in enumerate(losses[1:], start=1)}}
        row |= {f"train_{name}": scores(counts)[name] for name in LOGGED}
        raw = {"val_raw": learner.network} if learner.ema else {}
        for name, network in {"val": learner.ema.network if learner.ema else learner.network, **raw}.items():
            with self._explaining(epoch):
                result = self.evaluate(network)
            found = scores(result.counts)
            row |= {f"{name}_loss": result.loss, **{f"{name}_{score}": found[score] for score in LOGGED}}
        row |= {"seconds": epoch.seconds, "pairs_per_second": pairs / max(epoch.seconds, 1e-9)}
        row |= {"peak_memory_mb": peak_used(learner.device)}
        row |= {"selected_on": "test"} if self.run.config.select_on == "test" else {}
        percent = ", ".join(f"{name} {100 * row[f'val_{name}']:.2f}" for name in LOGGED)
        losses_said = f"loss {row['train_loss']:.4f}, val loss {row['val_loss']:.4f}"
        log.info("epoch %d: %s, val %s, %.1f s", row["epoch"], losses_said, percent, epoch.seconds)
        if not math.isfinite(row["val_loss"]):
            log.warning("the loss on %s is no finite number; lower --lr", self.run.about["selected_on"])
        self._warn_of_no_match(row, int(counts[1].sum()))
        return row

    def _warn_of_no_match(self, row: Row, changed: int) -> None:
        """Warn at the first epoch whose val F1 is 0 although training had `changed` changed pixels."""
        if row["val_f1"] > 0 or not changed or any(earlier["val_f1"] == 0 for earlier in self.run.history):
            return
        log.warning(
            "val F1 is 0 after epoch %d, although training saw %d changed pixels. A first epoch may end so. "
            "If it stays, check the labels (python -m tools.check_dataset --data-root %s) or raise --lr",
            *(row["epoch"], changed, shlex.quote(str(self.run.config.data_root))),
        )

    def evaluate(self, network: nn.Module, levels: bool = False) -> Evaluation:
        """Score a network on the validation split, the same one on all processes."""
        distributed.wait_for_all()  # the first one may still write, or read, a checkpoint
        distributed.same_buffers(network)
        return evaluate(self.run.learner, network, self._together(self.val_loader), levels)

    def _together(self, loader: Iterable[Batch], epoch: Epoch | None = None) -> Iterator[Batch]:
        """Give the batches of a loader until no process has one; all processes end alike and at the same time.

        Args:
            loader: of this process; others may have more batches, or fewer.
            epoch: the epoch that is trained; None in evaluation. In training, a signal ends the batches between two
                steps, and last.pt is written there every --save-minutes.

        Raises:
            Stopped: a signal asked a process to stop, and no epoch is trained, or a batch was lost.
            NotLoaded: a process could not get its batch.
        """
        batches = chain(loader)  # which starts the loader with `next`
        accumulate = self.run.learner.accumulate if epoch else 1
        for given in count():
            batch, error = None, None
            try:
                batch = next(batches, None)
            except Exception as caught:
                error = caught
            between, due = given % accumulate == 0, False
            if epoch and epoch.step and between:
                self.run.begin()
                due = time.monotonic() - self.saved >= 60 * self.run.config.save_minutes > 0
            number = self.stopping.number if between or error else 0  # a signal may also have ended the workers
            asked = (error is not None, number, due, batch is not None)
            failed, number, write, more = distributed.highest(*map(int, asked), patient=given == 0)
            if number and (failed or not epoch):
                raise Stopped from error
            if failed:
                raise NotLoaded from error or UserError(distributed.FAILED)
            if write:
                self.run.save_last(epoch)
                self.saved = time.monotonic()
            if number or not more:
                return
            if batch is not None:
                yield batch

    def finish(self) -> Row:
        """Tune the threshold of best.pt, write metrics.json and the precision-recall curve, log the scores.

        Returns:
            Scores at the threshold 0.5.
        """
        run = self.run
        best = load_checkpoint(run.folder / "best.pt")
        with self._explaining():
            result = self.evaluate(network_from(best).to(run.learner.device), levels=True)
        level, tuned_f1 = best_threshold(result.levels)
        threshold, plain, curve = (level + 1) / LEVELS, scores(result.counts), precision_recall(result.levels)
        tuned = {**{name: curve[name][level].item() for name in curve}, "iou": tuned_f1 / (2 - tuned_f1)}
        if distributed.rank() == 0:
            points = {name: values.tolist() for name, values in curve.items()}
            marks = {"0.5": plain, f"{threshold:g}, tuned": tuned}
            draw_precision_recall(points, marks, run.folder / "precision_recall.png")
            table = {"threshold": [k / LEVELS for k in range(1, LEVELS)], **points}
            rows = [dict(zip(table, point, strict=True)) for point in zip(*table.values(), strict=True)]
            write_csv(run.folder / "precision_recall.csv", rows)
            about = {"selected_on": run.about["selected_on"], "recipe": run.config.recipe, "best": best["scores"]}
            run.write_result({**about, "at_0.5": plain, "tuned_threshold": threshold, "at_tuned": tuned})
        said = score_table({"threshold 0.5": plain, f"threshold {threshold:g}, tuned": tuned}, LOGGED)
        log.info("best epoch %d, on %s:\n%s", best["epoch"], run.about["selected_on"], said)
        return plain


def explained(error: BaseException, config: TrainConfig) -> str:
    """What to do when memory runs out or another process is gone; empty for all other errors."""
    if is_out_of_memory(error):
        parts = next((n for n in range(config.accumulate + 1, config.batch_size) if config.batch_size % n == 0), None)
        same = f"--accumulate {parts} (the same batch in {parts} parts) or " if parts else ""
        half = max(1, config.batch_size // 2)
        return f"out of memory at --batch-size {config.batch_size}: use {same}--batch-size {half}, or --amp"
    return str(distributed.lost(error)) if distributed.ranks() > 1 else ""

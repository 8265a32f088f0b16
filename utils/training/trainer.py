"""One run from its first step to its result: what a step needs, what ends an epoch early, and what is scored."""

import logging
import shlex
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import NoReturn

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.checkpoint import load_checkpoint, network_from, save_whole
from utils.console import UserError, mistakes_of_users
from utils.files import write_csv
from utils.machine import amp_type, compiled, is_out_of_memory, peak_memory
from utils.metrics import LEVELS, best_threshold, precision_recall, score_table, scores
from utils.runtimes.input_scaling import scaling_from
from utils.training import distributed
from utils.training.config import TrainConfig
from utils.training.curves import draw_precision_recall
from utils.training.ema import EMA
from utils.training.engine import Batch, DivergedError, Epoch, Evaluation, Learner, evaluate, train_one_epoch
from utils.training.losses import LOSSES, DeepSupervisionLoss
from utils.training.run_folder import Row, Run
from utils.training.schedules import learning_rate
from utils.training.stopping import Every, Stopping, loader_trouble

log = logging.getLogger("train")
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LOGGED = ("f1", "precision", "recall", "iou")


class Stopped(Exception):  # noqa: N818
    """A signal came while something went on that starts anew when the run goes on."""


class NotLoaded(Exception):  # noqa: N818
    """There is no next batch, in this process or in another one; what was trained so far is whole.

    Attributes:
        reason: the error to end with.
    """

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def zero_heads(network: nn.Module) -> None:
    """Start the layers that give logits at 0, so that every pixel is undecided.

    HANet's published start gives logits of about 9 and a loss of about 14, which takes hundreds of steps to undo.
    """
    for name, module in network.named_modules():
        if "head" in name and isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels == 2:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


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
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network, distributed.steps_group())
    half = amp_type(device, config.amp_type) if config.amp else None
    run = compiled(network, len(statistics["mean"][0]), device, half) if config.compile else network
    distributed.wait_for_all()  # some read their data, or compile, faster than others
    if distributed.ranks() > 1:
        gpu = [device] if device.type == "cuda" else None
        run = DistributedDataParallel(run, device_ids=gpu, process_group=distributed.steps_group())
    momentum = {"momentum": config.momentum or 0.0} if config.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[config.optimizer](
        network.parameters(), config.lr, weight_decay=config.weight_decay, fused=True, **momentum
    )

    def rate(epoch: Epoch) -> float:
        passed, done = epoch.number + epoch.step / epoch.steps, sum(steps[: epoch.number]) + epoch.step
        return learning_rate(config.schedule, config.lr, passed, config.epochs, done, sum(steps), config.warmup_steps)

    return Learner(
        network=network,
        run=run,
        loss=DeepSupervisionLoss(LOSSES[config.loss], config.loss_weights()),
        optimizer=optimizer,
        scaling=scaling_from(statistics).to(device),
        device=device,
        scaler=torch.amp.GradScaler(device.type, enabled=half == torch.float16),
        rate=rate,
        amp_type=half,
        parts=config.accumulate,
        ema=EMA(network, config.ema) if config.ema else None,
        seed=config.seed,
    )


def load_backbone(network: nn.Module, config: TrainConfig) -> None:
    """Start the encoder from weights trained elsewhere; never from random ones unasked."""
    if not hasattr(network, "load_backbone"):
        raise UserError(f"{config.model} has no encoder to load; use --backbone-weights none")
    with mistakes_of_users():
        network.load_backbone(config.backbone_weights)  # type: ignore[operator]
    inflated = len(config.bands) not in (0, 3)
    how = f", the mean of its first filters for each of {len(config.bands)} bands" if inflated else ""
    log.info("encoder starts from %s%s", config.backbone_weights, how)


@dataclass
class Trainer:
    """Trains a run epoch by epoch; whatever ends it sooner, what can be kept is kept.

    Attributes:
        run: what is trained, and its folder.
        val_loader: batches of the split that chooses best.pt; of several processes each has its own.
        stopping: says whether a signal asked to stop.
        progress: the bar of the whole run.
    """

    run: Run
    val_loader: Iterable[Batch]
    stopping: Stopping
    progress: tqdm = field(default_factory=partial(tqdm, disable=True))

    def train(self, batches: Callable[[int], Iterable[Batch]], epoch: Epoch) -> None:
        """Train the rest of an epoch.

        Args:
            batches: gives the epoch's batches from a step on, always the same ones.
            epoch: how far it is.

        Raises:
            SystemExit: a signal asked to stop; 128 + its number.
            UserError: no memory left, a loss that is no number, a process that died, or a file that cannot be read.
        """
        every = Every(self.run.config.save_minutes)

        def pause() -> bool:
            if epoch.step:
                self.run.begin()
            due, number = distributed.highest(int(every.due()), self.stopping.number)
            if due:
                self.run.save_last(epoch)
            return number > 0

        with self._explaining(epoch):
            try:
                if not pause():
                    together = self._together(batches(epoch.step), stoppable=False)
                    train_one_epoch(self.run.learner, together, epoch, self.progress, pause)
            except DivergedError as error:
                parts = islice(batches(error.step), self.run.learner.parts)
                raise UserError(f"{error}; {self._keep_batch(list(parts))}") from error
        if not epoch.done:
            self._leave(epoch)

    def _keep_batch(self, parts: list[Batch]) -> str:
        """Write diverged.pt, each process its own; say where it is, or why it is not there."""
        rank = distributed.rank()
        kept = self.run.folder / (f"diverged-{rank}.pt" if rank else "diverged.pt")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)  # of several processes, only the first one's exists already
            save_whole(kept, parts)
        except OSError as error:
            return f"the batch could not be kept in {kept} ({error.strerror})"
        return f"the batch is kept in {kept}"

    @contextmanager
    def _explaining(self, epoch: Epoch | None = None) -> Iterator[None]:
        """Keep the epoch, if there is one, when the block stops or gets no batch; say what happened in one line.

        All processes must end the block alike, except where one of them is gone.
        """
        try:
            yield
        except Stopped:
            self._leave(epoch)
        except NotLoaded as error:
            if epoch and epoch.step:
                self.run.save_last(epoch)
            problem = loader_trouble(error.reason)
            if not problem:
                raise error.reason from None
            kept = (self.run.folder / "last.pt").is_file()
            message = f"{problem}{'; what was trained is kept, --resume goes on' if kept else ''}"
            raise UserError(message) from error.reason
        except (MemoryError, RuntimeError) as error:
            message = explained(error, self.run.config)
            if not message:
                raise
            raise UserError(message) from error

    def _leave(self, epoch: Epoch | None = None) -> NoReturn:
        """Keep an epoch as it is, say how to go on, and end the process as the signal asked."""
        number = signal.Signals(*distributed.highest(self.stopping.number))  # some processes may have got none
        if epoch:
            self.run.save_last(epoch)
        self.progress.close()  # or it would be drawn again below the command
        if not self.run.begun:
            log.info("stopped by %s before the first step was done; nothing is written", number.name)
            raise SystemExit(128 + number)
        log.info("stopped by %s; all that was trained is kept. To go on:\n  %s", number.name, self.run.command)
        raise SystemExit(128 + number)

    def validate(self, epoch: Epoch, pool: int) -> Row:
        """Score the weights, and their average if there is one: one line of log.csv, also logged.

        With an average, `val` is its scores, and `val_raw` those of the weights.
        """
        learner = self.run.learner
        pairs = int(distributed.summed(torch.tensor(epoch.pairs, device=learner.device)))
        losses = (distributed.summed(epoch.losses.clone()) / pairs).tolist()
        train_counts = distributed.summed(epoch.counts.clone())
        train_scores = scores(train_counts)
        row: Row = {"epoch": epoch.number + 1, "lr": learner.optimizer.param_groups[0]["lr"], "pool": pool}
        row |= {"train_loss": losses[0], **{f"train_loss_aux{i}": x for i, x in enumerate(losses[1:], start=1)}}
        row |= {f"train_{name}": train_scores[name] for name in LOGGED}
        networks = {"val": learner.network}
        if learner.ema:
            networks = {"val": learner.ema.network, "val_raw": learner.network}
        for name, network in networks.items():
            with self._explaining(epoch):
                result = self.evaluate(network)
            found = scores(result.counts)
            row |= {f"{name}_loss": result.loss, **{f"{name}_{score}": found[score] for score in LOGGED}}
        speed = {"seconds": epoch.seconds, "pairs_per_second": pairs / max(epoch.seconds, 1e-9)}
        row |= {**speed, "peak_memory_mb": peak_memory(learner.device)}
        if self.run.config.select_on == "test":
            row["selected_on"] = "test"
        percent = ", ".join(f"{name} {100 * row[f'val_{name}']:.2f}" for name in LOGGED)
        losses_said = f"loss {row['train_loss']:.4f}, val loss {row['val_loss']:.4f}"
        log.info("epoch %d: %s, val %s, %.1f s", row["epoch"], losses_said, percent, epoch.seconds)
        self._warn_of_no_match(row, int(train_counts[1].sum()))
        return row

    def _warn_of_no_match(self, row: Row, changed: int) -> None:
        """Warn at the first epoch whose val F1 is 0 although training saw `changed` pixels of change."""
        if row["val_f1"] > 0 or not changed or any(earlier["val_f1"] == 0 for earlier in self.run.history):
            return
        log.warning(
            "val F1 is 0 after epoch %d, although training saw %d changed pixels. A first epoch may end so. "
            "If it stays, check the labels (python -m tools.check_dataset --data-root %s) or raise --lr",
            *(row["epoch"], changed, shlex.quote(str(self.run.config.data_root))),
        )

    def evaluate(self, network: nn.Module, levels: bool = False) -> Evaluation:
        """Score a network on the validation split, the same one on all processes."""
        learner = self.run.learner
        distributed.wait_for_all()  # the first one may still write, or read, a checkpoint
        distributed.same_buffers(network)
        batches = self._together(self.val_loader, stoppable=True)
        return evaluate(network, batches, learner.loss, learner.scaling, learner.device, learner.amp_type, levels)

    def _together(self, loader: Iterable[Batch], stoppable: bool) -> Iterator[Batch]:
        """Give the batches of a loader, until no process has one; all processes end alike and at the same time.

        Args:
            loader: of this process; others may have more batches, or fewer.
            stoppable: whether a signal ends it at once. If not, the signal is heeded after the step.

        Raises:
            Stopped: a signal asked a process to stop.
            NotLoaded: a process could not get its batch.
        """
        batches, started = chain(loader), False  # `chain` starts the loader with the first `next`
        while True:
            batch, error = None, None
            try:
                batch = next(batches, None)
            except Exception as caught:
                error = caught
            number = self.stopping.number if stoppable or error else 0  # a signal may also have ended the workers
            failed, number, more = distributed.highest(
                int(error is not None), number, int(batch is not None), patient=not started
            )
            if number:
                raise Stopped from error
            if failed:
                raise NotLoaded(error or UserError(distributed.FAILED)) from error
            if not more:
                return
            started = True
            if batch is not None:
                yield batch

    def finish(self) -> Row:
        """Tune the threshold of best.pt, write metrics.json and the precision-recall curve, say what came out.

        Returns:
            Scores at the threshold 0.5.
        """
        run, device = self.run, self.run.learner.device
        best = load_checkpoint(run.folder / "best.pt")
        with self._explaining():
            result = self.evaluate(network_from(best).to(device), levels=True)
        assert result.levels is not None
        level, tuned_f1 = best_threshold(result.levels)
        threshold, plain = (level + 1) / LEVELS, scores(result.counts)
        curve = precision_recall(result.levels)
        tuned = {name: curve[name][level].item() for name in ("precision", "recall", "f1")}
        tuned["iou"] = tuned_f1 / (2 - tuned_f1)
        if distributed.rank() == 0:
            marks = {"0.5": (plain["precision"], plain["recall"])}
            marks[f"{threshold:g}, tuned"] = (tuned["precision"], tuned["recall"])
            draw_precision_recall({k: v.tolist() for k, v in curve.items()}, marks, run.folder / "precision_recall.png")
            columns = {"threshold": torch.arange(1, LEVELS) / LEVELS, **curve}
            points = zip(*(column.tolist() for column in columns.values()), strict=True)
            write_csv(run.folder / "precision_recall.csv", [dict(zip(columns, point, strict=True)) for point in points])
            about = {"selected_on": run.about["selected_on"], "recipe": run.config.recipe, "best": best["scores"]}
            run.write_result({**about, "at_0.5": plain, "tuned_threshold": threshold, "at_tuned": tuned})
        table = {"threshold 0.5": plain, f"threshold {threshold:g}, tuned": tuned}
        log.info("best epoch %d, on %s:\n%s", best["epoch"], run.about["selected_on"], score_table(table, LOGGED))
        return plain


def explained(error: BaseException, config: TrainConfig) -> str:
    """What to do about an error that is no bad input: no memory, or a process that is gone; empty for all others."""
    if is_out_of_memory(error):
        parts = next((n for n in range(config.accumulate + 1, config.batch_size) if config.batch_size % n == 0), None)
        same = f"--accumulate {parts} (the same batch in {parts} parts) or " if parts else ""
        half = max(1, config.batch_size // 2)
        return f"out of memory at --batch-size {config.batch_size}: use {same}--batch-size {half}, or --amp"
    if distributed.ranks() > 1:
        return str(distributed.lost(error))
    return ""

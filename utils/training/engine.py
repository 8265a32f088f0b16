"""The one training loop and the one evaluation, for every network, on one process or many."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.console import UserError, mistakes_of_users
from utils.machine import seed_everything
from utils.metrics import LEVELS, count_levels, count_pixels
from utils.training import distributed
from utils.training.ema import EMA
from utils.training.losses import DeepSupervisionLoss

LOG_EVERY = 10  # steps between two looks at the loss, each of which waits for the device
Batch = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass
class Learner:
    """What learns, and how one step of it goes.

    Attributes:
        network: holds the weights.
        run: the same network as it is called in training: compiled, or distributed over processes.
        loss: of the network's outputs.
        optimizer: over the network's parameters.
        scaling: uint8 images to what the network sees.
        device: where all of this is.
        scaler: of the loss; does nothing but for float16.
        rate: learning rate of the next step of an epoch.
        amp_type: half-precision type of mixed precision, None for float32.
        parts: pieces in which the batch of a step is worked through.
        ema: average of the weights, if one is kept.
        seed: of dropout.
    """

    network: nn.Module
    run: nn.Module
    loss: DeepSupervisionLoss
    optimizer: torch.optim.Optimizer
    scaling: nn.Module
    device: torch.device
    scaler: torch.amp.GradScaler
    rate: Callable[["Epoch"], float]
    amp_type: torch.dtype | None = None
    parts: int = 1
    ema: EMA | None = None
    seed: int = 0

    def step(self, parts: Iterable[Batch]) -> tuple[Tensor, Tensor, int]:
        """Forward, backward and one step of the optimizer over the parts of a batch.

        Returns:
            Pixel counts of the main head (2, 2), the loss of each output summed over pairs, and the number of pairs.
        """
        counts, losses = (torch.zeros((), dtype=dtype, device=self.device) for dtype in (torch.int64, torch.float32))
        pairs = 0
        for number, batch in enumerate(parts, start=1):
            before, after, mask = to_device(batch, self.device)
            with self._own_gradients(number < self.parts):
                with (
                    mistakes_of_users(),
                    torch.autocast(self.device.type, dtype=self.amp_type, enabled=self.amp_type is not None),
                ):
                    outputs = self.run(*self.scaling(before, after))
                total, values = self.loss([logits.float() for logits in outputs], mask)
                self.scaler.scale(total / self.parts).backward()
            with torch.no_grad():
                counts = counts + count_pixels(changed_pixels(outputs[0]), mask)
                losses = losses + values * len(mask)
            pairs += len(mask)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.network)
        return counts, losses, pairs

    def _own_gradients(self, more_to_come: bool) -> Any:
        """Keep the gradients of all but the last part to this process; the last sends the sum."""
        return self.run.no_sync() if more_to_come and isinstance(self.run, DistributedDataParallel) else nullcontext()


@dataclass
class Epoch:
    """How far an epoch is; a run that stops in the middle of it goes on from here.

    Attributes:
        number: from 0.
        steps: in all.
        step: done.
        pairs: seen by this process.
        counts: pixels of the main head, (2, 2).
        losses: of each output, summed over pairs.
        seconds: spent in training.
    """

    number: int
    steps: int
    step: int = 0
    pairs: int = 0
    counts: Tensor = field(default_factory=lambda: torch.zeros(2, 2, dtype=torch.int64))
    losses: Tensor = field(default_factory=lambda: torch.zeros(()))
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether every step is made."""
        return self.step == self.steps


class DivergedError(UserError):
    """The loss is no finite number any more.

    Attributes:
        step: of the epoch, from 0: the first one whose loss is not finite.
    """

    def __init__(self, step: int, names: Sequence[str]) -> None:
        self.step = step
        super().__init__(
            f"the loss is no finite number from step {step + 1} of this epoch on, with the pairs {', '.join(names)}: "
            f"lower --lr, leave --amp out, or look at these pairs"
        )


def changed_pixels(logits: Tensor) -> Tensor:
    """Logits (B, 2, H, W) -> bool (B, H, W): changed is the likelier class."""
    return logits[:, 1] > logits[:, 0]


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The batch's before and after, uint8, and mask, int64; copied as bytes, without waiting where memory is pinned."""
    before, after, mask = (batch[key].to(device, non_blocking=True) for key in ("before", "after", "mask"))
    return before, after, mask.long()


def train_one_epoch(
    learner: Learner, loader: Iterable[Batch], epoch: Epoch, progress: tqdm, pause: Callable[[], bool] = lambda: False
) -> None:
    """Train over the rest of an epoch, which `epoch` follows step by step.

    Args:
        learner: what is trained.
        loader: batches from `epoch.step` on, `learner.parts` of them a step.
        epoch: how far it is.
        progress: a bar that counts pairs.
        pause: asked after every step whether to stop here.

    Raises:
        DivergedError: the loss is no finite number any more.
    """
    learner.network.train()
    epoch.counts, epoch.losses = epoch.counts.to(learner.device), epoch.losses.to(learner.device)
    batches = iter(loader)
    names: deque[list[str]] = deque(maxlen=LOG_EVERY)  # of the last steps' pairs; their batches are not kept
    bad = torch.full((), -1, device=learner.device)
    started = time.perf_counter() - epoch.seconds
    while not epoch.done:
        for group in learner.optimizer.param_groups:
            group["lr"] = learner.rate(epoch)
        seed_everything(learner.seed, epoch.number, epoch.step, distributed.rank())
        parts = [next(batches) for _ in range(learner.parts)]
        names.append([name for part in parts for name in part["name"]])
        counts, losses, pairs = learner.step(parts)
        epoch.counts, epoch.losses = epoch.counts + counts, epoch.losses + losses
        bad = torch.where((bad < 0) & ~losses.sum().isfinite(), epoch.step, bad)
        epoch.step += 1
        epoch.pairs += pairs
        epoch.seconds = time.perf_counter() - started
        progress.update(pairs * distributed.ranks())
        stop = pause()
        if epoch.step % LOG_EVERY == 1 or epoch.done or stop:
            if (first := int(bad.item())) >= 0:
                raise DivergedError(first, names[first - epoch.step])
            progress.set_postfix(loss=f"{losses.flatten()[0].item() / pairs:.3f}", refresh=False)
        if stop:
            return


@dataclass
class Evaluation:
    """What a whole split gave, over all processes.

    Attributes:
        counts: pixels of the main head by truth and prediction, (2, 2) int64.
        loss: of the main head, a mean over pairs.
        levels: pixels by truth and probability of change, (2, LEVELS) int64, if they were asked for.
    """

    counts: Tensor
    loss: float
    levels: Tensor | None = None


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    loader: Iterable[Batch],
    loss_function: DeepSupervisionLoss,
    scaling: nn.Module,
    device: torch.device,
    amp_type: torch.dtype | None = None,
    levels: bool = False,
) -> Evaluation:
    """Count the main head's pixels over a whole split; each process its batches, the sums are those of all.

    A batch that does not fit into the device's memory is halved until it does.
    """
    network.eval()
    counts = torch.zeros(2, 2, dtype=torch.int64, device=device)
    histogram = torch.zeros(2, LEVELS, dtype=torch.int64, device=device)
    loss_and_pairs = torch.zeros(2, dtype=torch.float64, device=device)

    def measured(before: Tensor, after: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, dtype=amp_type, enabled=amp_type is not None):
            logits = network(*scaling(before, after))[0].float()
        loss = loss_function([logits], mask)[1][0] * len(mask)
        found = count_pixels(changed_pixels(logits), mask), torch.stack([loss, torch.full_like(loss, len(mask))])
        return (*found, count_levels(logits.softmax(1)[:, 1], mask)) if levels else found

    sums = counts, loss_and_pairs, histogram
    for batch in loader:
        for found in in_halves(measured, *to_device(batch, device)):
            for total, part in zip(sums, found, strict=False):  # without levels there are two
                total += part
    counts, loss_and_pairs, histogram = map(distributed.summed, sums)
    loss, pairs = loss_and_pairs.tolist()
    return Evaluation(counts, loss / pairs if pairs else math.nan, histogram if levels else None)


def in_halves(function: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """Call a function of a batch; if memory runs out, call it for each half instead.

    Args:
        function: takes the tensors. What a call did before memory ran out is done again, so it must only return values.
        tensors: of one length.

    Returns:
        What the function returned for each part, in order.

    Raises:
        torch.OutOfMemoryError: one pair alone does not fit.
    """
    try:
        return [function(*tensors)]
    except torch.OutOfMemoryError:
        if len(tensors[0]) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(tensors[0]) // 2
    parts = [x[:half] for x in tensors], [x[half:] for x in tensors]
    return [result for part in parts for result in in_halves(function, *part)]

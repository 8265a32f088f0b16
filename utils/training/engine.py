"""The steps of training and of evaluation, for every network, on one process or many."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

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

LOG_EVERY = 10  # steps between two checks of the loss, each of which waits for the device
Batch = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass
class Learner:
    """A network, everything else that a step of training needs, and the step."""

    network: nn.Module  # holds the weights
    training_network: nn.Module  # the same, as training calls it: compiled, or distributed over processes
    loss: DeepSupervisionLoss
    optimizer: torch.optim.Optimizer
    scaling: nn.Module  # uint8 images -> input of the network
    device: torch.device
    scaler: torch.amp.GradScaler  # of the loss; does nothing except in float16
    rate: Callable[[int, int], float]  # (epoch, step of it), both from 0 -> learning rate
    amp_type: torch.dtype | None = None  # half-precision type of mixed precision
    accumulate: int = 1  # parts in which the batch of a step is computed
    ema: EMA | None = None
    seed: int = 0  # of dropout
    frozen_epochs: int = 0  # in which the network's encoder keeps its weights

    def train_mode(self, epoch: int) -> None:
        """Set the network to training; a frozen encoder keeps its weights and its running statistics."""
        self.network.train()
        if self.frozen_epochs:
            encoder, learns = self.network.get_submodule("backbone"), epoch >= self.frozen_epochs
            encoder.requires_grad_(learns).train(learns)

    def autocast(self) -> torch.autocast:
        """Mixed precision, where the run uses it."""
        return torch.autocast(self.device.type, dtype=self.amp_type, enabled=self.amp_type is not None)

    def step(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, int]:
        """Forward, backward and one step of the optimizer over `accumulate` batches.

        Returns:
            Pixel counts of the main head (2, 2), the loss of each output summed over pairs (outputs,), number of pairs.
        """
        counts, losses = (torch.zeros((), dtype=dtype, device=self.device) for dtype in (torch.int64, torch.float32))
        pairs = 0
        for number, batch in enumerate(batches, start=1):
            before, after, mask = to_device(batch, self.device)
            with self._own_gradients(number < self.accumulate):
                with mistakes_of_users(), self.autocast():
                    outputs = self.training_network(*self.scaling(before, after))
                total, values = self.loss([logits.float() for logits in outputs], mask)
                self.scaler.scale(total / self.accumulate).backward()
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
        """Keep the gradients of all but the last batch to this process; the last one sends the sum."""
        network = self.training_network
        return network.no_sync() if more_to_come and isinstance(network, DistributedDataParallel) else nullcontext()


@dataclass
class Epoch:
    """Progress of an epoch; last.pt keeps it when a run stops, and the resumed run continues from here."""

    number: int  # from 0
    steps: int  # in all
    step: int = 0  # done
    pairs: int = 0  # seen by this process
    counts: Tensor = field(default_factory=lambda: torch.zeros(2, 2, dtype=torch.int64))  # pixels of the main head
    losses: Tensor = field(default_factory=lambda: torch.zeros(()))  # of each output, summed over pairs
    seconds: float = 0.0  # of training

    @property
    def done(self) -> bool:
        """Whether every step is made."""
        return self.step == self.steps


class DivergedError(UserError):
    """The loss is not finite any more, from step `step` of the epoch on, counted from 0."""

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
    """Before and after, uint8 (B, C, H, W), and mask, int64 (B, H, W); copied as bytes, asynchronously if pinned."""
    before, after, mask = (batch[key].to(device, non_blocking=True) for key in ("before", "after", "mask"))
    return before, after, mask.long()


def train_one_epoch(learner: Learner, loader: Iterable[Batch], epoch: Epoch, progress: tqdm) -> None:
    """Train until the epoch is done or there are no more batches; `epoch` is updated after every step.

    `loader` gives batches from `epoch.step` on, `learner.accumulate` of them a step. `progress` counts pairs.

    Raises:
        DivergedError: the loss is not finite any more.
    """
    learner.train_mode(epoch.number)
    epoch.counts, epoch.losses = epoch.counts.to(learner.device), epoch.losses.to(learner.device)
    loaded = iter(loader)
    names: deque[list[str]] = deque(maxlen=LOG_EVERY)  # of the last steps' pairs; their batches are not kept
    bad = torch.full((), -1, device=learner.device)  # first step whose loss is not finite
    started = time.perf_counter() - epoch.seconds
    while not epoch.done and (batches := list(islice(loaded, learner.accumulate))):
        for group in learner.optimizer.param_groups:
            group["lr"] = learner.rate(epoch.number, epoch.step)
        seed_everything(learner.seed, epoch.number, epoch.step, distributed.rank())
        names.append([name for batch in batches for name in batch["name"]])
        counts, losses, pairs = learner.step(batches)
        epoch.counts, epoch.losses = epoch.counts + counts, epoch.losses + losses
        bad = torch.where((bad < 0) & ~losses.sum().isfinite(), epoch.step, bad)
        epoch.step += 1
        epoch.pairs += pairs
        epoch.seconds = time.perf_counter() - started
        progress.update(pairs * distributed.ranks())
        if epoch.step % LOG_EVERY == 1:
            _check_finite(bad, epoch, names)
            progress.set_postfix(loss=f"{losses.flatten()[0].item() / pairs:.3f}", refresh=False)
    _check_finite(bad, epoch, names)


def _check_finite(bad: Tensor, epoch: Epoch, names: Sequence[list[str]]) -> None:
    if (first := int(bad.item())) >= 0:
        raise DivergedError(first, names[first - epoch.step])


class Evaluation(NamedTuple):
    """Result of a whole split, over all processes."""

    counts: Tensor  # int64 (2, 2): pixels of the main head by truth and prediction
    loss: float  # of the main head, mean over pairs
    levels: Tensor  # int64 (2, LEVELS): pixels by truth and probability of change; 0 unless they were asked for


@torch.inference_mode()
def evaluate(learner: Learner, network: nn.Module, loader: Iterable[Batch], levels: bool = False) -> Evaluation:
    """Count the main head's pixels over a split, of which each process has some batches in its `loader`.

    The network is the learner's, or another one with its loss and scaling. A batch that does not fit into memory is
    halved until it does.
    """
    network.eval()
    device = learner.device
    counts = torch.zeros(2, 2, dtype=torch.int64, device=device)
    loss_and_pairs = torch.zeros(2, dtype=torch.float64, device=device)
    histogram = torch.zeros(2, LEVELS, dtype=torch.int64, device=device)

    def measured(before: Tensor, after: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        with learner.autocast():
            logits = network(*learner.scaling(before, after))[0].float()
        loss = learner.loss([logits], mask)[1][0] * len(mask)
        found = count_pixels(changed_pixels(logits), mask), torch.stack([loss, torch.full_like(loss, len(mask))])
        return (*found, count_levels(logits.softmax(1)[:, 1], mask)) if levels else found

    sums = counts, loss_and_pairs, histogram
    for batch in loader:
        for found in in_halves(measured, *to_device(batch, device)):
            for total, part in zip(sums, found, strict=False):  # without levels there are two
                total += part
    counts, loss_and_pairs, histogram = map(distributed.summed, sums)
    loss, pairs = loss_and_pairs.tolist()
    return Evaluation(counts, loss / pairs if pairs else math.nan, histogram)


def in_halves(function: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """Results of a function of a batch, or if memory runs out, of its halves, their halves, and so on, in order.

    The function must only return values: it is called again for pairs that it has seen.
    """
    try:
        return [function(*tensors)]
    except torch.OutOfMemoryError:
        if len(tensors[0]) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(tensors[0]) // 2
    halves = [x[:half] for x in tensors], [x[half:] for x in tensors]
    return [result for each in halves for result in in_halves(function, *each)]

"""The one training loop and the one evaluation, for every network."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.losses import DeepSupervisionLoss
from utils.metrics import count_pixels

LOG_EVERY = 10  # steps between two looks at the loss, each of which waits for the device


def changed_pixels(logits: Tensor) -> Tensor:
    """Logits (B, 2, H, W) -> bool (B, H, W): changed is the likelier class."""
    return logits[:, 1] > logits[:, 0]


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The batch's before and after, uint8, and mask, int64; copied as bytes, without waiting where memory is pinned."""
    before, after, mask = (batch[key].to(device, non_blocking=True) for key in ("before", "after", "mask"))
    return before, after, mask.long()


def train_one_epoch(
    network: nn.Module,
    loader: Iterable[Mapping[str, Tensor]],
    loss_function: DeepSupervisionLoss,
    optimizer: torch.optim.Optimizer,
    scaling: nn.Module,
    device: torch.device,
    scaler: torch.amp.GradScaler,
    amp_type: torch.dtype | None,
    progress: tqdm,
) -> tuple[Tensor, Tensor]:
    """Train once over the loader.

    Returns:
        Pixel counts of the main head while training, (2, 2) int64, and the mean loss of each output.

    Raises:
        ValueError: the loss is no finite number any more.
    """
    network.train()
    counts = torch.zeros(2, 2, dtype=torch.int64, device=device)
    losses, pairs = torch.zeros((), device=device), 0
    for step, batch in enumerate(loader):
        before, after, mask = to_device(batch, device)
        with torch.autocast(device.type, dtype=amp_type, enabled=amp_type is not None):
            outputs = network(*scaling(before, after))
        total, parts = loss_function([logits.float() for logits in outputs], mask)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            counts += count_pixels(changed_pixels(outputs[0]), mask)
            losses = losses + parts * len(mask)
        pairs += len(mask)
        progress.update(len(mask))
        if step % LOG_EVERY == 0:
            progress.set_postfix(loss=f"{_finite(total):.3f}", refresh=False)
    _finite(losses.sum())
    return counts, losses / max(pairs, 1)


def _finite(loss: Tensor) -> float:
    """The loss as a number.

    Raises:
        ValueError: it is none any more.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(f"the loss is {value}: training has diverged; lower --lr, or leave --amp out")
    return value


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    loader: Iterable[Mapping[str, Tensor]],
    loss_function: DeepSupervisionLoss,
    scaling: nn.Module,
    device: torch.device,
    amp_type: torch.dtype | None = None,
) -> tuple[Tensor, float]:
    """Count the main head's pixels over a whole split.

    Returns:
        (2, 2) int64 counts, and the main head's loss, a mean over pairs.
    """
    network.eval()
    counts = torch.zeros(2, 2, dtype=torch.int64, device=device)
    loss, pairs = torch.zeros((), device=device), 0
    for batch in loader:
        before, after, mask = to_device(batch, device)
        with torch.autocast(device.type, dtype=amp_type, enabled=amp_type is not None):
            logits = network(*scaling(before, after))[0].float()
        counts += count_pixels(changed_pixels(logits), mask)
        loss += loss_function([logits], mask)[1][0] * len(mask)
        pairs += len(mask)
    return counts, loss.item() / max(pairs, 1)

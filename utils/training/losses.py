"""Losses over logits (B, 2, H, W) and a mask (B, H, W) of 0, 1 and 255 = ignore; all are means over counted pixels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.console import UserError

IGNORE = 255
BaseLoss = Callable[[Tensor, Tensor], Tensor]


def _one_hot(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H, W) -> (B, 2, H, W): 1 in the channel of the class; ignored pixels are 0 in both."""
    return torch.stack([mask == 0, mask == 1], dim=1).to(dtype)


def _mean_over_counted(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, H, W) values where the mask is not 255; 0 where nothing counts."""
    counted = mask != IGNORE
    return (values * counted).sum() / counted.sum().clamp(min=1)


def one_hot_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of both channels against the one-hot mask (the authors' AMFNet loss)."""
    losses = F.binary_cross_entropy_with_logits(logits, _one_hot(mask, logits.dtype), reduction="none")
    return _mean_over_counted(losses.mean(1), mask)


def focal(logits: Tensor, mask: Tensor, gamma: float = 0.5, alpha: float | None = None) -> Tensor:
    """Focal loss; gamma 0.5 and no alpha as released with HANet, gamma 0 is cross-entropy.

    A pixel with probability p for its own class has the weight (1 - p)^gamma, which carries no gradient. With alpha,
    class 0 has this weight besides, and class 1 has 1 - alpha.
    """
    log_p = (F.log_softmax(logits, dim=1) * _one_hot(mask, logits.dtype)).sum(1)  # (B, H, W)
    losses = -((1 - log_p.detach().exp()) ** gamma) * log_p
    if alpha is not None:
        losses = losses * torch.where(mask == 0, alpha, 1 - alpha)
    return _mean_over_counted(losses, mask)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy (Open-CD's loss for HANet)."""
    return focal(logits, mask, gamma=0.0)


def dice(logits: Tensor, mask: Tensor, epsilon: float = 1e-7) -> Tensor:
    """1 - mean over both classes of 2 |p y| / (|p + y| + epsilon), sums over batch and pixels (HANet Eq. 15)."""
    truth = _one_hot(mask, logits.dtype)
    probability = logits.softmax(1) * truth.sum(1, keepdim=True)  # ignored pixels leave both sums
    overlap, total = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))  # (2,)
    return 1 - (2 * overlap / (total + epsilon)).mean()


def hybrid(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal (gamma 0.5) + dice: what HANet's released hybrid loss means (HANet Eq. 13 has cross-entropy)."""
    return focal(logits, mask) + dice(logits, mask)


LOSSES: dict[str, BaseLoss] = {
    "bce": one_hot_bce,
    "cross-entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "hybrid": hybrid,
}


class DeepSupervisionLoss(nn.Module):
    """One base loss over every output of a network, main head first.

    Args:
        base: a loss of (logits, mask).
        weights: one weight an output, such as (1, 0.5, 0.4, 0.3), or "balanced": each auxiliary loss, and its
            gradient, is scaled to the value of the main one (AMFNet's train.py).
    """

    def __init__(self, base: BaseLoss, weights: Sequence[float] | str = (1.0,)) -> None:
        super().__init__()
        if isinstance(weights, str) and weights != "balanced":
            raise UserError(f"loss weights are numbers or 'balanced', not {weights!r}")
        self.base = base
        self.weights = weights

    def forward(self, outputs: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the total to minimise, and the loss of each output, detached, (outputs,).

        One output is the plain loss whatever the weights.

        Raises:
            UserError: several outputs, and another number of weights.
        """
        parts = [self.base(logits, mask) for logits in outputs]
        values = torch.stack(parts).detach()
        if len(parts) == 1:
            return parts[0], values
        if isinstance(self.weights, str):
            # a loss of 0, as of a batch in which every pixel is ignored, cannot be scaled and adds nothing
            return torch.stack(parts) @ torch.where(values == 0, 0, values[0] / values), values
        if len(parts) != len(self.weights):
            raise UserError(f"{len(parts)} outputs need {len(parts)} loss weights, got {tuple(self.weights)}")
        # plain numbers: a tensor of weights made here would wait for the device
        return torch.stack([part * weight for part, weight in zip(parts, self.weights, strict=True)]).sum(), values

"""Learning rates as functions of the step, so that a resumed run needs no saved state."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the settings list the schedules
    from utils.training.config import TrainConfig

WARMUP_START = 1e-6  # of the rate, at step 0 of a warm-up (Open-CD's recipes)
# share of the base rate after `epoch` of `epochs`; the epoch counts from 0, with the part of the running one
SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "poly": lambda epoch, epochs: (1 - int(epoch) / epochs) ** 0.9,  # AMFNet's released code, an epoch at a time
    "step": lambda epoch, epochs: 0.5 ** (int(epoch) // 8),  # HANet Sec. IV-A: halved every 8 epochs
    "linear": lambda epoch, epochs: 1 - epoch / epochs,  # Open-CD's recipes: polynomial of power 1, a step at a time
    "cosine": lambda epoch, epochs: (1 + math.cos(math.pi * epoch / epochs)) / 2,
    "constant": lambda epoch, epochs: 1.0,
}


def learning_rate(config: "TrainConfig", steps: Sequence[int], epoch: int, step: int) -> float:
    """Return the rate of one step: linear in the warm-up; the schedule then spans the remaining steps.

    `steps` has the number of steps of each epoch. `epoch`, and `step` within it, count from 0.
    """
    passed, done, warmup = epoch + step / steps[epoch], sum(steps[:epoch]) + step, config.warmup_steps
    if done < warmup:
        return config.lr * (WARMUP_START + (1 - WARMUP_START) * done / warmup)
    if warmup:
        passed = (done - warmup) * config.epochs / max(sum(steps) - warmup, 1)
    return config.lr * SCHEDULES[config.schedule](passed, config.epochs)

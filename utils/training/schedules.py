"""Learning rates as plain functions of the step, so that a resumed run needs no saved state."""

import math
from collections.abc import Callable

WARMUP_START = 1e-6  # of the rate, at step 0 of a warm-up (Open-CD's recipes)


def poly(base: float, epoch: float, epochs: int, power: float = 0.9) -> float:
    """Polynomial decay to 0, an epoch at a time (AMFNet's released code, power 0.9); epoch counts from 0."""
    return base * (1 - int(epoch) / epochs) ** power


def step(base: float, epoch: float, epochs: int, every: int = 8, gamma: float = 0.5) -> float:
    """Times `gamma` every `every` epochs (HANet Sec. IV-A: 0.5 every 8)."""
    return base * gamma ** (int(epoch) // every)


def linear(base: float, epoch: float, epochs: int) -> float:
    """Straight to 0, a step at a time (Open-CD's recipes: polynomial of power 1)."""
    return base * (1 - epoch / epochs)


def cosine(base: float, epoch: float, epochs: int) -> float:
    """Half a cosine to 0, a step at a time."""
    return base * (1 + math.cos(math.pi * epoch / epochs)) / 2


def constant(base: float, epoch: float, epochs: int) -> float:
    """The base rate throughout."""
    return base


SCHEDULES: dict[str, Callable[[float, float, int], float]] = {
    "poly": poly,
    "step": step,
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}


def learning_rate(
    name: str, base: float, epoch: float, epochs: int, step: int = 0, steps: int = 1, warmup: int = 0
) -> float:
    """The rate of one step.

    Args:
        name: of SCHEDULES.
        base: the highest rate.
        epoch: how many have passed, with the part of the running one.
        epochs: of the whole run.
        step: from 0, over the whole run; counts for the warm-up only.
        steps: of the whole run.
        warmup: steps in which the rate rises in a straight line; the schedule fills what is left.
    """
    if step < warmup:
        return base * (WARMUP_START + (1 - WARMUP_START) * step / warmup)
    if warmup:
        epoch = (step - warmup) * epochs / max(steps - warmup, 1)
    return SCHEDULES[name](base, epoch, epochs)

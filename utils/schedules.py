"""Learning rates as plain functions of the epoch, so that a resumed run needs no saved state."""

from collections.abc import Callable


def poly(base: float, epoch: int, epochs: int, power: float = 0.9) -> float:
    """Polynomial decay to 0 at `epochs` (AMFNet's released code, power 0.9); epoch counts from 0."""
    return base * (1 - epoch / epochs) ** power


def step(base: float, epoch: int, epochs: int, every: int = 8, gamma: float = 0.5) -> float:
    """Times `gamma` every `every` epochs (HANet Sec. IV-A: 0.5 every 8)."""
    return base * gamma ** (epoch // every)


def constant(base: float, epoch: int, epochs: int) -> float:
    """The base rate throughout."""
    return base


SCHEDULES: dict[str, Callable[[float, int, int], float]] = {"poly": poly, "step": step, "constant": constant}

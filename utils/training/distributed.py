"""One process or many: what torchrun says, sums over ranks, and an end for all when one of them dies."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from utils.console import UserError
from utils.machine import first_line

TIMEOUT = timedelta(seconds=50)  # how long ranks wait for each other in a step: a dead one ends the run in a minute
PATIENCE = timedelta(hours=2)  # how long they wait while data are read, a cache is filled, or a checkpoint is written
FAILED = "another process of this run failed; its message says why"
Result = TypeVar("Result")
_groups: dict[str, Any] = {}  # of all ranks, beside the default one, whose timeout is PATIENCE


def rank() -> int:
    """This process's number, 0 where there is one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def join(device: torch.device) -> torch.device:
    """Join the group that torchrun started, by NCCL on GPUs and gloo elsewhere; alone, do nothing.

    Returns:
        this rank's device: with several GPUs, one of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", timeout=PATIENCE)
    _groups["agree"] = dist.new_group(timeout=TIMEOUT)  # on the CPU, so that no GPU is waited for
    gpu = device.type == "cuda"
    _groups["steps"] = dist.new_group(timeout=TIMEOUT, backend="nccl") if gpu else _groups["agree"]
    return device


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        _groups.clear()
        dist.destroy_process_group()


def steps_group() -> Any:
    """The group whose collectives belong to training steps; None where there is one process."""
    return _groups.get("steps")


def lost(error: BaseException) -> UserError:
    """The error to end with when a collective failed."""
    return UserError(f"another process of this run died or hangs ({first_line(error)}); --resume goes on")


@contextmanager
def _others_alive() -> Iterator[None]:
    """Raise `lost` if a collective of the block fails."""
    try:
        yield
    except RuntimeError as error:
        raise lost(error) from error


def summed(value: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if dist.is_initialized():
        with _others_alive():
            dist.all_reduce(value, group=steps_group())
    return value


def highest(*values: int, patient: bool = False) -> list[int]:
    """Return the highest of each value over all ranks; every rank must ask.

    Args:
        values: of this rank.
        patient: wait for the others up to PATIENCE, not TIMEOUT.
    """
    if not dist.is_initialized():
        return list(values)
    found = torch.tensor(values)
    with _others_alive():
        dist.all_reduce(found, dist.ReduceOp.MAX, group=None if patient else _groups["agree"])
    return found.tolist()


def wait_for_all() -> None:
    """Go on when every rank is here; up to PATIENCE."""
    highest(0, patient=True)


def by_first(task: Callable[[], object]) -> None:
    """Let the first process do a task while the others wait.

    Raises:
        UserError: in the others, if it failed; the first process raises the error itself.
    """
    _by_some(task, rank() == 0)


def first_on_each_node(task: Callable[[], Result]) -> Result:
    """Do a task in the first process of each node, then in the others, which may use what it left on the disk.

    Raises:
        UserError: the task failed in another process.
    """
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    result = _by_some(task, first)
    return task() if result is None else result


def _by_some(task: Callable[[], Result], mine: bool) -> Result | None:
    """Do a task where it is `mine`, while the other processes wait; if it fails in one process, it fails in all."""
    result: Result | None = None
    error: Exception | None = None
    if mine:
        try:
            result = task()
        except Exception as caught:
            error = caught
    (failed,) = highest(int(error is not None), patient=True)
    if error:
        raise error
    if failed:
        raise UserError(FAILED)
    return result


def same_buffers(network: nn.Module) -> None:
    """Give all ranks the first one's running statistics, so that they evaluate one and the same network."""
    if dist.is_initialized():
        with _others_alive():
            for buffer in network.buffers():
                dist.broadcast(buffer, 0, group=steps_group())


def is_later_rank() -> bool:
    """Whether torchrun started this process, and not as its first."""
    return int(os.environ.get("RANK", "0")) > 0

"""One process or many: ranks of torchrun, sums over them, and an end for all when one of them dies."""

import atexit
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

TIMEOUT = timedelta(seconds=50)  # for a step: a dead rank ends the run within a minute
PATIENCE = timedelta(hours=2)  # for reading data, filling a cache, writing a checkpoint
FAILED = "another process of this run failed; its message says why"
Result = TypeVar("Result")
_groups: dict[str, Any] = {}  # of all ranks, beside the default one, whose timeout is PATIENCE


def rank() -> int:
    """This process's number, 0 where there is one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_later_rank() -> bool:
    """Whether torchrun started this process, and not as its first; known before `join`."""
    return int(os.environ.get("RANK", "0")) > 0


def join(device: torch.device) -> torch.device:
    """Join the group that torchrun started: NCCL on GPUs, gloo elsewhere. Without torchrun, do nothing.

    Returns:
        The device of this rank: with several GPUs, one of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)  # threads of gloo that still run when the process exits can abort it
    _groups["agree"] = dist.new_group(timeout=TIMEOUT)  # on the CPU, so that no GPU is waited for
    gpu = device.type == "cuda"
    _groups["steps"] = dist.new_group(timeout=TIMEOUT, backend="nccl") if gpu else _groups["agree"]
    return device


def steps_group() -> Any:
    """The group whose collectives belong to training steps; None where there is one process."""
    return _groups.get("steps")


def lost(error: BaseException) -> UserError:
    """The error to end with when a collective failed."""
    return UserError(f"another process of this run died or hangs ({first_line(error)}); --resume goes on")


@contextmanager
def _others_alive() -> Iterator[None]:
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
    """The highest of each value over all ranks; every rank must call it. `patient` waits for PATIENCE, not TIMEOUT."""
    if not dist.is_initialized():
        return list(values)
    found = torch.tensor(values)
    with _others_alive():
        dist.all_reduce(found, dist.ReduceOp.MAX, group=None if patient else _groups["agree"])
    return found.tolist()


def wait_for_all() -> None:
    """Return when every rank is here; wait for PATIENCE."""
    highest(0, patient=True)


def by_first(task: Callable[[], Result], first: bool | None = None) -> Result | None:
    """Do a task in the first process, or where `first` is true, while the others wait.

    Raises:
        UserError: in the others, if it failed; the process that did it raises the error itself.
    """
    result: Result | None = None
    error: Exception | None = None
    if rank() == 0 if first is None else first:
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


def first_on_each_node(task: Callable[[], Result]) -> Result:
    """Do a task in the first process of each node, then in the others, which may use what it left on the disk.

    Raises:
        UserError: the task failed in another process.
    """
    result = by_first(task, int(os.environ.get("LOCAL_RANK", "0")) == 0)
    return task() if result is None else result


def same_buffers(network: nn.Module) -> None:
    """Copy the first rank's running statistics to all ranks, so that they evaluate the same network."""
    if dist.is_initialized():
        with _others_alive():
            for buffer in network.buffers():
                dist.broadcast(buffer, 0, group=steps_group())

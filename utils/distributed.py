"""One process or many: what torchrun says, sums over ranks, and an end for all when one of them dies."""

import os
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist

TIMEOUT = timedelta(seconds=50)  # what ranks wait for each other: a dead one ends the run within a minute


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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return device


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def summed(value: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether any rank says so; every rank must ask."""
    if not dist.is_initialized():
        return flag
    return bool(summed(torch.tensor(int(flag), device=device)).item())


def wait_for_all() -> None:
    """Go on when every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def same_buffers(network: nn.Module) -> None:
    """Give all ranks the first one's running statistics, so that they evaluate one and the same network."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def is_later_rank() -> bool:
    """Whether torchrun started this process, and not as its first."""
    return int(os.environ.get("RANK", "0")) > 0

"""The running average of a network's weights that `--ema` keeps."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class EMA:
    """Keeps average = keep * average + (1 - keep) * weights, running statistics included, after every step.

    keep rises from 2/11 to `decay` as (1 + n) / (10 + n) over the steps n, so that the random start soon loses weight.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._averaged = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._averaged.n_averaged += 1  # the first update averages as well; at 0 it would copy
        self.network: nn.Module = self._averaged.module.eval().requires_grad_(False)  # holds the average
        self.decay = decay
        self.steps = 0  # updates so far

    def update(self, network: nn.Module) -> None:
        """Add the weights after a step to the average."""
        self.steps += 1
        self._averaged.update_parameters(network)

    @torch.no_grad()
    def _average(self, averages: Tensors, values: Tensors, _: object) -> None:
        """Update tensors of one type; integers, which are counters, are copied."""
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - keep)
        else:
            torch._foreach_copy_(averages, values)

    def state_dict(self) -> dict[str, Any]:
        """Average and number of steps, for last.pt."""
        return {"steps": self.steps, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["weights"])
        self.steps = state["steps"]

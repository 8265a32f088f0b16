"""The running average of a network's weights that `--ema` keeps."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class EMA:
    """Keeps average = keep * average + (1 - keep) * weights, running statistics included, after every step.

    keep rises from 2/11 to `decay` as (1 + n) / (10 + n) over the steps n, so that the random start is soon forgotten.

    Attributes:
        network: a copy that holds the average, in evaluation mode.
        steps: updates so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._averaged = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._averaged.n_averaged += 1  # the first update averages as well; at 0 it would copy
        self.network: nn.Module = self._averaged.module.eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def update(self, network: nn.Module) -> None:
        """Take the weights of a step into the average."""
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

    def state_dict(self) -> dict[str, object]:
        """All of it, for last.pt."""
        return {"steps": self.steps, "weights": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Put it back."""
        weights = state["weights"]
        assert isinstance(weights, dict) and isinstance(state["steps"], int)
        self.network.load_state_dict(weights)
        self.steps = state["steps"]


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A state dict of contiguous tensors: what a checkpoint holds, whatever the memory format."""
    return {name: value.contiguous() for name, value in network.state_dict().items()}

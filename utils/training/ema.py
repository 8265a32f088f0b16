"""An exponential moving average of a network's weights, which predicts more steadily than the weights themselves."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Keeps average = keep * average + (1 - keep) * weights, running statistics included, after every step.

    keep rises from 2/11 to `decay` as (1 + n) / (10 + n) over the steps n, so that the random start is soon forgotten.

    Attributes:
        network: a copy that holds the average, in evaluation mode.
        steps: updates so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights of a step into the average."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - keep)
            else:
                average.copy_(value)

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

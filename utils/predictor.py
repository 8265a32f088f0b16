"""A trained network as a function from two dates to a probability of change."""

from pathlib import Path

import torch
from torch import Tensor

from utils.checkpoint import load_checkpoint, network_from
from utils.input_scaling import scaling_from


class ChangePredictor:
    """Predicts with a checkpoint, which says network, input statistics and threshold by itself.

    Attributes:
        about: the checkpoint without its weights: recipe, config, scores, epoch, what it was selected on.
        threshold: probability over which the run calls a pixel changed.
        size_divisor: height and width of images must be multiples of it.
    """

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        content = load_checkpoint(checkpoint)
        self.device = device
        self.network = network_from(content).to(device).to(memory_format=torch.channels_last)
        self.scaling = scaling_from(content["statistics"]).to(device)
        self.threshold = float(content.get("threshold", 0.5))
        self.size_divisor = self.network.size_divisor
        self.about = {name: value for name, value in content.items() if name != "weights"}

    def choose_threshold(self, asked: float | str | None) -> float:
        """The threshold asked for: a number, "tuned", or None for the checkpoint's own.

        Raises:
            ValueError: nobody tuned one.
        """
        if asked != "tuned":
            return self.threshold if asked is None else float(asked)
        if "tuned_threshold" not in self.about:
            raise ValueError("--threshold tuned: this checkpoint has none; a run stores one at its end")
        return float(self.about["tuned_threshold"])

    @torch.inference_mode()
    def probability(self, before: Tensor, after: Tensor) -> Tensor:
        """Probability of change of every pixel: uint8 (B, 3, H, W) twice -> float32 (B, H, W) in [0, 1].

        Raises:
            ValueError: wrong or different sizes.
        """
        dates = (x.to(self.device, non_blocking=True) for x in (before, after))
        return self.network(*self.scaling(*dates))[0].softmax(1)[:, 1]

"""The weights that a run starts from, where they are not the network's own random ones."""

import logging

from torch import nn

from utils.console import UserError, mistakes_of_users
from utils.training.config import TrainConfig

log = logging.getLogger("train")


def zero_heads(network: nn.Module) -> None:
    """Set the layers that give logits to 0, so that every pixel is undecided.

    HANet's published start gives logits of about 9 and a loss of about 14, which takes hundreds of steps to undo.
    """
    for name, module in network.named_modules():
        if "head" in name and isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels == 2:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


def load_backbone(network: nn.Module, config: TrainConfig) -> None:
    """Load the encoder's weights from --backbone-weights.

    Raises:
        UserError: the network has no encoder to load, or the weights do not fit it.
    """
    if not hasattr(network, "load_backbone"):
        raise UserError(f"{config.model} has no encoder to load; use --backbone-weights none")
    with mistakes_of_users():
        network.load_backbone(config.backbone_weights)  # type: ignore[operator]
    inflated = len(config.bands) not in (0, 3)
    how = f", the mean of its first filters for each of {len(config.bands)} bands" if inflated else ""
    log.info("encoder starts from %s%s", config.backbone_weights, how)

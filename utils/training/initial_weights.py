"""The weights that a run starts from, where they are not the network's own random ones."""

import logging

from torch import Tensor, nn

from models.encoders import Encoder, for_bands
from utils.checkpoint import Checkpoint
from utils.console import UserError, mistakes_of_users
from utils.training.config import TrainConfig

log = logging.getLogger("train")


def load_initial_weights(network: nn.Module, config: TrainConfig, source: Checkpoint | None) -> None:
    """Give a network the weights that the settings name; the heads of --init-from's `source` are not set to 0.

    Raises:
        UserError: there is no encoder to load or to freeze, or weights do not fit.
    """
    if config.freeze_encoder:
        encoder_of(network, config, "--freeze-encoder")
    if config.backbone_weights != "none":
        encoder = encoder_of(network, config, "--backbone-weights")
        with mistakes_of_users():
            encoder.load(config.backbone_weights)
        inflated = len(config.bands) not in (0, 3)
        how = f", the mean of its first filters for each of {len(config.bands)} bands" if inflated else ""
        log.info("encoder starts from %s%s", config.backbone_weights, how)
    if source:
        load_fitting(network, len(config.bands) or 3, source, str(config.init_from))
    elif config.zero_heads:
        zero_heads(network)


def encoder_of(network: nn.Module, config: TrainConfig, flag: str) -> Encoder:
    """The encoder of a network; a UserError names the flag that needs one."""
    encoder = getattr(network, "backbone", None)
    if not isinstance(encoder, Encoder):
        raise UserError(f"{flag}: {config.model} has no encoder; leave the flag out, or pass --backbone-weights none")
    return encoder


def load_fitting(network: nn.Module, bands: int, content: Checkpoint, name: str) -> None:
    """Take every weight of a checkpoint that fits by name and shape, and log which were left.

    Where the checkpoint's number of bands differs from `bands`, `for_bands` converts the first convolution.

    Raises:
        UserError: none fits; the error calls the checkpoint `name`.
    """
    own, old = network.state_dict(), content["options"].get("in_channels", 3)
    taken: dict[str, Tensor] = {}
    for key, value in content["weights"].items():
        if key not in own:
            continue
        if old != bands and value.ndim == 4 and (value.shape[1], own[key].shape[1]) == (old, bands):
            value = for_bands(value.float(), bands)
        if own[key].shape == value.shape:
            taken[key] = value
    parameters = dict(network.named_parameters())
    if not taken.keys() & parameters.keys():
        raise UserError(f"--init-from {name}: holds {content['model']}, of which no weight fits; pass its own --model")
    network.load_state_dict(taken, strict=False)
    log.info("weights: %d of %d start from %s", len(taken.keys() & parameters.keys()), len(parameters), name)
    for text, keys in (("start at random", parameters.keys() - taken), ("left", content["weights"].keys() - taken)):
        modules = sorted({key.rpartition(".")[0] for key in keys})
        if modules:
            log.info("%s: %s%s", text, ", ".join(modules[:8]), f" and {len(modules) - 8} more" * (len(modules) > 8))


def zero_heads(network: nn.Module) -> None:
    """Set the layers that give logits to 0, so that every pixel is undecided.

    HANet's published start gives logits of about 9 and a loss of about 14, which takes hundreds of steps to undo.
    """
    for name, module in network.named_modules():
        if "head" in name and isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels == 2:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

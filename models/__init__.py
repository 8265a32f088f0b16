"""The networks: functions (before, after) -> list of logits. Nothing outside this folder asks which one it has."""

from torch import nn

from models.amfnet import AMFNet
from models.hanet import HANet

MODELS: dict[str, type[nn.Module]] = {"amfnet": AMFNet, "hanet": HANet}


def build_model(name: str, **options: object) -> nn.Module:
    """Build a network from its name and plain options; both travel in the checkpoint.

    Raises:
        ValueError: the name is unknown, or the network does not take one of the options.
    """
    if name not in MODELS:
        raise ValueError(f"no network is called {name!r}; choose one of {', '.join(MODELS)}")
    try:
        return MODELS[name](**options)
    except TypeError as error:
        raise ValueError(f"{name} does not take these options {options}: {error}") from error

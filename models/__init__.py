"""The networks: functions (before, after) -> list of logits. Nothing outside this folder asks which one it has."""

import inspect

from torch import nn

from models.amfnet import AMFNet
from models.hanet import HANet

MODELS: dict[str, type[nn.Module]] = {"amfnet": AMFNet, "hanet": HANet}


def build_model(name: str, **options: object) -> nn.Module:
    """Build a network from its name and plain options; both travel in the checkpoint.

    Raises:
        ValueError: the name or an option is unknown, or an option has a value of another type.
    """
    if name not in MODELS:
        raise ValueError(f"no network is called {name!r}; choose one of {', '.join(MODELS)}")
    known = inspect.signature(MODELS[name]).parameters
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}; it takes {', '.join(known)}")
        if type(value) is not (wanted := type(known[key].default)) and not (wanted is float and type(value) is int):
            raise ValueError(f"{name}: {key} takes a {wanted.__name__}, not {value!r}")
    return MODELS[name](**options)

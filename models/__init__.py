"""The networks by name. A new one is a file in this folder and a line in MODELS; docs/contributing.md shows how.

A network is an nn.Module that takes two dates, float (B, in_channels, H, W), and returns a list of logits (B, 2, H, W),
main head first. Its options have defaults. Its `size_divisor` divides the H and W that it takes.
"""

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the flags list the networks before PyTorch is imported, which takes seconds
    from torch import nn

MODELS = {  # the name -> its class, behind that of the file in this folder if it has another name
    "amfnet": "AMFNet",
    "hanet": "HANet",
    "fc-ef": "fc_siam.FCEF",
    "fc-siam-conc": "fc_siam.FCSiamConc",
    "fc-siam-diff": "fc_siam.FCSiamDiff",
    "snunet": "SNUNet",
    "bit": "BIT",
    "unet": "UNet",
}


def build_model(name: str, **options: object) -> "nn.Module":
    """Build a network from its name and plain options; both travel in the checkpoint. ValueError for an unknown one."""
    if name not in MODELS:
        raise ValueError(f"no network is called {name!r}; choose one of {', '.join(MODELS)}")
    file, _, class_name = MODELS[name].rpartition(".")
    network: type[nn.Module] = getattr(import_module(f"models.{file or name}"), class_name)
    known = inspect.signature(network).parameters
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}; it takes {', '.join(known)}")
        if type(value) is not (wanted := type(known[key].default)) and not (wanted is float and type(value) is int):
            raise ValueError(f"{name}: {key} takes a {wanted.__name__}, not {value!r}")
    return network(**options)

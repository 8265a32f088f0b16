"""Both networks in their published form: what ours must equal, and the base of every ratio of speed and memory."""

import torch

from models import build_model
from models.official import our_names
from tests.golden import fill
from tests.plain.amfnet import AMFNet
from tests.plain.hanet import HANet

PLAIN = {"amfnet": AMFNet, "hanet": HANet}


def twins(name, seed=0, **options):
    """A network in its plain form and in ours, with the same random weights: no gamma 0, no statistic at its start."""
    plain, ours = PLAIN[name](**options), build_model(name, **options)
    state = {key: torch.from_numpy(fill.tensor(key, value.shape, seed)) for key, value in plain.state_dict().items()}
    plain.load_state_dict(state)
    ours.load_state_dict({our_key: state[key] for key, our_key in shared_keys(plain).items()})
    return plain, ours


def shared_keys(plain):
    """Keys of a plain network that ours has as well -> those of ours; without what no forward pass of it uses."""
    unheard = () if getattr(plain, "deep_supervision", True) else ("output_aux_",)
    return our_names(key for key in plain.state_dict() if not key.startswith(unheard))

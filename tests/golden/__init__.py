"""Numbers of the published networks, made with weights and inputs that fill.py draws from names."""

import json
from pathlib import Path

import numpy as np
import torch

from tests.golden import fill

FOLDER = Path(__file__).parent


def numbers(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def arrays(name):
    return np.load(FOLDER / f"{name}.npz")


def official_state(name):
    return {key: torch.from_numpy(fill.tensor(key, shape)) for key, shape in numbers(f"{name}_keys").items()}


def images(size):
    n, h, w = size
    return [torch.from_numpy(fill.image(name, (n, 3, h, w))) for name in ("t1", "t2")]


def label(size):
    return torch.from_numpy(fill.mask("label", tuple(size)))

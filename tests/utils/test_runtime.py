"""Devices and seeds."""

import pytest
import torch

from utils.runtime import pick_device, seed_everything


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto") == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="use auto, cpu, cuda or cuda:N"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="use --device cpu"):
        pick_device("cuda:99")


def test_seeds_depend_on_every_part_of_the_key():
    def draw(*key):
        seed_everything(*key)
        return torch.rand(1).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(*key) for key in [(1, 2), (2, 1), (1, 3), (1,), (0, 1, 2)]}) == 5

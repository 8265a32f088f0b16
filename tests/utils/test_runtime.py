"""Devices and seeds."""

import pytest
import torch

from utils.runtime import pick_device, seed_everything, tiny_is_zero


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


def test_a_seed_is_the_same_with_every_numpy():
    """NumPy 1.26, the oldest that is allowed, has no uint64 >> int."""
    for key, seed in (((1, 2), 7764949442709860949), ((0,), 7896617691693857887)):
        seed_everything(*key)
        assert torch.initial_seed() == seed


def test_tiny_numbers_are_zero_while_training_on_a_cpu_and_no_longer():
    tiny = torch.tensor(1e-39)
    with pytest.raises(KeyError), tiny_is_zero(torch.device("cpu")):
        assert (tiny * 0.5).item() == 0
        assert (torch.tensor(1e-37) * 0.5).item() > 0
        raise KeyError
    assert (tiny * 0.5).item() > 0
    with tiny_is_zero(torch.device("meta")):
        assert (tiny * 0.5).item() > 0

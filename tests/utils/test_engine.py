"""What the loop hands to a network and a loss."""

import torch

from utils.engine import to_device


def test_masks_become_int64_on_the_device():
    """They travel as bytes; PyTorch's own cross-entropy, should someone use it, takes int64 alone."""
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    before, after, moved = to_device({"before": images, "after": images, "mask": mask}, torch.device("cpu"))
    assert (before.dtype, after.dtype, moved.dtype) == (torch.uint8, torch.uint8, torch.int64)
    assert moved.tolist() == mask.tolist()

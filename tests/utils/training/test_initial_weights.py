"""The weights that a run starts from."""

import pytest
import torch

from models import build_model
from utils.training.initial_weights import zero_heads


@pytest.mark.parametrize(
    ("name", "options", "heads"),
    [
        ("amfnet", {"backbone": "resnet18"}, 4), ("hanet", {"width": 8}, 1),
        ("hanet", {"width": 8, "fcn_head": True}, 1), ("fc-ef", {"width": 4}, 1), ("snunet", {"width": 8}, 1),
        ("bit", {"decoder_depth": 1}, 1), ("unet", {"backbone": "resnet18"}, 1),
    ],
)  # fmt: skip
def test_zeroed_heads_are_undecided_everywhere_and_learn(name, options, heads):
    torch.manual_seed(0)
    network = build_model(name, **options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    zero_heads(network)
    altered = {
        key.rpartition(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])
    }
    assert len(altered) == heads
    logits = network.train()(*torch.rand(2, 2, 3, 64, 64))
    assert len(logits) == heads
    assert not any(y.any() for y in logits)
    sum((y[:, 1] - y[:, 0]).sum() for y in logits).backward()
    assert all(network.get_submodule(key).weight.grad.abs().sum() > 0 for key in altered)

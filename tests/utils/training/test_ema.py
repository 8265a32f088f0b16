"""The average of the weights."""

import torch
from torch import nn

from utils.training.ema import EMA


def network(value):
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for tensor in net.state_dict().values():
        tensor.fill_(value)
    return net


def test_average_follows_the_weights_and_forgets_the_start():
    """By hand: keep is (1 + n) / (10 + n) until it reaches the decay; counters are copied."""
    ema, expected = EMA(network(0), decay=0.3), 0.0
    for step, value in enumerate((4, 8, 2, 6), start=1):
        ema.update(network(value))
        keep = min(0.3, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
    state = ema.network.state_dict()
    assert torch.allclose(state["0.weight"], torch.tensor(expected))
    assert torch.allclose(state["1.running_var"], torch.tensor(expected))
    assert state["1.num_batches_tracked"] == 6
    assert not ema.network.training
    assert not any(p.requires_grad for p in ema.network.parameters())


def test_state_round_trip():
    one, two = EMA(network(0), 0.9), EMA(network(5), 0.9)
    one.update(network(3))
    two.load_state_dict(one.state_dict())
    for ema in (one, two):
        ema.update(network(1))
    assert torch.equal(one.network[0].weight, two.network[0].weight)

"""What the networks cost against their plain forms, in counts and not in seconds: a lost exact form breaks a limit."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.amfnet import AMFNet
from models.siamese import both_dates
from tests.ledger import Ledger
from tests.plain import twins
from tools.costs import count_macs

SMALL = {"amfnet": {"backbone": "resnet18"}, "hanet": {"width": 8}}  # as dear by its attention as the whole at 640
# ours over plain, at most; the counts are exact, and a limit lies within 2 % of what they are
LIMITS = {
    ("amfnet", "predicting"): {"multiply-adds": 0.996, "convolutions": 0.75, "bytes": 1.0},
    ("amfnet", "training"): {"bytes": 1.02},
    ("hanet", "predicting"): {"multiply-adds": 0.94, "convolutions": 0.99, "bytes": 0.225},
    ("hanet", "training"): {"bytes": 0.5},
}


def cost(network, training):
    """Multiply-adds, calls of convolutions, and the most bytes that tensors of a forward pass held at once."""
    layout = torch.contiguous_format if type(network).__module__.startswith("tests.") else torch.channels_last
    network = network.train(training).to(memory_format=layout)
    before, after = (torch.rand(1 + training, 3, 128, 128).to(memory_format=layout) for _ in range(2))
    macs = sum(each.total for each in count_macs(network, 128, 128))
    with torch.set_grad_enabled(training), Ledger() as ledger:
        outputs = network(before, after)
    del outputs
    return {"multiply-adds": macs, "convolutions": ledger.calls["convolution"], "bytes": ledger.peak}


def ratios(name, mode):
    plain, ours = (cost(network, mode == "training") for network in twins(name, **SMALL[name]))
    return {quantity: ours[quantity] / plain[quantity] for quantity in LIMITS[name, mode]}


@pytest.mark.parametrize(("name", "mode"), LIMITS)
def test_no_dearer_than(name, mode):
    for quantity, ratio in ratios(name, mode).items():
        assert ratio <= LIMITS[name, mode][quantity], quantity


def all_scales_at_full_size(network, scales):
    """HANet's fusion as published."""
    x = scales[3]
    for scale in reversed(scales[:3]):
        x = torch.cat([scale, F.interpolate(x, scale_factor=2, mode="bilinear")], dim=1)
    return network.reduce(x)


@pytest.mark.parametrize(
    ("name", "lost", "quantity"),
    [
        ("hanet", "head below the upsampling", "multiply-adds"),
        ("hanet", "fused attention", "bytes"),
        ("hanet", "both dates in one batch", "convolutions"),
        ("amfnet", "both dates in one batch", "convolutions"),
        ("amfnet", "auxiliary heads left out", "multiply-adds"),
    ],
)
def test_a_lost_exact_form_is_noticed(name, lost, quantity, monkeypatch):
    if lost == "head below the upsampling":
        monkeypatch.setattr("models.hanet.HANet.fuse", all_scales_at_full_size)
    if lost == "both dates in one batch":
        monkeypatch.setattr(f"models.{name}.both_dates", lambda run, x, y, separate: both_dates(run, x, y, True))
    if lost == "auxiliary heads left out":
        forward = AMFNet.forward
        monkeypatch.setattr(AMFNet, "forward", lambda self, x, y: forward(self, x, y, auxiliary=True))
    with sdpa_kernel(SDPBackend.MATH) if lost == "fused attention" else nullcontext():
        assert ratios(name, "predicting")[quantity] > LIMITS[name, "predicting"][quantity]


def test_the_ledger_counts_living_storage_once():
    before = torch.ones(1000)
    with Ledger() as ledger:
        copy = before + 1  # 4000 bytes
        view = copy.view(10, 100)
        del copy
        assert (ledger.alive, ledger.peak) == (4000, 4000)
        twice = view * 2
        del view
        assert (ledger.alive, ledger.peak) == (4000, 8000)
        twice += 1
        del twice
    assert (ledger.alive, ledger.peak) == (0, 8000)
    assert ledger.calls == {"add": 1, "view": 1, "mul": 1, "add_": 1}

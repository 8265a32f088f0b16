"""Ours against the plain forms: the same logits, the same training step, and no more rounding than the plain ones."""

import pytest
import torch
from torch import nn

from models.hanet import ChannelAttention
from models.official import AMFNET_VARIANTS
from tests import golden
from tests.plain import PLAIN, shared_keys, twins
from tests.plain.hanet import ChannelAttention as PlainAttention
from utils.training.losses import DeepSupervisionLoss, one_hot_bce

CASES = {
    f"amfnet {name}": ("amfnet", {"backbone": "resnet18", **switches}) for name, switches in AMFNET_VARIANTS.items()
}
CASES |= {
    "amfnet resnet34": ("amfnet", {}),
    "hanet": ("hanet", {}),
    "hanet column": ("hanet", {"width": 8, "row": False}),
    "hanet row": ("hanet", {"width": 8, "column": False}),
    "hanet base": ("hanet", {"width": 8, "row": False, "column": False}),
    "hanet fcn head": ("hanet", {"width": 8, "fcn_head": True}),
}
SIZES = [(1, 64, 64), (3, 32, 96), (2, 96, 32)]
every_case = pytest.mark.parametrize("case", CASES)


def twins_of(case):
    name, options = CASES[case]
    plain, ours = twins(name, seed=7, **options)
    return plain.eval(), ours.eval().to(memory_format=torch.channels_last)


def norm(tensors):
    return torch.stack([x.double().norm() for x in tensors]).norm().item()


def distance(ones, others):
    return norm([x.double() - y.double() for x, y in zip(ones, others, strict=True)])


@every_case
@torch.inference_mode()
def test_logits_are_those_of_the_plain_form(case):
    """In float64, every head, at several sizes; in float32 with at most twice the plain form's rounding."""
    plain, ours = twins_of(case)
    pairs = [golden.images(size) for size in SIZES]
    rounded_plain = [y for pair in pairs for y in plain(*pair)]
    rounded_ours = [y for pair in pairs for y in ours(*pair, auxiliary=True)]
    plain, ours = plain.double(), ours.double()
    wide = [[x.double() for x in pair] for pair in pairs]
    exact, exact_ours = ([y for pair in wide for y in run(*pair)] for run in (plain, lambda *p: ours(*p, True)))
    for theirs, own in zip(exact, exact_ours, strict=True):
        assert (own - theirs).abs().max() <= 1e-10 * theirs.abs().max()
    assert 0 < distance(rounded_ours, exact) <= 2 * distance(rounded_plain, exact)


@every_case
def test_a_training_step_is_that_of_the_plain_form(case):
    """In float64: every gradient, every running statistic, and which parameters have no gradient at all."""
    networks = [network.double().train() for network in twins_of(case)]
    mask = golden.label((3, 64, 64))
    before, after = (x.double() for x in golden.images(mask.shape))
    losses = []
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
        outputs = network(before, after)
        losses.append(DeepSupervisionLoss(one_hot_bce, (1, 0.5, 0.4, 0.3)[: len(outputs)])(outputs, mask)[0])
        losses[-1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)

    plain, ours = networks
    names = shared_keys(plain)
    theirs, own = ({key: p.grad for key, p in network.named_parameters()} for network in networks)
    assert {key for key, gradient in theirs.items() if gradient is None} == theirs.keys() - names.keys()
    rounding = 1e-12 * max(theirs[key].norm() for key in theirs if key in names)
    for key in theirs.keys() & names.keys():
        gradient = 0.0 if key.endswith("key_conv.bias") else own[names[key]]  # of which softmax lets nothing through
        assert (gradient - theirs[key]).norm() <= 1e-9 * theirs[key].norm() + rounding, key
    theirs, own = plain.state_dict(), ours.state_dict()
    for key in (key for key in names if "running" in key or "tracked" in key):
        assert torch.allclose(own[names[key]], theirs[key], rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize("scale", [0.1, 1, 10])
@torch.inference_mode()
def test_channel_attention_from_nearly_even_to_one_sided(scale):
    """In the last, the smallest weights are below what ours counts as 0."""
    plain, ours = PlainAttention().double(), ChannelAttention().double()
    for attention in (plain, ours):
        attention.gamma.fill_(0.7)
    x = scale * torch.randn(2, 8, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = plain(x)
    assert distance(ours(x), expected) < 1e-12 * norm(expected)
    assert distance(x, expected) > 0.05 * norm(expected)


@pytest.mark.parametrize(("name", "built"), [("amfnet", 30_271_536), ("hanet", 3_029_444)])
def test_plain_forms_build_what_the_published_networks_build(name, built):
    assert sum(p.numel() for p in PLAIN[name]().parameters()) == built

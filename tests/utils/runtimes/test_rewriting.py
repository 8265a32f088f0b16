"""Networks rewritten for prediction are the networks they came from, to rounding, and leave those alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.models.test_networks import build, every_case, pair
from utils.runtimes import rewriting
from utils.runtimes.rewriting import prepare_for_inference


def trained(case):
    """A network in evaluation mode whose normalisations and slopes are as if it had been trained."""
    network, generator = build(case), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(-0.2, 0.6, generator=generator)
    return network.eval()


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def random(*shape, seed=3):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_composed(case, prepared):
    """All normalisations but those behind a shortcut are folded; the heads begin below the upsampling."""
    left = [name for name, module in prepared.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == [f"blocks.{n}.bn1" for n in range(4) if case.startswith("hanet")]
    if case.startswith("hanet"):
        assert len(prepared.reduce.weight) == (2 if "fcn" in case else 18)
    elif prepared.up1:
        assert [type(module) for module in prepared.up1[-2:]] == [nn.Conv2d, nn.Upsample]
        assert isinstance(prepared.head[0], nn.Identity)


@every_case
@torch.no_grad()
def test_equal_in_float64_at_several_sizes(case):
    network = trained(case).double()
    prepared = prepare_for_inference(network, len(pair(case=case)[0][0]))
    check_composed(case, prepared)
    for height, width, batch in ((network.size_divisor, network.size_divisor, 1), (32, 64, 2)):
        dates = [x.double() for x in pair(height, width, batch, case=case)]
        for found, expected in zip(prepared(*dates, True), network(*dates, True), strict=True):
            assert expected.std() > 1e-3  # or agreement would say nothing
            assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("case", ["amfnet full", "amfnet backbone", "hanet", "hanet base"])
@torch.no_grad()
def test_single_precision_loses_no_more_than_before(case):
    network = trained(case)
    prepared, dates = prepare_for_inference(network), pair(case=case)
    found, plain = prepared(*dates)[0].double(), network(*dates)[0].double()
    expected = network.double()(*(x.double() for x in dates))[0]
    assert relative(found, expected) < 2 * relative(plain, expected)


@pytest.mark.parametrize("case", ["amfnet full", "hanet", "hanet fcn head", "amfnet of 5 bands"])
@torch.no_grad()
def test_the_given_network_stays_as_it_was(case):
    network, dates = trained(case).train(), pair(case=case)
    modules = {name: type(module) for name, module in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    prepared = prepare_for_inference(network, len(dates[0][0]))
    prepared(*dates)
    for parameter in prepared.parameters():
        assert not parameter.requires_grad
        parameter.zero_()  # shares no memory with it
    assert not any(module.training for module in prepared.modules())
    assert {name: type(module) for name, module in network.named_modules()} == modules
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad != name.endswith("key.bias") for name, p in network.named_parameters())


class BnFirst(nn.Module):
    """A network with the usual names in another order: bn, relu, conv."""

    size_divisor = 8

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.tail = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        with torch.no_grad():
            for norm in (self.bn1, self.tail[1]):
                norm.running_mean.fill_(0.4)
                norm.running_var.fill_(0.3)

    def forward(self, before, after):
        features = [self.conv1(F.relu(self.bn1(date))) for date in (before, after)]
        return [self.tail(features[0] - features[1])]


class Skipping(nn.Sequential):
    """A Sequential that calls its modules otherwise."""

    def forward(self, x):
        return x + self[1](self[0](x))[:, :3] - self[0](x)


@torch.no_grad()
def test_a_network_of_another_order_predicts_as_it_was(caplog):
    """Only what is called in a known order is folded."""
    torch.manual_seed(0)
    network, dates = BnFirst().eval(), pair()
    expected, prepared = network(*dates)[0], prepare_for_inference(network)
    assert relative(prepared(*dates)[0], expected) < 1e-6
    assert isinstance(prepared.bn1, nn.BatchNorm2d)
    assert isinstance(prepared.tail[1], nn.Identity)
    assert caplog.messages == []
    skipping = Skipping(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    rewriting.fold_batch_norms(skipping)
    assert isinstance(skipping[1], nn.BatchNorm2d)


@pytest.mark.parametrize("broken", ["other numbers", "an error"])
@torch.no_grad()
def test_a_rewriting_that_changes_the_logits_is_not_used(broken, monkeypatch, caplog):
    """As of a network that is called like a known one and computes something else."""

    class Other(type(build("hanet"))):
        def fuse(self, scales):
            return super().fuse(scales) * self.reduce.weight.abs().sum()

    network, dates = trained("hanet"), pair()
    network.__class__ = Other
    if broken == "an error":
        monkeypatch.setattr(rewriting, "_rewrite_hanet", lambda network: network.add_module("reduce", nn.Identity()))
    expected, prepared = network(*dates)[0], prepare_for_inference(network)
    assert torch.equal(prepared(*dates)[0], expected)
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    (said,) = caplog.messages
    assert said.startswith("Other: the rewritten network differs")


@torch.no_grad()
def test_a_network_that_diverged_is_rewritten_all_the_same(caplog):
    network = trained("hanet")
    network.reduce.bias.fill_(torch.nan)
    assert prepare_for_inference(network)(*pair())[0].isnan().all()
    assert caplog.messages == []


@pytest.mark.parametrize("size", [(4, 4), (8, 5), (24, 40)])
@torch.no_grad()
def test_composed_stem_to_the_very_edge(size):
    first = nn.Conv2d(3, 6, 5, padding=2).double()
    second = nn.Conv2d(6, 8, 3, padding=1).double()
    x = random(2, 3, *size)
    expected = second(first(x))
    found = rewriting.ComposedStem(first, second)(x)
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()
    assert (found - F.pad(expected, (1, 1, 1, 1))[..., :-2, :-2]).abs().max() > 0.1  # a shift would be seen

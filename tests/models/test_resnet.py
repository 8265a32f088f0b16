"""AMFNet's encoders are torchvision's: layers, weights of a seed, features and gradients."""

import pytest
import torch
from torchvision.models import get_model

from models.resnet import DEPTHS, ResNet


def stages(network, x):
    """Features of all four stages, at strides 4 to 32."""
    x, features = network.maxpool(network.relu(network.bn1(network.conv1(x)))), []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        features.append(x := layer(x))
    return features


@pytest.mark.parametrize("name", DEPTHS)
def test_a_seed_draws_the_same_weights(name):
    torch.manual_seed(3)
    theirs = get_model(name, weights=None)
    behind = torch.rand(1)
    torch.manual_seed(3)
    ours = ResNet(name)
    assert torch.equal(torch.rand(1), behind), "what is drawn next is the same, too"
    expected = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    found = ours.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_and_gradients_are_equal(name):
    theirs, ours = get_model(name, weights=None), ResNet(name)
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    x = torch.rand(2, 3, 32, 32)
    found, expected = stages(ours, x), stages(theirs, x)
    assert [y.shape[1] for y in found] == ours.widths
    assert all(torch.equal(y, z) for y, z in zip(found, expected, strict=True))
    found[-1].square().sum().backward()
    expected[-1].square().sum().backward()
    assert torch.equal(ours.conv1.weight.grad, theirs.conv1.weight.grad)

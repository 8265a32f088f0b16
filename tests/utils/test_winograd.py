"""Winograd's form of convolutions gives what the convolutions give: values, gradients, also after weights changed."""

import copy
import subprocess

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from models import build_model
from tests import golden
from utils import winograd
from utils.runtimes.rewriting import prepare_for_inference
from utils.training.trainer import OPTIMIZERS
from utils.winograd import WinogradConv2d, kernels, use_winograd


@pytest.fixture(autouse=True)
def compiled():
    if not kernels(torch.float32):
        pytest.skip("there is no gcc here, or no libgomp of PyTorch's")


def random(*shape, dtype=torch.float64, seed=0):
    values = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def convolution(inputs=64, outputs=70, dtype=torch.float64, **options):
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, dtype=dtype, **options)
    with torch.no_grad():
        conv.weight.copy_(random(*conv.weight.shape, dtype=dtype, seed=1) / (9 * inputs) ** 0.5)
    return conv.to(memory_format=torch.channels_last)


def by_winograd(conv):
    """A copy of a convolution, rewritten."""
    network = nn.Sequential(copy.deepcopy(conv))
    use_winograd(network)
    assert type(network[0]) is WinogradConv2d
    return network[0]


@pytest.mark.parametrize("size", [(2, 2), (6, 2), (8, 12)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tiles", [1000, 5])
def test_values_and_gradients(size, bias, tiles, monkeypatch):
    """In one chunk, and in chunks that end within a line and within an image."""
    monkeypatch.setattr(winograd, "CHUNK", tiles * 16 * 70)
    conv = convolution(bias=bias)
    x, gradient = random(3, 64, *size, seed=2).requires_grad_(), random(3, 70, *size, seed=3)
    found = []
    for form in (conv, by_winograd(conv)):
        y = form(x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        found.append([y, *torch.autograd.grad(y, (x, *form.parameters()), gradient)])
    for expected, own in zip(*found, strict=True):
        assert (own - expected).abs().max() < 1e-13 * expected.abs().max()


def test_images_in_another_layout():
    conv, x = convolution(), random(2, 64, 4, 6)
    assert torch.equal(by_winograd(conv)(x.contiguous()), by_winograd(conv)(x))


def test_no_less_exact():
    """On what a ReLU leaves, in float32."""
    conv, x = convolution(256, 256, torch.float32), random(2, 256, 16, 16, dtype=torch.float32).relu()
    with torch.no_grad():
        rounded, own = conv(x), by_winograd(conv)(x)
        exact = conv.double()(x.double())
    assert 0 < (own - exact).norm() <= (rounded - exact).norm()


def test_a_training_step_of_a_network():
    """In float64 every gradient is that of the network as it was, to 1e-9."""
    network = build_model("amfnet", backbone="resnet18", dropout=0.0).double().train()
    own = copy.deepcopy(network)
    use_winograd(own)
    # of two blocks a stage all but the first convolution of stages 2 to 4, and two of each step up but the last
    assert sum(isinstance(module, WinogradConv2d) for module in own.modules()) == 4 + 3 * 3 + 3 * 2
    assert own.state_dict().keys() == network.state_dict().keys()
    pair = [x.double() for x in golden.images((2, 64, 64))]
    for each in (network, own):
        sum((y * random(*y.shape)).sum() for y in each(*pair)).backward()
    names = dict(network.named_parameters())
    largest = max(p.grad.norm() for p in names.values())
    for name, parameter in own.named_parameters():
        expected = names[name].grad
        assert (parameter.grad - expected).norm() <= 1e-9 * expected.norm() + 1e-12 * largest, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_that_change_are_seen(optimizer):
    """By an optimizer's steps, and by loading: nothing of a weight is kept longer than it is the same."""
    conv = convolution()
    own, x = by_winograd(conv), random(2, 64, 4, 4)
    for form in (conv, own):
        steps = OPTIMIZERS[optimizer](form.parameters(), 0.1, fused=True)
        for _ in range(3):
            form(x).square().mean().backward()
            steps.step()
            steps.zero_grad()
    assert torch.allclose(own(x), conv(x))
    own.requires_grad_(False)
    with torch.inference_mode():
        assert torch.allclose(own(x), conv(x))
        own.load_state_dict({key: 2 * value for key, value in conv.state_dict().items()})
        assert torch.allclose(own(x), 2 * conv(x))


def test_frozen_weights_still_hand_on_gradients():
    """After a prediction in inference mode as well, whose tensors know of no gradients."""
    own, x = by_winograd(convolution()).requires_grad_(False), random(1, 64, 4, 4).requires_grad_()
    with torch.inference_mode():
        own(x)
    assert torch.autograd.grad(own(x).sum(), x)[0].abs().max() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 32},
        {"kernel_size": 1, "padding": 0},
        {"kernel_size": 5, "padding": 2},
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"padding": 0},
        {"groups": 2},
        {"padding_mode": "reflect"},
    ],
    ids=str,
)
def test_other_convolutions_stay(options):
    conv = nn.Conv2d(**{"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, **options})
    network = nn.Sequential(conv)
    use_winograd(network)
    assert network[0] is conv


def test_what_is_done_in_place_behind_it():
    """As by AMFNet's ReLUs once normalisations are folded."""
    own, x = by_winograd(convolution()), random(1, 64, 4, 4).requires_grad_()
    expected = torch.autograd.grad(own(x).relu().sum(), x)[0]
    assert torch.equal(torch.autograd.grad(nn.ReLU(inplace=True)(own(x)).sum(), x)[0], expected)


def test_backward_within_autocast():
    own, x = by_winograd(convolution(dtype=torch.float32)), random(1, 64, 4, 4, dtype=torch.float32).requires_grad_()
    y = own(x)
    with torch.autocast("cpu", torch.bfloat16):
        within = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    assert torch.equal(within, torch.autograd.grad(y.sum(), x)[0])


def test_wrong_channels_are_refused():
    with pytest.raises(RuntimeError, match="channels"):
        by_winograd(convolution())(random(1, 63, 4, 4))


@torch.inference_mode()
def test_a_network_that_was_made_in_inference_mode():
    conv, x = convolution().requires_grad_(False), random(1, 64, 4, 4)
    assert torch.allclose(by_winograd(conv)(x), conv(x))


@pytest.mark.parametrize("case", ["odd height", "odd width", "no image", "float16", "autocast", "no compiler"])
def test_what_does_not_fit_is_done_as_before(case, monkeypatch):
    conv = convolution(dtype=torch.float32)
    shape = case != "no image", 64, 4 + (case == "odd height"), 4 + (case == "odd width")
    x = random(*map(int, shape), dtype=torch.float32)
    if case == "float16":
        conv, x = conv.half(), x.half()
    if case == "no compiler":

        def missing(*_, **__):
            raise FileNotFoundError("gcc")

        monkeypatch.setattr(subprocess, "run", missing)
        kernels.cache_clear()
    own = by_winograd(conv)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        same = torch.equal(own(x), conv(x))
    kernels.cache_clear()
    assert same


@pytest.mark.parametrize("how", ["export", "trace", "compile", "count"])
def test_what_is_traced_is_a_convolution(how):
    """Or a file, or a count, would lack it."""
    network, x = nn.Sequential(by_winograd(convolution(dtype=torch.float32))), random(1, 64, 4, 4, dtype=torch.float32)
    if how == "export":
        seen = {str(node.target) for node in torch.export.export(network, (x,)).graph.nodes}
        assert "aten.conv2d.default" in seen
    elif how == "trace":
        assert "aten::_convolution" in str(torch.jit.trace(network, x).inlined_graph)
    elif how == "compile":
        graphs = []
        torch.compile(network, backend=lambda graph, _: graphs.append(str(graph.graph)) or graph)(x)
        assert len(graphs) == 1 and "conv2d" in graphs[0]
    else:
        with FlopCounterMode(display=False) as counter, FakeTensorMode(allow_non_fake_inputs=True):
            network(torch.empty(1, 64, 4, 4))
        assert counter.get_total_flops() == 2 * 64 * 70 * 9 * 16


def test_a_network_that_predicts():
    """Rewritten, in float32: the same probabilities as without."""
    network = prepare_for_inference(build_model("amfnet", backbone="resnet18"))
    own = copy.deepcopy(network)
    use_winograd(own)
    pair = golden.images((1, 128, 128))
    with torch.inference_mode():
        found, expected = (each(*pair)[0].softmax(1) for each in (own, network))
    assert 0 < (found - expected).abs().max() < 1e-5

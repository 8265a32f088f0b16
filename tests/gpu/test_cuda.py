"""A GPU gives what the CPU gives, to rounding: `pytest -m gpu`, skipped where there is none."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import predict_batch
from tests.models.test_networks import build, pair
from tests.utils.runtimes.test_rewriting import trained
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.rewriting import prepare_for_inference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
each_network = pytest.mark.parametrize("case", ["amfnet resnet34", "hanet"])


@pytest.fixture(autouse=True)
def exact_arithmetic(monkeypatch):
    """Without TF32, which PyTorch by default lets convolutions have."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def batch(count, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, 3, side, side), dtype=torch.uint8, generator=generator).unbind()


@each_network
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("prepared", [False, True])
@torch.inference_mode()
def test_logits(case, layout, prepared):
    network, dates = trained(case), pair(case=case)
    network = prepare_for_inference(network) if prepared else network
    expected = network(*dates)[0]
    there = copy.deepcopy(network).cuda().to(memory_format=layout)
    found = there(*(date.cuda().contiguous(memory_format=layout) for date in dates))[0].cpu()
    assert expected.std() > 1e-3  # or agreement would say nothing
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


@each_network
def test_gradients_of_a_training_step(case):
    """In float64, without dropout, whose draws differ; those that are 0 but for rounding are held against the rest."""
    network, dates = build(case).double().train(), [date.double() for date in pair(case=case)]
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    truth = torch.randint(0, 2, (2, *dates[0].shape[2:]), generator=torch.Generator().manual_seed(3))
    gradients = {}
    for device in ("cpu", "cuda"):
        copied = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)
        outputs = copied(*(date.to(device).contiguous(memory_format=torch.channels_last) for date in dates))
        sum(F.cross_entropy(logits, truth.to(device)) for logits in outputs).backward()
        gradients[device] = {name: p.grad.cpu() for name, p in copied.named_parameters() if p.requires_grad}
    largest = max(float(each.abs().max()) for each in gradients["cpu"].values())
    for name, expected in gradients["cpu"].items():
        assert (gradients["cuda"][name] - expected).abs().max() < 1e-9 * largest, name


def test_bf16_moves_few_pixels(checkpoint):
    exact = ChangePredictor(checkpoint, "cuda").probability(*batch(4))
    half = ChangePredictor(checkpoint, "cuda", precision="bf16")
    found = half.probability(*batch(4))
    moved = int(((found > half.threshold) != (exact > half.threshold)).sum())
    assert half.flipped == (moved, exact.numel())
    assert moved < 0.05 * exact.numel()
    assert 1e-6 < (found - exact).abs().mean() < 0.05


@pytest.mark.slow
@torch.inference_mode()
def test_compiled_with_cuda_graphs(checkpoint, caplog):
    """Results stay as they are while the next batch runs, and smaller batches are filled up."""
    plain, compiled = (ChangePredictor(checkpoint, "cuda", backend=backend) for backend in ("torch", "compile"))
    batches = [batch(count, seed=seed) for seed, count in enumerate((4, 4, 4, 2))]
    found = [compiled.probability(*dates) for dates in batches]
    if compiled.model.backend != "compile":
        pytest.skip(f"nothing compiles here: {caplog.text}")
    for dates, each in zip(batches, found, strict=True):
        assert (each - plain.probability(*dates)).abs().max() < 1e-3


@pytest.mark.parametrize("windows", [(), ("--tile-size", "32", "--overlap", "8")])
def test_masks_are_those_of_the_cpu(windows, checkpoint, drawn_set, tmp_path):
    masks = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        words = ["--checkpoint", str(checkpoint), "--data-root", str(drawn_set), "--output", str(out), "--no-report"]
        predict_batch.main([*words, "--device", device, *windows])
        masks[device] = np.stack([np.array(Image.open(path)) for path in sorted((out / "mask").iterdir())])
    assert 0 < (masks["cpu"] == 255).mean() < 1  # or agreement would say nothing
    assert (masks["cuda"] != masks["cpu"]).mean() < 1e-3  # a pixel may lie on the threshold

"""The networks that papers compare with: the published numbers, sizes, bands and the form that predicts."""

import pytest
import torch
from torch import nn

import train_aux
from datasets.catalog import STATISTICS
from models import build_model
from models.official import behind, from_official, our_names
from tests import golden
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.rewriting import prepare_for_inference

META = golden.numbers("peers_meta")
CASES = {
    "fc-ef": ("fc-ef", {"width": 4}),
    "fc-siam-conc": ("fc-siam-conc", {"width": 4}),
    "fc-siam-diff": ("fc-siam-diff", {"width": 4}),
    "snunet": ("snunet", {"width": 8}),
    "bit": ("bit", {"decoder_depth": 2}),
    "unet": ("unet", {"backbone": "resnet18"}),
    "unet of both": ("unet", {"backbone": "resnet18", "fusion": "concatenation"}),
    "unet, lite": ("unet", {"backbone": "efficientnet_lite0"}),
}
every_case = pytest.mark.parametrize("case", CASES)


def build(case, **more):
    torch.manual_seed(0)
    name, options = CASES[case]
    return build_model(name, **options, **more)


def pair(height=64, width=96, bands=3, dtype=torch.float32):
    return torch.rand(2, 2, bands, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize("name", META)
@torch.inference_mode()
def test_published_numbers(name):
    state = golden.official_state(name)
    network = from_official(state).eval()
    assert behind(state)[0] == name.replace("_", "-")
    assert sum(p.numel() for p in network.parameters()) == META[name]["used"]
    expected = torch.from_numpy(golden.arrays(f"{name}_eval")["out0"])
    size = [META[name]["size"][n] for n in (0, 2, 3)]
    for dtype, most in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        (logits,) = network.to(dtype)(*(x.to(dtype) for x in golden.images(size)))
        found = logits.log_softmax(1) if name.startswith("fc") else logits  # the released FC networks end in it
        assert (found - expected).abs().max() < most * expected.abs().max()


@pytest.mark.parametrize("name", META)
def test_dropped_layers_are_the_unused_ones(name):
    state = golden.official_state(name)
    dropped = {key.rpartition(".")[0] for key in state.keys() - our_names(state).keys()}
    assert dropped == set(META[name]["unused_prefixes"])


@every_case
@torch.no_grad()
def test_sizes_and_bands(case):
    network = build(case, in_channels=5).eval()
    side = network.size_divisor
    for height, width in ((side, side), (2 * side, 3 * side)):
        assert network(*pair(height, width, 5))[0].shape == (2, 2, height, width)
    with pytest.raises(ValueError, match=f"multiples of {side}"):
        network(*pair(side, side + 4, 5))
    with pytest.raises(ValueError, match=r"\(B, 5, H, W\)"):
        network(*pair(side, side))


@every_case
@torch.no_grad()
def test_prediction_form_is_equal(case):
    """Rewritten for prediction, in float64; of transposed convolutions, too, the normalisation is folded in."""
    network = build(case).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    prepared, dates = prepare_for_inference(network), pair(dtype=torch.float64)
    expected = network(*dates)[0]
    assert expected.std() > 1e-3
    assert (prepared(*dates)[0] - expected).abs().max() < 1e-10 * expected.abs().max()
    left = [name for name, module in prepared.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(name.endswith("rest.0") for name in left)  # of SNUNet: behind a shortcut
    assert bool(left) == (case == "snunet")


def test_bit_starts_from_imagenet_weights_of_a_file(tmp_path):
    """Of ResNet-18 it takes three stages; the rest of the file is left out."""
    from torchvision.models import resnet18

    source = resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    network = build("bit")
    network.backbone.load(str(tmp_path / "resnet18.pth"))
    assert torch.equal(network.backbone.layer3[1].conv2.weight, source.layer3[1].conv2.weight)


def test_bit_trains_as_published(drawn_set, tmp_path):
    """By SGD, on inputs of mean 0.5 and deviation 0.5; its checkpoint predicts."""
    words = ["--data-root", drawn_set, "--output", tmp_path, "--model", "bit", "--model-options", "decoder_depth=1"]
    words += ["--backbone-weights", "none", "--epochs", 1, "--batch-size", 4, "--num-workers", 0, "--device", "cpu"]
    train_aux.main([str(word) for word in words])
    best, last = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("best", "last"))
    assert (best["recipe"], best["statistics"]) == ("bit", STATISTICS["half"])
    assert last["optimizer"]["param_groups"][0]["momentum"] == 0.99
    dates = torch.randint(256, (2, 50, 61, 3), dtype=torch.uint8).numpy()
    assert ChangePredictor(tmp_path, "cpu")(*dates).shape == (50, 61)

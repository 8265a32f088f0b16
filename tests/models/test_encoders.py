"""Encoders: maps, weights of published files, and AMFNet on each of them."""

import pytest
import torch

from models import build_model
from models.encoders import ENCODERS, EfficientNetLite0, build_encoder, pad_same
from utils.runtimes.rewriting import prepare_for_inference

LITE = {"backbone": "efficientnet_lite0"}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("bands", [3, 5])
def test_maps_at_four_strides(name, bands):
    encoder = build_encoder(name, bands).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, bands, 64, 96))
    strides = zip(encoder.widths, (4, 8, 16, 32), strict=True)
    assert [tuple(y.shape) for y in maps] == [(1, w, 64 // s, 96 // s) for w, s in strides]


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (8, 5), (14, 5)])
def test_same_padding_is_tensorflows(size, kernel):
    """TensorFlow: max((ceil(size / stride) - 1) * stride + kernel - size, 0), of which the smaller half comes first."""
    total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
    expected = torch.zeros(size + total)
    expected[total // 2 : total // 2 + size] = 1
    assert torch.equal(pad_same(torch.ones(1, 1, size, size), kernel)[0, 0].amax(0), expected)


def published(encoder: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The weights of an encoder under the names of the published file, with a classifier."""
    state = {"_conv_head.weight": torch.ones(1), "_bn1.bias": torch.ones(1), "_fc.bias": torch.ones(1)}
    for key, value in encoder.state_dict().items():
        part = key.split(".")
        inner = f"_blocks.{part[2]}._{'.'.join(part[3:])}" if part[0] == "blocks" else f"_{key}"
        state[inner] = value
    return state


def test_lite0_takes_the_published_names(tmp_path):
    source = build_encoder("efficientnet_lite0")
    state = published(source)
    assert {"_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_blocks.15._bn2.running_var"} <= state.keys()
    torch.save(state, tmp_path / "lite0.pth")
    network = build_model("amfnet", **LITE)
    network.backbone.load(str(tmp_path / "lite0.pth"))
    found = network.backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in source.state_dict().items())
    assert sum(p.numel() for p in source.parameters()) == 4_652_008 - 1_281_000 - 320 * 1280 - 2 * 1280


@pytest.mark.parametrize("norms", ["shared", "separate"])
def test_prediction_form_is_equal(norms, caplog):
    torch.manual_seed(0)
    network = build_model("amfnet", bfm_norms=norms, **LITE).double()
    dates = torch.rand(2, 2, 3, 64, 64, dtype=torch.float64)
    network(*dates)  # moves the running statistics
    network.eval()
    prepared = prepare_for_inference(network)
    assert not caplog.records
    left = {name for name, module in prepared.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert not left
    with torch.no_grad():
        assert torch.allclose(prepared(*dates)[0], network(*dates)[0], rtol=1e-9, atol=1e-9)


def test_separate_norms_keep_statistics_of_their_own():
    torch.manual_seed(0)
    network = build_model("amfnet", bfm_norms="separate", **LITE)
    network(*torch.rand(2, 2, 3, 64, 64))
    bfm = network.bfms[0]
    means = [each[1].running_mean for each in (*bfm.own, bfm.shared)]
    assert all(not torch.allclose(means[i], means[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert bfm.own[0][0] is bfm.shared[0]  # one convolution, as published
    shared = build_model("amfnet", **LITE)
    assert not shared.bfms[0].own


def test_separate_and_shared_are_one_network_at_first():
    """Both forms give the same logits in training, where batch statistics normalise."""
    networks = []
    for norms in ("shared", "separate"):
        torch.manual_seed(0)
        networks.append(build_model("amfnet", bfm_norms=norms, dropout=0.0, **LITE))
    dates = torch.rand(2, 2, 3, 64, 64)
    first, second = (network(*dates)[0] for network in networks)
    assert torch.allclose(first, second, atol=1e-5)


def test_timm():
    pytest.importorskip("timm")
    network = build_model("amfnet", backbone="timm:resnet10t").eval()
    with torch.no_grad():
        assert network(*torch.rand(2, 1, 3, 64, 64))[0].shape == (1, 2, 64, 64)
    assert network.backbone.widths == (64, 128, 256, 512)
    with pytest.raises(ValueError, match="takes imagenet or none"):
        network.backbone.load(__file__)
    with pytest.raises(ValueError, match="use a resnet"):
        build_model("amfnet", backbone="timm:resnet10t", channel_exchange=True)(*torch.rand(2, 2, 3, 64, 64))
    with pytest.raises(ValueError, match="timm:nothing cannot be built"):
        build_model("amfnet", backbone="timm:nothing")


def test_without_timm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match=r"requirements-encoders\.txt"):
        build_model("amfnet", backbone="timm:resnet10t")

"""What feeds what: the papers' figures, found in the networks themselves."""

import pytest
import torch
from torch import nn

from models import build_model
from tools.figures.trace import blank_network, kind_of, trace


def boxes_of(name, **options):
    return {box.name: box for box in trace(blank_network(name, **options), int(options.get("in_channels", 3)))}


@pytest.fixture(scope="module")
def amfnet():
    return boxes_of("amfnet", backbone="resnet18")


@pytest.fixture(scope="module")
def hanet():
    return boxes_of("hanet", width=8)


def test_amfnet_is_fig_1(amfnet):
    assert amfnet["backbone.conv1"].sources == ["before, after"]
    for stage in range(4):
        channels, stride, encoder = 64 * 2**stage, 4 * 2**stage, f"backbone.layer{stage + 1}"
        assert amfnet[f"bfams.{stage}"].sources == [encoder]
        assert amfnet[f"bfms.{stage}"].sources == [encoder, f"bfams.{stage}"], "the raw features are concatenated"
        assert amfnet[f"iams.{stage}"].sources == [f"bfms.{stage}"]
        for name in (encoder, f"bfams.{stage}", f"bfms.{stage}", f"iams.{stage}"):
            assert (amfnet[name].channels, amfnet[name].stride) == (channels, stride)
    joins = {tuple(box.sources): name for name, box in amfnet.items() if box.role == "join"}
    assert list(joins) == [(f"iams.{stage}", f"ups.{stage}") for stage in (2, 1, 0)]
    assert amfnet["ups.1"].sources == amfnet["aux_heads.2"].sources == [joins["iams.2", "ups.2"]]
    assert amfnet["up1"].sources == [joins["iams.0", "ups.0"]]
    outputs = [(box.sources, box.channels, box.stride) for box in amfnet.values() if box.role == "output"]
    assert outputs == [([name], 2, 1) for name in ("head", "aux_heads.0", "aux_heads.1", "aux_heads.2")]


def test_hanet_is_fig_4(hanet):
    joins = []
    for scale in range(4):
        han = f"hans.{scale}"
        assert hanet[f"{han}.pcs"].sources == [f"blocks.{scale}"]
        assert hanet[f"{han}.cam"].sources == hanet[f"{han}.column"].sources == [f"{han}.pcs"]
        assert hanet[f"{han}.row"].sources == [f"{han}.column"]
        (join,) = (name for name, box in hanet.items() if box.sources == [f"{han}.cam", f"{han}.row"])
        assert (hanet[join].kind, hanet[join].channels, hanet[join].stride) == ("+", 8 * 2**scale, 2**scale)
        joins.append(join)
    assert sorted(hanet["reduce"].sources) == sorted(joins), "only its weights are used, and yet it is there"
    assert (hanet["reduce"].channels, hanet["reduce"].stride) == (16, 1)
    assert hanet["head"].sources == ["reduce"]


def test_both_dates_pass_through_the_encoders(amfnet, hanet):
    parts = ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4")
    assert {n for n, box in amfnet.items() if box.dates == 2} == {f"backbone.{part}" for part in parts}
    assert {n for n, box in hanet.items() if box.dates == 2} == {"stem", *(f"blocks.{n}" for n in range(4))}


def test_tokens_are_beside_what_they_come_from():
    """BIT: the tokens of both dates meet in the encoder; the decoder takes the features and them."""
    bit = boxes_of("bit", decoder_depth=1)
    assert (bit["tokenizer"].channels, bit["tokenizer"].stride, bit["tokenizer"].dates) == (32, 4, 2)
    assert (bit["encoder"].sources, bit["encoder"].stride, bit["encoder"].dates) == (["tokenizer"], 4, 1)
    assert (bit["decoder"].sources, bit["decoder"].dates) == (["reduce", "encoder"], 2)
    assert (bit["backbone.layer3"].channels, bit["backbone.layer3"].stride) == (256, 8)


def test_ablations_are_seen():
    without = boxes_of("amfnet", backbone="resnet18", bfam=False, deep_supervision=False, in_channels=5)
    assert not [name for name in without if name.startswith(("bfams", "aux_heads", "auxiliary"))]
    assert without["bfms.0"].sources == ["backbone.layer1"]
    assert without["before, after"].channels == 5
    plain = boxes_of("hanet", width=4, column=False, row=False)
    assert [box.sources for box in plain.values() if box.role == "join"][0] == ["hans.0.cam", "hans.0.pcs"]


def test_the_network_stays_as_it_was():
    network = build_model("hanet", width=4).train()
    trace(network)
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert network.stem.weight.device.type == "cpu"


def test_any_network_of_the_contract():
    class Small(nn.Module):
        size_divisor = 2

        def __init__(self):
            super().__init__()
            self.down, self.out = nn.Conv2d(3, 6, 2, stride=2), nn.ConvTranspose2d(12, 2, 2, stride=2)
            self.act = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6))

        def forward(self, before, after, auxiliary=None):
            both = [self.act(self.down(x)) for x in (before, after)]
            return [self.out(torch.cat(both, dim=1)) * 2]

    boxes = {box.name: box for box in trace(Small())}
    assert list(boxes) == ["before, after", "down", "out", "logits"]
    assert (boxes["down"].kind, boxes["down"].channels, boxes["down"].stride) == ("Conv2d", 6, 2)
    assert boxes["out"].sources == ["down"]


def test_kinds():
    assert kind_of(nn.ReLU()) == "ReLU"
    layers = [nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU()]
    assert kind_of(nn.Sequential(*layers, *layers, nn.Upsample(2))) == "2 Conv2d, Upsample"

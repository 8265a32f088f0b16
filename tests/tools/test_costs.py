"""What a network costs: layers counted by hand, and the published networks' sizes."""

from torch import nn
from torch.nn import functional as F

from models import build_model
from models.siamese import both_dates
from tools.costs import count_macs, count_parameters


class Small(nn.Module):
    """One convolution for both dates, one grouped convolution and an attention for their difference."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.held = nn.ModuleList([nn.Conv2d(4, 2, 1, groups=2)])

    def forward(self, before, after):
        before, after = both_dates(self.conv, before, after, self.training)
        rows = (before - after).permute(0, 2, 3, 1)  # (B, 8, 6, 4)
        attended = F.scaled_dot_product_attention(rows, rows, rows).permute(0, 3, 1, 2)
        return [self.held[0](attended)]


def test_layers_counted_by_hand():
    network = Small()
    counted = {each.name: each for each in count_macs(network, 8, 6)}
    assert list(counted) == ["", "conv", "held.0"]
    conv = counted["conv"]
    assert (conv.convolutions, conv.attention, conv.dates) == (2 * 48 * 27 * 4, 0, 2)
    grouped = counted["held.0"]
    assert (grouped.total, grouped.dates) == (48 * 2 * 2, 1)
    assert (counted[""].convolutions, counted[""].attention) == (0, 2 * 8 * 6 * 6 * 4), "queries by keys, and by values"
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 2 * 2 + 2
    assert not network.conv._forward_pre_hooks
    assert network.training


def test_hanet_without_attention_at_a_small_width():
    """Convolutions fit the area; the products of attention, the cube of the side."""
    network = build_model("hanet", width=4)
    small, large = (count_macs(network, side, side) for side in (32, 64))
    assert sum(m.convolutions for m in large) == 4 * sum(m.convolutions for m in small)
    axial = [sum(m.attention for m in macs if m.name.endswith((".row", ".column"))) for macs in (small, large)]
    composed = sum(2 * (4 << m) ** 3 for m in range(4))  # weights with weights, one product an axis
    assert axial[0] - composed == sum(4 * (32 >> m) ** 3 * (4 << m) for m in range(4)), "two axes, two products each"
    assert axial[1] - composed == 8 * (axial[0] - composed)
    twice = {m.name.split(".")[0] for m in large if m.dates == 2}
    assert twice == {"stem", "blocks"}
    without = count_macs(build_model("hanet", width=4, column=False, row=False), 64, 64)
    assert all(not m.attention or "cam" in m.name for m in without)


def test_amfnet_sees_one_date_after_the_other_and_then_both():
    """Its stem by two calls; BFM's shared layer, of which there are three, sees what both dates made together."""
    twice = {m.name for m in count_macs(build_model("amfnet", backbone="resnet18"), 64, 64) if m.dates == 2}
    assert {"backbone.conv1", "backbone.layer1.0.conv1"} <= twice
    assert {name.split(".")[0] for name in twice} == {"backbone", "bfams"}

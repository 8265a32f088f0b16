"""What every network and every variant must hold to, whoever trains or predicts with it."""

import pytest
import torch
from torch import nn

from models import build_model
from models.official import AMFNET_VARIANTS
from tests.models.test_peers import CASES as PEERS

CASES = {
    f"amfnet {name}": ("amfnet", {"backbone": "resnet18", **switches}) for name, switches in AMFNET_VARIANTS.items()
}
CASES |= {
    "amfnet resnet34": ("amfnet", {}),
    "amfnet resnet50": ("amfnet", {"backbone": "resnet50"}),
    "hanet": ("hanet", {"width": 8}),
    "hanet column": ("hanet", {"width": 8, "row": False}),
    "hanet row": ("hanet", {"width": 8, "column": False}),
    "hanet base": ("hanet", {"width": 8, "row": False, "column": False}),
    "amfnet of 5 bands": ("amfnet", {"backbone": "resnet18", "in_channels": 5}),
    "hanet of 1 band": ("hanet", {"width": 8, "in_channels": 1}),
    "hanet fcn head": ("hanet", {"width": 8, "fcn_head": True}),
}
ALL = {**CASES, **PEERS}
# biases of the last layer before a difference of dates: both dates have them
CANCELLED = ("decoder.1.mlp.3.bias", "backbone.blocks.4.15.bn2.bias")
SYMMETRIC = ("amfnet backbone", "unet", "unet, lite")  # |before - after| alone
every_case = pytest.mark.parametrize("case", CASES)
every_network = pytest.mark.parametrize("case", ALL)


def build(case, seed=0):
    torch.manual_seed(seed)
    name, options = ALL[case]
    network = build_model(name, **options)
    for key, parameter in network.named_parameters():
        if key.endswith("gamma"):  # starts at 0, which would hide the attention
            nn.init.constant_(parameter, 0.7)
    return network


def pair(height=64, width=96, batch=2, seed=1, case="hanet"):
    bands = ALL[case][1].get("in_channels", 3)
    return torch.rand(2, batch, bands, height, width, generator=torch.Generator().manual_seed(seed)).unbind()


@every_case
def test_logits_at_input_size_main_head_first(case):
    network = build(case)
    heads = len(getattr(network, "aux_heads", ()))
    before, after = pair(case=case)
    training = network.train()(before, after)
    assert [tuple(y.shape) for y in training] == [(2, 2, 64, 96)] * (1 + heads)
    with torch.no_grad():
        evaluation = network.eval()(before, after)
        with_heads = network(before, after, auxiliary=True)
    assert len(evaluation) == 1
    assert len(with_heads) == 1 + heads
    assert torch.equal(evaluation[0], with_heads[0])


@every_network
def test_every_parameter_receives_a_gradient(case):
    network = build(case).train()
    outputs = network(*pair(case=case))
    assert {tuple(y.shape) for y in outputs} == {(2, 2, 64, 96)}
    sum(logits.square().sum() for logits in outputs).backward()
    # the softmax over a line ignores what is constant along it, so a key's bias has no say
    heard = {name: p.grad for name, p in network.named_parameters() if not name.endswith("key.bias")}
    deaf = [name for name, gradient in heard.items() if gradient is None or not gradient.abs().max() > 0]
    assert set(deaf) <= set(CANCELLED)
    assert all(p.requires_grad == (name in heard) for name, p in network.named_parameters())


@every_network
@torch.no_grad()
def test_pairs_of_a_batch_are_independent_and_dates_have_their_places(case):
    """Siamese batching is exact, and a swap of dates that went unnoticed would hide a mixed-up pair."""
    network = build(case).eval()
    for module in network.modules():  # or what enters FC-Siam-diff from below would fade in its many small weights
        if case in PEERS and isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.transposed else "fan_in")
    before, after = pair(batch=3, case=case)
    together = network(before, after)[0]
    alone = torch.cat([network(b[None], a[None])[0] for b, a in zip(before, after, strict=True)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item())
    exchanged = network(after, before)[0]
    assert torch.allclose(together, exchanged, rtol=1e-3) == (case in SYMMETRIC)


@pytest.mark.parametrize("case", [case for case in ALL if case != "fc-ef"])
def test_dates_keep_their_own_batch_statistics_in_training(case):
    """The first batch normalisation sees before, then after: its running mean is that of two updates."""
    network = build(case).train()
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    norm.momentum = 0.1  # EfficientNet-Lite's own would hide the first update
    seen = []
    norm.register_forward_hook(lambda module, args, output: seen.append(args[0].mean((0, 2, 3)).detach()))
    network(*pair(case=case))
    assert len(seen) == 2
    expected = 0.9 * (0.1 * seen[0]) + 0.1 * seen[1]
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)


@every_case
def test_state_dict_round_trip_and_repeatable_evaluation(case):
    first, second = build(case, seed=0).eval(), build(case, seed=5).eval()
    before, after = pair(case=case)
    with torch.no_grad():
        logits = first(before, after)[0]
        assert not torch.equal(second(before, after)[0], logits)
        second.load_state_dict(first.state_dict())
        assert torch.equal(second(before, after)[0], logits)
        assert torch.equal(first(before, after)[0], logits)


@pytest.mark.parametrize("case", ["amfnet full", "hanet"])
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ((1, 3, 250, 250), (1, 3, 250, 250), "250 x 250: height and width must be multiples of"),
        ((1, 3, 64, 64), (1, 3, 64, 96), "differ in shape"),
        ((1, 4, 64, 64), (1, 4, 64, 64), r"\(B, 3, H, W\)"),
        ((3, 64, 64), (3, 64, 64), r"\(B, 3, H, W\)"),
        ((1, 3, 0, 64), (1, 3, 0, 64), "0 x 64"),
    ],
)
def test_wrong_sizes_are_value_errors(case, before, after, message):
    with pytest.raises(ValueError, match=message):
        build(case).eval()(torch.zeros(before), torch.zeros(after))


def test_training_batch_of_one_pair_is_a_clear_error():
    with pytest.raises(ValueError, match="at least two pairs"):
        build("amfnet full").train()(*pair(batch=1))
    assert len(build("amfnet full").eval()(*pair(batch=1))) == 1


def test_published_parameter_counts():
    """Used parameters of the published networks; what they build and never use is not built here."""
    count = {name: sum(p.numel() for p in build_model(name).parameters()) for name in ("amfnet", "hanet")}
    assert count == {"amfnet": 26_549_742, "hanet": 3_029_444 - 417_880}


def test_hanet_has_no_map_of_all_scales_at_full_size():
    """The published head lays 15 * width channels at full size; ours reduces below the upsampling."""
    network, widest = build("hanet").eval(), []
    for module in network.modules():
        module.register_forward_hook(
            lambda m, args, y: widest.append(y.shape[1]) if torch.is_tensor(y) and y.shape[-1] == 96 else None
        )
    with torch.no_grad():
        network(*pair())
    assert max(widest) <= 4 * 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("segnet", {}, "choose one of amfnet, hanet"),
        ("amfnet", {"backbone": "vgg16"}, "resnet18, resnet34, resnet50"),
        ("hanet", {"width": 10}, "multiple of 4"),
        ("hanet", {"bfam": True}, "no option 'bfam'; it takes width, column, row"),
        ("amfnet", {"iam": "no"}, "iam takes a bool, not 'no'"),
        ("amfnet", {"bfm_norms": "own"}, "choose shared or separate"),
        ("unet", {"fusion": "sum"}, "choose difference or concatenation"),
    ],
)
def test_unknown_names_and_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **options)


def test_hanets_channel_attention_stays_in_single_precision(monkeypatch):
    """Its sums run over all pixels: in half precision the attention would be another one."""
    network, x = build("hanet").eval(), pair()
    weights = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda self, dim: weights.append(self.dtype) or softmax(self, dim))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(*x)
    assert weights == [torch.float32] * 4


def test_mixed_training_of_hanet_keeps_its_slow_parts_in_single_precision(monkeypatch):
    """On a CPU; while predicting they are faster in bf16. What follows them is in bf16 either way."""
    network, x = build("hanet"), pair()
    attended, merged = [], []
    attention = nn.functional.scaled_dot_product_attention

    def watched(q, k, v, scale):
        attended.append(attention(q, k, v, scale=scale))
        return attended[-1]

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    for han in network.hans:
        han.pcs.branches[0].register_forward_hook(lambda module, args, output: attended.append(output))
        han.pcs.register_forward_hook(lambda module, args, output: merged.append(output))
    for training, wanted in ((True, torch.float32), (False, torch.bfloat16)):
        with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16):
            network(*x)
        assert [y.dtype for y in attended] == [wanted] * 12
        assert [y.dtype for y in merged] == [torch.bfloat16] * 4
        attended.clear(), merged.clear()


def test_backbone_weights_from_a_file(tmp_path):
    """A torchvision file fills the encoder and nothing else; another network's is refused."""
    from torchvision.models import resnet18, resnet50

    source = resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    torch.save(resnet50().state_dict(), tmp_path / "resnet50.pth")
    network = build("amfnet full")
    head = network.head[0].weight.clone()
    network.backbone.load(str(tmp_path / "resnet18.pth"))
    assert torch.equal(network.backbone.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.equal(network.head[0].weight, head)
    with pytest.raises(ValueError, match="not a resnet18 state dict"):
        network.backbone.load(str(tmp_path / "resnet50.pth"))
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.pth: not a resnet18 state dict"):
        network.backbone.load(str(tmp_path / "page.pth"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        network.backbone.load(str(tmp_path / "none.pth"))
    torch.save(network, tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match="not a resnet18 state dict: a pickled network, or damaged"):
        network.backbone.load(str(tmp_path / "pickled.pth"))


def test_a_whole_network_is_no_encoder(tmp_path):
    """One line says so; it does not list the keys of either."""
    network = build("amfnet full")
    about = {"model": "amfnet", "options": {}, "statistics": {}}
    torch.save({**about, "weights": network.state_dict()}, tmp_path / "best.pt")
    with pytest.raises(
        ValueError, match=r"best\.pt: this is a checkpoint, not an encoder.s weights\. Pass --init-from"
    ):
        network.backbone.load(str(tmp_path / "best.pt"))
    torch.save(network.state_dict(), tmp_path / "state.pth")
    with pytest.raises(ValueError, match="not a resnet18 state dict: .*Missing key") as caught:
        network.backbone.load(str(tmp_path / "state.pth"))
    assert len(str(caught.value)) < 350 + len(str(tmp_path))


def test_imagenet_stem_for_other_bands(tmp_path):
    """An image whose bands are all equal gives the features of that grey image in RGB."""
    from torchvision.models import resnet18

    source = resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    network = build("amfnet of 5 bands")
    network.backbone.load(str(tmp_path / "resnet18.pth"))
    grey = torch.rand(1, 1, 32, 32)
    expected = source.conv1(grey.expand(1, 3, 32, 32))
    assert torch.allclose(network.backbone.conv1(grey.expand(1, 5, 32, 32)), expected, atol=1e-5)
    assert torch.equal(network.backbone.layer1[0].conv1.weight, source.layer1[0].conv1.weight)


def test_unreachable_imagenet_weights_say_what_to_do(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ValueError, match=r"resnet18.*--backbone-weights none"):
        build("amfnet full").backbone.load("imagenet")

"""Both networks and their plain forms give the published logits; ours also a published training step, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from models.official import AMFNET_VARIANTS, from_official, our_names
from tests import golden
from tests.plain import PLAIN
from utils.training.losses import LOSSES, DeepSupervisionLoss

AMFNET = dict(zip(AMFNET_VARIANTS, ("1", "2", "3", "4", "5", "aux"), strict=True))  # names of the published numbers
LAYOUTS = {"plain": torch.contiguous_format, "ours": torch.contiguous_format, "channels_last": torch.channels_last}


def relative_error(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("form", ["plain", "ours"])
@pytest.mark.parametrize("variant", AMFNET)
@torch.inference_mode()
def test_amfnet_logits(variant, form):
    """The plain form loads every published key, those that nothing uses included."""
    name = f"amfnet_{AMFNET[variant]}"
    state, images = golden.official_state(name), golden.images(golden.numbers("meta")[f"{name}_eval"]["size"])
    if form == "ours":
        outputs = from_official(state, variant).eval()(*images, auxiliary=True)
    else:
        network = PLAIN["amfnet"](**AMFNET_VARIANTS[variant]).eval()
        network.load_state_dict(state)
        outputs = network(*images)
    published = golden.arrays(f"{name}_eval")
    assert len(outputs) == len(published.files) == (4 if variant == "full" else 1)
    for i, logits in enumerate(outputs):
        assert relative_error(logits.numpy(), published[f"out{i}"]) < 1e-5


@pytest.mark.parametrize("case", ["hanet_eval", "hanet_anysize_eval"])
@pytest.mark.parametrize("form", LAYOUTS)
@torch.inference_mode()
def test_hanet_logits(case, form):
    meta, state = golden.numbers("meta")[case], golden.official_state("hanet")
    network = PLAIN["hanet"]() if form == "plain" else from_official(state)
    if form == "plain":
        network.load_state_dict(state)
    network = network.eval().to(memory_format=LAYOUTS[form])
    (logits,) = network(*(x.to(memory_format=LAYOUTS[form]) for x in golden.images(meta["size"])))
    stride = meta.get("stride", 1)
    assert relative_error(logits[:, :, ::stride, ::stride].numpy(), golden.arrays(case)["out0"]) < 1e-5


@pytest.mark.parametrize(
    ("network", "case", "loss", "weights"),
    [
        ("amfnet_aux", "amfnet_aux_train_fixed", "bce", (1, 0.5, 0.4, 0.3)),
        ("amfnet_aux", "amfnet_aux_train_ratio", "bce", "balanced"),
        ("hanet", "hanet_train_hybrid", "hybrid", (1,)),
    ],
)
def test_one_training_step(network, case, loss, weights):
    published = golden.numbers(case)
    net = from_official(golden.official_state(network)).double().train()
    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    before, after = (x.double() for x in golden.images(published["size"]))
    total, parts = DeepSupervisionLoss(LOSSES[loss], weights)(net(before, after), golden.label(published["size"]))
    total.backward()
    assert total.item() == pytest.approx(published["loss"], rel=1e-9)
    if network == "amfnet_aux":
        assert parts.tolist() == pytest.approx(published["parts"], rel=1e-9)

    names = our_names(golden.numbers(f"{network}_keys"))
    # a key's bias has none, where the published network computes a 0
    gradients = {name: 0.0 if p.grad is None else p.grad.norm().item() for name, p in net.named_parameters()}
    expected = {names[theirs]: norm for theirs, norm in published["grad_norm"].items() if theirs in names}
    assert gradients == pytest.approx(expected, rel=1e-6, abs=1e-9)

    state = net.state_dict()
    digests = {names[theirs]: digest for theirs, digest in published["bn_digest"].items() if theirs in names}
    assert {key for key in state if "running" in key} <= digests.keys()
    for key in [key for key in digests if key in state]:
        values = state[key]
        assert [values.mean().item(), values.abs().mean().item()] == pytest.approx(digests[key], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("network", "case"), [("amfnet_aux", "amfnet_aux_train_fixed"), ("hanet", "hanet_train_hybrid")]
)
def test_dropped_layers_are_those_without_a_gradient(network, case, caplog):
    caplog.set_level("INFO", "models.official")
    from_official(golden.official_state(network))
    (message,) = caplog.messages
    dropped = set(message.split(": ")[1].split(", "))
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert {key for key in dropped if not key.endswith(buffers)} == set(golden.numbers(case)["no_grad"])

"""Losses against the published numbers, by hand, and with ignored pixels."""

from functools import partial

import numpy as np
import pytest
import torch

from tests import golden
from utils.training.losses import LOSSES, DeepSupervisionLoss, focal, one_hot_bce


@pytest.fixture(scope="module")
def published():
    return golden.numbers("losses_metrics")


@pytest.fixture(scope="module")
def case(published):
    rng = np.random.default_rng(published["logits_seed"])
    logits = rng.normal(0, 3, (2, 2, 24, 16)).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy((rng.uniform(size=(2, 24, 16)) > 0.85).astype(np.int64))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LOSSES["bce"], "bce_one_hot"),
        (LOSSES["cross-entropy"], "cross_entropy"),
        (LOSSES["focal"], "focal_0.5"),
        (LOSSES["dice"], "dice"),
        (LOSSES["hybrid"], "hybrid_0.5"),
        (partial(focal, gamma=0), "focal_0.0"),
        (partial(focal, gamma=2), "focal_2.0"),
        (partial(focal, gamma=2, alpha=0.25), "focal_alpha_0.25_gamma_2"),
    ],
)
def test_published_values(ours, theirs, case, published):
    assert ours(*case).item() == pytest.approx(published[theirs], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_say(name, case):
    """Neither value nor gradient depends on what lies under 255."""
    logits, mask = case[0].clone().requires_grad_(), case[1].clone()
    mask[:, 10:] = 255
    loss = LOSSES[name](logits, mask)
    loss.backward()
    assert logits.grad[:, :, 10:].abs().max() == 0
    assert loss.item() == pytest.approx(LOSSES[name](logits[:, :, :10], mask[:, :10]).item(), rel=1e-6)


def test_one_output_is_the_plain_loss_whatever_the_weights(case):
    for weights in ((1, 0.5, 0.4, 0.3), "balanced"):
        total, parts = DeepSupervisionLoss(one_hot_bce, weights)([case[0]], case[1])
        assert total.item() == parts.item() == one_hot_bce(*case).item()


def test_weighted_sum(case):
    logits, mask = case
    outputs = [logits, logits * 0.5, logits + 1]
    total, parts = DeepSupervisionLoss(one_hot_bce, (1, 0.5, 0.25))(outputs, mask)
    losses = [one_hot_bce(y, mask).item() for y in outputs]
    assert parts.tolist() == pytest.approx(losses)
    assert total.item() == pytest.approx(losses[0] + 0.5 * losses[1] + 0.25 * losses[2])


def test_balanced_value_and_gradient(case):
    """Every term has the main loss's value; an auxiliary gradient is scaled, and the scale carries none."""
    mask, outputs = case[1], [case[0].clone().requires_grad_(), (2 * case[0]).requires_grad_()]
    total, parts = DeepSupervisionLoss(one_hot_bce, "balanced")(outputs, mask)
    total.backward()
    assert total.item() == pytest.approx(2 * parts[0].item(), rel=1e-6)
    (plain,) = torch.autograd.grad(one_hot_bce(outputs[1], mask), outputs[1])
    assert torch.allclose(outputs[1].grad, plain * parts[0] / parts[1], rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_balanced_is_finite_where_every_pixel_is_ignored(name, case):
    outputs = [case[0].clone().requires_grad_(), (2 * case[0]).requires_grad_()]
    total, parts = DeepSupervisionLoss(LOSSES[name], "balanced")(outputs, torch.full_like(case[1], 255))
    total.backward()
    assert parts.isfinite().all()
    assert total.item() == 2 * parts[0].item()
    assert all(y.grad.abs().max() == 0 for y in outputs)


def test_balanced_with_one_loss_of_0(case):
    """It cannot be scaled to the main one's value, so it adds nothing; the others stay."""
    sure = torch.stack([case[1] == 0, case[1] == 1], dim=1) * 2000.0 - 1000
    total, parts = DeepSupervisionLoss(one_hot_bce, "balanced")([case[0], sure], case[1])
    assert parts[1] == 0
    assert total.item() == parts[0].item() == one_hot_bce(*case).item()


def test_number_of_weights_is_checked(case):
    with pytest.raises(ValueError, match="2 outputs need 2 loss weights"):
        DeepSupervisionLoss(one_hot_bce, (1, 0.5, 0.4, 0.3))([case[0], case[0]], case[1])
    with pytest.raises(ValueError, match="balanced"):
        DeepSupervisionLoss(one_hot_bce, "ratio")

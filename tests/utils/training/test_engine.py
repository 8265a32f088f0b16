"""The loop: parts of a batch add up, memory that runs out is met with halves, a loss that is no number is named."""

import weakref
from functools import partial

import pytest
import torch
from torch import nn
from tqdm import tqdm

from models.siamese import InputScaling
from utils.metrics import LEVELS, count_pixels
from utils.training import engine
from utils.training.engine import (
    LOG_EVERY,
    DivergedError,
    Epoch,
    Learner,
    evaluate,
    in_halves,
    to_device,
    train_one_epoch,
)
from utils.training.losses import LOSSES, DeepSupervisionLoss

PLAIN = {"mean": [[0.0] * 3] * 2, "std": [[1.0] * 3] * 2}


class Tiny(nn.Module):
    """A convolution over the difference of the dates, without batch statistics."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, before, after):
        return [self.conv(after - before)]


def learner(parts=1, lr=0.1, optimizer=torch.optim.SGD):
    torch.manual_seed(0)
    network = Tiny()
    return Learner(
        network=network,
        training_network=network,
        loss=DeepSupervisionLoss(LOSSES["bce"]),
        optimizer=optimizer(network.parameters(), lr),
        scaling=InputScaling(PLAIN),
        device=torch.device("cpu"),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        rate=lambda epoch, step: lr,
        accumulate=parts,
    )


def batches(count, size=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    for number in range(count):
        images = torch.randint(0, 256, (2, size, 3, 8, 8), generator=rng, dtype=torch.uint8)
        mask = torch.randint(0, 2, (size, 8, 8), generator=rng)
        yield {"before": images[0], "after": images[1], "mask": mask, "name": [f"{number}-{i}" for i in range(size)]}


def halves(many):
    for batch in many:
        for part in (slice(0, 2), slice(2, 4)):
            yield {key: value[part] for key, value in batch.items()}


def test_masks_become_int64_on_the_device():
    """They travel as bytes; PyTorch's own cross-entropy, should someone use it, takes int64 alone."""
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    before, after, moved = to_device({"before": images, "after": images, "mask": mask}, torch.device("cpu"))
    assert (before.dtype, after.dtype, moved.dtype) == (torch.uint8, torch.uint8, torch.int64)
    assert moved.tolist() == mask.tolist()


def test_a_batch_in_two_parts_makes_the_same_step():
    whole, parted = learner(), learner(parts=2)
    one, two = Epoch(0, 3), Epoch(0, 3)
    train_one_epoch(whole, batches(3), one, tqdm(disable=True))
    train_one_epoch(parted, halves(batches(3)), two, tqdm(disable=True))
    assert torch.allclose(whole.network.conv.weight, parted.network.conv.weight, atol=1e-6)
    assert torch.equal(one.counts, two.counts)
    assert torch.allclose(one.losses, two.losses)
    assert one.pairs == two.pairs == 12


def test_an_epoch_resumes_where_its_batches_ended():
    whole, broken = learner(), learner()
    one, two = Epoch(0, 5), Epoch(0, 5)
    train_one_epoch(whole, batches(5), one, tqdm(disable=True))
    train_one_epoch(broken, batches(2), two, tqdm(disable=True))
    assert (two.step, two.done) == (2, False)
    train_one_epoch(broken, list(batches(5))[2:], two, tqdm(disable=True))
    assert two.done
    assert torch.equal(whole.network.conv.weight, broken.network.conv.weight)
    assert torch.equal(one.losses, two.losses)


@pytest.mark.parametrize("bad", [0, 3, LOG_EVERY, 2 * LOG_EVERY - 1])
def test_the_first_batch_without_a_finite_loss_is_named(bad):
    """Wherever it lies between two looks at the loss."""
    subject = learner()
    many = list(batches(2 * LOG_EVERY))

    def poisoned():
        for number, batch in enumerate(many):
            if number == bad:
                subject.network.conv.bias.data.fill_(float("nan"))
            yield batch

    with pytest.raises(DivergedError, match=f"from step {bad + 1} of this epoch on, with the pairs {bad}-0, {bad}-1"):
        train_one_epoch(subject, poisoned(), Epoch(0, len(many)), tqdm(disable=True))


def test_out_of_memory_is_met_with_halves():
    seen = []

    def greedy(x, y):
        if len(x) > 2:
            raise torch.OutOfMemoryError("no memory")
        seen.append(x.tolist())

    in_halves(greedy, torch.arange(7), torch.arange(7))
    assert [i for part in seen for i in part] == list(range(7))
    assert max(map(len, seen)) == 2
    assert in_halves(lambda x: x.sum().item(), torch.arange(7)) == [21]

    def never(x):
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_halves(never, torch.arange(3))


@pytest.mark.parametrize("late", ["scaling", "changed_pixels", "count_pixels", "count_levels"])
def test_memory_that_runs_out_late_counts_nothing_twice(late, monkeypatch):
    """Whatever of a batch of 4 was done before, its halves give each pixel once."""
    subject, many = learner(), list(batches(3))
    expected = evaluate(subject, subject.network, many, levels=True)

    def greedy(function, tensor, *others):
        if len(tensor) > 2:
            raise torch.OutOfMemoryError("no memory")
        return function(tensor, *others)

    owner = subject if late == "scaling" else engine
    monkeypatch.setattr(owner, late, partial(greedy, getattr(owner, late)))
    found = evaluate(subject, subject.network, many, levels=True)
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.levels.tolist() == expected.levels.tolist()
    assert found.loss == pytest.approx(expected.loss)


def test_batches_are_not_kept():
    """While a batch is read, only the one before it is still in memory."""
    seen = []

    def watched():
        for batch in batches(2 * LOG_EVERY):
            assert [ref() is None for ref in seen[:-1]] == [True] * len(seen[:-1])
            seen.append(weakref.ref(batch["before"]))
            yield batch
            del batch

    train_one_epoch(learner(), watched(), Epoch(0, 2 * LOG_EVERY), tqdm(disable=True))
    assert len(seen) == 2 * LOG_EVERY


def test_levels_hold_every_threshold():
    """Counting at 0.5 from the levels is the count of the likelier class."""
    subject, many = learner(), list(batches(3))
    result = evaluate(subject, subject.network, many, levels=True)
    assert result.levels.shape == (2, LEVELS)
    above = result.levels[:, LEVELS // 2 :].sum(1)
    assert result.counts[:, 1].tolist() == above.tolist()
    with torch.no_grad():
        logits = [subject.network(*subject.scaling(b["before"], b["after"]))[0] for b in many]
    expected = sum(count_pixels(x[:, 1] > x[:, 0], b["mask"]) for x, b in zip(logits, many, strict=True))
    assert torch.equal(result.counts, expected)
    mean = sum(subject.loss([x], b["mask"])[0].item() for x, b in zip(logits, many, strict=True)) / 3
    assert result.loss == pytest.approx(mean)

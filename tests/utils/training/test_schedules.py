"""Learning rates against the published ones."""

import pytest

from tests import golden
from utils.training.config import TrainConfig
from utils.training.schedules import SCHEDULES, learning_rate


def rates(name, lr, epochs, steps=1, warmup=0):
    config = TrainConfig(schedule=name, lr=lr, epochs=epochs, warmup_steps=warmup)
    return [learning_rate(config, [steps] * epochs, epoch, step) for epoch in range(epochs) for step in range(steps)]


@pytest.mark.parametrize(("name", "lr", "epochs"), [("poly", 1e-4, 200), ("step", 5e-4, 100)])
def test_published_rates_and_between_epochs_only(name, lr, epochs):
    found = rates(name, lr, epochs, steps=3)
    for epoch, rate in golden.numbers("losses_metrics")[f"{name}_lr"]["values"].items():
        assert found[3 * int(epoch) : 3 * int(epoch) + 3] == pytest.approx([rate] * 3, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_start_at_base_and_never_rise(name):
    found = rates(name, 0.01, 30, steps=5)
    assert found[0] == 0.01
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0


def test_open_cd_warms_up_for_1000_steps_and_ends_at_0():
    """Linear from 1e-6 of the rate, then straight down to 0 at 40,000."""
    found = rates("linear", 1e-3, 10, 4000, 1000)
    picked = [found[step] for step in (0, 500, 1000, 20_500, 39_999)]
    assert picked == pytest.approx([1e-9, 5e-4 * (1 + 1e-6), 1e-3, 5e-4, 1e-3 / 39_000], rel=1e-9)

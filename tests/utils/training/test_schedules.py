"""Learning rates against the published ones."""

import pytest

from tests import golden
from utils.training.schedules import SCHEDULES, learning_rate, poly, step


def test_published_rates():
    published = golden.numbers("losses_metrics")
    for epoch, rate in published["poly_lr"]["values"].items():
        assert poly(1e-4, int(epoch), 200) == pytest.approx(rate, rel=1e-12)
    for epoch, rate in published["step_lr"]["values"].items():
        assert step(5e-4, int(epoch), 100) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_start_at_base_and_never_rise(name):
    rates = [learning_rate(name, 0.01, s / 5, 30) for s in range(150)]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize("name", ["poly", "step"])
def test_published_schedules_change_between_epochs_only(name):
    assert len({learning_rate(name, 1e-4, 8 + s / 7, 200) for s in range(7)}) == 1
    assert learning_rate(name, 1e-4, 8 - 1 / 7, 200) > learning_rate(name, 1e-4, 8, 200)


def test_open_cd_warms_up_for_1000_steps_and_ends_at_0():
    """Linear from 1e-6 of the rate, then straight down to 0 at 40,000."""
    rates = [learning_rate("linear", 1e-3, s / 4000, 10, s, 40_000, 1000) for s in (0, 500, 1000, 20_500, 39_999)]
    assert rates == pytest.approx([1e-9, 5e-4 * (1 + 1e-6), 1e-3, 5e-4, 1e-3 / 39_000], rel=1e-9)

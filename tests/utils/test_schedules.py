"""Learning rates against the published ones."""

import pytest

from tests import golden
from utils.schedules import SCHEDULES, poly, step


def test_published_rates():
    published = golden.numbers("losses_metrics")
    for epoch, rate in published["poly_lr"]["values"].items():
        assert poly(1e-4, int(epoch), 200) == pytest.approx(rate, rel=1e-12)
    for epoch, rate in published["step_lr"]["values"].items():
        assert step(5e-4, int(epoch), 100) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_start_at_base_and_never_rise(name):
    rates = [SCHEDULES[name](0.01, epoch, 30) for epoch in range(30)]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0

"""The sampler against the published order, the paper's example, and a plain simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.pfbs import PFBSSampler
from tests import golden


def sampler(total, foreground, **options):
    return PFBSSampler([10] * foreground + [0] * (total - foreground), **options)


def test_released_order():
    """golden/pfbs.json: `index[i]` is the i-th of all images, the ones without change in the given order."""
    published = golden.numbers("pfbs")
    for current, expected in published["epochs"].items():
        released = PFBSSampler(published["changed_pixels"], fixed_epochs=1, released=True)
        released.pool_size = lambda epoch, current=int(current): current
        order = released.order.tolist()
        assert order[: published["labeled"]] == published["order_of_labeled"]
        wanted = [order[int(e[6:-1])] if isinstance(e, str) else e for e in expected]
        assert released.positions_to_images(0).tolist() == wanted


def test_papers_pool_sizes():
    """HANet Sec. III-A, WHU-CD: 1200 of 4536 images have change; Linear-15 adds 222 an epoch, F10-L10 333."""
    linear, both = sampler(4536, 1200, linear_epochs=15), sampler(4536, 1200, fixed_epochs=10, linear_epochs=10)
    fixed, normal = sampler(4536, 1200, fixed_epochs=15), sampler(4536, 1200)
    assert [linear.pool_size(e) for e in (0, 1, 14, 15, 40)] == [1200, 1422, 1200 + 14 * 222, 4536, 4536]
    assert [both.pool_size(e) for e in (0, 9, 10, 19, 20)] == [1200, 1200, 1533, 4530, 4536]
    assert [fixed.pool_size(e) for e in (0, 14, 15)] == [1200, 1200, 4536]
    assert {normal.pool_size(e) for e in range(50)} == {4536}


def simulate(n, foreground, fixed, linear, epoch):
    """The pool of one epoch, one rule after the other, straight from the definitions."""
    if not fixed and not linear:
        return n
    if fixed and not linear:
        return foreground if epoch < fixed else n
    if linear and not fixed:
        return foreground + epoch * ((n - foreground) // linear) if epoch < linear else n
    if epoch < fixed:
        return foreground
    return foreground + (epoch - fixed + 1) * ((n - foreground) // linear) if epoch < fixed + linear else n


@settings(max_examples=300)
@given(st.data())
def test_epochs_match_a_plain_simulation(data):
    n = data.draw(st.integers(1, 60))
    foreground = data.draw(st.integers(1, n))
    fixed, linear, epoch = (data.draw(st.integers(0, 12)) for _ in range(3))
    made = sampler(n, foreground, fixed_epochs=fixed, linear_epochs=linear)
    pool = simulate(n, foreground, fixed, linear, epoch)
    assert made.pool_size(epoch) == pool
    made.set_epoch(epoch)
    images = [index for index, _ in made]
    assert len(images) == len(made) == n
    assert sorted(images) == sorted(made.order[i % pool] for i in range(n))


def test_an_epoch_is_pure_in_seed_and_epoch():
    def drawn(epoch, seed=4):
        made = sampler(30, 7, linear_epochs=5, seed=seed)
        made.set_epoch(epoch)
        return list(made)

    assert drawn(2) == drawn(2)
    assert drawn(2) != drawn(3)
    assert drawn(2) != drawn(2, seed=5)
    keys = [key for epoch in range(4) for _, key in drawn(epoch)]
    assert len(set(keys)) == len(keys)  # a repeated image is augmented anew


def test_most_changed_first_ties_by_order():
    assert PFBSSampler([0, 5, 9, 5, 0]).order.tolist() == [2, 1, 3, 0, 4]


def test_no_foreground():
    with pytest.raises(ValueError, match="no foreground"):
        PFBSSampler([0, 0], fixed_epochs=1)
    assert sorted(index for index, _ in PFBSSampler(np.zeros(3, int))) == [0, 1, 2]

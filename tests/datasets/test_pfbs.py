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


def simulate(changed, fixed, linear, epoch, released, pool_only):
    """Images of an epoch's positions, one rule after the other, straight from the definitions."""
    n, foreground = len(changed), sum(count > 0 for count in changed)
    order = sorted(range(n), key=lambda image: changed[image], reverse=True)
    if fixed and linear:
        sizes = [foreground] * fixed + [foreground + e * ((n - foreground) // linear) for e in range(1, linear + 1)]
    elif linear:
        sizes = [foreground + e * ((n - foreground) // linear) for e in range(linear)]
    else:
        sizes = [foreground] * fixed
    pool = sizes[epoch] if epoch < len(sizes) else n
    if pool_only:
        return order[:pool]
    if released:
        return [order[i % pool] if i % pool < foreground else order[i] for i in range(n)]
    return [order[i % pool] for i in range(n)]


@settings(max_examples=300)
@given(
    changed=st.lists(st.integers(0, 3), min_size=1, max_size=40).filter(any),
    phases=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    epoch=st.integers(0, 18),
    ranks=st.integers(1, 5),
    released=st.booleans(),
    pool_only=st.booleans(),
)
def test_epochs_match_a_plain_simulation(changed, phases, epoch, ranks, released, pool_only):
    """Every rank draws as much, nothing twice; what a key names does not depend on the number of ranks."""
    expected = simulate(changed, *phases, epoch, released, pool_only)
    drawn = []
    for rank in range(ranks):
        part = PFBSSampler(changed, *phases, 9, released, pool_only, rank, ranks)
        part.set_epoch(epoch)
        drawn.append(list(part))
        assert len(drawn[-1]) == len(part) == len(expected) // ranks
    alone = PFBSSampler(changed, *phases, 9, released, pool_only)
    alone.set_epoch(epoch)
    whole = list(alone)
    assert [draw for step in zip(*drawn, strict=True) for draw in step] == whole[: len(whole) // ranks * ranks]
    by_position = sorted((key[2], image) for image, key in whole)
    assert by_position == list(enumerate(expected))
    assert {key[:2] for _, key in whole} == {(9, epoch)}


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


def test_an_epoch_can_be_resumed():
    for rank, ranks in ((0, 1), (0, 2), (1, 2)):
        whole, rest = (PFBSSampler([3, 0, 1, 0, 2, 0, 0], 1, 2, rank=rank, ranks=ranks) for _ in range(2))
        whole.set_epoch(2)
        rest.set_epoch(2, skip=2)
        assert list(rest) == list(whole)[2:]
        assert len(rest) == len(whole) - 2


def test_an_epoch_may_have_any_number_of_draws():
    """As many steps as Open-CD's iterations: every image as often as any other, or once more."""
    made = PFBSSampler([3, 0, 1], positions=10)
    images = [index for index, _ in made]
    assert len(images) == len(made) == 10
    assert sorted(images.count(index) for index in range(3)) == [3, 3, 4]
    assert len({key for _, key in made}) == 10


def test_short_epochs_continue_where_the_last_one_ended():
    """Three epochs of 4 draws see each of 12 images once, whatever their changes; nothing is left to later ones."""
    made = PFBSSampler([9, 0, 5, 1] * 3, positions=4)
    seen = [[index for index, _ in made] for made.epoch in range(3)]
    assert sorted(sum(seen, [])) == list(range(12))


def test_no_foreground():
    with pytest.raises(ValueError, match="no foreground"):
        PFBSSampler([0, 0], fixed_epochs=1)
    assert sorted(index for index, _ in PFBSSampler(np.zeros(3, int))) == [0, 1, 2]


def test_pool_only_draws_what_the_papers_figure_counts():
    """WHU-CD's 1200 images with change, each once; epochs get longer as the pool opens."""
    made = sampler(4536, 1200, linear_epochs=15, pool_only=True)
    assert [made.draws(epoch) for epoch in (0, 1, 15)] == [1200, 1422, 4536]
    made.set_epoch(1)
    assert sorted(index for index, _ in made) == list(range(1422))
    assert len(sampler(4536, 1200, linear_epochs=15, pool_only=True, ranks=8)) == 150

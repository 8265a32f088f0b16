"""Pasted changes: only where the donor's lie, and the mask says what happened there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datasets.pasting import MARGIN, SHARES, paste_changes

SIZE = 64


def flat(value):
    return torch.full((3, SIZE, SIZE), value, dtype=torch.uint8)


def donor_of(before=40, after=120):
    """Three changed squares, which look alike within a date."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    for top, left in ((8, 8), (8, 40), (44, 20)):
        mask[top : top + 12, left : left + 12] = 1
    return flat(before), flat(after), mask


def kind_of(before, mask):
    """What happened, told from the result alone: the sample was flat 100 and unchanged."""
    return "appears" if bool((before == 100).all()) else "changes" if bool((mask == 1).any()) else "stays"


def pasted(seed, donor=None, mask=None):
    sample = flat(100), flat(200), torch.zeros(SIZE, SIZE, dtype=torch.uint8) if mask is None else mask
    return paste_changes(sample, donor or textured_donor(), np.random.default_rng(seed))


def textured_donor():
    """As `donor_of`, with pixels that tell the dates apart after any gain."""
    _, _, mask = donor_of()
    stripes = torch.arange(SIZE).remainder(2).mul(120).to(torch.uint8)
    return stripes.expand(3, SIZE, SIZE), stripes[:, None].expand(3, SIZE, SIZE), mask


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_else_is_touched(seed):
    before, after, mask = pasted(seed)
    near = torch.from_numpy(ndimage.binary_dilation(textured_donor()[2].numpy(), iterations=2 * MARGIN + 4))
    assert (before[:, ~near] == 100).all() and (after[:, ~near] == 200).all() and not mask[~near].any()
    assert set(mask.unique().tolist()) <= {0, 1}


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_places_come_whole_and_their_mask_is_exact(seed):
    """Where after has the donor's rows, and before the columns, the mask is 1; stripes show which date was taken."""
    before, after, mask = pasted(seed)
    places, count = ndimage.label(textured_donor()[2].numpy())
    kind = kind_of(before, mask)
    for place in range(1, count + 1):
        inside = torch.from_numpy(places == place)
        taken = bool((after[0][inside] != 200).any())
        assert set(mask[inside].tolist()) == {int(taken and kind != "stays")}
        if taken and kind != "appears":
            rows, columns = (bool((before[0][inside].reshape(12, 12).diff(dim=d) != 0).all()) for d in (0, 1))
            assert (rows, columns) == ((True, False) if kind == "stays" else (False, True))


def test_what_happens_comes_as_often_as_it_should():
    results = [pasted(seed) for seed in range(300)]
    kinds = [kind_of(before, mask) for before, after, mask in results if bool((after != 200).any())]
    assert len(kinds) > 280  # of three places none is chosen in 0.3 ** 3 of the draws
    for kind, share in SHARES.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=0.08)


def test_what_is_pasted_is_as_bright_as_its_new_ground():
    """Flat 120 on flat 200: after a gain of 200 / 120 nothing is to be seen, though the mask has it."""
    _, after, mask = pasted(1, donor_of())
    assert (after == 200).all() and mask.any()


def test_an_object_that_stays_is_no_change_where_there_was_one():
    changed = torch.ones(SIZE, SIZE, dtype=torch.uint8)
    results = [pasted(seed, mask=changed)[2] for seed in range(60)]
    assert any((mask == 0).any() for mask in results)
    assert all((mask == 1)[0].all() for mask in results)  # far from every place


def test_ignored_pixels_of_the_donor_are_no_change():
    donor = flat(40), flat(120), torch.full((SIZE, SIZE), 255, dtype=torch.uint8)
    sample = flat(100), flat(200), torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    result = paste_changes(sample, donor, np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(sample, result, strict=True))


def test_the_sample_itself_is_not_altered():
    sample = flat(100), flat(200), torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    paste_changes(sample, textured_donor(), np.random.default_rng(3))
    assert (sample[0] == 100).all() and (sample[1] == 200).all() and not sample[2].any()

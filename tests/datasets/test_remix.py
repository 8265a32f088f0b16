"""Remixed changes: only where places lie, whole, and the mask says what happened there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datasets import remix as remixing
from datasets.remix import BACKGROUNDS, MARGIN, PASTED, paste_changes, remix, stand_still, undo_changes

SIZE = 64
seeds = st.integers(0, 2**32 - 1)


def _rng(seed):
    return np.random.default_rng(seed)


def flat(value):
    return torch.full((3, SIZE, SIZE), value, dtype=torch.uint8)


def places():
    """Three squares."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    for top, left in ((8, 8), (8, 40), (44, 20)):
        mask[top : top + 12, left : left + 12] = 1
    return mask


def striped():
    """A changed pair whose dates are told apart after any gain and shift: columns before, rows after."""
    stripes = torch.arange(SIZE).remainder(2).mul(120).to(torch.uint8)
    return stripes.expand(3, SIZE, SIZE), stripes[:, None].expand(3, SIZE, SIZE), places()


def unchanged():
    return flat(100), flat(200), torch.zeros(SIZE, SIZE, dtype=torch.uint8)


def has_rows_and_columns(image, inside):
    """Whether all of a square's neighbours differ from row to row, and from column to column."""
    return tuple(bool((image[0][inside].reshape(12, 12).diff(dim=d) != 0).all()) for d in (0, 1))


def kind_of(before, mask):
    """What happened, told from the result alone."""
    return "appears" if bool((before == 100).all()) else "changes" if bool((mask == 1).any()) else "stays"


def squares():
    numbered, count = ndimage.label(places().numpy())
    return [torch.from_numpy(numbered == place) for place in range(1, count + 1)]


@settings(max_examples=40)
@given(seed=seeds)
def test_nothing_is_touched_far_from_the_places(seed):
    near = torch.from_numpy(ndimage.binary_dilation(places().numpy(), iterations=2 * MARGIN + 4))
    before, after, mask = paste_changes(unchanged(), striped(), _rng(seed))
    assert (before[:, ~near] == 100).all() and (after[:, ~near] == 200).all() and not mask[~near].any()
    own = striped()
    before, after, mask = undo_changes(own, _rng(seed))
    assert torch.equal(before[:, ~near], own[0][:, ~near]) and torch.equal(after, own[1]) and not mask[~near].any()


@settings(max_examples=40)
@given(seed=seeds)
def test_pasted_places_come_whole_and_their_mask_is_exact(seed):
    before, after, mask = paste_changes(unchanged(), striped(), _rng(seed))
    kind = kind_of(before, mask)
    for inside in squares():
        taken = bool((after[0][inside] != 200).any())
        assert set(mask[inside].tolist()) == {int(taken and kind != "stays")}
        if taken and kind != "appears":
            assert has_rows_and_columns(before, inside) == ((True, False) if kind == "stays" else (False, True))


@settings(max_examples=40)
@given(seed=seeds)
def test_undone_places_look_in_both_dates_as_they_do_later(seed):
    before, _, mask = undo_changes(striped(), _rng(seed))
    for inside in squares():
        (changed,) = set(mask[inside].tolist())
        assert has_rows_and_columns(before, inside) == ((False, True) if changed else (True, False))


def test_a_pair_that_stands_still_has_one_look_and_no_change():
    looks = set()
    for seed in range(40):
        before, after, mask = stand_still((*striped()[:2], places().masked_fill(places() == 0, 255)), _rng(seed))
        assert set(mask.unique().tolist()) == {0, 255}
        inside = squares()[0]
        assert has_rows_and_columns(before, inside) == has_rows_and_columns(after, inside)
        looks.add(has_rows_and_columns(after, inside))
    assert len(looks) == 2, "either date may be the one"


def test_what_pasted_places_do_comes_as_often_as_it_should():
    results = [paste_changes(unchanged(), striped(), _rng(seed)) for seed in range(300)]
    kinds = [kind_of(before, mask) for before, after, mask in results if bool((after != 200).any())]
    assert len(kinds) > 280  # of three places none is chosen in 0.3 ** 3 of the draws
    for kind, share in PASTED.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=0.08)


def test_backgrounds_come_as_often_as_they_should(monkeypatch):
    calls = []
    for name in ("stand_still", "undo_changes"):
        monkeypatch.setattr(remixing, name, lambda sample, rng, name=name: calls.append(name) or sample)
    pasted_into = []
    monkeypatch.setattr(remixing, "paste_changes", lambda sample, donor, rng: pasted_into.append(sample is one))
    one, other = unchanged(), striped()
    for seed in range(600):
        remix(one, other, _rng(seed))
    assert calls.count("stand_still") / 600 == pytest.approx(BACKGROUNDS["still"], abs=0.06)
    assert calls.count("undo_changes") / 600 == pytest.approx(BACKGROUNDS["undone"], abs=0.06)
    assert np.mean(pasted_into) == pytest.approx(0.5, abs=0.06)


def test_what_is_pasted_is_as_bright_as_its_new_ground():
    """Flat 120 on flat 200: after a gain of 200 / 120 nothing is to be seen, though the mask has it."""
    results = [paste_changes(unchanged(), (flat(40), flat(120), places()), _rng(seed)) for seed in range(10)]
    assert all((after == 200).all() for _, after, _ in results)
    assert any(mask.any() for _, _, mask in results)


def test_an_object_that_stays_is_no_change_where_there_was_one():
    changed = flat(100), flat(200), torch.ones(SIZE, SIZE, dtype=torch.uint8)
    masks = [paste_changes(changed, striped(), _rng(seed))[2] for seed in range(60)]
    assert any((mask == 0).any() for mask in masks)
    assert all((mask == 1)[0].all() for mask in masks)  # far from every place


def test_ignored_pixels_are_no_change():
    donor = flat(40), flat(120), torch.full((SIZE, SIZE), 255, dtype=torch.uint8)
    for seed in range(10):
        result = paste_changes(unchanged(), donor, _rng(seed))
        assert all(torch.equal(a, b) for a, b in zip(unchanged(), result, strict=True))


@settings(max_examples=20)
@given(seed=seeds)
def test_neither_pair_is_altered(seed):
    one, other = unchanged(), striped()
    remix(one, other, _rng(seed))
    assert all(torch.equal(a, b) for a, b in zip((*one, *other), (*unchanged(), *striped()), strict=True))

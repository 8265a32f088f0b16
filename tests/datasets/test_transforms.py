"""Before, after and label stay on one grid under every augmentation; colours and crops are drawn as published."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from datasets import transforms
from datasets.transforms import (
    AUGMENTATIONS,
    BALANCED,
    IGNORE,
    build_augmentation,
    crop_balanced,
    distort_colours,
    hanet_geometry,
    our_colours,
    zoom,
)

every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)
seeds = st.integers(0, 2**32 - 1)
heights, widths = st.integers(33, 140), st.integers(65, 140)


def grid(height, width, bands=3):
    """Every pixel carries its own coordinates, never 0, so a shift by one pixel shows, and so does a corner."""
    places = torch.from_numpy(np.indices((height, width)) + 1)
    return torch.cat([places] * bands)[:bands].to(torch.uint8)


def label_of(image):
    """A label that follows from a grid: any row, column or diagonal that moves changes it. Corners give 0."""
    ys, xs = image[0].int(), image[1].int()
    return torch.tensor([0, 1, IGNORE, 1, 0], dtype=torch.uint8)[(ys * 7 + xs * 13) % 5] * (ys > 0)


def draw(augmentation, sample, seed):
    return augmentation(sample, np.random.default_rng(seed))


@every_augmentation
@settings(max_examples=40)
@given(
    height=heights,
    width=widths,
    seed=seeds,
    bands=st.sampled_from([1, 2, 3, 4, 7]),
    crop=st.sampled_from([0, 0, 17, 32]),
    swap=st.booleans(),
    corners=st.sampled_from([None, "unchanged", "ignored"]),
)
def test_all_three_move_together(name, height, width, seed, bands, crop, swap, corners):
    image = grid(height, width, max(bands, 2))
    augmentation = replace(build_augmentation(name, crop, swap, corners), colours=None)
    if name == "ours":  # interpolates, which these coordinates do not survive; see the test of zoom
        augmentation = replace(augmentation, geometry=hanet_geometry)
    before, after, mask = draw(augmentation, (image, image.clone(), label_of(image)), seed)
    assert before.shape == (len(image), *((crop, crop) if crop else (height, width))), "a batch could not be made"
    assert torch.equal(before, after)
    covered = before[0] > 0
    assert torch.equal(mask[covered], label_of(before)[covered])
    assert (mask[~covered] == augmentation.corners).all()
    assert {x.dtype for x in (before, after, mask)} == {torch.uint8}


@every_augmentation
def test_drawn_from_the_generator_alone(name):
    image = grid(64, 64)
    augmentation = build_augmentation(name, crop_size=32 if name != "none" else 0, time_swap=name != "none")
    copy = pickle.loads(pickle.dumps(augmentation))  # as a spawned worker gets it

    def results(augmentation, seed):
        return b"".join(x.numpy().tobytes() for x in draw(augmentation, (image, image, image[0]), seed))

    assert results(augmentation, 7) == results(copy, 7)
    if name != "none":
        assert len({results(augmentation, seed) for seed in range(12)}) == 12


def test_corners_are_unchanged_as_published_or_ignored():
    image = grid(64, 64)
    for corners, value in ((None, 0), ("unchanged", 0), ("ignored", IGNORE)):
        augmentation = build_augmentation("amfnet", corners=corners)
        draws = [draw(augmentation, (image, image, torch.ones(64, 64, dtype=torch.uint8)), s) for s in range(20)]
        uncovered = [float((mask == value).float().mean()) for _, _, mask in draws]
        assert max(uncovered) > 0.15  # an eighth turn uncovers 17 % of a square
        for before, _, mask in draws:
            assert torch.equal(before.any(0), mask == 1)


@pytest.mark.parametrize("width", [32, 48])
def test_hanet_makes_quarter_turns_then_flips(width):
    """As NumPy does in several passes; half turns only if a tile is not square."""
    image = grid(32, width)
    for seed in range(64):
        rng = np.random.default_rng(seed)
        turns = rng.integers(4) if width == 32 else 2 * rng.integers(2)
        rows, columns = rng.random(2) < 0.5
        expected = np.rot90(image.numpy(), turns, (1, 2))[:, :: -1 if rows else 1, :: -1 if columns else 1]
        assert np.array_equal(draw(AUGMENTATIONS["hanet"], (image, image, image[0]), seed)[0].numpy(), expected)


def test_open_cd_turns_every_second_sample():
    image = torch.full((3, 33, 65), 200, dtype=torch.uint8)
    mask = torch.zeros(33, 65, dtype=torch.uint8)
    draws = [draw(AUGMENTATIONS["open-cd"], (image, image, mask), seed)[2] for seed in range(200)]
    assert 0.4 < np.mean([bool((mask == IGNORE).any()) for mask in draws]) < 0.6


@settings(max_examples=40)
@given(angle=st.floats(-180, 180), factor=st.floats(0.8, 1.6), bands=st.sampled_from([1, 3, 4]))
def test_zoom_moves_all_three_as_the_rotation_matrix_says(angle, factor, bands):
    """A ramp stays a ramp under interpolation: every pixel tells where it came from, in both directions."""
    ys, xs = np.meshgrid(np.arange(96), np.arange(120), indexing="ij")
    ramps = torch.from_numpy(np.stack([2 * ys + 20, 2 * xs + 10]).astype(np.uint8))
    mask = torch.from_numpy((xs >= 60).astype(np.uint8))
    image = ramps[:1].expand(bands, 96, 120)
    rows, columns, moved = zoom((image, ramps[1:].expand(bands, 96, 120), mask), angle, factor, IGNORE)
    turn = np.exp(1j * np.radians(angle)) / factor  # from a new pixel's place to the old one's, about the middle
    old = ((xs + 0.5 - 60) + 1j * (ys + 0.5 - 48)) * turn
    x, y = old.real + 60 - 0.5, old.imag + 48 - 0.5
    inside = (x > 0.01) & (x < 118.99) & (y > 0.01) & (y < 94.99)
    for band in range(bands):
        assert np.abs(rows[band].numpy() - (2 * y + 20))[inside].max() <= 1 + 1e-9
        assert np.abs(columns[band].numpy() - (2 * x + 10))[inside].max() <= 1 + 1e-9
    away = inside & (np.abs(x - 59.5) > 0.51)
    assert np.array_equal(moved.numpy()[away], (x > 59.5)[away])
    outside = (x < -0.51) | (x > 119.51) | (y < -0.51) | (y > 95.51)
    assert (moved.numpy()[outside] == IGNORE).all() and not rows[0].numpy()[outside].any()


def test_time_swap_exchanges_the_dates_of_every_second_sample():
    image, swaps = grid(40, 50), []
    for seed in range(200):
        sample = image, 255 - image, label_of(image)
        plain = draw(build_augmentation("open-cd", 32), sample, seed)
        swapped = draw(build_augmentation("open-cd", 32, time_swap=True), sample, seed)
        assert torch.equal(plain[2], swapped[2])
        straight = torch.equal(plain[0], swapped[0]) and torch.equal(plain[1], swapped[1])
        swaps.append(torch.equal(plain[0], swapped[1]) and torch.equal(plain[1], swapped[0]))
        assert straight != swaps[-1]
    assert 0.4 < np.mean(swaps) < 0.6


def crops(mask, size, seeds=range(300)):
    image = mask.expand(3, *mask.shape)
    return [crop_balanced((image, image, mask), size, np.random.default_rng(seed))[2] for seed in seeds]


def is_balanced(mask):
    counts = torch.bincount(mask.flatten().int(), minlength=256)[:2]
    return bool(counts.max() < BALANCED * counts.sum())


def test_crops_avoid_windows_that_one_class_fills():
    """A fifth of all windows straddle the edge of the changed half: ten tries find one nine times of ten."""
    mask = torch.zeros(64, 256, dtype=torch.uint8)
    mask[:, 128:] = 1
    by_chance = np.mean([is_balanced(mask[:, left : left + 64]) for left in range(193)])
    assert by_chance < 0.2
    share = np.mean([is_balanced(window) for window in crops(mask, 64)])
    assert share == pytest.approx(1 - (1 - by_chance) ** 10, abs=0.07)


def test_ignored_pixels_do_not_count_as_a_class():
    """Where pixels count at all both classes are alike, so the first draw stands, however much of it is ignored."""
    mask = torch.zeros(40, 40, dtype=torch.uint8)
    mask[::2] = 1
    mask[:, :20] = IGNORE
    mask[:, 19] = torch.arange(40) % 2
    for seed in range(60):
        rng = np.random.default_rng(seed)
        top, left = rng.integers(25), rng.integers(25)
        if left > 3:
            (drawn,) = crops(mask, 16, [seed])
            assert torch.equal(drawn, mask[top : top + 16, left : left + 16])


def test_a_crop_of_ignored_pixels_alone_is_drawn_again():
    mask = torch.full((40, 40), IGNORE, dtype=torch.uint8)
    mask[:20:2], mask[1:20:2] = 0, 1
    assert np.mean([is_balanced(window) for window in crops(mask, 16)]) > 0.98
    assert torch.equal(crops(mask, 40, [0])[0], mask)


@settings(max_examples=60)
@given(seed=seeds, bands=st.sampled_from([1, 2, 3, 4, 13]))
def test_colours_stay_near_and_where_they_are(seed, bands):
    """(v +- 10) * 0.8 to 1.2 bounds what other numbers of bands than three get, which have no hue or saturation."""
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (bands, 9, 7), np.uint8))
    distorted = distort_colours(image, np.random.default_rng(seed))
    assert (distorted.shape, distorted.dtype) == (image.shape, torch.uint8)
    if bands != 3:
        low, high = ((image.float() + s).clamp(0, 255) * f for s, f in ((-10, 0.8), (10, 1.2)))
        outside = (distorted.float() < low.floor() - 1) | (distorted.float() > high.clamp(max=255))
        assert not outside.any()


@pytest.mark.parametrize("name", ["open-cd", "ours", "colours"])
def test_colours_are_drawn_for_each_date(name):
    image = grid(40, 70)
    draws = [draw(AUGMENTATIONS[name], (image, image, image[0]), seed)[:2] for seed in range(40)]
    assert np.mean([not torch.equal(before, after) for before, after in draws]) > 0.85


def test_each_colour_step_comes_as_often_as_it_should(monkeypatch):
    """In every second image; contrast precedes the colours as often as it follows them."""
    calls = []
    for step in ("adjust_saturation", "adjust_hue"):
        monkeypatch.setattr(F, step, lambda image, _, step=step: calls[-1].append(step) or image)

    def linear(image, factor, shift):
        calls[-1].append("brightness" if factor == 1 else "contrast")
        return image

    monkeypatch.setattr(transforms, "_linear", linear)
    for seed in range(600):
        calls.append([])
        distort_colours(torch.zeros(3, 2, 2, dtype=torch.uint8), np.random.default_rng(seed))
    for step in ("brightness", "contrast", "adjust_saturation", "adjust_hue"):
        assert 0.43 < np.mean([step in steps for steps in calls]) < 0.57
    among_others = [steps for steps in calls if {"contrast", "adjust_hue"} <= set(steps)]
    assert 0.4 < np.mean([steps.index("contrast") < steps.index("adjust_hue") for steps in among_others]) < 0.6
    assert all("brightness" not in steps[1:] for steps in calls)


@settings(max_examples=40)
@given(seed=seeds, bands=st.sampled_from([1, 2, 3, 4, 13]))
def test_our_colours_stay_where_they_are(seed, bands):
    """A pixel's new colour follows from its old one and from nothing around it."""
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (bands, 24, 31), np.uint8) * 80)
    distorted = our_colours(image, np.random.default_rng(seed))
    assert (distorted.shape, distorted.dtype) == (image.shape, torch.uint8)
    seen = {}
    for old, new in zip(image.flatten(1).T.tolist(), distorted.flatten(1).T.tolist(), strict=True):
        assert seen.setdefault(tuple(old), new) == new
    assert not torch.equal(distorted, image)

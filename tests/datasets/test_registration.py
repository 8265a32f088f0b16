"""The shift between two dates: exact, robust to seasons and nodata, and never claimed where there is none."""

import math

import numpy as np
import pytest
from scipy import ndimage

from datasets.registration import Shift, Unshifted, estimate_shift, shift_between
from datasets.scenes import draw_scene
from datasets.windows import Window

MARGIN = 22  # pixels that a shift may uncover


def displaced(image, rows, columns):
    """The image, float64, with its content moved down and to the right."""
    moved = [
        ndimage.shift(channel, (rows, columns), order=5, mode="mirror")
        for channel in np.moveaxis(image.astype(float), -1, 0)
    ]
    return np.stack(moved, -1)


def inner(image):
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


def quantised(image):
    return np.uint8(np.clip(np.rint(image), 0, 255))


def error(shift, rows, columns):
    return max(abs(shift.rows - rows), abs(shift.columns - columns))


@pytest.fixture(scope="module")
def scene():
    return draw_scene(3, 512 + 2 * MARGIN)[0]


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0.1, -0.1), (0.5, 0.5), (-3.4, 7.75), (-20, 20), (0.25, -20)])
def test_exact_to_a_tenth_of_a_pixel_up_to_twenty(scene, rows, columns):
    moved = inner(quantised(displaced(scene, rows, columns)))
    for size in ((256, 256), (128, 128), (300, 171)):
        window = Window(0, 0, *size).slices
        shift = shift_between(inner(scene)[window], moved[window])
        assert shift.confident
        assert error(shift, rows, columns) < 0.1
        assert shift.relevant == (math.hypot(rows, columns) > 0.5)


def test_other_contrast_haze_and_noise(scene):
    rng = np.random.default_rng(0)
    after = 60 + 150 * (displaced(scene, 4.3, -2.6).clip(0, 255) / 255) ** 1.4 + rng.normal(0, 5, scene.shape)
    assert error(shift_between(inner(scene), inner(quantised(after))), 4.3, -2.6) < 0.1


def test_over_seasons():
    """Each date has its own sun, leaves, cars and buildings, and a shift of up to two pixels; more is added."""
    errors = []
    for seed in range(6):
        before, after, _ = draw_scene(seed, 256 + 2 * MARGIN)
        rng = np.random.default_rng(seed)
        length, turn = 20 * math.sqrt(rng.random()), rng.uniform(0, math.tau)
        rows, columns = length * math.cos(turn), length * math.sin(turn)
        drawn = shift_between(inner(before), inner(after))
        moved = shift_between(inner(before), inner(quantised(displaced(after, rows, columns))))
        if drawn.confident and moved.confident:
            assert drawn.length < 2.5
            errors.append(error(moved, drawn.rows + rows, drawn.columns + columns))
    assert len(errors) >= 4
    assert max(errors) < 0.2
    assert np.median(errors) < 0.1


def texture(rng, size, waves, depth):
    """Lumps of some sizes without anything in common from date to date, as of leaves, waves or grass."""
    lumps = sum(wave * ndimage.gaussian_filter(rng.standard_normal((size, size)), wave) for wave in waves)
    return quantised(90 + depth * (lumps / lumps.std())[..., None] + rng.normal(0, 1.5, (size, size, 3)))


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("waves", [(1.5,), (1, 3, 9), (40,)], ids=["leaves", "crowns", "swell"])
@pytest.mark.parametrize("depth", [1, 20])
def test_no_shift_claimed_without_common_structure(size, waves, depth):
    rng = np.random.default_rng([size, depth])
    shift = shift_between(texture(rng, size, waves, depth), texture(rng, size, waves, depth))
    assert shift is None or not shift.confident


def test_rows_of_a_field_that_was_sown_again():
    """They fix one direction alone, and its phase means nothing."""
    rng = np.random.default_rng(0)
    across = np.add.outer(0.6 * np.arange(256), 0.8 * np.arange(256))
    dates = [
        np.repeat((100 + 25 * np.sin(0.7 * across + phase) + rng.normal(0, 6, (256, 256)))[..., None], 3, -1)
        for phase in (0, 2)
    ]
    shift = shift_between(*map(quantised, dates))
    assert shift is None or not shift.confident


def test_other_places_are_not_a_shift():
    dates = [draw_scene(seed, 256)[0] for seed in range(3)]
    for before in dates:
        for after in dates:
            shift = shift_between(before, after)
            assert (shift is not None and shift.confident) == (before is after)


def test_what_cannot_be_compared():
    flat = np.full((256, 256, 3), 80, np.uint8)
    assert shift_between(flat, flat) is None
    small = draw_scene(0, 100)[0]
    assert shift_between(small, small) is None
    image = draw_scene(0, 256)[0]
    assert shift_between(image, image, np.zeros((256, 256), bool)) is None


@pytest.mark.parametrize("fill", [0, 255])
def test_nodata_is_left_out(scene, fill):
    """The same wedge at both dates would say that nothing moved."""
    before, after = inner(scene).copy(), inner(quantised(displaced(scene, -6.2, 3.7)))
    rows, columns = np.indices(before.shape[:2])
    known = (rows + columns > 300) & ((rows // 40 + columns // 40) % 9 > 0)
    before[~known] = after[~known] = fill
    shift = shift_between(before, after, known)
    assert shift.confident
    assert error(shift, -6.2, 3.7) < 0.1
    assert shift.windows < 9


def test_a_large_scene_costs_few_windows(scene):
    """Windows are read where they are wanted; the scene repeats one image, so reads stay small."""
    tile, read = inner(scene), []

    def reader(rows, columns):
        moved = quantised(displaced(tile, rows, columns))

        def read_window(window):
            read.append(window)
            places = [
                np.arange(start, start + length) % 512
                for start, length in ((window.top, window.height), (window.left, window.width))
            ]
            return moved[np.ix_(*places)], None

        return read_window

    shift = estimate_shift((20000, 30000), reader(0, 0), reader(0.4, 3.3))
    assert error(shift, 0.4, 3.3) < 0.1
    assert len(read) == 2 * 2 * 49
    assert max(window.height * window.width for window in read) == 256 * 256


def test_bands_and_types(scene):
    before, after = inner(scene).astype(np.uint16) * 20, inner(displaced(scene, 1.5, -2)).clip(0) * 20
    bands = [np.concatenate([date, date[..., :1]], -1) for date in (before, after.astype(np.uint16))]
    assert error(shift_between(*bands), 1.5, -2) < 0.1


def test_confidence_is_agreement():
    assert Shift(3, 0, 0.2, 8, 20).relevant
    assert Shift(0.3, 0.3, 0.2, 8, 20).confident
    assert not Shift(0.3, 0.3, 0.2, 8, 20).relevant
    assert not Shift(3, 0, 0.2, 3, 9).confident
    assert not Shift(3, 0, 0.2, 9, 49).confident
    assert not Shift(3, 0, 0.9, 9, 9).confident
    assert not Shift(3, 0, math.inf, 0, 9).confident


def stored(image, known=None):
    return lambda window: (image[window.slices], None if known is None else known[window.slices])


@pytest.mark.parametrize(("rows", "columns"), [(2.3, -4.75), (-0.5, 0.5), (3, -7), (0, 19.99)])
def test_unshifted_content_lies_where_the_other_date_has_it(scene, rows, columns):
    after = inner(quantised(displaced(scene, rows, columns)))
    values, known = Unshifted(after.shape[:2], rows, columns).read(Window(0, 0, 512, 512), stored(after))
    assert values.dtype == np.uint8
    without, there = (np.abs(image.astype(int) - inner(scene))[known].mean() for image in (values, after))
    assert without == 0 if rows == 3 else without < 0.5 * there  # whole pixels are not interpolated
    lost = 1 - known.mean()
    assert 0 < lost <= 1 - (1 - (abs(rows) + 3) / 512) * (1 - (abs(columns) + 3) / 512)
    assert not values[~known].any()


def test_windows_of_an_unshifted_image_are_parts_of_the_whole(scene):
    image = inner(scene)[:200, :150].astype(np.uint16) * 200
    known = np.random.default_rng(0).random(image.shape[:2]) > 0.01
    view = Unshifted(image.shape[:2], -3.4, 1.25)
    whole, certain = view.read(Window(0, 0, 200, 150), stored(image, known))
    for window in (Window(0, 0, 1, 150), Window(190, 100, 10, 50), Window(63, 17, 64, 64)):
        part, part_certain = view.read(window, stored(image, known))
        assert np.array_equal(part, whole[window.slices])
        assert np.array_equal(part_certain, certain[window.slices])
    assert not certain[:3].any()
    assert not certain[:, -2:].any()
    far = Unshifted(image.shape[:2], 500, 0).read(Window(0, 0, 8, 9), stored(image))
    assert far[0].shape == (8, 9, 3)
    assert not far[1].any()


def test_an_unshifted_pair_has_no_shift_left():
    before, after, _ = draw_scene(5, 256 + 2 * MARGIN)
    before, after = inner(before), inner(quantised(displaced(after, 6.35, -3.8)))
    shift = shift_between(before, after)
    moved, known = Unshifted((256, 256), shift.rows, shift.columns).read(Window(0, 0, 256, 256), stored(after))
    rest = shift_between(before, moved, known)
    assert rest.confident
    assert not rest.relevant

"""Before, after and label stay on one grid under every augmentation, and labels gain no value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.transforms import AUGMENTATIONS, amfnet_augmentation, hanet_augmentation

every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)


def grid(height, width):
    """Every pixel carries its own coordinates, never 0, so whatever moves can be traced."""
    ys, xs = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([ys % 250 + 1, xs % 250 + 1, (ys // 250 * 16 + xs // 250) + 1], axis=-1).astype(np.uint8)


@every_augmentation
@settings(max_examples=40)
@given(height=st.integers(33, 300), width=st.integers(65, 300), seed=st.integers(0, 2**32 - 1))
def test_all_three_move_together(name, height, width, seed):
    image = grid(height, width)
    before, after, mask = AUGMENTATIONS[name]((image, image, image[..., 0]), np.random.default_rng(seed))
    assert before.shape == image.shape, "a batch could not be made"
    assert np.array_equal(before, after)
    assert np.array_equal(before[..., 0], mask)


@every_augmentation
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), values=st.sets(st.sampled_from([0, 1, 255]), min_size=1))
def test_labels_gain_no_value(name, seed, values):
    rng = np.random.default_rng(seed)
    mask = rng.choice(sorted(values), (48, 48)).astype(np.uint8)
    image = np.zeros((48, 48, 3), np.uint8)
    augmented = AUGMENTATIONS[name]((image, image, mask), rng)[2]
    assert set(np.unique(augmented)) <= set(np.unique(mask)) | {0}  # turned-in corners are unchanged


@every_augmentation
def test_drawn_from_the_generator_alone(name):
    image = grid(64, 64)
    sample = (image, image, image[..., 0])

    def draw(seed):
        return AUGMENTATIONS[name](sample, np.random.default_rng(seed))[0]

    assert np.array_equal(draw(7), draw(7))
    if name != "none":
        assert len({draw(seed).tobytes() for seed in range(12)}) > 4


def test_amfnet_turns_by_any_angle_and_fills_with_zero():
    image = grid(64, 64)
    draws = [amfnet_augmentation((image, image, image[..., 0]), np.random.default_rng(s)) for s in range(20)]
    filled = [float((mask == 0).mean()) for _, _, mask in draws]
    assert max(filled) > 0.15  # an eighth turn uncovers 17 % of a square
    for before, _, mask in draws:
        assert np.array_equal(before.any(-1), mask > 0)


def test_hanet_draws_all_eight_symmetries_of_the_square():
    image = grid(32, 32)
    seen = {
        hanet_augmentation((image, image, image[..., 0]), np.random.default_rng(seed))[0].tobytes()
        for seed in range(200)
    }
    assert len(seen) == 8

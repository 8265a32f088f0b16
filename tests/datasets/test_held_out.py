"""What is held out is seeded, disjoint and has change; of overlapping tiles it shares no pixel with what is left."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.held_out import count_overlapping, hold_out
from datasets.pairs import Pair
from datasets.windows import plan_windows


def named(*names):
    return [Pair(name, Path("A", name), Path("B", name), Path("label", name)) for name in names]


def tiles(scene, height=600, width=512, **how):
    windows = plan_windows(height, width, 256, **how)
    return [f"{scene}_{window.top:04d}_{window.left:04d}" for window in windows]


def scenes_of(pairs):
    return Counter(pair.name.rsplit("_", 2)[0] for pair in pairs)


def test_held_out_tenth_is_seeded_disjoint_and_has_change():
    pairs = named(*(f"{n:02}" for n in range(30)))
    changed = [5 if n < 12 else 0 for n in range(30)]
    train, val = hold_out(pairs, changed, seed=1)
    assert (len(train), len(val)) == (27, 3)
    assert sum(int(p.name) < 12 for p in val) == 1
    assert sorted(p.name for p in train + val) == [p.name for p in pairs]
    assert hold_out(pairs, changed, seed=1) == (train, val)
    assert hold_out(pairs, changed, seed=2)[1] != val
    with pytest.raises(ValueError, match="fewer than two training pairs have any change"):
        hold_out(pairs, [1] + [0] * 29, seed=1)


def test_whole_scenes_of_tiles_are_held_out(caplog):
    caplog.set_level("INFO")
    pairs = named(*(name for scene in range(20) for name in tiles(f"train_{scene}", overlap=64)))
    train, val = hold_out(pairs, [1] * len(pairs), seed=0)
    assert scenes_of(train).keys().isdisjoint(scenes_of(val))
    assert len(scenes_of(val)) == 2
    assert 10 * len(val) == len(pairs) == len(train) + len(val)
    assert count_overlapping(train, val, (256, 256)) == 0
    assert "held out: all tiles of 2 of 20 scenes (train_" in caplog.text
    assert hold_out(pairs, [1] * len(pairs), seed=0) == (train, val)
    assert hold_out(pairs, [1] * len(pairs), seed=1)[1] != val


def test_pairs_that_share_an_image_stay_together():
    """Of ten places three dates each, paired one after the other; the third pair joins what the first two began."""
    dates = [[Path(f"p{place}_{date}") for date in range(3)] for place in range(10)]
    pairs = [Pair(f"{x[a]}__{x[b]}", x[a], x[b]) for x in dates for a, b in ((0, 1), (2, 0), (1, 2))]
    for seed in range(10):
        train, val = hold_out(pairs, [1] * 30, seed)
        assert len(val) == 3
        assert {pair.before for pair in val}.isdisjoint(
            {image for pair in train for image in (pair.before, pair.after)}
        )


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(0, 9), st.data())
def test_both_sides_have_change_whatever_the_scenes(sizes, seed, data):
    """And no scene is on both, and a fifth is not exceeded but by a single scene that had to go."""
    names = [f"s{scene}_{tile:04d}_0000" for scene, size in enumerate(sizes) for tile in range(size)]
    first, second = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=2, max_size=2, unique=True))
    pairs = named(*names)
    changed = [int(name.startswith((f"s{first}_", f"s{second}_"))) for name in names]
    train, val = hold_out(pairs, changed, seed)
    assert scenes_of(train).keys().isdisjoint(scenes_of(val))
    by_name = dict(zip(names, changed, strict=True))
    for side in (train, val):
        assert any(by_name[pair.name] for pair in side)
    smallest = min(sizes[first], sizes[second])
    assert len(val) <= max(smallest, round(0.2 * len(names)) + 1)


def test_one_scene_is_held_out_by_tiles():
    pairs = named(*tiles("whole", 1024, 1024))
    train, val = hold_out(pairs, [1] * 16, seed=0)
    assert (len(train), len(val)) == (14, 2)
    assert count_overlapping(train, val, (256, 256)) == 0


@pytest.mark.parametrize(
    ("how", "overlap"), [({"overlap": 8}, True), ({"edge": "shift"}, True), ({"edge": "pad"}, False)]
)
def test_tiles_that_share_pixels_are_counted(how, overlap):
    *most, last = named(*tiles("whole", 600, 256, **how))
    assert count_overlapping(most, [last], (256, 256)) == overlap
    assert count_overlapping(named("other_0000_0000", "plain"), [last, *named("plain")], (256, 256)) == 0

"""The drawn scenes: repeatable, rightly labelled, and not to be solved by a subtraction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import scene_drawing, scene_plan, scenes
from datasets.scenes import draw_scene, is_drawn, write_scenes
from tests.scripts import python
from utils.metrics import best_threshold


@pytest.fixture(scope="module")
def drawn():
    return [draw_scene(seed, 128) for seed in range(36)]


def test_shapes_and_types():
    for size in (64, 200):
        before, after, mask = draw_scene(0, size)
        assert before.shape == after.shape == (size, size, 3)
        assert mask.shape == (size, size)
        assert before.dtype == after.dtype == mask.dtype == np.uint8


def test_same_seed_same_bytes_in_other_processes():
    code = "import zlib; from datasets.scenes import draw_scene; print(*map(zlib.crc32, draw_scene([5, 2], 96)))"
    one, other = (python("-c", code, PYTHONHASHSEED=seed).stdout for seed in "12")
    assert len(set(one.split())) == 3
    assert one == other


def test_other_seeds_other_scenes(drawn):
    assert len({before.tobytes() for before, _, _ in drawn}) == len(drawn)
    assert not np.array_equal(draw_scene([0, 1], 64)[0], draw_scene([1, 0], 64)[0])


def test_labels_and_share_of_change(drawn):
    masks = np.stack([mask for _, _, mask in drawn])
    assert set(np.unique(masks)) == {0, 255}
    shares = (masks > 0).mean((1, 2))
    assert 0.01 < shares.mean() < 0.12
    assert 0.3 < (shares == 0).mean() < 0.8  # half of many, 3 standard deviations of 36
    assert shares.max() < 0.95  # one hall may fill an image


def test_towns_change_more():
    shares = np.array([(draw_scene(seed, 128, town=True)[2] > 0).mean() for seed in range(30)])
    assert 0.04 < shares.mean() < 0.13
    assert (shares == 0).mean() < 0.5


def test_a_threshold_on_the_difference_does_not_find_the_change(drawn):
    raw, matched = [], []
    for before, after, _ in drawn:
        one, two = (image @ np.array([0.299, 0.587, 0.114]) for image in (before, after))
        raw.append(abs(two - one))
        matched.append(40 * abs((two - two.mean()) / two.std() - (one - one.mean()) / one.std()))
    changed = np.stack([mask for _, _, mask in drawn]) > 0
    for differences, bound in ((raw, 0.40), (matched, 0.45)):
        levels = np.clip(np.rint(np.stack(differences)), 0, 255).astype(np.uint8)
        counts = np.stack([np.bincount(levels[changed == truth], minlength=256) for truth in (False, True)])
        assert best_threshold(torch.from_numpy(counts))[1] < bound


def test_label_is_the_roofs_that_came_and_went():
    plan = next(p for p in map(planned, range(20)) if any(b.dates[0] != b.dates[1] for b in p.buildings))
    changed = [b for b in plan.buildings if b.dates[0] != b.dates[1]]
    expected = scene_plan.footprints(changed, 2 * plan.size, 2 * plan.zoom)
    plan = replace(plan, buildings=[replace(b, wings=tuple(replace(w, eaves=0.01) for w in b.wings)) for b in changed])
    rng = np.random.default_rng(0)  # so low, none leans and none hides another
    drawn = [scene_drawing.render(plan, date, rng)[1] for date in (0, 1)]
    assert expected.any()
    assert (drawn[0] | drawn[1])[expected].mean() > 0.98
    assert (drawn[0] | drawn[1])[~expected].mean() < 0.001  # borders, by rounding


def planned(seed):
    return scene_plan.plan_scene(np.random.default_rng(seed), 128)


def test_splits_on_disk(tmp_path):
    write_scenes(tmp_path, {"train": 2, "val": 1}, size=64)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    scene = [f"{folder}/scene_000{i}.png" for folder in ("A", "B", "label") for i in (0, 1)]
    assert names == [f"train/{name}" for name in scene] + [f"val/{name}" for name in scene if "0000" in name]
    firsts = [np.asarray(Image.open(tmp_path / split / "A" / "scene_0000.png")) for split in ("train", "val")]
    assert not np.array_equal(*firsts)
    assert np.asarray(Image.open(tmp_path / "val" / "label" / "scene_0000.png")).shape == (64, 64)
    write_scenes(tmp_path / "again", {"val": 1}, size=64)
    again = np.asarray(Image.open(tmp_path / "again" / "val" / "A" / "scene_0000.png"))
    assert np.array_equal(again, firsts[1]), "a split's scenes depend on the other splits"


def test_drawn_files_are_known_as_such(tmp_path):
    write_scenes(tmp_path, {"val": 1}, size=64)
    for folder in ("A", "B", "label"):
        assert is_drawn(tmp_path / "val" / folder / "scene_0000.png")
    Image.fromarray(draw_scene(0, 64)[0]).save(tmp_path / "other.png")
    assert not is_drawn(tmp_path / "other.png")
    assert not is_drawn(tmp_path / "nowhere.png")


def test_existing_split_is_refused_before_drawing(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(FileExistsError, match=r"val already exists: delete it"):
        write_scenes(tmp_path, {"train": 1, "val": 1}, size=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val"]


def test_interrupted_split_leaves_nothing(tmp_path, monkeypatch):
    def fail_at_third(seed, size, town):
        if seed[1] == 2:
            raise KeyboardInterrupt
        return draw_scene(seed, size, town)

    monkeypatch.setattr(scenes, "draw_scene", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, {"train": 2, "val": 3}, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("pixel_size", [0, -1, float("nan"), float("inf"), 20])
def test_no_other_pixel_sizes_are_drawn(pixel_size):
    with pytest.raises(ValueError, match=f"a drawn scene has 0.05 to 10 m a pixel, not {pixel_size}"):
        draw_scene(0, 32, pixel_size=pixel_size)
    draw_scene(0, 32, pixel_size=scenes.PIXEL_SIZES[1])

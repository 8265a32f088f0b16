"""From two arrays to a probability: whole or by windows, filled up, turned, and on little memory."""

import numpy as np
import pytest
import torch

from datasets.scenes import draw_scene
from tests.conftest import write_tiff
from tests.scripts import altered
from utils.console import UserError
from utils.prediction.blending import BATCH, TILE
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.torch_network import PIXELS_AT_ONCE


def images(height, width, seed=0):
    return tuple(np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8))


def directly(predictor, before, after, swapped=False):
    """The network's output for images whose sides it takes."""
    batch = (torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in (before, after))
    dates = predictor.model.scaling(*batch)
    with torch.inference_mode():
        return predictor.model.network(*(dates[::-1] if swapped else dates))[0].softmax(1)[0, 1].numpy()


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"best\.pt: no such checkpoint"):
        ChangePredictor(tmp_path, "cpu")


@pytest.mark.parametrize(("tuned", "told"), [(0.001, True), (0.25, False), (0.995, True)])
def test_a_tuned_threshold_at_the_edge_is_told(tuned, told, checkpoint, tmp_path, caplog):
    path = altered(checkpoint, tmp_path / "best.pt", tuned_threshold=tuned)
    assert ChangePredictor(path, "cpu").choose_threshold("tuned") == tuned
    assert (f"{tuned:g} lies at the edge" in caplog.text) == told


@pytest.mark.parametrize("size", [(48, 64), (45, 63), (3, 1), (8, 9)])
def test_one_window_is_the_network_of_the_image_filled_by_reflection(checkpoint, size):
    predictor = ChangePredictor(checkpoint, "cpu")
    before, after = images(*size)
    height, width = predictor.padded(size)
    full = [np.pad(x, ((0, height - size[0]), (0, width - size[1]), (0, 0)), "reflect") for x in (before, after)]
    found = predictor(before, after)
    assert (found.shape, found.dtype) == (size, np.float32)
    assert np.array_equal(found, directly(predictor, *full)[: size[0], : size[1]])


def test_what_is_predicted_whole(checkpoint):
    """By default up to PIXELS_AT_ONCE pixels, so 952 x 640 without a flag, and larger scenes by windows."""
    predictor = ChangePredictor(checkpoint, "cpu")
    assert predictor.cover(640, 952).shape == (640, 952)
    assert predictor.cover(1024, PIXELS_AT_ONCE // 1024).shape == (1024, 1024)
    assert predictor.cover(1024, PIXELS_AT_ONCE // 1024 + 1).shape == (TILE, TILE)
    assert predictor.cover(100, 20000).shape == (100, TILE)
    assert ChangePredictor(checkpoint, "cpu", tile_size=0).cover(5000, 5000).shape == (5000, 5000)
    assert ChangePredictor(checkpoint, "cpu", tile_size=256).cover(640, 952).shape == (256, 256)
    assert [predictor.batch_for((side, side)) for side in (64, 256, 512, 1024, 4096)] == [BATCH, BATCH, 4, 1, 1]
    assert ChangePredictor(checkpoint, "cpu", batch_size=3).batch_for((4096, 4096)) == 3
    predictor.pixel_size = 0.5  # ten times coarser, these scenes have 400 x 400 and 800 x 800 pixels
    assert [predictor.cover(side, side, 0.05).shape[0] for side in (4000, 8000)] == [4000, 4096]


def test_what_is_unknown_in_a_file_is_0(checkpoint, tmp_path):
    pytest.importorskip("rasterio")
    dates = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    known = np.arange(64)[None] < np.full((64, 1), 40)
    before, after = write_tiff(tmp_path / "b.tif", dates[0]), write_tiff(tmp_path / "a.tif", dates[1], mask=known)
    predictor = ChangePredictor(checkpoint, "cpu")
    predictor.threshold = 0.0
    assert np.array_equal(predictor.mask(before, after), known)
    for size in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be metres per pixel, above 0"):
            predictor(before, after, size)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_windows_blend_to_the_weighted_mean(checkpoint, batch_size):
    predictor = ChangePredictor(checkpoint, "cpu", tile_size=32, overlap=8, batch_size=batch_size)
    before, after = images(70, 90)
    cover = predictor.cover(70, 90)
    assert len(cover.windows) == 12
    expected = np.zeros((70, 90))
    for window in cover.windows:
        alone = directly(predictor, before[window.slices], after[window.slices])
        expected[window.slices] += cover.weights(window) * alone
    assert np.abs(predictor(before, after) - expected).max() < 1e-5


def steps_at_and_off_borders(probability, cover):
    """Mean absolute step between neighbouring rows or columns: across a window's border, and elsewhere."""
    across, elsewhere = [], []
    for axis, starts, side in ((0, cover.tops, cover.shape[0]), (1, cover.lefts, cover.shape[1])):
        steps = np.abs(np.diff(probability, axis=axis)).mean(1 - axis)
        borders = {b - 1 for start in starts for b in (start, start + side) if 0 < b < probability.shape[axis]}
        across += [steps[i] for i in borders]
        elsewhere += [step for i, step in enumerate(steps) if i not in borders]
    return np.mean(across), np.mean(elsewhere)


def test_no_seam_shows(checkpoint):
    """The step across a window's border is at most 1.2 times that elsewhere; without overlap it would be more."""
    before, after, _ = draw_scene(5, 256)
    ratios = []
    for overlap in (None, 0):
        predictor = ChangePredictor(checkpoint, "cpu", tile_size=64, overlap=overlap)
        steps = steps_at_and_off_borders(predictor(before, after), predictor.cover(256, 256))
        ratios.append(np.divide(*steps))
    assert ratios[0] <= 1.2
    assert ratios[1] > 1.5


@pytest.mark.parametrize(
    ("kind", "turn"),
    [
        ("flips", lambda x: x[::-1].copy()),
        ("flips", lambda x: x[:, ::-1].copy()),
        ("rotations", lambda x: np.rot90(x).copy()),
        ("rotations", lambda x: np.rot90(x, 2).copy()),
    ],
)
def test_augmented_prediction_turns_with_the_images(kind, turn, checkpoint):
    """Not so without it, or the test would ask nothing."""
    before, after = images(40, 56)
    for tta, equal in (([kind], True), ([], False)):
        predictor = ChangePredictor(checkpoint, "cpu", tta=tta)
        difference = np.abs(predictor(turn(before), turn(after)) - turn(predictor(before, after))).max()
        assert difference < 1e-5 if equal else difference > 0.01


def test_swapped_dates_keep_their_own_statistics(checkpoint):
    before, after = images(32, 32)
    predictor = ChangePredictor(checkpoint, "cpu", tta=["swap"])
    there, back = (directly(predictor, before, after, swapped) for swapped in (False, True))
    assert np.abs(predictor(before, after) - (there + back) / 2).max() < 1e-6
    assert np.abs(there - back).max() > 0.01


@pytest.mark.parametrize(("tta", "count"), [("", 1), ("flips", 4), ("rotations", 4), ("flips,rotations,swap", 16)])
def test_views_are_all_different(checkpoint, tta, count):
    predictor = ChangePredictor(checkpoint, "cpu", tta=tta.split(",") if tta else ())
    corner = np.arange(6).reshape(2, 3)
    seen = {
        (np.rot90(corner[:, ::-1] if mirrored else corner, turns).tobytes(), turns % 2, swapped)
        for turns, mirrored, swapped in predictor.views.views
    }
    assert len(seen) == len(predictor.views.views) == count


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 9 GB")]
)
def test_out_of_memory_halves_the_batch_and_says_so(checkpoint, error, monkeypatch, caplog):
    predictor = ChangePredictor(checkpoint, "cpu", tile_size=32, overlap=8, batch_size=10)
    before, after = images(70, 90)
    expected, forward, sizes = predictor(before, after), predictor.model.network.forward, []

    def little_memory(first, second):
        sizes.append(len(first))
        if len(first) > 3:
            raise error
        return forward(first, second)

    monkeypatch.setattr(predictor.model.network, "forward", little_memory)
    assert np.abs(predictor(before, after) - expected).max() < 1e-5
    assert sizes == [10, 5, 2, 2, 2, 2, 2, 2]  # 12 windows; it is not tried again with more
    said = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert said == ["predicting 5 at a time", "predicting 2 at a time"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError(), "out of memory with 1 windows of 32 x 40 pixels; give a smaller --tile-size"),
        (RuntimeError("something else"), "something else"),
    ],
)
def test_errors_of_one_window(error, says, checkpoint, monkeypatch):
    predictor = ChangePredictor(checkpoint, "cpu")

    def broken(*dates):
        raise error

    monkeypatch.setattr(predictor.model.network, "forward", broken)
    with pytest.raises((ValueError, RuntimeError), match=says):
        predictor(*images(32, 40))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"tile_size": 100}, "--tile-size 100: this network takes multiples of 8"),
        ({"tile_size": 64, "overlap": 64}, "--overlap 64: must be at least 0 and below the window's 64"),
        ({"overlap": -1}, "--overlap -1"),
        ({"tta": ["flip"]}, "--tta flip: not known; choose of flips, rotations, swap"),
    ],
)
def test_settings_that_cannot_be(checkpoint, flags, says):
    with pytest.raises(ValueError, match=says):
        ChangePredictor(checkpoint, "cpu", **flags)


def test_arrays_that_are_no_images(checkpoint):
    (before, after), predictor = images(32, 32), ChangePredictor(checkpoint, "cpu")
    wrong = [
        (before, after.astype(np.float32)), (before, after[:16]), (before[..., :2], after[..., :2]),
        (before[..., 0], after[..., 0]),
    ]  # fmt: skip
    for dates in wrong:
        with pytest.raises(ValueError, match=r"must be uint8 \(height, width, 3\), both alike; got"):
            predictor(*dates)

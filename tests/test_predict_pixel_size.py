"""Images whose pixels are not of the size that the network was trained on."""

import itertools

import numpy as np
import PIL.Image
import pytest

from datasets.pairs import find_pairs
from datasets.raster import read_image
from datasets.scenes import draw_scene
from tests.conftest import write_image, write_tiff
from tests.scripts import altered, fails, metrics_of, pixels, predict, predict_pair
from tests.test_predict_places import areas_in
from utils.console import UserError
from utils.prediction.predictor import ChangePredictor
from utils.prediction.resampling import resized


@pytest.fixture(scope="module")
def half_metre(checkpoint, tmp_path_factory):
    """A checkpoint that knows its pixel size."""
    return altered(checkpoint, tmp_path_factory.mktemp("half-metre") / "best.pt", pixel_size=0.5)


@pytest.fixture(scope="module")
def dates(drawn_set):
    """Two drawn dates of 64 x 64 pixels, at twice that size."""
    (pair, *_) = find_pairs(drawn_set, "test")
    return tuple(resized(read_image(path), (128, 128)) for path in (pair.before, pair.after))


@pytest.fixture
def plain(dates, tmp_path):
    return [write_image(tmp_path / f"{name}.png", date) for name, date in zip("ba", dates, strict=True)]


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_images_are_enlarged_sharply_and_reduced_by_means(dates):
    """As Pillow does both; a step in probabilities does not swing beyond 0 and 1."""
    for shape, kernel in ((200, 150), "BICUBIC"), ((60, 50), "BILINEAR"):
        red = PIL.Image.fromarray(dates[0][..., 0].astype(np.float32)).resize(shape[::-1], PIL.Image.Resampling[kernel])
        assert np.abs(resized(dates[0], shape)[..., 0] - np.asarray(red).clip(0, 255)).max() <= 0.501
    assert np.array_equal(resized(dates[0][::-1], (60, 50)), resized(dates[0][::-1].copy(), (60, 50)))
    step = np.repeat(np.float32([0, 1]), 8)[None].repeat(16, 0)
    assert (resized(step, (40, 40)).min(), resized(step, (40, 40)).max()) == (0, 1)


def test_the_network_sees_its_own_pixel_size(half_metre, dates):
    predictor = ChangePredictor(half_metre, "cpu")
    seen = [resized(date, (64, 64)) for date in dates]
    expected = resized(predictor(*seen), (128, 128))
    assert np.array_equal(predictor(*dates, pixel_size=0.25), expected)
    assert np.array_equal(predictor(*dates, pixel_size=0.45), predictor(*dates))  # within 20 %
    assert not np.allclose(predictor(*dates), expected, atol=0.01)


def test_windows_of_a_resampled_scene_meet_without_a_seam(half_metre, dates):
    """The result is the weighted sum of its resampled windows."""
    predictor = ChangePredictor(half_metre, "cpu", tile_size=32, overlap=8)
    cover = predictor.cover(128, 128, 0.25)
    assert (cover.shape, cover.seen, cover.zoom) == ((64, 64), (32, 32), 0.5)
    result = predictor(*dates, pixel_size=0.25)
    total = np.zeros((128, 128))
    for window in cover.windows:
        part = [resized(date[window.slices], (32, 32)) for date in dates]
        total[window.slices] += cover.weights(window) * resized(
            predictor.probability(*predictor.collate([part]))[0].numpy(), (64, 64)
        )
    assert np.allclose(result, total, atol=1e-5)


def test_scales_keep_the_larger_probability(half_metre, dates, tmp_path):
    """Half the resolution of 128 pixels has the probabilities of the dates at 64 pixels; the mean is over views."""
    fine = ChangePredictor(half_metre, "cpu")
    coarse = resized(fine(*[resized(date, (64, 64)) for date in dates]), (128, 128))
    both = ChangePredictor(half_metre, "cpu", tta=["scales"])(*dates)
    assert np.allclose(both, np.maximum(fine(*dates), coarse), atol=1e-5)
    assert not np.allclose(both, fine(*dates), atol=0.01)
    altered(half_metre, tmp_path / "best.pt", tta=["scales"])
    assert np.array_equal(ChangePredictor(tmp_path, "cpu")(*dates), both)  # as the checkpoint has it
    assert np.array_equal(ChangePredictor(tmp_path, "cpu", tta=())(*dates), fine(*dates))
    odd = [date[:40, :70] for date in dates]
    assert ChangePredictor(tmp_path, "cpu")(*odd).shape == (40, 70)


def test_georeference_and_flag_give_the_same_map(half_metre, dates, plain, tmp_path, capsys):
    pytest.importorskip("rasterio")
    placed = [write_tiff(tmp_path / f"{name}.tif", date, metres=0.25) for name, date in zip("ba", dates, strict=True)]
    masks = {}
    for name, files, flags in (
        ("placed", placed, []), ("flag", plain, ["--pixel-size", 0.25]), ("unknown", plain, []),
        ("kept", placed, ["--no-resample"]),
    ):  # fmt: skip
        predict_pair(half_metre, *files, tmp_path / name, *flags, "--no-report")
        masks[name] = pixels(tmp_path / name / "mask" / "b.png"), capsys.readouterr().err
    assert np.array_equal(masks["placed"][0], masks["flag"][0])
    assert np.array_equal(masks["unknown"][0], masks["kept"][0])
    assert not np.array_equal(masks["placed"][0], masks["kept"][0])
    assert "pixel size: 0.25 m; resampled to 0.5 m for the network" in masks["placed"][1]
    assert "pixel size: unknown; pass --pixel-size METRES" in masks["unknown"][1]
    assert metrics_of(tmp_path / "flag")["protocol"]["pixel_size"] == 0.25


def test_a_network_of_unknown_pixel_size_resamples_nothing(half_metre, plain, tmp_path, capsys):
    unknown = altered(half_metre, tmp_path / "best.pt", pixel_size=None)
    predict_pair(unknown, *plain, tmp_path / "maps", "--pixel-size", 0.25, "--no-report")
    assert "images are not resampled, since the checkpoint does not store" in capsys.readouterr().err


def test_pixels_far_too_large_are_warned_of(half_metre, dates, tmp_path, capsys):
    """Of any pair, once for all; in the protocol, and in Python."""
    pytest.importorskip("rasterio")
    for name, metres in (("a", 0.5), ("b", 10), ("c", 10)):
        for folder, date in zip("AB", dates, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_tiff(tmp_path / folder / f"{name}.tif", date, metres=metres)
    predict_pair(half_metre, tmp_path / "A", tmp_path / "B", tmp_path / "maps", "--no-report")
    said = "pixel size: 10 m, 20 times that of the training images"
    assert f"b and 1 more pair: {said}" in capsys.readouterr().err
    assert [said in remark for remark in metrics_of(tmp_path / "maps")["protocol"]["remarks"]].count(True) == 1
    ChangePredictor(half_metre, "cpu")(*[tmp_path / folder / "b.tif" for folder in "AB"])
    assert said in capsys.readouterr().err


def test_a_resumed_run_has_the_same_resampling(half_metre, plain, tmp_path, capsys):
    predict_pair(half_metre, *plain, tmp_path / "maps", "--pixel-size", 0.25, "--no-report")
    words = [*plain, tmp_path / "maps", "--pixel-size", 0.25, "--skip-existing", "--no-resample"]
    fails(lambda: predict_pair(half_metre, *words), capsys, "network_pixel_size: 0.5 there, None here")


def test_files_images_and_arrays_are_one(half_metre, dates, plain):
    predictor = ChangePredictor(half_metre.parent, "cpu")
    expected = predictor(*dates)
    assert np.array_equal(predictor(*plain), expected)
    assert np.array_equal(predictor(*map(str, plain)), expected)
    assert np.array_equal(predictor(*map(PIL.Image.fromarray, dates)), expected)
    assert np.array_equal(predictor.mask(*dates), expected > predictor.threshold)
    with pytest.raises(UserError, match="mode I;16 has more than 8 bits"):
        predictor(*[PIL.Image.fromarray(date[..., 0].astype(np.uint16)) for date in dates])
    with pytest.raises(UserError, match="two files, two PIL images or two arrays; got list"):
        predictor([1], [2])


@pytest.mark.slow
def test_one_scene_at_three_pixel_sizes(tmp_path):
    """Drawn at 0.2 m, and reduced to 0.5 and 1 m: maps agree, as they do not without resampling; areas are exact."""
    pytest.importorskip("rasterio")
    fine = {0.2: 2, 0.5: 5, 1.0: 10}  # pixel size in metres: side of a pixel on a grid of 0.1 m
    for seed in (0, 1, 4):  # the first three with some change
        for role, date in zip(("before", "after"), draw_scene(seed, 500, pixel_size=0.2), strict=False):
            for metres in fine:
                smaller = PIL.Image.fromarray(date).resize((round(100 / metres),) * 2, PIL.Image.Resampling.BOX)
                write_tiff(tmp_path / f"{metres}" / role / f"{seed}.tif", np.asarray(smaller), metres=metres)
    maps = {}
    for metres, flag in itertools.product(fine, ("--resample", "--no-resample")):
        files = "--before", tmp_path / f"{metres}" / "before", "--after", tmp_path / f"{metres}" / "after"
        out = tmp_path / f"{metres}{flag}"
        predict(*files, "--output", out, "--save", "mask,polygons", "--no-report", flag)
        masks = np.stack([pixels(path) > 0 for path in sorted((out / "mask").iterdir())])
        assert sum(map(areas_in, (out / "polygons").iterdir())) == pytest.approx(masks.sum() * metres**2, rel=0.002)
        maps[metres, flag] = masks.repeat(fine[metres], 1).repeat(fine[metres], 2)
    for one, other in itertools.combinations(fine, 2):
        assert iou(maps[one, "--resample"], maps[other, "--resample"]) >= 0.8
        assert iou(maps[one, "--no-resample"], maps[other, "--no-resample"]) < 0.75

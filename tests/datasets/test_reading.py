"""Bands, depth and label codes are read as flags name them; what is ambiguous without a flag is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.change_pairs import ChangePairs
from datasets.label_codes import count_changed, decide, decide_alone
from datasets.label_counts import LabelCounts, collect
from datasets.measurements import choose_reading, measure_limits, measure_statistics
from datasets.open_pair import read_pair
from datasets.pairs import Pair
from datasets.raster import read_image, read_label
from datasets.reading import IGNORE, PixelFormat, reading_from
from tests.conftest import write_image, write_tiff

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture
def deep(tmp_path):
    """Two pairs of four bands, 16 bits, every band in a range of its own; labels coded 1 and 2, 9 for unknown."""
    rng = np.random.default_rng(0)
    pairs = []
    for n in range(2):
        dates = [rng.integers(0, 1000, (32, 48, 4)) + [0, 1000, 2000, 30_000] for _ in range(2)]
        label = rng.choice([1, 2, 9], (32, 48)).astype(np.uint8)
        files = [write_tiff(tmp_path / f"{n}_{d}.tif", image.astype(np.uint16)) for d, image in enumerate(dates)]
        pairs.append(Pair(str(n), *files, write_image(tmp_path / f"{n}.png", label)))
    return pairs


def test_bands_in_the_order_asked_for(deep):
    low_high = ((30_000, 30_255), (0, 255))
    image = read_image(deep[0].before, PixelFormat(bands=(4, 1), limits=low_high))
    raw = read_image(deep[0].before, PixelFormat(bands=(4, 1)))
    assert (image.dtype, raw.dtype, image.shape) == (np.uint8, np.uint16, (32, 48, 2))
    assert np.array_equal(image, np.clip(raw.astype(int) - [30_000, 0], 0, 255))
    with pytest.raises(ValueError, match=r"0_0\.tif: 4 bands, but --bands names band 5; name others"):
        read_image(deep[0].before, PixelFormat(bands=(1, 5)))


@given(st.lists(st.integers(0, 65535), min_size=3, max_size=50), st.integers(0, 60_000), st.integers(1, 5000))
def test_scaling_is_linear_clipped_and_to_the_nearest(values, low, span):
    reading = PixelFormat(bands=(1,), limits=((low, low + span),))
    expected = [min(max((v - low) * 255 / span, 0), 255) for v in values]
    got = reading.scaled(np.array(values, np.uint16).reshape(1, -1, 1)).ravel()
    assert np.abs(got - np.array(expected)).max() <= 0.5 + 1e-3


def test_no_number_becomes_black():
    values = np.array([[[np.nan], [np.inf], [-np.inf], [5.0]]], np.float32)
    assert PixelFormat((1,), ((0, 10),)).scaled(values).ravel().tolist() == [0, 255, 0, 128]


def test_percentiles_are_those_of_all_pixels(deep):
    limits = measure_limits(deep, PixelFormat(bands=(2, 4)))
    for band, (low, high) in zip((1, 3), limits, strict=True):
        files = [path for p in deep for path in (p.before, p.after)]
        pixels = np.concatenate([read_image(path, PixelFormat(bands=(band + 1,))).ravel() for path in files])
        assert (low, high) == tuple(np.quantile(pixels, [0.02, 0.98], method="inverted_cdf"))


def test_what_is_chosen_and_said(deep, tmp_path, caplog):
    caplog.set_level("INFO")
    reading = choose_reading(deep)
    assert reading.bands == (1, 2, 3)
    assert "scaling: uint16 of 4 bands read as uint8, band 1 from " in caplog.text
    assert choose_reading(deep, bands=(4,), scale="10000").limits == ((0, 10000),)
    assert reading_from(reading.as_plain()) == reading
    assert reading_from(None) == PixelFormat()
    flat = write_tiff(tmp_path / "float.tif", np.ones((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match=r"float\.tif: values are float32; pass --scale NUMBER"):
        choose_reading([Pair("float", flat, flat)])
    with pytest.raises(ValueError, match=r"float\.tif: values are float32; pass --scale NUMBER"):
        choose_reading([Pair("float", flat, flat)], scale="percentile", lenient=True)
    for reading in (PixelFormat(), PixelFormat((1, 2, 3), ((0, 5000),) * 3)):  # percentiles are of whole numbers
        with pytest.raises(ValueError, match=r"float\.tif: has .*float32.*; pass --scale NUMBER") as raised:
            read_pair(Pair("float", flat, flat), reading)
        assert "percentile" not in str(raised.value)
    many = write_tiff(tmp_path / "many.tif", np.ones((8, 8, 13), np.uint16))
    with pytest.raises(ValueError, match=r"many\.tif: 13 bands; choose some with --bands"):
        choose_reading([Pair("many", many, many)])


def test_grey_deep_images_have_three_equal_channels(tmp_path):
    path = write_image(tmp_path / "grey.png", np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    image = read_image(path, choose_reading([Pair("grey", path, path)]))
    assert image.shape == (8, 8, 3)
    assert (image == image[..., :1]).all()
    assert image.min() == 0
    assert image.max() == 255


def test_change_and_ignore_values(deep, caplog):
    caplog.set_level("INFO")
    codes = np.array(Image.open(deep[0].label))
    mask = read_label(deep[0].label, PixelFormat(change_value=2, ignore_value=9, named=True))
    assert np.array_equal(mask, np.select([codes == 2, codes == 9], [1, IGNORE], 0))
    counts = count_changed(deep, PixelFormat((1,), (), 2, 9, named=True))
    assert counts[0] == (codes == 2).sum()
    known = sum((np.array(Image.open(p.label)) != 9).sum() for p in deep)
    assert f"{100 * sum(counts) / known:.2f} % of pixels, in 2 pairs" in caplog.text
    with pytest.raises(ValueError, match="values 2: .*, 1: .*, 9: .*more than two; pass --change-value N"):
        decide(collect(deep, LabelCounts(PixelFormat((1,)))), PixelFormat((1,)))
    with pytest.raises(ValueError, match="no pixel has the value 3, which means changed"):
        count_changed(deep, PixelFormat((1,), change_value=3, named=True))


def test_255_is_unknown_only_when_asked(tmp_path):
    path = write_image(tmp_path / "label.png", np.array([[0, 1, 255, 255]], np.uint8).repeat(4, 0))
    pairs = [Pair("x", path, path, path)]
    reading = decide(collect(pairs, LabelCounts()), PixelFormat(ignore_value=255))
    assert read_label(path, reading)[0].tolist() == [0, 1, IGNORE, IGNORE]
    assert count_changed(pairs, reading) == [4]
    with pytest.raises(ValueError, match="more than two; pass --change-value N"):
        decide(collect(pairs, LabelCounts()), PixelFormat())


def test_a_palette_gives_its_colours_or_when_asked_its_indices(tmp_path):
    path = tmp_path / "label.png"
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0, 255, 0, 0] + [0] * 759)
    image.save(path)
    assert read_label(path, PixelFormat(change_value="#ff0000", named=True)).tolist() == [[0, 0, 1]]
    assert read_label(path, PixelFormat(change_value="#ffffff", named=True)).tolist() == [[1, 0, 0]]
    assert read_label(path, PixelFormat(change_value=1, named=True)).tolist() == [[0, 1, 0]]
    mixed = PixelFormat(change_value=1, ignore_value="#ff0000", named=True)  # else nothing would be ignored
    with pytest.raises(ValueError, match="no pixel has the value 1, which means changed"):
        count_changed([Pair("x", path, path, path)], mixed)
    with pytest.raises(ValueError, match=r"values 0: 33\.33 %, 255: 33\.33 %, #ff0000: 33\.33 %: more than two"):
        decide_alone([path], PixelFormat())


@pytest.mark.parametrize("high", [1, 255, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_labels(high, suffix, tmp_path):
    path = write_image(tmp_path / f"label.{suffix}", np.array([[0, high, 0, 0], [high, 0, 0, 0]], np.uint16))
    reading = decide_alone([path], PixelFormat())
    assert reading.change_value == high
    assert read_label(path, reading).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_samples_and_statistics_have_the_bands(deep):
    reading = PixelFormat((4, 3, 2, 1), ((30_000, 31_000), (2000, 3000), (1000, 2000), (0, 1000)), 2, 9)
    sample = ChangePairs(deep, reading=reading)[0]
    assert sample["before"].shape == sample["after"].shape == (4, 32, 48)
    assert set(sample["mask"].unique().tolist()) == {0, 1, IGNORE}
    measured = measure_statistics(deep, reading)
    known = np.concatenate([np.array(Image.open(p.label)).ravel() != 9 for p in deep])
    for date, paths in enumerate(([p.before for p in deep], [p.after for p in deep])):
        pixels = np.concatenate([read_image(path, reading).reshape(-1, 4) for path in paths])[known] / 255
        assert measured["mean"][date] == pytest.approx(pixels.mean(0).tolist(), rel=1e-12)
        assert measured["std"][date] == pytest.approx(pixels.std(0).tolist(), rel=1e-9)


def test_percentiles_leave_out_pairs_of_another_type(tmp_path, caplog):
    """Such a pair fails when it is read, and may not move the limits of the others."""
    rng = np.random.default_rng(0)

    def pair(name, kind):
        values = rng.integers(1000, 2000, (2, 16, 16, 3)).astype(kind)
        return Pair(name, *(write_tiff(tmp_path / f"{name}_{date}.tif", values[n]) for n, date in enumerate("ab")))

    usual = [pair(str(number), np.uint16) for number in range(2)]
    limits = choose_reading(usual, scale="percentile").limits
    odd = [pair("signed", np.int16), pair("byte", np.uint8)]
    assert choose_reading([*odd, *usual], scale="percentile", lenient=True).limits == limits
    assert measure_limits([odd[0]], PixelFormat((1, 2, 3)))[0][0] >= 1000
    with pytest.raises(ValueError, match=r"signed_a\.tif: has int16 pixels, but 4 of 8 images have uint16"):
        choose_reading([*odd, *usual], scale="percentile")

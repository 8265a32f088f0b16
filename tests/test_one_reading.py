"""One reading of a pair: on random grids, of all types and kinds of no data, maps and counts are plain NumPy's."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.measurements import choose_reading, measure_limits, measure_statistics
from datasets.open_pair import OpenPair, read_pair
from datasets.pairs import Pair
from datasets.reading import MASKS, PixelFormat
from datasets.windows import Window, plan_windows
from tests.conftest import write_image, write_tiff
from tests.scripts import altered, metrics_of, predict_pair, predict_set, train

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore")
HEIGHT, WIDTH, MARGIN = 24, 32, 16  # of the earlier date, and of the ground around it
TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32", "float64")
# how pixels lie: seen from the north, the south, or turned by a quarter
TURNS = {"north-up": lambda x: x, "south-up": lambda x: x[::-1], "turned": np.rot90}
METRES = 10.0
ANY_TYPE = st.sampled_from(TYPES)


@dataclass
class Ground:
    """What there is on the ground, a pixel of the earlier date each: grey levels of both dates, known, truth."""

    before: np.ndarray
    after: np.ndarray
    known: np.ndarray
    truth: np.ndarray


def even(draw, most):
    return 2 * draw(st.integers(0, most // 2))


def rectangle(draw, shape):
    """Even corners, so that a grid of double pixels shows it as it is."""
    top, left = even(draw, shape[0] - 8), even(draw, shape[1] - 8)
    return slice(top, top + 4 + even(draw, 8)), slice(left, left + 4 + even(draw, 12))


@st.composite
def grounds(draw):
    shape = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    before = np.full(shape, 80.0)
    before[rectangle(draw, shape)] = 100
    after, known, truth = before.copy(), np.ones(shape, bool), np.zeros(shape, bool)
    after[rectangle(draw, shape)] += 90
    known[rectangle(draw, shape)] = False
    truth[rectangle(draw, shape)] = True
    return Ground(before, after, known, truth)


@st.composite
def windows(draw):
    """A part of the ground with even corners that shares pixels with the earlier date."""
    top, left = even(draw, MARGIN + 8), even(draw, MARGIN + 8)
    bottom, right = MARGIN + 8 + even(draw, MARGIN + HEIGHT - 8), MARGIN + 8 + even(draw, MARGIN + WIDTH - 8)
    return slice(top, bottom), slice(left, right)


def place_of(part, pixel, turn):
    """Transform of a part of the ground in pixels of that many metres, as an array turned in this way has it."""
    top, bottom = (4_000_000 - METRES * row for row in (part[0].start, part[0].stop))
    left, right = (500_000 + METRES * column for column in (part[1].start, part[1].stop))
    return {
        "north-up": rasterio.Affine(pixel, 0, left, 0, -pixel, top),
        "south-up": rasterio.Affine(pixel, 0, left, 0, pixel, bottom),
        "turned": rasterio.Affine(0, -pixel, right, -pixel, 0, top),  # rot90: first row is the eastern edge
    }[turn]


def write(path, ground, levels, part, factor, turn, kind, gaps):
    """A date or label as a GeoTIFF: part of the ground, resampled by a factor, turned, with its own kind of no data."""
    values, known = levels[part], ground.known[part]
    if factor == 2:  # pixels of 20 m
        values, known = values[::2, ::2], known[::2, ::2]
    if factor == 0.5:
        values, known = (np.kron(x, np.ones((2, 2), x.dtype)) for x in (values, known))
    values, known = np.ascontiguousarray(TURNS[turn](values)).astype(kind), np.ascontiguousarray(TURNS[turn](known))
    bands = np.stack([values] * 3, -1)
    fill = {"tag": 7, "NaN": np.nan, "inf": np.inf}.get(gaps)
    if fill is not None:
        bands[~known] = fill
    profile = {"photometric": "RGB", "crs": "EPSG:32633", "transform": place_of(part, METRES * factor, turn)}
    if gaps == "alpha":
        bands = np.dstack([bands, (known * np.iinfo(kind).max).astype(kind)])
        profile["alpha"] = "YES"
    nodata = {"nodata": 7} if gaps == "tag" else {}
    return write_tiff(path, bands, mask=known if gaps == "mask" else None, **profile, **nodata)


def kinds_of_gaps(kind):
    return ["none", "tag", "mask", *(["NaN", "inf"] if "float" in kind else []), *(["alpha"] if "uint" in kind else [])]


@st.composite
def cases(draw, kinds=ANY_TYPE):
    kind = draw(kinds)
    return {
        "ground": draw(grounds()), "part": draw(windows()), "factor": draw(st.sampled_from([1, 1, 0.5, 2])),
        "turn": draw(st.sampled_from(list(TURNS))), "kind": kind, "gaps": draw(st.sampled_from(kinds_of_gaps(kind))),
    }  # fmt: skip


HERE = slice(MARGIN, MARGIN + HEIGHT), slice(MARGIN, MARGIN + WIDTH)


def make(folder, case):
    """The pair's files, and by plain NumPy: where it is changed, known at both dates, and truly changed."""
    ground, part = case["ground"], case["part"]
    before = write(folder / "before.tif", ground, ground.before, HERE, 1, "north-up", case["kind"], "none")
    rest = part, case["factor"], case["turn"], case["kind"], case["gaps"]
    after = write(folder / "after.tif", ground, ground.after, *rest)
    write_image(folder / "label.png", (ground.truth[HERE] * 255).astype(np.uint8))
    seen = np.zeros_like(ground.known)
    seen[part] = True if case["gaps"] == "none" else ground.known[part]
    changed = (ground.after != ground.before) & seen
    return Pair("scene", before, after, folder / "label.png"), changed[HERE], seen[HERE], ground.truth[HERE]


def reading_of(kind):
    return MASKS if kind == "uint8" else PixelFormat((1, 2, 3), ((0, 255),) * 3, 255)


@settings(max_examples=50, derandomize=True)
@given(case=cases())
def test_what_is_read_is_what_lies_there(case, tmp_path_factory):
    pair, changed, known, truth = make(tmp_path_factory.mktemp("pair"), case)
    with OpenPair(pair, reading_of(case["kind"])) as opened:
        found, unknown, mask = (np.zeros((HEIGHT, WIDTH), t) for t in (bool, bool, np.uint8))
        for window in plan_windows(HEIGHT, WIDTH, 20, 3):
            first, second = (date.astype(int) for date in opened.read(window))
            data = opened.known(window)
            unknown[window.slices] = False if data is None else ~data
            found[window.slices] = np.abs(second - first).max(-1) > 32
            mask[window.slices] = opened.mask(window)
    assert np.array_equal(unknown, ~known)
    assert np.array_equal(found & ~unknown, changed)
    assert np.array_equal(mask, np.where(known, truth, 255))
    samples = read_pair(pair, reading_of(case["kind"]))
    assert np.array_equal(samples[2], mask)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=2, derandomize=True)
@given(data=st.data())
def test_maps_and_scores_are_those_of_numpy(kind, data, difference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    pair, changed, known, truth = make(folder / "in", data.draw(cases(st.just(kind))))
    reading = None if kind == "uint8" else reading_of(kind).as_plain()
    network = altered(difference, folder / "best.pt", reading=reading)
    predict_pair(network, pair.before, pair.after, folder / "out", "--label", pair.label, "--no-report")
    with rasterio.open(folder / "out" / "geo" / "in.tif") as dataset:
        drawn = dataset.read(1)
    assert np.array_equal(drawn, np.where(known, changed * 255, 127))
    by = {"tn": ~truth & ~changed, "fp": ~truth & changed, "fn": truth & ~changed, "tp": truth & changed}
    assert metrics_of(folder / "out")["pixels"] == {name: int((where & known).sum()) for name, where in by.items()}


@settings(max_examples=20, derandomize=True)
@given(case=cases(st.sampled_from(["uint8", "uint16", "int16"])))
def test_limits_and_statistics_are_of_pixels_that_count(case, tmp_path_factory):
    pair, _, known, _ = make(tmp_path_factory.mktemp("pair"), case)
    if not known.any():
        return
    with OpenPair(pair, PixelFormat((1,), (), 255)) as opened:
        window = Window(0, 0, HEIGHT, WIDTH)
        dates = opened.read(window)
        assert opened.counted(window) is None or np.array_equal(opened.counted(window), known)
    values = np.concatenate([date[..., 0][known] for date in dates])
    (limits,) = measure_limits([pair], PixelFormat((1,), (), 255))
    low, high = np.quantile(values, [0.02, 0.98], method="inverted_cdf")
    assert limits == (low, max(high, low + 1))
    if case["kind"] == "uint8":
        measured = measure_statistics([pair], choose_reading([pair], labels=MASKS))
        assert [row[0] for row in measured["mean"]] == pytest.approx([d[..., 0][known].mean() / 255 for d in dates])


def test_training_scores_what_prediction_scores(tmp_path):
    """The same files and weights, the later date on another grid and with gaps: equal scores, of known pixels alone."""
    place = {"kind": "uint8", "turn": "south-up", "gaps": "mask", "factor": 1}
    part = slice(MARGIN - 4, MARGIN + HEIGHT - 6), slice(MARGIN + 4, MARGIN + WIDTH + 8)
    rng, unknown = np.random.default_rng(0), 0
    for split, count in (("train", 4), ("val", 3)):
        for number in range(count):
            shape = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
            before = rng.integers(60, 120, shape).astype(float)
            truth = np.zeros(shape, bool)
            truth[MARGIN + 4 : MARGIN + 14, MARGIN + 6 : MARGIN + 26] = True
            known = rng.random(shape) < 0.9
            ground = Ground(before, before + 90 * truth, known, truth)
            pair, _, seen, _ = make(tmp_path / "pair", {"ground": ground, "part": part, **place})
            unknown += int((~seen).sum()) if split == "val" else 0
            for role, path in (("A", pair.before), ("B", pair.after), ("label", pair.label)):
                target = tmp_path / "data" / split / role / f"{number}{path.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    train(tmp_path / "data", tmp_path / "run", "--epoch-steps", "3", epochs=1)
    best, maps = tmp_path / "run" / "best.pt", tmp_path / "maps"
    predict_set(best, tmp_path / "data", maps, "--split", "val", "--no-report")
    trained, predicted = metrics_of(tmp_path / "run")["at_0.5"], metrics_of(maps)
    assert sum(predicted["pixels"].values()) == 3 * HEIGHT * WIDTH - unknown
    assert unknown > 0
    assert trained == predicted["scores"]

"""predict_batch.py --series: the change-date map of four dates with known change, its legend and its table."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_image, write_tiff
from tests.scripts import contents, fails, metrics_of, predict, predict_pair, rows_of
from utils.change_map import NOT_COUNTED, date_colours
from utils.prediction.series import NEVER, UNKNOWN

SIZE = 40, 48
# the grey level of a block at each date, 0 being no data, and the value it gets if dates are compared with the one
# before, and with the first; a difference of 90 is a change, one of 50 is none
BLOCKS = {
    "stays": ((100, 190, 190, 190), 1, 1),
    "comes and goes": ((100, 100, 190, 100), 2, 2),
    "last": ((100, 100, 100, 190), 3, 3),
    "creeps": ((100, 150, 200, 250), NEVER, 2),
    "behind a cloud": ((100, 0, 190, 190), NEVER, 2),
    "nowhere": ((100, 0, 0, 0), UNKNOWN, UNKNOWN),
    "known late": ((0, 100, 190, 190), 2, UNKNOWN),
}
YEARS = (2015, 2018, 2021, 2024)


def drawn(year):
    """Grey (H, W): the blocks side by side, 100 between them."""
    image = np.full(SIZE, 100, np.uint8)
    for number, (levels, *_) in enumerate(BLOCKS.values()):
        image[4:30, 6 * number + 2 : 6 * number + 6] = levels[YEARS.index(year)]
    return image


def expected(mode):
    image = np.zeros(SIZE, np.uint8)
    for number, (_, *values) in enumerate(BLOCKS.values()):
        image[4:30, 6 * number + 2 : 6 * number + 6] = values[("consecutive", "first").index(mode)]
    return image


def write_dates(folder, kind):
    """Four dates as GeoTIFFs, or as PNGs that are transparent where they hold no data."""
    for year in YEARS:
        grey = drawn(year)
        if kind == "tif":
            write_tiff(folder / f"{year}.tif", np.stack([grey] * 3, -1), nodata=0)
        else:
            write_image(folder / f"{year}.png", np.dstack([grey, grey, grey, 255 * (grey > 0).astype(np.uint8)]))
    return folder


@pytest.mark.parametrize("kind", ["tif", "png"])
@pytest.mark.parametrize("mode", ["consecutive", "first"])
def test_values_of_a_change_date_map(mode, kind, difference, tmp_path):
    write_dates(tmp_path / "in" / "bay", kind)
    out, flags = tmp_path / "out", ("--save", "error", "--pairs", mode)
    predict("--checkpoint", difference, "--series", tmp_path / "in", *flags, "--output", out)
    with Image.open(out / "change-date" / "bay.png") as image:
        assert np.array_equal(np.array(image), wanted := expected(mode))
        shown = np.array(image.convert("RGB"))
    colours = {NEVER: (0, 0, 0), **dict(enumerate(date_colours(3), 1)), UNKNOWN: NOT_COUNTED}
    for value, colour in colours.items():
        assert (shown[wanted == value] == colour).all()
    rows = {row["date"]: (int(row["value"]), int(row["pixels"])) for row in rows_of(out, "change_dates.csv")}
    values = dict(zip(["never", "2018", "2021", "2024", "unknown"], colours, strict=True))
    assert rows == {date: (value, (wanted == value).sum()) for date, value in values.items()}
    befores = {"consecutive": (2015, 2018, 2021), "first": (2015,) * 3}[mode]
    names = [f"bay_{before}__{after}" for before, after in zip(befores, YEARS[1:], strict=True)]
    assert sorted(path.stem for path in (out / "mask").iterdir()) == names
    assert metrics_of(out)["protocol"]["series"] == mode
    page = (out / "report.html").read_text()
    place = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["places"][0]
    assert place["name"] == "bay"
    assert place["dates"] == [str(year) for year in YEARS]
    assert place["shares"] == pytest.approx([(wanted == v).sum() / (wanted < UNKNOWN).sum() for v in (1, 2, 3)], 1e-4)
    with Image.open(out / "change-date-legend" / "bay.png") as legend:
        assert {colour for _, colour in legend.convert("RGB").getcolors(2**16)} > set(colours.values())
    before = contents(out)
    predict("--checkpoint", difference, "--series", tmp_path / "in", *flags, "--output", out, "--skip-existing")
    assert contents(out) == before


def test_the_map_lies_on_the_grid_of_the_first_date(difference, tmp_path):
    """The dates of 2021 and 2024 begin two pixels further to the east."""
    rasterio = pytest.importorskip("rasterio")
    folder = write_dates(tmp_path / "bay", "tif")
    for year in YEARS[2:]:
        write_tiff(folder / f"{year}.tif", np.stack([drawn(year)[:, 2:]] * 3, -1), left=4, nodata=0)
    predict("--checkpoint", difference, "--series", folder, "--output", tmp_path / "out", "--no-report")
    with rasterio.open(folder / "2015.tif") as first, rasterio.open(tmp_path / "out/change-date/bay.tif") as found:
        assert (found.transform, found.crs, found.nodata) == (first.transform, first.crs, UNKNOWN)
        assert found.colormap(1)[2][:3] == date_colours(3)[1]
        assert np.array_equal(found.read(1), expected("consecutive"))


def test_without_all_pairs_there_is_no_map_of_a_place(difference, tmp_path, capsys):
    for place in ("bay", "cape"):
        write_dates(tmp_path / "in" / place, "png")
    out, flags = tmp_path / "out", ("--checkpoint", difference, "--series", tmp_path / "in", "--overwrite")
    predict(*flags, "--output", out)
    write_image(tmp_path / "in" / "bay" / "2021.png", drawn(2021)[1:])
    predict(*flags, "--output", out, code=1)
    assert "bay: no change-date map, since bay_2018__2021 could not be predicted" in capsys.readouterr().err
    assert [path.name for path in (out / "change-date").iterdir()] == ["cape.png"]


def test_change_date_maps_leave_with_their_prediction(difference, tmp_path):
    """Those of dates that are replaced, and fail, too. What no prediction wrote stays."""
    folder, out = write_dates(tmp_path / "bay", "png"), tmp_path / "out"
    own = out / "change-date" / "own.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    flags = ("--checkpoint", difference, "--output", out, "--no-report")
    predict(*flags, "--series", folder)
    assert own.read_text() == "mine"
    for year in YEARS[1:]:
        write_image(folder / f"{year}.png", drawn(year)[1:, : year - 2000])
    predict(*flags, "--series", folder, "--skip-existing", code=1)
    records = {f"records/{path.name}" for path in (out / "records").iterdir()}
    left = {"change-date/own.txt", "legend.png", "protocol.json", *records}
    assert contents(out).keys() == left
    predict(*flags, "--series", write_dates(tmp_path / "cape", "png"), "--overwrite")
    assert (out / "change-date" / "cape.png").is_file()
    predict_pair(difference, tmp_path / "cape/2015.png", tmp_path / "cape/2018.png", out, "--overwrite", "--no-report")
    assert [path.name for folder in out.glob("change-date*") for path in folder.iterdir()] == ["own.txt"]


def test_a_first_date_without_a_place_has_no_other_grid(difference, tmp_path, capsys):
    folder = write_dates(tmp_path / "bay", "tif")
    (folder / "2015.tif").unlink()
    write_image(folder / "2015.png", drawn(2015))
    write_tiff(folder / "2021.tif", np.stack([drawn(2021)[:, 2:]] * 3, -1), left=4, nodata=0)
    predict("--checkpoint", difference, "--series", folder, "--output", tmp_path / "out", "--no-report")
    assert "2021.tif has another size than the first date, which has no georeference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("--data-root", "in", "--pairs", "first"), "--pairs says how the dates of --series are compared"),
     (("--series", "in", "--data-root", "in"), "--series replaces --before, --after, --data-root and --split"),
     (("--series", "in", "--register", "auto"), "add --pairs first"),
     (("--series", "in/bay", "--output", "in/bay/maps"), "--output in/bay/maps: lies in in/bay"),
     (("--series", "in/bay", "--output", "in"), "would write among the images")],
)  # fmt: skip
def test_flags_that_do_not_fit(flags, says, difference, tmp_path, monkeypatch, capsys):
    write_dates(tmp_path / "in" / "bay", "png")
    monkeypatch.chdir(tmp_path)
    fails(lambda: predict("--checkpoint", difference, *flags), capsys, says)
